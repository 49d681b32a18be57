//! What a task runs its plan with: one executor, or one in front of an exchange and several behind it, each on a thread of its own. It reads and writes nothing.
//!
//! ```text
//!             ┌─ Whole: an executor, on the driver's thread; what comes out of a message is there when `push` returns
//!  Operators ─┤
//!             └─ Lanes: front (on the driver's thread) ──▶ by key group ──▶ lane 0 ─┐
//!                                                  └─────────────────────▶ lane 1 ─┴─▶ `next`: what comes out, in the order of each lane
//! ```
//!
//! **Order.** Rows of a key are in one lane, which takes its messages in the order in which they came and says what comes out in that order. Rows of other keys
//! overtake each other. Messages that are no rows go to all lanes.
//!
//! **Nothing waits to be more.** A lane takes what is there as soon as it is there. What is in the lanes is bounded by bytes: [`Operators::has_room`] says whether more may come.
//!
//! **Epochs** end when the lanes are [idle](Operators::is_idle). State is stored as that of the whole, so that a task goes on with any number of lanes.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use arrow::error::ArrowError;
use tokio::sync::mpsc;

use self::lane::{Answer, Lane, Rows, Work};
use crate::batch::Batch;
use crate::operators::{Counters, ExecuteError, Executor, Message, Snapshot, TakenSnapshot};
use crate::plan::Plan;
use crate::plan::stages::{Exchange, deal};

/// A plan as it runs in a task.
pub(super) enum Operators {
    /// In one piece.
    Whole(Box<Executor>),
    /// In lanes.
    Lanes(Box<Lanes>),
}

/// What has come out of the lanes for one message.
#[derive(Debug)]
pub(super) struct CameOut {
    /// The input that the message was of.
    pub(super) input: usize,
    /// Outputs of the plan and what is for them.
    pub(super) emitted: Vec<(usize, Message)>,
}

impl Operators {
    /// The part of the plan that `inputs` reach, going on from `state`. In so many lanes, if the plan can be shared. `room`: bytes that
    /// the lanes may hold.
    pub(super) fn open(plan: &Plan, inputs: &[&str], lanes: u16, room: usize, state: Snapshot) -> Result<Self, ExecuteError> {
        if lanes > 1
            && let Ok(exchange) = plan.exchange()
        {
            return Ok(Self::Lanes(Box::new(Lanes::open(exchange, plan.outputs().len(), inputs, lanes, room, &state)?)));
        }
        Self::whole(plan.executor(inputs), state)
    }

    /// These, in one piece, going on from `state`.
    pub(super) fn whole(mut executor: Executor, state: Snapshot) -> Result<Self, ExecuteError> {
        if !state.is_empty() {
            executor.restore(state)?;
        }
        Ok(Self::Whole(Box::new(executor)))
    }

    /// From which time on something comes out without another row, if operators go by processing time, which they do in one piece.
    pub(super) fn due(&self) -> Option<i64> {
        match self {
            Self::Whole(executor) => executor.due(),
            Self::Lanes(_) => None,
        }
    }

    /// Carries a message through. `emit` gets what is known at once; the rest comes from [`Operators::next`].
    pub(super) fn push(&mut self, input: usize, message: Message, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        match self {
            Self::Whole(executor) => executor.push(input, message, emit),
            Self::Lanes(lanes) => lanes.push(input, message, emit),
        }
    }

    /// Whether more may be pushed.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Lanes(lanes) => lanes.held < lanes.room,
        }
    }

    /// Whether all that was pushed has come out.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Lanes(lanes) => lanes.outstanding == 0,
        }
    }

    /// The next that comes out; never, if nothing will. A dropped call loses nothing.
    pub(super) async fn next(&mut self) -> Result<CameOut, ExecuteError> {
        match self {
            Self::Whole(_) => std::future::pending().await,
            Self::Lanes(lanes) => lanes.next().await,
        }
    }

    /// The state after everything pushed so far. Only when idle.
    pub(super) async fn snapshot(&mut self) -> Result<TakenSnapshot, ExecuteError> {
        match self {
            Self::Whole(executor) => executor.snapshot(),
            Self::Lanes(lanes) => lanes.snapshot().await,
        }
    }

    /// Bytes of memory that the state takes, about.
    pub(super) fn state_bytes(&self) -> usize {
        match self {
            Self::Whole(executor) => executor.state_bytes(),
            Self::Lanes(lanes) => lanes.lanes.iter().map(|lane| lane.state_bytes).sum(),
        }
    }

    /// For each output, the rows that the query has dropped on the way there; in lanes, as of the last snapshot.
    pub(super) fn filtered(&self) -> BTreeMap<usize, u64> {
        let mut filtered = BTreeMap::new();
        let mut add = |counters: &Counters| {
            for output in &counters.outputs {
                *filtered.entry(output.output).or_insert(0) += output.rows_filtered;
            }
        };
        match self {
            Self::Whole(executor) => add(&executor.counters()),
            Self::Lanes(lanes) => {
                add(&lanes.front.counters());
                lanes.lanes.iter().for_each(|lane| add(&lane.counters));
            }
        }
        filtered
    }
}

/// A front, and lanes behind the exchange.
pub(super) struct Lanes {
    exchange: Exchange,
    /// Number of outputs of the plan: beyond are channels.
    outputs: usize,
    front: Executor,
    lanes: Vec<Lane>,
    answers: mpsc::UnboundedReceiver<(usize, Answer)>,
    /// Messages that were sent to lanes and not answered.
    outstanding: usize,
    /// Their bytes.
    held: usize,
    /// The most that they may be before nothing more is taken in.
    room: usize,
}

impl Lanes {
    fn open(exchange: Exchange, outputs: usize, inputs: &[&str], lanes: u16, room: usize, state: &Snapshot) -> Result<Self, ExecuteError> {
        let (sender, answers) = mpsc::unbounded_channel();
        let parts = exchange.split(state, lanes)?.into_iter().enumerate();
        let lanes = parts.map(|(number, part)| {
            let mut executor = exchange.back();
            executor.restore(part)?;
            Ok(Lane::new(number, executor, sender.clone()))
        });
        let lanes = lanes.collect::<Result<_, ExecuteError>>()?;
        let front = exchange.front(inputs);
        Ok(Self { exchange, outputs, front, lanes, answers, outstanding: 0, held: 0, room })
    }

    fn push(&mut self, input: usize, message: Message, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        let source = if let Message::Batch(batch) = &message { Some(batch.clone()) } else { None };
        let mut sent = Vec::new();
        let outputs = self.outputs;
        self.front.push(input, message, &mut |target, message| match target.checked_sub(outputs) {
            None => emit(target, message),
            Some(channel) => sent.push((channel, message)),
        })?;
        for (channel, message) in sent {
            match (message, &source) {
                (Message::Batch(batch), Some(source)) => self.deal(input, channel, batch, source)?,
                (message, _) => {
                    for lane in 0..self.lanes.len() {
                        self.send(lane, 0, Work::Message { input, channel, message: message.clone() });
                    }
                }
            }
        }
        Ok(())
    }

    fn deal(&mut self, input: usize, channel: usize, batch: Batch, source: &Batch) -> Result<(), ArrowError> {
        let lanes = u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
        let parts = deal(&batch, &self.exchange.channels()[channel].key, lanes)?;
        let (rows, bytes) = (batch.num_rows().max(1), batch.memory_bytes());
        for (lane, picked) in parts {
            let share = bytes / rows * picked.as_ref().map_or(rows, Vec::len);
            let rows = Rows { batch: batch.clone(), picked, source: source.clone() };
            self.send(usize::from(lane), share, Work::Rows { input, channel, rows, bytes: share });
        }
        Ok(())
    }

    fn send(&mut self, lane: usize, bytes: usize, work: Work) {
        self.outstanding += 1;
        self.held += bytes;
        self.lanes[lane].give(work);
    }

    async fn next(&mut self) -> Result<CameOut, ExecuteError> {
        loop {
            let (lane, answer) = self.answer().await;
            match answer {
                Answer::Done { input, emitted, bytes, state_bytes } => {
                    self.outstanding -= 1;
                    self.held = self.held.saturating_sub(bytes);
                    self.lanes[lane].state_bytes = state_bytes;
                    return Ok(CameOut { input, emitted });
                }
                Answer::Resting(executor) => self.lanes[lane].rest(executor),
                Answer::Failed(error) => return Err(error),
                Answer::Snapshot(..) => {}
            }
        }
    }

    async fn snapshot(&mut self) -> Result<TakenSnapshot, ExecuteError> {
        let mut parts: Vec<Option<TakenSnapshot>> = self.lanes.iter().map(|_| None).collect();
        self.lanes.iter_mut().for_each(|lane| lane.give(Work::Snapshot));
        while parts.iter().any(Option::is_none) {
            let (lane, answer) = self.answer().await;
            match answer {
                Answer::Snapshot(part, counters) => {
                    parts[lane] = Some(part);
                    self.lanes[lane].counters = counters;
                }
                Answer::Resting(executor) => self.lanes[lane].rest(executor),
                Answer::Failed(error) => return Err(error),
                Answer::Done { .. } => {
                    let message = "a snapshot was taken while rows were in the lanes".to_owned();
                    return Err(ExecuteError::Defect { message });
                }
            }
        }
        Ok(Exchange::merge(parts.into_iter().flatten().collect()))
    }

    async fn answer(&mut self) -> (usize, Answer) {
        match self.answers.recv().await {
            Some(answer) => answer,
            // Each lane has a sender, so the channel ends with this.
            None => std::future::pending().await,
        }
    }
}
