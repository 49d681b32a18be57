//! Records on their way to the brokers, bounded by bytes, and the end of their transaction. It never gives up on a record by itself.

use std::sync::Arc;
use std::time::Duration;

use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Origin;
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::WriterIdentity;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::client::Held;
use super::deliveries::{Refused, Sent, Settled};
use super::failure;
use super::ledger::{self, Entry, Place};
use super::producing::Producing;
use super::transaction::{self, Client, Committable, Transaction};

/// Header that holds a record's coordinate: the same in every replay.
const COORDINATE_HEADER: &str = "millrace-coordinate";
/// What a record costs besides its key and value, roughly: its header, and the client's own memory.
pub(crate) const OVERHEAD: usize = 160;
/// No acknowledgement for so long, with records on their way, is trouble even if the client has not noticed.
const STALL: Duration = Duration::from_secs(10);
/// Time between two looks while waiting.
const LOOK: Duration = Duration::from_secs(2);

/// A record to be sent.
#[derive(Clone, Copy)]
pub(crate) struct Outbound<'a> {
    pub(crate) topic: &'a str,
    /// `None`: the client chooses, by the key.
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// Told to readers in a header.
    pub(crate) coordinate: Option<&'a str>,
}

/// The producer of one writer, and what is on its way.
pub(crate) struct Flight {
    pub(crate) producing: Producing,
    /// What the client was made with.
    pub(crate) config: ClientConfig,
    pub(crate) producer: Held<Client>,
    /// Where an epoch is one transaction.
    pub(crate) transaction: Option<Arc<Transaction>>,
    pub(crate) writer: WriterIdentity,
}

impl Flight {
    pub(crate) fn producer(&self) -> Result<&Client, ConnectorError> {
        self.producer.get().ok_or_else(closed)
    }

    /// Waits until at most `most` bytes are on their way, and says when that takes long.
    pub(crate) async fn settle(&self, producer: &Client, most: usize) -> Result<(), ConnectorError> {
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
                && self.producing.has_other_secrets(&self.config)
            {
                let message = format!("nothing is written to {} and its Secret has changed since: starting anew", self.producing.target);
                return Err(ConnectorError::new(reason, message));
            }
        }
        match deliveries.take_failure() {
            Some(error) => Err(self.failed(error)),
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&self, error: KafkaError) -> ConnectorError {
        failure::error(&format!("writing to {}", self.producing.target), error)
    }

    /// Hands one record to the client, once there is room.
    pub(crate) async fn send(&self, producer: &Client, record: Outbound<'_>, sent: Sent) -> Result<Option<Refused>, ConnectorError> {
        let deliveries = producer.client().context();
        let (bytes, most) = (sent.bytes, self.producing.in_flight_bytes());
        let mut waiting = Box::new(sent);
        loop {
            if deliveries.bytes() + bytes > most {
                // Down to half: waking for every acknowledgement would cost more than it gives.
                self.settle(producer, (most / 2).min(most.saturating_sub(bytes))).await?;
            }
            let mut outgoing = BaseRecord::<[u8], [u8], _>::with_opaque_to(record.topic, waiting);
            if let Some(value) = record.value {
                outgoing = outgoing.payload(value);
            }
            if let Some(coordinate) = record.coordinate {
                let header = Header { key: COORDINATE_HEADER, value: Some(coordinate.as_bytes()) };
                outgoing = outgoing.headers(OwnedHeaders::new_with_capacity(1).insert(header));
            }
            if let Some(partition) = record.partition {
                outgoing = outgoing.partition(partition);
            }
            if let Some(key) = record.key {
                outgoing = outgoing.key(key);
            }
            deliveries.started(bytes);
            let Err((error, back)) = producer.send(outgoing) else { return Ok(None) };
            deliveries.ended(bytes);
            waiting = back.delivery_opaque;
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) => self.settle(producer, deliveries.bytes().saturating_sub(1)).await?,
                Some(code) if failure::is_refusal(code) => {
                    let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
                    return Ok(Some(Refused { sent: *waiting, key, value, code }));
                }
                _ => return Err(self.failed(error)),
            }
        }
    }

    /// Ends the epoch's transaction with its entry in the ledger. Everything in it is acknowledged then, and nothing is visible. What is to be kept in the
    /// epoch record; nothing if there is no open transaction.
    pub(crate) async fn prepare(&self, epoch: u64) -> Result<Vec<serde_json::Value>, ConnectorError> {
        let Some(transaction) = self.transaction.as_ref().filter(|transaction| transaction.is_open()) else { return Ok(Vec::new()) };
        let committable = serde_json::to_value(self.enter(transaction, epoch).await?);
        let unwritable = |error| ConnectorError::new(ErrorReason::Internal, "a committable cannot be written as JSON").caused_by(error);
        Ok(vec![committable.map_err(unwritable)?])
    }

    async fn enter(&self, transaction: &Transaction, epoch: u64) -> Result<Committable, ConnectorError> {
        let producer = self.producer()?;
        let deliveries = producer.client().context();
        let (id, value) = (transaction::id(&self.writer), Entry::of(&self.writer, epoch).write()?);
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

    /// Aborts what is not prepared and ends the client.
    pub(crate) async fn close(&mut self) {
        if let Some(transaction) = &self.transaction {
            transaction.close().await;
        }
        self.producer.release().await;
    }
}

/// A writer was used after it was closed.
pub(crate) fn closed() -> ConnectorError {
    ConnectorError::new(ErrorReason::Internal, "the writer was used after it was closed")
}
