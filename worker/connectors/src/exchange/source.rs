//! What back tasks read: the partitions of the topic of one channel. It makes the topic if it is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::connectors::kafka::{IsolationLevel, OnPositionLost};
use millrace_crds::report::{Distribution, ErrorReason, ProbeResult};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{OpenSplit, Shared, Source, SplitReader};

use super::producers::Kept;
use super::reader::{ExchangeReader, MessageDecoder, Place};
use super::{ExchangeChannel, KafkaExchange, Upstream};
use crate::kafka::position::{Partition, Position};
use crate::kafka::reader::{PartitionReader, Reading};
use crate::kafka::session::Asking;
use crate::retry;

/// Reads a channel; each partition is a split.
pub(super) struct ExchangeSource {
    exchange: KafkaExchange,
    channel: Arc<ExchangeChannel>,
    upstreams: Arc<[Upstream]>,
}

impl ExchangeSource {
    pub(super) fn new(exchange: KafkaExchange, channel: Arc<ExchangeChannel>, upstreams: Vec<Upstream>) -> Self {
        Self { exchange, channel, upstreams: upstreams.into() }
    }
}

#[async_trait]
impl Source for ExchangeSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.channel.channel.schema)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Partitioned
    }

    fn carries_time(&self) -> bool {
        self.channel.channel.timed
    }

    async fn splits(&self, _shared: &Shared) -> Result<Vec<String>, ConnectorError> {
        Ok((0..self.exchange.partitions()).map(|partition| partition.to_string()).collect())
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        let number = open.split.parse().ok().filter(|number| (0..i32::from(self.exchange.partitions())).contains(number));
        let number = number.ok_or_else(|| {
            let message = format!("the exchange has {} partitions, and \"{}\" is none of them", self.exchange.partitions(), open.split);
            ConnectorError::new(ErrorReason::Invalid, message)
        })?;
        let partition = Partition { topic: self.channel.topic.clone(), number };
        let (topics, topic) = (self.exchange.topics, self.channel.topic.as_str());
        retry::until_done(&open.health, || {
            let cluster = self.exchange.producing.access.cluster();
            async move { topics.ensure(&cluster?, &[topic]).await }
        })
        .await?;
        let place = match &open.position {
            Some(position) => serde_json::from_value(position.clone()).map_err(|error| {
                let message = format!("the checkpoint holds {position} as the position in {partition}, which this version cannot read");
                ConnectorError::new(ErrorReason::Corrupt, message).caused_by(error)
            })?,
            // Everything that was ever written; what is no longer there is a loss that has to be told.
            None => Place::<String> { position: Position::at(0), taken: 0, producers: BTreeMap::<String, Kept>::new() },
        };
        let reading = Reading {
            partition: partition.clone(),
            group: None,
            on_position_lost: OnPositionLost::Fail,
            if_lost: "rows between tasks are lost with it: create a Pipeline with another name, which reads its inputs again",
            access: self.exchange.producing.access.clone(),
            // What earlier versions wrote in transactions counts if those were committed.
            asking: Asking::new(IsolationLevel::ReadCommitted, &self.exchange.limits, &self.exchange.readers),
            health: open.health.clone(),
        };
        let reader = ExchangeReader::open(
            partition,
            (place.producers, place.taken),
            self.channel.channel.timed,
            open.health,
            (Arc::clone(&self.exchange.directory), Arc::clone(&self.upstreams)),
            MessageDecoder::new(self.channel.layout.clone()),
            move |decoder| PartitionReader::open(reading, place.position, decoder),
        )?;
        Ok(Box::new(reader))
    }

    async fn probe(&self) -> ProbeResult {
        self.exchange.probe().await
    }
}
