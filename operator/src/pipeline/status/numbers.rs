//! Numbers of a status: lag, checkpoint, dead letters, each end, plan. They are rounded and refreshed at most every 30 s, so that a busy Pipeline does not wear out etcd.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use millrace_crds::PipelineStatus;
use millrace_crds::pipeline::{CheckpointStatus, EndStatus, LagStatus, PlanStatus};
use millrace_crds::report::{Distribution, PlanReport};

use super::super::rollout::Decision;
use super::references::{References, Verdict};
use super::{Observed, accepted};
use crate::report::TaskFact;

/// Seconds between two refreshes.
const REFRESH: i64 = 30;

/// The fields that hold numbers; the others are default.
pub(super) fn numbers(observed: &Observed<'_>, references: &References) -> PipelineStatus {
    let before = observed.previous().cloned().unwrap_or_default();
    let fresh = fresh(observed, &before, references);
    let seen = before.lag.as_ref().and_then(|lag| lag.observed_time.as_ref());
    let due = seen.is_none_or(|seen| observed.now.as_second() - seen.0.as_second() >= REFRESH);
    let gone = observed.stopped().is_some() || observed.reports.workers.is_empty();
    if due || gone || is_same(&fresh, &before) {
        return fresh;
    }
    // Whether an end is ready is no number: it is told at once.
    PipelineStatus {
        inputs: with_old_counts(fresh.inputs, &before.inputs),
        lag: before.lag,
        checkpoint: before.checkpoint,
        dead_lettered: before.dead_lettered,
        ..fresh
    }
}

fn with_old_counts(fresh: Vec<EndStatus>, before: &[EndStatus]) -> Vec<EndStatus> {
    let old = |name: &str| before.iter().find(|end| end.name == name).map(|end| end.dead_lettered);
    fresh.into_iter().map(|end| EndStatus { dead_lettered: old(&end.name).unwrap_or(end.dead_lettered), ..end }).collect()
}

fn fresh(observed: &Observed<'_>, before: &PipelineStatus, references: &References) -> PipelineStatus {
    let tasks: Vec<_> = observed.reports.workers.iter().flat_map(|worker| &worker.tasks).collect();
    let spec = &observed.pipeline.spec;
    // A task that reads all inputs does not say of which its dead letters are, unless there is only one.
    let only = spec.inputs.len() == 1;
    let of_input =
        |input: &str| dead_lettered(tasks.iter().filter(|task| task.report.task.input == input || only && task.report.task.is_whole()));
    let inputs = spec.inputs.iter().map(|input| EndStatus {
        dead_lettered: of_input(&input.name),
        ..end(&input.name, references.sources.get(&input.source_ref.name))
    });
    let outputs = spec.outputs.iter().map(|output| end(&output.name, references.sinks.get(&output.sink_ref.name)));
    let mut status = PipelineStatus {
        lag: None,
        checkpoint: checkpoint(observed, before, &tasks),
        dead_lettered: dead_lettered(tasks.iter()),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        plan: plan(observed, before),
        ..PipelineStatus::default()
    };
    if !tasks.is_empty() && observed.stopped().is_none() {
        status.lag = Some(lag(observed, &tasks));
        if is_same(&status, before) {
            // Nothing but the time of looking is new.
            status.lag.clone_from(&before.lag);
        }
    }
    status
}

/// Whether two statuses have the same numbers, whenever they were seen.
fn is_same(one: &PipelineStatus, other: &PipelineStatus) -> bool {
    let lag = |status: &PipelineStatus| status.lag.as_ref().map(|lag| (lag.records, lag.seconds));
    let counts =
        |status: &PipelineStatus| status.inputs.iter().map(|end| (end.name.clone(), end.dead_lettered)).collect::<BTreeMap<_, _>>();
    lag(one) == lag(other) && one.checkpoint == other.checkpoint && one.dead_lettered == other.dead_lettered && counts(one) == counts(other)
}

fn lag(observed: &Observed<'_>, tasks: &[&TaskFact]) -> LagStatus {
    let competing = |input: &str| {
        plans(observed).flat_map(|plan| &plan.inputs).any(|plan| plan.input == input && plan.distribution == Distribution::Competing)
    };
    let mut records: BTreeMap<&str, u64> = BTreeMap::new();
    for task in tasks {
        if let Some(lag) = task.report.lag_records {
            let input = task.report.task.input.as_str();
            let sum = records.entry(input).or_default();
            // All readers of a queue see the same queue.
            *sum = if competing(input) { lag.max(*sum) } else { sum.saturating_add(lag) };
        }
    }
    let records = (!records.is_empty()).then(|| records.values().fold(0_u64, |sum, lag| sum.saturating_add(*lag)));
    let seconds = tasks.iter().filter_map(|task| task.report.lag_seconds).max();
    LagStatus { records: records.map(round_up), seconds: seconds.map(round_up), observed_time: Some(Time(observed.now)) }
}

fn checkpoint(observed: &Observed<'_>, before: &PipelineStatus, tasks: &[&TaskFact]) -> Option<CheckpointStatus> {
    let before = before.checkpoint.as_ref();
    let furthest_behind =
        tasks.iter().filter_map(|task| task.report.epoch_at_millis).min().and_then(|millis| Timestamp::from_second(millis / 1000).ok());
    let location = observed.validated.target.ready().map(|ready| ready.job.state.location.clone());
    let status = CheckpointStatus {
        // Without workers the last one known is still the last one.
        last_completed_time: furthest_behind.map(Time).or_else(|| before?.last_completed_time.clone()),
        location: location.or_else(|| before?.location.clone()),
    };
    (status != CheckpointStatus::default()).then_some(status)
}

fn plan(observed: &Observed<'_>, before: &PipelineStatus) -> Option<PlanStatus> {
    let switched = match observed.decision {
        Decision::Switch(outcome) => outcome.plan.as_ref(),
        _ => None,
    };
    let of = |plan: &PlanReport| PlanStatus { hash: plan.hash.clone(), operators: i32::try_from(plan.operators).unwrap_or(i32::MAX) };
    switched.or_else(|| plans(observed).next()).map(of).or_else(|| before.plan.clone())
}

/// Plans of workers, those of the revision that runs first.
pub(super) fn plans<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = &'a PlanReport> {
    let current = |revision: &str| observed.running.is_some_and(|running| running.revision == revision);
    let of = move |wanted: bool| {
        accepted::checks(observed).filter(move |check| current(&check.revision) == wanted).filter_map(|check| check.plan.as_ref())
    };
    of(true).chain(of(false))
}

fn dead_lettered<'a>(tasks: impl Iterator<Item = &'a &'a TaskFact>) -> i64 {
    round_up(tasks.fold(0, |sum: u64, task| sum.saturating_add(task.report.dead_lettered)))
}

fn end(name: &str, verdict: Option<&Verdict>) -> EndStatus {
    let (ready, message) = match verdict {
        Some(Verdict::Good) => ("True", None),
        Some(Verdict::Bad(_, message)) => ("False", Some(message.chars().take(1024).collect())),
        Some(Verdict::Unknown) | None => ("Unknown", None),
    };
    EndStatus { name: name.to_owned(), ready: ready.to_owned(), message, dead_lettered: 0 }
}

/// Rounded up to 0, 1, 2, 5, 10, 20, 50 ….
fn round_up(number: u64) -> i64 {
    let mut step: i64 = 1;
    let wanted = i64::try_from(number).unwrap_or(i64::MAX);
    if wanted == 0 {
        return 0;
    }
    loop {
        for factor in [1, 2, 5] {
            match step.checked_mul(factor) {
                Some(rounded) if rounded < wanted => {}
                Some(rounded) => return rounded,
                None => return i64::MAX,
            }
        }
        step = match step.checked_mul(10) {
            Some(step) => step,
            None => return i64::MAX,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::round_up;

    #[test]
    fn numbers_are_rounded_up() {
        let cases = [(0, 0), (1, 1), (2, 2), (3, 5), (5, 5), (6, 10), (11, 20), (21, 50), (51, 100), (999_999, 1_000_000)];
        for (number, rounded) in cases {
            assert_eq!(round_up(number), rounded);
        }
        assert_eq!(round_up(u64::MAX), i64::MAX);
        assert_eq!(round_up(4_000_000_000_000_000_000), 5_000_000_000_000_000_000);
    }
}
