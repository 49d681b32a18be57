//! The `s3` sink: what it is configured to write, over [`Bucket`]. The writing is `objects::writer`'s.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::connectors::s3;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::ProbeResult;
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::{Commit, OpenSink, Sink, SinkWriter};

use super::upload::Bucket;
use crate::aws::S3Access;
use crate::context::Context;
use crate::objects::writer::{Layout, PartitionedWriter, commit};

/// A bucket that is written.
#[derive(Debug)]
pub struct S3Sink {
    bucket: Arc<Bucket>,
    layout: Arc<Layout>,
}

impl S3Sink {
    /// A sink for `options`. Opens nothing.
    ///
    /// # Errors
    /// `Invalid` when the template cannot be one.
    pub fn new(options: &s3::S3Sink, context: &Context) -> Result<Self, ConnectorError> {
        Self::over(Bucket::new(&options.bucket, S3Access::new(&options.aws, None, context)), options, context)
    }

    /// The same over any bucket.
    pub(super) fn over(bucket: Bucket, options: &s3::S3Sink, context: &Context) -> Result<Self, ConnectorError> {
        let prefix = options.prefix.as_deref().unwrap_or_default();
        let layout = Layout::new(&options.format, prefix, options.roll.as_ref(), context)?;
        Ok(Self { bucket: Arc::new(bucket), layout: Arc::new(layout) })
    }
}

#[async_trait]
impl Sink for S3Sink {
    fn accepts(&self, schema: &SchemaRef, event_time: Option<&str>) -> Result<(), ConnectorError> {
        self.layout.accepts(schema, event_time)
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (
            Guarantee::ExactlyOnce,
            "for readers of the manifests, which name each object once and only after its epoch is durable; readers of paths never see a partial object",
        )
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let storage = Arc::clone(&self.bucket);
        Ok(Box::new(PartitionedWriter::new(Arc::clone(&self.layout), storage, open)))
    }

    async fn commit(&self, epoch: Commit<'_>) -> Result<(), ConnectorError> {
        commit(self.bucket.as_ref(), &self.layout.root, epoch).await
    }

    async fn probe(&self) -> ProbeResult {
        match self.bucket.probe(&format!("{}_millrace/probe", self.layout.root)).await {
            Ok(()) => ProbeResult::Ok { detail: format!("an upload to bucket {} could be started", self.bucket.name) },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}
