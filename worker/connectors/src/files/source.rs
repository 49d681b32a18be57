//! The `files` source: a directory is one split. It reads nothing itself.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::SourceSpec;
use millrace_crds::connectors::files::{self, FilesMode};
use millrace_crds::report::{Distribution, ErrorReason, ProbeResult};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{OpenSplit, Shared, Source, SplitReader};

use super::reader::FilesReader;
use super::scan::Selection;
use super::watch::io_error;
use crate::context::Context;
use crate::formats::table_schema;
use crate::objects::stream::Reading;

/// Name of the one split.
const SPLIT: &str = "directory";
/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;

/// A directory that is read.
#[derive(Debug)]
pub struct FilesSource {
    selection: Selection,
    mode: FilesMode,
    /// Without a projection.
    reading: Reading,
}

impl FilesSource {
    /// A source for `options`. Opens nothing.
    ///
    /// # Errors
    /// `Invalid` when the format needs a schema and has none, or the glob cannot be one.
    pub fn new(options: &files::FilesSource, spec: &SourceSpec, context: &Context) -> Result<Self, ConnectorError> {
        let selection = Selection::new(PathBuf::from(&options.path), options.include.as_deref()).map_err(|error| {
            let message = format!("include \"{}\" is no usable glob", options.include.as_deref().unwrap_or_default());
            ConnectorError::new(ErrorReason::Invalid, message).caused_by(error)
        })?;
        let reading = Reading {
            format: spec.format.clone(),
            table: table_schema(&spec.format, spec.schema.as_ref())?,
            projection: Vec::new(),
            compression: options.compression,
            limits: context.limits,
            chunk: CHUNK,
        };
        Ok(Self { selection, mode: options.mode, reading })
    }
}

#[async_trait]
impl Source for FilesSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.reading.table)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Partitioned
    }

    async fn splits(&self, _shared: &Shared) -> Result<Vec<String>, ConnectorError> {
        Ok(vec![SPLIT.to_owned()])
    }

    async fn open(&self, mut open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        let reading = self.reading.of(std::mem::take(&mut open.projection));
        Ok(Box::new(FilesReader::open(self.selection.clone(), self.mode, reading, open)?))
    }

    async fn probe(&self) -> ProbeResult {
        let selection = self.selection.clone();
        let shown = selection.directory.display().to_string();
        match tokio::task::spawn_blocking(move || selection.scan()).await {
            Ok(Ok(found)) => ProbeResult::Ok { detail: format!("directory {shown} can be listed; {} files to read", found.len()) },
            Ok(Err(error)) => {
                let error = io_error(&format!("list directory {shown}"), error);
                ProbeResult::Failed { reason: error.reason, message: error.message }
            }
            Err(error) => ProbeResult::Failed { reason: ErrorReason::Internal, message: error.to_string() },
        }
    }
}
