//! Takes records out of a client's queue and decodes them where they are. It never waits and copies no value.

use futures::{FutureExt as _, StreamExt as _};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::events::Events;
use crate::formats::{Decoded, RecordDecoder};

/// Records of one batch at most.
const BATCH_RECORDS: usize = 8192;
/// Bytes of values of one batch, more or less.
const BATCH_BYTES: usize = 1 << 20;

/// The client of a reader.
pub(crate) type Consumer = StreamConsumer<Events>;

/// Records that were waiting, in the client's memory.
pub(crate) struct Drained<'a> {
    first: BorrowedMessage<'a>,
    more: Vec<BorrowedMessage<'a>>,
    /// Of the topic that they are records of, as far as the client knows.
    topic_id: Option<String>,
    behind: Option<KafkaError>,
}

/// What became of them, without the client's memory.
pub(crate) struct Taken {
    pub(crate) decoded: Decoded,
    /// Offset of each value that was decoded.
    pub(crate) offsets: Vec<u64>,
    pub(crate) last_offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) topic_id: Option<String>,
    pub(crate) behind: Option<KafkaError>,
}

impl<'a> Drained<'a> {
    /// Takes what is waiting behind `first`, without waiting.
    pub(crate) fn take(consumer: &'a Consumer, first: BorrowedMessage<'a>) -> Self {
        let events = consumer.context();
        let changes = events.topic_changes();
        let mut drained = Self { topic_id: events.topic_id(), first, more: Vec::new(), behind: None };
        let mut bytes = drained.first.payload_len();
        let mut waiting = consumer.stream();
        while drained.more.len() + 1 < BATCH_RECORDS && bytes < BATCH_BYTES {
            match waiting.next().now_or_never().flatten() {
                None => break,
                Some(Err(error)) => {
                    drained.behind = Some(error);
                    break;
                }
                // The first record of another topic of the same name. It is left out here and will be read again from there, if at all.
                Some(Ok(_)) if events.topic_changes() != changes => break,
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    drained.more.push(message);
                }
            }
        }
        drained
    }

    pub(crate) fn decode(self, decoder: &mut dyn RecordDecoder) -> Taken {
        let last = self.more.last().unwrap_or(&self.first);
        let all = std::iter::once(&self.first).chain(&self.more);
        let (offsets, values): (Vec<u64>, Vec<&[u8]>) =
            all.filter_map(|message| Some((message.offset().unsigned_abs(), message.payload()?))).unzip();
        Taken {
            decoded: decoder.decode(&values),
            offsets,
            last_offset: last.offset(),
            timestamp: last.timestamp().to_millis(),
            topic_id: self.topic_id,
            behind: self.behind,
        }
    }
}
