//! What front tasks write to: all channels of an exchange, each epoch in one transaction. It makes the topics that are missing.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::ProbeResult;
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Sink, SinkWriter};

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
        (Guarantee::ExactlyOnce, "the rows of an epoch are one transaction, and only what is committed is read")
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let exchange = &self.exchange;
        let topics: Vec<&str> = exchange.topic_names().collect();
        exchange.topics.ensure(&exchange.producing.access.cluster()?, &topics).await?;
        let flight = exchange.producing.open(&open, &topics, true).await?;
        Ok(Box::new(ExchangeWriter::new(exchange, flight)))
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        self.exchange.producing.commit(commit).await
    }

    fn anchor(&self) -> bool {
        true
    }

    async fn seal(&self, commit: Commit<'_>) -> Result<Fate, ConnectorError> {
        self.exchange.producing.seal(commit).await
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
