//! Millrace as it is measured: a manifest from a topic to a topic or to S3, and a worker that runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::servers::process::{Lifetime, Process};
use crate::servers::{Kafka, LOOPBACK, Moto, ports};

/// What is done with the records.
#[derive(Clone, Copy, Debug)]
pub enum Goes<'a> {
    /// Bids: filtered, some columns, one of them as another type, to a topic.
    Filtered(&'a str),
    /// As they are, as bytes, to a topic.
    Same(&'a str),
    /// As Parquet to a bucket.
    Parquet(&'a Moto, &'a str),
    /// Counted by bidder and second, to a topic.
    Counted(&'a str),
    /// A total for each bidder and channel, revised with every bid, to a topic; with so many seconds between epochs.
    Totalled(&'a str, u32),
}

const COLUMNS: &str = "columns: [{name: auction, type: BigInt}, {name: bidder, type: BigInt}, {name: price, type: BigInt}, {name: channel, type: Varchar}, \
                       {name: url, type: Varchar}, {name: dateTime, type: Timestamp}, {name: extra, type: Varchar}]";
/// The query that is measured.
const FILTER: &str = "SELECT auction, bidder, 0.908 * CAST(price AS DOUBLE) AS price, channel, url FROM bids WHERE price >= 1000";

/// Source, Sink and Pipeline that read `topic`.
#[must_use]
pub fn manifest(kafka: &Kafka, topic: &str, goes: Goes<'_>) -> String {
    let brokers = kafka.bootstrap();
    let (format, time, sql) = match goes {
        Goes::Filtered(_) => (format!("format: {{json: {{}}}}\n  schema: {{{COLUMNS}}}"), "", FILTER),
        Goes::Same(_) => ("format: {raw: {}}".to_owned(), "", "SELECT * FROM bids"),
        Goes::Parquet(..) => (format!("format: {{json: {{}}}}\n  schema: {{{COLUMNS}}}"), "", "SELECT * FROM bids"),
        Goes::Counted(_) => (
            format!("format: {{json: {{}}}}\n  schema: {{{COLUMNS}}}"),
            "\n  eventTime: {column: dateTime, maxDelaySeconds: 0}",
            "SELECT bidder, count(*) AS bids, window_end FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND)) GROUP BY bidder, window_start, window_end",
        ),
        Goes::Totalled(..) => (
            format!("format: {{json: {{}}}}\n  schema: {{{COLUMNS}}}"),
            "",
            "SELECT bidder, channel, max(auction) AS auction, count(*) AS bids, sum(price) AS paid FROM bids GROUP BY bidder, channel",
        ),
    };
    // State is kept for a day, and may be a few GB.
    let (interval, more) = match goes {
        Goes::Totalled(_, interval) => (interval, "\n  state: {ttlSeconds: 86400}\n  limits: {maxStateBytes: 8589934592}"),
        _ => (10, ""),
    };
    let sink = match goes {
        Goes::Same(to) => format!("kafka: {{bootstrapServers: \"{brokers}\", topic: {to}, format: {{raw: {{}}}}}}"),
        Goes::Filtered(to) | Goes::Counted(to) | Goes::Totalled(to, _) => {
            format!("kafka: {{bootstrapServers: \"{brokers}\", topic: {to}, format: {{json: {{}}}}}}")
        }
        Goes::Parquet(_, bucket) => format!("s3: {{bucket: {bucket}, prefix: \"bids/\", format: {{parquet: {{}}}}}}"),
    };
    format!(
        "apiVersion: millrace.dev/v1alpha1\nkind: Source\nmetadata: {{name: bids}}\nspec:\n  kafka: {{bootstrapServers: \"{brokers}\", topics: [{topic}]}}\n  {format}{time}\n---\n\
         apiVersion: millrace.dev/v1alpha1\nkind: Sink\nmetadata: {{name: out}}\nspec:\n  {sink}\n---\n\
         apiVersion: millrace.dev/v1alpha1\nkind: Pipeline\nmetadata: {{name: drain}}\nspec:\n  inputs: [{{name: bids, sourceRef: {{name: bids}}}}]\n  \
         steps: [{{name: result, sql: \"{sql}\"}}]\n  outputs: [{{name: result, from: result, sinkRef: {{name: out}}}}]\n  checkpoint: {{intervalSeconds: {interval}}}{more}\n"
    )
}

/// A running worker. Ends with its value.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    http: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Worker {
    /// Starts `program` with a manifest.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path, manifest: &str, environment: &[(&str, String)]) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        std::fs::write(folder.path().join("drain.yaml"), manifest).context("write a manifest")?;
        let http = format!("{LOOPBACK}:{}", ports::free(LOOPBACK)?);
        let mut command = Command::new(program);
        command.args(["run", "drain.yaml", "--quiet", "--state-dir", "state", "--http", &http]).current_dir(folder.path());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start("millrace", folder.path(), command, Lifetime::Owned)?;
        let client = reqwest::Client::builder().no_proxy().build().context("build an HTTP client")?;
        Ok(Self { process, http, client, _folder: folder })
    }

    /// Its process id.
    ///
    /// # Errors
    /// It has ended.
    pub fn id(&self) -> Result<u32> {
        self.process.id()
    }

    /// The sum of a metric over all splits; 0 while it does not answer yet.
    pub async fn metric(&self, name: &str) -> u64 {
        let Ok(answer) = self.client.get(format!("http://{}/metrics", self.http)).send().await else { return 0 };
        let text = answer.text().await.unwrap_or_default();
        let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' '));
        samples.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// The end of what it has said.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}
