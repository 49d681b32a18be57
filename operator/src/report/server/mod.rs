//! The HTTP endpoint that takes reports and answers with assignments. Only the leader answers; it starts no connection and keeps no session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use millrace_crds::report::{REPORT_PATH, Report};
use tokio::sync::Semaphore;

use super::auth::{self, Authenticator, Identity};
use super::registry::{Refusal, Registry};
use crate::clock;
use crate::lease::{Leadership, chain};
use crate::metrics::Metrics;
use crate::names::Key;
use crate::scope::Bells;

/// Most bytes of a report.
const MAX_BODY: usize = 1 << 20;
/// Most requests at a time; more are told to come back.
const MAX_CONCURRENT: usize = 100;
/// A request that takes longer is dropped.
const TIME_OUT: Duration = Duration::from_secs(10);

/// What the endpoint needs.
pub(crate) struct Reports {
    /// Whether this operator leads.
    pub(crate) leadership: Leadership,
    /// Who sent a report.
    pub(crate) authenticator: Authenticator,
    /// What is known from reports.
    pub(crate) registry: Arc<Registry>,
    /// Asks for reconciliations.
    pub(crate) bells: Bells,
    /// Counts.
    pub(crate) metrics: Metrics,
}

/// The routes.
pub(crate) fn router(reports: Arc<Reports>) -> Router {
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    Router::new()
        .route(REPORT_PATH, post(take))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(permits, bounded))
        .with_state(reports)
}

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, reports: Arc<Reports>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, path = REPORT_PATH, "serving reports");
    axum::serve(listener, router(reports)).await
}

/// So many requests, for so long.
async fn bounded(State(permits): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = permits.try_acquire_owned() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time");
    };
    match tokio::time::timeout(TIME_OUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the report did not arrive in time"),
    }
}

async fn take(State(reports): State<Arc<Reports>>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    let now = clock::monotonic();
    if !reports.leadership.holds(now) {
        reports.metrics.reported("not_leading");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "another operator leads");
    }
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let identity = match reports.authenticator.identify(authorization, now).await {
        Ok(identity) => identity,
        Err(error) => {
            reports.metrics.reported("not_authenticated");
            tracing::debug!(error = %chain(&error), "a report is refused");
            let code = match error {
                auth::Error::NoToken | auth::Error::NotAuthenticated => StatusCode::UNAUTHORIZED,
                auth::Error::NotAPod => StatusCode::FORBIDDEN,
                auth::Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            return refuse(code, &error.to_string());
        }
    };
    let report: Report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => {
            reports.metrics.reported("malformed");
            return refuse(StatusCode::BAD_REQUEST, &format!("not a report: {error}"));
        }
    };
    if !speaks_for_itself(&identity, &report) {
        reports.metrics.reported("not_itself");
        return refuse(StatusCode::FORBIDDEN, "a pod can report for itself only");
    }
    reports.answer(report)
}

/// Whether a report is about the pod that sent it.
fn speaks_for_itself(identity: &Identity, report: &Report) -> bool {
    identity.namespace == report.namespace && identity.pod == report.worker
}

impl Reports {
    fn answer(&self, report: Report) -> Response {
        let key = Key::new(&report.namespace, &report.pipeline);
        match self.registry.record(report, clock::monotonic()) {
            Ok(recorded) => {
                self.metrics.reported("accepted");
                if recorded.changed {
                    self.bells.pipeline(&key);
                }
                for (kind, name) in &recorded.endpoints {
                    self.bells.endpoint(*kind, &Key::new(&key.namespace, name));
                }
                Json(recorded.assignment).into_response()
            }
            Err(refusal) => {
                self.metrics.reported("refused");
                let code = match refusal {
                    Refusal::UnknownPipeline | Refusal::UnknownWorker => StatusCode::SERVICE_UNAVAILABLE,
                    Refusal::OtherPipeline | Refusal::Stale => StatusCode::CONFLICT,
                };
                refuse(code, &refusal.to_string())
            }
        }
    }
}

/// An answer without an assignment: the worker goes on with what it has. The connection is closed, so that the next report can reach another operator.
fn refuse(code: StatusCode, message: &str) -> Response {
    let mut response = (code, format!("{message}\n")).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;
