//! Producers: how they are started, and in transactions how they are fenced, committed and sealed. It writes no record.

use std::sync::Arc;
use std::time::Duration;

use millrace_crds::connectors::kafka::KafkaAccess;
use millrace_crds::report::ErrorReason;
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::{Commit, OpenSink, WriterIdentity};

use super::flight::Flight;
use super::ledger::{self, Entry};
use super::produce::{Producer, Reached, Start, Transacting};
use super::transaction::{self, Committable, Live, Transaction};
use super::wire::cluster::Access;
use crate::context::{Context, ResolvedLimits};

/// Bytes that may be on their way to the brokers at most.
const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

/// Makes the producers of one sink, and finds out what became of their transactions.
#[derive(Clone, Debug)]
pub(crate) struct Producing {
    limits: ResolvedLimits,
    pub(crate) access: Access,
    /// What is written to, for people: `topic orders`.
    pub(crate) target: String,
    /// How long a transaction may be open.
    timeout_seconds: u32,
    /// Transactions of this process's writers.
    live: Live,
}

impl Producing {
    /// Opens no connection. `target` is what is written to, for people: `topic orders`.
    pub(crate) fn new(access: &KafkaAccess, context: &Context, target: String, timeout_seconds: u32) -> Self {
        Self { limits: context.limits, access: Access::new(access, context), target, timeout_seconds, live: Live::default() }
    }

    /// Starts the producer of a writer to `topics`, outside of transactions or in them; then it makes the ledger if that is missing, and fences all earlier
    /// writers of the same name.
    pub(crate) async fn open(&self, open: &OpenSink, topics: &[&str], is_transactional: bool) -> Result<Flight, ConnectorError> {
        let reached = Reached::new(&self.access)?;
        let mut transacting = None;
        if is_transactional {
            ledger::ensure(reached.cluster()).await?;
            let id = transaction::id(&open.writer);
            let who = self.fence(&reached, &id, &open.health).await?;
            transacting = Some(Transacting { id, who, timeout: Duration::from_secs(self.timeout_seconds.into()) });
        }
        let ledger = is_transactional.then_some(ledger::TOPIC);
        let start = Start {
            topics: topics.iter().copied().chain(ledger).collect(),
            placed: ledger,
            target: self.target.clone(),
            in_flight_bytes: self.limits.in_flight_bytes.clamp(1 << 20, MAX_IN_FLIGHT_BYTES),
            transacting: transacting.clone(),
            health: open.health.clone(),
        };
        let producer = Arc::new(Producer::start(reached.clone(), start));
        let transaction = transacting.map(|transacting| self.transaction(reached, transacting, &producer, &open.writer, &open.health));
        Ok(Flight { producing: self.clone(), producer, transaction, writer: open.writer.clone(), ledger: topics.len() })
    }

    fn transaction(
        &self,
        reached: Reached,
        transacting: Transacting,
        producer: &Arc<Producer>,
        writer: &WriterIdentity,
        health: &Health,
    ) -> Arc<Transaction> {
        let id = transacting.id.clone();
        let transaction = Arc::new(Transaction::new(reached, transacting, producer, writer.generation, health.clone()));
        self.live.add(id, &transaction);
        transaction
    }

    async fn fence(&self, reached: &Reached, id: &str, health: &Health) -> Result<super::produce::ProducerIdentity, ConnectorError> {
        let doing = format!("fencing earlier writers to {} (transactional id {id})", self.target);
        transaction::fence(reached, id, self.timeout_seconds, &doing, health).await
    }

    /// See [`Sink::commit`](millrace_engine::sink::Sink::commit): only for writers of this process.
    pub(crate) async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        for committable in commit.committables {
            let id = read(committable)?.transactional_id;
            let transaction = self.live.find(&id, commit.writer.generation).ok_or_else(|| {
                let message = format!("the transaction {id} of generation {} is not this worker's to commit", commit.writer.generation);
                ConnectorError::new(ErrorReason::ServerError, message)
            })?;
            transaction.commit(commit.epoch, &format!("committing epoch {} to {}", commit.epoch, self.target)).await?;
        }
        Ok(())
    }

    /// See [`Sink::seal`](millrace_engine::sink::Sink::seal).
    pub(crate) async fn seal(&self, commit: Commit<'_>) -> Result<Fate, ConnectorError> {
        let mut fate = Fate::Committed;
        for committable in commit.committables {
            let Committable { transactional_id, place } = read(committable)?;
            self.fence(&Reached::new(&self.access)?, &transactional_id, commit.health).await?;
            let entry = Entry::of(commit.writer, commit.epoch);
            fate = ledger::fate(&self.access, &self.limits, &entry, place, &transactional_id, commit.health).await?;
        }
        Ok(fate)
    }
}

fn read(committable: &serde_json::Value) -> Result<Committable, ConnectorError> {
    serde_json::from_value(committable.clone()).map_err(|error| {
        ConnectorError::new(ErrorReason::Corrupt, "the epoch record does not say which transaction it is about").caused_by(error)
    })
}
