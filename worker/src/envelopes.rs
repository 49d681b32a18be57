//! Envelopes of dead letters, as the formats make them.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millrace_connectors::formats::dead_letter;
use millrace_engine::batch::Rejected;
use millrace_engine::runtime::Envelopes;

/// The one kind of envelope there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeadLetterEnvelopes;

impl Envelopes for DeadLetterEnvelopes {
    fn schema(&self) -> SchemaRef {
        dead_letter::schema()
    }

    fn encode(&self, rejected: &[Rejected], pipeline: &str, task: &str, generation: u64) -> Result<RecordBatch, String> {
        Ok(dead_letter::encode(rejected, pipeline, task, generation))
    }
}
