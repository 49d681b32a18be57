//! Reads one partition of a channel: rows of many producers, and the time that follows from what all of them say. It goes nowhere but where its position says,
//! and passes over nothing that it cannot read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::Schema;
use async_trait::async_trait;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{Lag, Records, SourceEvent, SplitReader};
use millrace_engine::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Upstream;
use super::codec::{self, DecodeError, Layout, Message};
use super::producers::{Directory, Kept, LOOK_EVERY, Merged, Producers};
use crate::formats::{Decoded, RecordDecoder};
use crate::kafka::position::{Partition, Position};
use crate::kafka::reader::PartitionReader;

/// Pause before the inputs are asked again after that failed.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a checkpoint holds of one partition.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Place<K: Ord> {
    #[serde(flatten)]
    pub(super) position: Position,
    /// What each producer has said up to here.
    pub(super) producers: BTreeMap<K, Kept>,
}

/// What the decoder of the partition puts here for the reader to take.
type Decodings = Arc<Mutex<VecDeque<(Result<(String, Message), DecodeError>, u64)>>>;

/// Decodes messages where they are, in what a broker sent. What it returns are only their numbers.
pub(super) struct MessageDecoder {
    layout: Layout,
    decodings: Decodings,
}

impl MessageDecoder {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, decodings: Decodings::default() }
    }
}

impl RecordDecoder for MessageDecoder {
    fn decode(&mut self, payloads: &[&[u8]]) -> Decoded {
        let decoded = payloads.iter().map(|bytes| (codec::decode(&self.layout, bytes), bytes.len() as u64));
        self.decodings.lock().unwrap_or_else(PoisonError::into_inner).extend(decoded);
        let options = RecordBatchOptions::new().with_row_count(Some(payloads.len()));
        Decoded {
            records: RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
                .expect("no column has another length"),
            ordinals: UInt64Array::from_iter_values(0..payloads.len() as u64),
            rejected: Vec::new(),
            bytes: payloads.iter().map(|bytes| bytes.len() as u64).sum(),
            kinds: None,
        }
    }
}

/// Who is expected to write, as last heard.
type Expected = Option<Arc<BTreeSet<String>>>;

/// A message that was read and not returned yet.
struct Waiting {
    offset: u64,
    bytes: u64,
    message: Result<(String, Message), DecodeError>,
}

/// A reader of one partition of a channel.
pub(super) struct ExchangeReader {
    partition: Partition,
    reader: PartitionReader,
    decodings: Decodings,
    waiting: VecDeque<Waiting>,
    producers: Producers,
    expected: watch::Receiver<Expected>,
    /// Whether times are told; else only the end is.
    timed: bool,
    told: Told,
    draining: bool,
    _asking: AbortOnDropHandle<()>,
}

/// What was told of time.
#[derive(Debug, Default)]
struct Told {
    watermark: Option<i64>,
    idle: bool,
    ended: bool,
}

impl Told {
    /// What is to be told now.
    fn next(&mut self, merged: Merged, timed: bool) -> Option<Time> {
        match merged {
            Merged::Ended => (!std::mem::replace(&mut self.ended, true)).then_some(Time::End),
            _ if !timed => None,
            Merged::Unknown => {
                self.idle = false;
                None
            }
            Merged::Idle => (!std::mem::replace(&mut self.idle, true)).then_some(Time::Idle),
            Merged::At(watermark) => {
                let woke = std::mem::replace(&mut self.idle, false);
                let before = self.watermark;
                self.watermark = before.max(Some(watermark));
                if woke || before < self.watermark { self.watermark.map(Time::Watermark) } else { None }
            }
        }
    }
}

impl ExchangeReader {
    /// `decoder` is that of `reader`.
    #[expect(clippy::disallowed_methods, reason = "the handle aborts on drop")]
    pub(super) fn open(
        partition: Partition,
        kept: BTreeMap<String, Kept>,
        timed: bool,
        directory: Arc<Directory>,
        upstreams: Arc<[Upstream]>,
        decoder: MessageDecoder,
        reader: impl FnOnce(Box<dyn RecordDecoder>) -> Result<PartitionReader, ConnectorError>,
    ) -> Result<Self, ConnectorError> {
        let decodings = Arc::clone(&decoder.decodings);
        let (sender, expected) = watch::channel(None);
        Ok(Self {
            partition,
            reader: reader(Box::new(decoder))?,
            decodings,
            waiting: VecDeque::new(),
            producers: Producers::restored(kept),
            expected,
            timed,
            told: Told::default(),
            draining: false,
            _asking: AbortOnDropHandle::new(tokio::spawn(ask(directory, upstreams, sender))),
        })
    }

    /// Takes what the partition's reader has delivered: the numbers of records in `records` are offsets.
    fn take(&mut self, records: &Records) {
        let Some(batch) = &records.batch else { return };
        let mut decodings = self.decodings.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = batch.ordinals.values().iter().zip(decodings.drain(..));
        self.waiting.extend(taken.map(|(offset, (message, bytes))| Waiting { offset: *offset, bytes, message }));
    }

    /// The next message that was read, as an event if it is one.
    fn deliver(&mut self, Waiting { offset, bytes, message }: Waiting) -> Result<Option<SourceEvent>, ConnectorError> {
        let (producer, message) = message.map_err(|error| {
            let reason = if matches!(error, DecodeError::Layout) { ErrorReason::Invalid } else { ErrorReason::Corrupt };
            ConnectorError::new(reason, format!("partition {}, offset {offset}: {error}", self.partition))
        })?;
        match message {
            Message::Time(time) => {
                self.producers.told(producer, time);
                Ok(None)
            }
            Message::Rows(batch) => {
                self.producers.wrote(producer);
                Ok(Some(SourceEvent::Records(Records { batch: Some(batch), rejected: Vec::new(), bytes })))
            }
        }
    }
}

#[async_trait]
impl SplitReader for ExchangeReader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        loop {
            if self.expected.has_changed().unwrap_or(false)
                && let Some(expected) = self.expected.borrow_and_update().clone()
            {
                self.producers.expect(expected);
            }
            if let Some(time) = self.told.next(self.producers.merged(), self.timed) {
                return Ok(SourceEvent::Time(time));
            }
            if let Some(waiting) = self.waiting.pop_front() {
                if let Some(event) = self.deliver(waiting)? {
                    return Ok(event);
                }
                continue;
            }
            // What has been written is in flight, so it is finished; what is written from now on is for another time.
            if self.draining && self.reader.lag().idle {
                return Ok(SourceEvent::End);
            }
            let read = tokio::select! {
                biased;
                changed = self.expected.changed() => {
                    if changed.is_err() {
                        return Err(ConnectorError::new(ErrorReason::Internal, "nobody asks the inputs for their splits any more"));
                    }
                    self.expected.mark_changed();
                    continue;
                }
                read = self.reader.next() => read?,
            };
            match read {
                SourceEvent::Records(records) => {
                    self.take(&records);
                    // Nothing came, but the end was reached: whoever reads looks at the lag again.
                    if self.waiting.is_empty() {
                        return Ok(SourceEvent::Records(Records::default()));
                    }
                }
                other => return Ok(other),
            }
        }
    }

    fn position(&self) -> Value {
        let mut position = self.reader.place().clone();
        if let Some(first) = self.waiting.front() {
            position.offset = i64::try_from(first.offset).ok();
        }
        serde_json::to_value(Place { position, producers: self.producers.kept() }).unwrap_or_default()
    }

    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError> {
        self.reader.acknowledge(position).await
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn lag(&self) -> Lag {
        let lag = self.reader.lag();
        let waiting = self.waiting.len() as u64;
        Lag { records: lag.records.map(|records| records.saturating_add(waiting)), idle: lag.idle && waiting == 0, ..lag }
    }

    async fn close(&mut self) {
        self.reader.close().await;
    }
}

/// Asks the inputs again and again which splits they have.
async fn ask(directory: Arc<Directory>, upstreams: Arc<[Upstream]>, sender: watch::Sender<Expected>) {
    loop {
        let pause = match directory.expected(&upstreams).await {
            Ok(expected) => {
                sender.send_replace(Some(Arc::new(expected)));
                LOOK_EVERY
            }
            // The probe tells users; what was heard before still holds.
            Err(error) => {
                tracing::warn!(reason = ?error.reason, error = %error.message, "cannot find out who writes to the exchange");
                ASK_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}
