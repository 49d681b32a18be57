//! What a task is given. Data only; nothing runs here.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millrace_crds::report::{Distribution, TaskRef};
use object_store::ObjectStore;
use object_store::path::Path;

use super::stage::Stage;
use super::tier::SpillSpace;
use crate::batch::Rejected;
use crate::checkpoint::{Clock, TaskId};
use crate::plan::Plan;
use crate::sink::Sink;
use crate::source::Source;

/// One task: splits of inputs, through the plan, to the outputs that the inputs reach.
#[derive(Clone)]
pub struct TaskConfig {
    /// UID of the Pipeline: checkpoints are kept under it.
    pub pipeline_uid: String,
    /// Name of the Pipeline, for envelopes.
    pub pipeline: String,
    /// Which task this is: a split of an input, [`TaskRef::whole`], or a partition of an exchange ([`TaskRef::exchange`]).
    pub task: TaskRef,
    /// What it reads.
    pub inputs: Vec<InputBinding>,
    /// The compiled plan.
    pub plan: Arc<Plan>,
    /// Which part of it the task runs.
    pub stage: Stage,
    /// Outputs, in the order of the plan's.
    pub outputs: Vec<OutputBinding>,
    /// Distinct dead-letter sinks, named by [`OutputBinding::dead_letter`].
    pub dead_letters: Vec<DeadLetterBinding>,
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
    /// Bytes between readers and writers.
    pub in_flight_bytes: usize,
    /// In how many lanes the plan runs, if its rows can be shared by key; 1 for none.
    pub lanes: u16,
    /// Rows that a lane takes on the driver's thread, if they are no more and it rests: waking a thread of its own takes longer than a few. 0 for none.
    pub at_once: usize,
    /// Bytes of state in memory beyond which the task fails.
    pub state_bytes: usize,
    /// Where state goes that would take more, if the plan can be shared by key; `None` if it may go nowhere.
    pub spill: Option<Arc<SpillSpace>>,
    /// Whether state that does not fit the plan is dropped, so that its operators start with none. Else the task refuses to start.
    pub may_drop_state: bool,
    /// A split that gives nothing for so long no longer holds the watermark back.
    pub idle_timeout: Duration,
    /// How long closing may take before it is given up without commit.
    pub drain_budget: Duration,
}

impl TaskConfig {
    /// Path-safe name of the task, from input and split.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        Self::id_of(&self.task)
    }

    /// The same of any task.
    #[must_use]
    pub fn id_of(task: &TaskRef) -> TaskId {
        TaskId::encoded(&format!("{}/{}", task.input, task.split))
    }

    /// Dead-letter sinks that a record of an input goes to when it cannot be decoded: those of all outputs that the input reaches.
    #[must_use]
    pub fn input_dead_letters(&self, input: &str) -> Vec<usize> {
        let reached = self.outputs.iter().zip(self.plan.outputs()).filter(|(_, plan)| plan.inputs.iter().any(|known| known == input));
        let mut indexes: Vec<usize> = reached.filter_map(|(output, _)| output.dead_letter).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }
}

/// One input that a task reads.
#[derive(Clone)]
pub struct InputBinding {
    /// Its table name.
    pub name: String,
    /// Its source.
    pub source: Arc<dyn Source>,
    /// Name of the Source object, for reports.
    pub source_name: String,
    /// Event-time column.
    pub event_time: Option<String>,
    /// By how much a record may come after one with a later time.
    pub max_delay: Duration,
    /// Which splits the task reads.
    pub splits: Splits,
}

impl InputBinding {
    /// Whether it is a queue.
    #[must_use]
    pub fn is_queue(&self) -> bool {
        self.source.distribution() == Distribution::Competing
    }
}

/// Which splits of an input a task reads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Splits {
    /// This one.
    One(String),
    /// All there are and those that appear. Of a queue: `0`, and what others have left unfinished.
    All,
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
