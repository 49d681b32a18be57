//! `/healthz`, `/readyz`, `/metrics`. An operator that waits for the Lease is ready: a rollout must not wait for it. It shows nothing of users' objects.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::clock;
use crate::lease::Leadership;
use crate::metrics::Metrics;

/// What the endpoints show.
#[derive(Clone)]
pub(crate) struct Health {
    /// Whether the API server has answered and, while leading, everything is watched.
    pub(crate) ready: Arc<AtomicBool>,
    /// The metrics.
    pub(crate) metrics: Metrics,
    /// Whether this operator leads.
    pub(crate) leadership: Leadership,
}

/// The routes.
pub(crate) fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, health: Health) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /healthz, /readyz, /metrics");
    axum::serve(listener, router(health)).await
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the API server has not answered yet\n")
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    health.metrics.leads(health.leadership.holds(clock::monotonic()));
    match health.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
