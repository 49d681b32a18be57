//! The process: servers, election, scopes, signals. It knows every part and decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::health::{self, Health};
use crate::lease::{self, Election, Leadership};
use crate::metrics::Metrics;
use crate::report::Registry;
use crate::report::auth::Authenticator;
use crate::report::server::{self, Reports};
use crate::scope::{self, Shared};
use crate::settings::Settings;

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to reach an API server.
    #[error("no Kubernetes configuration: run in a pod with a service account, or set KUBECONFIG")]
    Config(#[source] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("the Kubernetes client cannot be made")]
    Client(#[source] Box<kube::Error>),
    /// An address cannot be listened on, or a server ended.
    #[error("the HTTP server ended; are the addresses {http} and {reports} free?")]
    Server {
        /// Address of health and metrics.
        http: std::net::SocketAddr,
        /// Address of reports.
        reports: std::net::SocketAddr,
        /// The error below.
        #[source]
        source: std::io::Error,
    },
    /// Leadership ended: the process starts again as one that waits.
    #[error("leadership ended: {0}")]
    Leadership(String),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signal(#[source] std::io::Error),
    /// A part ended that never does: a defect.
    #[error("a part of the operator ended unexpectedly")]
    Ended,
}

/// Runs until a signal comes.
///
/// # Errors
/// When it cannot start, or when leadership is lost: whoever runs it starts it again.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut config = kube::Config::infer().await.map_err(Error::Config)?;
    // The client would repeat a request up to fifteen times; reconciling again is the better repetition.
    config.default_retry = false;
    let client = crate::tls::client(config).map_err(|error| Error::Client(Box::new(error)))?;
    let leadership = Leadership::default();
    let metrics = Metrics::new();
    let registry = Arc::new(Registry::default());
    let ready = Arc::new(AtomicBool::new(false));
    let (scopes, bells) = scope::open(settings.scopes(), &metrics);

    let mut servers = JoinSet::new();
    let health = Health { ready: Arc::clone(&ready), metrics: metrics.clone(), leadership: leadership.clone() };
    servers.spawn(health::serve(settings.http_address, health));
    let reports = Reports {
        leadership: leadership.clone(),
        authenticator: Authenticator::new(client.clone()),
        registry: Arc::clone(&registry),
        bells,
        metrics: metrics.clone(),
    };
    servers.spawn(server::serve(settings.report_address, Arc::new(reports)));

    let shared = Shared { settings: settings.clone(), client: client.clone(), registry, metrics, leadership: leadership.clone() };
    let mut election = Election::new(client, &settings.pod_namespace, &settings.lease_name, &settings.pod_name, leadership);
    let ended = tokio::select! {
        ended = lead(&mut election, scopes, shared, &ready) => Err(ended),
        server = servers.join_next() => Err(server_ended(&settings, server)),
        signal = stop_signal() => signal.map_err(Error::Signal),
    };
    // The scopes were dropped with `lead`: nothing writes any more, so somebody else may.
    election.release().await;
    ended
}

/// Waits for leadership, then works for as long as it lasts.
async fn lead(election: &mut Election, scopes: Vec<scope::Scope>, shared: Shared, ready: &Arc<AtomicBool>) -> Error {
    election.win(|| ready.store(true, Ordering::Relaxed)).await;
    tracing::info!("leading");
    ready.store(false, Ordering::Relaxed);
    let unread = Arc::new(AtomicUsize::new(scopes.len()));
    let mut running = JoinSet::new();
    for scope in scopes {
        let (unread, ready) = (Arc::clone(&unread), Arc::clone(ready));
        let all_read = move || {
            if unread.fetch_sub(1, Ordering::Relaxed) == 1 {
                ready.store(true, Ordering::Relaxed);
            }
        };
        running.spawn(scope.run(shared.clone(), all_read));
    }
    tokio::select! {
        lost = election.keep() => Error::Leadership(lease::chain(&lost)),
        _ = running.join_next() => Error::Ended,
    }
}

fn server_ended(settings: &Settings, ended: Option<Result<std::io::Result<()>, tokio::task::JoinError>>) -> Error {
    match ended {
        Some(Ok(Err(source))) => Error::Server { http: settings.http_address, reports: settings.report_address, source },
        Some(Ok(Ok(())) | Err(_)) | None => Error::Ended,
    }
}

/// Ends with the first signal that asks to stop.
async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
    }
    Ok(())
}
