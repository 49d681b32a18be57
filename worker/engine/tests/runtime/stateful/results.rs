//! A sink that makes rows visible in epochs, each with its coordinate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::ProbeResult;
use millrace_engine::batch::Batch;
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::{Commit, OpenSink, Prepared, Sink, SinkWriter, WriterIdentity};
use serde_json::json;

use crate::process::Process;

/// Rows as JSON after their coordinate.
#[derive(Debug, Default)]
pub(super) struct Results {
    staged: Mutex<BTreeMap<String, Vec<String>>>,
    committed: Mutex<BTreeSet<String>>,
    visible: Mutex<Vec<String>>,
}

impl Results {
    /// What readers see, sorted, without the coordinates.
    pub(super) fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.with_coordinates().iter().map(|row| row.split_once(' ').unwrap().1.to_owned()).collect();
        rows.sort();
        rows
    }

    pub(super) fn with_coordinates(&self) -> Vec<String> {
        let mut rows = self.visible.lock().unwrap().clone();
        rows.sort();
        rows
    }
}

pub(super) struct ResultSink {
    pub(super) results: Arc<Results>,
    pub(super) process: Arc<Process>,
}

#[async_trait]
impl Sink for ResultSink {
    fn accepts(&self, _: &SchemaRef, _: Option<&str>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (Guarantee::ExactlyOnce, "the test compares what was committed")
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        self.process.step("sink: open").await;
        let (results, process) = (Arc::clone(&self.results), Arc::clone(&self.process));
        Ok(Box::new(Writer { results, process, identity: open.writer, buffer: Vec::new() }))
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        self.process.step("sink: commit: before").await;
        for committable in commit.committables {
            let name = committable.as_str().unwrap();
            let rows = self.results.staged.lock().unwrap().get(name).cloned().unwrap();
            if self.results.committed.lock().unwrap().insert(name.to_owned()) {
                self.results.visible.lock().unwrap().extend(rows);
            }
        }
        self.process.step("sink: commit: after").await;
        Ok(())
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

struct Writer {
    results: Arc<Results>,
    process: Arc<Process>,
    identity: WriterIdentity,
    buffer: Vec<String>,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        self.process.step("sink: write: before").await;
        let mut lines = Vec::new();
        LineDelimitedWriter::new(&mut lines).write(&batch.records).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        self.buffer.extend(lines.lines().enumerate().map(|(row, line)| format!("{} {line}", batch.coordinate(row))));
        self.process.step("sink: write: after").await;
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        self.process.step("sink: prepare: before").await;
        let rows = std::mem::take(&mut self.buffer);
        let mut committables = Vec::new();
        if !rows.is_empty() {
            let WriterIdentity { output, task, generation, .. } = &self.identity;
            let name = format!("{output}/{task}/{generation}/{epoch}");
            self.results.staged.lock().unwrap().insert(name.clone(), rows);
            committables.push(json!(name));
        }
        self.process.step("sink: prepare: after").await;
        Ok(Prepared { committables, rejected: Vec::new() })
    }

    async fn close(&mut self) {}
}
