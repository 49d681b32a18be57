//! Kafka Streams and Flink with the same records. Settings are their defaults, except where a comment says why not.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::installed;
use crate::servers::Kafka;
use crate::servers::process::{Lifetime, Process};

/// The folder that `tests/setup/install.sh streams` makes.
const STREAMS: &str = "streams-4.1.1";

/// Starts Kafka Streams with one thread and a heap of 1 GB; `what` is `bids` or `same`.
///
/// # Errors
/// It is not installed, or cannot be started.
pub fn streams(kafka: &Kafka, folder: &Path, from: &str, to: &str, what: &str) -> Result<Process> {
    let installed = installed::cache()?.join(STREAMS);
    ensure!(installed.join("classes").exists(), "{} is missing: run tests/setup/install.sh streams", installed.display());
    let mut command = Command::new("java");
    command.arg("-Xmx1g").arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", installed.display())).arg("Drain");
    command.args([&kafka.bootstrap(), from, to, what]).arg(folder.join("state"));
    Process::start("streams", folder, command, Lifetime::Owned).context("start Kafka Streams")
}

/// Flink's script from topic to topic. It ends with the records that are there when it begins.
#[must_use]
pub fn flink_script(kafka: &Kafka, from: &str, to: &str) -> String {
    let brokers = kafka.bootstrap();
    let common = format!("'connector' = 'kafka', 'properties.bootstrap.servers' = '{brokers}'");
    format!(
        "SET 'parallelism.default' = '1';
SET 'pipeline.object-reuse' = 'true';
SET 'execution.checkpointing.interval' = '10 s';
CREATE TEMPORARY TABLE bids (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR)
  WITH ({common}, 'topic' = '{from}', 'format' = 'json', 'properties.group.id' = '{to}',
        'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset');
CREATE TEMPORARY TABLE measured (auction BIGINT, bidder BIGINT, price DOUBLE, channel VARCHAR, url VARCHAR)
  WITH ({common}, 'topic' = '{to}', 'format' = 'json');
INSERT INTO measured SELECT auction, bidder, 0.908 * CAST(price AS DOUBLE) AS price, channel, url FROM bids WHERE price >= 1000;
"
    )
}
