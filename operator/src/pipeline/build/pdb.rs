//! The PodDisruptionBudget: a drain of nodes takes one worker at a time, also if there is only one. It never blocks a drain for good.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validate::Validated;
use crate::names::{self, Component};

/// Builds it.
pub(super) fn build(validated: &Validated) -> PodDisruptionBudget {
    let pipeline = &validated.owner.key.name;
    PodDisruptionBudget {
        metadata: names::meta(&validated.owner, pipeline.clone(), names::pipeline_labels(pipeline, Component::Worker)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(names::label_selector(names::worker_selector(pipeline))),
            // Workers that are not ready hold nothing that an eviction could hurt.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
