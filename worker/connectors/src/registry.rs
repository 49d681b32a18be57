//! The one list of connectors: from a Source or Sink spec to the thing that runs it. No connection is opened here.

use std::sync::Arc;

use millrace_crds::report::ErrorReason;
use millrace_crds::sink::SinkConnector;
use millrace_crds::source::SourceConnector;
use millrace_crds::{SinkSpec, SourceSpec};
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::Sink;
use millrace_engine::source::Source;

use crate::context::Context;
use crate::{blackhole, files, kafka, opensearch, s3, stdout};

/// The source that `spec` describes.
///
/// # Errors
/// `Invalid` when the spec cannot work: no or several connector blocks, a format that needs a schema without one, an event-time column that does not exist.
pub fn source(spec: &SourceSpec, context: &Context) -> Result<Arc<dyn Source>, ConnectorError> {
    let connector = spec.connector().ok_or_else(|| one_block("source"))?;
    if spec.changelog.is_some() && !matches!(connector, SourceConnector::Kafka(_)) {
        return Err(ConnectorError::new(ErrorReason::Invalid, "changelog is for kafka, whose records have keys: remove it"));
    }
    Ok(match connector {
        SourceConnector::Files(options) => Arc::new(files::FilesSource::new(options, spec, context)?),
        SourceConnector::S3(options) => Arc::new(s3::S3Source::new(options, spec, context)?),
        SourceConnector::Kafka(options) => Arc::new(kafka::KafkaSource::new(options, spec, context)?),
    })
}

/// The sink that `spec` describes.
///
/// # Errors
/// `Invalid` when the spec cannot work: no or several connector blocks, a template that does not parse.
pub fn sink(spec: &SinkSpec, context: &Context) -> Result<Arc<dyn Sink>, ConnectorError> {
    Ok(match spec.connector().ok_or_else(|| one_block("sink"))? {
        SinkConnector::Files(options) => Arc::new(files::FilesSink::new(options, context)?),
        SinkConnector::S3(options) => Arc::new(s3::S3Sink::new(options, context)?),
        SinkConnector::OpenSearch(options) => Arc::new(opensearch::OpenSearchSink::new(options, context)?),
        SinkConnector::Kafka(options) => Arc::new(kafka::KafkaSink::new(options, context)?),
        SinkConnector::Stdout(options) => Arc::new(stdout::StdoutSink::new(options)),
        SinkConnector::Blackhole(_) => Arc::new(blackhole::BlackholeSink),
    })
}

fn one_block(kind: &str) -> ConnectorError {
    ConnectorError::new(ErrorReason::Invalid, format!("a {kind} needs exactly one connector block"))
}
