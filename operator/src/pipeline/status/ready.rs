//! `Ready`, `Reconciling`, `Stalled`: the summary of everything else, as kstatus reads it. It looks at nothing itself.

use millrace_crds::condition::{Finding, PipelineCondition, PipelineReason, Status};

use super::super::rollout::Decision;
use super::Observed;
use crate::apply;

/// The three conditions.
pub(super) fn verdict(observed: &Observed<'_>, aspects: &[Finding]) -> [Finding; 3] {
    let ready = ready(observed, aspects);
    let reconciling = reconciling(observed, aspects, &ready);
    [ready, reconciling, stalled(observed, aspects)]
}

fn aspect(aspects: &[Finding], type_: PipelineCondition) -> Option<&Finding> {
    aspects.iter().find(|finding| finding.type_ == type_.as_str())
}

fn is(aspects: &[Finding], type_: PipelineCondition, status: Status) -> Option<&Finding> {
    aspect(aspects, type_).filter(|finding| finding.status == status)
}

/// What makes a Pipeline not ready, the cause before its consequences.
const CAUSES: [PipelineCondition; 9] = [
    PipelineCondition::Accepted,
    PipelineCondition::TestsPassed,
    PipelineCondition::StateCompatible,
    PipelineCondition::SecretsResolved,
    PipelineCondition::SourcesReady,
    PipelineCondition::SinksReady,
    PipelineCondition::CheckpointHealthy,
    PipelineCondition::WorkloadAvailable,
    PipelineCondition::DataFlowing,
];

/// What makes the operator refuse a revision.
const REFUSALS: [PipelineCondition; 3] = [PipelineCondition::Accepted, PipelineCondition::TestsPassed, PipelineCondition::StateCompatible];

fn ready(observed: &Observed<'_>, aspects: &[Finding]) -> Finding {
    let of = |status: Status, reason: &'static str, message: String| Finding {
        type_: PipelineCondition::Ready.as_str(),
        status,
        reason,
        message,
    };
    if let Some(problem) = observed.problem {
        let reason = problem.needs_a_human().unwrap_or(PipelineReason::Degraded);
        let reason = if matches!(problem, apply::Error::NamespaceTerminating { .. }) { PipelineReason::Terminating } else { reason };
        return of(Status::False, reason.as_str(), problem.to_string());
    }
    if let Some(cause) = CAUSES.iter().find_map(|type_| is(aspects, *type_, Status::False)) {
        let reason = summary(cause, aspects, observed);
        return of(Status::False, reason, with_running(observed, cause));
    }
    if let Some(stopped) = observed.stopped() {
        return of(Status::True, stopped.reason().as_str(), stopped.message().to_owned());
    }
    let unknown = [PipelineCondition::Accepted, PipelineCondition::WorkloadAvailable, PipelineCondition::DataFlowing];
    // A revision that is being checked says nothing against the one that runs.
    let mut unknown = unknown.into_iter().filter(|type_| *type_ != PipelineCondition::Accepted || observed.running.is_none());
    if let Some(waits) = unknown.find_map(|type_| is(aspects, type_, Status::Unknown)) {
        return of(Status::False, PipelineReason::Progressing.as_str(), waits.message.clone());
    }
    let flow = aspect(aspects, PipelineCondition::DataFlowing);
    match flow.map(|flow| flow.reason) {
        Some("SourceIdle") => of(Status::True, PipelineReason::Idle.as_str(), "ready; the sources have nothing to give".to_owned()),
        Some("Completed") => {
            of(Status::True, PipelineReason::Completed.as_str(), "every input has ended and everything is durable".to_owned())
        }
        _ => of(Status::True, PipelineReason::Running.as_str(), "records flow".to_owned()),
    }
}

/// The reason of the summary: a sink that takes nothing is called that, whatever the sink says; what runs short of workers while it rolls is on its way.
fn summary(cause: &Finding, aspects: &[Finding], observed: &Observed<'_>) -> &'static str {
    let sink_stalled =
        is(aspects, PipelineCondition::DataFlowing, Status::False).is_some_and(|flow| flow.reason == PipelineReason::SinkStalled.as_str());
    if cause.type_ == PipelineCondition::SinksReady.as_str() && cause.reason == PipelineReason::Unreachable.as_str() && sink_stalled {
        return PipelineReason::SinkStalled.as_str();
    }
    if cause.type_ == PipelineCondition::StateCompatible.as_str() {
        return PipelineReason::StateIncompatible.as_str();
    }
    if cause.reason == PipelineReason::Unavailable.as_str() {
        let on_its_way = !observed.workload.rolled_out || observed.workload.ready < observed.workload.replicas;
        return if on_its_way { PipelineReason::Progressing.as_str() } else { PipelineReason::Degraded.as_str() };
    }
    cause.reason
}

/// If the spec is refused while another revision runs, users want to know that it does.
fn with_running(observed: &Observed<'_>, cause: &Finding) -> String {
    match observed.running {
        Some(running) if REFUSALS.iter().any(|type_| type_.as_str() == cause.type_) && observed.target() != Some(&running.revision) => {
            format!("{}; revision {} stays as it is", cause.message, running.revision)
        }
        _ => cause.message.clone(),
    }
}

fn reconciling(observed: &Observed<'_>, aspects: &[Finding], ready: &Finding) -> Finding {
    let of = |status: bool, reason, message: String| Finding::pipeline(PipelineCondition::Reconciling, status, reason, message);
    let workload = &observed.workload;
    if observed.problem.is_some_and(|problem| problem.needs_a_human().is_none()) {
        return of(true, PipelineReason::Progressing, "an object could not be written; trying again".to_owned());
    }
    match observed.decision {
        Decision::Check | Decision::AwaitCheck { .. } => {
            return of(true, PipelineReason::Checking, "the new revision is checked".to_owned());
        }
        Decision::CheckFailed { .. } => return of(true, PipelineReason::CheckFailed, "the check is tried again".to_owned()),
        Decision::Start | Decision::Switch(_) => return of(true, PipelineReason::RollingOut, "workers of this revision start".to_owned()),
        Decision::Hold | Decision::Follow | Decision::Refuse(_) => {}
    }
    if observed.workers.draining {
        return of(true, PipelineReason::Draining, "what is in flight is finished".to_owned());
    }
    if observed.stopped().is_some() && workload.pods > 0 {
        return of(true, PipelineReason::Draining, format!("{} workers close a last epoch", workload.pods));
    }
    if workload.exists && !workload.rolled_out {
        return of(true, PipelineReason::RollingOut, format!("{} of {} workers are ready", workload.ready, observed.workers.replicas));
    }
    let restoring =
        is(aspects, PipelineCondition::DataFlowing, Status::Unknown).filter(|flow| flow.reason == PipelineReason::Restoring.as_str());
    if let Some(restoring) = restoring {
        return of(true, PipelineReason::Restoring, restoring.message.clone());
    }
    if ready.reason == PipelineReason::Progressing.as_str() {
        return of(true, PipelineReason::Progressing, ready.message.clone());
    }
    of(false, PipelineReason::UpToDate, "nothing is left to do for this generation".to_owned())
}

fn stalled(observed: &Observed<'_>, aspects: &[Finding]) -> Finding {
    let of = |status: bool, reason: &'static str, message: String| Finding {
        type_: PipelineCondition::Stalled.as_str(),
        status: status.into(),
        reason,
        message,
    };
    if let Some((reason, problem)) = observed.problem.and_then(|problem| Some((problem.needs_a_human()?, problem))) {
        return of(true, reason.as_str(), problem.to_string());
    }
    let for_good = [
        PipelineReason::QuotaExceeded,
        PipelineReason::Forbidden,
        PipelineReason::DataLost,
        PipelineReason::PoisonRecord,
        PipelineReason::Corrupt,
    ];
    let refused = REFUSALS.iter().find_map(|type_| is(aspects, *type_, Status::False));
    let other =
        aspects.iter().find(|finding| finding.status == Status::False && for_good.iter().any(|reason| reason.as_str() == finding.reason));
    match refused.or(other) {
        Some(cause) => of(true, summary(cause, aspects, observed), cause.message.clone()),
        None => of(false, PipelineReason::UpToDate.as_str(), "no human is needed".to_owned()),
    }
}
