//! Writes the rows of one front task to the partitions of their keys, numbered, and how far time has come. It never gives up on a row by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::ConnectorError;
use millrace_engine::exchange::UpTo;
use millrace_engine::plan::stages::partition_rows;
use millrace_engine::sink::{Prepared, SinkWriter};
use millrace_engine::time::Time;
use tokio::time::Instant;

use super::codec::{self, ProducerTime, Stamp};
use super::place::{End, FrontPlace};
use super::{ExchangeChannel, KafkaExchange, MESSAGE_BYTES};
use crate::kafka::flight::{Flight, now_millis};
use crate::kafka::produce::{Refused, Target};
use crate::kafka::records::NewRecord;
use crate::kafka::wire::error::Error;

/// Between two messages of time, unless it is a pause or the end that is told; for each partition, because each has one.
const TIME_EVERY: Duration = Duration::from_millis(2);
/// The same for all of them at least.
const TIME_AT_LEAST: Duration = Duration::from_millis(20);
/// Time is told again after so long, with an epoch: where the exchange ended must not be older than what its topics keep.
const TIME_AGAIN: Duration = Duration::from_hours(12);

/// Writes all channels of one front task.
pub(super) struct ExchangeWriter {
    partitions: u16,
    flight: Flight,
    /// Stands for messages on their way; what rows are known by is in the messages.
    origin: Origin,
    sent: u64,
    channels: Vec<Writing>,
}

/// One channel.
struct Writing {
    channel: Arc<ExchangeChannel>,
    /// What is to go into the next message of each partition.
    group: BTreeMap<u16, Vec<Batch>>,
    /// By partition, the number of the last message, and an offset that is not behind it.
    ends: Vec<End>,
    /// How far time has come.
    time: ProducerTime,
    /// The same as it was written last, and when; at first, when the writer was opened.
    written: ProducerTime,
    written_at: Instant,
}

impl Writing {
    /// Whether a time is to be written that cannot wait.
    fn is_urgent(&self) -> bool {
        (self.time.idle, self.time.ended) != (self.written.idle, self.written.ended)
    }

    fn due(&self) -> Option<Instant> {
        let pause = TIME_AT_LEAST.max(TIME_EVERY * self.ends.len() as u32);
        (self.time != self.written).then(|| self.written_at + pause)
    }
}

impl ExchangeWriter {
    /// Writes as a new generation: what older ones write from now on does not count. `place`: of the last epoch.
    pub(super) async fn open(exchange: &KafkaExchange, flight: Flight, place: &FrontPlace) -> Result<Self, ConnectorError> {
        let partitions = exchange.partitions();
        let channels = exchange.channels.iter().map(|channel| Writing {
            channel: Arc::clone(channel),
            group: BTreeMap::new(),
            ends: (0..partitions).map(|partition| End { number: 0, offset: place.end(&channel.topic, partition).offset }).collect(),
            time: ProducerTime::default(),
            written: ProducerTime::default(),
            written_at: Instant::now(),
        });
        let channels = channels.collect();
        let mut writer = Self { partitions, flight, origin: Origin::new("exchange", "exchange"), sent: 0, channels };
        for topic in 0..writer.channels.len() {
            let front = writer.channels[topic].channel.channel.front;
            let marker = codec::encode_opening(&writer.flight.writer.task, writer.flight.writer.generation, front);
            for partition in 0..partitions {
                writer.append(topic, partition, &marker).await?;
            }
        }
        writer.settle().await?;
        Ok(writer)
    }

    fn channel(&mut self, channel: usize) -> Result<&mut Writing, ConnectorError> {
        let found = self.channels.get_mut(channel);
        found.ok_or_else(|| ConnectorError::new(ErrorReason::Internal, format!("the exchange has no channel {channel}")))
    }

    /// The stamp of the next message.
    fn stamp(&mut self, channel: usize, partition: u16) -> Stamp {
        let end = &mut self.channels[channel].ends[usize::from(partition)];
        end.number += 1;
        Stamp { generation: self.flight.writer.generation, number: end.number }
    }

    /// Sends a message, and waits while there is too much on its way.
    async fn append(&mut self, topic: usize, partition: u16, message: &[u8]) -> Result<(), ConnectorError> {
        let producer = &self.flight.producer;
        let partitions = producer.partitions(topic).await?;
        let name = &self.channels[topic].channel.topic;
        if usize::from(partition) >= partitions {
            let message = format!("topic {name} of the exchange has {partitions} partitions now, not {}", self.partitions);
            return Err(ConnectorError::new(ErrorReason::Invalid, message));
        }
        if message.len() > MESSAGE_BYTES {
            let message = format!(
                "rows for topic {name} of the exchange that have to be one message take {} bytes, and it can have {MESSAGE_BYTES}: leave columns or rows out before",
                message.len()
            );
            return Err(ConnectorError::new(ErrorReason::PoisonRecord, message));
        }
        self.sent += 1;
        let record = NewRecord { timestamp: now_millis(), key: None, value: Some(message), header: None };
        producer.append(topic, &self.origin).append(Target::Partition(partition.into()), &record, self.sent);
        producer.room().await?;
        // What follows it does not count where it is read; so no more is written.
        self.look_at_refused()
    }

    fn look_at_refused(&self) -> Result<(), ConnectorError> {
        match self.flight.producer.take_refused().first() {
            Some(refused) => Err(too_large(&self.flight.producing.target, refused)),
            None => Ok(()),
        }
    }

    /// Waits until everything is acknowledged, and notes where that was.
    async fn settle(&mut self) -> Result<(), ConnectorError> {
        self.flight.producer.settle(0).await?;
        self.look_at_refused()?;
        for (topic, writing) in self.channels.iter_mut().enumerate() {
            for (end, offset) in writing.ends.iter_mut().zip(self.flight.producer.offsets(topic)) {
                end.offset = end.offset.max(offset);
            }
        }
        Ok(())
    }

    /// Writes how far time has come on a channel.
    async fn tell(&mut self, channel: usize) -> Result<(), ConnectorError> {
        let writing = self.channel(channel)?;
        if !writing.group.is_empty() {
            let message = format!("time was told on channel {channel} of the exchange between rows that belong together");
            return Err(ConnectorError::new(ErrorReason::Internal, message));
        }
        let time = writing.time;
        (writing.written, writing.written_at) = (time, Instant::now());
        for partition in 0..self.partitions {
            let stamp = self.stamp(channel, partition);
            let message = codec::encode_time(&self.flight.writer.task, stamp, time);
            self.append(channel, partition, &message).await?;
        }
        Ok(())
    }
}

fn too_large(target: &str, refused: &Refused) -> ConnectorError {
    let said = Error::Refused { code: refused.code, detail: String::new() };
    let message = format!(
        "a topic of {target} refuses a message of {} bytes ({said}): leave such rows out, or let the topic take them (max.message.bytes)",
        refused.value.as_ref().map_or(0, Vec::len),
    );
    ConnectorError::new(ErrorReason::PoisonRecord, message)
}

#[async_trait]
impl SinkWriter for ExchangeWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        self.write_to(0, batch).await
    }

    async fn write_to(&mut self, channel: usize, batch: Batch) -> Result<(), ConnectorError> {
        let partitions = self.partitions;
        let writing = self.channel(channel)?;
        let ExchangeChannel { channel, topic, .. } = writing.channel.as_ref();
        let parts = partition_rows(&batch, &channel.key, partitions).map_err(|error| {
            ConnectorError::new(ErrorReason::Internal, format!("rows cannot be spread over {topic}: {error}")).caused_by(error)
        })?;
        for (partition, part) in parts {
            writing.group.entry(partition).or_default().push(part);
        }
        Ok(())
    }

    async fn up_to(&mut self, channel: usize, up_to: UpTo) -> Result<(), ConnectorError> {
        let group = std::mem::take(&mut self.channel(channel)?.group);
        for (partition, batches) in group {
            let stamp = self.stamp(channel, partition);
            let ExchangeChannel { layout, topic, .. } = self.channels[channel].channel.as_ref();
            let message = codec::encode_rows(layout, &self.flight.writer.task, stamp, &up_to, &batches).map_err(|error| {
                ConnectorError::new(ErrorReason::Internal, format!("rows cannot be written to {topic}: {error}")).caused_by(error)
            })?;
            self.append(channel, partition, &message).await?;
        }
        Ok(())
    }

    async fn time(&mut self, channel: usize, time: Time) -> Result<(), ConnectorError> {
        let writing = self.channel(channel)?;
        let known = &mut writing.time;
        match time {
            Time::Watermark(watermark) => (known.watermark, known.idle) = (known.watermark.max(Some(watermark)), false),
            Time::Idle => known.idle = true,
            Time::End => known.ended = true,
        }
        if writing.is_urgent() { self.tell(channel).await } else { Ok(()) }
    }

    fn due(&self) -> Option<Instant> {
        self.channels.iter().filter(|writing| writing.group.is_empty()).filter_map(Writing::due).min()
    }

    async fn act(&mut self) -> Result<(), ConnectorError> {
        let now = Instant::now();
        for channel in 0..self.channels.len() {
            let writing = &self.channels[channel];
            if writing.group.is_empty() && writing.due().is_some_and(|due| due <= now) {
                self.tell(channel).await?;
            }
        }
        Ok(())
    }

    async fn prepare(&mut self, _epoch: u64) -> Result<Prepared, ConnectorError> {
        for channel in 0..self.channels.len() {
            let writing = &self.channels[channel];
            if writing.time != writing.written || writing.written_at.elapsed() >= TIME_AGAIN {
                self.tell(channel).await?;
            }
        }
        self.settle().await?;
        let ends = self.channels.iter().map(|writing| (writing.channel.topic.clone(), writing.ends.clone())).collect();
        let front = self.channels.first().map_or(0, |writing| writing.channel.channel.front);
        let place = FrontPlace { generation: self.flight.writer.generation, front, ends };
        let unwritable = |error| ConnectorError::new(ErrorReason::Internal, "a place cannot be written as JSON").caused_by(error);
        Ok(Prepared { committables: vec![serde_json::to_value(place).map_err(unwritable)?], rejected: Vec::new() })
    }

    async fn close(&mut self) {
        self.flight.close().await;
    }
}
