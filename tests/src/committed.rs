//! Reads what is committed in a topic, from its beginning to its end. Says nothing of what should be there.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Calls `each` for every record of the partitions `0..partitions` of a topic, those of a partition in order. `patience`: for one answer.
///
/// # Errors
/// No broker answers in time, or `each` fails.
pub fn each(
    mut config: ClientConfig,
    topic: &str,
    partitions: i32,
    patience: Duration,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
) -> Result<()> {
    config.set("group.id", "reader").set("enable.auto.commit", "false");
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let reader: BaseConsumer = config.create().context("make a consumer")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    reader.assign(&list)?;
    let mut ends = 0;
    while ends < partitions {
        match reader.poll(patience).context("no answer")? {
            Ok(record) => each(&record)?,
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
