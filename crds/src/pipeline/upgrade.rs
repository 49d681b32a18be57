//! `spec.upgrade`: what may become of the state when the Pipeline changes. Who compares plans is not known here.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may become of the state when the Pipeline changes.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// What happens to a change with which operators would lose their state (`millrace plan OLD NEW` says which). `Reject` (default): it is refused, and what runs stays.
    /// `Approve`: it is refused until the annotation `millrace.dev/approve-plan` names the hash of the new plan. `ResetState`: those operators start with no state.
    /// What others keep is kept in every case.
    #[serde(default, skip_serializing_if = "StatePolicy::is_default")]
    pub state_policy: StatePolicy,
}

/// What happens to a change with which operators would lose their state.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum StatePolicy {
    /// It is refused.
    #[default]
    Reject,
    /// It is refused until somebody has approved this very plan.
    Approve,
    /// The operators start with no state.
    ResetState,
}

impl StatePolicy {
    /// Whether it is what a Pipeline has that says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Annotation of a Pipeline: hash of the plan with which operators may lose their state.
pub const APPROVE_PLAN: &str = "millrace.dev/approve-plan";
