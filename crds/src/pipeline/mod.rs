//! `Pipeline`: inputs, SQL steps, outputs, and the policy they run under. What a query means is not known here.

mod exchange;
mod status;
mod test;
mod upgrade;
mod workload;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use exchange::{Exchange, KafkaExchange};
pub use status::{CheckpointStatus, EndStatus, LagStatus, PipelineStatus, PlanStatus, RevisionStatus, TestsStatus};
pub use test::{Expect, ExpectForm, ExpectOrder, Given, Row, Test};
pub use upgrade::{APPROVE_PLAN, StatePolicy, Upgrade};
pub use workload::{VolumeMount, Workload};

use crate::delivery::Delivery;
use crate::reference::ObjectRef;

/// A running query: records of Sources through SQL steps into Sinks.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "Pipeline",
    plural = "pipelines",
    shortname = "stp",
    category = "streams",
    namespaced,
    status = "PipelineStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.scale.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new("self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z][-a-z0-9]*$')").message("metadata.name names Deployment, Service and labels: 52 lower-case letters, digits and - at most, starting with a letter"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether records flow, or it is stopped on purpose."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is, or is not, ready."),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas", description = "Worker pods."),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag.records", description = "Records (for a queue, announcements) not yet taken in, rounded up."),
    printcolumn(name = "Checkpoint", type_ = "date", json_path = ".status.checkpoint.lastCompletedTime", description = "Time since the task that is furthest behind closed its last epoch."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since it was created."),
    printcolumn(name = "Lag Seconds", type_ = "integer", json_path = ".status.lag.seconds", priority = 1, description = "Age of the oldest record not yet taken in, rounded up."),
    printcolumn(name = "Guarantee", type_ = "string", json_path = ".status.delivery.effective", priority = 1, description = "What every output guarantees at least."),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision.current", priority = 1, description = "The revision that runs."),
    printcolumn(name = "DLQ", type_ = "integer", json_path = ".status.deadLettered", priority = 1, description = "Records dead-lettered, rounded up."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1, description = "What was seen.")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.steps) || self.steps.all(s, !self.inputs.exists(i, i.name == s.name))").message("a step has the name of an input: steps and inputs are tables of one query, rename one of them"),
    validation = Rule::new("self.outputs.all(o, self.inputs.exists(i, i.name == o.from) || (has(self.steps) && self.steps.exists(s, s.name == o.from)))").message("outputs[].from must name an input or a step"),
    validation = Rule::new("!has(self.errorPolicy) || !has(self.errorPolicy.onPoison) || self.errorPolicy.onPoison != 'DeadLetter' || self.outputs.exists(o, has(o.deadLetter))").message("errorPolicy.onPoison DeadLetter needs a deadLetter.sinkRef on at least one output"),
    validation = Rule::new("self.inputs.all(i, oldSelf.inputs.all(o, o.name != i.name || o.sourceRef.name == i.sourceRef.name))").message("inputs[].sourceRef is immutable, how far an input was read holds for its Source only: to read another Source from its start, name the input anew"),
    validation = Rule::new("(has(self.state) && has(self.state.location)) == (has(oldSelf.state) && has(oldSelf.state.location)) && (!has(self.state) || !has(self.state.location) || self.state.location == oldSelf.state.location)").message("state.location is immutable, it can be neither set nor removed later, checkpoints are kept there: create a Pipeline with another name"),
    validation = Rule::new("!has(self.state) || !has(self.state.location) || !self.state.location.startsWith('file://') || (has(self.workload) && has(self.workload.volumes) && self.workload.volumes.exists(v, has(v.persistentVolumeClaim) && (self.state.location + '/').startsWith('file://' + v.mountPath + '/')))").message("a file:// state.location must lie in a persistentVolumeClaim of workload.volumes, else checkpoints are lost with the pod"),
    validation = Rule::new("!has(self.exchange) || !has(oldSelf.exchange) || (self.exchange.kafka.partitions == oldSelf.exchange.kafka.partitions && has(self.exchange.kafka.topicPrefix) == has(oldSelf.exchange.kafka.topicPrefix) && (!has(self.exchange.kafka.topicPrefix) || self.exchange.kafka.topicPrefix == oldSelf.exchange.kafka.topicPrefix))").message("exchange.kafka.partitions and topicPrefix are immutable, state and positions are kept for each partition: create a Pipeline with another name"),
    validation = Rule::new("!has(self.tests) || self.tests.all(t, t.given.all(g, !has(g.input) || self.inputs.exists(i, i.name == g.input)) && t.expect.all(e, self.outputs.exists(o, o.name == e.output)))").message("tests[].given[].input must name an input, and tests[].expect[].output an output"),
)]
pub struct PipelineSpec {
    /// What is read. Steps and outputs name an input as a table.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub inputs: Vec<Input>,
    /// Queries, in any order; each reads inputs and other steps as tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub steps: Vec<Step>,
    /// What is written.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub outputs: Vec<Output>,
    /// Where checkpoints are kept, and for how long state is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// When the time of an input has passed, and what comes after it. It matters to steps that keep state: windows, aggregates, joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<EventTimePolicy>,
    /// How often an epoch is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// How many workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// `Running` (default), `Paused` (a last checkpoint, then no workers) or `Drained` (what is in flight is finished, then no workers).
    #[serde(default)]
    pub desired_state: DesiredState,
    /// What happens to records that cannot be decoded or that a sink refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_policy: Option<ErrorPolicy>,
    /// What is demanded of the outputs. What they do guarantee stands in `status.delivery`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Where rows of one key are brought together when several workers share a plan that keeps state. Without it, one worker does all its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// Bounds of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Service account of the workers, for example one with a cloud identity. Default: one is made for this Pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// How worker pods are scheduled and what they get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Logs of the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,
    /// What may become of the state when the Pipeline changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// Tests that must pass before a change replaces what runs, and before the first start. `millrace test` runs them too. A change of tests alone restarts nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tests: Vec<Test>,
}

/// One input: a Source under a table name. It keeps its Source: what was read is known by the name of the input.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Table name in SQL.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([a-z0-9_]*[a-z0-9])?$"))]
    pub name: String,
    /// The Source.
    pub source_ref: ObjectRef,
}

/// One query under a table name.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Table name in SQL.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([a-z0-9_]*[a-z0-9])?$"))]
    pub name: String,
    /// A SELECT.
    #[schemars(length(min = 1, max = 16384))]
    pub sql: String,
}

/// One output: the rows of a step or input into a Sink.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.deadLetter) || self.deadLetter.sinkRef.name != self.sinkRef.name").message("deadLetter.sinkRef must name another Sink than sinkRef: what it refuses cannot go back to it"))]
pub struct Output {
    /// Name of the output, in status, metrics and manifests.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9_]*[a-z0-9])?$"))]
    pub name: String,
    /// A step or an input.
    #[schemars(length(min = 1, max = 63))]
    pub from: String,
    /// The Sink.
    pub sink_ref: ObjectRef,
    /// Where records go that could not be decoded on their way to this output, or that its sink refused for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// A dead-letter sink.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The Sink that takes the envelopes; it must accept any schema (files, s3, kafka, opensearch, stdout, blackhole do).
    pub sink_ref: ObjectRef,
}

/// Where checkpoints are kept, and for how long state is.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.aws) || (has(self.location) && self.location.startsWith('s3://'))").message("aws belongs to an s3:// location: remove it"))]
pub struct State {
    /// `s3://bucket/prefix`, or a directory as `file:///path` (on a cluster, of a volume that all workers share). Immutable.
    /// Default: the operator's default location; with `millrace run`, a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^(s3://[^/]+|file:///).*$"))]
    pub location: Option<String>,
    /// Endpoint, region and identity for `s3://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<crate::connectors::aws::AwsAccess>,
    /// Seconds for which state that no window or interval ends (an aggregate without a window, a join without an interval) is kept after it was last
    /// touched. Without it, a step with such state is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_seconds: Option<u32>,
}

/// When the time of an input has passed, and what comes after it.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTimePolicy {
    /// Rows that come after their window has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<Lateness>,
    /// A split (partition, queue) that gives nothing for so many seconds no longer holds back the time of its input. Default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub idle_timeout_seconds: Option<u32>,
}

/// Rows that come after their window has ended.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.policy) || self.policy != 'Update' || (has(self.allowedSeconds) && self.allowedSeconds > 0)").message("policy Update needs allowedSeconds above 0: for so long results are updated"))]
pub struct Lateness {
    /// Seconds for which a window that has ended still takes rows, after the time of the input has passed its end. Such rows revise its result, which then is a changelog:
    /// only Sinks that take one can be written. Default 0: a window gives its result once, and is never revised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub allowed_seconds: Option<u32>,
    /// What happens to rows that come later than that. Late rows of joins, top-N and OVER, which wait for none, are treated the same.
    #[serde(default)]
    pub policy: LatePolicy,
}

/// What happens to rows that come too late.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum LatePolicy {
    /// Dropped and counted (default).
    #[default]
    Drop,
    /// Handled as bad records are: see `errorPolicy.onPoison`.
    DeadLetter,
    /// Results are updated for as long as `allowedSeconds` says, which has to be given; what comes later is dropped and counted.
    Update,
}

/// How often an epoch is closed.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Seconds between epochs. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: Option<u32>,
    /// An epoch that is not durable after this many seconds makes `CheckpointHealthy` False. Default 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<u32>,
    /// Epochs kept for each task. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3, max = 1000))]
    pub retained_count: Option<u32>,
}

/// How many workers.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// Workers; also set by `kubectl scale` and by autoscalers through `/scale`. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
}

/// What a Pipeline should be doing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DesiredState {
    /// Records flow.
    #[default]
    Running,
    /// A last checkpoint, then no workers. Running again goes on from it.
    Paused,
    /// No more is taken in, what is in flight is finished, then no workers.
    Drained,
}

/// What happens to records that cannot be decoded or that a sink refuses for good.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorPolicy {
    /// `DeadLetter` writes them to the dead-letter sinks, `Drop` counts them, `Fail` stops the Pipeline.
    /// Default: `DeadLetter` where a dead-letter sink is set, else `Fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_poison: Option<OnPoison>,
}

/// What happens to a bad record.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnPoison {
    /// Written to the dead-letter sink, in its envelope.
    DeadLetter,
    /// Counted and dropped.
    Drop,
    /// The Pipeline stops before it.
    Fail,
}

/// What [`Limits::max_spill_bytes`] is if it is not said: 10 GiB.
pub const SPILL_BYTES: u64 = 10 << 30;

impl Limits {
    /// Bytes of the worker's disk for state that has no room in memory.
    #[must_use]
    pub fn spill_bytes(&self) -> u64 {
        self.max_spill_bytes.map_or(SPILL_BYTES, |bytes| u64::try_from(bytes).unwrap_or(0))
    }
}

/// Bounds of memory and of the disk, for each worker.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.maxRecordBytes) || self.maxRecordBytes <= (has(self.maxInFlightBytes) ? self.maxInFlightBytes : 33554432)").message("maxRecordBytes may not be larger than maxInFlightBytes, else no record of that size could pass"))]
pub struct Limits {
    /// Bytes between sources and sinks of one task. Default 33,554,432 (32 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576, max = 17_179_869_184i64))]
    pub max_in_flight_bytes: Option<i64>,
    /// Bytes of one record; a longer one is a bad record. Default 1,048,576 (1 MiB), at most 10 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 10_485_760))]
    pub max_record_bytes: Option<i64>,
    /// Bytes out for each byte in, when decompressing; beyond it the rest of the object is a bad record. Default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 100_000))]
    pub max_decompression_ratio: Option<i64>,
    /// Decompressed bytes of one object. Default 4,294,967,296 (4 GiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776i64))]
    pub max_object_bytes: Option<i64>,
    /// Bytes of state (windows, aggregates, joins) that a worker holds in memory. State that grows beyond goes to the worker's disk, key by key, as `maxSpillBytes` says, if its
    /// rows can be shared by key (`millrace explain` says why not); else the Pipeline stops and says so. About twice as much is taken while an epoch is
    /// written, so leave room below `workload.resources.limits.memory`. With an exchange it bounds the state of each of its partitions, of which a worker
    /// may hold all. Default 134,217,728 (128 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776i64))]
    pub max_state_bytes: Option<i64>,
    /// Bytes of the worker's disk (an `emptyDir`) for state that has no room in memory, compressed; a Pipeline that needs more stops and says so. For each lane, one group in 128 of the keys has to
    /// have room in memory, so that this may be some ten times `maxStateBytes`. What of a key is on disk is read when rows for many keys wait, when its time has
    /// come, and before an epoch ends: results come later than from memory, at most by `checkpoint.intervalSeconds` and the time of reading. 0: none.
    /// If it is set and the rows of the plan cannot be shared by key, the Pipeline is refused. Default 10,737,418,240 (10 GiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_099_511_627_776i64))]
    pub max_spill_bytes: Option<i64>,
    /// Lanes of a task that keeps state and reads all splits: parts of the plan that run side by side, each with the state of its keys. More than the cores that
    /// a worker may use are of no use. Default: those cores. A plan whose rows cannot be shared by key (`millrace explain` says why) has one, as have Pipelines with a task for each
    /// split or each partition of an exchange; there, more are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub lanes: Option<i32>,
}

/// Logs of the workers.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observability {
    /// Log level. Default `Info`.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// Log level.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// What an operator wants to see.
    #[default]
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}
