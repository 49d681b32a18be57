//! `WorkloadAvailable`: whether there are enough workers, and if not, why, as Deployment and pods say it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::Pod;
use millrace_crds::condition::{Finding, PipelineCondition, PipelineReason, Status};
use millrace_crds::report::{Distribution, PlanReport};

use super::{Observed, numbers};
use crate::pods::{self, Obstacle};

/// Deployment and pods in numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workload {
    /// Whether there is a Deployment.
    pub(crate) exists: bool,
    /// Worker pods.
    pub(crate) replicas: i32,
    /// Those that are ready.
    pub(crate) ready: i32,
    /// Those that are available.
    pub(crate) available: i32,
    /// Whether all pods are of the present template, and as many as wanted.
    pub(crate) rolled_out: bool,
    /// Pods that have not gone yet, also those that are going.
    pub(crate) pods: usize,
    /// Why pods do not run.
    pub(crate) obstacles: Vec<Obstacle>,
    /// Why pods cannot be made.
    pub(crate) failure: Option<String>,
}

impl Workload {
    /// From a Deployment and its pods.
    pub(crate) fn of(deployment: Option<&Deployment>, pods: &[Arc<Pod>]) -> Self {
        let status = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
        let wanted = deployment.and_then(|deployment| deployment.spec.as_ref()?.replicas).unwrap_or_default();
        let seen = deployment.is_some_and(|deployment| status.observed_generation >= deployment.metadata.generation);
        let replicas = status.replicas.unwrap_or_default();
        let failure = |condition: &DeploymentCondition| condition.type_ == "ReplicaFailure" && condition.status == "True";
        Self {
            exists: deployment.is_some(),
            replicas,
            ready: status.ready_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            rolled_out: seen && replicas == wanted && status.updated_replicas.unwrap_or_default() == wanted,
            pods: pods.iter().filter(|pod| pods::life(pod).is_some()).count(),
            obstacles: pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter_map(|pod| pods::obstacle(pod)).collect(),
            failure: status
                .conditions
                .iter()
                .flatten()
                .find(|condition| failure(condition))
                .and_then(|condition| condition.message.clone()),
        }
    }
}

/// The condition.
pub(super) fn finding(observed: &Observed<'_>) -> Finding {
    let of = |status: Status, reason, message: String| Finding::pipeline(PipelineCondition::WorkloadAvailable, status, reason, message);
    if let Some(stopped) = observed.stopped() {
        return of(Status::True, stopped.reason(), "no workers are wanted".to_owned());
    }
    let workload = &observed.workload;
    let wanted = observed.workers.replicas;
    // What the Deployment keeps up while it rolls: all but a quarter, and at least one.
    let minimum = (wanted - wanted / 4).max(1);
    let counts = format!("{} of {wanted} workers are available", workload.available);
    if workload.available >= minimum {
        if wanted > 1
            && let Some(plan) = as_one_task(observed)
        {
            let why = plan.whole.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            let message = format!(
                "{counts}; the plan keeps state, so one worker does all the work and the others stand by to take over: set spec.exchange so that \
                  they share it (which is refused where the plan cannot be shared), or spec.scale.replicas to 1{why}"
            );
            return of(Status::True, PipelineReason::NeedsExchange, message);
        }
        return of(Status::True, PipelineReason::Available, counts);
    }
    if let Some(failure) = &workload.failure {
        let reason = if failure.contains("exceeded quota") { PipelineReason::QuotaExceeded } else { PipelineReason::Forbidden };
        return of(Status::False, reason, format!("{counts}; pods cannot be made: {failure}"));
    }
    match workload.obstacles.iter().max_by_key(|obstacle| rank(obstacle)) {
        Some(obstacle) => {
            let (reason, message) = explain(obstacle);
            of(Status::False, reason, format!("{counts}; {message}"))
        }
        None if !workload.exists => of(Status::Unknown, PipelineReason::Pending, "there is no Deployment yet".to_owned()),
        None => of(Status::False, PipelineReason::Unavailable, counts),
    }
}

/// The plan, if it keeps state that one task has to hold.
fn as_one_task<'a>(observed: &'a Observed<'_>) -> Option<&'a PlanReport> {
    numbers::plans(observed).next().filter(|plan| plan.inputs.iter().any(|input| input.distribution == Distribution::Whole))
}

/// Which obstacle tells most if there are several.
fn rank(obstacle: &Obstacle) -> u8 {
    match obstacle {
        Obstacle::OutOfMemory(_) => 5,
        Obstacle::ImagePull(_) => 4,
        Obstacle::Config(_) => 3,
        Obstacle::CrashLoop(_) => 2,
        Obstacle::Unschedulable(_) => 1,
    }
}

fn explain(obstacle: &Obstacle) -> (PipelineReason, String) {
    match obstacle {
        Obstacle::OutOfMemory(message) => (
            PipelineReason::OOMKilled,
            format!(
                "a worker took more memory than its limit ({message}): raise spec.workload.resources.limits.memory or lower spec.limits.maxInFlightBytes"
            ),
        ),
        Obstacle::ImagePull(message) => (PipelineReason::ImagePullBackOff, format!("the image of the workers cannot be pulled: {message}")),
        Obstacle::Config(message) => (PipelineReason::SecretMissing, format!("a worker cannot start: {message}")),
        Obstacle::CrashLoop(message) => (PipelineReason::CrashLoopBackOff, format!("a worker ends again and again: {message}")),
        Obstacle::Unschedulable(message) => (PipelineReason::Unschedulable, format!("no node takes a worker: {message}")),
    }
}
