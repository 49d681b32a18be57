//! The transaction of one writer: one for each epoch. It never commits what it is not sure of, and never goes on after a doubt.
//!
//! What a broker has answered with "not now" was not done, and is asked again. An end that was sent and not answered is a doubt: it may be carried out
//! later, when the next transaction is open. Then the writer fails, its task is opened again, and the ledger tells.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{ConnectorError, Health, is_transient};
use millrace_engine::sink::WriterIdentity;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::ledger::Place;
use super::produce::answers::is_passing;
use super::produce::brokers::Unended;
use super::produce::{Producer, ProducerIdentity, Reached, Transacting};

/// How long a transaction may be open before the brokers abort it, unless the options say: the most that brokers allow by default.
pub(crate) const TIMEOUT_SECONDS: u32 = 900;
/// Pause before a call that can be made again at once.
const PAUSE: Duration = Duration::from_millis(100);
/// How long aborting may take when a writer closes.
const ABORTING: Duration = Duration::from_secs(3);

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
    reached: Reached,
    transacting: Transacting,
    producer: Arc<Producer>,
    generation: u64,
    health: Health,
    state: watch::Sender<State>,
    /// The epoch that was committed last; 0 before.
    committed: AtomicU64,
}

/// The stable name under which the brokers know a writer: a later one of the same name fences the earlier.
pub(crate) fn id(writer: &WriterIdentity) -> String {
    format!("millrace/{}/{}/{}", writer.pipeline_uid, writer.output, writer.task)
}

/// Fences every earlier producer of the same id; what they had open is committed or aborted for good afterwards. It goes on until it is done, or the Secrets
/// have changed: then it can never get in.
pub(crate) async fn fence(
    reached: &Reached,
    id: &str,
    timeout_seconds: u32,
    doing: &str,
    health: &Health,
) -> Result<ProducerIdentity, ConnectorError> {
    let mut is_troubled = false;
    loop {
        match reached.fence(id, timeout_seconds).await {
            Ok(who) => {
                if is_troubled {
                    health.clear();
                }
                return Ok(who);
            }
            Err(error) if is_passing(&error) && is_transient(error.reason()) && !reached.has_other_secrets() => {
                is_troubled = true;
                health.trouble(error.reason(), format!("{doing}: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.of(doing)),
        }
    }
}

impl Transaction {
    /// For a producer that has fenced all earlier ones.
    pub(crate) fn new(reached: Reached, transacting: Transacting, producer: &Arc<Producer>, generation: u64, health: Health) -> Self {
        let (producer, state) = (Arc::clone(producer), watch::Sender::new(State::Idle));
        Self { reached, transacting, producer, generation, health, state, committed: AtomicU64::new(0) }
    }

    /// Begins a transaction if none is open, once the one before is committed.
    pub(crate) async fn begin(&self) -> Result<(), ConnectorError> {
        let mut watching = self.state.subscribe();
        loop {
            let state = *watching.borrow_and_update();
            match state {
                State::Open => return Ok(()),
                State::Idle => {
                    self.producer.begin();
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
        let committed = self.end(doing).await;
        if committed.is_ok() {
            self.committed.store(epoch, Ordering::Release);
        }
        self.state.send_replace(if committed.is_ok() { State::Idle } else { State::Failed });
        committed
    }

    async fn end(&self, doing: &str) -> Result<(), ConnectorError> {
        let mut is_troubled = false;
        loop {
            match self.reached.end(&self.transacting.id, self.transacting.who, true).await {
                Ok(()) => {
                    if is_troubled {
                        self.health.clear();
                    }
                    return Ok(());
                }
                Err(Unended::NotDone(error)) if is_passing(&error) && is_transient(error.reason()) && !self.reached.has_other_secrets() => {
                    is_troubled = true;
                    self.health.trouble(error.reason(), format!("{doing}: {error}"));
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Unended::NotDone(error) | Unended::Unknown(error)) => return Err(error.of(doing)),
            }
        }
    }

    /// Aborts what is not prepared, so that readers are not held back. What is prepared may be committed and is not touched.
    pub(crate) async fn close(&self) {
        let was_open = self.is_open();
        if was_open {
            self.state.send_replace(State::Failed);
        }
        self.producer.end();
        if !was_open {
            return;
        }
        // A record that comes after the end would begin a transaction that nobody ends: readers would be held back, and the next end of this id would count
        // for it. The next owner, or the time-out, fences by a higher epoch, after which it is refused.
        let aborting = async {
            if !self.producer.grounded().await {
                return None;
            }
            Some(self.reached.end(&self.transacting.id, self.transacting.who, false).await)
        };
        let aborted = tokio::time::timeout(ABORTING, aborting).await;
        if !matches!(aborted, Ok(Some(Ok(())))) {
            tracing::debug!(?aborted, "a transaction is left to its time-out, or to the next owner");
        }
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
