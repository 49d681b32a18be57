//! One lane: operators that work off a queue on a thread that may block, or, where that is little and they rest, at once. It knows nothing of other lanes.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::error::ArrowError;
use tokio::sync::mpsc::UnboundedSender;

use crate::batch::Batch;
use crate::operators::{ExecuteError, Executor, Message, TakenSnapshot};
use crate::plan::stages::{Exchange, pick};
use crate::runtime::buckets::{Aside, Broken, Buckets, Out, TakenBucket, Times};
use crate::runtime::tier::SpillSpace;

/// State of so many bytes may all come out at once.
const LITTLE_STATE: usize = 64 << 10;

/// What a lane is asked to do.
pub(super) enum Work {
    /// To take its rows of a batch.
    Rows { input: usize, channel: usize, rows: Rows, bytes: usize },
    /// To take a message that is no rows.
    Message { input: usize, channel: usize, message: Message },
    /// To say what its state is.
    Snapshot,
    /// To go on in buckets.
    Spill(Spill),
    /// To load the next bucket that has to be.
    More,
    /// To load the next bucket for which rows wait.
    Flush,
}

/// Rows of a batch that belong to a lane. It takes them out itself, so that the driver need not.
pub(super) struct Rows {
    pub(super) batch: Batch,
    /// Which; `None` for all.
    pub(super) picked: Option<Vec<u32>>,
    /// The records that they were made of.
    pub(super) source: Batch,
}

/// What buckets need.
pub(super) struct Spill {
    pub(super) exchange: Exchange,
    pub(super) space: Arc<SpillSpace>,
    /// Bytes of memory.
    pub(super) limit: usize,
    /// Whether all inputs have told a watermark.
    pub(super) knows_time: bool,
}

/// What a lane says. One answer for each piece of work, one before it for each other input that something comes out of, and one more whenever its queue is
/// empty.
pub(super) enum Answer {
    /// What has come out of something that was waiting.
    CameOut { input: usize, emitted: Vec<(usize, Message)> },
    /// What has come out.
    Done { input: usize, emitted: Vec<(usize, Message)>, bytes: usize, was_more: bool, now: Now },
    /// Its state, and the rows that it has dropped, by output.
    Snapshot(Taken, BTreeMap<usize, u64>),
    /// There is nothing to do: the operators are given back.
    Resting(Box<Engine>),
    /// It cannot go on.
    Failed(Broken),
}

/// How a lane is after a piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    /// Bytes of memory that its state takes, with what waits for buckets.
    pub(super) state_bytes: usize,
    /// Bytes of it that are rows which wait for buckets.
    pub(super) waiting_bytes: usize,
    /// Bytes that it takes in the tier.
    pub(super) spilled_bytes: u64,
    /// Whether a bucket has to be loaded.
    pub(super) has_more: bool,
    /// Whether rows wait for parked buckets.
    pub(super) has_rows: bool,
    /// Whether it is in buckets.
    pub(super) is_spilled: bool,
}

/// State of a lane.
pub(super) enum Taken {
    Whole(TakenSnapshot),
    Buckets(Vec<TakenBucket>),
}

/// What a lane runs.
pub(super) enum Engine {
    /// All in memory; with what was said of time.
    Whole(Box<Executor>, Times),
    /// In buckets.
    Buckets(Buckets),
    /// On the way from one to the other, or broken.
    Gone,
}

type Queue = Arc<Mutex<VecDeque<Work>>>;

/// The driver's end of a lane.
pub(super) struct Lane {
    number: usize,
    /// While it rests.
    engine: Option<Box<Engine>>,
    queue: Queue,
    answers: UnboundedSender<(usize, Answer)>,
    /// Rows that are few enough to be taken at once.
    at_once: usize,
    /// As it last said.
    pub(super) now: Now,
    /// Whether it has been asked for more.
    pub(super) is_asked: bool,
    /// Rows that it had dropped when it last gave its state, by output.
    pub(super) filtered: BTreeMap<usize, u64>,
}

impl Lane {
    pub(super) fn new(number: usize, engine: Engine, answers: UnboundedSender<(usize, Answer)>, at_once: usize) -> Self {
        let (now, queue, filtered) = (engine.now(), Queue::default(), BTreeMap::new());
        Self { number, engine: Some(Box::new(engine)), queue, answers, at_once, now, is_asked: false, filtered }
    }

    /// Has it do something: at once if it rests and that is little, or else behind what is in its queue.
    pub(super) fn give(&mut self, work: Work) {
        if let Some(engine) = &mut self.engine
            && engine.is_little(&work, self.at_once)
        {
            let (number, answers) = (self.number, &self.answers);
            if !engine.answer(work, &|answer| answers.send((number, answer)).is_ok()) {
                self.engine = None;
            }
            return;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(work);
        self.start();
    }

    /// It has found its queue empty; meanwhile there may be work.
    pub(super) fn rest(&mut self, engine: Box<Engine>) {
        self.engine = Some(engine);
        if !self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.start();
        }
    }

    /// Whether nothing is to be done, and no thread has its operators.
    #[cfg(test)]
    pub(super) fn is_resting(&self) -> bool {
        self.engine.is_some()
    }

    fn start(&mut self) {
        if let Some(engine) = self.engine.take() {
            let (number, queue, answers) = (self.number, Arc::clone(&self.queue), self.answers.clone());
            // It ends by itself: with its queue, or when nobody listens any more.
            drop(tokio::task::spawn_blocking(move || run(engine, &queue, |answer| answers.send((number, answer)).is_ok())));
        }
    }
}

/// Works the queue off.
fn run(mut engine: Box<Engine>, queue: &Queue, answer: impl Fn(Answer) -> bool) {
    loop {
        let work = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(work) = work else {
            answer(Answer::Resting(engine));
            return;
        };
        if !engine.answer(work, &answer) {
            return;
        }
    }
}

impl Engine {
    fn now(&self) -> Now {
        match self {
            Self::Whole(executor, _) => Now { state_bytes: executor.state_bytes(), ..Now::default() },
            Self::Buckets(buckets) => Now {
                state_bytes: buckets.memory_bytes(),
                waiting_bytes: buckets.waiting_bytes(),
                spilled_bytes: buckets.spilled_bytes(),
                has_more: buckets.has_more(),
                has_rows: buckets.has_rows(),
                is_spilled: true,
            },
            Self::Gone => Now::default(),
        }
    }

    /// Whether waking a thread for it would take longer than doing it: a few rows, or a time at which little comes out. In buckets, anything may load one.
    fn is_little(&self, work: &Work, at_once: usize) -> bool {
        let Self::Whole(executor, _) = self else { return false };
        match work {
            Work::Rows { rows, .. } => rows.picked.as_ref().map_or(rows.batch.num_rows(), Vec::len) <= at_once,
            Work::Message { message: Message::Watermark(time), .. } => {
                at_once > 0 && (executor.state_bytes() <= LITTLE_STATE || executor.dues().iter().all(|due| due.at > *time))
            }
            _ => false,
        }
    }

    /// Does it, and says what has come of it. False if nothing more can be done.
    fn answer(&mut self, work: Work, answer: &impl Fn(Answer) -> bool) -> bool {
        let done = catch_unwind(AssertUnwindSafe(|| self.work_on(work, answer)));
        let panicked = |_| Err(ExecuteError::Defect { message: "an operator panicked in its lane".to_owned() }.into());
        let done = done.unwrap_or_else(panicked);
        let failed = done.is_err();
        answer(done.unwrap_or_else(Answer::Failed)) && !failed
    }

    fn work_on(&mut self, work: Work, answer: &impl Fn(Answer) -> bool) -> Result<Answer, Broken> {
        let mut out = Out::new();
        let was_more = matches!(work, Work::More);
        let (input, bytes) = match work {
            Work::Rows { input, channel, rows, bytes } => {
                self.rows(input, channel, rows, &mut out)?;
                (input, bytes)
            }
            Work::Message { input, channel, message } => {
                self.message(input, channel, message, &mut out)?;
                (input, 0)
            }
            Work::Snapshot => return self.snapshot(),
            Work::Spill(spill) => {
                self.spill(spill)?;
                (0, 0)
            }
            Work::More => {
                if let Self::Buckets(buckets) = self {
                    buckets.more(&mut out)?;
                }
                (0, 0)
            }
            Work::Flush => {
                if let Self::Buckets(buckets) = self {
                    buckets.flush(&mut out)?;
                }
                (0, 0)
            }
        };
        let mut groups: Vec<(usize, Vec<(usize, Message)>)> = Vec::new();
        for (of, output, message) in out {
            match groups.last_mut() {
                Some((last, emitted)) if *last == of => emitted.push((output, message)),
                _ => groups.push((of, vec![(output, message)])),
            }
        }
        let (input, emitted) = groups.pop().unwrap_or((input, Vec::new()));
        for (input, emitted) in groups {
            answer(Answer::CameOut { input, emitted });
        }
        Ok(Answer::Done { input, emitted, bytes, was_more, now: self.now() })
    }

    fn rows(&mut self, input: usize, channel: usize, rows: Rows, out: &mut Out) -> Result<(), Broken> {
        let source = rows.source.clone();
        let rows = own(rows)?;
        match self {
            Self::Whole(executor, times) => {
                let message = Message::Batch(rows);
                times.say(channel, &message);
                executor.push_of(channel, message, &source, &mut |output, message| out.push((input, output, message)))?;
                Ok(())
            }
            Self::Buckets(buckets) => buckets.rows(input, channel, &rows, &source, out),
            Self::Gone => Err(gone()),
        }
    }

    fn message(&mut self, input: usize, channel: usize, message: Message, out: &mut Out) -> Result<(), Broken> {
        match self {
            Self::Whole(executor, times) => {
                times.say(channel, &message);
                executor.push(channel, message, &mut |output, message| out.push((input, output, message)))?;
                Ok(())
            }
            Self::Buckets(buckets) => buckets.message(input, channel, &message, out),
            Self::Gone => Err(gone()),
        }
    }

    fn snapshot(&mut self) -> Result<Answer, Broken> {
        Ok(match self {
            Self::Whole(executor, _) => Answer::Snapshot(Taken::Whole(executor.snapshot()?), filtered(executor)),
            Self::Buckets(buckets) => Answer::Snapshot(Taken::Buckets(buckets.snapshot()?), buckets.filtered()),
            Self::Gone => return Err(gone()),
        })
    }

    /// Puts all state aside, operator by operator.
    fn spill(&mut self, Spill { exchange, space, limit, knows_time }: Spill) -> Result<(), Broken> {
        let (mut executor, times) = match std::mem::replace(self, Self::Gone) {
            Self::Whole(executor, times) => (executor, times),
            other => {
                *self = other;
                return Ok(());
            }
        };
        let taken = executor.snapshot()?;
        let counted = filtered(&executor);
        drop(executor);
        let mut aside = Aside::new(exchange, space, knows_time);
        for (operator, state) in taken.0 {
            let state = state.finish()?;
            aside.add(&operator, &state)?;
        }
        let mut buckets = Buckets::new(aside, limit, times);
        buckets.count(counted);
        *self = Self::Buckets(buckets);
        Ok(())
    }
}

/// Rows that operators have dropped, by output.
pub(super) fn filtered(executor: &Executor) -> BTreeMap<usize, u64> {
    executor.counters().outputs.into_iter().map(|output| (output.output, output.rows_filtered)).collect()
}

fn gone() -> Broken {
    ExecuteError::Defect { message: "a lane was used after it had failed".to_owned() }.into()
}

fn own(rows: Rows) -> Result<Batch, ArrowError> {
    match rows.picked {
        None => Ok(rows.batch),
        Some(picked) => pick(&rows.batch, picked),
    }
}
