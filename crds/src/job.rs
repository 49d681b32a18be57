//! `Job`: the document a worker runs. The operator writes it into a ConfigMap; `millrace run` makes it in memory. It never holds a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::connectors::aws::AwsAccess;
use crate::delivery::Delivery;
use crate::pipeline::{Checkpoint, ErrorPolicy, EventTimePolicy, Exchange, Limits, StatePolicy, Step, Test};
use crate::{SinkSpec, SourceSpec};

/// Version of the document that this code writes; a worker refuses a newer one.
pub const JOB_VERSION: u32 = 1;

/// Everything a worker needs to know to run one Pipeline: the Pipeline with its references resolved.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Version of this document, [`JOB_VERSION`].
    pub version: u32,
    /// Which Pipeline this is.
    pub pipeline: PipelineIdentity,
    /// Inputs by table name, in the order of the manifest.
    pub inputs: Vec<JobInput>,
    /// SQL steps.
    pub steps: Vec<Step>,
    /// Outputs.
    pub outputs: Vec<JobOutput>,
    /// Every Sink that an output or a dead letter names, by object name.
    pub sinks: BTreeMap<String, SinkSpec>,
    /// Where checkpoints are kept.
    pub state: StateLocation,
    /// How often an epoch is closed.
    pub checkpoint: Checkpoint,
    /// What happens to bad records.
    pub error_policy: ErrorPolicy,
    /// What is demanded of the outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Where rows of one key are brought together across workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// Bounds of memory.
    pub limits: Limits,
    /// When the time of an input has passed, and what comes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<EventTimePolicy>,
    /// For how long state that nothing else ends is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_ttl_seconds: Option<u32>,
    /// What happens to state that the plan cannot take over. `Approve` allows as much as `ResetState` if [`Job::approved_plan`] is the hash of the plan, else nothing.
    #[serde(default, skip_serializing_if = "StatePolicy::is_default")]
    pub state_policy: StatePolicy,
    /// Hash of the plan that somebody has approved, under [`StatePolicy::Approve`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_plan: Option<String>,
    /// Tests. No part of the revision: workers do not run them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
}

/// Where checkpoints are kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateLocation {
    /// `s3://bucket/prefix`, or a directory as `file:///path`.
    pub location: String,
    /// Endpoint, region and identity for `s3://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsAccess>,
}

/// Which Pipeline a Job belongs to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the object: checkpoints are kept under it. Locally `local-<namespace>-<name>`.
    pub uid: String,
}

/// One input with its Source.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobInput {
    /// Table name in SQL.
    pub name: String,
    /// Name of the Source object.
    pub source_name: String,
    /// Its spec.
    pub source: SourceSpec,
}

/// One output.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOutput {
    /// Name of the output.
    pub name: String,
    /// The step or input it writes.
    pub from: String,
    /// Name of the Sink, a key of [`Job::sinks`].
    pub sink: String,
    /// Name of the dead-letter Sink, a key of [`Job::sinks`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}

impl Job {
    /// Name of this revision: 16 hex digits of the SHA-256 of the canonical JSON without the tests. Jobs that are equal for workers have equal revisions.
    #[must_use]
    pub fn revision(&self) -> String {
        hash(&canonical_json(&self.without_tests()))
    }

    /// 16 hex digits for the tests; `None` if there are none.
    #[must_use]
    pub fn tests_hash(&self) -> Option<String> {
        (!self.tests.is_empty()).then(|| hash(&canonical_json(&self.tests)))
    }

    /// The Job as workers get it.
    #[must_use]
    pub fn without_tests(&self) -> Self {
        Self { tests: Vec::new(), ..self.clone() }
    }

    /// Whether state that the plan of this hash cannot take over may be dropped.
    #[must_use]
    pub fn may_drop_state(&self, plan_hash: &str) -> bool {
        match self.state_policy {
            StatePolicy::Reject => false,
            StatePolicy::Approve => self.approved_plan.as_deref() == Some(plan_hash),
            StatePolicy::ResetState => true,
        }
    }
}

/// Fields in the order of the types, maps by key.
fn canonical_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("a Job has only string keys")
}

/// 16 hex digits of the SHA-256.
fn hash(bytes: &[u8]) -> String {
    let first = Sha256::digest(bytes).iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{first:016x}")
}
