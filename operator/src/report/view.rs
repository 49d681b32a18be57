//! From what was reported to what assignment is decided from. Pure.

use std::collections::{BTreeMap, BTreeSet};

use millrace_crds::report::{Distribution, TaskPhase, WorkerPhase};

use super::registry::{Entry, PodLife, Seen};
use crate::assignment::{Held, Input, View, Worker};

/// What is known of the workers of one Pipeline.
pub(super) fn of(entry: &Entry, settled: bool) -> View {
    let workers: BTreeMap<String, Worker> = entry
        .workers
        .iter()
        .map(|(name, seen)| (name.clone(), worker(seen, entry.facts.pods.get(name) == Some(&PodLife::Terminating))))
        .collect();
    View {
        drain: entry.facts.drain,
        settled,
        inputs: inputs(entry, &workers),
        workers,
        enumerator: entry.enumerator.clone(),
        orphans: entry.orphans.clone(),
    }
}

fn worker(seen: &Seen, terminating: bool) -> Worker {
    let report = &seen.report;
    let works = matches!(report.phase, WorkerPhase::Running | WorkerPhase::Completed);
    let plan = report.check.plan.as_ref().filter(|_| report.check.problems.is_empty());
    Worker {
        eligible: works && plan.is_some() && !terminating,
        inputs: plan.iter().flat_map(|plan| &plan.inputs).map(|input| input.input.clone()).collect(),
        whole: plan.iter().flat_map(|plan| &plan.inputs).any(|input| input.distribution == Distribution::Whole),
        holds: holds(seen),
    }
}

/// What a worker may be running: what it reported, and what it was told in answer to that.
fn holds(seen: &Seen) -> BTreeMap<millrace_crds::report::TaskRef, Held> {
    let draining: BTreeSet<_> = seen.told.draining.iter().collect();
    let told = seen.told.tasks.iter().map(|task| {
        let held = Held { phase: None, generation: 0, draining: draining.contains(task) };
        (task.clone(), held)
    });
    let reported = seen.report.tasks.iter().map(|task| {
        let drains = draining.contains(&task.task) || task.phase == TaskPhase::Draining;
        (task.task.clone(), Held { phase: Some(task.phase), generation: task.generation, draining: drains })
    });
    // What was reported knows more than what was told.
    told.chain(reported).collect()
}

/// Inputs of all plans that run; during a rollout that of the revision that is wanted goes first.
fn inputs(entry: &Entry, workers: &BTreeMap<String, Worker>) -> BTreeMap<String, Input> {
    let mut inputs = BTreeMap::new();
    let wanted = |seen: &Seen| entry.facts.revision.as_ref() == Some(&seen.report.revision);
    let eligible = || entry.workers.iter().filter(|(name, _)| workers[*name].eligible).map(|(_, seen)| seen);
    for seen in eligible().filter(|seen| wanted(seen)).chain(eligible().filter(|seen| !wanted(seen))) {
        for plan in seen.report.check.plan.iter().flat_map(|plan| &plan.inputs) {
            inputs
                .entry(plan.input.clone())
                .or_insert_with(|| Input { distribution: plan.distribution, splits: entry.splits.get(&plan.input).cloned() });
        }
    }
    inputs
}
