//! Writes the rows of one output to a topic and keeps count of what is on its way. It never gives up on a record by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, Origin, RejectCode, RejectStage, Rejected, coordinate};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::{Prepared, SinkWriter, WriterIdentity};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::changes::{self, Change};
use super::client::Held;
use super::deliveries::{Refused, Sent, Settled};
use super::failure;
use super::ledger::{self, Entry, Place};
use super::sink::{BATCH_BYTES, KafkaSink};
use super::transaction::{self, Client, Committable, Transaction};
use crate::formats::PAYLOAD_CAP;
use crate::formats::rows::RowEncoder;
use crate::keys::KeyColumns;

/// Header that holds a record's coordinate: the same in every replay.
const COORDINATE_HEADER: &str = "millrace-coordinate";
/// What a record costs besides its key and value, roughly: its header, and the client's own memory.
const OVERHEAD: usize = 160;
/// No acknowledgement for so long, with records on their way, is trouble even if the client has not noticed.
const STALL: Duration = Duration::from_secs(10);
/// Characters of a key that an error shows at most.
const KEY_SHOWN: usize = 200;
/// Time between two looks while waiting.
const LOOK: Duration = Duration::from_secs(2);

/// What a writer is told.
pub(super) struct Writing {
    pub(super) topic: String,
    pub(super) keys: Option<KeyColumns>,
    /// Whether rows are revised: then there is a key, and what is gone is a tombstone.
    pub(super) is_updating: bool,
    pub(super) in_flight_bytes: usize,
    /// What the client was made with.
    pub(super) config: ClientConfig,
    /// Makes the client that sends records one by one.
    pub(super) sink: KafkaSink,
    pub(super) health: Health,
    pub(super) writer: WriterIdentity,
    /// Where an epoch is one transaction.
    pub(super) transaction: Option<Arc<Transaction>>,
}

/// Writes one output of one task.
pub(super) struct TopicWriter {
    writing: Writing,
    encoder: RowEncoder,
    producer: Held<Client>,
    /// For records that were refused together with others: each in a request of its own. Made when first needed.
    alone: Option<Held<Client>>,
    rejected: Vec<Rejected>,
}

impl TopicWriter {
    pub(super) fn open(writing: Writing, encoder: RowEncoder, producer: Client) -> Self {
        Self { writing, encoder, producer: Held::new(producer), alone: None, rejected: Vec::new() }
    }

    /// Waits until at most `most` bytes are on their way, and says when that takes long.
    async fn settle(&self, producer: &Client, most: usize) -> Result<(), ConnectorError> {
        let deliveries = producer.client().context();
        let mut silent = Duration::ZERO;
        loop {
            match deliveries.settle(most, LOOK).await {
                Settled::Done => break,
                Settled::Progress => silent = Duration::ZERO,
                Settled::Nothing => silent += LOOK,
            }
            if silent >= STALL {
                let (bytes, seconds) = (deliveries.bytes(), silent.as_secs());
                deliveries.stalled(&format!("the brokers have acknowledged nothing for {seconds} s, with {bytes} bytes on their way"));
            }
            // Any trouble will do: a client that is refused says so only now and then, and what it said last may be a lost connection.
            if let Some(reason) = deliveries.trouble()
                && self.writing.sink.has_other_secrets(&self.writing.config)
            {
                let message = format!("nothing is written to topic {} and its Secret has changed since: starting anew", self.writing.topic);
                return Err(ConnectorError::new(reason, message));
            }
        }
        match deliveries.take_failure() {
            Some(error) => Err(self.failed(error)),
            None => Ok(()),
        }
    }

    fn failed(&self, error: KafkaError) -> ConnectorError {
        failure::error(&format!("writing to topic {}", self.writing.topic), error)
    }

    /// Hands one record to the client, once there is room.
    async fn send(
        &self,
        producer: &Client,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        sent: Sent,
    ) -> Result<Option<Refused>, ConnectorError> {
        let deliveries = producer.client().context();
        let (bytes, most) = (sent.bytes, self.writing.in_flight_bytes);
        let coordinate = coordinate(&sent.origin, sent.branch, sent.ordinal);
        let mut waiting = Box::new(sent);
        loop {
            if deliveries.bytes() + bytes > most {
                // Down to half: waking for every acknowledgement would cost more than it gives.
                self.settle(producer, (most / 2).min(most.saturating_sub(bytes))).await?;
            }
            let header = Header { key: COORDINATE_HEADER, value: Some(coordinate.as_bytes()) };
            let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.writing.topic, waiting)
                .headers(OwnedHeaders::new_with_capacity(1).insert(header));
            if let Some(value) = value {
                record = record.payload(value);
            }
            if let Some(key) = key {
                record = record.key(key);
            }
            deliveries.started(bytes);
            let Err((error, record)) = producer.send(record) else { return Ok(None) };
            deliveries.ended(bytes);
            waiting = record.delivery_opaque;
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) => self.settle(producer, deliveries.bytes().saturating_sub(1)).await?,
                Some(code) if failure::is_refusal(code) => {
                    return Ok(Some(Refused { sent: *waiting, key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), code }));
                }
                _ => return Err(self.failed(error)),
            }
        }
    }

    /// Waits for everything on its way. What was refused together with others is tried alone, in order; what is refused alone is rejected.
    async fn finish(&mut self) -> Result<(), ConnectorError> {
        self.settle(self.producer()?, 0).await?;
        let refused = self.producer()?.client().context().take_refused();
        if let (Some(first), Some(_)) = (refused.first(), &self.writing.transaction) {
            // The transaction has failed with it, and so will the next one.
            let message = format!(
                "topic {} refuses a record of {} bytes ({}), and with it the transaction of its epoch: leave such records out, let the topic \
                 take them, or set transactional: Off so that they become dead letters",
                self.writing.topic,
                first.value.as_ref().map_or(0, Vec::len),
                first.code
            );
            return Err(ConnectorError::new(ErrorReason::PoisonRecord, message));
        }
        for record in refused {
            if record.code == Code::MessageSizeTooLarge && record.value.as_ref().map_or(0, Vec::len) >= BATCH_BYTES {
                self.reject(record, 1);
                continue;
            }
            if self.alone.is_none() {
                self.alone = Some(Held::new(self.writing.sink.lone_producer(&self.writing.health)?));
            }
            let alone = self.alone.as_ref().and_then(Held::get).ok_or_else(closed)?;
            let at_once = self.send(alone, record.key.as_deref(), record.value.as_deref(), record.sent).await?;
            self.settle(alone, 0).await?;
            let late = alone.client().context().take_refused();
            for record in at_once.into_iter().chain(late) {
                self.reject(record, 2);
            }
        }
        Ok(())
    }

    fn reject(&mut self, refused: Refused, attempts: u32) {
        let Refused { sent, key, value, code } = refused;
        let what = match (&value, key) {
            (Some(value), _) => format!("a record of {} bytes", value.len()),
            (None, key) => format!("that the row of key \"{}\" is gone (a tombstone)", shortened(&key.unwrap_or_default())),
        };
        let mut value = value.unwrap_or_default();
        let payload_bytes = value.len() as u64;
        value.truncate(PAYLOAD_CAP);
        self.rejected.push(Rejected {
            origin: sent.origin,
            ordinal: sent.ordinal,
            stage: RejectStage::Sink,
            code: if code == Code::MessageSizeTooLarge { RejectCode::TooLarge } else { RejectCode::RefusedBySink },
            error: format!("topic {} refuses {what}: {code}", self.writing.topic),
            payload: Bytes::from(value),
            payload_bytes,
            attempts,
        });
    }

    /// Ends the epoch's transaction with its entry in the ledger. Everything in it is acknowledged then, and nothing is visible.
    async fn enter(&self, transaction: &Transaction, epoch: u64) -> Result<Committable, ConnectorError> {
        let producer = self.producer()?;
        let deliveries = producer.client().context();
        let (id, value) = (transaction::id(&self.writing.writer), Entry::of(&self.writing.writer, epoch).write()?);
        let origin = Origin::new(ledger::TOPIC, ledger::TOPIC);
        let bytes = id.len() + value.len() + OVERHEAD;
        let sent = Box::new(Sent { origin, branch: 0, ordinal: epoch, bytes });
        deliveries.take_entry();
        deliveries.started(bytes);
        let record = BaseRecord::with_opaque_to(ledger::TOPIC, sent).key(&id).payload(&value);
        if let Err((error, _)) = producer.send(record) {
            deliveries.ended(bytes);
            return Err(failure::error(&format!("writing to the ledger {}", ledger::TOPIC), error));
        }
        self.settle(producer, 0).await?;
        // Without an offset it was acknowledged as a duplicate, and its place is not known.
        let place: Option<Place> = deliveries.take_entry().filter(|place| place.offset >= 0);
        let place = place.ok_or_else(|| {
            ConnectorError::new(ErrorReason::ServerError, format!("the ledger {} did not say where the entry lies", ledger::TOPIC))
        })?;
        transaction.prepared(epoch);
        Ok(Committable { transactional_id: id, place })
    }

    fn producer(&self) -> Result<&Client, ConnectorError> {
        self.producer.get().ok_or_else(closed)
    }
}

#[async_trait]
impl SinkWriter for TopicWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        if let Some(transaction) = &self.writing.transaction {
            transaction.begin().await?;
        }
        let (mut values, mut ends) = (Vec::new(), Vec::new());
        let unreadable =
            |error: &dyn std::fmt::Display| ConnectorError::new(ErrorReason::Internal, format!("rows cannot be written: {error}"));
        self.encoder.encode(&batch.records, &mut values, &mut ends).map_err(|error| unreadable(&error))?;
        let keys = self.writing.keys.as_ref().map(|keys| keys.render(&batch.records)).transpose();
        let keys = keys.map_err(|error| unreadable(&error))?.unwrap_or_default();
        let mut start = 0;
        for (row, end) in ends.into_iter().enumerate() {
            let value = &values[start..end];
            start = end;
            let value = match self.writing.is_updating.then(|| changes::of(&batch, &keys, row)) {
                None | Some(Change::There) => Some(value),
                Some(Change::Gone) => None,
                Some(Change::Replaced) => continue,
            };
            let key = keys.get(row).and_then(|key| key.as_deref()).map(str::as_bytes);
            let bytes = value.map_or(0, <[u8]>::len) + key.map_or(0, <[u8]>::len) + OVERHEAD;
            let sent = Sent { origin: batch.origin.clone(), branch: batch.branch, ordinal: batch.ordinals.value(row), bytes };
            match self.send(self.producer()?, key, value, sent).await? {
                // The client itself would not take it, so the transaction does not know of it.
                Some(refused) if self.writing.transaction.is_some() => self.reject(refused, 1),
                Some(refused) => self.producer()?.client().context().refuse(refused),
                None => {}
            }
        }
        // Refused records hold memory and, tried again late, change places with later ones.
        if self.producer()?.client().context().has_refused() {
            self.finish().await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        self.finish().await?;
        let mut committables = Vec::new();
        if let Some(transaction) = self.writing.transaction.as_ref().filter(|transaction| transaction.is_open()) {
            let committable = self.enter(transaction, epoch).await?;
            let written = serde_json::to_value(committable);
            committables.push(
                written.map_err(|error| {
                    ConnectorError::new(ErrorReason::Internal, "a committable cannot be written as JSON").caused_by(error)
                })?,
            );
        }
        Ok(Prepared { committables, rejected: std::mem::take(&mut self.rejected) })
    }

    async fn close(&mut self) {
        if let Some(transaction) = &self.writing.transaction {
            transaction.close().await;
        }
        self.producer.release().await;
        if let Some(alone) = &mut self.alone {
            alone.release().await;
        }
    }
}

/// The beginning of a key, for people.
fn shortened(key: &[u8]) -> String {
    String::from_utf8_lossy(key).chars().take(KEY_SHOWN).collect()
}

fn closed() -> ConnectorError {
    ConnectorError::new(ErrorReason::Internal, "the writer was used after it was closed")
}
