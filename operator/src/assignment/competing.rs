//! Queues: each worker has a split of its own; what splits without an owner still hold is finished by whoever is there. No split is shared.

use std::collections::{BTreeMap, BTreeSet};

use millrace_crds::report::{TaskPhase, TaskRef};

use super::decide::{Draft, Keepers, tasks_of};
use super::{Held, Input};

/// Assigns the splits of one queue.
pub(super) fn assign<'a>(draft: &mut Draft<'a>, name: &str, input: &Input, keepers: &Keepers<'a>) {
    let view = draft.view;
    let workers = draft.eligible(name);
    let unfinished: BTreeSet<TaskRef> = input.splits.iter().flat_map(|splits| tasks_of(name, splits)).collect();
    let mut held: BTreeMap<&str, Vec<(&TaskRef, Held)>> = BTreeMap::new();
    for (task, (worker, keeps)) in keepers.iter().filter(|(task, _)| task.input == name) {
        held.entry(worker).or_default().push((task, *keeps));
    }
    let mut taken: BTreeSet<TaskRef> = keepers.keys().filter(|task| task.input == name).map(|task| (*task).clone()).collect();

    let mut without = Vec::new();
    for worker in workers.iter().copied() {
        let splits = held.remove(worker).unwrap_or_default();
        let own = own_split(&splits);
        if own.is_none() {
            without.push(worker);
        }
        for (task, keeps) in splits {
            let is_own = own == Some(task);
            // A finished leftover is let go once enumeration agrees that nothing is left in it.
            let gone = !is_own && keeps.is_finished() && input.splits.is_some() && !unfinished.contains(task) && !view.drain;
            if !gone {
                draft.give(worker, task.clone(), !is_own);
            }
        }
    }
    if !view.settled {
        return;
    }
    if !view.drain {
        for worker in without {
            let task = lowest_free(name, &taken);
            taken.insert(task.clone());
            draft.give(worker, task, false);
        }
    }
    let orphans = view.orphans.iter().filter(|task| task.input == name).cloned();
    let leftovers: BTreeSet<TaskRef> = unfinished.into_iter().chain(orphans).filter(|task| !taken.contains(task)).collect();
    for task in leftovers {
        let least =
            workers.iter().copied().min_by_key(|worker| (draft.load(worker, |given, draining| draining && given.input == name), *worker));
        if let Some(worker) = least {
            draft.give(worker, task, true);
        }
    }
}

/// The split that a worker reads for itself: not one that it only finishes; one that runs goes before one that does not, then the lowest.
fn own_split<'a>(splits: &[(&'a TaskRef, Held)]) -> Option<&'a TaskRef> {
    splits
        .iter()
        .filter(|(_, held)| !held.draining && !matches!(held.phase, Some(TaskPhase::Draining)))
        .min_by_key(|(task, held)| (held.phase != Some(TaskPhase::Running), number(&task.split), &task.split))
        .map(|(task, _)| *task)
}

fn lowest_free(input: &str, taken: &BTreeSet<TaskRef>) -> TaskRef {
    let mut task = TaskRef { input: input.to_owned(), split: "0".to_owned() };
    let mut next = 0_u64;
    while taken.contains(&task) {
        next += 1;
        task.split = next.to_string();
    }
    task
}

/// Numbers in their order; what is no number comes last.
fn number(split: &str) -> u64 {
    split.parse().unwrap_or(u64::MAX)
}
