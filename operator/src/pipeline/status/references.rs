//! `SourcesReady`, `SinksReady`, `SecretsResolved`: whether what is referred to exists and answers, as workers and probes have seen it. Nothing is probed here.

use std::collections::BTreeMap;

use millrace_crds::condition::{Finding, PipelineCondition, PipelineReason, Status};
use millrace_crds::report::{ErrorReason, ProbeResult, TaskPhase, TroublePart, WorkerPhase};
use millrace_crds::resolve::{self, Kind, sink_names, source_names};

use super::super::validate::Target;
use super::{Observed, words};
use crate::pods::Obstacle;
use crate::report::trouble;

/// What is known of one Source or Sink.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It exists and answers.
    Good,
    /// Nobody has seen it.
    Unknown,
    /// It does not exist or does not answer.
    Bad(PipelineReason, String),
}

/// What is known of each Source and Sink that the Pipeline refers to.
pub(super) struct References {
    pub(super) sources: BTreeMap<String, Verdict>,
    pub(super) sinks: BTreeMap<String, Verdict>,
}

/// Judges all of them.
pub(super) fn judge(observed: &Observed<'_>) -> References {
    let spec = &observed.pipeline.spec;
    let judged = |part: TroublePart, names: std::collections::BTreeSet<&str>| {
        names.into_iter().map(|name| (name.to_owned(), verdict(observed, part, name))).collect()
    };
    References { sources: judged(TroublePart::Source, source_names(spec)), sinks: judged(TroublePart::Sink, sink_names(spec)) }
}

/// `SourcesReady`.
pub(super) fn sources(observed: &Observed<'_>, references: &References) -> Finding {
    finding(observed, PipelineCondition::SourcesReady, &references.sources, "Source")
}

/// `SinksReady`.
pub(super) fn sinks(observed: &Observed<'_>, references: &References) -> Finding {
    finding(observed, PipelineCondition::SinksReady, &references.sinks, "Sink")
}

fn finding(observed: &Observed<'_>, type_: PipelineCondition, verdicts: &BTreeMap<String, Verdict>, what: &str) -> Finding {
    let bad = verdicts.values().filter_map(|verdict| match verdict {
        Verdict::Bad(reason, message) => Some((*reason, message.clone())),
        Verdict::Good | Verdict::Unknown => None,
    });
    let bad: Vec<_> = bad.collect();
    if let Some((reason, _)) = bad.first() {
        let sentences: Vec<_> = bad.iter().map(|(_, message)| message.clone()).collect();
        return Finding::pipeline(type_, false, *reason, words::first_of(&sentences, what));
    }
    let unknown: Vec<_> =
        verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::Unknown).map(|(name, _)| format!("\"{name}\"")).collect();
    if unknown.is_empty() {
        return Finding::pipeline(type_, true, PipelineReason::Resolved, format!("every {what} exists and answers"));
    }
    let why = if observed.stopped().is_some() { "it is stopped" } else { "no worker has looked yet" };
    let message = format!("{what} {} exists, but nobody knows whether it answers: {why}", unknown.join(", "));
    Finding::pipeline(type_, Status::Unknown, PipelineReason::NotProbed, message)
}

fn verdict(observed: &Observed<'_>, part: TroublePart, name: &str) -> Verdict {
    if let Some(missing) = missing(observed, part, name) {
        return Verdict::Bad(PipelineReason::NotFound, missing.to_string());
    }
    let mut troubles = observed.reports.workers.iter().flat_map(|worker| &worker.troubles);
    let worst = troubles.find(|fact| {
        fact.trouble.part == part && fact.trouble.name == name && trouble::is_of_the_system(fact.trouble.reason) && trouble::counts(fact)
    });
    if let Some(fact) = worst {
        return Verdict::Bad(words::reason(fact.trouble.reason), words::sentence(fact));
    }
    let runs = observed
        .reports
        .workers
        .iter()
        .flat_map(|worker| &worker.tasks)
        .any(|task| task.report.phase == TaskPhase::Running && task.report.troubles.is_empty());
    let probe = observed.reports.probes.iter().filter(|probe| probe.kind == part && probe.name == name).max_by_key(|probe| probe.at_millis);
    match probe.map(|probe| &probe.result) {
        // What may be over in a moment does not count against tasks that run.
        Some(ProbeResult::Failed { reason: ErrorReason::Unreachable | ErrorReason::ServerError | ErrorReason::Throttled, .. }) if runs => {
            Verdict::Good
        }
        Some(ProbeResult::Failed { reason, message }) => {
            Verdict::Bad(words::reason(*reason), format!("{}: {message}", words::part(part, name)))
        }
        Some(ProbeResult::Ok { .. }) => Verdict::Good,
        Some(ProbeResult::Unsupported) | None if runs => Verdict::Good,
        Some(ProbeResult::Unsupported) | None => by_itself(observed, part, name),
    }
}

fn missing<'a>(observed: &'a Observed<'_>, part: TroublePart, name: &str) -> Option<&'a resolve::Error> {
    let Target::Missing(errors) = &observed.validated.target else { return None };
    let wanted = if part == TroublePart::Sink { Kind::Sink } else { Kind::Source };
    errors.iter().find(|error| matches!(error, resolve::Error::NotFound { kind, name: missing, .. } if *kind == wanted && missing == name))
}

/// What the object says of itself, as long as no worker knows better.
fn by_itself(observed: &Observed<'_>, part: TroublePart, name: &str) -> Verdict {
    let Some(unwell) = observed.unwell.iter().find(|unwell| unwell.kind == part && unwell.name == name) else { return Verdict::Unknown };
    let known = [PipelineReason::AccessDenied, PipelineReason::NotFound, PipelineReason::Invalid, PipelineReason::SecretMissing];
    let reason = known.into_iter().find(|reason| reason.as_str() == unwell.reason).unwrap_or(PipelineReason::Unreachable);
    Verdict::Bad(reason, format!("{}: {}", words::part(part, name), unwell.message))
}

/// `SecretsResolved`.
pub(super) fn secrets(observed: &Observed<'_>, references: &References) -> Finding {
    let missing = |verdict: &Verdict| match verdict {
        Verdict::Bad(PipelineReason::SecretMissing, message) => Some(message.clone()),
        Verdict::Bad(..) | Verdict::Good | Verdict::Unknown => None,
    };
    let of_state = observed
        .reports
        .workers
        .iter()
        .flat_map(|worker| &worker.troubles)
        .filter(|fact| fact.trouble.reason == ErrorReason::SecretMissing);
    let of_pods = observed.workload.obstacles.iter().filter_map(|obstacle| match obstacle {
        Obstacle::Config(message) => Some(format!("a worker cannot start: {message}")),
        _ => None,
    });
    let from_references = references.sources.values().chain(references.sinks.values()).filter_map(missing);
    let mut sentences: Vec<_> = from_references.chain(of_state.map(words::sentence)).chain(of_pods).collect();
    sentences.sort();
    sentences.dedup();
    if !sentences.is_empty() {
        let message = words::first_of(&sentences, "missing Secret");
        return Finding::pipeline(PipelineCondition::SecretsResolved, false, PipelineReason::SecretMissing, message);
    }
    let of_job = observed.validated.target.ready().is_some_and(|ready| !ready.secrets.is_empty());
    let of_env = observed.validated.shell.workload.env.iter().any(|variable| variable.value_from.is_some());
    if !of_job && !of_env && observed.target().is_some() {
        return Finding::pipeline(PipelineCondition::SecretsResolved, true, PipelineReason::NotNeeded, "no Secret is referred to");
    }
    if observed.reports.workers.iter().any(|worker| worker.report.phase == WorkerPhase::Running) {
        return Finding::pipeline(PipelineCondition::SecretsResolved, true, PipelineReason::Resolved, "no Secret is missing");
    }
    Finding::pipeline(PipelineCondition::SecretsResolved, Status::Unknown, PipelineReason::NotProbed, "no worker has looked yet")
}
