//! Batches as files: one or more for each partition and epoch, staged until their epoch commits. It knows no storage but [`Storage`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_crds::connectors::s3::Roll;
use millrace_crds::format::SinkFormat;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, RejectCode, RejectStage, Rejected};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::{Commit, OpenSink, Prepared, SinkWriter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::Manifest;
use super::names;
use crate::context::Context;
use crate::formats::rows::RowEncoder;
use crate::formats::template::{Escape, Template};
use crate::formats::{FileEncoder, PAYLOAD_CAP, can_encode, file_encoder, file_extension};

/// Files that one writer has open at most; one more closes the largest.
const MAX_OPEN: usize = 64;
/// Files that are made visible at the same time.
const COMMITS_AT_ONCE: usize = 8;

/// Where files are kept.
#[async_trait]
pub(crate) trait Storage: Debug + Send + Sync {
    /// Starts a file that will be at `path`. `folder` is where the writer keeps what is its own.
    async fn create(&self, path: &str, folder: &str, health: &Health) -> Result<Box<dyn Staging>, ConnectorError>;

    /// Makes a staged file visible. MUST be idempotent and retry transient errors.
    async fn publish(&self, file: &Committable, health: &Health) -> Result<(), ConnectorError>;

    /// Throws away a staged file that nobody will commit.
    async fn discard(&self, file: &Committable);

    /// Writes a small file, whole or not at all. MUST be idempotent and retry transient errors.
    async fn put(&self, path: &str, body: Bytes, health: &Health) -> Result<(), ConnectorError>;
}

/// A file that is being staged: durable after [`Staging::finish`], invisible until published.
#[async_trait]
pub(crate) trait Staging: Send {
    /// Adds bytes. Returns while they are within the staging's bound.
    async fn write(&mut self, bytes: Vec<Bytes>) -> Result<(), ConnectorError>;

    /// Ends the file; returns what [`Storage::publish`] needs to find it.
    async fn finish(&mut self) -> Result<Value, ConnectorError>;

    /// Throws it away.
    async fn abort(&mut self);
}

/// A staged file in an epoch record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Committable {
    /// Where it will be.
    pub(crate) path: String,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Its length.
    pub(crate) bytes: u64,
    /// What the storage needs to find it.
    pub(crate) staged: Value,
}

/// What one sink writes, and how.
#[derive(Debug)]
pub(crate) struct Layout {
    /// What is in the files.
    pub(crate) format: SinkFormat,
    /// In front of the name of a file.
    pub(crate) template: Template,
    /// What all files and manifests are below; empty or ends in a slash.
    pub(crate) root: String,
    /// A file is closed at this many bytes.
    pub(crate) roll_bytes: u64,
    /// Bytes that open files may hold in memory before the largest is closed.
    pub(crate) buffer_bytes: u64,
}

/// A file is closed at this many bytes unless the spec says otherwise.
const ROLL_BYTES: u64 = 128 << 20;

impl Layout {
    /// How files are laid out by `prefix`, the template in front of their names.
    ///
    /// # Errors
    /// `Invalid` when the template cannot be one.
    pub(crate) fn new(format: &SinkFormat, prefix: &str, roll: Option<&Roll>, context: &Context) -> Result<Self, ConnectorError> {
        let roll_bytes = roll.and_then(|roll| roll.bytes).and_then(|bytes| u64::try_from(bytes).ok());
        Ok(Self {
            format: format.clone(),
            template: Template::parse(prefix, Escape::PathSegment)?,
            root: names::root(prefix).to_owned(),
            roll_bytes: roll_bytes.unwrap_or(ROLL_BYTES),
            buffer_bytes: context.limits.in_flight_bytes as u64,
        })
    }

    /// Whether rows of `schema` can be written.
    ///
    /// # Errors
    /// `Invalid` when the template names a column that is not there, or a column cannot be encoded.
    pub(crate) fn accepts(&self, schema: &SchemaRef, event_time: Option<&str>) -> Result<(), ConnectorError> {
        self.template.check(schema, event_time)?;
        can_encode(&self.format, schema)
    }
}

/// Writes one output of one task.
pub(crate) struct PartitionedWriter {
    layout: Arc<Layout>,
    storage: Arc<dyn Storage>,
    open: OpenSink,
    epoch: u64,
    /// Number of the next file of the epoch.
    number: u32,
    files: BTreeMap<String, OpenFile>,
    finished: Vec<Committable>,
    rejected: Vec<Rejected>,
}

struct OpenFile {
    path: String,
    encoder: Box<dyn FileEncoder>,
    staging: Box<dyn Staging>,
    rows: u64,
    /// Bytes handed to `staging`.
    bytes: u64,
}

impl OpenFile {
    fn buffered(&self) -> u64 {
        self.encoder.estimated_bytes().saturating_sub(self.bytes)
    }

    async fn stage(&mut self, bytes: Vec<Bytes>) -> Result<(), ConnectorError> {
        self.bytes += bytes.iter().map(|part| part.len() as u64).sum::<u64>();
        if bytes.is_empty() { Ok(()) } else { self.staging.write(bytes).await }
    }
}

impl PartitionedWriter {
    pub(crate) fn new(layout: Arc<Layout>, storage: Arc<dyn Storage>, open: OpenSink) -> Self {
        let epoch = open.epoch;
        Self { layout, storage, open, epoch, number: 0, files: BTreeMap::new(), finished: Vec::new(), rejected: Vec::new() }
    }

    async fn create(&mut self, folder: &str) -> Result<OpenFile, ConnectorError> {
        let name = names::file(&self.open.writer, self.epoch, self.number, file_extension(&self.layout.format));
        self.number += 1;
        let path = format!("{folder}{name}");
        let own = names::manifests(&self.layout.root, &self.open.writer);
        let encoder = file_encoder(&self.layout.format, &self.open.schema)?;
        let staging = self.storage.create(&path, &own, &self.open.health).await?;
        Ok(OpenFile { path, encoder, staging, rows: 0, bytes: 0 })
    }

    /// Rows `rows` of `batch` into the file of `folder`.
    async fn add(&mut self, folder: String, batch: &Batch, rows: &UInt32Array) -> Result<(), ConnectorError> {
        let mut file = match self.files.remove(&folder) {
            Some(file) => file,
            None => self.create(&folder).await?,
        };
        let taken;
        let records = if rows.len() == batch.num_rows() {
            &batch.records
        } else {
            taken = take_record_batch(&batch.records, rows).map_err(|error| internal("take the rows of a partition", error))?;
            &taken
        };
        let refused = encode(file.encoder.as_mut(), records, 0);
        file.rows += (records.num_rows() - refused.len()) as u64;
        for (row, error) in refused {
            self.rejected.push(refuse(batch, rows.value(row) as usize, error));
        }
        let bytes = file.encoder.take();
        file.stage(bytes).await?;
        if file.encoder.estimated_bytes() >= self.layout.roll_bytes {
            return self.finish(file).await;
        }
        self.files.insert(folder, file);
        self.close_some().await
    }

    /// Closes the largest files while there are too many or they hold too much.
    async fn close_some(&mut self) -> Result<(), ConnectorError> {
        loop {
            let buffered: u64 = self.files.values().map(OpenFile::buffered).sum();
            if self.files.len() <= MAX_OPEN && buffered <= self.layout.buffer_bytes {
                return Ok(());
            }
            let Some(largest) = self.files.iter().max_by_key(|(_, file)| file.buffered()).map(|(folder, _)| folder.clone()) else {
                return Ok(());
            };
            if let Some(file) = self.files.remove(&largest) {
                self.finish(file).await?;
            }
        }
    }

    async fn finish(&mut self, mut file: OpenFile) -> Result<(), ConnectorError> {
        if file.rows == 0 {
            file.staging.abort().await;
            return Ok(());
        }
        let rest = file.encoder.finish().map_err(|error| internal("end a file", error))?;
        file.stage(rest).await?;
        let staged = file.staging.finish().await?;
        self.finished.push(Committable { path: file.path, rows: file.rows, bytes: file.bytes, staged });
        Ok(())
    }
}

#[async_trait]
impl SinkWriter for PartitionedWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        let parts = self.layout.template.partition(&batch.records, self.open.event_time.as_deref());
        for (folder, rows) in parts {
            self.add(folder, &batch, &rows).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        for file in std::mem::take(&mut self.files).into_values() {
            self.finish(file).await?;
        }
        self.epoch = epoch + 1;
        self.number = 0;
        let committables = std::mem::take(&mut self.finished)
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()
            .map_err(|error| internal("describe a file", error))?;
        Ok(Prepared { committables, rejected: std::mem::take(&mut self.rejected) })
    }

    async fn close(&mut self) {
        for mut file in std::mem::take(&mut self.files).into_values() {
            file.staging.abort().await;
        }
        for file in std::mem::take(&mut self.finished) {
            self.storage.discard(&file).await;
        }
    }
}

/// Makes the files of an epoch visible, then writes its manifest.
pub(crate) async fn commit(storage: &dyn Storage, root: &str, commit: Commit<'_>) -> Result<(), ConnectorError> {
    let files: Vec<Committable> =
        commit.committables.iter().map(Committable::deserialize).collect::<Result<_, _>>().map_err(|error| {
            ConnectorError::new(ErrorReason::Corrupt, "an epoch record names a file in an unknown form").caused_by(error)
        })?;
    let publishing: Vec<_> = files.iter().map(|file| storage.publish(file, commit.health)).collect();
    futures::stream::iter(publishing).buffer_unordered(COMMITS_AT_ONCE).try_collect::<Vec<()>>().await?;
    let manifest = Manifest::of(commit.writer, commit.epoch, &files);
    let body = serde_json::to_vec(&manifest).map_err(|error| internal("write a manifest", error))?;
    storage.put(&names::manifest(root, commit.writer, commit.epoch), body.into(), commit.health).await
}

/// Encodes what can be encoded; returns the rows that cannot, with why. `offset` is the number of the first row.
fn encode(encoder: &mut dyn FileEncoder, records: &RecordBatch, offset: usize) -> Vec<(usize, String)> {
    let rows = records.num_rows();
    match encoder.write(records) {
        Ok(()) => Vec::new(),
        Err(error) if rows <= 1 => (0..rows).map(|_| (offset, error.to_string())).collect(),
        Err(_) => {
            let half = rows / 2;
            let mut refused = encode(encoder, &records.slice(0, half), offset);
            refused.extend(encode(encoder, &records.slice(half, rows - half), offset + half));
            refused
        }
    }
}

/// Row `row` of `batch` as a rejected record, with the row as JSON if it can be.
fn refuse(batch: &Batch, row: usize, error: String) -> Rejected {
    let mut json = Vec::new();
    let encoded = RowEncoder::new(&batch.records.schema())
        .ok()
        .and_then(|mut encoder| encoder.encode(&batch.records.slice(row, 1), &mut json, &mut Vec::new()).ok());
    if encoded.is_none() {
        json.clear();
    }
    let payload_bytes = json.len() as u64;
    json.truncate(PAYLOAD_CAP);
    Rejected {
        origin: batch.origin.clone(),
        ordinal: batch.ordinals.value(row),
        stage: RejectStage::Sink,
        code: RejectCode::RefusedBySink,
        error,
        payload: json.into(),
        payload_bytes,
        attempts: 1,
    }
}

fn internal(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> ConnectorError {
    ConnectorError::new(ErrorReason::Internal, format!("cannot {doing}: {error}")).caused_by(error)
}
