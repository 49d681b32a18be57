//! Plans that keep state: one task that reads all splits of all inputs, so one worker has it and the others stand by. It moves only with a reason.

use millrace_crds::report::{Distribution, TaskRef};

use super::decide::{Draft, Keepers};

/// Assigns the one task, if the plan is of this kind.
pub(super) fn assign<'a>(draft: &mut Draft<'a>, keepers: &Keepers<'a>) {
    let view = draft.view;
    if !view.inputs.values().any(|input| input.distribution == Distribution::Whole) {
        return;
    }
    let task = TaskRef::whole();
    match keepers.get(&task) {
        Some((name, keeps)) => {
            let worker = &view.workers[*name];
            if !worker.eligible || !worker.whole {
                // Echoed to a worker that is going away, or being closed by one whose plan keeps no state.
            } else if keeps.draining && !view.drain && view.settled {
                // It was to be finished and is wanted again: what drains cannot turn back, so it is let go and then started anew.
            } else {
                draft.give(name, task, keeps.draining);
            }
        }
        None if view.settled => {
            let first = view.workers.iter().find(|(_, worker)| worker.eligible && worker.whole);
            if let Some((name, _)) = first {
                draft.give(name, task, false);
            }
        }
        None => {}
    }
}
