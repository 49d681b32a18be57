//! What a row of a changelog becomes in a topic that keeps the last value of each key. It looks at no value.

use millrace_engine::batch::Batch;
use millrace_engine::row_kind::RowKind;

/// What becomes of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The row is there: its value, under its key.
    There,
    /// The row is gone: no value, under its key.
    Gone,
    /// What replaces the row follows under the same key: nothing.
    Replaced,
}

/// What becomes of row `row`; `is_same_key` compares the keys of two rows. A row that is replaced under another key is gone from its own.
pub(super) fn of(batch: &Batch, row: usize, is_same_key: impl FnOnce(usize, usize) -> bool) -> Change {
    match batch.kind(row) {
        RowKind::Insert | RowKind::UpdateAfter => Change::There,
        RowKind::Delete => Change::Gone,
        RowKind::UpdateBefore => {
            let next = row + 1;
            let is_replaced = next < batch.num_rows() && batch.kind(next) == RowKind::UpdateAfter && is_same_key(next, row);
            if is_replaced { Change::Replaced } else { Change::Gone }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
    use millrace_engine::batch::Origin;
    use millrace_engine::row_kind::RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    use millrace_engine::row_kind::RowKinds;

    use super::*;

    #[test]
    fn a_row_is_a_value_or_a_tombstone_and_what_is_replaced_in_its_place_is_nothing() {
        let kinds = [Insert, UpdateBefore, UpdateAfter, UpdateBefore, UpdateAfter, Delete, UpdateBefore];
        let keys = ["a", "a", "a", "a", "b", "b", "c"];
        let is_same = |one: usize, other: usize| keys[one] == keys[other];
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
        let records = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut batch = Batch::new(records, Origin::new("o", "o"), UInt64Array::from_iter_values(0..7));
        assert_eq!(of(&batch, 5, is_same), Change::There, "a batch without kinds has only insertions");
        batch.kinds = Some(RowKinds::new(kinds));
        let changes: Vec<_> = (0..7).map(|row| of(&batch, row, is_same)).collect();
        let (there, gone) = (Change::There, Change::Gone);
        assert_eq!(changes, [there, Change::Replaced, there, gone, there, gone, gone]);
    }
}
