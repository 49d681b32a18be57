//! The tasks that this process holds: starts what is wanted, closes what is not. It decides nothing about who should hold what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_crds::report::{Assignment, TaskPhase, TaskRef, TaskReport};
use millrace_engine::runtime::{Control, Observed, TaskConfig, TaskEnd, supervise};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::assemble::{Assembled, Store};

/// Tasks by input and split.
pub(crate) struct Tasks {
    assembled: Arc<Assembled>,
    store: Store,
    held: BTreeMap<TaskRef, Held>,
}

struct Held {
    control: watch::Sender<Control>,
    observed: Arc<Observed>,
    handle: JoinHandle<TaskEnd>,
    end: Option<TaskEnd>,
}

impl Tasks {
    pub(crate) fn new(assembled: Arc<Assembled>, store: Store) -> Self {
        Self { assembled, store, held: BTreeMap::new() }
    }

    /// Makes what is held follow `wanted`. A task that is not wanted closes a last epoch and is gone some time later; until then it is still reported.
    pub(crate) async fn follow(&mut self, wanted: &Assignment) {
        let tasks: BTreeSet<&TaskRef> = wanted.tasks.iter().collect();
        self.reap(&tasks).await;
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
                self.held.insert(task.clone(), Held::start(config, first));
            }
        }
    }

    /// Notices ends. What has finished stays listed while it is wanted, so that it is reported. What ended otherwise and is still wanted is started
    /// again, but only at the next call, so that its end is reported once: the operator may know better by then.
    async fn reap(&mut self, wanted: &BTreeSet<&TaskRef>) {
        let mut gone = Vec::new();
        for (task, held) in &mut self.held {
            let reported = held.end.is_some();
            held.notice().await;
            let again = reported && held.end != Some(TaskEnd::Finished);
            if held.end.is_some() && (again || !wanted.contains(task)) {
                gone.push(task.clone());
            }
        }
        for task in gone {
            self.held.remove(&task);
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

    /// Closes everything and waits for it; says how each task ended.
    pub(crate) async fn close(&mut self) -> Vec<TaskEnd> {
        for held in self.held.values() {
            held.control.send_replace(Control::Close);
        }
        let mut ends = Vec::with_capacity(self.held.len());
        for held in self.held.values_mut() {
            if held.end.is_none() {
                held.end = (&mut held.handle).await.ok();
            }
            ends.push(held.end.unwrap_or(TaskEnd::Abandoned));
        }
        self.held.clear();
        ends
    }
}

impl Held {
    #[expect(clippy::disallowed_methods, reason = "the handle is awaited in `notice` and `close`, and aborted on drop")]
    fn start(config: TaskConfig, first: Control) -> Self {
        let (control, receiver) = watch::channel(first);
        let observed = Arc::new(Observed::default());
        let handle = tokio::spawn(supervise(config, Arc::clone(&observed), receiver, rand::random::<u128>));
        Self { control, observed, handle, end: None }
    }

    async fn notice(&mut self) {
        if self.end.is_none() && self.handle.is_finished() {
            // A task that panicked counts as abandoned: it is started again at its last epoch.
            self.end = Some((&mut self.handle).await.unwrap_or(TaskEnd::Abandoned));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
