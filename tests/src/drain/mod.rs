//! From Kafka onwards, with Millrace, Kafka Streams and Flink: topics full of records, and what a record costs to get out of them. It checks that all
//! that should come out comes out, not what it says.
//!
//! ```text
//!  records ──▶ topic of 4 partitions ─┬─▶ worker: `millrace run` ────────────┐
//!  (written once, read by all)        ├─▶ rivals: Kafka Streams, Flink ──────┼─▶ topic (or S3): counted from outside; CPU where it passes two marks
//!                                     └─▶ latency: one record after the other, at the time that each one says
//! ```

pub mod latency;
mod records;
pub mod rivals;
mod worker;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

pub use self::records::{Kind, fill, fill_keys};
pub use self::worker::{Goes, Worker, manifest};
use crate::measure;
use crate::servers::Kafka;

/// Partitions of every topic.
pub const PARTITIONS: i32 = 4;
/// Time between two looks at what has come out.
const LOOK: Duration = Duration::from_millis(20);
/// If nothing comes out for so long, nothing will.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a number of records cost a program.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Records that came out between the two marks.
    pub records: u64,
    /// CPU of the program meanwhile, seconds.
    pub cpu_seconds: f64,
    /// `VmHWM` at the end, bytes.
    pub peak_memory: u64,
}

/// Counts what is in a topic.
pub struct Counter {
    client: BaseConsumer,
    topic: String,
}

impl Counter {
    /// Of this topic.
    ///
    /// # Errors
    /// There is no client.
    pub fn new(kafka: &Kafka, topic: &str) -> Result<Self> {
        Ok(Self { client: kafka.config().create().context("make a consumer")?, topic: topic.to_owned() })
    }

    /// Offsets in use, ends of transactions included.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn count(&self) -> Result<u64> {
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            let (low, high) = self.client.fetch_watermarks(&self.topic, partition, PATIENCE).context("read offsets")?;
            sum += u64::try_from(high - low).unwrap_or(0);
        }
        Ok(sum)
    }
}

/// Looks on while a program takes records in, and notes its CPU when `from` of them have come out and when `to` have. What it needed to start and to get warm lies before.
///
/// # Errors
/// Nothing comes out any more, or too much.
pub async fn watch(process: u32, (from, to): (u64, u64), mut count: impl AsyncFnMut() -> Result<u64>) -> Result<Drained> {
    let (mut first, mut last) = (None, 0);
    let mut looks_in_vain = 0;
    loop {
        let out = count().await?;
        let cpu = measure::cpu_seconds(process)?;
        if out >= from && first.is_none() {
            first = Some((out, cpu));
        }
        if let Some((begun, before)) = first
            && out >= to
        {
            ensure!(out == to, "{out} records have come out, {to} should have");
            return Ok(Drained { records: out - begun, cpu_seconds: cpu - before, peak_memory: measure::peak_memory(process)? });
        }
        looks_in_vain = if out > last { 0 } else { looks_in_vain + 1 };
        ensure!(LOOK * looks_in_vain < PATIENCE, "nothing comes out any more: {out} of {to}");
        last = out;
        tokio::time::sleep(LOOK).await;
    }
}
