//! Writes the rows of one front task to the partitions of their keys, and at the end of each epoch how far time has come. It never gives up on a row by itself.

use std::sync::Arc;

use async_trait::async_trait;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::stages::partition_rows;
use millrace_engine::row_kind::RowKind;
use millrace_engine::sink::{Prepared, SinkWriter};
use millrace_engine::time::Time;

use super::codec::{self, ProducerTime};
use super::{ExchangeChannel, KafkaExchange};
use crate::kafka::flight::{Flight, now_millis};
use crate::kafka::produce::{Refused, Target};
use crate::kafka::records::NewRecord;
use crate::kafka::wire::error::Error;

/// Bytes of a message, if it has several rows.
const PIECE_BYTES: usize = 512 << 10;

/// Writes all channels of one front task.
pub(super) struct ExchangeWriter {
    channels: Vec<Arc<ExchangeChannel>>,
    partitions: u16,
    flight: Flight,
    /// Stands for messages on their way; what rows are known by is in the messages.
    origin: Origin,
    sent: u64,
    /// How far time has come, by channel.
    times: Vec<ProducerTime>,
    /// The same as it was written last.
    written: Vec<ProducerTime>,
}

impl ExchangeWriter {
    pub(super) fn new(exchange: &KafkaExchange, flight: Flight) -> Self {
        let nothing = vec![ProducerTime::default(); exchange.channels.len()];
        Self {
            channels: exchange.channels.clone(),
            partitions: exchange.partitions(),
            flight,
            origin: Origin::new("exchange", "exchange"),
            sent: 0,
            times: nothing.clone(),
            written: nothing,
        }
    }

    fn channel(&self, channel: usize) -> Result<Arc<ExchangeChannel>, ConnectorError> {
        let found = self.channels.get(channel).cloned();
        found.ok_or_else(|| ConnectorError::new(ErrorReason::Internal, format!("the exchange has no channel {channel}")))
    }

    async fn begin(&self) -> Result<(), ConnectorError> {
        match &self.flight.transaction {
            Some(transaction) => transaction.begin().await,
            None => Err(ConnectorError::new(ErrorReason::Internal, "an exchange is written in transactions")),
        }
    }

    /// Sends a message, and waits while there is too much on its way.
    async fn send(&mut self, topic: usize, partition: u16, message: &[u8]) -> Result<(), ConnectorError> {
        let producer = &self.flight.producer;
        let partitions = producer.partitions(topic).await?;
        if usize::from(partition) >= partitions {
            let message =
                format!("topic {} of the exchange has {partitions} partitions now, not {}", self.channels[topic].topic, self.partitions);
            return Err(ConnectorError::new(ErrorReason::Invalid, message));
        }
        self.sent += 1;
        let record = NewRecord { timestamp: now_millis(), key: None, value: Some(message), header: None };
        producer.append(topic, &self.origin).append(Target::Partition(partition.into()), &record, self.sent);
        producer.room().await
    }

    /// Sends rows, in as many messages as it takes.
    async fn send_rows(&mut self, topic: usize, channel: &ExchangeChannel, partition: u16, batch: Batch) -> Result<(), ConnectorError> {
        let producer = self.flight.writer.task.clone();
        let mut pieces = vec![batch];
        while let Some(batch) = pieces.pop() {
            let message = codec::encode_rows(&channel.layout, &producer, &batch).map_err(|error| {
                ConnectorError::new(ErrorReason::Internal, format!("rows cannot be written to {}: {error}", channel.topic)).caused_by(error)
            })?;
            let rows = batch.num_rows();
            if message.len() <= PIECE_BYTES || rows < 2 {
                self.send(topic, partition, &message).await?;
                continue;
            }
            // The two halves of a replacement stay together where they can.
            let half = if rows > 2 && batch.kind(rows / 2) == RowKind::UpdateAfter { rows / 2 + 1 } else { rows / 2 };
            pieces.push(slice(&batch, half, rows - half));
            pieces.push(slice(&batch, 0, half));
        }
        Ok(())
    }
}

fn slice(batch: &Batch, offset: usize, length: usize) -> Batch {
    Batch {
        records: batch.records.slice(offset, length),
        origin: batch.origin.clone(),
        ordinals: batch.ordinals.slice(offset, length),
        branch: batch.branch,
        kinds: batch.kinds.as_ref().map(|kinds| kinds.slice(offset, length)),
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
        let topic = channel;
        let channel = self.channel(channel)?;
        self.begin().await?;
        let parts = partition_rows(&batch, &channel.channel.key, self.partitions).map_err(|error| {
            ConnectorError::new(ErrorReason::Internal, format!("rows cannot be spread over {}: {error}", channel.topic)).caused_by(error)
        })?;
        for (partition, part) in parts {
            self.send_rows(topic, &channel, partition, part).await?;
        }
        Ok(())
    }

    async fn time(&mut self, channel: usize, time: Time) -> Result<(), ConnectorError> {
        let _exists = self.channel(channel)?;
        let known = &mut self.times[channel];
        match time {
            Time::Watermark(watermark) => (known.watermark, known.idle) = (known.watermark.max(Some(watermark)), false),
            Time::Idle => known.idle = true,
            Time::End => known.ended = true,
        }
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        // Nobody sees anything of the epoch before its end, so time is told once, behind all rows.
        for channel in 0..self.channels.len() {
            if self.times[channel] == self.written[channel] {
                continue;
            }
            self.begin().await?;
            let message = codec::encode_time(&self.flight.writer.task, self.times[channel]);
            for partition in 0..self.partitions {
                self.send(channel, partition, &message).await?;
            }
            self.written[channel] = self.times[channel];
        }
        self.flight.producer.settle(0).await?;
        if let Some(refused) = self.flight.producer.take_refused().first() {
            return Err(too_large(&self.flight.producing.target, refused));
        }
        Ok(Prepared { committables: self.flight.prepare(epoch).await?, rejected: Vec::new() })
    }

    async fn close(&mut self) {
        self.flight.close().await;
    }
}
