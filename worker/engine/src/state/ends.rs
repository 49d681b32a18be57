//! When positions are over: those whose end the watermark has passed are taken out together. Holds no rows.

use std::collections::BTreeMap;

/// Positions by their end, in steps of a granule: coarse steps cost less memory, fine ones end on time.
#[derive(Debug)]
pub(crate) struct Ends {
    granule: i64,
    /// By end, in granules, rounded down.
    open: BTreeMap<i64, Vec<u32>>,
    positions: usize,
}

impl Ends {
    /// Ends in steps of `granule`; 1 for ends that are exact.
    pub(crate) fn new(granule: i64) -> Self {
        Self { granule: granule.max(1), open: BTreeMap::new(), positions: 0 }
    }

    /// Adds a position that is over once a watermark is greater than `end`.
    pub(crate) fn push(&mut self, end: i64, position: u32) {
        self.open.entry(end.div_euclid(self.granule)).or_default().push(position);
        self.positions += 1;
    }

    /// The lowest watermark at which something is over.
    pub(crate) fn first(&self) -> Option<i64> {
        self.open.first_key_value().map(|(end, _)| end.saturating_add(1).saturating_mul(self.granule))
    }

    /// Takes out what is over for certain at this watermark, in the order of ends, then of arrival.
    pub(crate) fn pass(&mut self, watermark: i64) -> Vec<u32> {
        let mut over = Vec::new();
        while let Some(first) = self.open.first_entry() {
            if first.key().saturating_add(1).saturating_mul(self.granule) > watermark {
                break;
            }
            over.extend(first.remove());
        }
        self.positions -= over.len();
        over
    }

    /// Keeps only the positions at `kept`, which ascend; they get the positions from 0.
    pub(crate) fn retain(&mut self, kept: &[u32]) {
        self.open.retain(|_, positions| {
            let moved = positions.iter().filter_map(|position| Some(kept.binary_search(position).ok()? as u32));
            *positions = moved.collect();
            !positions.is_empty()
        });
        self.positions = self.open.values().map(Vec::len).sum();
    }

    /// Bytes of memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        // Vectors grow by doubling.
        self.positions * 6 + self.open.len() * 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_ends_are_passed_by_the_next_greater_watermark() {
        let mut ends = Ends::new(1);
        for (position, end) in [(0, 5), (1, 3), (2, 5), (3, -7)] {
            ends.push(end, position);
        }
        assert_eq!(ends.pass(3), [3]);
        assert_eq!(ends.pass(4), [1]);
        ends.retain(&[2]);
        assert!(ends.pass(5).is_empty());
        assert_eq!(ends.first(), Some(6));
        assert_eq!(ends.pass(i64::MAX), [0]);
        assert_eq!(ends.memory_bytes(), 0);
    }

    #[test]
    fn coarse_ends_are_never_too_early() {
        let mut ends = Ends::new(10);
        ends.push(-1, 0);
        ends.push(10, 1);
        ends.push(19, 2);
        assert_eq!(ends.first(), Some(0));
        assert_eq!((ends.pass(-1), ends.pass(0)), (vec![], vec![0]));
        assert_eq!(ends.first(), Some(20));
        assert_eq!((ends.pass(19), ends.pass(20)), (vec![], vec![1, 2]));
    }
}
