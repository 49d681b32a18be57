//! Windows by key: what must come out, what was seen, and how they differ. It computes nothing of either from the other.

use std::collections::BTreeMap;

/// Milliseconds of a window.
pub(super) const WINDOW: u64 = 1000;

/// Count and sum of one window and key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Total {
    /// Rows.
    pub(super) count: i64,
    /// Sum of their values.
    pub(super) sum: i64,
}

/// What must come out. Times are milliseconds since 1970; a window is known by its start.
#[derive(Debug)]
pub(super) struct Expected {
    keys: usize,
    windows: BTreeMap<u64, Vec<Total>>,
}

impl Expected {
    /// Nothing yet, of so many keys.
    pub(super) fn new(keys: usize) -> Self {
        Self { keys, windows: BTreeMap::new() }
    }

    /// Takes a record.
    pub(super) fn add(&mut self, at: u64, key: usize, value: i64) {
        let window = self.windows.entry(at - at % WINDOW).or_insert_with(|| vec![Total::default(); self.keys]);
        window[key].count += 1;
        window[key].sum += value;
    }

    /// Number of windows, whatever their keys.
    pub(super) fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Number of results: one for each window and key that has rows.
    pub(super) fn results(&self) -> usize {
        self.windows.values().flatten().filter(|total| total.count > 0).count()
    }
}

/// What was seen of one window and key.
#[derive(Clone, Copy, Debug)]
struct Seen {
    total: Total,
    at: u64,
}

/// All that was seen of one window.
#[derive(Debug)]
struct SeenWindow {
    keys: Vec<Option<Seen>>,
    /// Rows without the column that only the changed query has.
    plain: usize,
}

/// A result as it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Start of its window.
    pub(super) start: u64,
    /// Its key.
    pub(super) key: usize,
    /// What it says.
    pub(super) total: Total,
    /// Whether it has the column that only the changed query has.
    pub(super) changed: bool,
}

/// What was seen, each result with the time of its arrival.
#[derive(Debug)]
pub(super) struct Found {
    keys: usize,
    windows: BTreeMap<u64, SeenWindow>,
    results: usize,
    changed: usize,
    faults: Vec<String>,
    doubled: usize,
    last: Option<u64>,
    silence: u64,
}

/// How many faults are kept as text.
const SHOWN: usize = 10;

impl Found {
    /// Nothing yet, of so many keys.
    pub(super) fn new(keys: usize) -> Self {
        Self { keys, windows: BTreeMap::new(), results: 0, changed: 0, faults: Vec::new(), doubled: 0, last: None, silence: 0 }
    }

    /// Takes a result that arrived at `at`. A second one of the same window and key is a fault, whatever it says.
    pub(super) fn add(&mut self, row: Row, at: u64) {
        self.silence = self.silence.max(self.last.map_or(0, |last| at.saturating_sub(last)));
        self.last = Some(at);
        let window = self.windows.entry(row.start).or_insert_with(|| SeenWindow { keys: vec![None; self.keys], plain: 0 });
        let Some(slot) = window.keys.get_mut(row.key) else {
            return self.fault(format!("{row:?} has a key that was never sent"));
        };
        if let Some(before) = slot {
            self.doubled += 1;
            let said = format!("{row:?} was there {} ms before, saying {:?}", at.saturating_sub(before.at), before.total);
            return self.fault(said);
        }
        *slot = Some(Seen { total: row.total, at });
        window.plain += usize::from(!row.changed);
        self.results += 1;
        self.changed += usize::from(row.changed);
    }

    /// Notes something that must not be.
    pub(super) fn fault(&mut self, what: String) {
        if self.faults.len() < SHOWN {
            self.faults.push(what);
        }
    }

    /// Results of different windows and keys.
    pub(super) fn results(&self) -> usize {
        self.results
    }

    /// Results of the changed query.
    pub(super) fn changed(&self) -> usize {
        self.changed
    }

    /// Start of the latest window of which something was seen.
    pub(super) fn latest(&self) -> Option<u64> {
        self.windows.keys().next_back().copied()
    }

    /// The longest time in which nothing arrived, in milliseconds.
    pub(super) fn silence(&self) -> u64 {
        self.silence
    }

    /// Compares. `changed_from`: windows that start then or later are all of the changed query.
    pub(super) fn verdict(&self, expected: &Expected, changed_from: Option<u64>) -> Verdict {
        let mut verdict = Verdict {
            windows: expected.windows(),
            results: expected.results(),
            right: 0,
            missing: 0,
            doubled: self.doubled,
            wrong: 0,
            strange: 0,
            faults: self.faults.clone(),
        };
        let mut say = |what: String| {
            if verdict.faults.len() < 2 * SHOWN {
                verdict.faults.push(what);
            }
        };
        for (start, totals) in &expected.windows {
            let seen = self.windows.get(start);
            for (key, total) in totals.iter().enumerate() {
                match (total.count > 0, seen.and_then(|window| window.keys.get(key).copied().flatten())) {
                    (true, Some(seen)) if seen.total == *total => verdict.right += 1,
                    (true, Some(seen)) => {
                        verdict.wrong += 1;
                        say(format!("window {start}, key {key}: {:?} instead of {total:?}", seen.total));
                    }
                    (true, None) => {
                        verdict.missing += 1;
                        say(format!("window {start}, key {key}: nothing instead of {total:?}"));
                    }
                    (false, Some(seen)) => {
                        verdict.strange += 1;
                        say(format!("window {start}, key {key}: {:?}, but no record was sent", seen.total));
                    }
                    (false, None) => {}
                }
            }
        }
        for (start, window) in &self.windows {
            if !expected.windows.contains_key(start) {
                verdict.strange += window.keys.iter().flatten().count();
                say(format!("window {start}: no record was sent for it"));
            }
            if window.plain > 0 && changed_from.is_some_and(|from| *start >= from) {
                verdict.wrong += window.plain;
                say(format!("window {start}: {} results of the query before the change", window.plain));
            }
        }
        verdict
    }

    /// How long after the end of its window each result arrived, in milliseconds, sorted.
    pub(super) fn latencies(&self) -> Vec<u64> {
        let of = |(start, window): (&u64, &SeenWindow)| {
            let end = start + WINDOW;
            window.keys.iter().flatten().map(move |seen| seen.at.saturating_sub(end)).collect::<Vec<_>>()
        };
        let mut latencies: Vec<u64> = self.windows.iter().flat_map(of).collect();
        latencies.sort_unstable();
        latencies
    }

    /// The gaps between windows, in order. A window is complete when the last result of it and of all before it has arrived; the gap before a window is the time
    /// from when the one before was complete until this one is, less the length of a window. Only windows of which everything has arrived count.
    pub(super) fn gaps(&self, expected: &Expected) -> Vec<Gap> {
        let complete = |(start, totals): (&u64, &Vec<Total>)| {
            let seen = self.windows.get(start)?;
            let of_key = |(key, total): (usize, &Total)| if total.count > 0 { seen.keys[key].map(|seen| seen.at) } else { Some(0) };
            totals.iter().enumerate().map(of_key).try_fold(0, |latest, at| Some(at?.max(latest)))
        };
        let mut gaps = Vec::new();
        let mut before: Option<u64> = None;
        for at in expected.windows.iter().filter_map(complete) {
            let until = before.map_or(at, |before| before.max(at));
            if let Some(from) = before {
                gaps.push(Gap { from, until });
            }
            before = Some(until);
        }
        gaps
    }
}

/// The time between two windows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gap {
    /// When the window before was complete.
    pub(super) from: u64,
    /// When this one was.
    pub(super) until: u64,
}

impl Gap {
    /// Milliseconds by which it is longer than a window.
    pub(super) fn millis(self) -> u64 {
        (self.until - self.from).saturating_sub(WINDOW)
    }
}

/// How what was seen differs from what must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Windows that must be there.
    pub windows: usize,
    /// Results that must be there: one for each window and key.
    pub results: usize,
    /// Results that are there, once, and right.
    pub right: usize,
    /// Results that are not there.
    pub missing: usize,
    /// Results that came once more than they should.
    pub doubled: usize,
    /// Results that say something else than they must.
    pub wrong: usize,
    /// Results of windows and keys for which nothing was sent.
    pub strange: usize,
    /// The first of all that.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Whether everything is there, once and right.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.right == self.results && self.missing + self.doubled + self.wrong + self.strange == 0 && self.faults.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: u64, key: usize, count: i64, sum: i64) -> Row {
        Row { start, key, total: Total { count, sum }, changed: false }
    }

    /// Two keys, three windows; the second window has one key only.
    fn expected() -> Expected {
        let mut expected = Expected::new(2);
        for (at, key, value) in [(10, 0, 1), (999, 0, 2), (500, 1, 3), (1000, 0, 4), (2500, 0, 5), (2600, 1, 6)] {
            expected.add(at, key, value);
        }
        expected
    }

    fn found() -> Found {
        let mut found = Found::new(2);
        for (row, at) in [
            (row(0, 0, 2, 3), 1100),
            (row(0, 1, 1, 3), 1300),
            (row(1000, 0, 1, 4), 2200),
            (row(2000, 0, 1, 5), 4900),
            (row(2000, 1, 1, 6), 5300),
        ] {
            found.add(row, at);
        }
        found
    }

    #[test]
    fn what_is_right_is_right() {
        let verdict = found().verdict(&expected(), None);
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!((verdict.windows, verdict.results, verdict.right), (3, 5, 5));
    }

    #[test]
    fn every_fault_is_seen() {
        let of = |spoil: &dyn Fn(&mut Found)| {
            let mut found = found();
            spoil(&mut found);
            let verdict = found.verdict(&expected(), None);
            assert!(!verdict.is_clean() && !verdict.faults.is_empty(), "{verdict:?}");
            (verdict.missing, verdict.doubled, verdict.wrong, verdict.strange)
        };
        assert_eq!(of(&|found| found.add(row(0, 0, 2, 3), 9000)), (0, 1, 0, 0));
        assert_eq!(of(&|found| found.add(row(1000, 1, 1, 1), 9000)), (0, 0, 0, 1));
        assert_eq!(of(&|found| found.add(row(7000, 1, 1, 1), 9000)), (0, 0, 0, 1));
        assert_eq!(of(&|found| found.windows.get_mut(&0).unwrap().keys[1] = None), (1, 0, 0, 0));
        assert_eq!(of(&|found| found.windows.get_mut(&0).unwrap().keys[1].as_mut().unwrap().total.sum = 4), (0, 0, 1, 0));
        assert_eq!(of(&|found| found.add(row(0, 2, 1, 1), 9000)), (0, 0, 0, 0));
        let verdict = found().verdict(&expected(), Some(2000));
        assert_eq!((verdict.wrong, verdict.is_clean()), (2, false), "two results of the query before the change");
    }

    #[test]
    fn a_gap_is_what_is_longer_than_a_window() {
        let found = found();
        let gaps = found.gaps(&expected());
        assert_eq!(gaps, [Gap { from: 1300, until: 2200 }, Gap { from: 2200, until: 5300 }]);
        assert_eq!(gaps.iter().map(|gap| gap.millis()).collect::<Vec<_>>(), [0, 2100]);
        assert_eq!((found.silence(), found.latest()), (2700, Some(2000)));
        assert_eq!(found.latencies(), [100, 200, 300, 1900, 2300]);
    }
}
