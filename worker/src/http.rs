//! `/healthz`, `/readyz`, `/metrics`. Liveness never looks at sources, sinks or the store: a pod that waits for them is alive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use millrace_crds::report::TaskReport;
use tokio::sync::watch;

use crate::metrics;

/// What the endpoints show.
#[derive(Clone)]
pub(crate) struct Shown {
    /// Name of the Pipeline, a label of every metric.
    pub(crate) pipeline: Arc<str>,
    /// Whether the worker can do its work: planned, and told what to do.
    pub(crate) ready: Arc<AtomicBool>,
    /// The tasks, as last reported.
    pub(crate) tasks: watch::Receiver<Vec<TaskReport>>,
}

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, shown: Vec<Shown>) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with --http"))?;
    tracing::info!(address = %listener.local_addr()?, "serving /healthz, /readyz, /metrics");
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(Arc::new(shown));
    axum::serve(listener, router).await.context("the HTTP server ended")
}

async fn ready(State(shown): State<Arc<Vec<Shown>>>) -> (StatusCode, &'static str) {
    if shown.iter().all(|one| one.ready.load(Ordering::Relaxed)) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the plan is not accepted or no tasks have been assigned yet\n")
    }
}

async fn show_metrics(State(shown): State<Arc<Vec<Shown>>>) -> impl IntoResponse {
    let text = metrics::render(shown.iter().map(|one| (&*one.pipeline, one.tasks.borrow().clone())));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
