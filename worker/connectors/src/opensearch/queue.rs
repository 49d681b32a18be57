//! Which documents are sent next, and when. Pure: it is told the time and what has come back.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use millrace_crds::connectors::opensearch::Bulk;
use tokio::time::Instant;

use super::bulk::Draft;

/// Requests under way at once.
pub(super) const MAX_IN_FLIGHT: usize = 2;

/// When a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of one request.
    pub(super) bytes: usize,
    /// Documents of one request.
    pub(super) count: usize,
    /// How long documents wait for more while a request is under way.
    pub(super) wait: Duration,
}

impl From<Option<&Bulk>> for Limits {
    fn from(bulk: Option<&Bulk>) -> Self {
        let bytes = bulk.and_then(|bulk| bulk.bytes).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(5 << 20);
        let count = bulk.and_then(|bulk| bulk.count).map_or(10_000, |count| count as usize);
        let wait = bulk.and_then(|bulk| bulk.seconds).unwrap_or(1);
        Self { bytes: bytes.max(1), count: count.max(1), wait: Duration::from_secs(u64::from(wait)) }
    }
}

/// Documents that wait, and what is under way. `T` is what a waiting draft holds on to (its share of memory).
pub(super) struct Queue<T> {
    limits: Limits,
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    count: usize,
    in_flight: usize,
    /// Identities under way; `None` if no two documents can have the same.
    busy: Option<HashSet<u64>>,
}

struct Waiting<T> {
    draft: Draft,
    held: T,
    since: Instant,
}

/// What goes out as one request.
pub(super) struct Next<T> {
    pub(super) draft: Draft,
    pub(super) held: Vec<T>,
}

impl<T> Queue<T> {
    /// `keyed`: whether several documents may have the same `_id`, so that their order must be kept.
    pub(super) fn new(limits: Limits, keyed: bool) -> Self {
        let busy = keyed.then(HashSet::new);
        Self { limits, waiting: VecDeque::new(), bytes: 0, count: 0, in_flight: 0, busy }
    }

    pub(super) fn push(&mut self, draft: Draft, held: T, now: Instant) {
        self.bytes += draft.body_bytes();
        self.count += draft.len();
        self.waiting.push_back(Waiting { draft, held, since: now });
    }

    /// The next request, if one should be sent now. With `flushing` nothing waits for more.
    pub(super) fn next(&mut self, now: Instant, flushing: bool) -> Option<Next<T>> {
        let oldest = self.waiting.front()?;
        let is_full = self.bytes >= self.limits.bytes || self.count >= self.limits.count;
        let is_due = self.in_flight == 0 || flushing || is_full || now >= oldest.since + self.limits.wait;
        if self.in_flight >= MAX_IN_FLIGHT || !is_due || self.is_held_back(&oldest.draft) {
            return None;
        }
        let mut next = Next { draft: Draft::default(), held: Vec::new() };
        while let Some(waiting) = self.waiting.front() {
            let fits = next.draft.body_bytes() + waiting.draft.body_bytes() <= self.limits.bytes
                && next.draft.len() + waiting.draft.len() <= self.limits.count;
            if !(next.draft.is_empty() || fits && !self.is_held_back(&waiting.draft)) {
                break;
            }
            let Some(Waiting { draft, held, .. }) = self.waiting.pop_front() else { break };
            self.bytes -= draft.body_bytes();
            self.count -= draft.len();
            if next.draft.is_empty() {
                next.draft = draft;
            } else {
                next.draft.append(draft);
            }
            next.held.push(held);
        }
        self.in_flight += 1;
        if let Some(busy) = &mut self.busy {
            busy.extend(next.draft.identities());
        }
        Some(next)
    }

    /// A request with these identities is decided.
    pub(super) fn finished(&mut self, identities: impl Iterator<Item = u64>) {
        self.in_flight -= 1;
        if let Some(busy) = &mut self.busy {
            for identity in identities {
                busy.remove(&identity);
            }
        }
    }

    /// When to ask again although nothing has come or finished.
    pub(super) fn due(&self) -> Option<Instant> {
        let oldest = self.waiting.front()?;
        let can_go = (1..MAX_IN_FLIGHT).contains(&self.in_flight) && !self.is_held_back(&oldest.draft);
        can_go.then(|| oldest.since + self.limits.wait)
    }

    /// Nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    /// Whether a document of the same identity is under way: the later one must not overtake it.
    fn is_held_back(&self, draft: &Draft) -> bool {
        self.busy.as_ref().is_some_and(|busy| !busy.is_empty() && draft.identities().any(|identity| busy.contains(&identity)))
    }
}
