//! A source of several splits, each a list of times and keys. A position is the number of the next row.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use millrace_crds::report::{Distribution, ProbeResult};
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{Lag, OpenSplit, Records, Shared, Source, SourceEvent, SplitReader};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::process::Process;

/// Rows in one batch, at most.
const BATCH: usize = 4;

/// A row: seconds, and a key. A row without seconds has no event time.
pub(super) type Row = (Option<i64>, &'static str);

/// What there is to read. Outlives every process.
#[derive(Debug)]
pub(super) struct Splits {
    pub(super) rows: Mutex<Vec<Vec<Row>>>,
    /// How many of the splits are listed.
    pub(super) listed: AtomicUsize,
    /// Whether nothing will be added.
    pub(super) bounded: bool,
    pub(super) distribution: Distribution,
    /// Time between two batches.
    pub(super) pace: Duration,
    changes: watch::Sender<()>,
    /// Acknowledged positions, by split.
    pub(super) acknowledged: Mutex<Vec<u64>>,
    pub(super) opened: Mutex<BTreeSet<String>>,
}

impl Splits {
    pub(super) fn new(rows: Vec<Vec<Row>>, bounded: bool) -> Self {
        Self {
            listed: AtomicUsize::new(rows.len()),
            acknowledged: Mutex::new(vec![0; rows.len()]),
            rows: Mutex::new(rows),
            bounded,
            distribution: Distribution::Partitioned,
            pace: Duration::from_millis(400),
            changes: watch::Sender::new(()),
            opened: Mutex::default(),
        }
    }

    /// More rows for whoever reads a split.
    pub(super) fn add(&self, split: usize, rows: impl IntoIterator<Item = Row>) {
        self.rows.lock().unwrap()[split].extend(rows);
        self.changes.send_replace(());
    }

    pub(super) fn all_acknowledged(&self) -> bool {
        let rows = self.rows.lock().unwrap();
        let acknowledged = self.acknowledged.lock().unwrap();
        rows.iter().zip(acknowledged.iter()).all(|(rows, position)| *position == rows.len() as u64)
    }
}

pub(super) fn schema() -> SchemaRef {
    let ts = Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true);
    Arc::new(Schema::new(vec![ts, Field::new("k", DataType::Utf8, true)]))
}

pub(super) struct SplitSource {
    pub(super) splits: Arc<Splits>,
    pub(super) process: Arc<Process>,
}

#[async_trait]
impl Source for SplitSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn distribution(&self) -> Distribution {
        self.splits.distribution
    }

    async fn splits(&self, _: &Shared) -> Result<Vec<String>, ConnectorError> {
        Ok((0..self.splits.listed.load(Ordering::Relaxed)).map(|split| split.to_string()).collect())
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        self.process.step("source: open").await;
        self.splits.opened.lock().unwrap().insert(open.split.clone());
        let split: usize = open.split.parse().unwrap();
        let next = open.position.map_or(0, |position| position.as_u64().unwrap());
        // What the position stands for is durable and committed: opening acknowledges it.
        self.splits.acknowledged.lock().unwrap()[split] = next;
        Ok(Box::new(Reader {
            splits: Arc::clone(&self.splits),
            process: Arc::clone(&self.process),
            split,
            projection: open.projection,
            next,
            ready: Instant::now(),
            draining: false,
        }))
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

struct Reader {
    splits: Arc<Splits>,
    process: Arc<Process>,
    split: usize,
    projection: Vec<String>,
    next: u64,
    ready: Instant,
    draining: bool,
}

#[async_trait]
impl SplitReader for Reader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let mut changes = self.splits.changes.subscribe();
        loop {
            let at = usize::try_from(self.next).unwrap();
            let taken: Vec<Row> = self.splits.rows.lock().unwrap()[self.split].iter().skip(at).take(BATCH).copied().collect();
            if self.draining || taken.is_empty() && self.splits.bounded {
                return Ok(SourceEvent::End);
            }
            if taken.is_empty() {
                let _changed = changes.changed().await;
                continue;
            }
            tokio::time::sleep_until(self.ready).await;
            self.process.step("source: read").await;
            self.ready = Instant::now() + self.splits.pace;
            let ordinals = UInt64Array::from_iter_values((self.next..).take(taken.len()));
            self.next += taken.len() as u64;
            let columns = self.projection.iter().map(|name| {
                let column: ArrayRef = match name.as_str() {
                    "ts" => {
                        Arc::new(taken.iter().map(|(time, _)| time.map(|seconds| seconds * 1000)).collect::<TimestampMillisecondArray>())
                    }
                    _ => Arc::new(taken.iter().map(|(_, key)| Some(*key)).collect::<StringArray>()),
                };
                (name, column, true)
            });
            let records = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
            let origin = Origin::new(&self.split.to_string(), format!("split {}", self.split));
            let batch = Some(Batch::new(records, origin, ordinals));
            return Ok(SourceEvent::Records(Records { batch, rejected: Vec::new(), bytes: 1 }));
        }
    }

    fn position(&self) -> Value {
        json!(self.next)
    }

    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError> {
        self.process.step("source: acknowledge: before").await;
        self.splits.acknowledged.lock().unwrap()[self.split] = position.as_u64().unwrap();
        self.process.step("source: acknowledge: after").await;
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn lag(&self) -> Lag {
        let waiting = self.splits.rows.lock().unwrap()[self.split].len() as u64 - self.next;
        Lag { records: Some(waiting), seconds: None, idle: waiting == 0 }
    }

    async fn close(&mut self) {}
}
