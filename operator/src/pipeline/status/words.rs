//! What workers say, in the words of conditions. No status is decided here.

use millrace_crds::condition::PipelineReason;
use millrace_crds::report::{ErrorReason, Problem, TaskRef, TroublePart};

use crate::report::TroubleFact;

/// The reason in a condition.
pub(super) fn reason(reason: ErrorReason) -> PipelineReason {
    match reason {
        ErrorReason::Unreachable | ErrorReason::ServerError => PipelineReason::Unreachable,
        ErrorReason::Throttled => PipelineReason::Backpressured,
        ErrorReason::AccessDenied => PipelineReason::AccessDenied,
        ErrorReason::NotFound => PipelineReason::NotFound,
        ErrorReason::Invalid => PipelineReason::Invalid,
        ErrorReason::SecretMissing => PipelineReason::SecretMissing,
        ErrorReason::DataLost => PipelineReason::DataLost,
        ErrorReason::PoisonRecord => PipelineReason::PoisonRecord,
        ErrorReason::Corrupt => PipelineReason::Corrupt,
        ErrorReason::Internal => PipelineReason::Degraded,
    }
}

/// What users call a part.
pub(super) fn part(part: TroublePart, name: &str) -> String {
    match part {
        TroublePart::Source => format!("Source \"{name}\""),
        TroublePart::Sink => format!("Sink \"{name}\""),
        TroublePart::State => "checkpoint store".to_owned(),
        TroublePart::Task => "task".to_owned(),
    }
}

/// A task.
pub(super) fn task(task: &TaskRef) -> String {
    if task.is_whole() {
        "the task that reads all inputs".to_owned()
    } else if task.is_exchange() {
        format!("partition {} of the exchange", task.split)
    } else {
        format!("split {} of input {}", task.split, task.input)
    }
}

/// A trouble in one sentence that names the object.
pub(super) fn sentence(fact: &TroubleFact) -> String {
    format!("{}: {}", part(fact.trouble.part, &fact.trouble.name), fact.trouble.message)
}

/// The first of several sentences, and how many more there are.
pub(super) fn first_of(sentences: &[String], what: &str) -> String {
    match sentences {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (and {} more {what}{})", rest.len(), if rest.len() == 1 { "" } else { "s" }),
    }
}

/// A problem of planning: where, what, what to do.
pub(super) fn problem(problem: &Problem) -> String {
    let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{}: {}{hint}", problem.location, problem.message)
}

/// The reason of a problem; what this version does not know is simply invalid.
pub(super) fn problem_reason(problem: &Problem) -> PipelineReason {
    use PipelineReason::{
        Cycle, NotSupported, PlanInvalid, SchemaInvalid, SyntaxError, TemplateInvalid, TypeMismatch, UnknownColumn, UnknownTable,
    };
    let known = [UnknownColumn, UnknownTable, Cycle, NotSupported, SyntaxError, SchemaInvalid, TemplateInvalid, TypeMismatch];
    known.into_iter().find(|reason| reason.as_str() == problem.reason).unwrap_or(PlanInvalid)
}
