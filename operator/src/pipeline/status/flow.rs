//! `DataFlowing`, `CheckpointHealthy`, `DeadLettering`: what the tasks say of themselves, and how long they have said it. Counters of two moments are compared, never clocks of two machines.

use std::time::Duration;

use millrace_crds::condition::{Finding, PipelineCondition, PipelineReason, Status};
use millrace_crds::report::{ErrorReason, TaskPhase, TroublePart};

use super::{Observed, words};
use crate::report::{TaskFact, TroubleFact, trouble};

/// Records that wait and do not move for as long are stuck.
const STUCK: Duration = Duration::from_mins(1);
/// A source that has given nothing for as long is idle.
const IDLE: Duration = Duration::from_secs(30);
/// Dead letters count as recent for so long.
const RECENT: Duration = Duration::from_mins(5);
/// `checkpoint.timeoutSeconds` unless it is set.
const CHECKPOINT_TIMEOUT: u32 = 120;

fn tasks<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = &'a TaskFact> {
    observed.reports.workers.iter().flat_map(|worker| &worker.tasks)
}

fn troubles<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = &'a TroubleFact> {
    observed.reports.workers.iter().flat_map(|worker| &worker.troubles).filter(|fact| trouble::counts(fact))
}

/// `DataFlowing`.
pub(super) fn data(observed: &Observed<'_>) -> Finding {
    let of = |status: Status, reason, message: String| Finding::pipeline(PipelineCondition::DataFlowing, status, reason, message);
    if let Some(stopped) = observed.stopped() {
        return of(Status::Unknown, stopped.reason(), "no workers are wanted".to_owned());
    }
    if observed.reports.workers.is_empty() {
        return of(Status::Unknown, PipelineReason::NoReports, "no worker has reported lately".to_owned());
    }
    if let Some((reason, fact)) = worst(observed) {
        return of(Status::False, reason, words::sentence(fact));
    }
    let stuck = |task: &&TaskFact| {
        task.report.phase == TaskPhase::Running && !task.report.idle && task.report.lag_records > Some(0) && task.still >= STUCK
    };
    if let Some(task) = tasks(observed).find(stuck) {
        let message =
            format!("{} has records to read and has not moved for more than {} s", words::task(&task.report.task), STUCK.as_secs());
        return of(Status::False, PipelineReason::NoProgress, message);
    }
    let every = |test: fn(&TaskFact) -> bool| tasks(observed).next().is_some() && tasks(observed).all(test);
    if every(|task| task.report.phase == TaskPhase::Finished) {
        return if observed.workers.draining {
            of(Status::True, PipelineReason::Draining, "what was in flight is finished".to_owned())
        } else {
            of(Status::True, PipelineReason::Completed, "every input has ended and everything is durable".to_owned())
        };
    }
    if !tasks(observed).any(|task| matches!(task.report.phase, TaskPhase::Running | TaskPhase::Draining)) {
        return of(Status::Unknown, PipelineReason::Restoring, "no task runs yet".to_owned());
    }
    if every(|task| task.report.phase == TaskPhase::Finished || task.report.idle && task.still >= IDLE) {
        return of(Status::True, PipelineReason::SourceIdle, "the sources have nothing to give".to_owned());
    }
    of(Status::True, PipelineReason::Flowing, "records flow".to_owned())
}

/// The trouble that explains best why nothing flows.
fn worst<'a>(observed: &'a Observed<'_>) -> Option<(PipelineReason, &'a TroubleFact)> {
    let reason = |fact: &TroubleFact| match (fact.trouble.part, fact.trouble.reason) {
        (_, ErrorReason::DataLost) => Some((5, PipelineReason::DataLost)),
        (_, ErrorReason::PoisonRecord) => Some((4, PipelineReason::PoisonRecord)),
        (TroublePart::Sink, ErrorReason::Throttled) => Some((1, PipelineReason::Backpressured)),
        (TroublePart::Sink, _) => Some((3, PipelineReason::SinkStalled)),
        // A source that is asked to slow down still gives.
        (TroublePart::Source, ErrorReason::Throttled) | (TroublePart::State, _) => None,
        (TroublePart::Source, _) => Some((2, PipelineReason::SourceStalled)),
        (TroublePart::Task, _) => Some((2, PipelineReason::NoProgress)),
    };
    let ranked = troubles(observed).filter_map(|fact| reason(fact).map(|(rank, reason)| (rank, reason, fact)));
    ranked.max_by_key(|(rank, ..)| *rank).map(|(_, reason, fact)| (reason, fact))
}

/// `CheckpointHealthy`.
pub(super) fn checkpoint(observed: &Observed<'_>) -> Finding {
    let of = |status: Status, reason, message: String| Finding::pipeline(PipelineCondition::CheckpointHealthy, status, reason, message);
    if let Some(stopped) = observed.stopped() {
        return of(Status::Unknown, stopped.reason(), "no workers are wanted".to_owned());
    }
    if observed.reports.workers.is_empty() {
        return of(Status::Unknown, PipelineReason::NoReports, "no worker has reported lately".to_owned());
    }
    if let Some(fact) = troubles(observed).find(|fact| fact.trouble.part == TroublePart::State) {
        let reason = if fact.trouble.reason == ErrorReason::Corrupt { PipelineReason::Corrupt } else { PipelineReason::StoreUnavailable };
        return of(Status::False, reason, words::sentence(fact));
    }
    let timeout =
        observed.pipeline.spec.checkpoint.as_ref().and_then(|checkpoint| checkpoint.timeout_seconds).unwrap_or(CHECKPOINT_TIMEOUT);
    let timeout = Duration::from_secs(timeout.into());
    let open = || tasks(observed).filter(|task| task.report.phase != TaskPhase::Finished);
    if let Some(late) = open().filter(|task| task.epoch_age > timeout).max_by_key(|task| task.epoch_age) {
        let task = words::task(&late.report.task);
        let message = format!("{task} has closed no epoch within spec.checkpoint.timeoutSeconds ({})", timeout.as_secs());
        return of(Status::False, PipelineReason::Timeout, message);
    }
    if tasks(observed).any(|task| task.report.epoch_at_millis.is_some()) {
        return of(Status::True, PipelineReason::Healthy, "epochs are durable in time".to_owned());
    }
    of(Status::Unknown, PipelineReason::NoCheckpointYet, "no epoch has been closed yet".to_owned())
}

/// `DeadLettering`.
pub(super) fn dead_letters(observed: &Observed<'_>) -> Finding {
    let recent = observed.reports.workers.iter().any(|worker| worker.dead_lettered.is_some_and(|ago| ago < RECENT));
    if recent {
        let message = "records were dead-lettered in the last 5 minutes: their envelopes in the dead-letter Sinks say why";
        Finding::pipeline(PipelineCondition::DeadLettering, true, PipelineReason::RecordsDeadLettered, message)
    } else {
        Finding::pipeline(
            PipelineCondition::DeadLettering,
            false,
            PipelineReason::NoDeadLetters,
            "no record was dead-lettered in the last 5 minutes",
        )
    }
}
