//! The ledger: one record at the end of every transaction, in a compacted topic, by which anybody can tell whether the transaction was committed.
//! It never says "aborted" because a record could not be looked at.

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_response::PartitionData;
use millrace_crds::connectors::kafka::IsolationLevel;
use millrace_crds::report::ErrorReason;
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::WriterIdentity;
use serde::{Deserialize, Serialize};

use super::aborted::Aborted;
use super::position::{Partition, Position};
use super::records::{Control, batches};
use super::session::{Asking, Opened, Readers, Session};
use super::wire::cluster::{Access, Cluster};
use super::wire::error::Error;
use crate::context::ResolvedLimits;
use crate::retry;

/// Topic of the ledgers of all Pipelines of a cluster.
pub(crate) const TOPIC: &str = "millrace-ledger";
/// Partitions of the topic where it is made here: open transactions of one task hold up looks at others of the same partition.
const PARTITIONS: i32 = 16;
/// One look takes so many answers at most; the brokers wait a little before each that says nothing new.
const ANSWERS: u32 = 20;
/// Bytes of a batch with an entry, decompressed: an entry is a few hundred.
const BATCH_BYTES: usize = 1 << 20;

/// The last record of a transaction: whose it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) pipeline: String,
    pub(crate) output: String,
    pub(crate) task: String,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl Entry {
    pub(crate) fn of(writer: &WriterIdentity, epoch: u64) -> Self {
        let WriterIdentity { pipeline_uid, output, task, generation } = writer.clone();
        Self { pipeline: pipeline_uid, output, task, generation, epoch }
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, ConnectorError> {
        serde_json::to_vec(self)
            .map_err(|error| ConnectorError::new(ErrorReason::Internal, "a ledger entry cannot be written as JSON").caused_by(error))
    }
}

/// Makes the topic, unless it is there.
pub(crate) async fn ensure(cluster: &Cluster) -> Result<(), ConnectorError> {
    match cluster.topic_anew(TOPIC, None).await {
        Err(Error::NoTopic { .. }) => {}
        found => return found.map(drop).map_err(|error| error.of(&format!("looking for the ledger topic {TOPIC}"))),
    }
    let made = cluster.create_topic(TOPIC, PARTITIONS, &[("cleanup.policy", "compact")]).await;
    made.map_err(|error| {
        let doing = format!(
            "making the ledger topic {TOPIC} (compacted, {PARTITIONS} partitions): make it yourself, allow it, or set transactional: Off"
        );
        error.of(&doing)
    })
}

/// What became of the transaction that ends with `entry`. Final only if its producer has been fenced before.
pub(crate) async fn fate(
    access: &Access,
    limits: &ResolvedLimits,
    entry: &Entry,
    place: Place,
    key: &str,
    health: &Health,
) -> Result<Fate, ConnectorError> {
    let asking = Asking::new(IsolationLevel::ReadCommitted, limits, &Readers::default());
    let asking = &asking;
    retry::until_done(health, || async move { look(&access.cluster()?, asking.clone(), entry, place, key).await }).await
}

/// Reads at the entry's place until what is decided lies behind it.
async fn look(cluster: &Cluster, asking: Asking, entry: &Entry, place: Place, key: &str) -> Result<Fate, ConnectorError> {
    let doing = format!("reading the ledger {TOPIC}/{} at offset {}", place.partition, place.offset);
    let failed = |error: Error| match error.code() {
        Some(Code::OffsetOutOfRange) => {
            ConnectorError::new(ErrorReason::DataLost, format!("{doing}: the offset is gone; {LOST}")).caused_by(error)
        }
        _ => error.of(&doing),
    };
    // Asked for now: the leader may have moved since somebody looked.
    cluster.topic_anew(TOPIC, None).await.map_err(failed)?;
    let partition = Partition { topic: TOPIC.to_owned(), number: place.partition };
    let position = Position::at(place.offset);
    let opened = Session::open(cluster.clone(), partition, position, asking, None).await.map_err(failed)?;
    // Without an id of its own the position fits every topic.
    let Opened::Session(mut session) = opened else {
        return Err(ConnectorError::new(ErrorReason::Internal, format!("{doing}: it is another topic")));
    };
    for _ in 0..ANSWERS {
        let answer = session.answer().await.map_err(failed)?;
        match decide(&answer, entry, place, key) {
            Ok(Some(fate)) => return Ok(fate),
            Ok(None) => session.ask(place.offset, None),
            Err(what) => return Err(ConnectorError::new(ErrorReason::DataLost, format!("{doing}: {what}; {LOST}"))),
        }
    }
    let message = format!("{doing}: a transaction of another task is open there; it ends within its time-out");
    Err(ConnectorError::new(ErrorReason::Unreachable, message))
}

/// What an answer says that begins at the entry's place and ends where nothing is decided: `None` if that is before the place.
fn decide(answer: &PartitionData, entry: &Entry, place: Place, key: &str) -> Result<Option<Fate>, String> {
    let listed = answer.aborted_transactions.iter().flatten();
    let mut aborted = Aborted::new(listed.map(|transaction| (transaction.first_offset, transaction.producer_id.0)));
    for batch in batches(answer.records.clone().unwrap_or_default()) {
        let batch = batch.map_err(|error| error.to_string())?;
        let header = *batch.header();
        if header.last_offset() < place.offset {
            if header.is_control() {
                let opened = batch.open(BATCH_BYTES).map_err(|error| error.to_string())?;
                if opened.control().map_err(|error| error.to_string())? == Some(Control::Abort) {
                    aborted.ended(&header);
                }
            }
            continue;
        }
        // Compaction has removed it, or it does not count.
        if header.base_offset > place.offset || aborted.has(&header) {
            return Ok(Some(Fate::Aborted));
        }
        let opened = batch.open(BATCH_BYTES).map_err(|error| error.to_string())?;
        for record in opened.records() {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset < place.offset {
                continue;
            }
            if record.offset > place.offset {
                return Ok(Some(Fate::Aborted));
            }
            let found = serde_json::from_slice::<Entry>(record.value.unwrap_or_default()).ok();
            if !header.is_control() && record.key == Some(key.as_bytes()) && found.as_ref() == Some(entry) {
                return Ok(Some(Fate::Committed));
            }
            return Err("another entry lies there, so the topic was made anew since".to_owned());
        }
        return Ok(Some(Fate::Aborted));
    }
    Ok((answer.last_stable_offset > place.offset).then_some(Fate::Aborted))
}

/// What a lost ledger means, and what to do.
const LOST: &str = "whether the last transaction was committed cannot be known any more: look which of its records the topic holds, then delete or \
                    mark the task's last epoch record by hand";

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::AbortedTransaction;

    use super::super::records::{BatchBuilder, NewRecord, Stamp};
    use super::*;

    const KEY: &str = "millrace/uid/main/t";
    const PLACE: Place = Place { partition: 0, offset: 10 };

    fn entry(epoch: u64) -> Entry {
        Entry { pipeline: "uid".into(), output: "main".into(), task: "t".into(), generation: 1, epoch }
    }

    /// A batch of one entry at an offset, by a producer.
    fn batch(offset: i64, producer_id: i64, key: &str, entry: &Entry) -> Vec<u8> {
        let mut builder = BatchBuilder::new(0);
        let value = entry.write().unwrap();
        builder.append(&NewRecord { timestamp: 0, key: Some(key.as_bytes()), value: Some(&value), header: None });
        let stamp = Stamp { producer_id, producer_epoch: 0, sequence: 0, is_transactional: true };
        let mut bytes = builder.seal().stamped(stamp).bytes().to_vec();
        // Brokers set it; the checksum does not cover it.
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes
    }

    fn answer(records: &[Vec<u8>], stable: i64, aborted: &[(i64, i64)]) -> PartitionData {
        let aborted = aborted
            .iter()
            .map(|(producer, first)| AbortedTransaction::default().with_producer_id((*producer).into()).with_first_offset(*first));
        PartitionData::default()
            .with_records(Some(records.concat().into()))
            .with_last_stable_offset(stable)
            .with_aborted_transactions(Some(aborted.collect()))
    }

    fn decided(answer: &PartitionData) -> Result<Option<Fate>, String> {
        decide(answer, &entry(7), PLACE, KEY)
    }

    #[test]
    fn an_entry_that_is_there_is_committed_unless_its_transaction_was_aborted() {
        let there = batch(10, 5, KEY, &entry(7));
        assert_eq!(decided(&answer(std::slice::from_ref(&there), 12, &[])), Ok(Some(Fate::Committed)));
        assert_eq!(decided(&answer(std::slice::from_ref(&there), 12, &[(5, 3)])), Ok(Some(Fate::Aborted)));
        // Another producer's, and a later one of the same.
        assert_eq!(decided(&answer(std::slice::from_ref(&there), 99, &[(6, 3), (5, 40)])), Ok(Some(Fate::Committed)));
    }

    #[test]
    fn before_it_is_decided_there_is_no_answer() {
        assert_eq!(decided(&answer(&[], 10, &[])), Ok(None));
        assert_eq!(decided(&answer(&[], 11, &[])), Ok(Some(Fate::Aborted)), "compaction has removed it");
        assert_eq!(decided(&answer(&[batch(14, 5, KEY, &entry(9))], 20, &[])), Ok(Some(Fate::Aborted)));
    }

    #[test]
    fn another_entry_at_the_place_is_no_answer() {
        for other in [batch(10, 5, KEY, &entry(8)), batch(10, 5, "millrace/uid/main/u", &entry(7))] {
            decided(&answer(&[other], 20, &[])).unwrap_err();
        }
        let mut damaged = batch(10, 5, KEY, &entry(7));
        damaged[70] ^= 1;
        decided(&answer(&[damaged], 20, &[])).unwrap_err();
    }
}
