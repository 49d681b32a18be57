//! `status` of a Pipeline: what is known of it. It holds nothing that safety depends on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::DeliveryStatus;

/// What is known of a Pipeline.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The truth about the Pipeline. Types: Ready, Reconciling, Stalled, Accepted, TestsPassed, StateCompatible, SourcesReady, SinksReady, SecretsResolved, WorkloadAvailable, DataFlowing, CheckpointHealthy, DeadLettering.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,
    /// Worker pods.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Worker pods that are ready.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ready_replicas: i32,
    /// Label selector of the worker pods, for `/scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// Revisions of the running and the wanted Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionStatus>,
    /// The last checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// Records dead-lettered by all outputs since the workers started, rounded up to 1, 2, 5, 10 ….
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub dead_lettered: i64,
    /// How far behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagStatus>,
    /// Each input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub inputs: Vec<EndStatus>,
    /// Each output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub outputs: Vec<EndStatus>,
    /// What the running plan guarantees, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatus>,
    /// The compiled plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// What became of `spec.tests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestsStatus>,
}

/// Revisions: hashes of Job documents.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// The one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub current: Option<String>,
    /// The one that is wanted; differs from `current` while it is checked, rolled out, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub target: Option<String>,
}

/// The last checkpoint, over all tasks.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// When the task that is furthest behind closed its last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_completed_time: Option<Time>,
    /// Where checkpoints are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub location: Option<String>,
}

/// How far behind the sources the Pipeline is.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LagStatus {
    /// Records (for a queue, announcements) not yet taken in, rounded up to 1, 2, 5, 10, 20, 50 ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub records: Option<i64>,
    /// Age of the oldest of them in seconds, rounded up likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds: Option<i64>,
    /// When this was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
}

/// One input or output.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndStatus {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(length(max = 7), regex(pattern = "^(True|False|Unknown)$"))]
    pub ready: String,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Records dead-lettered here since the workers started, rounded up to 1, 2, 5, 10 ….
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub dead_lettered: i64,
}

/// The compiled plan.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Hash of the plan.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// Operators in it.
    #[schemars(range(min = 0))]
    pub operators: i32,
}

/// What became of the tests.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestsStatus {
    /// Tests that passed.
    #[schemars(range(min = 0))]
    pub passed: i32,
    /// Tests that failed.
    #[schemars(range(min = 0))]
    pub failed: i32,
    /// The first that failed: its name, and what differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub first_failure: Option<String>,
}
