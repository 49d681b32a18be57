//! Reads one partition. It belongs to no group, stores no offset, and goes nowhere but where its position says.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::UInt64Array;
use async_trait::async_trait;
use futures::future::BoxFuture;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_response::PartitionData;
use millrace_crds::connectors::kafka::OnPositionLost;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Origin;
use millrace_engine::connector::{Backoff, ConnectorError, Health};
use millrace_engine::row_kind::RowKind;
use millrace_engine::source::{Lag, Records, SourceEvent, SplitReader};
use serde_json::Value;
use tokio::time::Instant;

use super::commits::Commits;
use super::fetched::{Fetched, Taken};
use super::flight::now_millis;
use super::position::{Lost, Partition, Position, after_loss, describe};
use super::records::RecordsError;
use super::session::{Asking, Opened, Seat, Session};
use super::wire::cluster::{Access, Cluster, Topic};
use super::wire::error::Error;
use crate::formats::RecordDecoder;
use crate::retry;

/// First and longest pause before brokers are tried again.
const ATTEMPTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// As above, after they have said that we may not read, or that there is nothing to read.
const REFUSALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

/// What a reader is told.
pub(crate) struct Reading {
    pub(crate) partition: Partition,
    /// The group that offsets are committed to, for others to see.
    pub(crate) group: Option<String>,
    pub(crate) on_position_lost: OnPositionLost,
    /// What to do where that stops, for people.
    pub(crate) if_lost: &'static str,
    /// How to reach the brokers; all readers of one input share it.
    pub(crate) access: Access,
    pub(crate) asking: Asking,
    pub(crate) health: Health,
}

/// What the reader is doing. Whatever takes time is kept here, so that a call that is dropped loses nothing.
enum Phase {
    /// Pausing, then looking for the leader.
    Waiting(Instant),
    Connecting(BoxFuture<'static, Result<Opened, Error>>),
    /// The leader was asked.
    Reading(Box<Session>),
    /// The position got lost; the ends of the partition were asked for.
    Settling(Lost, BoxFuture<'static, Result<(i64, i64), ConnectorError>>),
    Closed,
}

/// A reader of one partition.
pub(crate) struct PartitionReader {
    reading: Reading,
    decoder: Box<dyn RecordDecoder>,
    phase: Phase,
    /// What the phase is about.
    cluster: Cluster,
    /// What is known to be old of the topic.
    stale: Option<Arc<Topic>>,
    position: Position,
    origin: Option<Origin>,
    /// Received and not delivered; delivered before anything else is looked at.
    fetched: Option<Fetched>,
    /// A loss is shown in the status until an epoch after it is durable.
    loss_shown: bool,
    /// Attempts that failed since the last answer.
    failures: u32,
    attempts: Backoff,
    refusals: Backoff,
    commits: Option<Commits>,
    /// After the last record that may be read, as last seen.
    end: Option<i64>,
    /// Everything there is has been read.
    caught_up: bool,
    /// Of the last record, milliseconds since 1970.
    timestamp: Option<i64>,
    draining: bool,
    _seat: Seat,
}

impl PartitionReader {
    /// A reader that will start at `position`. Waits for nothing.
    pub(crate) fn open(reading: Reading, position: Position, decoder: Box<dyn RecordDecoder>) -> Result<Self, ConnectorError> {
        let cluster = reading.access.cluster()?;
        let seat = reading.asking.readers().sit();
        let commits = reading.group.clone().map(|group| Commits::start(reading.access.clone(), reading.partition.clone(), group));
        Ok(Self {
            reading,
            decoder,
            phase: Phase::Waiting(Instant::now()),
            cluster,
            stale: None,
            position,
            origin: None,
            fetched: None,
            loss_shown: false,
            failures: 0,
            attempts: Backoff::new(ATTEMPTS.0, ATTEMPTS.1),
            refusals: Backoff::new(REFUSALS.0, REFUSALS.1),
            commits,
            end: None,
            caught_up: false,
            timestamp: None,
            draining: false,
            _seat: seat,
        })
    }

    /// Where to go on after everything that was returned.
    pub(crate) fn place(&self) -> &Position {
        &self.position
    }

    /// Looks for the leader, with the secrets as they are now.
    fn connect(&mut self) -> Result<(), ConnectorError> {
        match self.reading.access.cluster() {
            Ok(cluster) => self.cluster = cluster,
            Err(error) if error.is_transient() => {
                self.pause(error);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let (partition, position) = (self.reading.partition.clone(), self.position.clone());
        let opening = Session::open(self.cluster.clone(), partition, position, self.reading.asking.clone(), self.stale.take());
        self.phase = Phase::Connecting(Box::pin(opening));
        Ok(())
    }

    /// Tells of trouble, and tries again later.
    fn pause(&mut self, error: ConnectorError) {
        let backoff = match error.reason {
            ErrorReason::AccessDenied | ErrorReason::NotFound | ErrorReason::SecretMissing => &mut self.refusals,
            _ => &mut self.attempts,
        };
        self.phase = Phase::Waiting(Instant::now() + backoff.delay(rand::random()));
        self.reading.health.trouble(error.reason, error.message);
    }

    /// What an error means.
    fn failed(&mut self, error: Error) -> Result<(), ConnectorError> {
        if error.code() == Some(Code::OffsetOutOfRange) {
            if self.position.offset.is_some() {
                self.lose(Lost::OutOfRange(error.to_string()));
            } else {
                // Nothing was read yet, so nothing is lost: what was the oldest record a moment ago is gone, and another is.
                let message = format!("reading partition {} from its oldest record: {error}", self.reading.partition);
                self.pause(ConnectorError::new(ErrorReason::ServerError, message));
            }
            return Ok(());
        }
        let is_stale = error.is_stale();
        if is_stale {
            self.stale = self.cluster.known_topic(&self.reading.partition.topic);
        }
        // Leaders move, and brokers are restarted one by one: that is trouble only if there is no other leader.
        let may_move = matches!(error, Error::Lost { .. } | Error::Refused { .. }) && is_stale;
        let is_first = may_move && self.failures == 0 && matches!(self.phase, Phase::Reading(_));
        self.failures += 1;
        let error = error.of(&format!("reading partition {}", self.reading.partition));
        if !error.is_transient() {
            return Err(error);
        }
        if is_first {
            tracing::debug!(partition = %self.reading.partition, error = %error.message, "looking for the leader anew");
            self.phase = Phase::Waiting(Instant::now() + self.attempts.delay(rand::random()));
        } else {
            self.pause(error);
        }
        Ok(())
    }

    /// The position is gone: finds out what there is.
    fn lose(&mut self, lost: Lost) {
        let (cluster, partition, health) = (self.cluster.clone(), self.reading.partition.clone(), self.reading.health.clone());
        let looking = async move {
            retry::until_done(&health, || async {
                let ends = cluster.ends(&partition.topic, partition.number).await;
                ends.map_err(|error| error.of(&format!("looking for what is left of partition {partition}")))
            })
            .await
        };
        self.fetched = None;
        self.phase = Phase::Settling(lost, Box::pin(looking));
    }

    /// Decides what a lost position means, and goes on where the policy says.
    fn settle(&mut self, lost: Lost, (low, high): (i64, i64)) -> Result<(), ConnectorError> {
        let message = describe(&self.reading.partition, &self.position, &lost, low, high);
        // A leader that was behind for a moment: the offset is there.
        if matches!(lost, Lost::OutOfRange(_)) && self.position.offset.is_some_and(|next| (low..=high).contains(&next)) {
            self.stale = self.cluster.known_topic(&self.reading.partition.topic);
            // One that does not know any more when leaders changed says the same, and has nothing to compare with.
            self.position.leader_epoch = None;
            self.pause(ConnectorError::new(ErrorReason::ServerError, message));
            return Ok(());
        }
        let Some(next) = after_loss(self.reading.on_position_lost, &lost, low, high) else {
            let message = format!("{message}; {}", self.reading.if_lost);
            return Err(ConnectorError::new(ErrorReason::DataLost, message));
        };
        let message = format!("{message}; going on at offset {next}");
        tracing::error!(partition = %self.reading.partition, next, "{message}");
        let topic_id = match lost {
            Lost::Recreated { id } => Some(id),
            Lost::OutOfRange(_) | Lost::Truncated { .. } => self.position.topic_id.clone(),
        };
        self.position = Position { topic_id, ..Position::at(next) };
        self.origin = None;
        self.end = None;
        self.caught_up = false;
        self.connect()?;
        self.reading.health.trouble(ErrorReason::DataLost, message);
        self.loss_shown = true;
        Ok(())
    }

    /// A leader was found, or the topic is another one.
    fn opened(&mut self, opened: Opened) {
        match opened {
            Opened::Recreated(id) => self.lose(Lost::Recreated { id }),
            Opened::Session(session) => {
                if self.position.topic_id.is_none() {
                    self.position.topic_id = session.topic().id();
                }
                self.phase = Phase::Reading(session);
            }
        }
    }

    /// An answer has come: the next question goes out before it is looked into.
    fn received(&mut self, data: PartitionData) {
        let Phase::Reading(session) = &mut self.phase else { return };
        if data.diverging_epoch.end_offset >= 0 {
            self.lose(Lost::Truncated { end: data.diverging_epoch.end_offset });
            return;
        }
        let stable = data.last_stable_offset;
        let end = if self.reading.asking.is_committed_only() && stable >= 0 { stable } else { data.high_watermark };
        let fetched = Fetched::cut(data.records.unwrap_or_default(), data.aborted_transactions, session.from(), self.reading.asking.ratio);
        if !fetched.is_broken() {
            session.ask(fetched.next(), fetched.last_epoch());
        }
        self.end = (end >= 0).then_some(end);
        self.fetched = Some(fetched);
        self.failures = 0;
        self.attempts = Backoff::new(ATTEMPTS.0, ATTEMPTS.1);
        self.refusals = Backoff::new(REFUSALS.0, REFUSALS.1);
        if !self.loss_shown && self.reading.health.current().is_some() {
            self.reading.health.clear();
        }
    }

    fn origin(&mut self) -> Origin {
        let Partition { topic, number } = &self.reading.partition;
        let topic_id = self.position.topic_id.as_deref().unwrap_or(topic);
        self.origin.get_or_insert_with(|| Origin::new(&format!("{topic_id}/{number}"), format!("{topic}/{number}"))).clone()
    }

    /// The next records of what was received, or an empty delivery where the end was reached, so that whoever reads looks at the lag again.
    fn deliver(&mut self) -> Result<Option<Records>, ConnectorError> {
        let Some(mut fetched) = self.fetched.take() else { return Ok(None) };
        let taken = fetched.decode(self.decoder.as_mut()).map_err(|error| self.damaged(error))?;
        let records = taken.map(|taken| self.turn(taken));
        if !fetched.is_exhausted() {
            self.fetched = Some(fetched);
            return Ok(records);
        }
        // Records that are no data (ends of transactions) and those of aborted transactions are passed too.
        if self.position.offset.is_none_or(|ours| ours < fetched.next()) {
            self.position.offset = Some(fetched.next());
        }
        self.position.leader_epoch = fetched.last_epoch().or(self.position.leader_epoch);
        let at_end = self.end.is_some_and(|end| fetched.next() >= end);
        let reached_end = at_end && !std::mem::replace(&mut self.caught_up, at_end);
        Ok(records.or_else(|| reached_end.then(Records::default)))
    }

    /// Turns what was decoded into records; moves the position.
    fn turn(&mut self, taken: Taken) -> Records {
        self.caught_up = false;
        (self.position.offset, self.position.leader_epoch) = (Some(taken.next), Some(taken.leader_epoch));
        // A record may be without one: then it is -1.
        self.timestamp = Some(taken.timestamp).filter(|millis| *millis >= 0);
        let origin = self.origin();
        let mut decoded = taken.decoded;
        let offset_of = |index: u64| taken.offsets.get(index as usize).copied().unwrap_or_default();
        decoded.ordinals = match (&decoded.kinds, self.decoder.rows_of_record()) {
            // The row that replaces another has the ordinal after that of the other.
            (Some(kinds), rows) if rows > 1 => {
                let second = |kind: RowKind| u64::from(kind == RowKind::UpdateAfter);
                let ordinals = decoded.ordinals.values().iter().zip(kinds.iter());
                UInt64Array::from_iter_values(ordinals.map(|(index, kind)| offset_of(*index) * rows + second(kind)))
            }
            _ => UInt64Array::from_iter_values(decoded.ordinals.values().iter().map(|index| offset_of(*index))),
        };
        decoded.rejected.iter_mut().for_each(|record| record.ordinal = offset_of(record.ordinal));
        decoded.into_records(&origin)
    }

    fn damaged(&self, error: RecordsError) -> ConnectorError {
        let reason = match error {
            RecordsError::OldFormat { .. } | RecordsError::UnknownCompression { .. } | RecordsError::TooLarge { .. } => {
                ErrorReason::Invalid
            }
            RecordsError::Checksum { .. } | RecordsError::Damaged { .. } | RecordsError::Compression { .. } => ErrorReason::Corrupt,
        };
        let hint = if matches!(error, RecordsError::TooLarge { .. }) { "; raise limits.maxDecompressionRatio" } else { "" };
        ConnectorError::new(reason, format!("reading partition {}: {error}{hint}", self.reading.partition)).caused_by(error)
    }
}

#[async_trait]
impl SplitReader for PartitionReader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        loop {
            if self.draining {
                return Ok(SourceEvent::End);
            }
            if self.fetched.is_some() {
                match self.deliver()? {
                    Some(records) => return Ok(SourceEvent::Records(records)),
                    None => continue,
                }
            }
            // Each waits for one thing, which is still there if this call is dropped, and then changes the phase.
            match &mut self.phase {
                Phase::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.connect()?;
                }
                Phase::Connecting(opening) => match opening.await {
                    Ok(opened) => self.opened(opened),
                    Err(error) => self.failed(error)?,
                },
                Phase::Reading(session) => match session.answer().await {
                    Ok(data) => self.received(data),
                    Err(error) => self.failed(error)?,
                },
                Phase::Settling(lost, ends) => {
                    let ends = ends.await?;
                    let lost = lost.clone();
                    self.settle(lost, ends)?;
                }
                Phase::Closed => return Err(closed()),
            }
        }
    }

    fn position(&self) -> Value {
        self.position.write()
    }

    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError> {
        if self.loss_shown {
            self.loss_shown = false;
            self.reading.health.clear();
        }
        if let Some(commits) = &self.commits
            && let Some(offset) = Position::read(position)?.offset
        {
            commits.set(offset);
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn lag(&self) -> Lag {
        if self.caught_up {
            return Lag { records: Some(0), seconds: Some(0), idle: true };
        }
        let records = self.position.offset.zip(self.end).map(|(next, end)| u64::try_from(end - next).unwrap_or(0));
        let seconds = match records {
            Some(0) => Some(0),
            Some(_) => self.timestamp.map(|millis| u64::try_from(now_millis().saturating_sub(millis)).unwrap_or(0) / 1000),
            None => None,
        };
        Lag { records, seconds, idle: false }
    }

    async fn close(&mut self) {
        self.phase = Phase::Closed;
        self.fetched = None;
        if let Some(commits) = self.commits.take() {
            commits.close().await;
        }
    }
}

fn closed() -> ConnectorError {
    ConnectorError::new(ErrorReason::Internal, "the reader was used after it was closed")
}

#[cfg(test)]
mod tests {
    use millrace_crds::connectors::kafka::IsolationLevel;
    use millrace_crds::pipeline::Limits;

    use super::super::session::Readers;
    use super::*;
    use crate::context::{Context, ResolvedLimits};
    use crate::formats::Decoded;

    struct Nothing;

    impl RecordDecoder for Nothing {
        fn decode(&mut self, _payloads: &[&[u8]]) -> Decoded {
            unreachable!("nothing is read")
        }
    }

    fn reader(position: Position) -> PartitionReader {
        let limits = ResolvedLimits::from(&Limits::default());
        let context = Context { secrets_dir: "/nonexistent".into(), limits };
        let options = serde_json::from_value(serde_json::json!({"bootstrapServers": "localhost:1"})).unwrap();
        let reading = Reading {
            partition: Partition { topic: "t".to_owned(), number: 0 },
            group: None,
            on_position_lost: OnPositionLost::Fail,
            if_lost: "",
            access: Access::new(&options, &context),
            asking: Asking::new(IsolationLevel::ReadCommitted, &limits, &Readers::default()),
            health: Health::default(),
        };
        PartitionReader::open(reading, position, Box::new(Nothing)).unwrap()
    }

    #[tokio::test]
    async fn an_oldest_record_that_goes_before_it_is_read_is_no_loss() {
        let out_of_range = || Error::refused(Code::OffsetOutOfRange.code(), "").unwrap_err();
        let mut fresh = reader(Position::default());
        fresh.failed(out_of_range()).unwrap();
        assert!(matches!(fresh.phase, Phase::Waiting(_)));
        let mut begun = reader(Position::at(7));
        begun.failed(out_of_range()).unwrap();
        assert!(matches!(begun.phase, Phase::Settling(Lost::OutOfRange(_), _)));
    }

    #[tokio::test]
    async fn a_record_without_a_time_says_nothing_of_the_lag_and_one_of_any_time_does_no_harm() {
        let mut reader = reader(Position::at(7));
        reader.end = Some(9);
        for (timestamp, seconds) in [(-1, None), (i64::MIN, None), (i64::MAX, Some(0))] {
            let decoded = Decoded {
                records: arrow::array::RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
                ordinals: UInt64Array::from(Vec::<u64>::new()),
                rejected: Vec::new(),
                bytes: 0,
                kinds: None,
            };
            reader.turn(Taken { decoded, offsets: Vec::new(), next: 8, leader_epoch: 3, timestamp });
            let lag = reader.lag();
            assert_eq!((lag.records, lag.seconds), (Some(1), seconds), "{timestamp}");
        }
    }

    #[tokio::test]
    async fn a_truncated_log_stays_a_loss_for_whoever_reads_next() {
        let kept = Position { leader_epoch: Some(3), ..Position::at(7) };
        let mut first = reader(kept.clone());
        let error = first.settle(Lost::Truncated { end: 5 }, (0, 20)).unwrap_err();
        assert!(error.reason == ErrorReason::DataLost && error.message.contains("truncated at offset 5"), "{error}");
        assert_eq!(Position::read(&first.position()).unwrap(), kept, "who goes on from it asks for the same, and is told the same");
        // A leader that only was behind.
        first.settle(Lost::OutOfRange(String::new()), (0, 20)).unwrap();
        assert_eq!(first.position, Position::at(7));
    }
}
