//! The HTTP endpoints that take reports, answered with assignments, and polls, answered when another report is worth while. Only the leader answers; it starts no
//! connection and keeps no session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use millrace_crds::report::{POLL_PATH, POLL_SECONDS, Poll, Polled, REPORT_PATH, REPORT_VERSION, Report};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::auth::{self, Authenticator, Identity};
use super::registry::{Refusal, Registry, Wait};
use crate::clock;
use crate::lease::{Leadership, chain};
use crate::metrics::Metrics;
use crate::names::Key;
use crate::scope::Bells;

/// Most bytes of a report.
const MAX_BODY: usize = 1 << 20;
/// Most bytes of a poll.
const MAX_POLL: usize = 16 << 10;
/// Most requests at a time; more are told to come back. Those that only wait are counted apart.
const MAX_CONCURRENT: usize = 100;
/// Most requests that wait: one for each worker.
const MAX_WAITING: usize = 20_000;
/// A request that takes longer is dropped, unless it waits.
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
    let doors = Doors { reports, arriving: Arc::new(Semaphore::new(MAX_CONCURRENT)), waiting: Arc::new(Semaphore::new(MAX_WAITING)) };
    let take = post(take).layer(DefaultBodyLimit::max(MAX_BODY)).layer(middleware::from_fn_with_state(doors.clone(), bounded));
    Router::new().route(REPORT_PATH, take).route(POLL_PATH, post(wait)).with_state(doors)
}

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, reports: Arc<Reports>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, path = REPORT_PATH, "serving reports");
    let watched = Arc::clone(&reports);
    let buried = |key: &Key| watched.bells.pipeline(key);
    tokio::select! {
        served = async { axum::serve(listener, router(reports)).await } => served,
        () = watched.registry.keep_watch(buried) => Ok(()),
    }
}

/// What the routes share: so many requests at a time.
#[derive(Clone)]
struct Doors {
    reports: Arc<Reports>,
    arriving: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// So many requests, for so long.
async fn bounded(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    in_time(&doors, next.run(request)).await
}

async fn in_time(doors: &Doors, answer: impl Future<Output = Response>) -> Response {
    let Ok(_permit) = doors.arriving.try_acquire() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time");
    };
    match tokio::time::timeout(TIME_OUT, answer).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the report did not arrive in time"),
    }
}

async fn take(State(doors): State<Doors>, headers: HeaderMap, body: Bytes) -> Response {
    let Doors { reports, .. } = doors;
    // A report counts from when it arrived: it says nothing of what has happened since.
    let arrived = clock::monotonic();
    let identity = match reports.sender(&headers, arrived).await {
        Ok(identity) => identity,
        Err(refused) => {
            reports.metrics.reported(refused.result);
            return refused.into_response();
        }
    };
    let report: Report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => {
            reports.metrics.reported("malformed");
            return refuse(StatusCode::BAD_REQUEST, &format!("not a report: {error}"));
        }
    };
    if !speaks_for_itself(&identity, &report.namespace, &report.worker) {
        reports.metrics.reported("not_itself");
        return refuse(StatusCode::FORBIDDEN, "a pod can report for itself only");
    }
    reports.answer(report, arrived)
}

/// Waits with the answer. That the connection broke is seen by this being dropped.
async fn wait(State(doors): State<Doors>, request: Request) -> Response {
    let mut taken = None;
    let refused = in_time(&doors, async {
        match doors.reports.poll(request).await {
            Ok(wait) => {
                taken = Some(wait);
                StatusCode::OK.into_response()
            }
            Err(refused) => {
                doors.reports.metrics.polled(refused.result);
                refused.into_response()
            }
        }
    });
    let refused = refused.await;
    let reports = &doors.reports;
    let changed = match taken {
        None => return refused,
        Some(Wait::Over) => true,
        Some(Wait::For(waiting)) => {
            let Ok(_permit) = doors.waiting.try_acquire() else {
                waiting.answer();
                reports.metrics.polled("too_many");
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many workers wait");
            };
            let _counted = reports.metrics.listening();
            let changed = tokio::time::timeout(Duration::from_secs(POLL_SECONDS), waiting.rung()).await.is_ok();
            waiting.answer();
            changed
        }
    };
    if !reports.leadership.holds(clock::monotonic()) {
        reports.metrics.polled("not_leading");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "another operator leads");
    }
    reports.metrics.polled(if changed { "changed" } else { "unchanged" });
    Json(Polled { version: REPORT_VERSION, changed }).into_response()
}

/// A refusal, with what is counted of it.
struct Refused {
    result: &'static str,
    code: StatusCode,
    message: String,
}

impl Refused {
    fn new(result: &'static str, code: StatusCode, message: impl Into<String>) -> Self {
        Self { result, code, message: message.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refuse(self.code, &self.message)
    }
}

/// Whether a request is about the pod that sent it.
fn speaks_for_itself(identity: &Identity, namespace: &str, worker: &str) -> bool {
    identity.namespace == namespace && identity.pod == worker
}

impl Reports {
    /// Who sent a request, if this operator is to answer.
    async fn sender(&self, headers: &HeaderMap, now: Instant) -> Result<Identity, Refused> {
        if !self.leadership.holds(now) {
            return Err(Refused::new("not_leading", StatusCode::SERVICE_UNAVAILABLE, "another operator leads"));
        }
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.authenticator.identify(authorization, now).await.map_err(|error| {
            tracing::debug!(error = %chain(&error), "a request is refused");
            let code = match error {
                auth::Error::NoToken | auth::Error::NotAuthenticated => StatusCode::UNAUTHORIZED,
                auth::Error::NotAPod => StatusCode::FORBIDDEN,
                auth::Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            Refused::new("not_authenticated", code, error.to_string())
        })
    }

    /// Reads a poll and takes it.
    async fn poll(&self, request: Request) -> Result<Wait, Refused> {
        let (head, body) = request.into_parts();
        let identity = self.sender(&head.headers, clock::monotonic()).await?;
        let malformed = |error: String| Refused::new("malformed", StatusCode::BAD_REQUEST, format!("not a poll: {error}"));
        let body = axum::body::to_bytes(body, MAX_POLL).await.map_err(|error| malformed(error.to_string()))?;
        let poll: Poll = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
        if !speaks_for_itself(&identity, &poll.namespace, &poll.worker) {
            return Err(Refused::new("not_itself", StatusCode::FORBIDDEN, "a pod can wait for itself only"));
        }
        let taken = self.registry.wait(&poll, clock::monotonic());
        taken.map_err(|refusal| Refused::new("refused", code_of(refusal), refusal.to_string()))
    }

    fn answer(&self, report: Report, arrived: Instant) -> Response {
        let key = Key::new(&report.namespace, &report.pipeline);
        match self.registry.record(report, arrived) {
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
                refuse(code_of(refusal), &refusal.to_string())
            }
        }
    }
}

/// Whether it is worth while to ask again.
fn code_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::UnknownPipeline | Refusal::UnknownWorker => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::OtherPipeline | Refusal::Stale => StatusCode::CONFLICT,
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
