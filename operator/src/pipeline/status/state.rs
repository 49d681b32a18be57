//! `StateCompatible`: what becomes of the state of the revision that runs, as the check pod found it. It compares nothing itself.

use millrace_crds::condition::{Finding, PipelineCondition, PipelineReason, Status};
use millrace_crds::report::{CheckOutcome, StateReport};

use super::super::rollout::{Decision, StateVerdict, judge_state};
use super::Observed;

/// The condition.
pub(super) fn finding(observed: &Observed<'_>) -> Finding {
    let before = || observed.as_before(PipelineCondition::StateCompatible);
    match observed.decision {
        Decision::Refuse(outcome) | Decision::Switch(outcome) if outcome.problems.is_empty() => judged(observed, outcome),
        Decision::Check | Decision::AwaitCheck { .. } => unknown(PipelineReason::Checking, "a pod compares the plans"),
        Decision::CheckFailed { message, .. } => unknown(PipelineReason::CheckFailed, message),
        Decision::Start => holds(PipelineReason::Compatible, "nothing ran before"),
        Decision::Follow => before().unwrap_or_else(|| holds(PipelineReason::Compatible, "this revision runs")),
        Decision::Refuse(_) | Decision::Switch(_) | Decision::Hold => {
            before().unwrap_or_else(|| unknown(PipelineReason::Pending, "compared once the spec can be planned"))
        }
    }
}

fn judged(observed: &Observed<'_>, outcome: &CheckOutcome) -> Finding {
    let none = StateReport::default();
    let state = outcome.state.as_ref().unwrap_or(&none);
    match judge_state(outcome, observed.consent) {
        StateVerdict::Unknown if observed.running.is_none() => holds(PipelineReason::Compatible, "nothing ran before"),
        StateVerdict::Unknown => unknown(
            PipelineReason::Pending,
            "nobody has said yet what state the running revision keeps; workers refuse what they cannot restore",
        ),
        StateVerdict::Compatible if state.kept == 0 => holds(PipelineReason::Compatible, "there is no state to take over"),
        StateVerdict::Compatible => holds(PipelineReason::Compatible, &format!("the state of all operators is taken over: {}", state.kept)),
        StateVerdict::Approved => holds(PipelineReason::Approved, &format!("approved: {}", lost(state))),
        StateVerdict::Reset => holds(PipelineReason::StateReset, &format!("upgrade.statePolicy is ResetState: {}", lost(state))),
        StateVerdict::Refused if state.positions_lost => {
            let message = "only one of the plans keeps state in one task for all splits, or is shared through such an exchange, so workers could not go on at the positions of the inputs; take the change back, or create a Pipeline with another name";
            Finding::pipeline(PipelineCondition::StateCompatible, false, PipelineReason::PositionsLost, message)
        }
        StateVerdict::Refused => {
            let removed = state.first_lost.first().is_some_and(|first| first.reason == PipelineReason::OperatorRemoved.as_str());
            let reason = if removed { PipelineReason::OperatorRemoved } else { PipelineReason::KeyChanged };
            let plan = outcome.plan.as_ref().map_or("", |plan| plan.hash.as_str());
            let message = format!(
                "{}; keep these operators, or allow it: set upgrade.statePolicy to ResetState, or to Approve and annotate the Pipeline with millrace.dev/approve-plan={plan}",
                lost(state)
            );
            Finding::pipeline(PipelineCondition::StateCompatible, false, reason, message)
        }
    }
}

fn lost(state: &StateReport) -> String {
    let each = state.first_lost.iter().map(|lost| {
        let why =
            if lost.reason == PipelineReason::OperatorRemoved.as_str() { "it is not in the new plan" } else { "it keeps other state now" };
        format!("operator {} loses its state ({why})", lost.operator)
    });
    let more = usize::try_from(state.lost).unwrap_or(usize::MAX).saturating_sub(state.first_lost.len());
    let more = (more > 0).then(|| format!("{more} more operators lose theirs"));
    each.chain(more).collect::<Vec<_>>().join("; ")
}

fn holds(reason: PipelineReason, message: &str) -> Finding {
    Finding::pipeline(PipelineCondition::StateCompatible, true, reason, message)
}

fn unknown(reason: PipelineReason, message: &str) -> Finding {
    Finding::pipeline(PipelineCondition::StateCompatible, Status::Unknown, reason, message)
}
