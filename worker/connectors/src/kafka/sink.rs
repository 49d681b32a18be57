//! The Kafka sink: what it accepts, and a writer for each output of a task. It creates no topic.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::connectors::kafka::{KafkaSink as Options, Transactional};
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Sink, SinkWriter};
use rdkafka::config::ClientConfig;
use rdkafka::producer::ThreadedProducer;

use super::client::{self, Held};
use super::deliveries::Deliveries;
use super::events::Events;
use super::failure;
use super::ledger::{self, Entry};
use super::transaction::{self, Committable, Live, Transaction};
use super::writer::{TopicWriter, Writing};
use crate::context::Context;
use crate::formats::rows::RowEncoder;
use crate::keys::KeyColumns;

/// Bytes of one request to a broker; a single larger record goes alone.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// The largest record that the client takes at all; what the broker takes, the broker says.
const RECORD_BYTES: usize = 64 << 20;
/// The largest record in a transaction: what brokers take by default. The client refuses a larger one by itself; when a broker does, the
/// transaction fails with it.
const RECORD_BYTES_IN_TRANSACTION: usize = 1_000_000;
/// Bytes that may be on their way to the brokers at most.
const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

/// Writes rows to a topic as JSON.
#[derive(Clone, Debug)]
pub struct KafkaSink {
    options: Options,
    context: Context,
    /// Transactions of this process's writers.
    live: Live,
}

impl KafkaSink {
    /// A sink with `options`.
    ///
    /// # Errors
    /// `Invalid` if the format is not JSON.
    pub fn new(options: &Options, context: &Context) -> Result<Self, ConnectorError> {
        if options.format.json.is_none() {
            return Err(ConnectorError::new(ErrorReason::Invalid, "the kafka sink writes json: set format to {json: {}}"));
        }
        Ok(Self { options: options.clone(), context: context.clone(), live: Live::default() })
    }

    fn in_flight_bytes(&self) -> usize {
        self.context.limits.in_flight_bytes.clamp(1 << 20, MAX_IN_FLIGHT_BYTES)
    }

    fn producing(&self) -> Result<ClientConfig, ConnectorError> {
        let mut config = client::config(&self.options.access, &self.context)?;
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
    pub(super) fn lone_producer(&self, health: &Health) -> Result<ThreadedProducer<Deliveries>, ConnectorError> {
        let mut config = self.producing()?;
        config.set("batch.num.messages", "1");
        self.producer(&config, health)
    }

    /// Whether the Secrets hold something else now than when `config` was made.
    pub(super) fn has_other_secrets(&self, config: &ClientConfig) -> bool {
        self.producing().is_ok_and(|now| client::has_other_secrets(&now, config))
    }

    fn producer(&self, config: &ClientConfig, health: &Health) -> Result<ThreadedProducer<Deliveries>, ConnectorError> {
        let producer = config.create_with_context(Deliveries::new(Events::of(health.clone())));
        producer.map_err(|error| failure::error(&format!("starting to write to topic {}", self.options.topic), error))
    }

    fn is_transactional(&self) -> bool {
        self.options.transactional == Transactional::Auto
    }

    /// The configuration of the producer that the brokers know as `id`.
    fn transacting(&self, id: &str) -> Result<ClientConfig, ConnectorError> {
        let mut config = self.producing()?;
        let timeout_millis = u64::from(self.options.transaction_timeout_seconds.unwrap_or(transaction::TIMEOUT_SECONDS)) * 1000;
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout_millis.to_string())
            .set("message.timeout.ms", timeout_millis.to_string())
            .set("message.max.bytes", RECORD_BYTES_IN_TRANSACTION.to_string());
        Ok(config)
    }

    /// A producer that has fenced all earlier ones of the same id.
    async fn fenced(&self, id: &str, health: &Health) -> Result<(ClientConfig, transaction::Client), ConnectorError> {
        let config = self.transacting(id)?;
        let producer = self.producer(&config, health)?;
        let doing = format!("fencing earlier writers to topic {} (transactional id {id})", self.options.topic);
        match transaction::fence(&producer, &doing, || self.has_other_secrets(&config)).await {
            Ok(()) => Ok((config, producer)),
            Err(error) => {
                Held::new(producer).release().await;
                Err(error)
            }
        }
    }

    fn keys(&self, schema: &SchemaRef, changelog: &Changelog) -> Result<Option<KeyColumns>, ConnectorError> {
        let configured = KeyColumns::find(schema, "keyFrom", &self.options.key_from)?;
        match changelog {
            Changelog::Append => Ok(configured),
            Changelog::Updating { key } => {
                let keys = configured.map_or_else(|| KeyColumns::find(schema, "the key of the output", key), |keys| Ok(Some(keys)))?;
                Ok(keys.map(KeyColumns::exact))
            }
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn accepts(&self, schema: &SchemaRef, _event_time: Option<&str>) -> Result<(), ConnectorError> {
        self.keys(schema, &Changelog::Append)?;
        RowEncoder::new(schema).map(drop)
    }

    /// A revision finds what it revises by its key. Columns more than the plan's key do no harm: a row that changes in them leaves its key.
    fn accepts_changelog(&self, changelog: &Changelog) -> Result<(), ConnectorError> {
        let Changelog::Updating { key } = changelog else { return Ok(()) };
        let configured = &self.options.key_from;
        let revised = "rows of this output are revised after they were written (an aggregate, join or top-N that no window ends)";
        let message = if key.is_empty() && configured.is_empty() {
            format!(
                "{revised}, and no column is known to tell which row is revised: group by a key, or set keyFrom of the Sink to columns of which no two rows \
                 ever have the same values at once"
            )
        } else if !configured.is_empty() && key.iter().any(|column| !configured.contains(column)) {
            format!("{revised}: keyFrom of the Sink must hold the columns that tell its rows apart, [{}], or be left out", key.join(", "))
        } else {
            return Ok(());
        };
        Err(ConnectorError::new(ErrorReason::Invalid, message))
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        if self.is_transactional() {
            return (
                Guarantee::ExactlyOnce,
                "for read_committed readers: the records of an epoch are one transaction, committed once it is durable",
            );
        }
        (
            Guarantee::AtLeastOnce,
            "records are produced before their epoch is durable; the header millrace-coordinate is the same each time a record is written",
        )
    }

    fn guarantee_of_changelog(&self) -> (Guarantee, &'static str) {
        if self.is_transactional() {
            return (
                Guarantee::ExactlyOnce,
                "for read_committed readers: the values and tombstones of an epoch are one transaction, committed once it is durable",
            );
        }
        (
            Guarantee::AtLeastOnce,
            "values and tombstones are produced before their epoch is durable: after a crash, revisions are seen again, and a row that came and went within \
             the repeated epoch may stay",
        )
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let (config, producer, transaction) = if self.is_transactional() {
            ledger::ensure(&client::config(&self.options.access, &self.context)?).await?;
            let id = transaction::id(&open.writer);
            let (config, producer) = self.fenced(&id, &open.health).await?;
            let transaction = Arc::new(Transaction::new(&producer, open.writer.generation));
            self.live.add(id, &transaction);
            (config, producer, Some(transaction))
        } else {
            let config = self.producing()?;
            let producer = self.producer(&config, &open.health)?;
            (config, producer, None)
        };
        let writing = Writing {
            topic: self.options.topic.clone(),
            keys: self.keys(&open.schema, &open.changelog)?,
            is_updating: open.changelog != Changelog::Append,
            in_flight_bytes: self.in_flight_bytes(),
            config,
            sink: self.clone(),
            health: open.health,
            writer: open.writer,
            transaction,
        };
        Ok(Box::new(TopicWriter::open(writing, RowEncoder::new(&open.schema)?, producer)))
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        // Outside of transactions there is nothing to commit: records are visible when they are written.
        for committable in commit.committables {
            let id = read(committable)?.transactional_id;
            let transaction = self.live.find(&id, commit.writer.generation).ok_or_else(|| {
                let message = format!("the transaction {id} of generation {} is not this worker's to commit", commit.writer.generation);
                ConnectorError::new(ErrorReason::ServerError, message)
            })?;
            transaction.commit(commit.epoch, &format!("committing epoch {} to topic {}", commit.epoch, self.options.topic)).await?;
        }
        Ok(())
    }

    fn anchor(&self) -> bool {
        self.is_transactional()
    }

    async fn seal(&self, commit: Commit<'_>) -> Result<Fate, ConnectorError> {
        let mut fate = Fate::Committed;
        for committable in commit.committables {
            let Committable { transactional_id, place } = read(committable)?;
            let (_, producer) = self.fenced(&transactional_id, commit.health).await?;
            Held::new(producer).release().await;
            let entry = Entry::of(commit.writer, commit.epoch);
            let config = client::config(&self.options.access, &self.context)?;
            fate = ledger::fate(&config, &entry, place, &transactional_id, commit.health).await?;
        }
        Ok(fate)
    }

    async fn probe(&self) -> ProbeResult {
        let config = match client::config(&self.options.access, &self.context) {
            Ok(config) => config,
            Err(error) => return ProbeResult::Failed { reason: error.reason, message: error.message },
        };
        let topic = self.options.topic.clone();
        match client::ask(config, "probing".to_owned(), move |client| client::partitions(client, &topic)).await {
            Ok(numbers) => ProbeResult::Ok {
                detail: format!("topic {} found with {} partitions; nothing was written", self.options.topic, numbers.len()),
            },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}

fn read(committable: &serde_json::Value) -> Result<Committable, ConnectorError> {
    serde_json::from_value(committable.clone()).map_err(|error| {
        ConnectorError::new(ErrorReason::Corrupt, "the epoch record does not say which transaction it is about").caused_by(error)
    })
}
