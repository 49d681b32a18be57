//! Which worker reads which object, agreed on by all workers of an input. It talks to the checkpoint store only, never to the queue or a bucket.
//!
//! # The ledger
//! SQS delivers at least once, and S3 announces at least once. So several workers may hold an announcement of the same object at the same
//! time, before and after one of them has read it. Each object must be read by one of them, once, whatever is redelivered, crashes, or wakes up late.
//!
//! The ledger is a log in the checkpoint store. Entry `n` is an object that is created only if it is absent, and only by a worker that has
//! read all entries before it: so all workers see the same entries in the same order, and a worker whose create succeeds knew everything
//! that came before. What the entries mean is a pure fold ([`State`]):
//! * the first task to claim a thing has it; later claims of it count for nothing;
//! * only the task that has a thing can say that it is done: it does so when the epoch that holds the end of the thing is durable and committed;
//! * an entry of a generation older than one already seen of the same task counts for nothing.
//!
//! # Why each object is read exactly once
//! *At most one task*: by the fold. *By that task once*: a task's epochs are a chain that only one generation can extend (the fence of the
//! checkpoint), and each epoch's position says how far each claimed object has been read. A new owner of the task first claims the
//! next generation, then reads the position of the last epoch, then writes an entry here. After that entry, claims and dones of an older
//! owner are void for everybody, so what it still claims nobody misses; what it claimed before the entry, the new owner finds in the log,
//! with all it needs to read it, and goes on from the position, or from the start. *At least once*: a message is deleted only after the
//! entry that says `done`, and `done` is written only after the epoch.
//!
//! What is done is remembered for `ledgerTtlSeconds`, counted by the clocks in the entries: an announcement that comes later than that is read again.
//!
//! # Cleaning
//! At every multiple of 512 entries a snapshot is stored (all workers compute the same), and entries before the second newest snapshot are deleted,
//! except those at multiples of 512. A worker that slept through that would find a gap where it expects the end of the log, and its create
//! would succeed. So after every create it looks for the entry at the next multiple: if that is there, the log has passed, and the worker
//! reloads and looks at what became of its claim. What such workers leave in the gap others may take for the log, but not beyond: each entry names the one before
//! it, and the entry after the gap names another.

#![expect(clippy::disallowed_methods, reason = "entries say when they were written; nothing but forgetting depends on it")]

mod log;
mod state;

#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::source::Shared;

use super::object::ObjectId;
use log::{Created, Log};
use state::{Entry, VERSION};

pub(super) use state::{Claim, Standing, State, Subject};

/// Entries between snapshots.
const EVERY: u64 = 512;
/// How often the log may be cleaned under our eyes while we read it, before we think that it is damaged.
const RELOADS: u32 = 10;

/// The state of a ledger, kept up to date. Reads only.
#[derive(Debug)]
pub(super) struct View {
    log: Log,
    state: State,
}

impl View {
    /// Reads the ledger of an input.
    pub(super) async fn load(shared: &Shared, health: Health) -> Result<Self, ConnectorError> {
        Self::load_every(shared, EVERY, health).await
    }

    async fn load_every(shared: &Shared, every: u64, health: Health) -> Result<Self, ConnectorError> {
        let mut view = Self { log: Log::new(shared, every, health), state: State::default() };
        view.reload().await?;
        Ok(view)
    }

    /// As last seen.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Reads what has been added.
    pub(super) async fn refresh(&mut self) -> Result<(), ConnectorError> {
        if self.catch_up().await? { Ok(()) } else { self.reload().await }
    }

    /// Reads from the newest snapshot.
    async fn reload(&mut self) -> Result<(), ConnectorError> {
        for _ in 0..RELOADS {
            self.state = self.log.newest_snapshot().await?;
            if self.catch_up().await? {
                return Ok(());
            }
        }
        Err(ConnectorError::new(
            ErrorReason::Corrupt,
            "the entries of the ledger do not follow each other; restore the checkpoint store from a backup",
        ))
    }

    /// Reads what has been added. Returns whether this has led to the end of the log; if not, it must be read from the newest snapshot.
    async fn catch_up(&mut self) -> Result<bool, ConnectorError> {
        for entry in self.log.read_after(self.state.applied()).await? {
            if !self.apply(entry).await? {
                return Ok(false);
            }
        }
        Ok(!self.log.has_passed(self.state.applied() + 1).await?)
    }

    /// Returns false if the entry does not follow the last one.
    async fn apply(&mut self, entry: Entry) -> Result<bool, ConnectorError> {
        if !self.state.apply(entry) {
            return Ok(false);
        }
        if self.log.is_boundary(self.state.applied()) {
            self.state.forget();
            self.log.compact(&self.state).await?;
        }
        Ok(true)
    }
}

/// One task's hand on the ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    view: View,
    task: String,
    generation: u64,
    keep_seconds: u32,
    now_millis: fn() -> i64,
}

impl Ledger {
    /// Opens the ledger for generation `generation` of `task`, which fences all older ones. `finished` is what the last durable epoch has
    /// finished; some of it may not have been noted.
    ///
    /// # Errors
    /// `Internal` if a newer generation has.
    pub(super) async fn open(
        shared: &Shared,
        task: &str,
        generation: u64,
        keep_seconds: u32,
        finished: &[ObjectId],
        health: Health,
    ) -> Result<Self, ConnectorError> {
        let view = View::load(shared, health).await?;
        let mut ledger = Self { view, task: task.to_owned(), generation, keep_seconds, now_millis };
        ledger.append(Vec::new(), finished.to_vec(), true).await?;
        Ok(ledger)
    }

    /// Claims what is free of `wanted`. Afterwards [`Ledger::standing`] says what this task has.
    pub(super) async fn claim(&mut self, wanted: Vec<Claim>) -> Result<(), ConnectorError> {
        self.append(wanted, Vec::new(), false).await
    }

    /// Notes that what this task has claimed is durable.
    pub(super) async fn finish(&mut self, done: Vec<ObjectId>) -> Result<(), ConnectorError> {
        self.append(Vec::new(), done, false).await
    }

    /// Reads what others have added.
    pub(super) async fn refresh(&mut self) -> Result<(), ConnectorError> {
        self.view.refresh().await?;
        self.check_fence()
    }

    pub(super) fn standing(&self, id: &ObjectId) -> Standing {
        self.view.state.standing(id, &self.task)
    }

    /// What this task has claimed and not finished, in the order it was claimed.
    pub(super) fn unfinished(&self) -> Vec<Claim> {
        self.view.state.unfinished(&self.task)
    }

    async fn append(&mut self, mut claims: Vec<Claim>, mut done: Vec<ObjectId>, opening: bool) -> Result<(), ConnectorError> {
        loop {
            self.check_fence()?;
            claims.retain(|claim| self.standing(&claim.id) == Standing::Free);
            done.retain(|id| self.standing(id) == Standing::Mine);
            let must_open = opening && self.view.state.generation(&self.task) < self.generation;
            if claims.is_empty() && done.is_empty() && !must_open {
                return Ok(());
            }
            let entry = Entry {
                version: VERSION,
                task: self.task.clone(),
                generation: self.generation,
                nonce: format!("{:032x}", rand::random::<u128>()),
                after: self.view.state.last().to_owned(),
                at: (self.now_millis)(),
                keep_seconds: self.keep_seconds,
                claims: claims.clone(),
                done: done.clone(),
            };
            let number = self.view.state.applied() + 1;
            let follows = match self.view.log.create(number, &entry).await? {
                Created::Written => self.view.apply(entry).await?,
                Created::Taken(theirs) => self.view.apply(theirs).await?,
                Created::Passed => false,
            };
            if !follows {
                self.view.reload().await?;
            }
        }
    }

    fn check_fence(&self) -> Result<(), ConnectorError> {
        let newest = self.view.state.generation(&self.task);
        if newest <= self.generation {
            return Ok(());
        }
        let message = format!("split {} has a newer owner: generation {newest}, this one is {}", self.task, self.generation);
        Err(ConnectorError::new(ErrorReason::Internal, message))
    }
}

fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
