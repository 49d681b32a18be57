//! The load: records at a steady rate, open loop, each with an event time of its own near the time at which it is due, every one written exactly once.
//! It never waits for what comes out.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::windows::Expected;
use super::{IN, MAX_DELAY, PARTITIONS, now};
use crate::dice::Dice;

/// For the broker to take what was sent.
const FLUSH: Duration = Duration::from_mins(2);
/// By how many milliseconds event times are out of order: less than the Source allows, so that none is late.
const DISORDER: u64 = MAX_DELAY * 1000 - 200;
/// How far ahead the event times are that end the last windows, in milliseconds.
const LATER: u64 = 3_600_000;
/// A pause between two looks at the clock.
const PAUSE: Duration = Duration::from_millis(1);

/// What was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// What must come out.
    pub(super) expected: Expected,
    /// Records.
    pub(super) records: u64,
    /// Milliseconds from the first to the last.
    pub(super) millis: u64,
    /// By how many milliseconds the one that was furthest behind its time was sent late.
    pub(super) late: u64,
}

/// Counts what the broker has acknowledged.
#[derive(Debug, Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.acknowledged } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends `rate` records a second until `stop` is set, then one to each partition that ends all windows.
///
/// # Errors
/// The broker does not take one of them.
pub(super) fn send(mut config: ClientConfig, rate: u64, keys: usize, stop: &AtomicBool) -> Result<Sent> {
    config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "5").set("queue.buffering.max.messages", "1000000");
    let producer: ThreadedProducer<Deliveries> = config.create_with_context(Deliveries::default()).context("make a producer")?;
    let mut dice = Dice::new(1);
    let mut sent = Sent { expected: Expected::new(keys), records: 0, millis: 0, late: 0 };
    let mut payload = String::new();
    let began = now();
    while !stop.load(Ordering::Acquire) {
        let elapsed = now() - began;
        // All that are due by now.
        while sent.records * 1000 < elapsed * rate {
            let due = began + sent.records * 1000 / rate;
            let key = usize::try_from(dice.below(keys as u64)).unwrap_or(0);
            let (value, at) = (dice.below(1000) as i64, due - dice.below(DISORDER));
            payload.clear();
            let _infallible = write!(payload, "{{\"k\":\"{}\",\"v\":{value},\"at\":{at}}}", name(key));
            // The partition has nothing to do with the key.
            write_record(&producer, dice.below(PARTITIONS as u64) as i32, &payload)?;
            sent.expected.add(at, key, value);
            sent.records += 1;
            sent.late = sent.late.max(now().saturating_sub(due));
        }
        thread::sleep(PAUSE);
    }
    sent.millis = now() - began;
    let end = format!("{{\"k\":\"end\",\"v\":0,\"at\":{}}}", now() + LATER);
    for partition in 0..PARTITIONS {
        write_record(&producer, partition, &end)?;
    }
    producer.flush(FLUSH).context("wait for the broker")?;
    let (acknowledged, failed) =
        (producer.context().acknowledged.load(Ordering::Acquire), producer.context().failed.load(Ordering::Acquire));
    let written = sent.records + u64::from(PARTITIONS.unsigned_abs());
    ensure!(acknowledged == written && failed == 0, "of {written} records {acknowledged} were acknowledged and {failed} failed");
    Ok(sent)
}

/// How a key is called.
pub(super) fn name(key: usize) -> String {
    format!("key-{key}")
}

fn write_record(producer: &ThreadedProducer<Deliveries>, partition: i32, payload: &str) -> Result<()> {
    let mut record = BaseRecord::<(), str>::to(IN).partition(partition).payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            // The broker is slower than the load: that shows as records that are sent late.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
            Err((error, _)) => return Err(error).context("write a record"),
        }
        thread::sleep(PAUSE);
    }
}
