//! The records: Nexmark's bids as JSON, with a text that fills them up. It repeats a few thousand of them, so that making them up takes no time.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::PARTITIONS;
use crate::nexmark::generator::{Events, Table};
use crate::servers::Kafka;

/// Different records.
const DIFFERENT: usize = 20_000;
/// For what is on its way to arrive.
const FLUSH: Duration = Duration::from_mins(2);

/// What a record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kind {
    /// Its size by Nexmark's count, which the names of JSON come on top of.
    pub size: u64,
}

impl Kind {
    /// A bid of about 256 bytes of JSON.
    pub const SMALL: Self = Self { size: 160 };
    /// One of about 1 KB.
    pub const LARGE: Self = Self { size: 900 };
    /// One of about 1.2 KB.
    pub const LARGER: Self = Self { size: 1100 };

    /// Different records, in the order in which they are written again and again.
    #[must_use]
    pub fn records(self) -> Vec<Vec<u8>> {
        let events =
            Events { count: u64::MAX, rate: 10_000, start: 1_772_323_150_000, disorder: 1, seed: 1, sizes: Some([200, 500, self.size]) };
        let mut bids = Vec::with_capacity(DIFFERENT);
        for n in 0.. {
            let mut line = Vec::new();
            if events.write(n, &mut line) == Table::Bid {
                bids.push(line);
                if bids.len() == DIFFERENT {
                    break;
                }
            }
        }
        bids
    }
}

/// Writes so many records to a topic, by turns to each partition, and waits until the broker has them. Returns bytes of one record on average, and how many
/// have a price that passes the filter of the measured query.
///
/// # Errors
/// The broker does not take them.
pub fn fill(kafka: &Kafka, topic: &str, kind: Kind, count: u64) -> Result<(f64, u64)> {
    let records = kind.records();
    let passes: Vec<bool> = records.iter().map(|record| price(record).is_some_and(|price| price >= 1000)).collect();
    let index = |n: u64| usize::try_from(n).unwrap_or(0) % DIFFERENT;
    write(kafka, topic, (0..count).map(|n| records[index(n)].as_slice()))?;
    let bytes: usize = (0..count).map(|n| records[index(n)].len()).sum();
    let passing = (0..count).filter(|n| passes[index(*n)]).count();
    Ok((bytes as f64 / count as f64, passing as u64))
}

/// Writes one bid for each of so many bidders, all in one channel, and waits until the broker has them.
///
/// # Errors
/// The broker does not take them.
pub fn fill_keys(kafka: &Kafka, topic: &str, keys: u64, channel: &str) -> Result<()> {
    let record = |bidder: u64| {
        format!(
            "{{\"auction\":1,\"bidder\":{bidder},\"price\":5000,\"channel\":\"{channel}\",\"url\":\"-\",\"dateTime\":1772323150000,\"extra\":\"-\"}}"
        )
    };
    write(kafka, topic, (0..keys).map(|bidder| record(bidder).into_bytes()))
}

/// Writes records, by turns to each partition, and waits until the broker has them.
fn write(kafka: &Kafka, topic: &str, records: impl Iterator<Item: AsRef<[u8]>>) -> Result<()> {
    let mut config = kafka.config();
    config
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "262144");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().context("make a producer")?;
    for (n, payload) in records.enumerate() {
        // A batch of a partition at a time, as a producer without keys does.
        let partition = i32::try_from(n / 500).unwrap_or(0) % PARTITIONS;
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload.as_ref());
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(rdkafka::types::RDKafkaErrorCode::QueueFull) {
                return Err(error).context("write a record");
            }
            record = back;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    producer.flush(FLUSH).context("wait for the broker")
}

fn price(record: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(record).ok()?.get("price")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_large_as_they_should_be_and_most_pass() {
        for (kind, least, most) in [(Kind::SMALL, 240, 275), (Kind::LARGE, 950, 1050), (Kind::LARGER, 1150, 1250)] {
            let records = kind.records();
            let mean = records.iter().map(Vec::len).sum::<usize>() / records.len();
            assert!((least..most).contains(&mean), "{kind:?}: {mean}");
            let passing =
                records.iter().filter(|record| price(record).is_some_and(|price| price >= 1000)).count() as f64 / records.len() as f64;
            assert!((0.8..0.87).contains(&passing), "{passing}");
        }
    }
}
