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
use rdkafka::producer::Producer as _;

use super::codec::{self, ProducerTime};
use super::{ExchangeChannel, KafkaExchange};
use crate::kafka::deliveries::{Refused, Sent};
use crate::kafka::flight::{Flight, OVERHEAD, Outbound};

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

    /// Sends a message, once there is room.
    async fn send(&mut self, topic: &str, partition: u16, message: &[u8]) -> Result<(), ConnectorError> {
        self.sent += 1;
        let sent = Sent { origin: self.origin.clone(), branch: 0, ordinal: self.sent, bytes: message.len() + OVERHEAD };
        let record = Outbound { topic, partition: Some(partition.into()), key: None, value: Some(message), coordinate: None };
        match self.flight.send(self.flight.producer()?, record, sent).await? {
            None => Ok(()),
            Some(refused) => Err(too_large(topic, &refused)),
        }
    }

    /// Sends rows, in as many messages as it takes.
    async fn send_rows(&mut self, channel: &ExchangeChannel, partition: u16, batch: Batch) -> Result<(), ConnectorError> {
        let producer = self.flight.writer.task.clone();
        let mut pieces = vec![batch];
        while let Some(batch) = pieces.pop() {
            let message = codec::encode_rows(&channel.layout, &producer, &batch).map_err(|error| {
                ConnectorError::new(ErrorReason::Internal, format!("rows cannot be written to {}: {error}", channel.topic)).caused_by(error)
            })?;
            let rows = batch.num_rows();
            if message.len() <= PIECE_BYTES || rows < 2 {
                self.send(&channel.topic, partition, &message).await?;
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

fn too_large(topic: &str, refused: &Refused) -> ConnectorError {
    let message = format!(
        "topic {topic} of the exchange refuses a message of {} bytes ({}): leave such rows out, or let the topic take them (max.message.bytes)",
        refused.value.as_ref().map_or(0, Vec::len),
        refused.code
    );
    ConnectorError::new(ErrorReason::PoisonRecord, message)
}

#[async_trait]
impl SinkWriter for ExchangeWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        self.write_to(0, batch).await
    }

    async fn write_to(&mut self, channel: usize, batch: Batch) -> Result<(), ConnectorError> {
        let channel = self.channel(channel)?;
        self.begin().await?;
        let parts = partition_rows(&batch, &channel.channel.key, self.partitions).map_err(|error| {
            ConnectorError::new(ErrorReason::Internal, format!("rows cannot be spread over {}: {error}", channel.topic)).caused_by(error)
        })?;
        for (partition, part) in parts {
            self.send_rows(&channel, partition, part).await?;
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
            let topic = self.channels[channel].topic.clone();
            let message = codec::encode_time(&self.flight.writer.task, self.times[channel]);
            for partition in 0..self.partitions {
                self.send(&topic, partition, &message).await?;
            }
            self.written[channel] = self.times[channel];
        }
        let producer = self.flight.producer()?;
        self.flight.settle(producer, 0).await?;
        if let Some(refused) = producer.client().context().take_refused().first() {
            return Err(too_large(&self.flight.producing.target, refused));
        }
        Ok(Prepared { committables: self.flight.prepare(epoch).await?, rejected: Vec::new() })
    }

    async fn close(&mut self) {
        self.flight.close().await;
    }
}
