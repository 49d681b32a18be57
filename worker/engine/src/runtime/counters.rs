//! What one epoch has counted, as it stands in the epoch record. Counts only; totals for reports are in `Observed`.
//!
//! For each output X that a record reaches on one way: `in` = `out.X` + `filtered.X` + those among `deadLettered` and `dropped` that could not be
//! decoded, or not be evaluated on this way, or that X refused.

use std::collections::BTreeMap;

use super::dead_letters::Verdicts;

/// Counts of the epoch that is filling. Zeros are left out.
#[derive(Debug, Default)]
pub(super) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Records taken in, good and bad.
    pub(super) fn taken_in(&mut self, records: u64) {
        self.add("in".to_owned(), records);
    }

    /// Rows handed to the writer of an output.
    pub(super) fn sent_to(&mut self, output: &str, rows: u64) {
        self.add(format!("out.{output}"), rows);
    }

    /// Rows that the query dropped on their way to an output.
    pub(super) fn filtered_before(&mut self, output: &str, rows: u64) {
        self.add(format!("filtered.{output}"), rows);
    }

    /// Rows that were sent to an output, and refused by its sink.
    pub(super) fn refused_by(&mut self, output: &str, rows: u64) {
        if let Some(sent) = self.0.get_mut(&format!("out.{output}")) {
            *sent = sent.saturating_sub(rows);
        }
    }

    /// What became of bad records.
    pub(super) fn verdicts(&mut self, verdicts: &Verdicts) {
        self.add("deadLettered".to_owned(), verdicts.dead_lettered);
        self.add("dropped".to_owned(), verdicts.dropped);
    }

    /// Whether nothing has been counted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For the epoch record.
    pub(super) fn into_map(self) -> BTreeMap<String, u64> {
        self.0
    }

    fn add(&mut self, name: String, by: u64) {
        if by > 0 {
            *self.0.entry(name).or_default() += by;
        }
    }
}
