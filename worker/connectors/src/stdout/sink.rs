//! The stdout sink: batches as JSON lines or tables, each written at once under the lock of standard output. It never buffers between batches.
//!
//! Rows of batches that revise earlier rows start with what they say: `+I`, `-U`, `+U` or `-D`.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::connectors::stdout::{StdoutLayout, StdoutSink as Options};
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::batch::Batch;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Prepared, Sink, SinkWriter};

use super::table;
use crate::formats::rows::RowEncoder;

/// Prints rows.
#[derive(Clone, Debug)]
pub struct StdoutSink {
    layout: StdoutLayout,
}

impl StdoutSink {
    /// A sink with `options`.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { layout: options.layout }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn accepts(&self, schema: &SchemaRef, _event_time: Option<&str>) -> Result<(), ConnectorError> {
        match self.layout {
            StdoutLayout::JsonLines => RowEncoder::new(schema).map(drop),
            StdoutLayout::Table => Ok(()),
        }
    }

    fn accepts_changelog(&self, _changelog: &Changelog) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (Guarantee::AtLeastOnce, "what was printed cannot be taken back")
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let printer = match self.layout {
            StdoutLayout::JsonLines => Printer::Lines(Box::new(RowEncoder::new(&open.schema)?)),
            StdoutLayout::Table => Printer::Tables,
        };
        Ok(Box::new(StdoutWriter { printer }))
    }

    async fn commit(&self, _commit: Commit<'_>) -> Result<(), ConnectorError> {
        // What was printed is visible.
        Ok(())
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

/// Rows to text.
pub(super) enum Printer {
    /// One JSON object a row.
    Lines(Box<RowEncoder>),
    /// A table a batch.
    Tables,
}

impl Printer {
    /// The text of one batch, ending with a line feed.
    pub(super) fn print(&mut self, batch: &Batch) -> Result<Vec<u8>, ConnectorError> {
        let unprintable =
            |error: &dyn std::fmt::Display| ConnectorError::new(ErrorReason::Internal, format!("rows cannot be printed: {error}"));
        match self {
            Self::Tables => {
                table::format(&batch.records, batch.kinds.as_ref()).map(String::into_bytes).map_err(|error| unprintable(&error))
            }
            Self::Lines(encoder) => {
                let mut text = Vec::new();
                let Some(kinds) = &batch.kinds else {
                    encoder.encode_lines(&batch.records, &mut text).map_err(|error| unprintable(&error))?;
                    return Ok(text);
                };
                let (mut rows, mut ends) = (Vec::new(), Vec::new());
                encoder.encode(&batch.records, &mut rows, &mut ends).map_err(|error| unprintable(&error))?;
                let mut start = 0;
                for (kind, end) in kinds.iter().zip(ends) {
                    text.extend_from_slice(kind.as_str().as_bytes());
                    text.push(b' ');
                    text.extend_from_slice(&rows[start..end]);
                    text.push(b'\n');
                    start = end;
                }
                Ok(text)
            }
        }
    }
}

struct StdoutWriter {
    printer: Printer,
}

#[async_trait]
impl SinkWriter for StdoutWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let text = self.printer.print(&batch)?;
        // A terminal or a pipe may make us wait.
        let printed = tokio::task::spawn_blocking(move || {
            let mut output = io::stdout().lock();
            output.write_all(&text)?;
            output.flush()
        });
        match printed.await {
            Ok(printed) => printed.map_err(failed),
            Err(error) => Err(ConnectorError::new(ErrorReason::Internal, "printing was not finished").caused_by(error)),
        }
    }

    async fn prepare(&mut self, _epoch: u64) -> Result<Prepared, ConnectorError> {
        Ok(Prepared::default())
    }

    async fn close(&mut self) {}
}

/// Rows that nobody gets are not written: the task stops rather than losing them unseen.
fn failed(error: io::Error) -> ConnectorError {
    let message = match error.kind() {
        io::ErrorKind::BrokenPipe => "standard output is closed: whoever read it has gone away",
        _ => "standard output cannot be written",
    };
    ConnectorError::new(ErrorReason::Unreachable, message).caused_by(error)
}
