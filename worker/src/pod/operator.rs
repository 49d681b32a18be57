//! The client of the operator's report endpoint. One request at a time; an operator that does not answer changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use millrace_crds::report::{Assignment, REPORT_PATH, Report};

/// The operator answers at once or not at all.
const TIME_OUT: Duration = Duration::from_secs(5);

/// Sends reports.
pub(super) struct Operator {
    client: reqwest::Client,
    url: String,
    token_file: PathBuf,
}

impl Operator {
    pub(super) fn new(url: &str, token_file: PathBuf) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(TIME_OUT).no_proxy().build()?;
        Ok(Self { client, url: format!("{}{REPORT_PATH}", url.trim_end_matches('/')), token_file })
    }

    /// Sends one report; the answer is what to hold.
    pub(super) async fn report(&self, report: &Report) -> anyhow::Result<Assignment> {
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .with_context(|| format!("cannot read the token {}", self.token_file.display()))?;
        let response = self
            .client
            .post(&self.url)
            .bearer_auth(token.trim())
            .json(report)
            .send()
            .await
            .with_context(|| format!("no answer from the operator at {}", self.url))?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            anyhow::bail!("the operator refuses the report: {status} {}", text.trim());
        }
        response.json().await.context("the operator's answer is not an assignment")
    }
}
