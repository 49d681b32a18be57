//! What the writer and the task that sends share: batches that are ready, how much is on its way, what came of it. It sends nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::ledger::Place;
use super::parcel::{Open, Parcel, Refused};

/// Between the writer and the task that sends.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// There is something to send, or to find out.
    pub(super) work: Notify,
    /// Something has come of it.
    pub(super) progress: Notify,
    /// Bytes that were written and are not acknowledged.
    bytes: AtomicUsize,
    /// Bytes of a batch of several records at most: less once the brokers have said that it is too much.
    batch_bytes: AtomicUsize,
}

/// What is looked at under the lock: by the writer once for each lot of rows, by the task that sends once for each answer.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: Vec<Topic>,
    /// Number of the transaction that is open, or was last.
    pub(super) transaction: u64,
    /// Lots of rows so far.
    pub(super) lots: u64,
    /// Whether nothing is to be sent any more.
    pub(super) is_ending: bool,
    /// Batches that are on their way and not answered.
    pub(super) aloft: usize,
    /// Whether a request of this transaction was lost with its answer: a broker may still carry it out.
    pub(super) is_adrift: bool,
    pub(super) refused: Vec<Refused>,
    /// Where the record lies that was acknowledged last, of a topic whose places are wanted.
    pub(super) place: Option<Place>,
    failure: Option<(ErrorReason, String)>,
}

/// A topic that is written to.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    /// Whether it matters where its records lie.
    pub(super) is_placed: bool,
    /// Whether somebody wants to write to it.
    pub(super) is_wanted: bool,
    /// Whether each partition has a leader; none before the topic is known.
    pub(super) led: Vec<bool>,
    /// Batches that are full, of each partition.
    pub(super) ready: Vec<VecDeque<Parcel>>,
    /// Batches that are not full, of each partition; none while the writer has them.
    pub(super) open: Vec<Option<Open>>,
    /// The partition of records without a key, for now.
    pub(super) spread: usize,
    /// The offset of the batch that was acknowledged last, of each partition; -1 if none was, or the broker did not say.
    pub(super) written: Vec<i64>,
}

impl Topic {
    pub(super) fn new(name: &str, is_placed: bool) -> Self {
        let name = name.to_owned();
        Self { name, is_placed, is_wanted: false, led: Vec::new(), ready: Vec::new(), open: Vec::new(), spread: 0, written: Vec::new() }
    }

    /// Whether there is something to send to a partition.
    pub(super) fn has(&self, partition: usize) -> bool {
        self.ready.get(partition).is_some_and(|ready| !ready.is_empty()) || self.open.get(partition).is_some_and(Option::is_some)
    }

    /// What to send next to a partition.
    pub(super) fn take(&mut self, partition: usize) -> Option<Parcel> {
        let full = self.ready.get_mut(partition).and_then(VecDeque::pop_front);
        full.or_else(|| Some(self.open.get_mut(partition)?.take()?.seal(Instant::now())))
    }
}

impl Shared {
    pub(super) fn new(topics: Vec<Topic>, batch_bytes: usize) -> Self {
        Self {
            state: Mutex::new(State { topics, ..State::default() }),
            work: Notify::new(),
            progress: Notify::new(),
            bytes: AtomicUsize::new(0),
            batch_bytes: AtomicUsize::new(batch_bytes),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were written and are not acknowledged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn remove_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes.load(Ordering::Relaxed)
    }

    /// A batch of so many bytes is too large: later ones are no larger than half of it.
    pub(super) fn shrink_batches(&self, refused: usize) {
        self.batch_bytes.fetch_min(refused / 2, Ordering::Relaxed);
    }

    /// Nothing more will come of what is on its way. The first reason counts.
    pub(super) fn fail(&self, reason: ErrorReason, message: String) {
        self.lock().fail(reason, message);
        self.progress.notify_waiters();
    }

    /// Why nothing more will come of it.
    pub(super) fn failure(&self) -> Option<ConnectorError> {
        self.lock().failure()
    }

    /// Waits until `done` says what is waited for, or all is over.
    pub(super) async fn wait_for<T>(&self, mut done: impl FnMut(&Self, &mut State) -> Option<T>) -> Result<T, ConnectorError> {
        loop {
            let progress = self.progress.notified();
            {
                let mut state = self.lock();
                if let Some(error) = state.failure() {
                    return Err(error);
                }
                if let Some(done) = done(self, &mut state) {
                    return Ok(done);
                }
            }
            progress.await;
        }
    }
}

impl State {
    /// As [`Shared::fail`], for who tells the writer later.
    pub(super) fn fail(&mut self, reason: ErrorReason, message: String) {
        self.failure.get_or_insert((reason, message));
    }

    fn failure(&self) -> Option<ConnectorError> {
        self.failure.as_ref().map(|(reason, message)| ConnectorError::new(*reason, message.clone()))
    }
}
