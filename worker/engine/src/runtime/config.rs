//! What a task is given. Data only; nothing runs here.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::batch::Rejected;
use crate::checkpoint::{Clock, TaskId, position_key};
use crate::plan::Plan;
use crate::sink::Sink;
use crate::source::Source;

/// One task: a split of one input, through the plan, to the outputs that the input reaches.
#[derive(Clone)]
pub struct TaskConfig {
    /// UID of the Pipeline: checkpoints are kept under it.
    pub pipeline_uid: String,
    /// Name of the Pipeline, for envelopes.
    pub pipeline: String,
    /// Input that the task reads.
    pub input: String,
    /// Split of it.
    pub split: String,
    /// The input's source, and the name of its Source object.
    pub source: Arc<dyn Source>,
    /// Name of the Source object, for reports.
    pub source_name: String,
    /// The compiled plan.
    pub plan: Arc<Plan>,
    /// Outputs, in the order of the plan's.
    pub outputs: Vec<OutputBinding>,
    /// Distinct dead-letter sinks, named by [`OutputBinding::dead_letter`].
    pub dead_letters: Vec<DeadLetterBinding>,
    /// Event-time column of the input.
    pub event_time: Option<String>,
    /// What happens to bad records.
    pub on_poison: OnPoison,
    /// How bad records are put into rows.
    pub envelopes: Arc<dyn Envelopes>,
    /// Checkpoint store, and the folder in it that holds all pipelines.
    pub store: Arc<dyn ObjectStore>,
    /// See `store`.
    pub base: Path,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Time between epochs.
    pub interval: Duration,
    /// Epochs kept.
    pub retained: u32,
    /// Bytes between reader and writers.
    pub in_flight_bytes: usize,
    /// How long closing may take before it is given up without commit.
    pub drain_budget: Duration,
}

impl TaskConfig {
    /// Path-safe name of the task, from input and split.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        TaskId::encoded(&format!("{}/{}", self.input, self.split))
    }

    /// Key of the task's position in epoch records.
    #[must_use]
    pub fn position_key(&self) -> String {
        position_key(&self.input, &self.split)
    }

    /// Dead-letter sinks that a record of this input goes to when it cannot be decoded or transformed: those of all outputs that the input reaches.
    #[must_use]
    pub fn input_dead_letters(&self) -> Vec<usize> {
        let mut indexes: Vec<usize> = self.reached_outputs().filter_map(|(_, output)| output.dead_letter).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    /// Outputs that the input reaches, with their index in the plan.
    pub fn reached_outputs(&self) -> impl Iterator<Item = (usize, &OutputBinding)> {
        let plan = self.plan.outputs();
        self.outputs.iter().enumerate().filter(|(index, _)| plan[*index].inputs.contains(&self.input))
    }
}

/// One output and where it goes.
#[derive(Clone)]
pub struct OutputBinding {
    /// Name of the output.
    pub name: String,
    /// Its sink.
    pub sink: Arc<dyn Sink>,
    /// Name of the Sink object, for reports.
    pub sink_name: String,
    /// Index into [`TaskConfig::dead_letters`].
    pub dead_letter: Option<usize>,
}

/// One dead-letter sink.
#[derive(Clone)]
pub struct DeadLetterBinding {
    /// Its sink.
    pub sink: Arc<dyn Sink>,
    /// Name of the Sink object: also the name under which it writes, as `dead-letters.<name>`.
    pub sink_name: String,
}

impl DeadLetterBinding {
    /// Name of the writer in file names, manifests and epoch records. No output can have it: outputs have no dots.
    #[must_use]
    pub fn writer_name(&self) -> String {
        format!("dead-letters.{}", self.sink_name)
    }
}

/// What happens to bad records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnPoison {
    /// They are written to the dead-letter sinks; where there is none, the task fails.
    DeadLetter,
    /// They are counted.
    Drop,
    /// The task fails before them.
    Fail,
}

/// Puts rejected records into rows. The rows MUST be the same in every replay.
pub trait Envelopes: Send + Sync {
    /// Columns of an envelope.
    fn schema(&self) -> SchemaRef;

    /// One row for each of `rejected`, in order.
    ///
    /// # Errors
    /// Text for people, if rows cannot be made.
    fn encode(&self, rejected: &[Rejected], pipeline: &str, task: &str, generation: u64) -> Result<RecordBatch, String>;
}

/// What a task should be doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Control {
    /// Read on.
    #[default]
    Run,
    /// Take nothing new, finish what is held.
    Drain,
    /// Close a last epoch now and let go.
    Close,
}
