//! Finds the kept row that a changelog takes back. Decides nothing about what follows from it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{ArrayRef, DynComparator, make_comparator, new_empty_array};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::state::{RowStore, hash_rows};

/// The columns that tell which row is taken back.
#[derive(Debug)]
pub(super) struct RevisedBy {
    columns: Vec<usize>,
    /// Those of them that have a hash.
    hashed: Vec<usize>,
}

impl RevisedBy {
    /// `columns` of rows of this schema.
    pub(super) fn new(schema: &SchemaRef, columns: &[usize]) -> Self {
        let has_hash = |column: &usize| hash_rows(&[new_empty_array(schema.field(*column).data_type())], 0).is_ok();
        Self { columns: columns.to_vec(), hashed: columns.iter().copied().filter(has_hash).collect() }
    }

    /// A hash of each row: those of equal rows are equal.
    pub(super) fn hashes(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>, ArrowError> {
        let hashed: Vec<ArrayRef> = self.hashed.iter().map(|column| Arc::clone(&columns[*column])).collect();
        hash_rows(&hashed, rows)
    }
}

/// Comparators of rows, made when first needed. Good for as long as no rows are added.
#[derive(Default)]
pub(super) struct Comparators(HashMap<(usize, usize), Vec<DynComparator>>);

impl Comparators {
    /// Whether two rows are equal in the columns that tell.
    pub(super) fn equal(&mut self, rows: &RowStore, by: &RevisedBy, one: u32, other: u32) -> Result<bool, ArrowError> {
        let ((one, one_row), (other, other_row)) = (rows.locate(one), rows.locate(other));
        let comparators = match self.0.entry((one.as_ptr() as usize, other.as_ptr() as usize)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let make = |column: &usize| make_comparator(&one[*column], &other[*column], SortOptions::default());
                entry.insert(by.columns.iter().map(make).collect::<Result<_, _>>()?)
            }
        };
        Ok(comparators.iter().all(|compare| compare(one_row, other_row).is_eq()))
    }
}
