//! One lane: an executor that works off a queue on a thread that may block. It knows nothing of other lanes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::error::ArrowError;
use tokio::sync::mpsc::UnboundedSender;

use crate::batch::Batch;
use crate::operators::{Counters, ExecuteError, Executor, Message, TakenSnapshot};
use crate::plan::stages::pick;

/// What a lane is asked to do.
pub(super) enum Work {
    /// To take its rows of a batch.
    Rows { input: usize, channel: usize, rows: Rows, bytes: usize },
    /// To take a message that is no rows.
    Message { input: usize, channel: usize, message: Message },
    /// To say what its state is.
    Snapshot,
}

/// Rows of a batch that belong to a lane. It takes them out itself, so that the driver need not.
pub(super) struct Rows {
    pub(super) batch: Batch,
    /// Which; `None` for all.
    pub(super) picked: Option<Vec<u32>>,
    /// The records that they were made of.
    pub(super) source: Batch,
}

/// What a lane says. One answer for each piece of work, and one more whenever its queue is empty.
pub(super) enum Answer {
    /// What has come out.
    Done { input: usize, emitted: Vec<(usize, Message)>, bytes: usize, state_bytes: usize },
    /// Its state, and what it has counted.
    Snapshot(TakenSnapshot, Counters),
    /// There is nothing to do: the executor is given back.
    Resting(Box<Executor>),
    /// It cannot go on.
    Failed(ExecuteError),
}

type Queue = Arc<Mutex<VecDeque<Work>>>;

/// The driver's end of a lane.
pub(super) struct Lane {
    number: usize,
    /// While it rests.
    executor: Option<Box<Executor>>,
    queue: Queue,
    answers: UnboundedSender<(usize, Answer)>,
    /// Bytes of its state, as it last said.
    pub(super) state_bytes: usize,
    /// What it had counted when it last gave its state.
    pub(super) counters: Counters,
}

impl Lane {
    pub(super) fn new(number: usize, executor: Executor, answers: UnboundedSender<(usize, Answer)>) -> Self {
        let state_bytes = executor.state_bytes();
        Self { number, executor: Some(Box::new(executor)), queue: Queue::default(), answers, state_bytes, counters: Counters::default() }
    }

    /// Adds work to its queue, and starts it if it rests.
    pub(super) fn give(&mut self, work: Work) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(work);
        self.start();
    }

    /// It has found its queue empty; meanwhile there may be work.
    pub(super) fn rest(&mut self, executor: Box<Executor>) {
        self.executor = Some(executor);
        if !self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.start();
        }
    }

    fn start(&mut self) {
        if let Some(executor) = self.executor.take() {
            let (number, queue, answers) = (self.number, Arc::clone(&self.queue), self.answers.clone());
            // It ends by itself: with its queue, or when nobody listens any more.
            drop(tokio::task::spawn_blocking(move || run(executor, &queue, |answer| answers.send((number, answer)).is_ok())));
        }
    }
}

/// Works the queue off.
fn run(mut executor: Box<Executor>, queue: &Queue, answer: impl Fn(Answer) -> bool) {
    loop {
        let work = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(work) = work else {
            answer(Answer::Resting(executor));
            return;
        };
        let done = catch_unwind(AssertUnwindSafe(|| work_on(&mut executor, work)));
        let done = done.unwrap_or_else(|_| Err(ExecuteError::Defect { message: "an operator panicked in its lane".to_owned() }));
        let failed = done.is_err();
        if !answer(done.unwrap_or_else(Answer::Failed)) || failed {
            return;
        }
    }
}

fn work_on(executor: &mut Executor, work: Work) -> Result<Answer, ExecuteError> {
    let mut emitted = Vec::new();
    let mut emit = |output, message| emitted.push((output, message));
    let (input, bytes) = match work {
        Work::Rows { input, channel, rows, bytes } => {
            let source = rows.source.clone();
            executor.push_of(channel, Message::Batch(own(rows)?), &source, &mut emit)?;
            (input, bytes)
        }
        Work::Message { input, channel, message } => {
            executor.push(channel, message, &mut emit)?;
            (input, 0)
        }
        Work::Snapshot => return Ok(Answer::Snapshot(executor.snapshot()?, executor.counters())),
    };
    Ok(Answer::Done { input, emitted, bytes, state_bytes: executor.state_bytes() })
}

fn own(rows: Rows) -> Result<Batch, ArrowError> {
    match rows.picked {
        None => Ok(rows.batch),
        Some(picked) => pick(&rows.batch, picked),
    }
}
