//! The Kafka sink: what it accepts, and a writer for each output of a task. It creates no topic.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::connectors::kafka::{KafkaSink as Options, Transactional};
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, REVISED, Sink, SinkWriter};

use super::producing::Producing;
use super::transaction;
use super::writer::{TopicWriter, Writing};
use crate::context::Context;
use crate::formats::record_values::ValueEncoder;
use crate::keys::KeyColumns;

/// Writes rows to a topic.
#[derive(Clone, Debug)]
pub struct KafkaSink {
    options: Options,
    producing: Producing,
}

impl KafkaSink {
    /// A sink with `options`.
    ///
    /// # Errors
    /// `Invalid` if the format is none of those for records.
    pub fn new(options: &Options, context: &Context) -> Result<Self, ConnectorError> {
        if options.format.json.is_none() && options.format.raw.is_none() {
            return Err(ConnectorError::new(ErrorReason::Invalid, "the kafka sink writes json or raw: set format to {json: {}}"));
        }
        let timeout_seconds = options.transaction_timeout_seconds.unwrap_or(transaction::TIMEOUT_SECONDS);
        let producing = Producing::new(&options.access, context, format!("topic {}", options.topic), timeout_seconds);
        Ok(Self { options: options.clone(), producing })
    }

    fn is_transactional(&self) -> bool {
        self.options.transactional == Transactional::Auto
    }

    fn values(&self, schema: &SchemaRef) -> Result<ValueEncoder, ConnectorError> {
        ValueEncoder::new(&self.options.format, schema, &self.options.key_from)
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
        self.values(schema).map(drop)
    }

    /// A revision finds what it revises by its key. Columns more than the plan's key do no harm: a row that changes in them leaves its key.
    fn accepts_changelog(&self, changelog: &Changelog) -> Result<(), ConnectorError> {
        let Changelog::Updating { key } = changelog else { return Ok(()) };
        let configured = &self.options.key_from;
        let message = if key.is_empty() && configured.is_empty() {
            format!(
                "{REVISED}, and no column is known to tell which row is revised: group by a key, name changelog.primaryKey of the Source, or set keyFrom of the Sink to columns of which no two rows \
                 ever have the same values at once"
            )
        } else if !configured.is_empty() && key.iter().any(|column| !configured.contains(column)) {
            format!("{REVISED}: keyFrom of the Sink must hold the columns that tell its rows apart, [{}], or be left out", key.join(", "))
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
        let flight = self.producing.open(&open, &[&self.options.topic], self.is_transactional()).await?;
        let writing = Writing {
            topic: self.options.topic.clone(),
            keys: self.keys(&open.schema, &open.changelog)?,
            is_updating: open.changelog != Changelog::Append,
        };
        Ok(Box::new(TopicWriter::open(writing, self.values(&open.schema)?, flight)))
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        // Outside of transactions there is nothing to commit: records are visible when they are written.
        self.producing.commit(commit).await
    }

    fn anchor(&self) -> bool {
        self.is_transactional()
    }

    async fn seal(&self, commit: Commit<'_>) -> Result<Fate, ConnectorError> {
        self.producing.seal(commit).await
    }

    async fn probe(&self) -> ProbeResult {
        let found = async {
            let cluster = self.producing.access.cluster()?;
            let topic = cluster.topic_anew(&self.options.topic, None).await;
            topic.map_err(|error| error.of(&format!("asking for the partitions of topic {}", self.options.topic)))
        };
        match found.await {
            Ok(topic) => ProbeResult::Ok {
                detail: format!("topic {} found with {} partitions; nothing was written", self.options.topic, topic.partitions().len()),
            },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}
