//! What a lane has counted, so that every row can be accounted for. Counts rows only; bytes and time are the runtime's.

use std::sync::Arc;

/// Counts of one lane since it was built.
///
/// Where no operator on the way keeps state or makes several rows of one, for every output: `rows_due == rows_out + rows_filtered + rows_rejected`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Rows pushed into the lane.
    pub rows_in: u64,
    /// Each output that an input reaches.
    pub outputs: Vec<OutputCounters>,
    /// Each operator that has filtered or rejected rows.
    pub operators: Vec<OperatorCounters>,
}

/// Counts of one output.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OutputCounters {
    /// Index into [`Plan::outputs`](crate::plan::Plan::outputs).
    pub output: usize,
    /// Rows pushed into each input, times the ways from it to this output (more than one with UNION ALL).
    pub rows_due: u64,
    /// Rows emitted.
    pub rows_out: u64,
    /// Rows that the query dropped, once for each way.
    pub rows_filtered: u64,
    /// Rows that could not be evaluated, once for each way.
    pub rows_rejected: u64,
}

/// Counts of one operator.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OperatorCounters {
    /// Its id: step, kind, ordinal.
    pub operator: Arc<str>,
    /// Rows that it dropped because the query says so.
    pub rows_filtered: u64,
    /// Rows that it could not evaluate.
    pub rows_rejected: u64,
}

impl OutputCounters {
    /// Whether every row is accounted for.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.rows_due == self.rows_out.saturating_add(self.rows_filtered).saturating_add(self.rows_rejected)
    }
}
