//! How long a record takes, open loop: each is due at a time that does not depend on the answers, and carries that time. One clock, one process.
//! It never waits for an answer before it sends the next record.
//!
//! A record has arrived when a reader has it, or, in a topic that keeps [`APPEND_TIME`], when the broker has appended it: a reader that takes thousands of
//! results of a window one by one is the slower the more there are, whoever wrote them.
//!
//! Records are due together every [`TICK`]. One by one they would be a request each, and what a broker on the same two cores makes of some thousand requests
//! a second would be all that is measured. What is due together goes to one partition, the next to the next one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::servers::Kafka;

/// Between records that are due together and the next.
pub const TICK: Duration = Duration::from_millis(1);
/// For the broker to take what was sent, and for the last records to arrive.
const FLUSH: Duration = Duration::from_mins(1);
const AFTER: Duration = Duration::from_secs(3);

/// Setting of a topic whose records say when the broker appended them.
pub const APPEND_TIME: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Records a second.
    pub rate: u64,
    /// Whose latencies do not count.
    pub warm: Duration,
    /// Whose do.
    pub kept: Duration,
    /// Different bidders; each comes in turn.
    pub keys: u64,
    /// The channel of all records.
    pub channel: &'static str,
    /// Of all topics.
    pub partitions: i32,
}

impl Load {
    /// How many records are due at once, and nanoseconds until the next are.
    fn steps(&self) -> (u64, u64) {
        let together = (u128::from(self.rate) * TICK.as_nanos()).div_ceil(1_000_000_000).max(1);
        let together = u64::try_from(together).unwrap_or(u64::MAX);
        (together, together.saturating_mul(1_000_000_000) / self.rate.max(1))
    }
}

/// What is read of a record that comes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carries {
    /// `auction`: nanoseconds since 1970 when it was due.
    Due,
    /// `window_end`: when the window was over.
    WindowEnd,
}

/// Latencies in milliseconds, sorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<f64>);

/// Latencies of the records of one topic.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    /// Until the reader had them.
    pub read: Latencies,
    /// Until the broker had them, which says so in whole milliseconds, rounded up here; empty if the topic does not keep [`APPEND_TIME`].
    pub appended: Latencies,
}

impl Latencies {
    fn of(mut latencies: Vec<f64>) -> Self {
        latencies.sort_by(f64::total_cmp);
        Self(latencies)
    }

    /// The latency that this share of the records does not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// How many records.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[expect(clippy::disallowed_methods, reason = "this measures time")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Sends records to `topic`, and meanwhile reads the given topics from their ends. Returns the latencies of each, in the same order.
///
/// # Errors
/// The broker fails, or nothing comes out.
pub fn measure(kafka: &Kafka, topic: &str, load: Load, read: &[(&str, Carries)]) -> Result<Vec<Arrived>> {
    let stop = AtomicBool::new(false);
    let begun = now() + 100_000_000;
    let counted = begun + u64::try_from(load.warm.as_nanos()).unwrap_or(0);
    thread::scope(|scope| {
        let readers: Vec<_> = read
            .iter()
            .map(|(topic, carries)| {
                let reader = reader(kafka, topic, load.partitions)?;
                Ok((topic, scope.spawn(|| follow(reader, *carries, counted, &stop))))
            })
            .collect::<Result<_>>()?;
        let sent = send(kafka, topic, load, begun);
        thread::sleep(AFTER);
        stop.store(true, Ordering::Release);
        let latencies = readers.into_iter().map(|(topic, reader)| {
            let arrived = reader.join().map_err(|_| anyhow!("a reader has failed"))??;
            ensure!(arrived.read.count() > 0, "nothing has come out of {topic}");
            Ok(arrived)
        });
        let latencies = latencies.collect();
        sent?;
        latencies
    })
}

fn send(kafka: &Kafka, topic: &str, load: Load, begun: u64) -> Result<()> {
    let producer = producer(kafka)?;
    let (together, gap) = load.steps();
    let count = load.rate * (load.warm + load.kept).as_secs();
    let filler = "x".repeat(120);
    for n in 0..count {
        let due = begun + n / together * gap;
        // A short sleep is longer than it says: the rest of the way is waited for awake.
        while let Some(early) = due.checked_sub(now()) {
            if early > 200_000 { thread::sleep(Duration::from_nanos(early - 150_000)) } else { std::hint::spin_loop() }
        }
        // Neighbours in time are none in the state.
        let bidder = n.wrapping_mul(2_654_435_761) % load.keys;
        let payload = format!(
            "{{\"auction\":{due},\"bidder\":{bidder},\"price\":5000,\"channel\":\"{}\",\"url\":\"-\",\"dateTime\":{},\"extra\":\"{filler}\"}}",
            load.channel,
            due / 1_000_000
        );
        let partition = i32::try_from(n / together % u64::from(load.partitions.unsigned_abs())).unwrap_or(0);
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(payload.as_str());
        producer.send(record).map_err(|(error, _)| error).context("write a record")?;
    }
    producer.flush(FLUSH).context("wait for the broker")
}

/// Of records that wait for no others.
fn producer(kafka: &Kafka) -> Result<ThreadedProducer<DefaultProducerContext>> {
    let mut config = kafka.config();
    config.set("linger.ms", "0").create().context("make a producer")
}

fn reader(kafka: &Kafka, topic: &str, partitions: i32) -> Result<BaseConsumer> {
    let mut config = kafka.config();
    config.set("group.id", "latency").set("enable.auto.commit", "false").set("fetch.wait.max.ms", "100");
    let reader: BaseConsumer = config.create().context("make a consumer")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        // From what is there now: an offset that is known needs no look-up while records come.
        let (_, end) = reader.fetch_watermarks(topic, partition, AFTER).context("read offsets")?;
        list.add_partition_offset(topic, partition, Offset::Offset(end)).context("read from the end")?;
    }
    reader.assign(&list).context("read from the end")?;
    Ok(reader)
}

fn follow(reader: BaseConsumer, carries: Carries, counted: u64, stop: &AtomicBool) -> Result<Arrived> {
    let (mut read, mut appended) = (Vec::new(), Vec::new());
    let mut ends = BTreeMap::new();
    while !stop.load(Ordering::Acquire) {
        let Some(record) = reader.poll(Duration::from_millis(100)) else { continue };
        let record = record.context("read a record")?;
        let at = now();
        let payload = std::str::from_utf8(record.payload().unwrap_or_default()).context("a record is no text")?;
        let due = match carries {
            Carries::Due => number(payload)?,
            Carries::WindowEnd => {
                let end = payload.rsplit_once("\"window_end\":\"").and_then(|(_, rest)| rest.split_once('"'));
                let (end, _) = end.with_context(|| format!("no window_end in {payload}"))?;
                if let Some(due) = ends.get(end) {
                    *due
                } else {
                    let due: Timestamp = end.parse().with_context(|| format!("{end} is no time"))?;
                    let due = u64::try_from(due.as_nanosecond()).context("a window in the past")?;
                    *ends.entry(end.to_owned()).or_insert(due)
                }
            }
        };
        if due >= counted {
            read.push(at.saturating_sub(due) as f64 / 1e6);
            if let rdkafka::Timestamp::LogAppendTime(millis) = record.timestamp() {
                let at = u64::try_from(millis + 1).unwrap_or(0).saturating_mul(1_000_000);
                appended.push(at.saturating_sub(due) as f64 / 1e6);
            }
        }
    }
    Ok(Arrived { read: Latencies::of(read), appended: Latencies::of(appended) })
}

/// What librdkafka makes of the same way: takes every record of a topic and writes it, as it is, to the same partition of another one, until it is told to stop.
/// A mark to compare with, not the least that is possible.
///
/// # Errors
/// The broker does not answer or does not take a record.
pub fn relay(kafka: &Kafka, from: &str, to: &str, partitions: i32, stop: &AtomicBool) -> Result<()> {
    let (reader, producer) = (reader(kafka, from, partitions)?, producer(kafka)?);
    while !stop.load(Ordering::Acquire) {
        let Some(record) = reader.poll(Duration::from_millis(100)) else { continue };
        let record = record.context("read a record")?;
        let same = BaseRecord::<(), [u8]>::to(to).partition(record.partition()).payload(record.payload().unwrap_or_default());
        producer.send(same).map_err(|(error, _)| error).context("write a record")?;
    }
    producer.flush(FLUSH).context("wait for the broker")
}

fn number(payload: &str) -> Result<u64> {
    let (_, rest) = payload.split_once("\"auction\":").with_context(|| format!("no auction in {payload}"))?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().context("auction is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_records() {
        let latencies = Latencies((0..=100).map(f64::from).collect());
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| latencies.quantile(share).to_string()), ["0", "50", "99", "100"]);
        let reversed = Latencies::of((0..=100).rev().map(f64::from).collect());
        assert_eq!(reversed.quantile(0.01).to_string(), "1");
        assert!(Latencies::default().quantile(0.5).is_nan());
    }

    #[test]
    fn records_are_due_together_every_millisecond() {
        let steps = |rate| {
            let load = Load { rate, warm: TICK, kept: TICK, keys: 1, channel: "", partitions: 1 };
            load.steps()
        };
        assert_eq!([1, 1000, 1500, 10_000].map(steps), [(1, 1_000_000_000), (1, 1_000_000), (2, 1_333_333), (10, 1_000_000)]);
    }

    #[test]
    fn the_time_is_read_from_the_record() {
        assert_eq!(number("{\"auction\":17,\"bidder\":3}").unwrap(), 17);
        assert!(number("{}").is_err());
    }
}
