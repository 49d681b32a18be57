//! The epoch protocol of one task: how Millrace gets each input's effect into a sink once, whatever crashes.
//! It never talks to a source or a sink, and needs no lease, no clock and no running operator to be safe.
//!
//! # The idea
//! A task's checkpoints form a log in the object store. Entry *e* exists as soon as somebody creates the object
//! `epochs/<e>.record`, which works for exactly one writer: **conditional create is the only arbiter.** The entry says
//! which inputs are done (`positions`), the state after them (`operators`) and what makes their effects visible (`sinks`).
//! All three come from the same record, so they cannot disagree; and as there is one record per epoch, neither can two workers.
//!
//! ```text
//! <base>/<pipeline uid>/tasks/<task>/
//!   epochs/00000000000000000041.record       created if absent: THE epoch 41, immutable
//!   epochs/00000000000000000041.committed    created if absent, after the sinks have committed epoch 41
//!   state/<generation>/<epoch>/…             state files, named by the records that need them
//! ```
//!
//! # One epoch, and what a crash leaves
//! ```text
//!    owner's order of writes                    a crash right after it leaves          the next owner
//!  1 sinks prepare (files, uploads)             prepared data nobody refers to         ignores it, replays the input
//!  2 state files                                files nobody refers to                 ignores them, replays the input
//!  3 create <e>.record              ◀ arbiter   the epoch, durable, not visible        commits it from the record
//!  4 list what is later: nothing  ─▶ permit     the same                               the same
//!  5 sinks commit, with the permit              visible, not marked                    commits again: no effect
//!  6 create <e>.committed                       done, sources not told                 continues after e
//!  7 sources are acknowledged up to e           done                                   continues after e
//!  8 garbage collection, now and then           some garbage                           collects it later
//! ```
//! Before 3 nothing has happened; from 3 on everything will happen. There is no state in between, as 3 is one request.
//! Sources are told last, so an input is forgotten upstream only when its effect is durable *and* visible.
//! Epoch e+1 is not written before 6, so at most one epoch is ever unfinished, and it is the newest.
//! An epoch with nothing to commit skips 5 and 6.
//!
//! # Anchors
//! All of this rests on commits that any worker can do, however late. A Kafka transaction is not like that: only the producer that wrote it
//! can commit it, and the broker aborts it when that producer is replaced or silent for too long. A sink like that is the task's *anchor*
//! ([`Sink::anchor`](crate::sink::Sink::anchor)), one at most for a task, and decides for the whole epoch:
//! ```text
//!    owner                                          a crash right after it            the next owner
//!  3 create <e>.record              ◀ arbiter       aborted, sooner or later          seals: aborted: back
//!  5a the anchor commits            ◀ decides       visible                           seals: committed: forward
//!  5b the other sinks commit                        visible, not marked               seals: committed: forward
//!  6 create <e>.committed                           done                              continues after e
//! ```
//! *Sealing* fences the producer of epoch e, after which its transaction is committed or aborted for good, and then asks which. Anybody may
//! do that, at any time, any number of times, and all get the same answer ([`decide::settle`]).
//! *Forward*: commit what the other sinks prepared, mark e. *Back*: claim e+1 with the positions and state of e−1 ([`EpochLog::claim_back`]).
//! Epoch e then had no effect: the anchor's is gone, and no other sink committed, because each waits for the anchor. Its input is read again.
//! A zombie with a permit for e finds its producer fenced, so it commits nothing and marks nothing. The record of e−1 is there, as at least
//! two epochs are retained and e is the newest; if it is not, then somebody wrote later epochs, and the claim is overtaken.
//!
//! # Taking over
//! ```text
//!   open:  list, read the newest record e, list again: nothing later  ◀──────────────┐
//!     ▼                                                                              │ conflict, or something later:
//!   settle: unless <e>.committed is there, commit e from its record, and mark it     │ somebody was first, look again
//!     │     (or go back, if e had an anchor and that was aborted)                      │
//!     ▼                                                                              │
//!   claim: create <e+1>.record: positions and state of e, nothing to commit,  ───────┘
//!     ▼    generation g+1; list: nothing later
//!   run
//! ```
//! The claim is an ordinary entry, so it fences by the ordinary rule: the previous owner's next create meets it and
//! conflicts ([`Error::Fenced`], exit code 66). It does not matter whether that owner is dead, slow, paused or cut off.
//!
//! # Who can be wrong about what
//! * **Reply lost.** A create that conflicts reads what is there; byte for byte our own record (it carries the owner's random
//!   nonce) means that an earlier try succeeded. Anything else means that we lost.
//! * **Request delivered late or twice.** It creates nothing that exists. If it creates the next epoch after its sender died,
//!   then that *is* the epoch; the next owner finds it, or conflicts with it and looks again.
//! * **Number freed by garbage collection.** A sleeper could create an old number again. Hence step 4: the newest record is never
//!   deleted, so anything later than ours shows that we slept. Recovery looks in the same way after reading: a record counts
//!   only if, *after* it was seen, nothing later is listed.
//! * **Zombie with a permit.** It was the newest owner of a canonical epoch when it got the permit, and may have been fenced since. It can
//!   still commit, but only what the record says, which its successor commits too: commits are idempotent, so the late one changes nothing.
//! * **Prepared data of a loser.** No record names it, so nobody commits it, and readers do not see it.
//! * **Damaged record.** Any changed bit is detected ([`record`]). The record before is used, [`DataRegression`] says so, and the claim gets
//!   a number above the damaged one, which stays as evidence. Two damaged in a row, or one from a newer version: nothing is touched, people decide.
//!
//! # What the others must keep to
//! * **Store**: create-if-absent is atomic ([`probe`] checks); reads and listings see completed writes: what exists during all of a listing is
//!   listed. S3, a directory and memory do. (A directory is as durable as its file system's write cache: it is not synced.)
//!   The store client's own retries should be few and short, as this module retries, too.
//! * **Sink**: committables name all that a commit needs, durable before the record; any worker can commit them; twice is as once.
//! * **Source**: a position says what to read next; acknowledge only what [`Owner::mark_committed`] has confirmed.
//! * **Reader**: an epoch's effects count once its commit is visible by the sink's own rule: the manifest (files, S3), `read_committed`
//!   (Kafka), the highest version of a document (OpenSearch). Data that is merely lying there does not count.
//!
//! # Use
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use millrace_engine::checkpoint::*;
//! # #[derive(Debug)] struct NoClock;
//! # #[async_trait::async_trait] impl Clock for NoClock { fn now_millis(&self) -> i64 { 0 } async fn sleep(&self, _: Duration) {} }
//! # async fn commit_to_sinks(_: &CommitPermit) -> Result<(), Error> { Ok(()) }
//! # async fn example() -> Result<(), Error> {
//! # let (store, clock) = (Arc::new(object_store::memory::InMemory::new()), Arc::new(NoClock));
//! let log = EpochLog::new(store, &"base".into(), PipelineUid::new("uid")?, TaskId::new("logs-0")?, Options::default(), clock)?;
//!
//! let mut opened = log.open("random nonce").await?;
//! if let Some(permit) = opened.uncommitted.take() {
//!     commit_to_sinks(&permit).await?;
//!     log.mark_committed(permit).await?;
//! }
//! let mut owner = log.claim(opened, "plan hash").await?; // Error::Overtaken: open again
//! // restore from owner.last(), read from its positions, process, prepare, then:
//! let permit = owner.write_epoch(EpochContent::default()).await?; // Error::Fenced: stop
//! commit_to_sinks(&permit).await?;
//! owner.mark_committed(permit).await?;
//! // acknowledge the sources up to owner.last().positions
//! owner.collect_garbage().await?;
//! # Ok(()) }
//! # futures::executor::block_on(example()).unwrap();
//! ```
//!
//! # Where to read on
//! [`decide`] holds every decision as a pure function. `model_tests` explores all interleavings of several owners, lost replies and
//! late requests over those functions, and shows that breaking any one rule is found. `fault_tests` runs the real code against a store
//! that fails, loses replies, crashes or pauses it at every single request.

pub mod decide;
pub mod record;

mod clock;
mod error;
mod gc;
mod identity;
mod inspect;
mod layout;
mod log;
mod owner;
mod state;
mod store;

pub use clock::Clock;
pub use error::{Error, StoreFault};
pub use gc::Collected;
pub use identity::{Epoch, Generation, PipelineUid, TaskId, position_key, split_position_key};
pub use inspect::{Peek, list_tasks, peek, probe};
pub use log::{CommitPermit, DataRegression, EpochLog, Opened, Options};
pub use owner::Owner;
pub use record::{EpochContent, EpochRecord, EventTimes, InputTime, KnownBucket, KnownBuckets, StageName, StateRef, operator_of, part_key};
pub use store::Retry;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
