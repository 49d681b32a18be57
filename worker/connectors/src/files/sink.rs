//! The `files` sink: what it is configured to write, over [`Directory`]. The writing is `objects::writer`'s.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::connectors::files;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::ProbeResult;
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::{Commit, OpenSink, Sink, SinkWriter};

use super::storage::Directory;
use super::watch::io_error;
use crate::context::Context;
use crate::objects::names;
use crate::objects::writer::{Layout, PartitionedWriter, commit};

/// A directory that is written.
#[derive(Debug)]
pub struct FilesSink {
    directory: Arc<Directory>,
    layout: Arc<Layout>,
}

impl FilesSink {
    /// A sink for `options`. Opens nothing.
    ///
    /// # Errors
    /// `Invalid` when the template cannot be one.
    pub fn new(options: &files::FilesSink, context: &Context) -> Result<Self, ConnectorError> {
        let mut prefix = options.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            // The template names folders.
            prefix.push('/');
        }
        let layout = Layout::new(&options.format, &prefix, options.roll.as_ref(), context)?;
        Ok(Self { directory: Arc::new(Directory { path: PathBuf::from(&options.path) }), layout: Arc::new(layout) })
    }
}

#[async_trait]
impl Sink for FilesSink {
    fn accepts(&self, schema: &SchemaRef, event_time: Option<&str>) -> Result<(), ConnectorError> {
        self.layout.accepts(schema, event_time)
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (
            Guarantee::ExactlyOnce,
            "for readers of the manifests, which name each file once and only after its epoch is durable; readers of paths never see a partial file",
        )
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let own = names::manifests(&self.layout.root, &open.writer);
        self.directory.remove_leftovers(&own, open.writer.generation).await?;
        let storage = Arc::clone(&self.directory);
        Ok(Box::new(PartitionedWriter::new(Arc::clone(&self.layout), storage, open)))
    }

    async fn commit(&self, epoch: Commit<'_>) -> Result<(), ConnectorError> {
        commit(self.directory.as_ref(), &self.layout.root, epoch).await
    }

    async fn probe(&self) -> ProbeResult {
        // The directory is made when it is first written, so the nearest folder that is there is asked.
        let path = &self.directory.path;
        let nearest = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(path).to_owned();
        let shown = nearest.display().to_string();
        match tokio::task::spawn_blocking(move || tempfile_in(&nearest)).await {
            Ok(Ok(())) => ProbeResult::Ok { detail: format!("a file could be made in {shown}") },
            Ok(Err(error)) => {
                let error = io_error(&format!("make a file in {shown}"), error);
                ProbeResult::Failed { reason: error.reason, message: error.message }
            }
            Err(error) => ProbeResult::Failed { reason: millrace_crds::report::ErrorReason::Internal, message: error.to_string() },
        }
    }
}

/// Makes a file that no source would read, and removes it.
fn tempfile_in(folder: &std::path::Path) -> std::io::Result<()> {
    let path = folder.join(format!(".millrace-probe-{:016x}.tmp", rand::random::<u64>()));
    std::fs::File::create_new(&path)?;
    std::fs::remove_file(path)
}
