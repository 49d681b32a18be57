//! Reads one partition. It belongs to no group, stores no offset, and goes nowhere but where its position says.

use std::time::Duration;

use arrow::array::UInt64Array;
use async_trait::async_trait;
use millrace_crds::connectors::kafka::OnPositionLost;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, Origin, RejectStage, Rejected};
use millrace_engine::connector::{Backoff, ConnectorError, Health};
use millrace_engine::source::{Lag, Records, SourceEvent, SplitReader};
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde_json::Value;
use tokio::time::Instant;

use super::client::{self, Held};
use super::drain::{Consumer, Drained, Taken};
use super::events::Events;
use super::failure;
use super::position::{Lost, Partition, Position, after_loss, describe};
use crate::formats::{Decoded, RecordDecoder};
use crate::retry;

/// First and longest pause before a new client is tried, where this one cannot help itself.
const RENEWALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// What a reader is told.
pub(crate) struct Reading {
    pub(crate) partition: Partition,
    /// Whether offsets are committed for others to see.
    pub(crate) group: bool,
    pub(crate) on_position_lost: OnPositionLost,
    /// What to do where that stops, for people.
    pub(crate) if_lost: &'static str,
    /// The configuration with the secrets as they are now.
    pub(crate) config: Box<dyn Fn() -> Result<ClientConfig, ConnectorError> + Send + Sync>,
    pub(crate) health: Health,
}

/// A reader of one partition.
pub(crate) struct PartitionReader {
    reading: Reading,
    decoder: Box<dyn RecordDecoder>,
    consumer: Held<Consumer>,
    /// What the client was made with.
    config: ClientConfig,
    position: Position,
    origin: Option<Origin>,
    /// Came out of the client's queue behind the last batch; handled before anything else is taken out.
    behind: Option<KafkaError>,
    /// How the position got lost; settled before anything else is read.
    lost: Option<Lost>,
    /// A loss is shown in the status until an epoch after it is durable.
    loss_shown: bool,
    /// When to try a new client.
    renew_at: Option<Instant>,
    renewals: Backoff,
    /// Everything there is has been read.
    caught_up: bool,
    /// Of the last record, milliseconds since 1970.
    timestamp: Option<i64>,
    draining: bool,
}

impl PartitionReader {
    /// Starts to fetch at `position`. Waits for nothing.
    pub(crate) fn open(reading: Reading, position: Position, decoder: Box<dyn RecordDecoder>) -> Result<Self, ConnectorError> {
        let (consumer, config) = connect(&reading, &position)?;
        Ok(Self {
            reading,
            decoder,
            consumer: Held::new(consumer),
            config,
            position,
            origin: None,
            behind: None,
            lost: None,
            loss_shown: false,
            renew_at: None,
            renewals: Backoff::new(RENEWALS.0, RENEWALS.1),
            caught_up: false,
            timestamp: None,
            draining: false,
        })
    }

    /// Where to go on after everything that was returned.
    pub(crate) fn place(&self) -> &Position {
        &self.position
    }

    fn consumer(&self) -> Result<&Consumer, ConnectorError> {
        self.consumer.get().ok_or_else(closed)
    }

    /// A new client at the position, with the secrets as they are now. If it cannot be made, it is tried again later.
    fn renew(&mut self) -> Result<(), ConnectorError> {
        self.renew_at = None;
        self.behind = None;
        self.caught_up = false;
        match connect(&self.reading, &self.position) {
            Ok((consumer, config)) => {
                self.consumer = Held::new(consumer);
                self.config = config;
            }
            Err(error) if error.is_transient() => {
                self.reading.health.trouble(error.reason, error.message);
                self.renew_later();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn renew_later(&mut self) {
        self.renew_at = Some(Instant::now() + self.renewals.delay(rand::random()));
    }

    /// Decides what a lost position means, and goes on where the policy says.
    async fn settle(&mut self, lost: Lost) -> Result<(), ConnectorError> {
        let Partition { topic, number } = self.reading.partition.clone();
        let (low, high) = retry::until_done(&self.reading.health, || {
            let (topic, doing) = (topic.clone(), format!("looking for what is left of {topic}/{number}"));
            let config = (self.reading.config)();
            async move { client::ask(config?, doing, move |client| client::ends(client, &topic, number)).await }
        })
        .await?;
        let message = describe(&self.reading.partition, &self.position, &lost, low, high);
        let Some(next) = after_loss(self.reading.on_position_lost, low, high) else {
            let message = format!("{message}; {}", self.reading.if_lost);
            return Err(ConnectorError::new(ErrorReason::DataLost, message));
        };
        let message = format!("{message}; going on at offset {next}");
        tracing::error!(partition = %self.reading.partition, next, "{message}");
        let topic_id = match lost {
            Lost::Recreated { id } => Some(id),
            Lost::OutOfRange(_) => self.position.topic_id.clone(),
        };
        self.position = Position { topic_id, offset: Some(next) };
        self.origin = None;
        self.renew()?;
        self.reading.health.trouble(ErrorReason::DataLost, message);
        self.loss_shown = true;
        Ok(())
    }

    /// What an error in the place of a record means.
    fn failed(&mut self, error: KafkaError) -> Result<(), ConnectorError> {
        let code = error.rdkafka_error_code();
        if failure::is_about_group(&error) {
            return Ok(());
        }
        if let Some(code @ (Code::AutoOffsetReset | Code::LogTruncation | Code::OffsetOutOfRange)) = code {
            self.lost = Some(Lost::OutOfRange(code.to_string()));
            return Ok(());
        }
        let error = failure::error(&format!("reading partition {}", self.reading.partition), error);
        if !error.is_transient() {
            return Err(error);
        }
        // Connections the client makes again by itself, with the secrets that it was made with.
        // What it was told it may not or cannot read, it never asks again.
        let is_final = matches!(error.reason, ErrorReason::AccessDenied | ErrorReason::NotFound);
        if self.renew_at.is_none() && (is_final || self.has_other_secrets()) {
            self.renew_later();
        }
        Ok(())
    }

    /// Whether the Secrets hold something else now than when the client was made.
    fn has_other_secrets(&self) -> bool {
        (self.reading.config)().is_ok_and(|now| client::has_other_secrets(&now, &self.config))
    }

    /// The topic's id as the client knows it, against the position's. Learns it if the position has none.
    fn check_topic(&mut self, known: Option<String>) -> bool {
        match (&self.position.topic_id, known) {
            (Some(ours), Some(theirs)) if *ours != theirs => {
                self.lost = Some(Lost::Recreated { id: theirs });
                return false;
            }
            (None, Some(theirs)) => self.position.topic_id = Some(theirs),
            _ => {}
        }
        true
    }

    fn origin(&mut self) -> Origin {
        let Partition { topic, number } = &self.reading.partition;
        let topic_id = self.position.topic_id.as_deref().unwrap_or(topic);
        self.origin.get_or_insert_with(|| Origin::new(&format!("{topic_id}/{number}"), format!("{topic}/{number}"))).clone()
    }

    fn succeeded(&mut self) {
        self.renew_at = None;
        self.renewals = Backoff::new(RENEWALS.0, RENEWALS.1);
        if let Some(consumer) = self.consumer.get() {
            consumer.context().succeeded();
        }
        if !self.loss_shown && self.reading.health.current().is_some() {
            self.reading.health.clear();
        }
    }

    /// The end of the partition was reached: records that are no data (ends of transactions) are passed too.
    fn reached_end(&mut self) -> bool {
        if let Some(offset) = self.consumer.get().and_then(|consumer| passed(consumer, &self.reading.partition))
            && self.position.offset.is_none_or(|ours| ours < offset)
        {
            self.position.offset = Some(offset);
        }
        !std::mem::replace(&mut self.caught_up, true)
    }
}

#[async_trait]
impl SplitReader for PartitionReader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        loop {
            if self.draining {
                return Ok(SourceEvent::End);
            }
            self.check_topic(self.consumer()?.context().topic_id());
            if let Some(lost) = self.lost.clone() {
                self.settle(lost).await?;
                self.lost = None;
            }
            if self.renew_at.is_some_and(|at| at <= Instant::now()) {
                tracing::debug!(partition = %self.reading.partition, "a new client is tried");
                self.renew()?;
            }
            // Nothing below the one wait may wait: what was taken out of the client's queue must not be dropped with this call.
            let taken = if let Some(error) = self.behind.take() {
                Err(error)
            } else {
                let consumer = self.consumer.get().ok_or_else(closed)?;
                let first = match self.renew_at {
                    None => consumer.recv().await,
                    Some(at) => match tokio::time::timeout_at(at, consumer.recv()).await {
                        Ok(first) => first,
                        Err(_elapsed) => continue,
                    },
                };
                first.map(|first| Drained::take(consumer, first).decode(self.decoder.as_mut()))
            };
            match taken {
                Ok(taken) => {
                    if let Some(records) = self.deliver(taken) {
                        return Ok(SourceEvent::Records(records));
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => {
                    self.succeeded();
                    let known = self.consumer()?.context().topic_id();
                    // An empty delivery, so that whoever reads looks at the lag again.
                    if self.check_topic(known) && self.reached_end() {
                        return Ok(SourceEvent::Records(Records::default()));
                    }
                }
                Err(error) => self.failed(error)?,
            }
        }
    }

    fn position(&self) -> Value {
        self.position.write()
    }

    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError> {
        if self.loss_shown {
            self.loss_shown = false;
            self.reading.health.clear();
        }
        let Some(offset) = Position::read(position)?.offset.filter(|_| self.reading.group) else { return Ok(()) };
        let Partition { topic, number } = &self.reading.partition;
        let mut list = TopicPartitionList::new();
        let committed: KafkaResult<()> = list
            .add_partition_offset(topic, *number, Offset::Offset(offset))
            .and_then(|()| self.consumer.get().map_or(Ok(()), |consumer| consumer.commit(&list, CommitMode::Async)));
        if let Err(error) = committed {
            tracing::warn!(%error, partition = %self.reading.partition, "the offset for other tools to see was not committed");
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn lag(&self) -> Lag {
        if self.caught_up {
            return Lag { records: Some(0), seconds: Some(0), idle: true };
        }
        let ends = self.consumer.get().map(|consumer| consumer.context().ends()).unwrap_or_default();
        let end = if ends.stable >= 0 { ends.stable } else { ends.high };
        let records = self.position.offset.filter(|_| end >= 0).map(|next| u64::try_from(end - next).unwrap_or(0));
        let seconds = match records {
            Some(0) => Some(0),
            Some(_) => self.timestamp.map(|millis| u64::try_from(now_millis() - millis).unwrap_or(0) / 1000),
            None => None,
        };
        Lag { records, seconds, idle: false }
    }

    async fn close(&mut self) {
        self.consumer.release().await;
    }
}

impl PartitionReader {
    /// Turns what was taken out of the queue into records; moves the position. `None` if it is of another topic than the position.
    fn deliver(&mut self, taken: Taken) -> Option<Records> {
        self.succeeded();
        self.behind = taken.behind;
        if !self.check_topic(taken.topic_id) {
            return None;
        }
        self.caught_up = false;
        self.position.offset = Some(taken.last_offset + 1);
        self.timestamp = taken.timestamp.or(self.timestamp);
        let origin = self.origin();
        let Decoded { records, ordinals, rejected, bytes } = taken.decoded;
        let offset_of = |index: u64| taken.offsets.get(index as usize).copied().unwrap_or_default();
        let rejected = rejected
            .into_iter()
            .map(|record| Rejected {
                origin: origin.clone(),
                ordinal: offset_of(record.ordinal),
                stage: RejectStage::Decode,
                code: record.code,
                error: record.error,
                payload: record.payload,
                payload_bytes: record.payload_bytes,
                attempts: 1,
            })
            .collect();
        let batch = (records.num_rows() > 0).then(|| {
            let ordinals = UInt64Array::from_iter_values(ordinals.values().iter().map(|index| offset_of(*index)));
            Batch::new(records, origin, ordinals)
        });
        Some(Records { batch, rejected, bytes })
    }
}

/// A client that reads on from `position`, by itself, in the background.
fn connect(reading: &Reading, position: &Position) -> Result<(Consumer, ClientConfig), ConnectorError> {
    let Partition { topic, number } = &reading.partition;
    let doing = format!("starting to read partition {}", reading.partition);
    let events = Events::reading(reading.partition.clone(), reading.group, reading.health.clone());
    let config = (reading.config)()?;
    let consumer: Consumer = config.create_with_context(events).map_err(|error| failure::error(&doing, error))?;
    let offset = position.offset.map_or(Offset::Beginning, Offset::Offset);
    let mut list = TopicPartitionList::new();
    let assigned = list.add_partition_offset(topic, *number, offset).and_then(|()| consumer.assign(&list));
    assigned.map_err(|error| failure::error(&doing, error))?;
    Ok((consumer, config))
}

/// The offset up to which everything was passed, records that are no data included.
fn passed(consumer: &Consumer, partition: &Partition) -> Option<i64> {
    let positions = consumer.position().ok()?;
    match positions.find_partition(&partition.topic, partition.number)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

fn closed() -> ConnectorError {
    ConnectorError::new(ErrorReason::Internal, "the reader was used after it was closed")
}

#[expect(clippy::disallowed_methods, reason = "the age of the last record, for the status; nothing is decided by it")]
fn now_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default()
}
