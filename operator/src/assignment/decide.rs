//! The decision: from what is known of the workers to what each is told. Pure; the same view gives the same answer.

use std::collections::{BTreeMap, BTreeSet};

use millrace_crds::report::{Assignment, Distribution, REPORT_VERSION, TaskRef};

use super::{Held, Input, View, Worker, competing, partitioned, whole};

/// What each worker is told, filled in input by input.
pub(super) struct Draft<'a> {
    pub(super) view: &'a View,
    tasks: BTreeMap<&'a str, BTreeMap<TaskRef, bool>>,
}

impl<'a> Draft<'a> {
    /// Gives `task` to `worker`; `draining`: to finish it.
    pub(super) fn give(&mut self, worker: &'a str, task: TaskRef, draining: bool) {
        self.tasks.entry(worker).or_default().insert(task, draining || self.view.drain);
    }

    /// Workers that can be given tasks of single splits of an input.
    pub(super) fn eligible(&self, input: &str) -> Vec<&'a str> {
        let fits = |worker: &Worker| worker.eligible && !worker.whole && worker.inputs.contains(input);
        self.view.workers.iter().filter(|(_, worker)| fits(worker)).map(|(name, _)| name.as_str()).collect()
    }

    /// How many tasks `worker` was given for which `counts`.
    pub(super) fn load(&self, worker: &str, counts: impl Fn(&TaskRef, bool) -> bool) -> usize {
        self.tasks.get(worker).map_or(0, |tasks| tasks.iter().filter(|(task, draining)| counts(task, **draining)).count())
    }
}

/// Tells every live worker what to hold.
pub(crate) fn decide(view: &View) -> BTreeMap<String, Assignment> {
    let mut draft = Draft { view, tasks: BTreeMap::new() };
    let keepers = keepers(view);
    echo_to_ineligible(&mut draft, &keepers);
    whole::assign(&mut draft, &keepers);
    partitioned::assign(&mut draft, &keepers);
    for (name, input) in &view.inputs {
        if input.distribution == Distribution::Competing {
            competing::assign(&mut draft, name, input, &keepers);
        }
    }
    let enumerator = enumerator(view);
    view.workers
        .keys()
        .map(|name| {
            let tasks = draft.tasks.remove(name.as_str()).unwrap_or_default();
            let draining = tasks.iter().filter(|(_, draining)| **draining).map(|(task, _)| task.clone()).collect();
            let assignment = Assignment {
                version: REPORT_VERSION,
                tasks: tasks.into_keys().collect(),
                draining,
                enumerate: enumerator == Some(name.as_str()),
            };
            (name.clone(), assignment)
        })
        .collect()
}

/// Whether everything is finished: all that is held, and all that is known to be unfinished.
pub(crate) fn finished(view: &View) -> bool {
    let held: BTreeMap<&TaskRef, bool> =
        view.workers.values().flat_map(|worker| &worker.holds).map(|(task, held)| (task, held.is_finished())).collect();
    let known = |(name, input): (&String, &Input)| match input.distribution {
        Distribution::Whole => held.contains_key(&TaskRef::whole()),
        Distribution::Competing | Distribution::Partitioned => input
            .splits
            .as_ref()
            .is_some_and(|splits| splits.iter().all(|split| held.contains_key(&TaskRef { input: name.clone(), split: split.clone() }))),
    };
    view.settled
        && view.workers.values().any(|worker| worker.eligible)
        && view.workers.values().all(|worker| worker.eligible)
        && held.values().all(|finished| *finished)
        && view.orphans.iter().all(|orphan| held.contains_key(orphan))
        && view.inputs.iter().all(known)
}

/// Who keeps each task that is held. With several holders, one that was presumed dead has come back: who was told since keeps the task, else the highest
/// generation does.
pub(super) type Keepers<'a> = BTreeMap<&'a TaskRef, (&'a str, Held)>;

fn keepers(view: &View) -> Keepers<'_> {
    let mut keepers: Keepers<'_> = BTreeMap::new();
    for (name, worker) in &view.workers {
        for (task, held) in &worker.holds {
            let rank =
                |name: &str, held: &Held| (held.phase.is_none(), held.generation, view.workers.get(name).is_some_and(|w| w.eligible));
            let better = keepers.get(task).is_none_or(|(other, known)| rank(name, held) > rank(other, known));
            if better {
                keepers.insert(task, (name, *held));
            }
        }
    }
    keepers
}

/// A worker that is starting, failing or going away is told what it already holds: it closes by itself what it cannot keep.
fn echo_to_ineligible<'a>(draft: &mut Draft<'a>, keepers: &Keepers<'a>) {
    for (task, (name, held)) in keepers {
        if !draft.view.workers[*name].eligible {
            draft.give(name, (*task).clone(), held.draining);
        }
    }
}

fn enumerator(view: &View) -> Option<&str> {
    let eligible = |name: &str| view.workers.get(name).is_some_and(|worker| worker.eligible);
    let last = view.enumerator.as_deref().filter(|name| eligible(name));
    last.or_else(|| view.workers.iter().find(|(_, worker)| worker.eligible).map(|(name, _)| name.as_str()))
}

/// Splits of `input` as tasks.
pub(super) fn tasks_of(input: &str, splits: &BTreeSet<String>) -> impl Iterator<Item = TaskRef> {
    splits.iter().map(move |split| TaskRef { input: input.to_owned(), split: split.clone() })
}
