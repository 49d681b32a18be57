//! The Kafka source: which partitions there are, and a reader for each. It keeps no connection of its own.

use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::SourceSpec;
use millrace_crds::connectors::kafka::{IsolationLevel, KafkaSource as Options, KafkaStart};
use millrace_crds::format::SourceFormat;
use millrace_crds::report::{Distribution, ErrorReason, ProbeResult};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{OpenSplit, Shared, Source, SplitReader};
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::client::{self, PATIENCE};
use super::events::Events;
use super::failure;
use super::position::{Partition, Position};
use super::reader::{PartitionReader, Reading};
use super::start;
use crate::context::Context;
use crate::formats;
use crate::retry;

/// Reads topics; each partition is a split.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    options: Options,
    format: SourceFormat,
    table: SchemaRef,
    context: Context,
}

impl KafkaSource {
    /// A source of `spec`, whose block `options` is.
    ///
    /// # Errors
    /// `Invalid` if the format does not go with the schema.
    pub fn new(options: &Options, spec: &SourceSpec, context: &Context) -> Result<Self, ConnectorError> {
        let table = formats::table_schema(&spec.format, spec.schema.as_ref())?;
        Ok(Self { options: options.clone(), format: spec.format.clone(), table, context: context.clone() })
    }

    /// How a reader is configured. Secrets are read now.
    fn reading(&self) -> Result<ClientConfig, ConnectorError> {
        let isolation = match self.options.isolation_level {
            IsolationLevel::ReadCommitted => "read_committed",
            IsolationLevel::ReadUncommitted => "read_uncommitted",
        };
        client::reading(&self.options.access, &self.context, self.options.group_id.as_deref(), isolation)
    }

    /// Where a partition without a position starts.
    async fn start(&self, partition: &Partition, shared: &Shared) -> Result<Position, ConnectorError> {
        let offset = match self.options.start_from {
            KafkaStart::Earliest => None,
            KafkaStart::Latest => {
                let config = client::config(&self.options.access, &self.context)?;
                start::latest(shared, &partition.topic, &config).await?.get(&partition.number).copied()
            }
        };
        Ok(Position { topic_id: None, offset })
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.table)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Partitioned
    }

    async fn splits(&self, shared: &Shared) -> Result<Vec<String>, ConnectorError> {
        let config = client::config(&self.options.access, &self.context)?;
        if self.options.start_from == KafkaStart::Latest {
            for topic in &self.options.topics {
                start::latest(shared, topic, &config).await?;
            }
        }
        let topics = self.options.topics.clone();
        client::ask(config, "looking for partitions".to_owned(), move |client| {
            let mut splits = Vec::new();
            for topic in topics {
                let numbers = client::partitions(client, &topic)?;
                splits.extend(numbers.into_iter().map(|number| Partition { topic: topic.clone(), number }.to_string()));
            }
            Ok(splits)
        })
        .await
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        let partition = Partition::parse(&open.split)?;
        let position = match &open.position {
            Some(position) => Position::read(position)?,
            None => retry::until_done(&open.health, || self.start(&partition, &open.shared)).await?,
        };
        let limits = &self.context.limits;
        let decoder = formats::record_decoder(&self.format, &self.table, &open.projection, limits)?;
        let source = self.clone();
        let reading = Reading {
            partition,
            group: self.options.group_id.is_some(),
            on_position_lost: self.options.on_position_lost,
            if_lost: "to go on without these records set onPositionLost to Earliest or Latest",
            config: Box::new(move || source.reading()),
            health: open.health,
        };
        Ok(Box::new(PartitionReader::open(reading, position, decoder)?))
    }

    async fn probe(&self) -> ProbeResult {
        let config = match self.reading() {
            Ok(config) => config,
            Err(error) => return ProbeResult::Failed { reason: error.reason, message: error.message },
        };
        let topics = self.options.topics.clone();
        let probed = client::ask(config, "probing".to_owned(), move |client| {
            let mut found = Vec::new();
            for topic in &topics {
                let numbers = client::partitions(client, topic)?;
                found.push(format!("{topic} has {} partitions", numbers.len()));
            }
            read_ends(client, &topics)?;
            Ok(found.join(", "))
        });
        match probed.await {
            Ok(found) => ProbeResult::Ok { detail: format!("topics found and read at their end: {found}") },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}

/// Reads the end of the first partition of each topic: the one request that needs the right to read.
#[expect(clippy::disallowed_methods, reason = "a deadline of a blocking call, outside of any task")]
fn read_ends(client: &BaseConsumer<Events>, topics: &[String]) -> Result<(), ConnectorError> {
    let doing = "reading the end of the first partition of each topic";
    let mut list = TopicPartitionList::new();
    for topic in topics {
        list.add_partition_offset(topic, 0, Offset::End).map_err(|error| failure::error(doing, error))?;
    }
    client.assign(&list).map_err(|error| failure::error(doing, error))?;
    let deadline = Instant::now() + PATIENCE;
    let mut ended = 0;
    while ended < topics.len() {
        if Instant::now() > deadline {
            return Err(ConnectorError::new(ErrorReason::Unreachable, format!("{doing}: no answer within {} s", PATIENCE.as_secs())));
        }
        match client.poll(Duration::from_millis(200)) {
            // A record or the end: either was read.
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => {
                let error = failure::error(doing, error);
                if error.reason == ErrorReason::AccessDenied && !is_about_group(&error) {
                    return Err(error);
                }
            }
            None => {}
        }
    }
    Ok(())
}

fn is_about_group(error: &ConnectorError) -> bool {
    let cause = error.source.as_deref().and_then(|cause| cause.downcast_ref::<KafkaError>());
    cause.is_some_and(failure::is_about_group)
}
