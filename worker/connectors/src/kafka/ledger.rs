//! The ledger: one record at the end of every transaction, in a compacted topic, by which anybody can tell whether the transaction was committed.
//! It never says "aborted" because a record could not be looked at.

use std::time::Duration;

use millrace_crds::report::ErrorReason;
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::WriterIdentity;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::client::{self, NO_GROUP, PATIENCE};
use super::events::Events;
use super::failure;
use crate::retry;

/// Topic of the ledgers of all Pipelines of a cluster.
pub(crate) const TOPIC: &str = "millrace-ledger";
/// Partitions of the topic where it is made here: open transactions of one task hold up looks at others of the same partition.
const PARTITIONS: i32 = 16;
/// What the brokers say by default.
const REPLICAS: TopicReplication<'static> = TopicReplication::Fixed(-1);
/// One look takes so many polls at most, each so long.
const POLLS: u32 = 50;
const POLL: Duration = Duration::from_millis(200);

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
pub(crate) async fn ensure(config: &ClientConfig) -> Result<(), ConnectorError> {
    let doing = format!("looking for the ledger topic {TOPIC}");
    let found = client::ask(config.clone(), doing, |client| client::partitions(client, TOPIC)).await;
    match found {
        Err(error) if error.reason == ErrorReason::NotFound => {}
        other => return other.map(drop),
    }
    let doing = format!(
        "making the ledger topic {TOPIC} (compacted, {PARTITIONS} partitions): make it yourself, allow it, or set transactional: Off"
    );
    let admin: AdminClient<Events> =
        config.create_with_context(Events::of(Health::default())).map_err(|error| failure::error(&doing, error))?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, REPLICAS).set("cleanup.policy", "compact");
    let made = admin.create_topics(&[topic], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await;
    match made.map_err(|error| failure::error(&doing, error))?.first() {
        Some(Err((_, code))) if *code != Code::TopicAlreadyExists => Err(failure::error(&doing, KafkaError::AdminOp(*code))),
        _ => Ok(()),
    }
}

/// What became of the transaction that ends with `entry`. Final only if its producer has been fenced before.
pub(crate) async fn fate(config: &ClientConfig, entry: &Entry, place: Place, key: &str, health: &Health) -> Result<Fate, ConnectorError> {
    let mut config = config.clone();
    config
        .set("group.id", NO_GROUP)
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("allow.auto.create.topics", "false");
    retry::until_done(health, || {
        let (config, entry, key) = (config.clone(), entry.clone(), key.to_owned());
        client::ask(config, format!("reading the ledger {TOPIC}"), move |client| look(client, &entry, place, &key))
    })
    .await
}

/// Reads on from the entry's place until there is a committed record, or the end of what is decided lies behind it.
fn look(client: &BaseConsumer<Events>, entry: &Entry, place: Place, key: &str) -> Result<Fate, ConnectorError> {
    let doing = format!("reading the ledger {TOPIC}/{} at offset {}", place.partition, place.offset);
    let mut list = TopicPartitionList::new();
    let assigned = list.add_partition_offset(TOPIC, place.partition, Offset::Offset(place.offset)).and_then(|()| client.assign(&list));
    assigned.map_err(|error| failure::error(&doing, error))?;
    for _ in 0..POLLS {
        match client.poll(POLL) {
            Some(Ok(record)) if record.offset() > place.offset => return Ok(Fate::Aborted),
            Some(Ok(record)) => {
                let found = serde_json::from_slice::<Entry>(record.payload().unwrap_or_default()).ok();
                if record.key() == Some(key.as_bytes()) && found.as_ref() == Some(entry) {
                    return Ok(Fate::Committed);
                }
                let message = format!("{doing}: another entry lies there, so the topic was made anew since; {LOST}");
                return Err(ConnectorError::new(ErrorReason::DataLost, message));
            }
            // The end, or what is behind it is not decided yet.
            Some(Err(KafkaError::PartitionEOF(_))) | None if passed(client, place) => return Ok(Fate::Aborted),
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                    let message = format!("{doing}: the offset is gone; {LOST}");
                    return Err(ConnectorError::new(ErrorReason::DataLost, message).caused_by(error));
                }
                _ if failure::is_about_group(&error) => {}
                _ => {
                    let error = failure::error(&doing, error);
                    if !error.is_transient() || error.reason == ErrorReason::AccessDenied {
                        return Err(error);
                    }
                }
            },
        }
    }
    let message = format!("{doing}: no answer, or a transaction of another task is open there; it ends within its time-out");
    Err(ConnectorError::new(ErrorReason::Unreachable, message))
}

/// What a lost ledger means, and what to do.
const LOST: &str = "whether the last transaction was committed cannot be known any more: look which of its records the topic holds, then delete or \
                    mark the task's last epoch record by hand";

/// Whether everything up to the entry's place was passed, records that are no data or were aborted included.
fn passed(client: &BaseConsumer<Events>, place: Place) -> bool {
    let Ok(positions) = client.position() else { return false };
    let offset = positions.find_partition(TOPIC, place.partition).map(|found| found.offset());
    matches!(offset, Some(Offset::Offset(next)) if next > place.offset)
}
