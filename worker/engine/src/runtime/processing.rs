//! What a run does with what it is given: records and time through the plan, bad records to their place. It waits for nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_crds::report::ErrorReason;

use super::buckets::Broken;
use super::driver::{Failure, Run};
use super::event_time;
use super::lanes::CameOut;
use super::observed::Part;
use super::output::Outgoing;
use super::reading::ahead_of;
use super::stage::full;
use super::tier;
use super::watermarks::Watermarks;
use crate::batch::Rejected;
use crate::connector::ConnectorError;
use crate::operators::Message;
use crate::plan::Changelog;
use crate::row_kind::{RowKind, RowKinds};
use crate::source::Records;
use crate::time::Time;

impl Run {
    /// Begins to keep time, after state was restored: the operators are told again what they knew.
    pub(super) fn keep_time(&mut self, watermarks: Watermarks) -> Result<(), Failure> {
        let again = watermarks.again();
        self.watermarks = Some(watermarks);
        self.reading.numbers().for_each(|split| self.opened(split));
        self.tell(again)?;
        self.look_at_state()
    }

    /// A split is read from now on.
    pub(super) fn opened(&mut self, split: usize) {
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.opened(split, self.reading.input_of(split), self.reading.key_of(split));
        }
    }

    /// Something has happened that time may depend on.
    pub(super) fn timed(&mut self, change: impl FnOnce(&mut Watermarks)) -> Result<(), Failure> {
        if let Some(watermarks) = &mut self.watermarks {
            change(watermarks);
        }
        self.advance()
    }

    /// Tells the operators how far time has come.
    pub(super) fn advance(&mut self) -> Result<(), Failure> {
        let Some(watermarks) = &mut self.watermarks else { return Ok(()) };
        let wall = self.config.clock.now_millis().saturating_mul(1000);
        let messages = watermarks.advance(self.started.elapsed(), wall);
        self.observed.set_watermark(watermarks.watermark());
        if messages.is_empty() {
            return Ok(());
        }
        self.tell(messages)?;
        self.look_at_state()
    }

    /// Tells operators that go by processing time what time it is: before each batch, and now and then without one. A clock that was put back, or that of a
    /// worker that is behind, stands still until it has caught up.
    pub(super) fn tell_clock(&mut self) -> Result<(), Failure> {
        if !self.config.plan.reads_clock() {
            return Ok(());
        }
        let now = self.config.clock.now_millis().saturating_mul(1000).max(self.processing_time.unwrap_or(i64::MIN));
        if self.processing_time.replace(now) == Some(now) {
            return Ok(());
        }
        self.execute(0, Message::Clock(now))?;
        self.look_at_state()
    }

    /// A split has been read to its end, for the first time. Rows that look things up in a table wait for all of its splits.
    pub(super) fn caught_up(&mut self, split: usize) -> Result<(), Failure> {
        let input = self.reading.input_of(split);
        self.read_once.insert(split);
        if !self.config.plan.is_table(&self.config.inputs[input].name) || !self.has_caught_up(input) {
            return Ok(());
        }
        self.execute(input, Message::Idle)?;
        self.look_at_state()
    }

    /// Whether all splits of an input have been read to their end once.
    fn has_caught_up(&self, input: usize) -> bool {
        self.reading.numbers().filter(|split| self.reading.input_of(*split) == input).all(|split| self.read_once.contains(&split))
    }

    /// For how long nothing would come out at operators that go by processing time.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let wait = self.operators.due()?.saturating_sub(self.config.clock.now_millis().saturating_mul(1000));
        // A clock that was put back would be asked again and again.
        Some(Duration::from_micros(u64::try_from(wait).unwrap_or(0)).max(Duration::from_millis(1)))
    }

    /// Everything has ended. If it has by itself, nothing that is held could still change: it comes out. What was told to drain goes on from its state
    /// another time.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        if self.finished || !self.reading.ended_by_itself() {
            return Ok(());
        }
        self.finished = true;
        let messages = self.watermarks.as_ref().map(Watermarks::finish).unwrap_or_default();
        self.tell(messages)?;
        self.look_at_state()
    }

    fn tell(&mut self, messages: Vec<(usize, Message)>) -> Result<(), Failure> {
        messages.into_iter().try_for_each(|(input, message)| self.execute(input, message))
    }

    /// Records through the plan; what comes out waits for the writers.
    pub(super) fn push(&mut self, split: usize, records: Records) -> Result<(), Failure> {
        let input = self.reading.input_of(split);
        let good = records.batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        let taken = good + records.rejected.len() as u64;
        self.observed.records_in.fetch_add(taken, Ordering::Relaxed);
        self.observed.bytes_in.fetch_add(records.bytes, Ordering::Relaxed);
        self.counters.taken_in(taken);
        let part = self.reading.part(input);
        let sinks = self.input_dead_letters[input].clone();
        self.refuse(records.rejected, &sinks, &part)?;
        let mut latest = None;
        if let Some(mut batch) = records.batch {
            if self.watermarks.is_some()
                && let Some(column) = self.config.event_time(&self.config.inputs[input].name)
            {
                let (timed, timeless) = event_time::reject_timeless(batch, column).map_err(internal)?;
                self.refuse(timeless, &sinks, &part)?;
                let delay = i64::try_from(self.config.inputs[input].max_delay.as_micros()).unwrap_or(i64::MAX);
                let limit = self.config.clock.now_millis().saturating_mul(1000).saturating_add(event_time::AHEAD).saturating_add(delay);
                let implausible;
                (batch, implausible, latest) = event_time::reject_implausible(timed, column, limit).map_err(internal)?;
                self.refuse(implausible, &sinks, &part)?;
            }
            self.tell_clock()?;
            self.take_in(input, batch)?;
            self.look_at_state()?;
        }
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.seen(split, latest);
        }
        Ok(())
    }

    /// One message through the plan.
    pub(super) fn execute(&mut self, input: usize, message: Message) -> Result<(), Failure> {
        let mut emitted = Vec::new();
        self.operators.push(input, message, &mut |index, message| emitted.push((index, message))).map_err(internal)?;
        self.came_out(CameOut { input, emitted })
    }

    /// What lanes give for a message that they were given before.
    pub(super) fn came_out_later(&mut self, out: Result<CameOut, Broken>) -> Result<(), Failure> {
        self.came_out(out.map_err(|error| broken(&error))?)?;
        self.look_at_state()
    }

    fn came_out(&mut self, CameOut { input, emitted }: CameOut) -> Result<(), Failure> {
        let mut refused: Vec<(Rejected, Vec<usize>)> = Vec::new();
        for (index, message) in emitted {
            let (output, channel) = self.config.place_of(index);
            let outgoing = match message {
                Message::Batch(mut batch) => {
                    // Where some rows are revised, the others say that they are new.
                    let plan = self.config.plan.outputs().get(index);
                    if batch.kinds.is_none() && plan.is_some_and(|plan| plan.changelog != Changelog::Append) {
                        batch.kinds = Some(RowKinds::new(std::iter::repeat_n(RowKind::Insert, batch.num_rows())));
                    }
                    Outgoing::Batch(channel, batch)
                }
                Message::Rejected(record) => {
                    gather(&mut refused, record, self.config.outputs.get(index).and_then(|output| output.dead_letter));
                    continue;
                }
                Message::Watermark(watermark) => Outgoing::Time(channel, Time::Watermark(watermark)),
                Message::Idle => Outgoing::Time(channel, Time::Idle),
                Message::End => Outgoing::Time(channel, Time::End),
                Message::Barrier(_) => {
                    self.say_up_to(index);
                    continue;
                }
                Message::Clock(_) => continue,
            };
            if let Outgoing::Time(..) = outgoing {
                // It speaks of these rows, so they are on their way before it.
                self.say_up_to(index);
            }
            // Only whoever takes the rows on needs to know of time.
            let exchange = self.config.exchange_output().map(|(index, _)| index);
            if exchange == Some(output) || matches!(outgoing, Outgoing::Batch(..)) {
                self.state_changed = true;
                self.waiting.push_back((output, outgoing));
            }
        }
        let part = self.reading.part(input);
        for (record, mut sinks) in refused {
            sinks.sort_unstable();
            sinks.dedup();
            self.refuse(vec![record], &sinks, &part)?;
        }
        Ok(())
    }

    /// The state must not outgrow its bound: whoever waits for the kernel to see it loses the process.
    fn look_at_state(&mut self) -> Result<(), Failure> {
        if !self.config.keeps_state() {
            return Ok(());
        }
        let bytes = self.operators.state_bytes();
        let before = self.observed.state_bytes.swap(bytes as u64, Ordering::Relaxed);
        self.state_changed |= before != bytes as u64;
        self.observed.spilled_bytes.store(self.operators.spilled_bytes(), Ordering::Relaxed);
        let limit = self.config.state_bytes;
        // The last epoch before the state was in buckets may still be closing, and tell its rows apart.
        let stored_rows = if self.operators.is_spilling() { 0 } else { self.observed.stored_rows_bytes.load(Ordering::Relaxed) as usize };
        let bytes = bytes - self.operators.waiting_bytes() + stored_rows;
        if bytes > full(limit) && !self.operators.is_spilling() && self.spill()? || bytes <= limit || self.operators.is_moving() {
            return Ok(());
        }
        let what = if self.operators.is_spilling() { "the state of one group of keys for each lane" } else { "the state" };
        let message = format!(
            "{what} takes {bytes} bytes, limits.maxStateBytes allows {limit}: raise it together with workload.resources.limits.memory, or keep less: \
             shorter windows or intervals, fewer keys, a shorter state.ttlSeconds{}",
            if self.config.cut().is_none() {
                "; it cannot go to disk, because the plan cannot be shared by key (`millrace explain` says why)"
            } else {
                ""
            }
        );
        Err(Failure::new(Part::Task, ConnectorError::new(ErrorReason::Invalid, message)))
    }

    /// Has the state go on in buckets; false if it cannot.
    fn spill(&mut self) -> Result<bool, Failure> {
        let Some(spilling) = self.spill.take() else { return Ok(false) };
        let Some(cut) = self.config.cut() else {
            tracing::info!("the state cannot go to disk: the plan cannot be shared by key");
            return Ok(false);
        };
        let mut again = Vec::new();
        for (input, binding) in self.config.inputs.iter().enumerate() {
            // Rows that look things up in a table that was read once must not wait for it again.
            if self.config.plan.is_table(&binding.name) && self.has_caught_up(input) {
                again.push((input, Message::Idle));
            }
        }
        let (times, knows_time) = self.watermarks.as_ref().map(|known| (known.again(), known.are_known())).unwrap_or_default();
        again.extend(times);
        tracing::info!(memory = spilling.limit, "the state outgrows its memory: it goes on in buckets, of which some are on disk");
        self.operators.spill(cut, &spilling, ahead_of(self.config.in_flight_bytes), again, knows_time).map_err(internal)?;
        Ok(true)
    }

    fn refuse(&mut self, rejected: Vec<Rejected>, sinks: &[usize], part: &Part) -> Result<(), Failure> {
        if rejected.is_empty() {
            return Ok(());
        }
        let verdicts = self.dead.add(rejected, sinks, self.config.on_poison, part)?;
        self.observed.dead_lettered.fetch_add(verdicts.dead_lettered, Ordering::Relaxed);
        self.observed.dropped.fetch_add(verdicts.dropped, Ordering::Relaxed);
        self.counters.verdicts(&verdicts);
        Ok(())
    }
}

/// Adds a row that could not be evaluated on its way to an output. Outputs that share the way report the same row; it counts once.
fn gather(refused: &mut Vec<(Rejected, Vec<usize>)>, record: Rejected, sink: Option<usize>) {
    match refused.iter_mut().find(|(known, _)| *known == record) {
        Some((_, sinks)) => sinks.extend(sink),
        None => refused.push((record, sink.into_iter().collect())),
    }
}

/// Why operators cannot go on, as the failure of a task: what a tier has done is the state's trouble.
pub(super) fn broken(error: &Broken) -> Failure {
    let reason = match error {
        Broken::Operators(_) => return internal(error),
        Broken::Tier(tier::Error::Full { .. }) => ErrorReason::Invalid,
        Broken::Tier(tier::Error::Failed { .. }) => ErrorReason::Unreachable,
        Broken::Tier(tier::Error::Damaged { .. }) => ErrorReason::Corrupt,
        Broken::Tier(tier::Error::Encode(_)) => ErrorReason::Internal,
    };
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Failure::new(Part::State, ConnectorError::new(reason, format!("{error}{source}")))
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Part::Task, ConnectorError::new(ErrorReason::Internal, error.to_string()))
}
