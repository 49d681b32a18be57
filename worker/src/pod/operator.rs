//! The client of the operator's endpoints. An operator that does not answer changes nothing, and no answer is waited for without end.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use millrace_crds::report::{Assignment, POLL_PATH, POLL_SECONDS, Poll, Polled, REPORT_PATH, Report};
use reqwest::StatusCode;
use serde::Serialize;

/// A report is answered at once or not at all.
const TIME_OUT: Duration = Duration::from_secs(5);
/// A poll is answered as late as the operator can, and this much later at most.
const POLL_TIME_OUT: Duration = Duration::from_secs(POLL_SECONDS + 10);

/// Sends reports and polls.
pub(super) struct Operator {
    client: reqwest::Client,
    url: String,
    token_file: PathBuf,
}

/// What became of a poll.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// A report is worth while.
    Changed,
    /// Nothing has happened.
    Unchanged,
    /// The operator is older than polls.
    NoSuchEndpoint,
}

impl Operator {
    pub(super) fn new(url: &str, token_file: PathBuf) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), token_file })
    }

    /// Sends one report; the answer is what to hold.
    pub(super) async fn report(&self, report: &Report) -> anyhow::Result<Assignment> {
        let response = self.send(REPORT_PATH, report, TIME_OUT).await?;
        accepted(response).await?.json().await.context("the operator's answer is not an assignment")
    }

    /// Waits until the assignment may be another.
    pub(super) async fn poll(&self, poll: &Poll) -> anyhow::Result<Heard> {
        let response = self.send(POLL_PATH, poll, POLL_TIME_OUT).await?;
        if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            return Ok(Heard::NoSuchEndpoint);
        }
        let polled: Polled = accepted(response).await?.json().await.context("the operator's answer is not that to a poll")?;
        Ok(if polled.changed { Heard::Changed } else { Heard::Unchanged })
    }

    async fn send(&self, path: &str, body: &impl Serialize, time_out: Duration) -> anyhow::Result<reqwest::Response> {
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .with_context(|| format!("cannot read the token {}", self.token_file.display()))?;
        let url = format!("{}{path}", self.url);
        let request = self.client.post(&url).timeout(time_out).bearer_auth(token.trim()).json(body);
        request.send().await.with_context(|| format!("no answer from the operator at {url}"))
    }
}

async fn accepted(response: reqwest::Response) -> anyhow::Result<reqwest::Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    anyhow::bail!("the operator refuses: {status} {}", text.trim())
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use axum::{Json, Router};
    use millrace_crds::report::REPORT_VERSION;

    use super::*;

    fn poll() -> Poll {
        let text = String::new;
        Poll { version: REPORT_VERSION, namespace: text(), pipeline: text(), pipeline_uid: text(), worker: text(), sequence: 1 }
    }

    /// What becomes of a poll at a server with these routes.
    async fn heard_of(routes: Router) -> anyhow::Result<Heard> {
        let token = tempfile::NamedTempFile::new()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let operator = Operator::new(&format!("http://{}/", listener.local_addr()?), token.path().to_owned())?;
        let asked = poll();
        tokio::select! {
            heard = operator.poll(&asked) => heard,
            served = async { axum::serve(listener, routes).await } => anyhow::bail!("the server ended: {served:?}"),
        }
    }

    #[tokio::test]
    async fn an_operator_of_before_polls_is_told_from_one_that_refuses() {
        let of_before = Router::new().route(REPORT_PATH, post(async || "{}"));
        assert_eq!(heard_of(of_before).await.unwrap(), Heard::NoSuchEndpoint);
        for changed in [false, true] {
            let routes = Router::new().route(POLL_PATH, post(async move || Json(Polled { version: REPORT_VERSION, changed })));
            assert_eq!(heard_of(routes).await.unwrap(), if changed { Heard::Changed } else { Heard::Unchanged });
        }
        let waits = Router::new().route(POLL_PATH, post(async || (axum::http::StatusCode::SERVICE_UNAVAILABLE, "another operator leads")));
        assert!(format!("{:#}", heard_of(waits).await.unwrap_err()).contains("another operator leads"));
    }
}
