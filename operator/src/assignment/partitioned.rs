//! Inputs whose splits have one reader each: spread evenly over the workers, moving as few as possible. It hands on no task that its holder has not let go.

use std::collections::{BTreeMap, BTreeSet};

use millrace_crds::report::{Distribution, TaskRef};

use super::decide::{Draft, Keepers, tasks_of};

/// Assigns the tasks of all partitioned inputs; they are balanced together.
pub(super) fn assign<'a>(draft: &mut Draft<'a>, keepers: &Keepers<'a>) {
    let view = draft.view;
    let wanted = wanted(draft, keepers);
    let mut held: BTreeMap<&str, Vec<TaskRef>> = BTreeMap::new();
    let mut free = Vec::new();
    for task in wanted {
        match keepers.get(&task) {
            None => free.push(task),
            Some((name, keeps)) => {
                let worker = &view.workers[*name];
                if !worker.eligible || worker.whole || !worker.inputs.contains(&task.input) {
                    // Echoed to a worker that is going away, or being closed by one whose plan has lost the input.
                } else if keeps.draining && !view.drain && view.settled {
                    // It was to be finished and is wanted again: what drains cannot turn back, so it is let go and then started anew.
                } else if keeps.is_finished() || !view.settled {
                    draft.give(name, task, keeps.draining);
                } else {
                    held.entry(name).or_default().push(task);
                }
            }
        }
    }
    if !view.settled {
        return;
    }
    let mut quotas = quotas(draft, &held, free.len());
    for (worker, tasks) in held {
        let quota = quotas.entry(worker).or_default();
        for task in tasks {
            // What is over the quota is not given again: the worker closes it, and it is free once it is no longer reported.
            if *quota > 0 {
                *quota -= 1;
                draft.give(worker, task, false);
            }
        }
    }
    for task in free {
        let least_loaded = draft.eligible(&task.input).into_iter().max_by_key(|worker| {
            let quota = quotas.get(worker).copied().unwrap_or_default();
            (quota, std::cmp::Reverse(*worker))
        });
        if let Some(worker) = least_loaded {
            let quota = quotas.entry(worker).or_default();
            *quota = quota.saturating_sub(1);
            draft.give(worker, task, false);
        }
    }
}

/// All tasks there are: what was enumerated; where nobody has enumerated yet, what is held.
fn wanted(draft: &Draft<'_>, keepers: &Keepers<'_>) -> BTreeSet<TaskRef> {
    let mut wanted = BTreeSet::new();
    for (name, input) in draft.view.inputs.iter().filter(|(_, input)| input.distribution == Distribution::Partitioned) {
        match &input.splits {
            Some(splits) => wanted.extend(tasks_of(name, splits)),
            None => wanted.extend(keepers.keys().filter(|task| task.input == *name).map(|task| (*task).clone())),
        }
    }
    wanted
}

/// How many tasks each worker should have: all the same, some one more; those who hold most get the one more, so that least moves.
fn quotas<'a>(draft: &Draft<'a>, held: &BTreeMap<&'a str, Vec<TaskRef>>, free: usize) -> BTreeMap<&'a str, usize> {
    let partitioned = |worker: &super::Worker| {
        !worker.whole
            && worker.inputs.iter().any(|input| draft.view.inputs.get(input).is_some_and(|i| i.distribution == Distribution::Partitioned))
    };
    let mut workers: Vec<(&'a str, usize)> = draft
        .view
        .workers
        .iter()
        .filter(|(_, worker)| worker.eligible && partitioned(worker))
        .map(|(name, _)| (name.as_str(), held.get(name.as_str()).map_or(0, Vec::len)))
        .collect();
    workers.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let total = free + held.values().map(Vec::len).sum::<usize>();
    let each = total.checked_div(workers.len()).unwrap_or_default();
    let more = total.checked_rem(workers.len()).unwrap_or_default();
    workers.into_iter().enumerate().map(|(index, (name, _))| (name, each + usize::from(index < more))).collect()
}
