//! A source that reads a script: numbered records, bad ones among them. A position is the number of the next record.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::report::{Distribution, ErrorReason, ProbeResult};
use millrace_engine::batch::{Batch, Origin, RejectCode, RejectStage, Rejected};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{Lag, OpenSplit, Records, Shared, Source, SourceEvent, SplitReader};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::process::Process;
use crate::world::World;

/// Whether a record can be decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Good,
    Bad,
}

/// The records there are, and what has become of them at the source.
#[derive(Debug)]
pub(crate) struct Script {
    /// The records. Grows; `changes` tells.
    pub(crate) rows: Mutex<Vec<Kind>>,
    /// Records in one batch, at most.
    batch: usize,
    /// Time between two batches.
    pace: Duration,
    /// Bytes of each record.
    body: usize,
    /// Whether nothing will be added.
    bounded: bool,
    changes: watch::Sender<()>,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    acknowledged: u64,
    deliveries: Vec<u32>,
    /// Positions that readers were opened at.
    opened: Vec<u64>,
    bytes: usize,
    largest: usize,
    failures: VecDeque<ErrorReason>,
}

impl Script {
    pub(crate) fn new(rows: Vec<Kind>, batch: usize, pace: Duration, body: usize, bounded: bool) -> Self {
        Self { rows: Mutex::new(rows), batch, pace, body, bounded, changes: watch::Sender::new(()), books: Mutex::default() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.lock().unwrap().len() as u64
    }

    /// More records for whoever reads.
    pub(crate) fn add(&self, rows: impl IntoIterator<Item = Kind>) {
        self.rows.lock().unwrap().extend(rows);
        self.changes.send_replace(());
    }

    /// The next read fails.
    pub(crate) fn fail(&self, reason: ErrorReason) {
        self.books.lock().unwrap().failures.push_back(reason);
        self.changes.send_replace(());
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.books.lock().unwrap().acknowledged
    }

    /// How often each record was delivered.
    pub(crate) fn deliveries(&self) -> Vec<u32> {
        self.books.lock().unwrap().deliveries.clone()
    }

    pub(crate) fn opened(&self) -> Vec<u64> {
        self.books.lock().unwrap().opened.clone()
    }

    /// Bytes in all batches that were delivered, and in the largest.
    pub(crate) fn delivered_bytes(&self) -> (usize, usize) {
        let books = self.books.lock().unwrap();
        (books.bytes, books.largest)
    }

    fn take(&self, from: u64) -> Vec<(u64, Kind)> {
        let rows = self.rows.lock().unwrap();
        (from..).zip(rows.iter().skip(usize::try_from(from).unwrap()).copied()).take(self.batch).collect()
    }

    fn delivered(&self, taken: &[(u64, Kind)], batch: Option<&Batch>) {
        let mut books = self.books.lock().unwrap();
        let bytes = batch.map_or(0, Batch::memory_bytes);
        books.bytes += bytes;
        books.largest = books.largest.max(bytes);
        for (ordinal, _) in taken {
            let index = usize::try_from(*ordinal).unwrap();
            if books.deliveries.len() <= index {
                books.deliveries.resize(index + 1, 0);
            }
            books.deliveries[index] += 1;
        }
    }
}

/// The columns of the script.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("body", DataType::Utf8, true)]))
}

pub(crate) struct ScriptedSource {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
}

#[async_trait]
impl Source for ScriptedSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn distribution(&self) -> Distribution {
        Distribution::Partitioned
    }

    async fn splits(&self, _: &Shared) -> Result<Vec<String>, ConnectorError> {
        Ok(vec!["0".to_owned()])
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        self.process.step("source: open").await;
        let next = open.position.as_ref().map_or(0, |position| position.as_u64().unwrap());
        // What the position stands for is durable and committed, so upstream may forget it. Checked like any acknowledgement.
        self.world.acknowledge(next);
        self.world.script.books.lock().unwrap().opened.push(next);
        Ok(Box::new(Reader {
            world: Arc::clone(&self.world),
            process: Arc::clone(&self.process),
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

impl World {
    /// Upstream forgets everything below `position`: all of it must have arrived, and an epoch must say so.
    fn acknowledge(&self, position: u64) {
        self.check_acknowledged(position);
        let mut books = self.script.books.lock().unwrap();
        books.acknowledged = books.acknowledged.max(position);
    }
}

struct Reader {
    world: Arc<World>,
    process: Arc<Process>,
    projection: Vec<String>,
    next: u64,
    ready: Instant,
    draining: bool,
}

#[async_trait]
impl SplitReader for Reader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let script = &self.world.script;
        let mut changes = script.changes.subscribe();
        loop {
            let failure = script.books.lock().unwrap().failures.pop_front();
            if let Some(reason) = failure {
                return Err(ConnectorError::new(reason, "the script says so"));
            }
            let taken = script.take(self.next);
            if self.draining || taken.is_empty() && script.bounded {
                return Ok(SourceEvent::End);
            }
            if taken.is_empty() {
                let _changed = changes.changed().await;
                continue;
            }
            tokio::time::sleep_until(self.ready).await;
            self.process.step("source: read").await;
            // From here on there is no await: whoever drops the call has lost nothing.
            self.ready = Instant::now() + script.pace;
            self.next += taken.len() as u64;
            let records = records(&taken, &self.projection, script.body);
            script.delivered(&taken, records.batch.as_ref());
            return Ok(SourceEvent::Records(records));
        }
    }

    fn position(&self) -> Value {
        json!(self.next)
    }

    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError> {
        self.process.step("source: acknowledge: before").await;
        self.world.acknowledge(position.as_u64().unwrap());
        self.process.step("source: acknowledge: after").await;
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn lag(&self) -> Lag {
        let waiting = self.world.script.len() - self.next;
        Lag { records: Some(waiting), seconds: None, idle: waiting == 0 }
    }

    async fn close(&mut self) {}
}

/// The origin of all records.
pub(crate) fn origin() -> Origin {
    Origin::new("script", "script")
}

fn records(taken: &[(u64, Kind)], projection: &[String], body: usize) -> Records {
    let good: Vec<u64> = taken.iter().filter(|(_, kind)| *kind == Kind::Good).map(|(ordinal, _)| *ordinal).collect();
    let bad = taken.iter().filter(|(_, kind)| *kind == Kind::Bad);
    let rejected = bad.map(|(ordinal, _)| Rejected {
        origin: origin(),
        ordinal: *ordinal,
        stage: RejectStage::Decode,
        code: RejectCode::Malformed,
        error: "not a record".to_owned(),
        payload: Bytes::from(vec![b'?'; body]),
        payload_bytes: body as u64,
        attempts: 1,
    });
    let rejected: Vec<_> = rejected.collect();
    let batch = (!good.is_empty()).then(|| {
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = projection
            .iter()
            .map(|name| {
                let column: ArrayRef = match name.as_str() {
                    "id" => Arc::new(good.iter().map(|ordinal| i64::try_from(*ordinal).unwrap()).collect::<Int64Array>()),
                    _ => Arc::new(good.iter().map(|_| Some("x".repeat(body))).collect::<StringArray>()),
                };
                (Field::new(name, column.data_type().clone(), true), column)
            })
            .unzip();
        let options = RecordBatchOptions::new().with_row_count(Some(good.len()));
        let records = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap();
        Batch::new(records, origin(), UInt64Array::from(good))
    });
    Records { batch, rejected, bytes: (taken.len() * body) as u64 }
}
