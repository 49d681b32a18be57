//! Where an exchange ended with an epoch of a front task, and what has come since: the messages of its own that a new owner finds. It writes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use millrace_crds::connectors::kafka::{IsolationLevel, OnPositionLost};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use millrace_engine::exchange::{Acceptance, Coverage, UpTo, Verdict, advance};
use millrace_engine::sink::OpenSink;
use millrace_engine::source::{SourceEvent, SplitReader as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::KafkaExchange;
use super::codec::{self, DecodeError, Heading, Stamp};
use super::reader::numbers;
use crate::formats::{Decoded, RecordDecoder};
use crate::kafka::position::{Partition, Position};
use crate::kafka::reader::{PartitionReader, Reading};
use crate::kafka::session::Asking;
use crate::retry;

/// Partitions that are read back at a time.
const AT_ONCE: usize = 8;

/// What an epoch of a front task holds of the exchange.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct FrontPlace {
    /// The generation that wrote it.
    pub(super) generation: u64,
    /// A hash of its steps in front of the exchange.
    pub(super) front: u64,
    /// By topic and partition.
    pub(super) ends: BTreeMap<String, Vec<End>>,
}

/// The last message to one partition.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct End {
    /// Its number.
    pub(super) number: u64,
    /// An offset that is not behind it; -1 if none is known.
    pub(super) offset: i64,
}

impl FrontPlace {
    pub(super) fn read(place: Option<&Value>) -> Result<Self, ConnectorError> {
        let Some(place) = place else { return Ok(Self::default()) };
        Self::deserialize(place).map_err(|error| {
            let message = format!("the checkpoint holds {place} as the place in the exchange, which this version cannot read");
            ConnectorError::new(ErrorReason::Corrupt, message).caused_by(error)
        })
    }

    /// The end of one partition; where nothing is known, before its beginning.
    pub(super) fn end(&self, topic: &str, partition: u16) -> End {
        let known = self.ends.get(topic).and_then(|ends| ends.get(usize::from(partition)));
        known.copied().unwrap_or(End { number: 0, offset: -1 })
    }
}

/// A message as far as it is looked at.
struct Seen {
    producer: String,
    stamp: Option<Stamp>,
    up_to: UpTo,
    front: Option<u64>,
}

type Headings = Arc<Mutex<VecDeque<Result<Seen, DecodeError>>>>;

/// Reads what stands in front of messages.
struct HeadingDecoder(Headings);

impl RecordDecoder for HeadingDecoder {
    fn decode(&mut self, payloads: &[&[u8]]) -> Decoded {
        let see = |bytes: &&[u8]| {
            let Heading { producer, stamp, up_to, front, .. } = codec::heading(bytes)?;
            Ok(Seen { producer, stamp, up_to, front })
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(payloads.iter().map(see));
        numbers(payloads)
    }
}

/// What the partitions have been given since `place`, up to the opening marker of the generation of `open`, which is there.
pub(super) async fn read_back(exchange: &KafkaExchange, open: &OpenSink, place: &FrontPlace) -> Result<Coverage, ConnectorError> {
    let mut coverage = Coverage::new(exchange.channels.len(), exchange.partitions());
    // Nobody has written before the first.
    if open.writer.generation <= 1 {
        return Ok(coverage);
    }
    let all = (0..exchange.channels.len()).flat_map(|channel| (0..exchange.partitions()).map(move |partition| (channel, partition)));
    let read = stream::iter(all).map(async |(channel, partition)| {
        let up_to = read_partition(exchange, open, place, channel, partition).await?;
        Ok::<_, ConnectorError>((channel, partition, up_to))
    });
    let found: Vec<_> = read.buffer_unordered(AT_ONCE).try_collect().await?;
    for (channel, partition, up_to) in found {
        coverage.add(channel, partition, &up_to);
    }
    Ok(coverage)
}

async fn read_partition(
    exchange: &KafkaExchange,
    open: &OpenSink,
    place: &FrontPlace,
    channel: usize,
    partition: u16,
) -> Result<UpTo, ConnectorError> {
    let topic = exchange.channels[channel].topic.clone();
    let end = place.end(&topic, partition);
    let access = &exchange.producing.access;
    let offset = if end.offset >= 0 {
        end.offset
    } else {
        let first = || async {
            let ends = access.cluster()?.ends(&topic, partition.into()).await;
            ends.map_err(|error| error.of(&format!("looking for the beginning of partition {topic}/{partition}")))
        };
        retry::until_done(&open.health, first).await?.0
    };
    let reading = Reading {
        partition: Partition { topic: topic.clone(), number: partition.into() },
        group: None,
        on_position_lost: OnPositionLost::Fail,
        if_lost: "which rows the exchange has been given is lost with it: create a Pipeline with another name, which reads its inputs again",
        access: access.clone(),
        // What was written in transactions has no numbers, and is not looked at.
        asking: Asking::new(IsolationLevel::ReadUncommitted, &exchange.limits, &exchange.readers),
        health: open.health.clone(),
    };
    let headings = Headings::default();
    let position = Position::at(offset);
    let mut reader = PartitionReader::open(reading, position, Box::new(HeadingDecoder(Arc::clone(&headings))))?;
    // Where nothing is known, everything there is counts from its own first marker on.
    let mut acceptance = if end.offset >= 0 { Acceptance::after(place.generation, end.number) } else { Acceptance::default() };
    let mut covered = UpTo::new();
    let (mut front, wanted) = (place.front, exchange.channels[channel].channel.front);
    loop {
        let SourceEvent::Records(_) = reader.next().await? else {
            return Err(ConnectorError::new(ErrorReason::Internal, format!("reading {topic}/{partition} has ended")));
        };
        for seen in headings.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let seen =
                seen.map_err(|error| ConnectorError::new(ErrorReason::Corrupt, format!("partition {topic}/{partition}: {error}")))?;
            let Some(stamp) = seen.stamp.filter(|_| seen.producer == open.writer.task) else { continue };
            if stamp == (Stamp { generation: open.writer.generation, number: 0 }) {
                return Ok(covered);
            }
            let verdict = acceptance.judge(stamp.generation, stamp.number);
            if verdict == Verdict::Opened {
                front = seen.front.unwrap_or(front);
            }
            if verdict == Verdict::Taken {
                if front != wanted && !seen.up_to.is_empty() {
                    let message = format!(
                        "the steps in front of the exchange have changed, and since its last epoch this task has sent rows of the steps before to {topic}/{partition}: \
                         they would be counted in both forms, or in none. Take the change back until the task has run and closed an epoch, then make it again"
                    );
                    return Err(ConnectorError::new(ErrorReason::Invalid, message));
                }
                advance(&mut covered, &seen.up_to);
            }
        }
    }
}
