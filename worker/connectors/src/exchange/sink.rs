//! What front tasks write to: all channels of an exchange, each epoch in one transaction. It makes the topics that are missing.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::ProbeResult;
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Sink, SinkWriter};

use super::KafkaExchange;
use super::writer::ExchangeWriter;
use crate::kafka::client;

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
        exchange.topics.ensure(&exchange.producing.reaching()?, &topics).await?;
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
        let config = match self.producing.reaching() {
            Ok(config) => config,
            Err(error) => return ProbeResult::Failed { reason: error.reason, message: error.message },
        };
        let topics: Vec<String> = self.topic_names().map(str::to_owned).collect();
        let probed = client::ask(config, "probing".to_owned(), move |client| {
            let there = topics.iter().map(|topic| match client::partitions(client, topic) {
                Ok(numbers) => Ok(format!("{topic} has {} partitions", numbers.len())),
                Err(error) if error.reason == millrace_crds::report::ErrorReason::NotFound => Ok(format!("{topic} is yet to be made")),
                Err(error) => Err(error),
            });
            there.collect::<Result<Vec<_>, _>>()
        });
        match probed.await {
            Ok(there) => ProbeResult::Ok { detail: format!("{}; nothing was written", there.join(", ")) },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}
