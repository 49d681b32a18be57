//! What has changed in a table of an operator's state: which rows are kept, from where, and which are new. It compares whole rows and knows no keys.

use std::hash::{BuildHasher as _, RandomState};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::{filter, filter_record_batch, interleave, interleave_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

use crate::operators::StateTable;

/// Rows that are told apart at once; bounds what doing so takes beside the table itself.
const ROWS_AT_ONCE: usize = 8192;

/// Tells rows apart by 96 bits, for as long as it lives: nothing of it is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities {
    first: RandomState,
    second: RandomState,
}

/// The rows of a table as they were, each by its identity.
#[derive(Debug, Default)]
pub(super) struct Known {
    schema: Option<SchemaRef>,
    first: Vec<u64>,
    second: Vec<u32>,
}

/// A table by that of the epoch before.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::runtime) struct Changes {
    /// The rows in their order, as runs (start, length) over the rows of before, followed by those added.
    pub(super) runs: Vec<(u32, u32)>,
    /// Rows that were not there.
    pub(super) added: StateTable,
}

impl Identities {
    /// The rows of `table`, to find them again; `None` if its rows cannot be compared, or put together again with certainty.
    pub(super) fn know(&self, table: &StateTable) -> Option<Known> {
        let schema = table.records.schema();
        let comparable = |kind: &DataType| !has_dictionary(kind) && RowConverter::supports_fields(&[SortField::new(kind.clone())]);
        if table.records.num_rows() > u32::MAX as usize / 2 || !schema.fields().iter().all(|field| comparable(field.data_type())) {
            return None;
        }
        let mut known = Known { schema: Some(schema), ..Known::default() };
        self.identify(table, &mut known).ok()?;
        Some(known)
    }

    fn identify(&self, table: &StateTable, known: &mut Known) -> Result<(), ArrowError> {
        let kinds = std::iter::once(&DataType::UInt16).chain(table.records.schema_ref().fields().iter().map(|field| field.data_type()));
        let converter = RowConverter::new(kinds.map(|kind| SortField::new(kind.clone())).collect())?;
        known.first.reserve_exact(table.groups.len());
        known.second.reserve_exact(table.groups.len());
        for start in (0..table.groups.len()).step_by(ROWS_AT_ONCE) {
            let length = ROWS_AT_ONCE.min(table.groups.len() - start);
            let mut columns: Vec<ArrayRef> = vec![std::sync::Arc::new(table.groups.slice(start, length))];
            columns.extend(table.records.columns().iter().map(|column| column.slice(start, length)));
            for row in &converter.convert_columns(&columns)? {
                known.first.push(self.first.hash_one(row.as_ref()));
                known.second.push(self.second.hash_one(row.as_ref()) as u32);
            }
        }
        Ok(())
    }
}

impl Known {
    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.first.capacity() * size_of::<u64>() + self.second.capacity() * size_of::<u32>()
    }

    /// Whether these rows can be the ones before those of `after`.
    pub(super) fn is_comparable(&self, after: &Self) -> bool {
        self.schema == after.schema
    }

    pub(super) fn rows(&self) -> usize {
        self.first.len()
    }

    fn is_same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        row < self.rows() && (self.first[row], self.second[row]) == (other.first[other_row], other.second[other_row])
    }

    /// How `table`, whose rows are `after`, follows from these rows.
    pub(super) fn changes(&self, after: &Self, table: &StateTable) -> Result<Changes, ArrowError> {
        // Most rows come right after the one that they came after before; only then is a map worth its making.
        let mut places: Option<HashMap<u64, usize>> = None;
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut added = Vec::with_capacity(after.rows());
        let (mut next, mut new) = (0, self.rows());
        for row in 0..after.rows() {
            let found = if self.is_same(next, after, row) {
                Some(next)
            } else {
                let places = places.get_or_insert_with(|| self.first.iter().enumerate().map(|(place, first)| (*first, place)).collect());
                places.get(&after.first[row]).copied().filter(|place| self.is_same(*place, after, row))
            };
            added.push(found.is_none());
            let place = found.unwrap_or_else(|| {
                new += 1;
                new - 1
            });
            if found.is_some() {
                next = place + 1;
            }
            match runs.last_mut() {
                Some((start, length)) if (*start + *length) as usize == place => *length += 1,
                _ => runs.push((place as u32, 1)),
            }
        }
        let added = BooleanArray::from(added);
        let records = filter_record_batch(&table.records, &added)?;
        let groups = filter(&table.groups, &added)?;
        Ok(Changes { runs, added: StateTable { groups: groups_of(groups)?, records } })
    }
}

impl Changes {
    /// Whether there are none, from a table of so many rows.
    pub(super) fn is_none(&self, before: usize) -> bool {
        self.added.groups.is_empty() && if before == 0 { self.runs.is_empty() } else { self.runs == [(0, before as u32)] }
    }

    /// The runs as two columns.
    pub(super) fn columns(&self) -> [UInt32Array; 2] {
        let (starts, lengths): (Vec<u32>, Vec<u32>) = self.runs.iter().copied().unzip();
        [starts.into(), lengths.into()]
    }

    /// The table after these changes; an error if they are no changes of a table like `before`.
    pub(super) fn apply(&self, before: &StateTable) -> Result<StateTable, String> {
        if before.records.schema() != self.added.records.schema() {
            return Err("its columns are others than before".to_owned());
        }
        let kept = before.groups.len();
        let total = kept + self.added.groups.len();
        let mut rows = Vec::new();
        for (start, length) in &self.runs {
            let (start, end) = (*start as usize, *start as usize + *length as usize);
            if end > total {
                return Err(format!("it speaks of row {end}, there are {total}"));
            }
            rows.extend((start..end).map(|row| if row < kept { (0, row) } else { (1, row - kept) }));
        }
        let failed = |error: ArrowError| error.to_string();
        let groups = interleave(&[&before.groups, &self.added.groups], &rows).map_err(failed)?;
        let records = if before.records.num_columns() == 0 {
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
            RecordBatch::try_new_with_options(before.records.schema(), Vec::new(), &options).map_err(failed)?
        } else {
            interleave_record_batch(&[&before.records, &self.added.records], &rows).map_err(failed)?
        };
        Ok(StateTable { groups: groups_of(groups).map_err(failed)?, records })
    }
}

fn groups_of(array: ArrayRef) -> Result<UInt16Array, ArrowError> {
    array.as_any().downcast_ref().cloned().ok_or_else(|| ArrowError::CastError("key groups are of another type".to_owned()))
}

/// Putting dictionaries together may need more entries than their keys can number.
fn has_dictionary(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) | DataType::Union(..) => true,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) | DataType::Map(field, _) => {
            has_dictionary(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_dictionary(field.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    /// A table of rows (key group, number, text).
    fn table(rows: &[(u16, Option<i64>, String)]) -> StateTable {
        let numbers = rows.iter().map(|row| row.1).collect::<Int64Array>();
        let texts = StringArray::from_iter_values(rows.iter().map(|row| &row.2));
        let columns: [(&str, ArrayRef, bool); 2] = [("number", Arc::new(numbers), true), ("text", Arc::new(texts), false)];
        let records = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        StateTable { groups: UInt16Array::from_iter_values(rows.iter().map(|row| row.0)), records }
    }

    fn rows() -> impl Strategy<Value = Vec<(u16, Option<i64>, String)>> {
        let row = (0..3_u16, proptest::option::of(0..4_i64), prop_oneof![Just(String::new()), Just("a".to_owned()), Just("bc".to_owned())]);
        proptest::collection::vec(row, 0..24)
    }

    proptest! {
        #[test]
        fn changes_of_any_table_give_any_other_in_its_order(before in rows(), after in rows()) {
            let (before, after) = (table(&before), table(&after));
            let identities = Identities::default();
            let (known, wanted) = (identities.know(&before).unwrap(), identities.know(&after).unwrap());
            let changes = known.changes(&wanted, &after).unwrap();
            prop_assert_eq!(changes.apply(&before).unwrap(), after);
        }
    }

    #[test]
    fn rows_that_are_kept_cost_a_run_however_many_they_are() {
        let many: Vec<_> = (0..1000).map(|number| (0, Some(number), "x".to_owned())).collect();
        let before = table(&many);
        let mut other = many.clone();
        other.remove(10);
        other[500].1 = Some(-1);
        other.push((2, None, "new".to_owned()));
        let after = table(&other);
        let identities = Identities::default();
        let (known, wanted) = (identities.know(&before).unwrap(), identities.know(&after).unwrap());
        let changes = known.changes(&wanted, &after).unwrap();
        assert_eq!(changes.runs, [(0, 10), (11, 490), (1000, 1), (502, 498), (1001, 1)]);
        assert_eq!(changes.added.groups.len(), 2);
        let none = known.changes(&identities.know(&before).unwrap(), &before).unwrap();
        assert!(none.is_none(1000) && !changes.is_none(1000));
        assert!(
            !known.changes(&Known { schema: known.schema.clone(), ..Known::default() }, &table(&[])).unwrap().is_none(1000),
            "all are gone"
        );
    }

    #[test]
    fn what_looks_equal_and_is_not_is_told_apart() {
        let column = |values: Vec<f64>| {
            let records = RecordBatch::try_from_iter([("f", Arc::new(Float64Array::from(values)) as ArrayRef)]).unwrap();
            StateTable { groups: UInt16Array::from(vec![0; records.num_rows()]), records }
        };
        let (before, after) = (column(vec![0.0, 1.0]), column(vec![-0.0, 1.0]));
        let identities = Identities::default();
        let changes = identities.know(&before).unwrap().changes(&identities.know(&after).unwrap(), &after).unwrap();
        assert_eq!(changes.added.groups.len(), 1);
        let restored = changes.apply(&before).unwrap();
        let restored = restored.records.column(0).as_any().downcast_ref::<Float64Array>().unwrap().value(0);
        assert!(restored.is_sign_negative());
    }

    #[test]
    fn changes_of_another_table_are_refused() {
        let (before, after) = (table(&[(0, Some(1), "a".to_owned())]), table(&[(0, Some(2), "a".to_owned())]));
        let identities = Identities::default();
        let changes = identities.know(&before).unwrap().changes(&identities.know(&after).unwrap(), &after).unwrap();
        assert!(changes.apply(&table(&[])).unwrap_err().contains("it speaks of row"));
        let other = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        assert!(changes.apply(&StateTable { groups: UInt16Array::from(vec![0]), records: other }).unwrap_err().contains("columns"));
    }
}
