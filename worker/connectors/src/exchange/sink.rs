//! What front tasks write to: all channels of an exchange. It makes the topics that are missing, and commits nothing: what is written is visible at once.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::ConnectorError;
use millrace_engine::exchange::Coverage;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Sink, SinkWriter};
use serde_json::Value;

use super::place::{FrontPlace, read_back};
use super::writer::ExchangeWriter;
use super::{KafkaExchange, topics};

/// Writes to all channels of an exchange.
pub(super) struct ExchangeSink {
    exchange: KafkaExchange,
}

impl ExchangeSink {
    pub(super) fn new(exchange: KafkaExchange) -> Self {
        Self { exchange }
    }
}

#[async_trait]
impl Sink for ExchangeSink {
    /// What a channel can hold was looked at when the exchange was made.
    fn accepts(&self, _schema: &SchemaRef, _event_time: Option<&str>) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// Row kinds go with the rows.
    fn accepts_changelog(&self, _changelog: &Changelog) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (Guarantee::ExactlyOnce, "messages are numbered, and those of a task that was replaced, or that were read before, do not count")
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        self.open_exchange(open, None).await.map(|(writer, _)| writer)
    }

    async fn open_exchange(&self, open: OpenSink, place: Option<&Value>) -> Result<(Box<dyn SinkWriter>, Coverage), ConnectorError> {
        let exchange = &self.exchange;
        let place = FrontPlace::read(place)?;
        let topics: Vec<&str> = exchange.topic_names().collect();
        exchange.topics.ensure(&exchange.producing.access.cluster()?, &topics).await?;
        let flight = exchange.producing.open(&open, &topics, false).await?;
        let writer = ExchangeWriter::open(exchange, flight, &place).await?;
        let coverage = read_back(exchange, &open, &place).await?;
        Ok((Box::new(writer), coverage))
    }

    /// Only what an earlier version has prepared in a transaction, and left: whether it was committed is looked up. This one prepares nothing.
    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        match self.exchange.producing.seal(commit).await? {
            Fate::Committed => Ok(()),
            Fate::Aborted => Err(ConnectorError::new(
                ErrorReason::Invalid,
                format!(
                    "epoch {} of this task was prepared in a transaction by an earlier version, and that was aborted: run the earlier version until all tasks have \
                     closed another epoch, or create a Pipeline with another name",
                    commit.epoch
                ),
            )),
        }
    }

    async fn probe(&self) -> ProbeResult {
        self.exchange.probe().await
    }
}

impl KafkaExchange {
    /// Connects and looks for the topics; makes none.
    pub(super) async fn probe(&self) -> ProbeResult {
        match self.look().await {
            Ok(there) => ProbeResult::Ok { detail: format!("{}; nothing was written", there.join(", ")) },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }

    async fn look(&self) -> Result<Vec<String>, ConnectorError> {
        let cluster = self.producing.access.cluster()?;
        let mut there = Vec::new();
        for topic in self.topic_names() {
            there.push(match topics::partitions(&cluster, topic).await? {
                Some(count) => format!("{topic} has {count} partitions"),
                None => format!("{topic} is yet to be made"),
            });
        }
        Ok(there)
    }
}
