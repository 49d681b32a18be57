//! The batches of one partition: their order, their numbers, and what to send next. Pure: it sends nothing and knows no broker.
//!
//! ```text
//!  waiting ─▶ numbered ─▶ aloft ──▶ written: gone
//!     ▲                     ├────▶ again: once nothing is aloft, each alone, in order, under the number that it had
//!     └── halves, new numbers ◀── refused: once it is the first, and nothing is aloft
//! ```
//! The broker takes a batch only under the number that follows the last one, and knows the last five again. So:
//! * At most five are aloft, and the first of a producer alone: a partition that knows nothing of the producer takes any number.
//! * One that may or may not be written is sent again under its number: if it was written, the broker says so and writes nothing.
//! * One that is refused was not written, nor was any behind it. Its halves, and those behind it, follow under the same numbers. If there is only one record in it,
//!   that is dropped, and those behind it move up.
//! * A broker that misses a number before the first that is not acknowledged has lost something: a [`Doubt`]. So has one whose answers contradict each other.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::super::records::{SealedBatch, Stamp};
use super::parcel::{Parcel, Refused};
use kafka_protocol::ResponseError as Code;

/// Batches whose numbers the broker knows again.
const ALOFT: usize = 5;

/// Who writes, as the brokers know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProducerIdentity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// It is written, or was before; at the offset, or at -1 where the broker does not say.
    Written(i64),
    /// To be sent again; whether it is written is not known.
    Again,
    /// To be sent again; it never left.
    Unsent,
    /// The broker misses the one before.
    OutOfOrder,
    /// The broker does not take it, whatever is retried.
    Refused(Code),
}

/// What follows from it for others.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Bytes that are no longer on their way.
    pub(super) weight: usize,
    /// Where what was written lies.
    pub(super) offset: Option<i64>,
    /// What was refused and is given up.
    pub(super) refused: Vec<Refused>,
}

/// The broker's answers cannot all be true, or something may be lost: what is written is not known any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Doubt(pub(super) &'static str);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Aloft,
    Again,
    Refused(Code),
}

#[derive(Debug)]
struct Flying {
    number: u64,
    sequence: i32,
    state: State,
    parcel: Parcel,
}

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Before anything that the writer has ready.
    waiting: VecDeque<Parcel>,
    /// In the order of their sequences.
    flying: VecDeque<Flying>,
    sequence: i32,
    /// Whether the partition knows the producer.
    is_known: bool,
    number: u64,
}

impl Lane {
    /// Whether something is on its way and not answered.
    pub(super) fn is_aloft(&self) -> bool {
        self.flying.iter().any(|flying| flying.state == State::Aloft)
    }

    /// Whether something is to be sent now, of its own or of what the writer `has_more` of; what has come back only if it `may_retry`.
    pub(super) fn can_send(&self, has_more: bool, may_retry: bool) -> bool {
        if self.flying.iter().any(|flying| flying.state != State::Aloft) {
            return may_retry && !self.is_aloft();
        }
        let most = if self.is_known { ALOFT } else { 1 };
        self.flying.len() < most && (has_more || !self.waiting.is_empty())
    }

    /// When the oldest that is not written was ready.
    pub(super) fn since(&self) -> Option<Instant> {
        self.flying.front().map(|flying| flying.parcel.since).or_else(|| self.waiting.front().map(|parcel| parcel.since))
    }

    /// Bytes of a batch of several records.
    pub(super) fn size_of_several(&self, number: u64) -> Option<usize> {
        let batch = &self.flying.iter().find(|flying| flying.number == number)?.parcel.batch;
        (batch.count() > 1).then(|| batch.bytes().len())
    }

    /// What to send now, with the number by which its answer is told; `take` gives what the writer has ready.
    pub(super) fn send(
        &mut self,
        who: ProducerIdentity,
        is_transactional: bool,
        take: impl FnOnce() -> Option<Parcel>,
    ) -> Option<(u64, SealedBatch)> {
        if let Some(next) = self.flying.iter().position(|flying| flying.state != State::Aloft) {
            if self.is_aloft() || next > 0 {
                return None;
            }
            let first = &mut self.flying[0];
            first.state = State::Aloft;
            first.parcel.attempts += 1;
            return Some((first.number, first.parcel.batch.clone()));
        }
        if self.flying.len() >= if self.is_known { ALOFT } else { 1 } {
            return None;
        }
        let mut parcel = self.waiting.pop_front().or_else(take)?;
        let sequence = self.sequence;
        let stamp = Stamp { producer_id: who.id, producer_epoch: who.epoch, sequence, is_transactional };
        parcel.batch = parcel.batch.stamped(stamp);
        parcel.attempts += 1;
        self.sequence = following(sequence, parcel.batch.count());
        self.number += 1;
        let batch = parcel.batch.clone();
        self.flying.push_back(Flying { number: self.number, sequence, state: State::Aloft, parcel });
        Some((self.number, batch))
    }

    /// A batch has come back.
    pub(super) fn answered(&mut self, number: u64, outcome: Outcome) -> Result<Settled, Doubt> {
        let place = self.flying.iter().position(|flying| flying.number == number);
        let place = place.ok_or(Doubt("an answer belongs to no batch"))?;
        let mut settled = Settled::default();
        let flying = &mut self.flying[place];
        match outcome {
            Outcome::Written(offset) => {
                // What comes before may be written without having been acknowledged, but not if the broker has said that it is not.
                let is_missing = |before: &Flying| match before.state {
                    State::Aloft => false,
                    State::Again => !before.parcel.may_be_written,
                    State::Refused(_) => true,
                };
                if self.flying.iter().take(place).any(is_missing) {
                    return Err(Doubt("a batch was written although one before it was not"));
                }
                self.is_known = true;
                settled.offset = Some(offset);
                settled.weight = self.flying.remove(place).map_or(0, |flying| flying.parcel.weight);
            }
            Outcome::Again => {
                flying.state = State::Again;
                flying.parcel.may_be_written = true;
            }
            Outcome::Unsent => flying.state = State::Again,
            Outcome::OutOfOrder if place == 0 => return Err(Doubt("the brokers miss a batch that they have acknowledged")),
            Outcome::OutOfOrder => flying.state = State::Again,
            Outcome::Refused(code) => flying.state = State::Refused(code),
        }
        self.resolve(&mut settled)?;
        Ok(settled)
    }

    /// Makes something of a refused batch, once it is the first and nobody else is on the way.
    fn resolve(&mut self, settled: &mut Settled) -> Result<(), Doubt> {
        let Some(State::Refused(code)) = self.flying.front().map(|flying| flying.state) else { return Ok(()) };
        if self.is_aloft() {
            return Ok(());
        }
        let mut behind = self.flying.drain(..);
        let Some(first) = behind.next() else { return Ok(()) };
        if first.parcel.may_be_written {
            return Err(Doubt("a batch that may be written was refused when it was sent again"));
        }
        let behind: Vec<Parcel> = behind.map(|flying| flying.parcel).collect();
        for parcel in behind.into_iter().rev() {
            self.waiting.push_front(parcel);
        }
        self.sequence = first.sequence;
        match first.parcel.halves() {
            Ok((one, other)) => {
                self.waiting.push_front(other);
                self.waiting.push_front(one);
            }
            Err(parcel) => {
                // Another number for what may be written under its old one: a late copy could be taken for another batch.
                if self.waiting.iter().any(|parcel| parcel.may_be_written) {
                    return Err(Doubt("batches behind a refused one may be written"));
                }
                settled.weight += parcel.weight;
                settled.refused.extend(parcel.refused(code));
            }
        }
        Ok(())
    }
}

/// The number after `count` records from `sequence` on: after the highest comes 0.
fn following(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}
