//! Which buckets of a task are in memory: decided from sizes alone. It loads and parks nothing.

use std::collections::{BTreeMap, BTreeSet};

/// The part of the memory that rows of parked buckets may take together.
const WAITING: usize = 4;

/// A bucket, to decide about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    pub(super) number: u16,
    pub(super) is_parked: bool,
    /// Bytes of memory that its state takes, or would.
    pub(super) state: usize,
    /// Bytes of what waits for it.
    pub(super) waiting: usize,
    /// Whether that are rows.
    pub(super) has_rows: bool,
    /// Bytes that its state takes in the tier.
    pub(super) spilled: u64,
    /// Something would come out of it, or it is not known whether.
    pub(super) is_due: bool,
    /// When it last had rows; higher is later.
    pub(super) used: u64,
}

/// All buckets of a lane, as they were last seen. What is asked after every batch costs nothing, however many they are.
#[derive(Debug, Default)]
pub(super) struct Views {
    all: BTreeMap<u16, View>,
    /// Parked buckets that are due.
    due: BTreeSet<u16>,
    /// Bytes of memory that all of them take.
    memory: usize,
    /// Bytes of it that are rows which wait for parked buckets.
    waiting: usize,
    /// Buckets for which rows wait.
    with_rows: usize,
    /// Bytes that all of them take in the tier.
    spilled: u64,
}

impl View {
    fn memory(&self) -> usize {
        if self.is_parked { self.waiting } else { self.state + self.waiting }
    }
}

impl Views {
    /// A bucket is like this now.
    pub(super) fn set(&mut self, view: View) {
        if view.is_parked && view.is_due {
            self.due.insert(view.number);
        } else {
            self.due.remove(&view.number);
        }
        self.memory += view.memory();
        self.waiting += view.waiting;
        self.with_rows += usize::from(view.has_rows);
        self.spilled += view.spilled;
        if let Some(before) = self.all.insert(view.number, view) {
            self.memory -= before.memory();
            self.waiting -= before.waiting;
            self.with_rows -= usize::from(before.has_rows);
            self.spilled -= before.spilled;
        }
    }

    /// Bytes of memory that all of them take.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes of rows that wait for parked buckets.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether rows wait for parked buckets.
    pub(super) fn has_rows(&self) -> bool {
        self.with_rows > 0
    }

    /// Bytes that all of them take in the tier.
    pub(super) fn spilled(&self) -> u64 {
        self.spilled
    }

    /// Buckets to park so that there is room for `more` bytes within `limit`: those that have not had rows for the longest time first, and never `kept`, or
    /// where that is `None` the one that had rows last.
    pub(super) fn to_park(&self, limit: usize, more: usize, kept: Option<u16>) -> Vec<u16> {
        let mut over = (self.memory + more).saturating_sub(limit);
        if over == 0 {
            return Vec::new();
        }
        let mut candidates: Vec<&View> = self.all.values().filter(|view| !view.is_parked).collect();
        candidates.sort_unstable_by_key(|view| (view.used, view.number));
        let kept = kept.or(candidates.last().map(|view| view.number));
        let mut parked = Vec::new();
        for view in candidates.into_iter().filter(|view| Some(view.number) != kept) {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(view.state);
            parked.push(view.number);
        }
        parked
    }

    /// The parked bucket that has to be loaded next: one that is due, else, if too many rows wait, that for which most do.
    pub(super) fn to_load(&self, limit: usize) -> Option<u16> {
        let pressed = || if self.waiting > limit / WAITING { self.fullest() } else { None };
        self.due.first().copied().or_else(pressed)
    }

    /// The parked bucket for which most rows wait.
    pub(super) fn fullest(&self) -> Option<u16> {
        let waiting = self.all.values().filter(|view| view.is_parked && view.waiting > 0);
        waiting.max_by_key(|view| (view.waiting, std::cmp::Reverse(view.number))).map(|view| view.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(number: u16, state: usize, used: u64) -> View {
        View { number, is_parked: false, state, waiting: 0, has_rows: false, spilled: 0, is_due: false, used }
    }

    fn away(number: u16, waiting: usize, is_due: bool) -> View {
        View { number, is_parked: true, state: 1000, waiting, has_rows: waiting > 0, spilled: 9, is_due, used: 0 }
    }

    fn views(of: &[View]) -> Views {
        let mut views = Views::default();
        of.iter().for_each(|view| views.set(*view));
        views
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_is_parked_first() {
        let views = views(&[here(0, 40, 3), here(1, 40, 1), here(2, 40, 2), away(3, 10, false)]);
        assert_eq!(views.memory(), 130);
        assert_eq!(views.to_park(130, 0, None), Vec::<u16>::new());
        assert_eq!(views.to_park(129, 0, None), [1]);
        assert_eq!(views.to_park(130, 41, Some(9)), [1, 2]);
        assert_eq!(views.to_park(129, 0, Some(1)), [2]);
        assert_eq!(views.to_park(1, 0, Some(1)), [2, 0], "that is all that can be done");
        assert_eq!(views.to_park(1, 0, None), [1, 2], "what was used last stays");
    }

    #[test]
    fn what_is_due_is_loaded_first_then_where_most_rows_wait() {
        let some = views(&[away(0, 10, false), away(1, 15, false), here(2, 40, 0)]);
        assert_eq!(some.to_load(100), None);
        assert_eq!(some.to_load(99), Some(1));
        assert_eq!(views(&[away(3, 0, true), away(1, 90, false)]).to_load(100), Some(3));
        assert_eq!(some.fullest(), Some(1));
        assert_eq!(views(&[away(3, 0, false), here(1, 3, 0)]).fullest(), None);
    }

    #[test]
    fn what_was_seen_last_counts() {
        let mut views = views(&[here(0, 40, 1), away(1, 15, true), away(2, 7, true)]);
        assert_eq!((views.memory(), views.waiting(), views.to_load(1000)), (62, 22, Some(1)));
        assert_eq!((views.has_rows(), views.spilled()), (true, 18));
        views.set(here(1, 60, 2));
        assert_eq!((views.memory(), views.waiting(), views.to_load(1000)), (107, 7, Some(2)));
        views.set(away(2, 0, false));
        views.set(away(0, 3, false));
        assert_eq!((views.memory(), views.waiting(), views.to_load(1000)), (63, 3, None));
        assert_eq!((views.has_rows(), views.spilled()), (true, 18));
        assert_eq!(views.to_park(0, 0, Some(9)), [1]);
        views.set(here(0, 3, 3));
        assert_eq!((views.has_rows(), views.spilled()), (false, 9));
    }
}
