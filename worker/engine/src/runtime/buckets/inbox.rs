//! What has arrived for a bucket that is not in memory, in order. It runs nothing.

use std::collections::{BTreeSet, VecDeque};

use arrow::error::ArrowError;

use super::times::Times;
use crate::batch::Batch;
use crate::operators::Message;
use crate::plan::stages::pick;

/// Bytes that a message takes that is no rows.
const MESSAGE: usize = 64;

/// Bytes of messages for which alone no bucket is loaded.
const FEW: usize = 64 * MESSAGE;

/// Something that has arrived.
pub(super) struct Item {
    /// The input of the task that it is of.
    pub(super) input: usize,
    pub(super) channel: usize,
    pub(super) message: Message,
    /// The records that rows were made of.
    pub(super) source: Option<Batch>,
}

/// Messages that wait, and what the operators will know of time when they have got them.
pub(super) struct Inbox {
    items: VecDeque<Item>,
    bytes: usize,
    rows: usize,
    /// Whether a way has paused for the first time, and an operator may wait for that, or ended.
    pressing: bool,
    /// Items before this one stay as they are: what they mean hangs on which ways were awake.
    fence: usize,
    /// Items before this one stay as they are: a first watermark lets rows age that came before it.
    first: usize,
    times: Times,
    /// Whether a first pause may make something come out.
    waits_for_pause: bool,
}

impl Inbox {
    /// Nothing waits for operators that know `times`.
    pub(super) fn new(times: Times, waits_for_pause: bool) -> Self {
        Self { items: VecDeque::new(), bytes: 0, rows: 0, pressing: false, fence: 0, first: 0, times, waits_for_pause }
    }

    /// Bytes of what waits; 0 for a little that is no rows.
    pub(super) fn bytes(&self) -> usize {
        if self.has_rows() || self.bytes > FEW { self.bytes } else { 0 }
    }

    pub(super) fn has_rows(&self) -> bool {
        self.rows > 0
    }

    /// Whether a way has paused for the first time, and an operator may wait for that, or ended: something may come out that waited for it. That others are alone with
    /// time from then on, and how far they have come, is in [`Inbox::times`].
    pub(super) fn is_pressing(&self) -> bool {
        self.pressing
    }

    /// Whether the first watermark of a way waits: rows age with it.
    pub(super) fn has_first(&self) -> bool {
        self.first > 0
    }

    /// What the operators will know of time.
    pub(super) fn times(&self) -> &Times {
        &self.times
    }

    pub(super) fn rows(&mut self, input: usize, channel: usize, batch: Batch, source: &Batch) -> Result<(), ArrowError> {
        let source = source_of(&batch, source)?;
        self.bytes += batch.memory_bytes() + source.as_ref().map_or(0, Batch::memory_bytes);
        self.rows += batch.num_rows();
        let message = Message::Batch(batch);
        self.times.say(channel, &message);
        self.items.push_back(Item { input, channel, message, source });
        Ok(())
    }

    pub(super) fn message(&mut self, input: usize, channel: usize, message: Message) {
        let is_watermark = matches!(message, Message::Watermark(_));
        let (has_spoken, is_plain) = (self.times.has_spoken(channel), is_watermark && self.times.is_plain(channel));
        self.pressing |= match message {
            Message::Watermark(_) => false,
            // A table has been read once then.
            Message::Idle => self.waits_for_pause && !self.times.has_paused(channel),
            _ => true,
        };
        self.times.say(channel, &message);
        if is_watermark
            && has_spoken
            && let Some(last) = self.last_watermark(channel, is_plain)
        {
            last.message = message;
            return;
        }
        self.bytes += MESSAGE;
        self.items.push_back(Item { input, channel, message, source: None });
        if !is_plain {
            self.fence = self.items.len();
        }
        if !has_spoken {
            self.first = self.items.len();
        }
    }

    /// The last watermark of a channel, if nothing has come since, or, where all ways were awake, only watermarks.
    fn last_watermark(&mut self, channel: usize, is_plain: bool) -> Option<&mut Item> {
        let is_watermark = |item: &Item| matches!(item.message, Message::Watermark(_));
        let is_last = self.items.len() > self.first && self.items.back().is_some_and(|item| item.channel == channel && is_watermark(item));
        if is_last {
            return self.items.back_mut();
        }
        let from = if is_plain { self.fence.max(self.first) } else { self.items.len() };
        let mut watermarks = self.items.iter_mut().skip(from).rev().take_while(|item| is_watermark(item));
        watermarks.find(|item| item.channel == channel)
    }

    /// Everything that waits, in order.
    pub(super) fn take(&mut self) -> VecDeque<Item> {
        (self.bytes, self.rows, self.pressing, self.fence, self.first) = (0, 0, false, 0, 0);
        std::mem::take(&mut self.items)
    }
}

/// The rows of `source` that those of `batch` were made of: the others need not wait with them. `None` if the rows are their own source.
fn source_of(batch: &Batch, source: &Batch) -> Result<Option<Batch>, ArrowError> {
    if batch.origin != source.origin || std::sync::Arc::ptr_eq(&batch.records.schema(), &source.records.schema()) {
        return Ok(None);
    }
    let positions = batch.ordinals.values().iter().filter_map(|ordinal| source.ordinals.values().binary_search(ordinal).ok());
    let positions: BTreeSet<usize> = positions.collect();
    Ok(Some(pick(source, positions.into_iter().map(|position| position as u32).collect())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(before: &[(usize, Message)]) -> Inbox {
        let mut times = Times::new(2);
        before.iter().for_each(|(channel, message)| times.say(*channel, message));
        Inbox::new(times, true)
    }

    fn waiting(mut inbox: Inbox, said: &[(usize, Message)]) -> String {
        said.iter().for_each(|(channel, message)| inbox.message(0, *channel, message.clone()));
        inbox.take().iter().map(|item| format!("{}{:?} ", item.channel, item.message)).collect::<String>().trim_end().to_owned()
    }

    #[test]
    fn what_pauses_again_is_no_reason_to_load_a_bucket() {
        use Message::{End, Idle, Watermark};
        let presses = |before: &[(usize, Message)], said: Message| {
            let mut inbox = inbox(before);
            inbox.message(0, 0, said);
            inbox.is_pressing()
        };
        assert!(presses(&[], Idle));
        assert!(!presses(&[(0, Idle)], Idle) && !presses(&[(0, Idle), (0, Watermark(3))], Idle));
        assert!(presses(&[(1, Idle)], Idle), "another has paused");
        assert!(presses(&[(0, Idle)], End));
        let mut inbox = Inbox::new(Times::new(2), false);
        inbox.message(0, 0, Idle);
        assert!(!inbox.is_pressing(), "nobody waits for a table");
        assert!(!presses(&[], Watermark(1)));
    }

    #[test]
    fn a_watermark_takes_the_place_of_the_one_before() {
        use Message::{End, Idle, Watermark};
        let awake = [(0, Watermark(1)), (1, Watermark(1))];
        let said = [(0, Watermark(2)), (1, Watermark(3)), (0, Watermark(4)), (1, Watermark(5))];
        assert_eq!(waiting(inbox(&awake), &said), "0Watermark(4) 1Watermark(5)");
        assert_eq!(waiting(inbox(&[]), &said), "0Watermark(2) 1Watermark(3) 0Watermark(4) 1Watermark(5)", "the first ones count");
        let said = [(0, Watermark(2)), (1, End), (0, Watermark(3))];
        assert_eq!(waiting(inbox(&awake), &said), "0Watermark(2) 1End 0Watermark(3)");
        let said = [(1, Watermark(2)), (1, Watermark(3)), (1, Watermark(4))];
        assert_eq!(waiting(inbox(&[(0, Watermark(1)), (0, Idle)]), &said), "1Watermark(2) 1Watermark(4)", "the first one counts");
        // As long as 0 was idle, 1 went on without it.
        let said = [(1, Watermark(9)), (0, Watermark(5)), (1, Watermark(12))];
        assert_eq!(waiting(inbox(&[awake[0].clone(), awake[1].clone(), (0, Idle)]), &said), "1Watermark(9) 0Watermark(5) 1Watermark(12)");
    }
}
