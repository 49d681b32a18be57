//! The producer of one writer, and the end of its transaction. It never gives up on a record by itself.

use std::sync::Arc;
use std::time::SystemTime;

use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Origin;
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::WriterIdentity;

use super::ledger::{self, Entry, Place};
use super::produce::{Producer, Target, partition};
use super::producing::Producing;
use super::records::NewRecord;
use super::transaction::{self, Committable, Transaction};

/// Header that holds a record's coordinate: the same in every replay.
pub(crate) const COORDINATE_HEADER: &[u8] = b"millrace-coordinate";

/// The producer of one writer.
pub(crate) struct Flight {
    pub(crate) producing: Producing,
    pub(crate) producer: Arc<Producer>,
    /// Where an epoch is one transaction.
    pub(crate) transaction: Option<Arc<Transaction>>,
    pub(crate) writer: WriterIdentity,
    /// Number of the ledger among the topics of the producer: the last.
    pub(crate) ledger: usize,
}

impl Flight {
    /// Ends the epoch's transaction with its entry in the ledger. Everything in it is acknowledged then, and nothing is visible. What is to be kept in the
    /// epoch record; nothing if there is no open transaction.
    pub(crate) async fn prepare(&self, epoch: u64) -> Result<Vec<serde_json::Value>, ConnectorError> {
        let Some(transaction) = self.transaction.as_ref().filter(|transaction| transaction.is_open()) else { return Ok(Vec::new()) };
        let committable = serde_json::to_value(self.enter(transaction, epoch).await?);
        let unwritable = |error| ConnectorError::new(ErrorReason::Internal, "a committable cannot be written as JSON").caused_by(error);
        Ok(vec![committable.map_err(unwritable)?])
    }

    async fn enter(&self, transaction: &Transaction, epoch: u64) -> Result<Committable, ConnectorError> {
        let (id, value) = (transaction::id(&self.writer), Entry::of(&self.writer, epoch).write()?);
        let partitions = self.producer.partitions(self.ledger).await?;
        let origin = Origin::new(ledger::TOPIC, ledger::TOPIC);
        let record = NewRecord { timestamp: now_millis(), key: Some(id.as_bytes()), value: Some(&value), header: None };
        let partition = partition::of(id.as_bytes(), partitions);
        let _before = self.producer.take_place();
        self.producer.append(self.ledger, &origin).append(Target::Partition(partition), &record, epoch);
        self.producer.settle(0).await?;
        // Without an offset it was acknowledged as a duplicate, and its place is not known.
        let place: Option<Place> = self.producer.take_place().filter(|place| place.offset >= 0);
        let place = place.ok_or_else(|| {
            ConnectorError::new(ErrorReason::ServerError, format!("the ledger {} did not say where the entry lies", ledger::TOPIC))
        })?;
        transaction.prepared(epoch);
        Ok(Committable { transactional_id: id, place })
    }

    /// Aborts what is not prepared, and sends nothing more.
    pub(crate) async fn close(&mut self) {
        match &self.transaction {
            Some(transaction) => transaction.close().await,
            None => self.producer.end(),
        }
    }
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "records say when they were written; nothing is decided by it")]
pub(crate) fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
