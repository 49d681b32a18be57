//! The transaction of one writer: one for each epoch. It never commits what it is not sure of, and never goes on after a doubt.
//!
//! The library's transaction calls block: each runs on a thread for that, for a bounded time, and is made again while the library says that it
//! can be. Anything else is a doubt: the writer fails, its task is opened again, and the ledger tells.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::WriterIdentity;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::client::{Held, PATIENCE};
use super::deliveries::Deliveries;
use super::failure;
use super::ledger::Place;

/// How long a transaction may be open before the brokers abort it, unless the options say: the most that brokers allow by default.
pub(crate) const TIMEOUT_SECONDS: u32 = 900;
/// Pause before a call that can be made again at once.
const PAUSE: Duration = Duration::from_millis(200);
/// How long aborting may take when a writer closes.
const ABORTING: Duration = Duration::from_secs(3);

/// The client of a writer.
pub(crate) type Client = ThreadedProducer<Deliveries>;

/// What is kept in the epoch record: all that is needed to find out what became of the transaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Committable {
    pub(crate) transactional_id: String,
    #[serde(flatten)]
    pub(crate) place: Place,
}

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// There is none.
    Idle,
    /// Records are being written.
    Open,
    /// All of the epoch is written, its entry too.
    Prepared(u64),
    /// A commit is under way, or was given up half-way.
    Committing(u64),
    /// Nobody knows; the ledger will tell.
    Failed,
}

/// The transactions of one writer, one after the other.
pub(crate) struct Transaction {
    producer: Held<Client>,
    generation: u64,
    state: watch::Sender<State>,
    /// The epoch that was committed last; 0 before.
    committed: AtomicU64,
}

/// The stable name under which the brokers know a writer: a later one of the same name fences the earlier.
pub(crate) fn id(writer: &WriterIdentity) -> String {
    format!("millrace/{}/{}/{}", writer.pipeline_uid, writer.output, writer.task)
}

/// Fences every earlier producer of the same id; what they had open is committed or aborted for good afterwards.
/// `is_stale` says that the client can never get in, because its Secrets have changed.
pub(crate) async fn fence(producer: &Client, doing: &str, is_stale: impl Fn() -> bool) -> Result<(), ConnectorError> {
    repeat(producer, doing, is_stale, |client| client.init_transactions(PATIENCE)).await
}

/// Makes a call until it succeeds or cannot be made again.
async fn repeat(
    producer: &Client,
    doing: &str,
    is_stale: impl Fn() -> bool,
    call: fn(&Client) -> KafkaResult<()>,
) -> Result<(), ConnectorError> {
    loop {
        let client = producer.clone();
        let called = tokio::task::spawn_blocking(move || call(&client)).await;
        match called.map_err(|error| ConnectorError::new(ErrorReason::Internal, format!("{doing}: not finished")).caused_by(error))? {
            Ok(()) => return Ok(()),
            Err(error) if can_be_repeated(&error) && !is_stale() => {
                producer.client().context().stalled(&format!("{doing}: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(failure::error(doing, error)),
        }
    }
}

fn can_be_repeated(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort())
}

impl Transaction {
    /// For a producer that has fenced all earlier ones.
    pub(crate) fn new(producer: &Client, generation: u64) -> Self {
        Self { producer: Held::new(producer.clone()), generation, state: watch::Sender::new(State::Idle), committed: AtomicU64::new(0) }
    }

    /// Begins a transaction if none is open, once the one before is committed.
    pub(crate) async fn begin(&self) -> Result<(), ConnectorError> {
        let mut watching = self.state.subscribe();
        loop {
            let state = *watching.borrow_and_update();
            match state {
                State::Open => return Ok(()),
                State::Idle => {
                    let begun = self.producer()?.begin_transaction();
                    begun.map_err(|error| failure::error("beginning a transaction", error))?;
                    self.state.send_replace(State::Open);
                    return Ok(());
                }
                State::Failed => return Err(doubt("the transaction before was not committed")),
                State::Prepared(_) | State::Committing(_) => watching.changed().await.map_err(|_gone| doubt("the transaction is gone"))?,
            }
        }
    }

    /// Whether there is a transaction with records that are not prepared.
    pub(crate) fn is_open(&self) -> bool {
        *self.state.borrow() == State::Open
    }

    /// All of the epoch is written and acknowledged, its entry too.
    pub(crate) fn prepared(&self, epoch: u64) {
        self.state.send_replace(State::Prepared(epoch));
    }

    /// Commits what was prepared for `epoch`. After an error, only the ledger knows.
    pub(crate) async fn commit(&self, epoch: u64, doing: &str) -> Result<(), ConnectorError> {
        let state = *self.state.borrow();
        match state {
            _ if self.committed.load(Ordering::Acquire) == epoch => return Ok(()),
            State::Prepared(prepared) if prepared == epoch => {}
            _ => return Err(doubt(&format!("epoch {epoch} cannot be committed in state {state:?}"))),
        }
        self.state.send_replace(State::Committing(epoch));
        let committed = repeat(self.producer()?, doing, || false, |client| client.commit_transaction(PATIENCE)).await;
        if committed.is_ok() {
            self.committed.store(epoch, Ordering::Release);
        }
        self.state.send_replace(if committed.is_ok() { State::Idle } else { State::Failed });
        committed
    }

    /// Aborts what is not prepared, so that readers are not held back. What is prepared may be committed and is not touched.
    pub(crate) async fn close(&self) {
        if !self.is_open() {
            return;
        }
        self.state.send_replace(State::Failed);
        let Some(client) = self.producer.get().cloned() else { return };
        let aborted = tokio::task::spawn_blocking(move || client.abort_transaction(ABORTING)).await;
        if !matches!(aborted, Ok(Ok(()))) {
            tracing::debug!(?aborted, "a transaction is left to its time-out, or to the next owner");
        }
    }

    fn producer(&self) -> Result<&Client, ConnectorError> {
        self.producer.get().ok_or_else(|| doubt("the writer is closed"))
    }
}

fn doubt(what: &str) -> ConnectorError {
    ConnectorError::new(ErrorReason::ServerError, format!("{what}; the task is opened again, and the ledger tells what was committed"))
}

/// Transactions of the writers that live in this process, by transactional id.
#[derive(Clone, Default)]
pub(crate) struct Live(Arc<Mutex<HashMap<String, Weak<Transaction>>>>);

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    pub(crate) fn add(&self, id: String, transaction: &Arc<Transaction>) {
        let mut live = self.lock();
        live.retain(|_, transaction| transaction.strong_count() > 0);
        live.insert(id, Arc::downgrade(transaction));
    }

    /// The one that `generation` has opened here.
    pub(crate) fn find(&self, id: &str, generation: u64) -> Option<Arc<Transaction>> {
        self.lock().get(id).and_then(Weak::upgrade).filter(|transaction| transaction.generation == generation)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Transaction>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
