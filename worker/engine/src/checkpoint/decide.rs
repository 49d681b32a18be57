//! The decisions of the epoch protocol: pure functions from what was observed to what to do next.
//! No I/O, no async, no clock, no randomness: the model test explores these very functions.
//!
//! Each decision has its facts, which start empty, and its steps. Whoever executes asks for a step, does it,
//! adds what was observed to the facts, and asks again, until the step is an outcome:
//!
//! | decision | asks the store for | outcomes |
//! |---|---|---|
//! | [`open`] | list, newest record, if damaged the one before, then what is later | `Ready`, `Refuse` |
//! | [`may_append`] | nothing | `Append`, `CommitFirst`, `Reopen` |
//! | [`append`] | create, on conflict the object, then what is later | `Canonical`, `Lost` |
//! | [`settle`] | nothing | `Forward`, `Back`, `Torn` |
//! | [`mark`] | create, on conflict the object | `Marked` |
//! | [`collect`] | list, the kept records, what is later, deletes | `Done`, `Hold`, `Overtaken` |
//!
//! A request that failed without an answer adds no fact, so the same step is asked for again:
//! retrying needs no decision of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Epoch, Generation};

/// What a listing of the task's epochs showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Listing {
    /// Epochs with a record.
    pub records: BTreeSet<Epoch>,
    /// Epochs whose external commit is marked as done.
    pub committed: BTreeSet<Epoch>,
}

/// How reading one record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// An intact record.
    Valid {
        /// Its owner's generation.
        generation: Generation,
        /// Whether a sink has something to commit.
        commits: bool,
    },
    /// There, but damaged, repeatedly.
    Corrupt,
    /// Not there.
    Missing,
}

/// What is known while opening.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpenFacts {
    /// The epochs listed.
    pub listing: Option<Listing>,
    /// The records read since.
    pub readings: BTreeMap<Epoch, Reading>,
    /// Whether an epoch later than the listed ones was there after all reads.
    pub later: Option<bool>,
}

/// What to do next to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenStep {
    /// List the epochs.
    List,
    /// Read this record.
    Read(Epoch),
    /// List the epochs after this one.
    LookLater(Epoch),
    /// The owner has moved on beyond this record. Forget all facts and start over.
    Relist(Epoch),
    /// This is where the task stands.
    Ready(Resume),
    /// Damaged beyond the one record that may be skipped (newest first).
    Refuse(Vec<Epoch>),
}

/// Where a task stands, and what its next owner has to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resume {
    /// The record to continue from; `None` for a task that never ran.
    pub from: Option<Epoch>,
    /// Whether that record's commit has to be rolled forward first.
    pub owed: bool,
    /// The epoch to claim.
    pub next: Epoch,
    /// The generation to claim it with.
    pub generation: Generation,
    /// The damaged epoch that was skipped.
    pub regressed: Option<Epoch>,
}

/// Where does the task stand?
///
/// The newest record counts, always. Only if it is damaged, the one right before it does; the damaged one stays
/// where it is, as evidence and as a taken number. Nothing older is ever used: it might not be canonical.
/// For the same reason as in [`append`], what was read counts only if nothing later is listed *after* it was read:
/// while we slept between listing and reading, the number may have been freed, and created again by another sleeper.
#[must_use]
pub fn open(facts: &OpenFacts) -> OpenStep {
    let Some(listing) = &facts.listing else { return OpenStep::List };
    let Some(&newest) = listing.records.last() else {
        return OpenStep::Ready(Resume { from: None, owed: false, next: Epoch(1), generation: Generation(1), regressed: None });
    };
    let ready = |from: Epoch, commits: bool, generation: u64, regressed| {
        match facts.later {
            None => return OpenStep::LookLater(newest),
            Some(true) => return OpenStep::Relist(newest),
            Some(false) => {}
        }
        let owed = commits && !listing.committed.contains(&from);
        OpenStep::Ready(Resume { from: Some(from), owed, next: newest.next(), generation: Generation(generation), regressed })
    };
    match facts.readings.get(&newest) {
        None => OpenStep::Read(newest),
        Some(Reading::Missing) => OpenStep::Relist(newest),
        Some(Reading::Valid { generation, commits }) => ready(newest, *commits, generation.0 + 1, None),
        Some(Reading::Corrupt) => {
            let Some(before) = newest.previous().filter(|before| listing.records.contains(before)) else {
                return OpenStep::Refuse(vec![newest]);
            };
            match facts.readings.get(&before) {
                None => OpenStep::Read(before),
                Some(Reading::Missing) => OpenStep::Relist(before),
                Some(Reading::Corrupt) => OpenStep::Refuse(vec![newest, before]),
                // The damaged record may itself have been a claim, one generation further.
                Some(Reading::Valid { generation, commits }) => ready(before, *commits, generation.0 + 2, Some(newest)),
            }
        }
    }
}

/// What an owner, or a would-be owner, has outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Debt {
    /// The last epoch is committed and marked, or had nothing to commit.
    Settled,
    /// The last epoch is canonical, its commit is not marked.
    Owed,
    /// A write ended without an answer.
    InDoubt,
}

/// Whether the next epoch may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Append,
    /// No: first commit the last one, and mark it.
    CommitFirst,
    /// No: first find out where the task stands.
    Reopen,
}

/// May an epoch follow? At most the newest epoch is ever uncommitted, so that recovery is about one epoch.
#[must_use]
pub fn may_append(debt: Debt) -> Gate {
    match debt {
        Debt::Settled => Gate::Append,
        Debt::Owed => Gate::CommitFirst,
        Debt::InDoubt => Gate::Reopen,
    }
}

/// How a create-if-absent ended, when it ended with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateReply {
    /// The object did not exist and now has our content.
    Created,
    /// The store says it exists, or another write of it is under way.
    Conflict,
}

/// What lies at the name that conflicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// Byte for byte our record: an earlier try was applied and its reply lost.
    Ours,
    /// Anything else, readable or not.
    Other,
    /// Nothing.
    Missing,
}

/// What is known while appending a record to the log (a claim is an append, too).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AppendFacts {
    /// How the create ended.
    pub create: Option<CreateReply>,
    /// What was found after a conflict.
    pub found: Option<Found>,
    /// Whether a later epoch was listed after our record was known to be stored.
    pub later: Option<bool>,
}

/// What to do next to append a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendStep {
    /// Create the record if absent.
    Create,
    /// Read what is there.
    ReadBack,
    /// The conflict is gone: pause, forget all facts and create again.
    Again,
    /// List the epochs after ours.
    LookLater,
    /// Our record is the epoch, and it is the newest.
    Canonical,
    /// The task belongs to somebody else.
    Lost,
}

/// Is our record the epoch?
///
/// Creating it is not enough. Garbage collection frees old names, so an owner that slept through some epochs
/// can create one of them a second time. But the newest record is never deleted: if no later epoch is listed
/// *after* the create, then there never was one, and the name was free because it was never used.
#[must_use]
pub fn append(facts: &AppendFacts) -> AppendStep {
    let stored = match (facts.create, facts.found) {
        (None, _) => return AppendStep::Create,
        (Some(CreateReply::Created), _) | (Some(CreateReply::Conflict), Some(Found::Ours)) => facts.later,
        (Some(CreateReply::Conflict), None) => return AppendStep::ReadBack,
        (Some(CreateReply::Conflict), Some(Found::Missing)) => return AppendStep::Again,
        (Some(CreateReply::Conflict), Some(Found::Other)) => return AppendStep::Lost,
    };
    match stored {
        None => AppendStep::LookLater,
        Some(false) => AppendStep::Canonical,
        Some(true) => AppendStep::Lost,
    }
}

/// What became of what one anchor prepared: see [`Sink::anchor`](crate::sink::Sink::anchor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is visible, and stays so.
    Committed,
    /// It is gone, and nobody can make it visible any more.
    Aborted,
}

/// What follows for an epoch whose commit was not marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Commit what the other sinks prepared, mark it, go on after it.
    Forward,
    /// The epoch had no effect and gets none: claim what was before it.
    Back,
    /// Some is visible and some is gone. It cannot come to this while a task has one anchor.
    Torn,
}

/// Forward or back? Without an anchor always forward: all that was prepared can still be committed.
///
/// Sound only if fates are final when they are told, and if no other sink commits before all anchors have.
#[must_use]
pub fn settle(fates: &[Fate]) -> Settlement {
    let aborted = fates.iter().filter(|fate| **fate == Fate::Aborted).count();
    if aborted == 0 {
        Settlement::Forward
    } else if aborted == fates.len() {
        Settlement::Back
    } else {
        Settlement::Torn
    }
}

/// What is known while marking an epoch as committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MarkFacts {
    /// How the create ended.
    pub create: Option<CreateReply>,
    /// Whether the object was there after a conflict.
    pub present: Option<bool>,
}

/// What to do next to mark an epoch as committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkStep {
    /// Create the marker if absent.
    Create,
    /// Look whether it is there.
    LookUp,
    /// The conflict is gone: pause, forget all facts and create again.
    Again,
    /// It is there; who wrote it does not matter, as all commit the same record.
    Marked,
}

/// Is the commit marked?
#[must_use]
pub fn mark(facts: &MarkFacts) -> MarkStep {
    match (facts.create, facts.present) {
        (None, _) => MarkStep::Create,
        (Some(CreateReply::Created), _) | (Some(CreateReply::Conflict), Some(true)) => MarkStep::Marked,
        (Some(CreateReply::Conflict), None) => MarkStep::LookUp,
        (Some(CreateReply::Conflict), Some(false)) => MarkStep::Again,
    }
}

/// An object that may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Garbage {
    /// An epoch's record.
    Record(Epoch),
    /// An epoch's mark of its commit.
    Committed(Epoch),
}

/// What is known while collecting garbage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CollectFacts {
    /// The epochs listed.
    pub listing: Option<Listing>,
    /// Whether each record that is to be kept could be read.
    pub readable: BTreeMap<Epoch, bool>,
    /// Whether an epoch later than the listed ones was there after all reads.
    pub later: Option<bool>,
    /// What has been deleted.
    pub deleted: BTreeSet<Garbage>,
}

/// What to do next to collect garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectStep {
    /// List the epochs.
    List,
    /// Read this record, which is to be kept.
    Check(Epoch),
    /// List the epochs after this one.
    LookLater(Epoch),
    /// Delete this.
    Delete(Garbage),
    /// Stop: the task belongs to somebody else, who collects, too.
    Overtaken,
    /// Stop: a record that is to be kept cannot be read, so what it refers to is unknown.
    Hold(Epoch),
    /// Nothing is left to delete among the epochs; state files of epochs before `oldest` may go, unless referenced.
    Done {
        /// The oldest epoch kept; `None` if there are too few epochs for any garbage.
        oldest: Option<Epoch>,
    },
}

/// What may be deleted? The `retained` newest records stay, and with them all they refer to.
///
/// Safe whoever runs it, however late: an epoch is deleted only after a newer one was seen, and numbers are not reused.
/// What the kept records refer to is known only if they are the records that count, hence the look at what is later.
/// Records go before marks, oldest first: no record is ever without the mark it once had.
#[must_use]
pub fn collect(facts: &CollectFacts, retained: usize) -> CollectStep {
    let Some(listing) = &facts.listing else { return CollectStep::List };
    let kept = || listing.records.iter().rev().take(retained);
    let full = listing.records.len() >= retained;
    let Some(&oldest) = kept().next_back().filter(|_| full) else { return CollectStep::Done { oldest: None } };
    for epoch in kept() {
        match facts.readable.get(epoch) {
            None => return CollectStep::Check(*epoch),
            Some(false) => return CollectStep::Hold(*epoch),
            Some(true) => {}
        }
    }
    match (facts.later, listing.records.last()) {
        (None, Some(newest)) => return CollectStep::LookLater(*newest),
        (Some(true), _) => return CollectStep::Overtaken,
        _ => {}
    }
    let records = listing.records.range(..oldest).map(|epoch| Garbage::Record(*epoch));
    let marks = listing.committed.range(..oldest).map(|epoch| Garbage::Committed(*epoch));
    records
        .chain(marks)
        .find(|garbage| !facts.deleted.contains(garbage))
        .map_or(CollectStep::Done { oldest: Some(oldest) }, CollectStep::Delete)
}

/// Whether a state file may go: written for an epoch before all kept ones, and referenced by none of them.
/// Later files stay: they may belong to an epoch that is just being written.
#[must_use]
pub fn is_dead_state(written_for: Option<Epoch>, referenced: bool, oldest: Epoch) -> bool {
    !referenced && written_for.is_some_and(|epoch| epoch < oldest)
}

/// What two racing creates of one object, and reading it afterwards, have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeFacts {
    /// How each create ended.
    pub replies: [CreateReply; 2],
    /// Whose content is there, if it is one of the two.
    pub content: Option<usize>,
}

/// Does the store arbitrate? Exactly one create may win, and the object must be the winner's.
/// (Both may be told of a conflict: the winner's reply was lost and its request repeated below us.)
#[must_use]
pub fn arbitrates(facts: &ProbeFacts) -> bool {
    match (facts.replies, facts.content) {
        ([CreateReply::Created, CreateReply::Created], _) | (_, None) => false,
        (replies, Some(winner)) => replies[1 - winner] == CreateReply::Conflict,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
