//! Which batches were written in transactions that were aborted: brokers say so beside what they send, and who reads has to leave them out. Data only.

use std::collections::{BTreeSet, VecDeque};

use super::records::Header;

/// The aborted transactions that reach into what one answer holds. Batches are shown to it in order.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    /// First offset and producer of those that have not begun yet, in order.
    coming: VecDeque<(i64, i64)>,
    /// Producers whose open transaction will be aborted.
    open: BTreeSet<i64>,
}

impl Aborted {
    /// `transactions` are first offset and producer; in any order.
    pub(super) fn new(transactions: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut coming: Vec<_> = transactions.into_iter().collect();
        coming.sort_unstable();
        Self { coming: coming.into(), open: BTreeSet::new() }
    }

    /// Whether a batch of data is to be left out.
    pub(super) fn has(&mut self, batch: &Header) -> bool {
        while let Some((_, producer)) = self.coming.pop_front_if(|(first, _)| *first <= batch.last_offset()) {
            self.open.insert(producer);
        }
        batch.is_transactional() && self.open.contains(&batch.producer_id)
    }

    /// The transaction of a producer was aborted here: what it writes next belongs to another.
    pub(super) fn ended(&mut self, batch: &Header) {
        // One whose records are all gone (compaction) begins and ends with this mark.
        let _no_data = self.has(batch);
        self.open.remove(&batch.producer_id);
    }
}
