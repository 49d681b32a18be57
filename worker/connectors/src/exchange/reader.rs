//! Reads one partition of a channel: rows of many producers, and the time that follows from what all of them say. It goes nowhere but where its position says,
//! and passes over nothing that it cannot read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::Schema;
use async_trait::async_trait;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Batch;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::exchange::Verdict;
use millrace_engine::source::{Lag, Records, SourceEvent, SplitReader};
use millrace_engine::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Upstream;
use super::codec::{self, DecodeError, Layout, Message, Stamp};
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
    /// How many batches of the next message have been taken already.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub(super) taken: usize,
    /// What each producer has said up to here.
    pub(super) producers: BTreeMap<K, Kept>,
}

/// A message and who wrote it.
struct Said {
    producer: String,
    stamp: Option<Stamp>,
    message: Message,
}

/// What the decoder of the partition puts here for the reader to take.
type Decodings = Arc<Mutex<VecDeque<(Result<Said, DecodeError>, u64)>>>;

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
        let say = |bytes: &[u8]| {
            let heading = codec::heading(bytes)?;
            let (producer, stamp) = (heading.producer.clone(), heading.stamp);
            Ok(Said { producer, stamp, message: codec::decode(&self.layout, heading)? })
        };
        let decoded = payloads.iter().map(|bytes| (say(bytes), bytes.len() as u64));
        self.decodings.lock().unwrap_or_else(PoisonError::into_inner).extend(decoded);
        numbers(payloads)
    }
}

/// Records without columns: nothing but their numbers.
pub(super) fn numbers(payloads: &[&[u8]]) -> Decoded {
    let options = RecordBatchOptions::new().with_row_count(Some(payloads.len()));
    Decoded {
        records: RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).expect("no column has another length"),
        ordinals: UInt64Array::from_iter_values(0..payloads.len() as u64),
        rejected: Vec::new(),
        bytes: payloads.iter().map(|bytes| bytes.len() as u64).sum(),
        kinds: None,
    }
}

/// Who is expected to write, as last heard.
type Expected = Option<Arc<BTreeSet<String>>>;

/// A message that was read and not returned yet.
struct Waiting {
    offset: u64,
    bytes: u64,
    message: Result<Said, DecodeError>,
}

/// A message of which some batches are taken.
#[derive(Default)]
struct Open {
    offset: u64,
    taken: usize,
    batches: VecDeque<Batch>,
}

/// A reader of one partition of a channel.
pub(super) struct ExchangeReader {
    partition: Partition,
    reader: PartitionReader,
    decodings: Decodings,
    waiting: VecDeque<Waiting>,
    open: Option<Open>,
    /// How many batches of the first message were taken before the task was opened.
    skipped: usize,
    producers: Producers,
    health: Health,
    /// Producers of which messages are missing, and the first that is behind those.
    holes: BTreeMap<String, u64>,
    /// Messages that do not count because a zombie wrote them.
    zombies: u64,
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
        (kept, skipped): (BTreeMap<String, Kept>, usize),
        timed: bool,
        health: Health,
        (directory, upstreams): (Arc<Directory>, Arc<[Upstream]>),
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
            open: None,
            skipped,
            health,
            holes: BTreeMap::new(),
            zombies: 0,
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
        let Said { producer, stamp, message } = message.map_err(|error| {
            let reason = if matches!(error, DecodeError::Layout) { ErrorReason::Invalid } else { ErrorReason::Corrupt };
            ConnectorError::new(reason, format!("partition {}, offset {offset}: {error}", self.partition))
        })?;
        let taken = std::mem::take(&mut self.skipped);
        // What is taken in part has been judged.
        let verdict = if taken > 0 { Verdict::Taken } else { self.producers.judge(&producer, stamp) };
        match verdict {
            Verdict::Taken | Verdict::Opened => {}
            Verdict::Again => return Ok(None),
            Verdict::Zombie => {
                self.zombies += 1;
                tracing::debug!(partition = %self.partition, offset, producer, zombies = self.zombies, "a task that was replaced has written on; it is not read");
                return Ok(None);
            }
            Verdict::Hole => {
                self.missed(producer, offset);
                return Ok(None);
            }
        }
        if self.holes.remove(&producer).is_some() && self.holes.is_empty() {
            self.health.clear();
        }
        match message {
            Message::Opening => Ok(None),
            Message::Time(time) => {
                self.producers.told(producer, time);
                Ok(None)
            }
            Message::Rows(batches) => {
                self.producers.wrote(producer);
                self.open = Some(Open { offset, taken, batches: batches.into_iter().skip(taken).collect() });
                Ok(self.next_batch(bytes))
            }
        }
    }

    /// The next batch of the message that is taken in part.
    fn next_batch(&mut self, bytes: u64) -> Option<SourceEvent> {
        let open = self.open.as_mut()?;
        let batch = open.batches.pop_front();
        open.taken += 1;
        if open.batches.is_empty() {
            self.open = None;
        }
        Some(SourceEvent::Records(Records { batch: Some(batch?), rejected: Vec::new(), bytes }))
    }

    /// Messages are missing. Of a task that failed over one that was refused, its next owner writes them again, under another generation.
    fn missed(&mut self, producer: String, offset: u64) {
        if !self.holes.contains_key(&producer) {
            tracing::warn!(partition = %self.partition, offset, producer, "messages of a task are missing");
            self.holes.insert(producer, offset);
        }
    }

    /// Tells of what is missing, for as long as it is: who reads the partition clears the trouble with each answer.
    fn tell_of_holes(&self) {
        let Some((producer, offset)) = self.holes.first_key_value().filter(|_| self.health.current().is_none()) else { return };
        let message = format!(
            "partition {}, offset {offset}: messages of task {producer} before it are missing, so what it writes waits until the task is opened again; if that does \
             not help, the topic has lost them",
            self.partition
        );
        self.health.trouble(ErrorReason::DataLost, message);
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
            self.tell_of_holes();
            if let Some(event) = self.next_batch(0) {
                return Ok(event);
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
        // One that is taken in part is the next one still, also where the task was opened with it and it has not come yet.
        let taken = self.open.as_ref().map_or(self.skipped, |open| open.taken);
        if let Some(first) = self.open.as_ref().map(|open| open.offset).or_else(|| self.waiting.front().map(|waiting| waiting.offset)) {
            position.offset = i64::try_from(first).ok();
        }
        serde_json::to_value(Place { position, taken, producers: self.producers.kept() }).unwrap_or_default()
    }

    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError> {
        self.reader.acknowledge(position).await
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn lag(&self) -> Lag {
        let lag = self.reader.lag();
        let waiting = (self.waiting.len() + usize::from(self.open.is_some())) as u64;
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
