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
//! **Nothing waits to be more.** A lane takes what is there as soon as it is there: a few rows on the driver's thread, if it rests, because waking its own
//! would take longer. What is in the lanes is bounded by bytes: [`Operators::has_room`] says whether more may come.
//!
//! **State that outgrows memory** goes on in [buckets](super::buckets), in each lane by itself; what ran in one piece goes on in one lane. What comes out of a bucket
//! that is loaded is taken before the next one is: [`Operators::next`] asks for it. Rows that wait for a bucket are not idle for long:
//! [`Operators::flush`] has them taken before an epoch ends.
//!
//! **Epochs** end when the lanes are [idle](Operators::is_idle). State is stored as that of the whole, so that a task goes on with any number of lanes.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use self::lane::{Answer, Engine, Lane, Rows, Spill, Work, filtered};
use super::buckets::{Aside, Broken, Buckets, TakenBucket, Times};
use super::tier::SpillSpace;
use crate::batch::Batch;
use crate::operators::{ExecuteError, Executor, Holding, Message, Snapshot, TakenSnapshot};
use crate::plan::Plan;
use crate::plan::stages::{Exchange, deal};

/// A plan as it runs in a task.
pub(super) enum Operators {
    /// In one piece.
    Whole(Box<Executor>),
    /// In lanes.
    Lanes(Box<Lanes>),
}

/// How the plan of a task can be shared by key.
pub(super) struct Cut {
    pub(super) exchange: Exchange,
    /// What is in front of the exchange; `None` if the inputs of the task are its channels.
    pub(super) front: Option<Executor>,
    /// Number of outputs of the plan.
    pub(super) outputs: usize,
}

/// Where state goes that has no room in memory.
#[derive(Clone)]
pub(super) struct Spilling {
    pub(super) space: Arc<SpillSpace>,
    /// Bytes of memory that all buckets may take together.
    pub(super) limit: usize,
}

/// What has come out of the lanes for one message.
#[derive(Debug)]
pub(super) struct CameOut {
    /// The input that the message was of.
    pub(super) input: usize,
    /// Outputs of the plan and what is for them.
    pub(super) emitted: Vec<(usize, Message)>,
}

/// The state of a task.
pub(super) enum Taken {
    /// As it is without buckets.
    Whole(TakenSnapshot),
    /// By bucket, with how the plan is shared.
    Buckets(String, Vec<TakenBucket>),
}

impl Operators {
    /// The part of the plan that `inputs` reach, going on from `state`. In so many lanes, if the plan can be shared. `room`: bytes that
    /// the lanes may hold; `at_once`: rows that a lane takes on the driver's thread.
    pub(super) fn open(
        plan: &Plan,
        inputs: &[&str],
        lanes: u16,
        room: usize,
        at_once: usize,
        state: Snapshot,
    ) -> Result<Self, ExecuteError> {
        if lanes > 1
            && let Ok(exchange) = plan.exchange()
        {
            let front = Some(exchange.front(inputs));
            let cut = Cut { exchange, front, outputs: plan.outputs().len() };
            return Ok(Self::Lanes(Box::new(Lanes::open(cut, lanes, room, at_once, &state)?)));
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

    /// In buckets whose state has been put aside.
    pub(super) fn spilled(cut: Cut, lanes: u16, room: usize, aside: Aside, limit: usize) -> Self {
        let channels = cut.exchange.channels().len();
        let engine = |part| Engine::Buckets(Buckets::new(part, limit / usize::from(lanes), Times::new(channels)));
        let engines = aside.split(lanes).into_iter().map(engine).collect();
        let mut lanes = Lanes::new(cut, engines, room, 0);
        (0..lanes.lanes.len()).for_each(|lane| lanes.ask(lane));
        Self::Lanes(Box::new(lanes))
    }

    /// Whether state goes to a tier.
    pub(super) fn is_spilling(&self) -> bool {
        matches!(self, Self::Lanes(lanes) if lanes.is_spilling)
    }

    /// Goes on in buckets. `cut` is how the plan is shared, and `again` what its inputs are told of time once more, `knows_time` whether that is all of them;
    /// what comes out meanwhile comes from [`Operators::next`].
    pub(super) fn spill(
        &mut self,
        cut: Cut,
        spilling: &Spilling,
        room: usize,
        again: Vec<(usize, Message)>,
        knows_time: bool,
    ) -> Result<(), ExecuteError> {
        if let Self::Whole(executor) = self {
            let (channels, filtered) = (cut.exchange.channels().len(), filtered(executor));
            let nothing = Executor::new(crate::operators::Wiring::default());
            let engine = Engine::Whole(std::mem::replace(executor, Box::new(nothing)), Times::new(channels));
            let mut lanes = Lanes::new(cut, vec![engine], room, 0);
            lanes.lanes[0].filtered = filtered;
            lanes.spill(spilling, knows_time);
            for (input, message) in again {
                // Time alone, which nobody behind a task with state asks for.
                lanes.push(input, message, &mut |_, _| {})?;
            }
            *self = Self::Lanes(Box::new(lanes));
        } else if let Self::Lanes(lanes) = self {
            lanes.spill(spilling, false);
        }
        Ok(())
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
            Self::Lanes(lanes) => lanes.held < lanes.room && !lanes.lanes.iter().any(|lane| lane.now.has_more),
        }
    }

    /// Whether all that was pushed has come out, or waits for a bucket.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Lanes(lanes) => lanes.outstanding == 0,
        }
    }

    /// Has rows taken that wait for buckets, one bucket of each lane at a time. If some do, nothing is idle after it.
    pub(super) fn flush(&mut self) {
        if let Self::Lanes(lanes) = self
            && lanes.outstanding == 0
        {
            for lane in 0..lanes.lanes.len() {
                if lanes.lanes[lane].now.has_rows {
                    lanes.send(lane, 0, Work::Flush);
                }
            }
        }
    }

    /// The next that comes out; never, if nothing will. A dropped call loses nothing.
    pub(super) async fn next(&mut self) -> Result<CameOut, Broken> {
        match self {
            Self::Whole(_) => std::future::pending().await,
            Self::Lanes(lanes) => lanes.next().await,
        }
    }

    /// The state after everything pushed so far. Only when idle, and flushed.
    pub(super) async fn snapshot(&mut self) -> Result<Taken, Broken> {
        match self {
            Self::Whole(executor) => Ok(Taken::Whole(executor.snapshot()?)),
            Self::Lanes(lanes) => lanes.snapshot().await,
        }
    }

    /// Whether rows for an output have been pushed that have not come out, and will: in front of an exchange between tasks, which runs in one piece.
    pub(super) fn holding(&self, output: usize) -> Holding {
        match self {
            Self::Whole(executor) => executor.holding(output),
            Self::Lanes(_) => Holding::Nothing,
        }
    }

    /// Bytes of memory that the state takes, about.
    pub(super) fn state_bytes(&self) -> usize {
        match self {
            Self::Whole(executor) => executor.state_bytes(),
            Self::Lanes(lanes) => lanes.lanes.iter().map(|lane| lane.now.state_bytes).sum(),
        }
    }

    /// Bytes of that which are rows that wait for buckets: they are state soon, and then may go to the tier.
    pub(super) fn waiting_bytes(&self) -> usize {
        match self {
            Self::Whole(_) => 0,
            Self::Lanes(lanes) => lanes.lanes.iter().map(|lane| lane.now.waiting_bytes).sum(),
        }
    }

    /// Bytes that it takes in a tier.
    pub(super) fn spilled_bytes(&self) -> u64 {
        match self {
            Self::Whole(_) => 0,
            Self::Lanes(lanes) => lanes.lanes.iter().map(|lane| lane.now.spilled_bytes).sum(),
        }
    }

    /// Whether it is on the way into buckets: until then it takes what it took before.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self, Self::Lanes(lanes) if lanes.is_spilling && lanes.lanes.iter().any(|lane| !lane.now.is_spilled))
    }

    /// For each output, the rows that the query has dropped on the way there; in lanes, as of the last snapshot.
    pub(super) fn filtered(&self) -> BTreeMap<usize, u64> {
        match self {
            Self::Whole(executor) => filtered(executor),
            Self::Lanes(lanes) => {
                let mut sum = lanes.front.as_ref().map(filtered).unwrap_or_default();
                for (output, rows) in lanes.lanes.iter().flat_map(|lane| &lane.filtered) {
                    *sum.entry(*output).or_insert(0) += rows;
                }
                sum
            }
        }
    }
}

/// A front, and lanes behind the exchange.
pub(super) struct Lanes {
    exchange: Exchange,
    /// Number of outputs of the plan: beyond are channels.
    outputs: usize,
    /// `None` if what is pushed is what the front has given.
    front: Option<Executor>,
    lanes: Vec<Lane>,
    answers: mpsc::UnboundedReceiver<(usize, Answer)>,
    /// Messages that were sent to lanes and not answered.
    outstanding: usize,
    /// Their bytes.
    held: usize,
    /// The most that they may be before nothing more is taken in.
    room: usize,
    /// Whether the lanes are in buckets, or have been told to go on in them.
    is_spilling: bool,
}

impl Lanes {
    fn open(cut: Cut, lanes: u16, room: usize, at_once: usize, state: &Snapshot) -> Result<Self, ExecuteError> {
        let channels = cut.exchange.channels().len();
        let engines = cut.exchange.split(state, lanes)?.into_iter().map(|part| {
            let mut executor = cut.exchange.back();
            executor.restore(part)?;
            Ok(Engine::Whole(Box::new(executor), Times::new(channels)))
        });
        let engines = engines.collect::<Result<_, ExecuteError>>()?;
        Ok(Self::new(cut, engines, room, at_once))
    }

    fn new(cut: Cut, engines: Vec<Engine>, room: usize, at_once: usize) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        let is_spilling = engines.iter().any(|engine| matches!(engine, Engine::Buckets(_)));
        let lanes = engines.into_iter().enumerate().map(|(number, engine)| Lane::new(number, engine, sender.clone(), at_once)).collect();
        let Cut { exchange, front, outputs } = cut;
        Self { exchange, outputs, front, lanes, answers, outstanding: 0, held: 0, room, is_spilling }
    }

    fn spill(&mut self, spilling: &Spilling, knows_time: bool) {
        if std::mem::replace(&mut self.is_spilling, true) {
            return;
        }
        let limit = spilling.limit / self.lanes.len().max(1);
        for lane in 0..self.lanes.len() {
            let (exchange, space) = (self.exchange.clone(), Arc::clone(&spilling.space));
            self.send(lane, 0, Work::Spill(Spill { exchange, space, limit, knows_time }));
        }
    }

    fn push(&mut self, input: usize, message: Message, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        let source = if let Message::Batch(batch) = &message { Some(batch.clone()) } else { None };
        let mut sent = Vec::new();
        let outputs = self.outputs;
        match &mut self.front {
            Some(front) => front.push(input, message, &mut |target, message| match target.checked_sub(outputs) {
                None => emit(target, message),
                Some(channel) => sent.push((channel, message)),
            })?,
            None => sent.push((input, message)),
        }
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

    fn deal(&mut self, input: usize, channel: usize, batch: Batch, source: &Batch) -> Result<(), arrow::error::ArrowError> {
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

    /// Has the next bucket loaded, if one has to be.
    fn ask(&mut self, lane: usize) {
        if self.lanes[lane].now.has_more && !std::mem::replace(&mut self.lanes[lane].is_asked, true) {
            self.send(lane, 0, Work::More);
        }
    }

    async fn next(&mut self) -> Result<CameOut, Broken> {
        loop {
            let (lane, answer) = self.answer().await;
            match answer {
                Answer::CameOut { input, emitted } => return Ok(CameOut { input, emitted }),
                Answer::Done { input, emitted, bytes, was_more, now } => {
                    self.outstanding -= 1;
                    self.held = self.held.saturating_sub(bytes);
                    self.lanes[lane].now = now;
                    self.lanes[lane].is_asked &= !was_more;
                    self.ask(lane);
                    return Ok(CameOut { input, emitted });
                }
                Answer::Resting(engine) => self.lanes[lane].rest(engine),
                Answer::Failed(error) => return Err(error),
                Answer::Snapshot(..) => {}
            }
        }
    }

    async fn snapshot(&mut self) -> Result<Taken, Broken> {
        let mut parts: Vec<Option<lane::Taken>> = self.lanes.iter().map(|_| None).collect();
        self.lanes.iter_mut().for_each(|lane| lane.give(Work::Snapshot));
        while parts.iter().any(Option::is_none) {
            let (lane, answer) = self.answer().await;
            match answer {
                Answer::Snapshot(part, filtered) => {
                    parts[lane] = Some(part);
                    self.lanes[lane].filtered = filtered;
                }
                Answer::Resting(engine) => self.lanes[lane].rest(engine),
                Answer::Failed(error) => return Err(error),
                Answer::Done { .. } | Answer::CameOut { .. } => {
                    let message = "a snapshot was taken while rows were in the lanes".to_owned();
                    return Err(ExecuteError::Defect { message }.into());
                }
            }
        }
        let (mut whole, mut buckets) = (Vec::new(), Vec::new());
        for part in parts.into_iter().flatten() {
            match part {
                lane::Taken::Whole(part) => whole.push(part),
                lane::Taken::Buckets(part) => buckets.extend(part),
            }
        }
        // All lanes are told at once to go on in buckets, and have before they are idle.
        Ok(if self.is_spilling { Taken::Buckets(self.exchange.shape(), buckets) } else { Taken::Whole(Exchange::merge(whole)) })
    }

    async fn answer(&mut self) -> (usize, Answer) {
        match self.answers.recv().await {
            Some(answer) => answer,
            // Each lane has a sender, so the channel ends with this.
            None => std::future::pending().await,
        }
    }
}
