//! The blackhole sink. It never refuses a row and never waits.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::ProbeResult;
use millrace_engine::batch::Batch;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Prepared, Sink, SinkWriter};

/// Drops rows.
#[derive(Clone, Copy, Debug)]
pub struct BlackholeSink;

#[async_trait]
impl Sink for BlackholeSink {
    fn accepts(&self, _schema: &SchemaRef, _event_time: Option<&str>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn accepts_changelog(&self, _changelog: &Changelog) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (Guarantee::ExactlyOnce, "nothing is written, so nothing is ever seen twice")
    }

    async fn open(&self, _open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(BlackholeWriter))
    }

    async fn commit(&self, _commit: Commit<'_>) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

struct BlackholeWriter;

#[async_trait]
impl SinkWriter for BlackholeWriter {
    async fn write(&mut self, _batch: Batch) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn prepare(&mut self, _epoch: u64) -> Result<Prepared, ConnectorError> {
        Ok(Prepared::default())
    }

    async fn close(&mut self) {}
}
