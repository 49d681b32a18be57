//! Asks the leader of one partition for records, again and again: one question is under way while the last answer is decoded. It decodes nothing, and
//! where a leader cannot be asked any more, it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use millrace_crds::connectors::kafka::IsolationLevel;

use super::position::{Partition, Position};
use super::wire::cluster::{Cluster, Leader, Place, Topic};
use super::wire::connection::{Answer, Connection};
use super::wire::error::Error;
use super::wire::stream::PATIENCE;
use crate::context::ResolvedLimits;

/// How long a broker waits for records before it answers that there are none.
const POLL: Duration = Duration::from_millis(500);
/// What is asked for at a time, bytes: at least, and at most. A batch that is larger comes all the same, as a whole.
const FETCH_BYTES: (usize, usize) = (16 << 10, 1 << 20);
/// Answers that a reader has at a time: one that is delivered, and one that has come meanwhile.
const ANSWERS: usize = 2;
/// From this version on, requests name the topic by its id.
const BY_ID: i16 = 13;
/// From this version on, brokers compare what was read last with their log.
const COMPARED: i16 = 12;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    isolation: IsolationLevel,
    in_flight_bytes: usize,
    /// What one byte may become when it is decompressed.
    pub(crate) ratio: u64,
    readers: Readers,
}

/// Those who read at the same time, and share what may be in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers(Arc<AtomicUsize>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat(Readers);

impl Readers {
    /// One more.
    pub(crate) fn sit(&self) -> Seat {
        self.0.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Asking {
    /// Of one partition, where all `readers` share `limits`.
    pub(crate) fn new(isolation: IsolationLevel, limits: &ResolvedLimits, readers: &Readers) -> Self {
        let (in_flight_bytes, ratio) = (limits.in_flight_bytes, limits.decompression_ratio);
        Self { isolation, in_flight_bytes, ratio, readers: readers.clone() }
    }

    pub(crate) fn is_committed_only(&self) -> bool {
        self.isolation == IsolationLevel::ReadCommitted
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Bytes to ask for now: what all readers have together is no more than may be in flight, as far as that leaves enough for each.
    fn bytes(&self) -> i32 {
        let readers = self.readers.0.load(Ordering::Relaxed).max(1);
        let share = (self.in_flight_bytes / 4).min(self.in_flight_bytes / (ANSWERS * readers));
        share.clamp(FETCH_BYTES.0, FETCH_BYTES.1) as i32
    }
}

/// A leader that answers.
pub(crate) struct Session {
    topic: Arc<Topic>,
    partition: i32,
    leader: Leader,
    connection: Connection,
    asking: Asking,
    /// The offset from which was asked last.
    from: i64,
    /// Of the batch before that; -1 if none was read.
    last_epoch: i32,
    answer: Result<Answer<FetchResponse>, Error>,
}

/// What comes of starting.
pub(crate) enum Opened {
    Session(Box<Session>),
    /// The topic has another id than the position.
    Recreated(String),
}

impl Session {
    /// Starts at `position`; `stale` is what is known to be old of the topic.
    pub(crate) async fn open(
        cluster: Cluster,
        partition: Partition,
        position: Position,
        asking: Asking,
        stale: Option<Arc<Topic>>,
    ) -> Result<Opened, Error> {
        let topic = match stale {
            None => cluster.topic(&partition.topic).await?,
            Some(stale) => cluster.topic_anew(&partition.topic, Some(&stale)).await?,
        };
        if let (Some(ours), Some(theirs)) = (&position.topic_id, topic.id())
            && *ours != theirs
        {
            // Who was asked may know less than we do.
            if cluster.has_id(&partition.topic, ours).await {
                return Err(Error::Refused {
                    code: Code::InconsistentTopicId,
                    detail: format!("brokers differ on topic {}", partition.topic),
                });
            }
            return Ok(Opened::Recreated(theirs));
        }
        let leader = topic.leader(partition.number)?;
        let from = match position.offset {
            Some(offset) => offset,
            None => cluster.offset(&partition.topic, partition.number, Place::Oldest).await?,
        };
        let connection = cluster.dedicated(leader.broker).await?;
        let answer = Err(Error::NoBroker { id: leader.broker });
        let (partition, last_epoch) = (partition.number, position.leader_epoch.unwrap_or(-1));
        let mut session = Self { topic, partition, leader, connection, asking, from, last_epoch, answer };
        session.ask(from, None);
        Ok(Opened::Session(Box::new(session)))
    }

    pub(crate) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// The offset from which was asked last.
    pub(crate) fn from(&self) -> i64 {
        self.from
    }

    /// Asks for what is at `from`, behind a batch that a leader of `last_epoch` took.
    pub(crate) fn ask(&mut self, from: i64, last_epoch: Option<i32>) {
        self.from = from;
        self.last_epoch = last_epoch.unwrap_or(self.last_epoch);
        self.answer = self.send();
    }

    fn send(&self) -> Result<Answer<FetchResponse>, Error> {
        // An answer that would come after the login has ended is not asked for.
        if !self.connection.is_open() {
            return Err(self.connection.lost());
        }
        let (metadata, bytes) = (self.topic.metadata(), self.asking.bytes());
        let has_id = self.topic.id().is_some();
        let newest = self.connection.version::<FetchRequest>()?;
        let version = if has_id { newest } else { newest.min(BY_ID - 1) };
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_current_leader_epoch(self.leader.epoch)
            .with_fetch_offset(self.from)
            .with_last_fetched_epoch(if version >= COMPARED { self.last_epoch } else { -1 })
            .with_partition_max_bytes(bytes);
        let topic = if version >= BY_ID {
            FetchTopic::default().with_topic_id(metadata.topic_id)
        } else {
            FetchTopic::default().with_topic(TopicName(StrBytes::from_string(self.topic.name().to_owned())))
        };
        let isolation = match self.asking.isolation {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        };
        let request = FetchRequest::default()
            .with_max_wait_ms(POLL.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(bytes)
            .with_isolation_level(isolation)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        self.connection.send_as(&request, version, PATIENCE)
    }

    /// Waits for the answer. Cancel-safe. After it has returned, the next question has to be asked first.
    pub(crate) async fn answer(&mut self) -> Result<PartitionData, Error> {
        let response = match &mut self.answer {
            Ok(answer) => answer.wait().await?,
            Err(error) => return Err(error.clone()),
        };
        self.connection.hold(Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap_or(0)));
        Error::refused(response.error_code, "")?;
        let mut partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
        let found = partitions.find(|found| found.partition_index == self.partition);
        let found = found.ok_or_else(|| Error::NoPartition { topic: self.topic.name().to_owned(), partition: self.partition })?;
        Error::refused(found.error_code, "")?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use millrace_crds::pipeline::Limits;

    use super::*;

    #[test]
    fn what_all_readers_hold_is_bounded_however_many_they_are() {
        let limits = ResolvedLimits::from(&Limits::default());
        let readers = Readers::default();
        let asking = Asking::new(IsolationLevel::ReadCommitted, &limits, &readers);
        let mut seats = vec![readers.sit()];
        assert_eq!(asking.bytes(), 1 << 20);
        seats.resize_with(1000, || readers.sit());
        assert_eq!(asking.bytes(), (limits.in_flight_bytes / 2000) as i32);
        assert!(asking.bytes() as usize * ANSWERS * seats.len() <= limits.in_flight_bytes);
        seats.truncate(16);
        assert_eq!(asking.bytes(), 1 << 20);
    }
}
