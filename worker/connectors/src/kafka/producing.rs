//! Producers: how they are configured, and in transactions how they are fenced, committed and sealed. It writes no record.

use std::sync::Arc;

use millrace_crds::connectors::kafka::KafkaAccess;
use millrace_crds::report::ErrorReason;
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::{Commit, WriterIdentity};
use rdkafka::config::ClientConfig;

use super::client::{self, Held};
use super::deliveries::Deliveries;
use super::events::Events;
use super::failure;
use super::ledger::{self, Entry};
use super::transaction::{self, Client, Committable, Live, Transaction};
use crate::context::Context;

/// Bytes of one request to a broker; a single larger record goes alone.
pub(crate) const BATCH_BYTES: usize = 256 << 10;
/// The largest record that the client takes at all; what the broker takes, the broker says.
const RECORD_BYTES: usize = 64 << 20;
/// Bytes that may be on their way to the brokers at most.
const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

/// Makes the producers of one sink, and finds out what became of their transactions.
#[derive(Clone, Debug)]
pub(crate) struct Producing {
    pub(crate) access: KafkaAccess,
    pub(crate) context: Context,
    /// What is written to, for people: `topic orders`.
    pub(crate) target: String,
    /// How long a transaction may be open.
    pub(crate) timeout_seconds: u32,
    /// The largest record in a transaction. The client refuses a larger one by itself; when a broker does, the transaction fails with it.
    pub(crate) record_bytes: usize,
    /// Transactions of this process's writers.
    pub(crate) live: Live,
}

impl Producing {
    /// Bytes that may be on their way.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.context.limits.in_flight_bytes.clamp(1 << 20, MAX_IN_FLIGHT_BYTES)
    }

    /// How to reach the brokers. Secrets are read now.
    pub(crate) fn reaching(&self) -> Result<ClientConfig, ConnectorError> {
        client::config(&self.access, &self.context)
    }

    /// How a producer outside of transactions is configured.
    pub(crate) fn config(&self) -> Result<ClientConfig, ConnectorError> {
        let mut config = self.reaching()?;
        config
            .set("enable.idempotence", "true")
            // The client tries again for as long as the task lives; giving up would lose the order.
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", "10000")
            .set("linger.ms", "0")
            .set("batch.size", BATCH_BYTES.to_string())
            .set("message.max.bytes", RECORD_BYTES.to_string())
            // The writer bounds what is on its way; these only must not be in its way.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", ((self.in_flight_bytes() * 2 + RECORD_BYTES) / 1024).to_string())
            // A key goes to the same partition as with the Java client.
            .set("partitioner", "murmur2_random")
            // An idle client looks whether its brokers are there, so that trouble ends.
            .set("topic.metadata.refresh.interval.ms", "30000");
        Ok(config)
    }

    /// A client that sends each record in a request of its own.
    pub(crate) fn lone_producer(&self, health: &Health) -> Result<Client, ConnectorError> {
        let mut config = self.config()?;
        config.set("batch.num.messages", "1");
        self.producer(&config, health)
    }

    /// Whether the Secrets hold something else now than when `config` was made.
    pub(crate) fn has_other_secrets(&self, config: &ClientConfig) -> bool {
        self.config().is_ok_and(|now| client::has_other_secrets(&now, config))
    }

    /// A producer.
    pub(crate) fn producer(&self, config: &ClientConfig, health: &Health) -> Result<Client, ConnectorError> {
        let producer = config.create_with_context(Deliveries::new(Events::of(health.clone())));
        producer.map_err(|error| failure::error(&format!("starting to write to {}", self.target), error))
    }

    /// The configuration of the producer that the brokers know as `id`.
    fn transacting(&self, id: &str) -> Result<ClientConfig, ConnectorError> {
        let mut config = self.config()?;
        let timeout_millis = u64::from(self.timeout_seconds) * 1000;
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout_millis.to_string())
            .set("message.timeout.ms", timeout_millis.to_string())
            .set("message.max.bytes", self.record_bytes.to_string());
        Ok(config)
    }

    /// A producer that has fenced all earlier ones of the same id.
    async fn fenced(&self, id: &str, health: &Health) -> Result<(ClientConfig, Client), ConnectorError> {
        let config = self.transacting(id)?;
        let producer = self.producer(&config, health)?;
        let doing = format!("fencing earlier writers to {} (transactional id {id})", self.target);
        match transaction::fence(&producer, &doing, || self.has_other_secrets(&config)).await {
            Ok(()) => Ok((config, producer)),
            Err(error) => {
                Held::new(producer).release().await;
                Err(error)
            }
        }
    }

    /// Starts a producer in transactions for `writer`. Makes the ledger if it is missing.
    pub(crate) async fn open(
        &self,
        writer: &WriterIdentity,
        health: &Health,
    ) -> Result<(ClientConfig, Client, Arc<Transaction>), ConnectorError> {
        ledger::ensure(&self.reaching()?).await?;
        let id = transaction::id(writer);
        let (config, producer) = self.fenced(&id, health).await?;
        let transaction = Arc::new(Transaction::new(&producer, writer.generation));
        self.live.add(id, &transaction);
        Ok((config, producer, transaction))
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
            let (_, producer) = self.fenced(&transactional_id, commit.health).await?;
            Held::new(producer).release().await;
            let entry = Entry::of(commit.writer, commit.epoch);
            fate = ledger::fate(&self.reaching()?, &entry, place, &transactional_id, commit.health).await?;
        }
        Ok(fate)
    }
}

fn read(committable: &serde_json::Value) -> Result<Committable, ConnectorError> {
    serde_json::from_value(committable.clone()).map_err(|error| {
        ConnectorError::new(ErrorReason::Corrupt, "the epoch record does not say which transaction it is about").caused_by(error)
    })
}
