//! The status of a Pipeline: one pure function of what was observed. It never says more than somebody has seen.

mod accepted;
mod flow;
mod numbers;
mod ready;
mod references;
mod state;
mod tested;
#[cfg(test)]
mod tests;
mod words;
mod workload;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use millrace_crds::condition::{self, Finding, PipelineCondition, PipelineReason, Status};
use millrace_crds::pipeline::RevisionStatus;
use millrace_crds::{Pipeline, PipelineStatus};

use super::dereference::Unwell;
use super::rollout::{Consent, Decision, Version, Workers};
use super::validate::Validated;
use crate::apply;
use crate::names;
use crate::report::Snapshot;

pub(crate) use workload::Workload;

/// For how long after taking over what is not known yet is left as it was.
pub(crate) const SETTLE: Duration = Duration::from_secs(20);
/// Until the next look at a Pipeline that is in trouble or on its way.
const SOON: Duration = Duration::from_secs(3);
/// Until the next look at one whose numbers move.
const REGULAR: Duration = Duration::from_secs(10);
/// Until the next look at one that stands still.
pub(crate) const SLOW: Duration = Duration::from_mins(5);
/// Until the next look at one that only a human can help.
pub(crate) const NEEDS_A_HUMAN: Duration = Duration::from_secs(30);

/// Everything that was observed.
pub(crate) struct Observed<'a> {
    /// The Pipeline with its previous status.
    pub(crate) pipeline: &'a Pipeline,
    /// Time of day.
    pub(crate) now: Timestamp,
    /// Whether this operator has led for long enough to have heard from everybody.
    pub(crate) settled: bool,
    /// What is wanted.
    pub(crate) validated: &'a Validated,
    /// What was decided about the rollout.
    pub(crate) decision: &'a Decision,
    /// How many workers there are to be.
    pub(crate) workers: Workers,
    /// What the user says about state that would be lost.
    pub(crate) consent: &'a Consent,
    /// What the Deployment runs.
    pub(crate) running: Option<&'a Version>,
    /// Deployment and pods.
    pub(crate) workload: Workload,
    /// What workers reported.
    pub(crate) reports: &'a Snapshot,
    /// Sources and Sinks that say of themselves that they are not ready.
    pub(crate) unwell: &'a [Unwell],
    /// Why something could not be written.
    pub(crate) problem: Option<&'a apply::Error>,
}

/// Why there are no workers on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stopped {
    Paused,
    Drained,
    ScaledToZero,
}

impl Stopped {
    const fn reason(self) -> PipelineReason {
        match self {
            Self::Paused => PipelineReason::Paused,
            Self::Drained => PipelineReason::Drained,
            Self::ScaledToZero => PipelineReason::ScaledToZero,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Paused => "stopped on purpose: spec.desiredState is Paused",
            Self::Drained => "stopped on purpose, with nothing left in flight: spec.desiredState is Drained",
            Self::ScaledToZero => "stopped on purpose: spec.scale.replicas is 0",
        }
    }
}

impl Observed<'_> {
    fn previous(&self) -> Option<&PipelineStatus> {
        self.pipeline.status.as_ref()
    }

    /// What was found of the revision that was wanted before still holds if it is wanted now.
    fn as_before(&self, type_: PipelineCondition) -> Option<Finding> {
        let before = self.previous()?.revision.as_ref()?.target.as_deref()?;
        let same = self.target().is_none_or(|target| target == before);
        let condition = self.previous_condition(type_).filter(|_| same)?;
        let spoke_of_this = self.target().is_some() || condition.observed_generation == self.pipeline.metadata.generation;
        again(condition, type_.as_str()).filter(|_| spoke_of_this)
    }

    fn previous_condition(&self, type_: PipelineCondition) -> Option<&Condition> {
        condition::find(&self.previous()?.conditions, type_.as_str())
    }

    /// Why there are no workers on purpose, if so.
    fn stopped(&self) -> Option<Stopped> {
        use millrace_crds::pipeline::DesiredState::{Drained, Paused, Running};
        match self.validated.desired {
            _ if self.workers.replicas > 0 => None,
            Paused => Some(Stopped::Paused),
            Drained => Some(Stopped::Drained),
            Running => Some(Stopped::ScaledToZero),
        }
    }

    /// The revision that is wanted.
    fn target(&self) -> Option<&str> {
        self.validated.target.ready().map(|ready| ready.revision.as_str())
    }
}

/// Whether nobody has looked at this Pipeline yet.
pub(crate) fn is_new(pipeline: &Pipeline) -> bool {
    pipeline.status.as_ref().is_none_or(|status| status.conditions.is_empty())
}

/// The status of a Pipeline that nobody has looked at: everything is unknown, and said to be.
pub(crate) fn pending(pipeline: &Pipeline, now: Timestamp) -> PipelineStatus {
    let mut status = PipelineStatus { observed_generation: pipeline.metadata.generation, ..PipelineStatus::default() };
    for type_ in PipelineCondition::ALL {
        let finding = Finding::pipeline(*type_, Status::Unknown, PipelineReason::Pending, "not looked at yet");
        condition::set(&mut status.conditions, finding, pipeline.metadata.generation, &Time(now));
    }
    status
}

/// Whether two statuses differ in nothing but messages. Those can wait: a system that is down says it in other words each time.
pub(crate) fn differ_in_words_only(before: &PipelineStatus, after: &PipelineStatus) -> bool {
    let wordless = |status: &PipelineStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().for_each(|condition| condition.message.clear());
        status.inputs.iter_mut().chain(&mut status.outputs).for_each(|end| end.message = None);
        status
    };
    before != after && wordless(before) == wordless(after)
}

/// The status, and when to look again.
pub(crate) fn derive(observed: &Observed<'_>) -> (PipelineStatus, Duration) {
    let references = references::judge(observed);
    let aspects = [
        accepted::finding(observed),
        tested::finding(observed),
        state::finding(observed),
        references::sources(observed, &references),
        references::sinks(observed, &references),
        references::secrets(observed, &references),
        workload::finding(observed),
        flow::data(observed),
        flow::checkpoint(observed),
        flow::dead_letters(observed),
    ]
    .map(|finding| carry(observed, finding));
    let verdict = ready::verdict(observed, &aspects);

    let mut conditions = observed.previous().map(|status| status.conditions.clone()).unwrap_or_default();
    let generation = observed.pipeline.metadata.generation;
    for finding in verdict.into_iter().chain(aspects) {
        condition::set(&mut conditions, finding, generation, &Time(observed.now));
    }
    let again = next_look(observed, &conditions);
    let status = PipelineStatus {
        observed_generation: generation,
        conditions,
        replicas: observed.workload.replicas,
        ready_replicas: observed.workload.ready,
        selector: Some(names::selector_text(&names::worker_selector(&observed.validated.owner.key.name))),
        revision: Some(revision(observed)),
        tests: tested::status(observed),
        ..numbers::numbers(observed, &references)
    };
    (status, again)
}

fn revision(observed: &Observed<'_>) -> RevisionStatus {
    let before = observed.previous().and_then(|status| status.revision.as_ref());
    RevisionStatus {
        current: observed.running.map(|running| running.revision.clone()),
        // While it cannot be resolved, what was wanted last still is.
        target: observed.target().map(str::to_owned).or_else(|| before?.target.clone()),
    }
}

/// Just after taking over, what is not known yet is left as it was: nobody has changed, only the one who looks.
fn carry(observed: &Observed<'_>, finding: Finding) -> Finding {
    let unknown = finding.status == Status::Unknown || finding.type_ == PipelineCondition::DeadLettering.as_str();
    if observed.settled || !unknown || observed.stopped().is_some() || !observed.reports.workers.is_empty() {
        return finding;
    }
    let before = observed.previous().and_then(|status| condition::find(&status.conditions, finding.type_));
    before.and_then(|before| again(before, finding.type_)).unwrap_or(finding)
}

/// A condition as a finding again; `None` if it was unknown, or of another version of this operator.
fn again(before: &Condition, type_: &'static str) -> Option<Finding> {
    let status = match before.status.as_str() {
        "True" => Status::True,
        "False" => Status::False,
        _ => return None,
    };
    let reason = PipelineReason::ALL.iter().find(|reason| reason.as_str() == before.reason)?;
    Some(Finding { type_, status, reason: reason.as_str(), message: before.message.clone() })
}

fn next_look(observed: &Observed<'_>, conditions: &[Condition]) -> Duration {
    let well = condition::holds(conditions, "Ready") && !condition::holds(conditions, "Reconciling");
    match observed.stopped() {
        _ if !observed.settled => SOON,
        Some(_) if well => SLOW,
        None if well && observed.reports.workers.iter().all(|worker| worker.troubles.is_empty()) => REGULAR,
        _ => SOON,
    }
}
