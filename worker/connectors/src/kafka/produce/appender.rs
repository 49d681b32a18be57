//! A lot of rows on their way into batches. No lock is taken and nothing is allocated for a record; a batch that is full is handed over at once.

use millrace_engine::batch::Origin;
use tokio::time::Instant;

use super::super::records::{HEADER_BYTES, NewRecord};
use super::parcel::{Open, RECORD_OVERHEAD};
use super::partition;
use super::shared::Shared;

/// Tries to find a partition that has a leader.
const TRIES: u32 = 8;

/// Appends records of one topic and one origin. The batches that are not full go back when it is dropped.
pub(crate) struct Appender<'a> {
    shared: &'a Shared,
    topic: usize,
    origin: &'a Origin,
    lot: u64,
    open: Vec<Option<Open>>,
    /// Bytes that may be on their way.
    most: usize,
    /// Bytes that were appended and are not counted yet.
    uncounted: usize,
    spread: usize,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// To this partition.
    Partition(usize),
    /// To that of its key; without one, to any.
    ByKey,
}

impl<'a> Appender<'a> {
    /// For a topic whose partitions are known.
    pub(super) fn new(shared: &'a Shared, topic: usize, origin: &'a Origin, most: usize) -> Self {
        let mut state = shared.lock();
        state.lots += 1;
        let lot = state.lots;
        let topic_state = &mut state.topics[topic];
        let open = std::mem::take(&mut topic_state.open);
        let spread = topic_state.spread;
        Self { shared, topic, origin, lot, open, most, uncounted: 0, spread }
    }

    /// Appends a record that is known by `ordinal`.
    pub(crate) fn append(&mut self, target: Target, record: &NewRecord<'_>, ordinal: u64) {
        let count = self.open.len();
        let partition = match (target, record.key) {
            (Target::Partition(partition), _) => partition,
            (Target::ByKey, Some(key)) => partition::of(key, count),
            (Target::ByKey, None) => self.any(),
        };
        let batch_bytes = self.shared.batch_bytes();
        let mut added = RECORD_OVERHEAD;
        let open = self.open[partition].get_or_insert_with(|| {
            added += HEADER_BYTES;
            Open::new(0)
        });
        let mut size = open.size(record);
        if !open.is_empty() && open.len() + size > batch_bytes {
            // After a full one comes another, most likely.
            let full = std::mem::replace(open, Open::new(batch_bytes.max(HEADER_BYTES + size)));
            added += HEADER_BYTES;
            size = open.size(record);
            open.append(record, self.lot, self.origin, ordinal);
            self.shared.lock().topics[self.topic].ready[partition].push_back(full.seal(Instant::now()));
            self.uncounted += added + size;
            self.count();
            self.shared.work.notify_one();
            // Records without a key go elsewhere from here on.
            if partition == self.spread && matches!(target, Target::ByKey) && record.key.is_none() {
                self.spread = self.another();
            }
            return;
        }
        open.append(record, self.lot, self.origin, ordinal);
        self.uncounted += added + size;
    }

    /// Whether there is more on its way than there may be: then it is to be dropped, and to be waited for.
    pub(crate) fn is_over(&self) -> bool {
        self.uncounted > 0 && self.shared.bytes() + self.uncounted > self.most
    }

    /// The partition of records without a key: the same until its batch is sent.
    fn any(&mut self) -> usize {
        if self.open.get(self.spread).is_none_or(Option::is_none) {
            self.spread = self.another();
        }
        self.spread
    }

    fn another(&self) -> usize {
        let count = self.open.len();
        let state = self.shared.lock();
        let led = &state.topics[self.topic].led;
        let mut found = 0;
        for _ in 0..TRIES {
            found = rand::random::<u32>() as usize % count;
            if led.get(found) == Some(&true) {
                break;
            }
        }
        found
    }

    fn count(&mut self) {
        self.shared.add_bytes(std::mem::take(&mut self.uncounted));
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        self.count();
        {
            let mut state = self.shared.lock();
            let topic = &mut state.topics[self.topic];
            let mut open = std::mem::take(&mut self.open);
            // Partitions that were added meanwhile.
            open.resize_with(topic.ready.len(), || None);
            topic.open = open;
            topic.spread = self.spread;
        }
        self.shared.work.notify_one();
    }
}
