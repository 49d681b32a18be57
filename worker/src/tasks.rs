//! The tasks that this process holds: starts what is wanted, closes what is not. It decides nothing about who should hold what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use millrace_crds::report::{Assignment, TaskPhase, TaskRef, TaskReport};
use millrace_engine::runtime::{Control, Observed, TaskConfig, TaskEnd, supervise};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::assemble::{Assembled, Store};

/// Tasks by input and split.
pub(crate) struct Tasks {
    assembled: Arc<Assembled>,
    store: Store,
    held: BTreeMap<TaskRef, Held>,
    running: JoinSet<TaskEnd>,
    /// What runs, by the number that tokio gave it.
    names: HashMap<Id, TaskRef>,
    /// Told when a task does something else.
    changed: Arc<Notify>,
}

struct Held {
    control: watch::Sender<Control>,
    observed: Arc<Observed>,
    handle: AbortHandle,
    end: Option<TaskEnd>,
}

impl Tasks {
    pub(crate) fn new(assembled: Arc<Assembled>, store: Store) -> Self {
        let (running, names) = (JoinSet::new(), HashMap::new());
        Self { assembled, store, held: BTreeMap::new(), running, names, changed: Arc::default() }
    }

    /// Makes what is held follow `wanted`. A task that is not wanted closes a last epoch and is gone some time later; until then it is still reported.
    pub(crate) fn follow(&mut self, wanted: &Assignment) {
        let tasks: BTreeSet<&TaskRef> = wanted.tasks.iter().collect();
        self.reap(&tasks);
        for (task, held) in &self.held {
            let control = if !tasks.contains(task) {
                Control::Close
            } else if wanted.draining.contains(task) {
                Control::Drain
            } else {
                Control::Run
            };
            held.control.send_if_modified(|current| {
                // Closing and draining are not taken back: the task ends, and starts anew if it is wanted then.
                let changes = *current != control && *current == Control::Run || control == Control::Close && *current == Control::Drain;
                if changes {
                    *current = control;
                }
                changes
            });
        }
        for task in tasks {
            if !self.held.contains_key(task)
                && let Some(config) = self.assembled.task(task, &self.store)
            {
                let first = if wanted.draining.contains(task) { Control::Drain } else { Control::Run };
                self.start(task.clone(), config, first);
            }
        }
    }

    fn start(&mut self, task: TaskRef, config: TaskConfig, first: Control) {
        let (control, receiver) = watch::channel(first);
        let observed = Arc::new(Observed::telling(Arc::clone(&self.changed)));
        let handle = self.running.spawn(supervise(config, Arc::clone(&observed), receiver, rand::random::<u128>));
        self.names.insert(handle.id(), task.clone());
        self.held.insert(task, Held { control, observed, handle, end: None });
    }

    /// Removes what has ended. What has finished stays listed while it is wanted, so that it is reported. What ended otherwise and is still wanted is started
    /// again, but only if its end was known before this call, so that it is reported once: the operator may know better by then.
    fn reap(&mut self, wanted: &BTreeSet<&TaskRef>) {
        let known: BTreeSet<TaskRef> = self.held.iter().filter(|(_, held)| held.end.is_some()).map(|(task, _)| task.clone()).collect();
        self.notice();
        self.held.retain(|task, held| {
            let again = known.contains(task) && held.end != Some(TaskEnd::Finished);
            held.end.is_none() || wanted.contains(task) && !again
        });
    }

    /// Takes note of what has ended by now.
    pub(crate) fn notice(&mut self) {
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    /// Takes note of an end. What was told to close is let go with it: it is no longer listed.
    fn ended(&mut self, ended: Result<(Id, TaskEnd), JoinError>) -> Option<TaskEnd> {
        // A task that panicked counts as abandoned: it is started again at its last epoch.
        let (id, end) = ended.unwrap_or_else(|panic| (panic.id(), TaskEnd::Abandoned));
        let task = self.names.remove(&id)?;
        let held = self.held.get_mut(&task)?;
        held.end = Some(end);
        if *held.control.borrow() == Control::Close {
            self.held.remove(&task);
        }
        Some(end)
    }

    /// Resolves when a task has ended or does something else. A dropped call loses nothing.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            Some(ended) = self.running.join_next_with_id() => drop(self.ended(ended)),
            () = self.changed.notified() => {}
        }
    }

    /// All tasks as of now.
    pub(crate) fn report(&self) -> Vec<TaskReport> {
        let now = self.store.clock.now_millis();
        self.held.iter().map(|(task, held)| held.observed.snapshot(task, now)).collect()
    }

    /// Whether there are tasks and every one has finished.
    pub(crate) fn all_finished(&self) -> bool {
        !self.held.is_empty() && self.report().iter().all(|task| task.phase == TaskPhase::Finished)
    }

    /// Tells everything to close. What has ended before is let go; how it had.
    pub(crate) fn let_go(&mut self) -> Vec<TaskEnd> {
        for held in self.held.values() {
            held.control.send_replace(Control::Close);
        }
        self.held.extract_if(.., |_, held| held.end.is_some()).filter_map(|(_, held)| held.end).collect()
    }

    /// The next ends of tasks, as many as there are; none if nothing runs. A dropped call loses nothing.
    pub(crate) async fn next_ends(&mut self) -> Vec<TaskEnd> {
        let first = self.running.join_next_with_id().await;
        let more = std::iter::from_fn(|| self.running.try_join_next_with_id());
        let ended: Vec<_> = first.into_iter().chain(more).collect();
        ended.into_iter().filter_map(|ended| self.ended(ended)).collect()
    }

    /// Closes everything and waits for it; says how each task ended.
    pub(crate) async fn close(&mut self) -> Vec<TaskEnd> {
        let mut ends = self.let_go();
        while !self.running.is_empty() {
            ends.extend(self.next_ends().await);
        }
        ends
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
