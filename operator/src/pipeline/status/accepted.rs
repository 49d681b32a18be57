//! `Accepted`: whether this spec was planned by the image that will run it, and is valid. It plans nothing by itself.

use millrace_crds::condition::{Finding, PipelineCondition, PipelineReason, Status};
use millrace_crds::report::{CheckOutcome, PlanReport, Problem};

use super::super::rollout::Decision;
use super::super::validate::Target;
use super::{Observed, words};

/// The condition.
pub(super) fn finding(observed: &Observed<'_>) -> Finding {
    let ready = match &observed.validated.target {
        Target::Invalid(problems) => return refused(problems),
        Target::Missing(_) => {
            return as_before(observed).unwrap_or_else(|| unknown(PipelineReason::Pending, "planned once every Source and Sink exists"));
        }
        Target::Ready(ready) => ready,
    };
    match observed.decision {
        Decision::Refuse(outcome) if !outcome.problems.is_empty() => refused(&outcome.problems),
        // A test failed, or state would be lost: other conditions say so.
        Decision::Refuse(outcome) => planned(outcome.plan.as_ref()),
        Decision::Switch(outcome) => planned(outcome.plan.as_ref()),
        Decision::CheckFailed { message, .. } => unknown(PipelineReason::CheckFailed, message),
        Decision::Check | Decision::AwaitCheck { waits_for: None } if observed.running.is_none() => {
            unknown(PipelineReason::Checking, "a pod checks it and runs its tests before it starts")
        }
        Decision::Check | Decision::AwaitCheck { waits_for: None } => {
            unknown(PipelineReason::Checking, "a pod checks the new revision; what runs stays")
        }
        Decision::AwaitCheck { waits_for: Some(waits_for) } => {
            unknown(PipelineReason::Checking, &format!("the pod that checks the new revision waits for {waits_for}; what runs stays"))
        }
        Decision::Hold | Decision::Start | Decision::Follow => by_workers(observed, &ready.revision),
    }
}

/// What the workers of this very revision say.
fn by_workers(observed: &Observed<'_>, revision: &str) -> Finding {
    let outcomes = || checks(observed).filter(|outcome| outcome.revision == revision);
    if let Some(outcome) = outcomes().find(|outcome| !outcome.problems.is_empty()) {
        return refused(&outcome.problems);
    }
    match outcomes().find_map(|outcome| outcome.plan.as_ref()) {
        Some(plan) => planned(Some(plan)),
        None => as_before(observed).unwrap_or_else(|| unknown(PipelineReason::Pending, "no worker has planned it yet")),
    }
}

fn as_before(observed: &Observed<'_>) -> Option<Finding> {
    observed.as_before(PipelineCondition::Accepted)
}

/// What workers found when they planned.
pub(super) fn checks<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = &'a CheckOutcome> {
    observed.reports.workers.iter().map(|worker| &worker.report.check)
}

fn planned(plan: Option<&PlanReport>) -> Finding {
    let message = plan.map_or_else(|| "planned and valid".to_owned(), |plan| format!("planned and valid: {} operators", plan.operators));
    Finding::pipeline(PipelineCondition::Accepted, true, PipelineReason::Planned, message)
}

fn refused(problems: &[Problem]) -> Finding {
    let reason = problems.first().map_or(PipelineReason::PlanInvalid, words::problem_reason);
    let sentences: Vec<_> = problems.iter().map(words::problem).collect();
    Finding::pipeline(PipelineCondition::Accepted, false, reason, words::first_of(&sentences, "problem"))
}

fn unknown(reason: PipelineReason, message: &str) -> Finding {
    Finding::pipeline(PipelineCondition::Accepted, Status::Unknown, reason, message)
}
