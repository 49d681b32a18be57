//! Writes the rows of one output to a topic and keeps count of what is on its way. It never gives up on a record by itself.

use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, RejectCode, RejectStage, Rejected, coordinate};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::{Prepared, SinkWriter};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;

use super::changes::{self, Change};
use super::client::Held;
use super::deliveries::{Refused, Sent};
use super::flight::{Flight, OVERHEAD, Outbound, closed};
use super::producing::BATCH_BYTES;
use super::transaction::Client;
use crate::formats::PAYLOAD_CAP;
use crate::formats::rows::RowEncoder;
use crate::keys::KeyColumns;

/// Characters of a key that an error shows at most.
const KEY_SHOWN: usize = 200;

/// What a writer is told.
pub(super) struct Writing {
    pub(super) topic: String,
    pub(super) keys: Option<KeyColumns>,
    /// Whether rows are revised: then there is a key, and what is gone is a tombstone.
    pub(super) is_updating: bool,
    pub(super) health: Health,
}

/// Writes one output of one task.
pub(super) struct TopicWriter {
    writing: Writing,
    encoder: RowEncoder,
    flight: Flight,
    /// For records that were refused together with others: each in a request of its own. Made when first needed.
    alone: Option<Held<Client>>,
    rejected: Vec<Rejected>,
}

impl TopicWriter {
    pub(super) fn open(writing: Writing, encoder: RowEncoder, flight: Flight) -> Self {
        Self { writing, encoder, flight, alone: None, rejected: Vec::new() }
    }

    /// Hands one record to the client, once there is room.
    async fn send(
        &self,
        producer: &Client,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        sent: Sent,
    ) -> Result<Option<Refused>, ConnectorError> {
        let coordinate = coordinate(&sent.origin, sent.branch, sent.ordinal);
        let record = Outbound { topic: &self.writing.topic, partition: None, key, value, coordinate: Some(&coordinate) };
        self.flight.send(producer, record, sent).await
    }

    /// Waits for everything on its way. What was refused together with others is tried alone, in order; what is refused alone is rejected.
    async fn finish(&mut self) -> Result<(), ConnectorError> {
        self.flight.settle(self.flight.producer()?, 0).await?;
        let refused = self.flight.producer()?.client().context().take_refused();
        if let (Some(first), Some(_)) = (refused.first(), &self.flight.transaction) {
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
                self.alone = Some(Held::new(self.flight.producing.lone_producer(&self.writing.health)?));
            }
            let alone = self.alone.as_ref().and_then(Held::get).ok_or_else(closed)?;
            let at_once = self.send(alone, record.key.as_deref(), record.value.as_deref(), record.sent).await?;
            self.flight.settle(alone, 0).await?;
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
}

#[async_trait]
impl SinkWriter for TopicWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        if let Some(transaction) = &self.flight.transaction {
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
            match self.send(self.flight.producer()?, key, value, sent).await? {
                // The client itself would not take it, so the transaction does not know of it.
                Some(refused) if self.flight.transaction.is_some() => self.reject(refused, 1),
                Some(refused) => self.flight.producer()?.client().context().refuse(refused),
                None => {}
            }
        }
        // Refused records hold memory and, tried again late, change places with later ones.
        if self.flight.producer()?.client().context().has_refused() {
            self.finish().await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        self.finish().await?;
        let committables = self.flight.prepare(epoch).await?;
        Ok(Prepared { committables, rejected: std::mem::take(&mut self.rejected) })
    }

    async fn close(&mut self) {
        self.flight.close().await;
        if let Some(alone) = &mut self.alone {
            alone.release().await;
        }
    }
}

/// The beginning of a key, for people.
fn shortened(key: &[u8]) -> String {
    String::from_utf8_lossy(key).chars().take(KEY_SHOWN).collect()
}
