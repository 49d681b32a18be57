//! Workers that wait to hear of another assignment, and what the end of their connection tells: a process that has died, unless it comes back at once.
//! No assignment is given here, and that a worker is presumed dead only frees its tasks: what it still does is fenced by generations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_crds::report::{Assignment, Poll};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Entry, Refusal, Registry};
use crate::assignment;
use crate::names::Key;
use crate::report::view;

/// A worker whose connection broke while it waited, and that has not come back for so long, is presumed dead; if another one of its Pipeline has been heard since:
/// where nobody is heard it may be us, or the network.
pub(super) const GRACE: Duration = Duration::from_millis(400);

/// Whether a worker waits.
#[derive(Debug, Default)]
pub(super) enum Line {
    /// It does not, or between two times.
    #[default]
    Idle,
    /// It does; the number tells one request from the next.
    Open(u64, Arc<Notify>),
    /// It did until then, when its connection broke.
    Lost(Instant),
}

impl Line {
    /// After a report that arrived at `now`: that clears a suspicion which is not younger.
    pub(super) fn heard(self, now: Instant) -> Self {
        match self {
            Self::Lost(at) if at < now => Self::Idle,
            line => line,
        }
    }
}

/// What becomes of a request that waits.
pub(crate) enum Wait {
    /// The worker has to report at once.
    Over,
    /// It waits.
    For(Waiting),
}

/// A request that waits. Dropped before it was answered, its worker may have died.
pub(crate) struct Waiting {
    registry: Arc<Registry>,
    key: Key,
    worker: String,
    ticket: u64,
    bell: Arc<Notify>,
    answered: bool,
}

impl Waiting {
    /// Resolves when the assignment may be another.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Ends the waiting in order: the answer is about to be sent.
    pub(crate) fn answer(mut self) {
        self.answered = true;
        self.end(Line::Idle);
    }

    /// The connection broke.
    pub(super) fn lose(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.answered, true) {
            self.end(Line::Lost(now));
            self.registry.lost.notify_one();
        }
    }

    fn end(&self, line: Line) {
        let mut entries = self.registry.entries();
        let seen = entries.get_mut(&self.key).and_then(|entry| entry.workers.get_mut(&self.worker));
        // By now another process, or another request of the same, may have its place.
        if let Some(seen) = seen.filter(|seen| matches!(seen.line, Line::Open(ticket, _) if ticket == self.ticket)) {
            seen.line = line;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lose(crate::clock::monotonic());
    }
}

impl Registry {
    /// Takes a request that waits.
    pub(crate) fn wait(self: &Arc<Self>, poll: &Poll, now: Instant) -> Result<Wait, Refusal> {
        let key = Key::new(&poll.namespace, &poll.pipeline);
        let mut entries = self.entries();
        let entry = entries.get_mut(&key).ok_or(Refusal::UnknownPipeline)?;
        entry.knows(&poll.pipeline_uid, &poll.worker)?;
        entry.expire(now);
        let Some(seen) = entry.workers.get_mut(&poll.worker).filter(|seen| seen.report.sequence == poll.sequence) else {
            return Ok(Wait::Over);
        };
        if seen.rings {
            seen.line = Line::Idle;
            return Ok(Wait::Over);
        }
        let (ticket, bell) = (self.ticket(), Arc::new(Notify::new()));
        seen.line = Line::Open(ticket, Arc::clone(&bell));
        // Where everybody was lost, this one is the sign that it was not us.
        entry.expire(now);
        Ok(Wait::For(Waiting { registry: Arc::clone(self), key, worker: poll.worker.clone(), ticket, bell, answered: false }))
    }

    /// How many requests wait.
    #[cfg(test)]
    pub(in crate::report) fn waiting(&self) -> usize {
        let open = |seen: &&super::Seen| matches!(seen.line, Line::Open(..));
        self.entries().values().map(|entry| entry.workers.values().filter(open).count()).sum()
    }

    /// Buries workers that have not come back, for as long as the process runs. `buried` is called for each of their Pipelines.
    pub(crate) async fn keep_watch(&self, buried: impl Fn(&Key)) {
        loop {
            let now = crate::clock::monotonic();
            let mut next: Option<Instant> = None;
            for (key, entry) in self.entries().iter_mut() {
                if entry.expire(now) {
                    buried(key);
                }
                next = next.into_iter().chain(entry.next_burial(now)).min();
            }
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.lost.notified() => {}
            }
        }
    }
}

impl Entry {
    /// Workers that are presumed dead at `now`.
    pub(super) fn presumed_dead(&self, now: Instant) -> Vec<String> {
        let mut dead = Vec::new();
        for (name, seen) in &self.workers {
            let Line::Lost(at) = seen.line else { continue };
            let heard =
                |(other, seen): (&String, &super::Seen)| other != name && (matches!(seen.line, Line::Open(..)) || seen.received > at);
            if now >= at + GRACE && self.workers.iter().any(heard) {
                dead.push(name.clone());
            }
        }
        dead
    }

    /// When the next grace ends.
    fn next_burial(&self, now: Instant) -> Option<Instant> {
        let ends = self.workers.values().filter_map(|seen| match seen.line {
            Line::Lost(at) => Some(at + GRACE),
            Line::Idle | Line::Open(..) => None,
        });
        ends.filter(|end| *end > now).min()
    }

    /// Looks at what everybody should hold, and rings for those who were told something else.
    pub(super) fn review(&mut self, now: Instant) {
        let settled = self.settled(now);
        let decided = assignment::decide(&view::of(self, settled));
        self.ring(&decided);
    }

    /// Rings for those who were told something else than was decided.
    pub(super) fn ring(&mut self, decided: &BTreeMap<String, Assignment>) {
        for (name, seen) in &mut self.workers {
            seen.rings = decided.get(name).is_some_and(|wanted| *wanted != seen.told);
            if let (true, Line::Open(_, bell)) = (seen.rings, &seen.line) {
                bell.notify_one();
            }
        }
    }
}
