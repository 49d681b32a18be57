//! State that is larger than memory: the part of a plan behind an exchange in buckets by key group, each with operators of its own, of which only some are in
//! memory. It runs on a thread that may block, and knows neither lanes nor epochs' files.
//!
//! ```text
//!             ┌─ in memory ──▶ its operators ──▶ what comes out
//!  rows ─▶ by key group
//!             └─ parked ─────▶ its inbox ┄┄ loaded ┄┄▶ its operators, with what waits, in order
//!                              (state in the tier)
//! ```
//!
//! **A parked bucket is loaded** when time has come so far that something would come out of it, when the rows that wait take too much memory, and before an
//! epoch ends if rows wait for it. Whoever has not had rows for the longest time is parked when memory is short. Rows of a key keep their order; those of
//! others overtake each other.
//!
//! **A bucket that has not changed** since it was put into the tier is not written again, neither there nor with an epoch.
//!
//! **When something comes out of a bucket** is stored with each epoch, in its record. Whoever goes on loads only what is due, as if it had parked the buckets itself;
//! a bucket of which that is not known is loaded once. It is known only of buckets that the same plan has stored, shared in the same way.

mod aside;
mod decide;
mod inbox;
mod times;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::error::ArrowError;

pub(super) use self::aside::{Aside, Known, has_rows};
use self::aside::{Part, get, put};
use self::decide::{View, Views};
use self::inbox::{Inbox, Item};
pub(super) use self::times::Times;
use super::tier::{self, SpillSpace, Spilled};
use crate::batch::Batch;
use crate::operators::{Due, ExecuteError, Executor, KEY_GROUPS, Message, TakenState};
use crate::plan::stages::{Exchange, deal, pick};

/// How much more memory state takes than its file, as long as that is not known.
const UNPACKED: u64 = 4;

/// Why the operators cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// They have failed.
    #[error(transparent)]
    Operators(#[from] ExecuteError),
    /// Their state could not be put aside or brought back.
    #[error(transparent)]
    Tier(#[from] tier::Error),
}

impl From<ArrowError> for Broken {
    fn from(error: ArrowError) -> Self {
        Self::Operators(error.into())
    }
}

/// What comes out: the input of the task, the output of the plan, the message.
pub(super) type Out = Vec<(usize, usize, Message)>;

/// Buckets of one lane.
pub(super) struct Buckets {
    exchange: Exchange,
    space: Arc<SpillSpace>,
    /// Bytes of memory.
    limit: usize,
    buckets: BTreeMap<u16, Bucket>,
    /// As they are after each change.
    views: Views,
    /// Whether a first pause may make something come out.
    waits_for_pause: bool,
    /// What was said to all of them.
    times: Times,
    /// Grows with every use of a bucket.
    uses: u64,
    /// Rows that operators which are gone have dropped, by output.
    filtered: BTreeMap<usize, u64>,
}

struct Bucket {
    place: Place,
    /// What its state was when it was last put into the tier; `None` if it has changed.
    parts: Option<Vec<Part>>,
    /// What its operators know of time.
    told: Times,
    /// Bytes of memory that its operators take, or will.
    state_bytes: usize,
    used: u64,
    /// Whether its state is that of the last epoch.
    is_stored: bool,
    /// Whether its state was made when all ways had told a watermark: no row in it waits for the first one to age.
    knows_time: bool,
}

enum Place {
    Here(Box<Executor>),
    /// With what waits for it, and when something would come out; `None` if that is not known.
    Parked(Inbox, Option<Vec<Due>>),
}

/// The state of a bucket when an epoch ends.
pub(super) struct TakenBucket {
    pub(super) number: u16,
    /// `None` if it is as at the end of the last epoch.
    pub(super) pieces: Option<Pieces>,
    /// `None` if it has to be loaded to know that.
    pub(super) known: Option<Known>,
}

/// State of a bucket, by operator.
pub(super) type Pieces = Vec<(Arc<str>, Piece)>;

/// State of an operator in a bucket.
pub(super) enum Piece {
    /// In memory.
    Taken(TakenState),
    /// In the tier, as it is to be stored, with its signature.
    Tiered(String, Arc<Spilled>),
}

impl Buckets {
    /// Buckets whose state has been put aside, and whose operators know as much of time as `times` says. `limit`: bytes of memory.
    pub(super) fn new(aside: Aside, limit: usize, times: Times) -> Self {
        let Aside { exchange, space, buckets, knows_time } = aside;
        let waits_for_pause = exchange.back().waits_for_pause();
        let parked = buckets.into_iter().map(|(number, kept)| {
            let packed: u64 = kept.parts.iter().map(|part| part.file.length()).sum();
            let (dues, state_bytes) = kept.known.map(|known| (known.dues, known.state_bytes)).unzip();
            let bucket = Bucket {
                place: Place::Parked(Inbox::new(times.clone(), waits_for_pause), dues),
                parts: Some(kept.parts),
                told: times.clone(),
                state_bytes: state_bytes.unwrap_or_else(|| usize::try_from(packed * UNPACKED).unwrap_or(usize::MAX)),
                used: 0,
                is_stored: kept.is_stored,
                knows_time,
            };
            (number, bucket)
        });
        let buckets: BTreeMap<u16, Bucket> = parked.collect();
        let mut views = Views::default();
        buckets.iter().for_each(|(number, bucket)| views.set(bucket.view(*number)));
        Self { buckets, views, waits_for_pause, exchange, space, limit, times, uses: 0, filtered: BTreeMap::new() }
    }

    /// Takes rows of a channel in.
    pub(super) fn rows(&mut self, input: usize, channel: usize, batch: &Batch, source: &Batch, out: &mut Out) -> Result<(), Broken> {
        for (number, picked) in deal(batch, &self.exchange.channels()[channel].key, KEY_GROUPS)? {
            let rows = picked.map_or_else(|| Ok(batch.clone()), |picked| pick(batch, picked))?;
            self.uses += 1;
            let bucket = match self.buckets.entry(number) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Bucket::fresh(&self.exchange, &self.times, out)?),
            };
            bucket.used = self.uses;
            match &mut bucket.place {
                Place::Parked(inbox, _) => inbox.rows(input, channel, rows, source)?,
                Place::Here(_) => {
                    let item = Item { input, channel, message: Message::Batch(rows), source: Some(source.clone()) };
                    bucket.deliver(item, out)?;
                }
            }
            self.views.set(bucket.view(number));
        }
        self.make_room(0, None)
    }

    /// Takes a message in that is no rows.
    pub(super) fn message(&mut self, input: usize, channel: usize, message: &Message, out: &mut Out) -> Result<(), Broken> {
        self.times.say(channel, message);
        for (number, bucket) in &mut self.buckets {
            match &mut bucket.place {
                Place::Parked(inbox, _) => inbox.message(input, channel, message.clone()),
                Place::Here(_) => bucket.deliver(Item { input, channel, message: message.clone(), source: None }, out)?,
            }
            self.views.set(bucket.view(*number));
        }
        self.make_room(0, None)
    }

    /// Whether a parked bucket has to be loaded now.
    pub(super) fn has_more(&self) -> bool {
        self.views.to_load(self.limit).is_some()
    }

    /// Loads the next bucket that has to be.
    pub(super) fn more(&mut self, out: &mut Out) -> Result<(), Broken> {
        match self.views.to_load(self.limit) {
            Some(number) => self.load(number, out),
            None => Ok(()),
        }
    }

    /// Whether rows wait for parked buckets.
    pub(super) fn has_rows(&self) -> bool {
        self.views.has_rows()
    }

    /// Loads the next bucket for which rows wait, if there is one.
    pub(super) fn flush(&mut self, out: &mut Out) -> Result<(), Broken> {
        match self.views.fullest() {
            Some(number) => self.load(number, out),
            None => Ok(()),
        }
    }

    /// The state of all buckets, which is that of the next epoch. No rows may wait.
    pub(super) fn snapshot(&mut self) -> Result<Vec<TakenBucket>, Broken> {
        let taken = self.buckets.iter_mut().map(|(number, bucket)| {
            let known = bucket.known();
            Ok(TakenBucket { number: *number, pieces: bucket.snapshot()?, known })
        });
        taken.collect()
    }

    /// Bytes of memory that all of it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.views.memory()
    }

    /// Bytes of it that are rows which wait for parked buckets.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.views.waiting()
    }

    /// Bytes that it takes in the tier.
    pub(super) fn spilled_bytes(&self) -> u64 {
        self.views.spilled()
    }

    /// Rows that operators have dropped, by output.
    pub(super) fn filtered(&self) -> BTreeMap<usize, u64> {
        let mut filtered = self.filtered.clone();
        for bucket in self.buckets.values() {
            if let Place::Here(executor) = &bucket.place {
                add_filtered(&mut filtered, executor);
            }
        }
        filtered
    }

    /// Counts what operators have dropped that are gone.
    pub(super) fn count(&mut self, gone: BTreeMap<usize, u64>) {
        gone.into_iter().for_each(|(output, rows)| *self.filtered.entry(output).or_insert(0) += rows);
    }

    /// Brings a bucket into memory, and gives its operators what waits for them.
    fn load(&mut self, number: u16, out: &mut Out) -> Result<(), Broken> {
        let Some(bucket) = self.buckets.get(&number) else { return Ok(()) };
        self.make_room(bucket.state_bytes, Some(number))?;
        let Some(bucket) = self.buckets.get_mut(&number) else { return Ok(()) };
        let Place::Parked(inbox, _) = &mut bucket.place else { return Ok(()) };
        let mut executor = self.exchange.back();
        executor.restore(get(bucket.parts.as_deref().unwrap_or_default())?)?;
        let waiting = inbox.take();
        bucket.place = Place::Here(Box::new(executor));
        bucket.tell_again(out)?;
        self.uses += 1;
        bucket.used = self.uses;
        for item in waiting {
            bucket.deliver(item, out)?;
        }
        self.views.set(bucket.view(number));
        self.make_room(0, None)
    }

    /// Parks what takes too much memory, but for `kept`, or else what was used last, however large it is.
    fn make_room(&mut self, more: usize, kept: Option<u16>) -> Result<(), Broken> {
        for number in self.views.to_park(self.limit, more, kept) {
            if let Some(bucket) = self.buckets.get_mut(&number) {
                bucket.park(&self.space, self.waits_for_pause, &mut self.filtered)?;
                self.views.set(bucket.view(number));
            }
        }
        Ok(())
    }
}

impl Bucket {
    /// One without state, whose operators know what all do of time.
    fn fresh(exchange: &Exchange, times: &Times, out: &mut Out) -> Result<Self, Broken> {
        let place = Place::Here(Box::new(exchange.back()));
        let mut bucket = Self { place, parts: None, told: times.clone(), state_bytes: 0, used: 0, is_stored: false, knows_time: false };
        bucket.tell_again(out)?;
        Ok(bucket)
    }

    fn view(&self, number: u16) -> View {
        let (is_parked, waiting, has_rows, is_due) = match &self.place {
            Place::Here(_) => (false, 0, false, false),
            Place::Parked(inbox, dues) => {
                (true, inbox.bytes(), inbox.has_rows(), inbox.is_pressing() || is_due(dues.as_deref(), inbox.times()))
            }
        };
        let spilled = self.parts.iter().flatten().map(|part| part.file.length()).sum();
        View { number, is_parked, state: self.state_bytes, waiting, has_rows, spilled, is_due, used: self.used }
    }

    /// Tells its operators, which know nothing, what they knew of time.
    fn tell_again(&mut self, out: &mut Out) -> Result<(), Broken> {
        let Place::Here(executor) = &mut self.place else { return Ok(()) };
        for (channel, message) in self.told.again() {
            executor.push(channel, message, &mut |output, message| emit(out, channel, output, message))?;
        }
        self.state_bytes = executor.state_bytes();
        Ok(())
    }

    /// Gives its operators something that has arrived.
    fn deliver(&mut self, item: Item, out: &mut Out) -> Result<(), Broken> {
        let Place::Here(executor) = &mut self.place else { return Ok(()) };
        let Item { input, channel, message, source } = item;
        let is_first = !self.knows_time && !self.told.has_spoken(channel);
        self.told.say(channel, &message);
        let changes = match &message {
            // Before the time of an operator has come, it forgets at most what it would forget again.
            Message::Watermark(_) => is_first || is_due(Some(&executor.dues()), &self.told),
            _ => true,
        };
        if changes {
            self.parts = None;
            self.is_stored = false;
        }
        let mut emit = |output: usize, message: Message| emit(out, input, output, message);
        match (message, source) {
            (Message::Batch(batch), source) => {
                let source = source.unwrap_or_else(|| batch.clone());
                executor.push_of(channel, Message::Batch(batch), &source, &mut emit)?;
            }
            (message, _) => executor.push(channel, message, &mut emit)?,
        }
        self.state_bytes = executor.state_bytes();
        Ok(())
    }

    fn park(&mut self, space: &Arc<SpillSpace>, waits_for_pause: bool, filtered: &mut BTreeMap<usize, u64>) -> Result<(), Broken> {
        let Place::Here(executor) = &mut self.place else { return Ok(()) };
        if self.parts.is_none() {
            let mut parts = Vec::new();
            for (operator, state) in executor.snapshot()?.0 {
                let state = state.finish()?;
                if has_rows(&state.tables) {
                    parts.push(put(space, &operator, &state)?);
                }
            }
            self.parts = Some(parts);
        }
        add_filtered(filtered, executor);
        let dues = dues(executor, &self.told);
        self.place = Place::Parked(Inbox::new(self.told.clone(), waits_for_pause), Some(dues));
        Ok(())
    }

    /// What is known of it when an epoch ends.
    fn known(&self) -> Option<Known> {
        let dues = match &self.place {
            Place::Here(executor) => dues(executor, &self.told),
            // Its state is of before the first watermark; whoever goes on would not know that.
            Place::Parked(inbox, _) if inbox.is_pressing() || inbox.has_first() && !self.knows_time => return None,
            Place::Parked(_, dues) => dues.clone()?,
        };
        Some(Known { dues, state_bytes: self.state_bytes })
    }

    fn snapshot(&mut self) -> Result<Option<Pieces>, Broken> {
        if std::mem::replace(&mut self.is_stored, true) {
            return Ok(None);
        }
        let tiered = |part: &Part| (Arc::clone(&part.operator), Piece::Tiered(part.signature.clone(), Arc::clone(&part.file)));
        Ok(Some(match (&mut self.place, &self.parts) {
            (Place::Here(executor), None) => {
                executor.snapshot()?.0.into_iter().map(|(operator, state)| (operator, Piece::Taken(state))).collect()
            }
            (_, parts) => parts.iter().flatten().map(tiered).collect(),
        }))
    }
}

/// When something comes out of operators that know so much of time.
fn dues(executor: &Executor, told: &Times) -> Vec<Due> {
    // Operators on the way may hold watermarks back, so that one may have come for nothing: only a later one is worth another look.
    let later = |due: Due| match told.of(&due.inputs) {
        Some(i64::MAX) => None,
        Some(told) => Some(Due { at: due.at.max(told + 1), ..due }),
        None => Some(due),
    };
    executor.dues().into_iter().filter_map(later).collect()
}

/// Whether the time of an operator has come, or it is not known when that is.
fn is_due(dues: Option<&[Due]>, times: &Times) -> bool {
    dues.is_none_or(|dues| dues.iter().any(|due| times.of(&due.inputs).is_some_and(|watermark| watermark >= due.at)))
}

/// Only rows come out of buckets: of time each knows only what it was told.
fn emit(out: &mut Out, input: usize, output: usize, message: Message) {
    if matches!(message, Message::Batch(_) | Message::Rejected(_)) {
        out.push((input, output, message));
    }
}

fn add_filtered(filtered: &mut BTreeMap<usize, u64>, executor: &Executor) {
    for output in executor.counters().outputs {
        *filtered.entry(output.output).or_insert(0) += output.rows_filtered;
    }
}
