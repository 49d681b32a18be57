//! COUNT(DISTINCT …) of one column that fits a word: one hash table for all groups instead of one for each. Takes nothing back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use datafusion_common::Result;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{Cells, Change, SharedState};
use crate::state::{from_words, mix, words};

pub(super) struct Distinct {
    argument: DataType,
    /// Group and value of all that was seen.
    seen: HashTable<(u32, i64)>,
    /// The values of each group in the order in which they came.
    values: Vec<Vec<i64>>,
}

fn hash(group: u32, value: i64) -> u64 {
    mix(u64::from(group), value as u64)
}

impl Distinct {
    pub(super) fn new(argument: DataType) -> Self {
        Self { argument, seen: HashTable::new(), values: Vec::new() }
    }

    fn see(&mut self, group: u32, value: i64) {
        let entry = self.seen.entry(hash(group, value), |known| *known == (group, value), |(group, value)| hash(*group, *value));
        if let Entry::Vacant(vacant) = entry {
            vacant.insert((group, value));
            self.values[group as usize].push(value);
        }
    }

    /// Takes the values of a group out.
    fn forget(&mut self, group: u32) -> Vec<i64> {
        let values = std::mem::take(&mut self.values[group as usize]);
        for value in &values {
            if let Ok(entry) = self.seen.find_entry(hash(group, *value), |known| *known == (group, *value)) {
                entry.remove();
            }
        }
        values
    }

    /// Makes the table anew from the values of all groups.
    fn rebuild(&mut self) {
        let mut seen = HashTable::with_capacity(self.values.iter().map(Vec::len).sum());
        for (group, values) in (0_u32..).zip(&self.values) {
            for value in values {
                seen.insert_unique(hash(group, *value), (group, *value), |(group, value)| hash(*group, *value));
            }
        }
        self.seen = seen;
    }
}

impl Cells for Distinct {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.values.resize_with(total, Vec::new);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        let values = words(&change.values[0])?;
        for (row, group) in change.groups.iter().enumerate() {
            if change.counts(row) && values.is_valid(row) {
                self.see(*group, values.value(row));
            }
        }
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        for value in self.forget(from) {
            self.see(into, value);
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.values[*group as usize].len() as i64))))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        for group in groups {
            self.forget(*group);
        }
        Ok(())
    }

    fn retain(&mut self, keep: &BooleanArray) {
        let mut keep = keep.values().iter();
        self.values.retain(|_| keep.next().unwrap_or(true));
        self.rebuild();
    }

    fn share(&mut self) -> Result<SharedState> {
        let offsets = OffsetBuffer::<i32>::from_lengths(self.values.iter().map(Vec::len));
        let words = Int64Array::from_iter_values(self.values.iter().flatten().copied());
        let argument = self.argument.clone();
        Ok(Box::new(move || {
            let values = from_words(words, &argument)?;
            let field = Arc::new(Field::new_list_field(argument, true));
            Ok(vec![Arc::new(ListArray::try_new(field, offsets, values, None)?)])
        }))
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        let list = state[0].as_list::<i32>();
        let values = words(list.values())?;
        let offsets = list.value_offsets();
        self.values = (0..list.len())
            .map(|group| {
                let range = offsets[group] as usize..offsets[group + 1] as usize;
                range.filter(|row| values.is_valid(*row)).map(|row| values.value(row)).collect()
            })
            .collect();
        self.rebuild();
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let groups = self.values.capacity() * size_of::<Vec<i64>>();
        // A vector has room for four values at least, and for up to twice as many as it has.
        self.seen.allocation_size() + groups + self.seen.len() * size_of::<i64>() * 3 / 2
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;

    use super::*;

    fn add(cells: &mut Distinct, groups: &[u32], values: Vec<Option<i32>>, mask: Option<Vec<bool>>) {
        let values: ArrayRef = Arc::new(Int32Array::from(values));
        let mask = mask.map(BooleanArray::from);
        cells.update(&Change { values: &[values], mask: mask.as_ref(), groups, additions: None }).unwrap();
    }

    fn counts(cells: &mut Distinct, groups: &[u32]) -> Vec<i64> {
        cells.evaluate(groups).unwrap().as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    }

    #[test]
    fn each_value_counts_once_in_each_group() {
        let mut cells = Distinct::new(DataType::Int32);
        cells.grow(3).unwrap();
        add(&mut cells, &[0, 0, 1, 0, 1, 2], vec![Some(7), Some(7), Some(7), None, Some(-1), Some(0)], None);
        add(&mut cells, &[0, 0], vec![Some(8), Some(9)], Some(vec![true, false]));
        assert_eq!(counts(&mut cells, &[2, 0, 1]), [1, 2, 2]);
        let state = cells.share().unwrap()().unwrap();
        let mut other = Distinct::new(DataType::Int32);
        other.restore(&[state[0].slice(1, 2)]).unwrap();
        assert_eq!(counts(&mut other, &[0, 1]), [2, 1]);
        add(&mut other, &[0, 1], vec![Some(-1), Some(-1)], None);
        assert_eq!(counts(&mut other, &[0, 1]), [2, 2], "what was restored is known");
    }

    #[test]
    fn groups_are_merged_forgotten_and_moved_up() {
        let mut cells = Distinct::new(DataType::Int32);
        cells.grow(3).unwrap();
        add(&mut cells, &[0, 0, 1, 1, 2], vec![Some(1), Some(2), Some(2), Some(3), Some(4)], None);
        cells.merge(0, 1).unwrap();
        assert_eq!(counts(&mut cells, &[0, 1]), [3, 0]);
        cells.reset(&[0]).unwrap();
        add(&mut cells, &[0, 1], vec![Some(2), Some(2)], None);
        assert_eq!(counts(&mut cells, &[0, 1, 2]), [1, 1, 1]);
        cells.retain(&BooleanArray::from(vec![false, true, true]));
        add(&mut cells, &[0, 1], vec![Some(2), Some(4)], None);
        assert_eq!(counts(&mut cells, &[0, 1]), [1, 1], "they keep their values under their new numbers");
    }
}
