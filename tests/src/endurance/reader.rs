//! A reader of what is committed, while it is being written. It never reads anything twice by itself, so what it sees twice was committed twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use super::windows::{Found, Row, Total};
use super::{OUT, PARTITIONS, now};

/// Between two looks at whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A result as the Sink writes it.
#[derive(Deserialize)]
struct Written<'a> {
    window_start: &'a str,
    k: &'a str,
    n: i64,
    total: i64,
    /// Only the changed query has it.
    doubled: Option<i64>,
}

/// Reads all partitions from their beginning until `stop` is set, and then to their ends: nothing may be written by then.
///
/// # Errors
/// The broker fails.
pub(super) fn follow(mut config: ClientConfig, found: &Mutex<Found>, stop: &AtomicBool) -> Result<()> {
    config.set("group.id", "endurance").set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    config.set("fetch.wait.max.ms", "50").set("enable.partition.eof", "true");
    let reader: BaseConsumer = config.create().context("make a consumer")?;
    let mut next: BTreeMap<i32, Offset> = (0..PARTITIONS).map(|partition| (partition, Offset::Beginning)).collect();
    assign(&reader, &next)?;
    let (mut stopping, mut ended) = (false, BTreeSet::new());
    while ended.len() < next.len() {
        if !stopping && stop.load(Ordering::Acquire) {
            // From where it is, once more: an end that is told from now on is one behind which nothing comes.
            assign(&reader, &next)?;
            stopping = true;
        }
        match reader.poll(LOOK) {
            None => {}
            Some(Ok(record)) => {
                next.insert(record.partition(), Offset::Offset(record.offset() + 1));
                let payload = record.payload().unwrap_or_default();
                let (row, at) = (read(payload), now());
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                match row {
                    Ok(row) => found.add(row, at),
                    Err(error) => found.fault(format!("{}: {error:#}", String::from_utf8_lossy(payload))),
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) if stopping => drop(ended.insert(partition)),
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error).context("read a result"),
        }
    }
    Ok(())
}

fn assign(reader: &BaseConsumer, next: &BTreeMap<i32, Offset>) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in next {
        list.add_partition_offset(OUT, *partition, *offset).context("name a partition")?;
    }
    reader.assign(&list).context("read from there")
}

fn read(payload: &[u8]) -> Result<Row> {
    let written: Written<'_> = serde_json::from_slice(payload)?;
    let start: Timestamp = written.window_start.parse().context("window_start is no time")?;
    let start = u64::try_from(start.as_millisecond()).context("window_start lies before 1970")?;
    let key = written.k.strip_prefix("key-").and_then(|number| number.parse().ok()).context("a key that was never sent")?;
    let right = written.doubled.is_none_or(|doubled| doubled == written.total * 2);
    ensure!(right, "doubled is not twice the total");
    Ok(Row { start, key, total: Total { count: written.n, sum: written.total }, changed: written.doubled.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_both_queries_are_read() {
        let row = read(br#"{"window_start":"2026-01-01T00:00:01Z","k":"key-7","n":3,"total":12}"#).unwrap();
        assert_eq!((row.start, row.key, row.total, row.changed), (1_767_225_601_000, 7, Total { count: 3, sum: 12 }, false));
        let row = read(br#"{"window_start":"2026-01-01T00:00:01Z","k":"key-7","n":3,"total":12,"doubled":24}"#).unwrap();
        assert!(row.changed);
        for wrong in [
            r#"{"window_start":"2026-01-01T00:00:01Z","k":"end","n":3,"total":12}"#,
            r#"{"window_start":"2026-01-01T00:00:01Z","k":"key-7","n":3,"total":12,"doubled":25}"#,
            r#"{"k":"key-7","n":3,"total":12}"#,
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
