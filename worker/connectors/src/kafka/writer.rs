//! Writes the rows of one output to a topic, straight into the batches that are sent. It never gives up on a record by itself.

use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, Coordinates, RejectCode, RejectStage, Rejected};
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::{Prepared, SinkWriter};

use super::changes::{self, Change};
use super::flight::{COORDINATE_HEADER, Flight, now_millis};
use super::produce::{Refused, Target};
use super::records::NewRecord;
use super::wire::error::Error;
use crate::formats::PAYLOAD_CAP;
use crate::formats::record_values::{Room, ValueEncoder};
use crate::keys::KeyColumns;

/// Characters of a key that an error shows at most.
const KEY_SHOWN: usize = 200;
/// The largest record that is sent at all; what the brokers take, they say.
const RECORD_BYTES: usize = 64 << 20;
/// The topic among those of the producer.
const TOPIC: usize = 0;

/// What a writer is told.
pub(super) struct Writing {
    pub(super) topic: String,
    pub(super) keys: Option<KeyColumns>,
    /// Whether rows are revised: then there is a key, and what is gone is a tombstone.
    pub(super) is_updating: bool,
}

/// Writes one output of one task.
pub(super) struct TopicWriter {
    writing: Writing,
    encoder: ValueEncoder,
    flight: Flight,
    /// For the values of a batch.
    room: Room,
    rejected: Vec<Rejected>,
}

impl TopicWriter {
    pub(super) fn open(writing: Writing, encoder: ValueEncoder, flight: Flight) -> Self {
        Self { writing, encoder, flight, room: Room::default(), rejected: Vec::new() }
    }

    /// Takes back what the brokers have refused, whatever was retried.
    fn collect_refused(&mut self) {
        for refused in self.flight.producer.take_refused() {
            self.reject(refused);
        }
    }

    fn reject(&mut self, refused: Refused) {
        let Refused { origin, ordinal, key, value, code, attempts } = refused;
        let what = match (&value, key) {
            (Some(value), _) => format!("a record of {} bytes", value.len()),
            (None, key) => format!("that the row of key \"{}\" is gone (a tombstone)", shortened(&key.unwrap_or_default())),
        };
        let mut value = value.unwrap_or_default();
        let payload_bytes = value.len() as u64;
        value.truncate(PAYLOAD_CAP);
        let said = Error::Refused { code, detail: String::new() };
        self.rejected.push(Rejected {
            origin,
            ordinal,
            stage: RejectStage::Sink,
            code: if code == Code::MessageTooLarge { RejectCode::TooLarge } else { RejectCode::RefusedBySink },
            error: format!("topic {} refuses {what}: {said}", self.writing.topic),
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
        self.flight.producer.partitions(TOPIC).await?;
        let unreadable =
            |error: &dyn std::fmt::Display| ConnectorError::new(ErrorReason::Internal, format!("rows cannot be written: {error}"));
        let values = self.encoder.encode(&batch.records, &mut self.room).map_err(|error| unreadable(&error))?;
        let keys = self.writing.keys.as_ref().map(|keys| keys.render(&batch.records)).transpose();
        let keys = keys.map_err(|error| unreadable(&error))?.unwrap_or_default();
        let mut coordinates = Coordinates::new(&batch.origin, batch.branch);
        let timestamp = now_millis();
        let mut too_large = Vec::new();
        let mut appender = self.flight.producer.append(TOPIC, &batch.origin);
        for row in 0..batch.num_rows() {
            let is_same_key = |one: usize, other: usize| keys.get(one) == keys.get(other);
            let value = match self.writing.is_updating.then(|| changes::of(&batch, row, is_same_key)) {
                None | Some(Change::There) => values.get(row),
                Some(Change::Gone) => None,
                Some(Change::Replaced) => continue,
            };
            let (key, ordinal) = (keys.get(row).map(str::as_bytes), batch.ordinals.value(row));
            if value.map_or(0, <[u8]>::len) + key.map_or(0, <[u8]>::len) > RECORD_BYTES {
                let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
                too_large.push(Refused { origin: batch.origin.clone(), ordinal, key, value, code: Code::MessageTooLarge, attempts: 1 });
                continue;
            }
            let header = Some((COORDINATE_HEADER, coordinates.of(ordinal)));
            appender.append(Target::ByKey, &NewRecord { timestamp, key, value, header }, ordinal);
            if appender.is_over() {
                drop(appender);
                self.flight.producer.room().await?;
                appender = self.flight.producer.append(TOPIC, &batch.origin);
            }
        }
        drop(appender);
        for refused in too_large {
            self.reject(refused);
        }
        self.flight.producer.room().await?;
        self.collect_refused();
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        self.flight.producer.settle(0).await?;
        self.collect_refused();
        let committables = self.flight.prepare(epoch).await?;
        Ok(Prepared { committables, rejected: std::mem::take(&mut self.rejected) })
    }

    async fn close(&mut self) {
        self.flight.close().await;
    }
}

/// The beginning of a key, for people.
fn shortened(key: &[u8]) -> String {
    String::from_utf8_lossy(key).chars().take(KEY_SHOWN).collect()
}
