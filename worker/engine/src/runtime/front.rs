//! What a task in front of an exchange does beside running its operators: says where the rows lie that it pushes, when all that came of them has come out, and when
//! what is held is asked for. It writes nothing itself, and numbers no message.

use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::UInt64Array;
use tokio::time::Instant;

use super::driver::{Failure, Run};
use super::output::Outgoing;
use super::stage::Stage;
use crate::batch::Batch;
use crate::exchange::{Replay, UpTo};
use crate::operators::{Holding, Message};

/// Bytes of memory that operators hold of rows at most, before they are asked for them. What a partition gets of it is one message.
const HELD_BYTES: usize = 8 << 20;
/// Bytes that may come of the rows that are pushed together. What a partition gets of them is one message.
const PUSHED_BYTES: usize = 4 << 20;
/// How many rows may come of one, as long as none has been seen.
const FIRST_SHARE: usize = 64;
/// How long rows are held at most that results wait for.
const MOMENT: Duration = Duration::from_millis(50);
/// An epoch is closed after so long even if nothing has happened: what it says of the exchange must not be older than what topics keep.
const REFRESH: Duration = Duration::from_hours(24);

/// The front of a run.
pub(super) struct Front {
    replay: Replay,
    /// By channel, up to where rows have been pushed since that was said last.
    up_to: Vec<UpTo>,
    /// About how many rows come of one.
    share: usize,
    /// Barriers so far, those within epochs included.
    barriers: u64,
    /// Since when rows are held that results wait for.
    holding_since: Option<Instant>,
    /// When the last epoch began.
    epoch_at: Instant,
    /// Whether the task has an epoch that says where it is in the exchange. Until then an owner that follows has to read back all of it.
    pub(super) is_placed: bool,
}

impl Front {
    /// Of a task that leaves out what `replay` says; `None` if it is in front of no exchange.
    pub(super) fn new(stage: &Stage, replay: Replay, is_placed: bool) -> Option<Self> {
        let Stage::Front(front) = stage else { return None };
        Some(Self {
            replay,
            up_to: vec![UpTo::new(); front.exchange.channels().len()],
            share: FIRST_SHARE,
            barriers: 0,
            holding_since: None,
            epoch_at: Instant::now(),
            is_placed,
        })
    }

    /// How the rows of a batch are pushed: numbers of rows that come together. Where the coverage of a partition ends, and where too much would come of them. Rows of one record are never apart.
    fn pieces(&self, batch: &Batch) -> Vec<usize> {
        let rows = batch.num_rows();
        let most = (PUSHED_BYTES / self.share / (batch.memory_bytes() / rows.max(1)).max(1)).max(1);
        let mut ends: Vec<usize> = self
            .replay
            .bounds(&batch.origin)
            .into_iter()
            .map(|bound| batch.ordinals.values().partition_point(|ordinal| *ordinal <= bound))
            .collect();
        ends.push(rows);
        let (mut pieces, mut from) = (Vec::new(), 0);
        for end in ends {
            while from < end {
                let to = whole_records(&batch.ordinals, from.saturating_add(most)).min(end);
                pieces.push(to - from);
                from = to;
            }
        }
        pieces
    }
}

/// The first place from `at` on where a record ends.
fn whole_records(ordinals: &UInt64Array, at: usize) -> usize {
    let values = ordinals.values();
    let Some(last) = at.checked_sub(1).and_then(|last| values.get(last)) else { return values.len() };
    at + values[at..].iter().take_while(|ordinal| *ordinal == last).count()
}

impl Run {
    /// Rows of an input through the plan.
    pub(super) fn take_in(&mut self, input: usize, batch: Batch) -> Result<(), Failure> {
        let Some(front) = &self.front else { return self.execute(input, Message::Batch(batch)) };
        let mut from = 0;
        for rows in front.pieces(&batch) {
            self.take_piece(input, batch.slice(from, rows))?;
            from += rows;
        }
        Ok(())
    }

    /// Rows that lie on one side of what each partition has been given.
    fn take_piece(&mut self, input: usize, batch: Batch) -> Result<(), Failure> {
        let (Some(front), Some(last)) = (&mut self.front, batch.ordinals.values().last().copied()) else { return Ok(()) };
        front.replay.at(&batch.origin, last);
        for up_to in &mut front.up_to {
            up_to.insert(*batch.origin.key(), last);
        }
        let (rows, before, origin) = (batch.num_rows().max(1), self.waiting.len(), batch.origin.clone());
        self.execute(input, Message::Batch(batch))?;
        let came = self
            .waiting
            .iter()
            .skip(before)
            .map(|(_, outgoing)| if let Outgoing::Batch(_, batch) = outgoing { batch.num_rows() } else { 0 });
        let share = came.sum::<usize>().div_ceil(rows);
        let outputs = self.config.plan.outputs().len();
        if let Some(front) = &mut self.front {
            front.share = share.max(front.share / 2).max(1);
            front.replay.passed(&origin, last);
        }
        (0..self.channels()).for_each(|channel| self.say_up_to(outputs + channel));
        self.look_at_held()
    }

    fn channels(&self) -> usize {
        self.front.as_ref().map_or(0, |front| front.up_to.len())
    }

    /// Tells the writer of a channel that all has come out that was pushed, if it has.
    pub(super) fn say_up_to(&mut self, index: usize) {
        let (output, channel) = self.config.place_of(index);
        let Some(front) = &mut self.front else { return };
        if index < self.config.plan.outputs().len() || self.operators.holding(index) != Holding::Nothing {
            return;
        }
        let up_to = std::mem::take(&mut front.up_to[channel]);
        if !up_to.is_empty() {
            self.waiting.push_back((output, Outgoing::UpTo(channel, up_to)));
        }
    }

    /// What operators hold is state for as long, and must not grow without bound.
    fn look_at_held(&mut self) -> Result<(), Failure> {
        let bytes = self.operators.state_bytes();
        self.observed.state_bytes.store(bytes as u64, Ordering::Relaxed);
        let outputs = self.config.plan.outputs().len();
        let is_brief = (0..self.channels()).any(|channel| self.operators.holding(outputs + channel) == Holding::Briefly);
        if let Some(front) = &mut self.front {
            front.holding_since = is_brief.then(|| front.holding_since.unwrap_or_else(Instant::now));
        }
        if bytes > HELD_BYTES.min(self.config.state_bytes / 2) { self.say_all() } else { Ok(()) }
    }

    /// When operators are asked for what they hold, if results wait for it.
    pub(super) fn moment_ends(&self) -> Option<Instant> {
        Some(self.front.as_ref()?.holding_since? + MOMENT)
    }

    /// Asks operators in front of an exchange for what they hold. Others say what they have at once, or keep it as state.
    pub(super) fn say_all(&mut self) -> Result<(), Failure> {
        let Some(front) = &mut self.front else { return Ok(()) };
        front.barriers += 1;
        front.holding_since = None;
        let barrier = front.barriers;
        (0..self.config.inputs.len()).try_for_each(|input| self.execute(input, Message::Barrier(barrier)))?;
        self.observed.state_bytes.store(self.operators.state_bytes() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// An epoch begins to close. Whether it keeps the place in the exchange that the one before had.
    pub(super) fn epoch_began(&mut self) -> bool {
        let Some(front) = &mut self.front else { return false };
        let keeps_place = front.replay.is_on();
        front.epoch_at = Instant::now();
        front.is_placed |= !keeps_place;
        keeps_place
    }

    /// Whether an epoch has to be closed although nothing may have happened.
    pub(super) fn is_stale(&self) -> bool {
        self.front.as_ref().is_some_and(|front| !front.is_placed || front.epoch_at.elapsed() >= REFRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_record_stay_together() {
        let ordinals = UInt64Array::from(vec![1, 2, 2, 2, 5]);
        let ends: Vec<usize> = (1..7).map(|at| whole_records(&ordinals, at)).collect();
        assert_eq!(ends, [1, 4, 4, 4, 5, 5]);
    }
}
