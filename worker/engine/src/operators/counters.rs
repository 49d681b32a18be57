//! What a lane has counted, so that every row can be accounted for. Counts rows only; bytes and time are the runtime's.

use std::sync::Arc;

/// Counts of one lane since it was built.
///
/// For every output: `rows_in × ways == rows_out + rows_filtered + rows_rejected`, where `ways` is the number of ways that a row can take from the
/// input to the output (more than one with UNION ALL).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Rows pushed into the lane.
    pub rows_in: u64,
    /// Each output that the input reaches.
    pub outputs: Vec<OutputCounters>,
    /// Each operator that has filtered or rejected rows.
    pub operators: Vec<OperatorCounters>,
}

/// Counts of one output.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OutputCounters {
    /// Index into [`Plan::outputs`](crate::plan::Plan::outputs).
    pub output: usize,
    /// Ways from the input to this output.
    pub ways: u64,
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
    /// Whether every one of `rows_in` rows is accounted for.
    #[must_use]
    pub fn balanced(&self, rows_in: u64) -> bool {
        rows_in.saturating_mul(self.ways) == self.rows_out.saturating_add(self.rows_filtered).saturating_add(self.rows_rejected)
    }
}
