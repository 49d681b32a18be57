//! The Kafka source: which partitions there are, and a reader for each. It keeps no connection of its own.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::SourceSpec;
use millrace_crds::connectors::kafka::{KafkaSource as Options, KafkaStart};
use millrace_crds::report::{Distribution, ProbeResult};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{OpenSplit, Shared, Source, SplitReader};

use super::position::{Partition, Position};
use super::reader::{PartitionReader, Reading};
use super::session::{Asking, Opened, Readers, Session};
use super::start;
use super::wire::cluster::{Access, Cluster, Place};
use super::wire::error::Error;
use crate::context::Context;
use crate::formats::RecordTable;
use crate::retry;

/// Reads topics; each partition is a split.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    options: Options,
    table: RecordTable,
    context: Context,
    access: Access,
    readers: Readers,
}

impl KafkaSource {
    /// A source of `spec`, whose block `options` is.
    ///
    /// # Errors
    /// `Invalid` if the format does not go with the schema.
    pub fn new(options: &Options, spec: &SourceSpec, context: &Context) -> Result<Self, ConnectorError> {
        let table = RecordTable::of(spec)?;
        let access = Access::new(&options.access, context);
        Ok(Self { options: options.clone(), table, context: context.clone(), access, readers: Readers::default() })
    }

    fn asking(&self) -> Asking {
        Asking::new(self.options.isolation_level, &self.context.limits, &self.readers)
    }

    /// Where a partition without a position starts.
    async fn start(&self, partition: &Partition, shared: &Shared) -> Result<Position, ConnectorError> {
        let offset = match self.options.start_from {
            KafkaStart::Earliest => None,
            KafkaStart::Latest => start::latest(shared, &partition.topic, &self.access.cluster()?).await?.get(&partition.number).copied(),
        };
        Ok(offset.map_or_else(Position::default, Position::at))
    }

    /// Looks for the topics, and reads the end of the first partition of each: the one request that needs the right to read.
    async fn look(&self) -> Result<String, ConnectorError> {
        let cluster = self.access.cluster()?;
        let mut found = Vec::new();
        for topic in &self.options.topics {
            let count = cluster.topic_anew(topic, None).await.map_err(|error| error.of("probing"))?.partitions().len();
            let partition = Partition { topic: topic.clone(), number: 0 };
            let doing = format!("reading the end of partition {partition}");
            read_end(&cluster, partition, self.asking()).await.map_err(|error| error.of(&doing))?;
            found.push(format!("{topic} has {count} partitions"));
        }
        Ok(found.join(", "))
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(self.table.schema())
    }

    fn distribution(&self) -> Distribution {
        Distribution::Partitioned
    }

    async fn splits(&self, shared: &Shared) -> Result<Vec<String>, ConnectorError> {
        let cluster = self.access.cluster()?;
        let mut splits = Vec::new();
        for topic in &self.options.topics {
            if self.options.start_from == KafkaStart::Latest {
                start::latest(shared, topic, &cluster).await?;
            }
            let found = cluster.topic_anew(topic, None).await.map_err(|error| error.of("looking for partitions"))?;
            splits.extend(found.partitions().into_iter().map(|number| Partition { topic: topic.clone(), number }.to_string()));
        }
        Ok(splits)
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        let partition = Partition::parse(&open.split)?;
        let position = match &open.position {
            Some(position) => Position::read(position)?,
            None => retry::until_done(&open.health, || self.start(&partition, &open.shared)).await?,
        };
        let decoder = self.table.decoder(&open.projection, &self.context.limits)?;
        let reading = Reading {
            partition,
            group: self.options.group_id.clone(),
            on_position_lost: self.options.on_position_lost,
            if_lost: "to go on without these records set onPositionLost to Earliest or Latest",
            access: self.access.clone(),
            asking: self.asking(),
            health: open.health,
        };
        Ok(Box::new(PartitionReader::open(reading, position, decoder)?))
    }

    async fn probe(&self) -> ProbeResult {
        match self.look().await {
            Ok(found) => ProbeResult::Ok { detail: format!("topics found and read at their end: {found}") },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}

async fn read_end(cluster: &Cluster, partition: Partition, asking: Asking) -> Result<(), Error> {
    let end = cluster.offset(&partition.topic, partition.number, Place::End).await?;
    let position = Position::at(end);
    match Session::open(cluster.clone(), partition, position, asking, None).await? {
        Opened::Session(mut session) => session.answer().await.map(drop),
        // Without an id of its own the position fits every topic.
        Opened::Recreated(_) => Ok(()),
    }
}
