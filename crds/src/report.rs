//! What workers tell the operator and what it answers. Plain data over HTTP and in termination messages; nothing is decided here.
//!
//! ```text
//!  worker ── Report: every two seconds, at once on a change ──▶ operator ── Assignment ──▶ worker
//!         ── Poll: waits ───────────────────────────────────▶          ── Polled: the assignment is another now: report
//! ```
//!
//! Only reports are answered with an assignment, so that what a worker was told and what it says it holds have one order. The poll makes it ask at once when
//! others have let go of something, and its connection, which breaks when the worker's process dies, lets the operator hear of that at once. Either side may lack it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::delivery::Guarantee;

/// Version of [`Report`], [`Assignment`] and [`CheckOutcome`]; both sides ignore fields they do not know.
pub const REPORT_VERSION: u32 = 1;

/// Path of the operator's endpoint that takes a [`Report`] (POST, JSON) and answers with an [`Assignment`].
pub const REPORT_PATH: &str = "/v1/report";

/// Path of the operator's endpoint that takes a [`Poll`] (POST, JSON) and answers with a [`Polled`], as late as it can. Operators of before it answer 404.
pub const POLL_PATH: &str = "/v1/poll";

/// After so many seconds at the latest a [`Poll`] is answered.
pub const POLL_SECONDS: u64 = 25;

/// Audience of the service-account token that a worker sends as its bearer token.
pub const TOKEN_AUDIENCE: &str = "millrace-operator";

/// The input that the partitions of an exchange are splits of.
pub const EXCHANGE: &str = "*exchange";

/// What one worker has seen. Sent every two seconds, and at once on a change or when a [`Poll`] says so.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Namespace of the Pipeline; must be that of the pod whose token is sent.
    pub namespace: String,
    /// Name of the Pipeline.
    pub pipeline: String,
    /// UID of the Pipeline.
    pub pipeline_uid: String,
    /// Name of the pod.
    pub worker: String,
    /// Revision of the Job it runs.
    pub revision: String,
    /// Grows with every report of this worker process.
    pub sequence: u64,
    /// What the worker is doing.
    pub phase: WorkerPhase,
    /// What became of planning.
    pub check: CheckOutcome,
    /// Splits found, from the worker told to enumerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<InputSplits>,
    /// Tasks it holds or is letting go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskReport>,
    /// What is wrong with the worker as a whole, before it can hold any task: the checkpoint store cannot be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
    /// What probes of Sources and Sinks have seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeReport>,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum WorkerPhase {
    /// Planning and connecting.
    Starting,
    /// Running its tasks.
    Running,
    /// Closing its tasks after a signal.
    Draining,
    /// Nothing more will come: every input has ended.
    Completed,
    /// Cannot run; `check` or the tasks say why.
    Failed,
}

/// What `millrace check` found. Also the termination message of a check pod, as JSON.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckOutcome {
    /// Revision of the Job that was checked.
    pub revision: String,
    /// Why it cannot run; empty if it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// The plan, unless there are problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanReport>,
    /// What became of the tests, from a check pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestsReport>,
    /// What becomes of the state of the revision that runs, from a check pod that was told what that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateReport>,
}

/// What became of the tests of a Job.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestsReport {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// The first that failed: its name, and what differs. May be cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
}

/// What becomes of state.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// Operators whose state is taken over.
    pub kept: u32,
    /// Operators that start with no state, because there was none.
    pub started: u32,
    /// Operators whose state is lost.
    pub lost: u32,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_lost: Vec<LostState>,
    /// Whether not even the positions of the inputs can be taken over, because only one of the plans keeps state in one task for
    /// all splits.
    #[serde(default)]
    pub positions_lost: bool,
}

/// An operator whose state is lost.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LostState {
    /// Its id: step, kind, ordinal.
    pub operator: String,
    /// Why: `OperatorRemoved` or `KeyChanged`.
    pub reason: String,
}

/// One reason why a Job cannot run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// CamelCase, a closed set: `PlanInvalid`, `UnknownColumn`, `UnknownTable`, `Cycle`, `NotSupported`, `SyntaxError`, `SchemaInvalid`, `TemplateInvalid`, `TypeMismatch`.
    pub reason: String,
    /// Where: `step per_client, line 3, column 14`, `output search`, `source edge-logs`.
    pub location: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The plan in brief.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// Hash of the plan.
    pub hash: String,
    /// Operators in it.
    pub operators: u32,
    /// How each input is shared among workers.
    pub inputs: Vec<InputPlan>,
    /// What each output guarantees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputPlan>,
    /// What the state of each stateful operator is made of, as 16 hex digits, by operator id. Absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<BTreeMap<String, String>>,
    /// Why one task reads all splits of all inputs, for people; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<String>,
}

/// What one output guarantees.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputPlan {
    /// Name of the output.
    pub output: String,
    /// What holds after any number of crashes.
    pub guarantee: Guarantee,
    /// Why it is that, and for whom it holds.
    pub reason: String,
}

/// How one input is shared among workers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputPlan {
    /// Name of the input.
    pub input: String,
    /// Who may read it.
    pub distribution: Distribution,
}

/// How an input is shared among workers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Distribution {
    /// A queue: each worker has a task of its own and they compete. Splits are named `0`, `1`, … up to the number of workers.
    Competing,
    /// Splits with one reader each, found by enumeration.
    Partitioned,
    /// The plan keeps state that splits cannot have of their own and is not shared: one worker has one task, [`TaskRef::whole`], that reads all splits of all inputs.
    Whole,
}

/// Splits of one input.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputSplits {
    /// Name of the input.
    pub input: String,
    /// Partitioned: all splits. Competing: the splits that still hold unfinished work.
    pub splits: Vec<String>,
}

/// One task as its worker sees it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// Input and split: the task's identity.
    pub task: TaskRef,
    /// What it is doing.
    pub phase: TaskPhase,
    /// Its generation, once claimed.
    #[serde(default)]
    pub generation: u64,
    /// Last durable and committed epoch.
    #[serde(default)]
    pub epoch: u64,
    /// When that was, milliseconds since 1970; an epoch without progress counts as closed when it was found unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_at_millis: Option<i64>,
    /// Records taken in since the worker started.
    #[serde(default)]
    pub records_in: u64,
    /// Records handed to sinks, summed over outputs.
    #[serde(default)]
    pub records_out: u64,
    /// Records dead-lettered.
    #[serde(default)]
    pub dead_lettered: u64,
    /// Records dropped by policy.
    #[serde(default)]
    pub dropped: u64,
    /// Uncompressed bytes taken in.
    #[serde(default)]
    pub bytes_in: u64,
    /// Records (queue: announcements) not yet taken in, where the source can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Age of the oldest of them, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// True when the source has nothing to give right now.
    #[serde(default)]
    pub idle: bool,
    /// Event time up to which the input is believed complete, milliseconds since 1970; only of tasks that keep state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_millis: Option<i64>,
    /// Bytes of memory that the state takes, about; only of tasks that keep state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
    /// Bytes of the worker's disk that state takes which has no room in memory; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spilled_bytes: Option<u64>,
    /// How often the task has failed since the worker started, and was opened again at its last epoch; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u64>,
    /// What is wrong right now; empty when nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

/// A task by input and split.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRef {
    /// Name of the input.
    pub input: String,
    /// Name of the split.
    pub split: String,
}

impl TaskRef {
    /// The task that reads all splits of all inputs of a Pipeline. No input can have its name.
    #[must_use]
    pub fn whole() -> Self {
        Self { input: "*".to_owned(), split: "all".to_owned() }
    }

    /// The task that keeps the state of one partition of the exchange. No input can have its name.
    #[must_use]
    pub fn exchange(partition: u32) -> Self {
        Self { input: EXCHANGE.to_owned(), split: partition.to_string() }
    }

    /// Whether this is one of [`TaskRef::exchange`].
    #[must_use]
    pub fn is_exchange(&self) -> bool {
        self.input == EXCHANGE
    }

    /// Whether this is [`TaskRef::whole`].
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.input == "*"
    }
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TaskPhase {
    /// Restoring its last epoch and claiming its generation.
    Claiming,
    /// Running.
    Running,
    /// Finishing what it holds; takes nothing new.
    Draining,
    /// Everything it held is finished and durable (drained, or the input has ended).
    Finished,
    /// Cannot run; `troubles` says why. It is tried again with back-off.
    Failed,
    /// Another worker has claimed it.
    Fenced,
}

/// Something that is wrong right now.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// `source`, `sink`, `state` or `task`.
    pub part: TroublePart,
    /// Name of the Source or Sink object; the state location; the task.
    pub name: String,
    /// CamelCase, a closed set: see [`ErrorReason`].
    pub reason: ErrorReason,
    /// What is wrong.
    pub message: String,
    /// Since when, milliseconds since 1970.
    pub since_millis: i64,
}

/// Which part is in trouble.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TroublePart {
    /// A Source.
    Source,
    /// A Sink.
    Sink,
    /// The checkpoint store.
    State,
    /// The task itself.
    Task,
}

/// Why something at the edge failed; the closed set that metrics, Events and conditions use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ErrorReason {
    /// No connection: name, network, refused, TLS, time-out.
    Unreachable,
    /// The system answers that it does not know us or that we may not.
    AccessDenied,
    /// What we were told to use does not exist.
    NotFound,
    /// The system asks us to slow down.
    Throttled,
    /// The system answers with an error of its own (5xx).
    ServerError,
    /// The request or configuration is wrong; retrying will not help.
    Invalid,
    /// A Secret or one of its keys is missing.
    SecretMissing,
    /// Records at the position are gone.
    DataLost,
    /// A record cannot be decoded or was refused, and the policy says to stop.
    PoisonRecord,
    /// Stored data is damaged.
    Corrupt,
    /// A defect of ours.
    Internal,
}

/// What a probe of one Source or Sink has seen.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    /// `Source` or `Sink`.
    pub kind: TroublePart,
    /// Name of the object.
    pub name: String,
    /// What was seen.
    pub result: ProbeResult,
    /// When, milliseconds since 1970.
    pub at_millis: i64,
}

/// What a probe saw.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "result")]
pub enum ProbeResult {
    /// Connected, and allowed to do what will be done.
    Ok {
        /// What was asked and answered.
        detail: String,
    },
    /// Failed.
    Failed {
        /// Why.
        reason: ErrorReason,
        /// What the system said.
        message: String,
    },
    /// This connector cannot be probed.
    Unsupported,
}

/// What a worker should hold. The answer to every [`Report`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Tasks to hold; whatever else it holds it closes (a last epoch) and lets go.
    pub tasks: Vec<TaskRef>,
    /// Tasks to finish: take nothing new, finish what is held, report Finished. A subset of `tasks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<TaskRef>,
    /// Whether this worker is to enumerate splits.
    #[serde(default)]
    pub enumerate: bool,
}

/// Waits until the assignment of a worker may be another than the one that it was told. Sent again as soon as it is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Namespace of the Pipeline; must be that of the pod whose token is sent.
    pub namespace: String,
    /// Name of the Pipeline.
    pub pipeline: String,
    /// UID of the Pipeline.
    pub pipeline_uid: String,
    /// Name of the pod.
    pub worker: String,
    /// [`Report::sequence`] of the last report that was answered.
    pub sequence: u64,
}

/// The answer to a [`Poll`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Polled {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Whether to report at once: the answer to that report may be another assignment, or the operator does not know the report that the poll speaks of.
    pub changed: bool,
}
