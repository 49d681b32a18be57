//! Which worker holds which task: what is known of the workers of one Pipeline, and the decision from it. Nothing is stored, nothing is sent here.
//!
//! Three rules, whatever happens:
//!
//! * A task goes to a worker only when no other live worker can be running it.
//! * A task is taken from a worker only for a reason that is known, never because something is not known (yet).
//! * A worker that was told of a task may be running it until a later report of it says otherwise, or it is dead.
//!
//! Two workers may still run one task for a while, for example when a node is cut off. Then generations decide, not we.

mod competing;
mod decide;
mod partitioned;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use millrace_crds::report::{Distribution, TaskPhase, TaskRef};

pub(crate) use decide::{decide, finished};

/// What is known of the workers of one Pipeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Whether everything is to be finished.
    pub(crate) drain: bool,
    /// Whether all workers that were there before this operator started have reported, or had the time to.
    pub(crate) settled: bool,
    /// Live workers by name: those that may be running something.
    pub(crate) workers: BTreeMap<String, Worker>,
    /// Inputs by name.
    pub(crate) inputs: BTreeMap<String, Input>,
    /// Who was told to enumerate last.
    pub(crate) enumerator: Option<String>,
    /// Tasks that workers held when they died.
    pub(crate) orphans: BTreeSet<TaskRef>,
}

/// A live worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Worker {
    /// Whether it can be given something: it runs, its plan is accepted, its pod is not going away.
    pub(crate) eligible: bool,
    /// Inputs that its plan has.
    pub(crate) inputs: BTreeSet<String>,
    /// Whether its plan keeps state, so that it runs as one task.
    pub(crate) whole: bool,
    /// Tasks that it may be running.
    pub(crate) holds: BTreeMap<TaskRef, Held>,
}

/// A task that a worker may be running.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    /// What it said of it; `None` if it was told of the task but has not reported since.
    pub(crate) phase: Option<TaskPhase>,
    /// Generation that it claimed, 0 if it has not said.
    pub(crate) generation: u64,
    /// Whether it is to finish the task, as last told or reported.
    pub(crate) draining: bool,
}

impl Held {
    fn is_finished(self) -> bool {
        self.phase == Some(TaskPhase::Finished)
    }
}

/// An input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Input {
    /// How it is shared.
    pub(crate) distribution: Distribution,
    /// What enumeration found; `None` if nobody has enumerated yet.
    pub(crate) splits: Option<BTreeSet<String>>,
}
