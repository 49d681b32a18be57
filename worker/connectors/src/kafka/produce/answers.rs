//! What brokers answer to batches, and what follows. Pure.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::super::wire::error::Error;
use super::brokers::transactional;
use super::lane::{Outcome, ProducerIdentity};
use kafka_protocol::ResponseError as Code;

/// Milliseconds that a leader waits for its followers.
const FOLLOWERS_WITHIN: i32 = 10_000;

/// A partition of a topic, both by number.
pub(super) type LaneId = (usize, usize);

/// A batch of a request.
pub(super) struct Sent {
    pub(super) lane: LaneId,
    pub(super) number: u64,
    pub(super) bytes: Bytes,
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// The request that carries batches, at most one for each partition.
pub(super) fn request(transactional_id: Option<&str>, sent: &[Sent], name: impl Fn(usize) -> String) -> ProduceRequest {
    let mut topics: Vec<(usize, Vec<PartitionProduceData>)> = Vec::new();
    for Sent { lane: (topic, partition), bytes, .. } in sent {
        let data = PartitionProduceData::default().with_index(*partition as i32).with_records(Some(bytes.clone()));
        match topics.iter_mut().find(|(known, _)| known == topic) {
            Some((_, partitions)) => partitions.push(data),
            None => topics.push((*topic, vec![data])),
        }
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| TopicProduceData::default().with_name(topic_name(&name(topic))).with_partition_data(partitions));
    ProduceRequest::default()
        .with_transactional_id(transactional_id.map(transactional))
        .with_acks(-1)
        .with_timeout_ms(FOLLOWERS_WITHIN)
        .with_topic_data(topics.collect())
}

/// How long the broker answers nothing more on this connection, because we are over a quota.
pub(super) fn throttled(response: &ProduceResponse) -> Option<Duration> {
    u64::try_from(response.throttle_time_ms).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// What it comes to if an answer leaves a partition out.
pub(super) fn nothing_said() -> (i16, i64, String) {
    (Code::NetworkException.code(), -1, "the answer says nothing of the partition".to_owned())
}

/// What was said of each partition: its error code, the offset of the batch, and words.
pub(super) fn by_partition(response: ProduceResponse) -> HashMap<(String, usize), (i16, i64, String)> {
    let mut found = HashMap::new();
    for topic in response.responses {
        for partition in topic.partition_responses {
            let said = partition.error_message.as_ref().map_or("", |said| said.as_str()).to_owned();
            let place = (topic.name.0.as_str().to_owned(), partition.index as usize);
            found.insert(place, (partition.error_code, partition.base_offset, said));
        }
    }
    found
}

/// What a broker's answer to a batch means; the error where the writer cannot go on.
pub(super) fn outcome(code: i16, offset: i64, said: &str) -> Result<Outcome, Error> {
    let Some(code) = Code::try_from_code(code) else { return Ok(Outcome::Written(offset)) };
    Ok(match code {
        // Written before, longer ago than the broker knows where.
        Code::DuplicateSequenceNumber => Outcome::Written(-1),
        Code::OutOfOrderSequenceNumber => Outcome::OutOfOrder,
        Code::MessageTooLarge | Code::RecordListTooLarge | Code::InvalidFetchSize | Code::InvalidRecord | Code::InvalidTimestamp => {
            Outcome::Refused(code)
        }
        // Some of them come after the batch was written and before its followers had it: all may be written.
        Code::NotLeaderOrFollower
        | Code::LeaderNotAvailable
        | Code::ReplicaNotAvailable
        | Code::BrokerNotAvailable
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::KafkaStorageError
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::ThrottlingQuotaExceeded => Outcome::Again,
        // The checksum is looked at before anything is written: bytes have changed on the way.
        Code::CorruptMessage
        // The leader asks the coordinator whether the partition is part of the transaction, before it writes anything.
        | Code::CoordinatorLoadInProgress | Code::CoordinatorNotAvailable | Code::NotCoordinator | Code::ConcurrentTransactions => {
            Outcome::Unsent
        }
        code => return Err(Error::Refused { code, detail: said.to_owned() }),
    })
}

/// Whether it is the size that is too much.
pub(super) fn is_size(code: Code) -> bool {
    matches!(code, Code::MessageTooLarge | Code::RecordListTooLarge | Code::InvalidFetchSize)
}

/// The request that makes partitions part of a transaction.
pub(super) fn enlistment(id: &str, who: ProducerIdentity, lanes: &[LaneId], name: impl Fn(usize) -> String) -> AddPartitionsToTxnRequest {
    let mut topics: Vec<(usize, Vec<i32>)> = Vec::new();
    for (topic, partition) in lanes {
        match topics.iter_mut().find(|(known, _)| known == topic) {
            Some((_, partitions)) => partitions.push(*partition as i32),
            None => topics.push((*topic, vec![*partition as i32])),
        }
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| AddPartitionsToTxnTopic::default().with_name(topic_name(&name(topic))).with_partitions(partitions));
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional(id))
        .with_v3_and_below_producer_id(who.id.into())
        .with_v3_and_below_producer_epoch(who.epoch)
        .with_v3_and_below_topics(topics.collect())
}

/// What became of it: done, or to be asked again, or an error that stays.
pub(super) fn enlisted(response: &AddPartitionsToTxnResponse) -> Result<(), Error> {
    let results = response.results_by_topic_v3_and_below.iter();
    let codes: Vec<i16> = results.flat_map(|topic| &topic.results_by_partition).map(|result| result.partition_error_code).collect();
    // Those that were not tried because of another partition say nothing.
    let not_tried = Code::OperationNotAttempted.code();
    let first = codes.iter().find(|code| **code != 0 && **code != not_tried).or_else(|| codes.iter().find(|code| **code != 0));
    Error::refused(first.copied().unwrap_or(0), "making partitions part of the transaction")
}

/// Whether an error of the coordinator goes away by itself.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Refused { code, .. } => matches!(
            code,
            Code::ConcurrentTransactions
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::UnknownTopicOrPartition
                | Code::RequestTimedOut
                | Code::ThrottlingQuotaExceeded
                | Code::NetworkException
                | Code::OperationNotAttempted
                | Code::KafkaStorageError
                | Code::NotEnoughReplicas
                | Code::NotEnoughReplicasAfterAppend
        ),
        Error::Version { .. } | Error::Request { .. } => false,
        _ => true,
    }
}
