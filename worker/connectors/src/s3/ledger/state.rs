//! What the entries of a ledger add up to. Pure: the same entries in the same order give the same state in every worker, and that is all of the safety.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use crate::s3::object::{Object, ObjectId};

/// Version of entries and snapshots.
pub(super) const VERSION: u32 = 1;

/// One entry of the log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// [`VERSION`].
    pub(super) version: u32,
    /// Task that wrote it: its split.
    pub(super) task: String,
    /// Generation of that task.
    pub(super) generation: u64,
    /// Tells this entry from any other, so that a writer that got no answer recognises its own.
    pub(super) nonce: String,
    /// Nonce of the entry before it; empty for the first. A worker that slept may have read entries that others who slept have left in a
    /// gap; where the log goes on after the gap, this does not fit.
    pub(super) after: String,
    /// When it was written, milliseconds since 1970, by the writer's clock.
    pub(super) at: i64,
    /// Seconds for which what is done is remembered.
    pub(super) keep_seconds: u32,
    /// What the task takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) claims: Vec<Claim>,
    /// What the task had taken and is durable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) done: Vec<ObjectId>,
}

/// Something that exactly one task reads, with all that is needed to read it again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claim {
    pub(crate) id: ObjectId,
    pub(crate) what: Subject,
}

/// What is claimed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Subject {
    /// An object.
    Object(Object),
    /// A message that announces nothing and is dead-lettered.
    #[serde(rename_all = "camelCase")]
    Message {
        /// Its id in the queue.
        message_id: String,
        /// What is wrong with it.
        error: String,
        /// Its body, cut.
        body: String,
    },
}

impl Claim {
    pub(crate) fn object(object: Object) -> Self {
        Self { id: object.id(), what: Subject::Object(object) }
    }
}

/// Where something stands, seen from one task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nobody has claimed it.
    Free,
    /// This task has claimed it and not finished.
    Mine,
    /// Another task has claimed it and not finished.
    Theirs,
    /// It is read, and durable.
    Done,
}

/// The sum of all entries up to one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    /// Number of the last entry that was applied; the first is 1.
    applied: u64,
    /// Its nonce.
    last: String,
    /// The latest time in an entry, milliseconds since 1970.
    clock: i64,
    /// The highest generation seen of each task.
    generations: BTreeMap<String, u64>,
    /// What is claimed and not finished.
    open: HashMap<ObjectId, Open>,
    /// What is done, with the minute since 1970 until which it is remembered.
    done: HashMap<ObjectId, i64>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    task: String,
    /// Number of the entry, and the place in it.
    order: (u64, usize),
    claim: Claim,
}

impl State {
    /// Number of the last entry.
    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// Nonce of the last entry.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// The highest generation that has written for `task`.
    pub(super) fn generation(&self, task: &str) -> u64 {
        self.generations.get(task).copied().unwrap_or(0)
    }

    pub(crate) fn standing(&self, id: &ObjectId, task: &str) -> Standing {
        match self.open.get(id) {
            Some(open) if open.task == task => Standing::Mine,
            Some(_) => Standing::Theirs,
            None if self.done.contains_key(id) => Standing::Done,
            None => Standing::Free,
        }
    }

    /// What `task` has claimed and not finished, in the order it was claimed.
    pub(crate) fn unfinished(&self, task: &str) -> Vec<Claim> {
        let mut open: Vec<_> = self.open.values().filter(|open| open.task == task).collect();
        open.sort_by_key(|open| open.order);
        open.into_iter().map(|open| open.claim.clone()).collect()
    }

    /// Tasks that have claimed something and not finished it.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let mut tasks: Vec<_> = self.open.values().map(|open| open.task.clone()).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    /// Adds the next entry. An entry of a generation older than one already seen of its task counts for nothing: its writer had been replaced.
    /// A claim counts if nobody has claimed or done the thing before. A `done` counts if the task has claimed it.
    ///
    /// Returns false, and changes nothing, if the entry does not follow the last one.
    pub(super) fn apply(&mut self, entry: Entry) -> bool {
        if entry.after != self.last {
            return false;
        }
        self.applied += 1;
        self.last = entry.nonce;
        if entry.generation < self.generation(&entry.task) {
            return true;
        }
        self.clock = self.clock.max(entry.at);
        self.generations.insert(entry.task.clone(), entry.generation);
        let forget = minutes(entry.at) + i64::from(entry.keep_seconds.div_ceil(60)) + 1;
        for id in entry.done {
            if self.standing(&id, &entry.task) == Standing::Mine {
                self.open.remove(&id);
                self.done.insert(id, forget);
            }
        }
        for (place, claim) in entry.claims.into_iter().enumerate() {
            if self.standing(&claim.id, &entry.task) == Standing::Free {
                let open = Open { task: entry.task.clone(), order: (self.applied, place), claim };
                self.open.insert(open.claim.id, open);
            }
        }
        true
    }

    /// Forgets what need no longer be remembered. Everybody does it at the same entries, so that all states stay the same.
    pub(super) fn forget(&mut self) {
        let now = minutes(self.clock);
        self.done.retain(|_, until| *until > now);
    }
}

fn minutes(millis: i64) -> i64 {
    millis.div_euclid(60_000)
}

/// A state as it is stored.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    pub(super) version: u32,
    applied: u64,
    last: String,
    clock: i64,
    generations: BTreeMap<String, u64>,
    open: Vec<Open>,
    /// By the minute until which they are remembered: ids, 16 bytes each, one after the other, base64.
    done: BTreeMap<i64, String>,
}

impl From<&State> for Snapshot {
    fn from(state: &State) -> Self {
        let mut open: Vec<_> = state.open.values().cloned().collect();
        open.sort_by_key(|open| open.order);
        let mut ids: BTreeMap<i64, Vec<ObjectId>> = BTreeMap::new();
        for (id, until) in &state.done {
            ids.entry(*until).or_default().push(*id);
        }
        let done = ids
            .into_iter()
            .map(|(until, mut ids)| {
                ids.sort_unstable();
                (until, BASE64.encode(ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>()))
            })
            .collect();
        let State { applied, last, clock, generations, .. } = state;
        Self { version: VERSION, applied: *applied, last: last.clone(), clock: *clock, generations: generations.clone(), open, done }
    }
}

impl Snapshot {
    /// The state again; `None` if it is damaged.
    pub(super) fn restore(self) -> Option<State> {
        let mut done = HashMap::new();
        for (until, ids) in self.done {
            let bytes = BASE64.decode(ids).ok()?;
            let (ids, rest) = bytes.as_chunks::<16>();
            if !rest.is_empty() {
                return None;
            }
            done.extend(ids.iter().map(|id| (ObjectId(*id), until)));
        }
        let open = self.open.into_iter().map(|open| (open.claim.id, open)).collect();
        Some(State { applied: self.applied, last: self.last, clock: self.clock, generations: self.generations, open, done })
    }
}
