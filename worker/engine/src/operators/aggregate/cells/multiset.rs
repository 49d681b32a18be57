//! The values themselves with their counts, for functions that cannot take a value back: MIN, MAX, DISTINCT and others. The result is computed when asked for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::{Cells, Change, SharedState};
use crate::state::{KeyTable, hash_rows};

pub(super) struct Multiset {
    function: Arc<AggregateFunctionExpr>,
    types: Vec<DataType>,
    /// Group and values, by entry.
    entries: KeyTable,
    /// How often each entry is there; 0 for one that has gone, and may come again.
    counts: Vec<i64>,
    /// Entries of each group that are there, in the order in which they came.
    groups: Vec<Vec<u32>>,
    /// Entries that have gone.
    gone: usize,
}

impl Multiset {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>, types: &[DataType]) -> Result<Self> {
        let mut all = vec![DataType::Int64];
        all.extend_from_slice(types);
        if let Some(nested) = types.iter().find(|data_type| data_type.is_nested()) {
            return Err(DataFusionError::NotImplemented(format!("values of {nested} cannot be taken back")));
        }
        let entries = KeyTable::new(&all)?;
        Ok(Self { function, types: all, entries, counts: Vec::new(), groups: Vec::new(), gone: 0 })
    }

    fn add(&mut self, groups: &[u32], values: &[ArrayRef], change: impl Fn(usize) -> i64) -> Result<()> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| i64::from(*group))))];
        columns.extend(values.iter().map(Arc::clone));
        let entries = self.entries.intern(&columns, &hash_rows(&columns, groups.len())?)?;
        self.counts.resize(self.entries.len(), 0);
        for (row, entry) in entries.into_iter().enumerate() {
            let (group, count) = (&mut self.groups[groups[row] as usize], &mut self.counts[entry as usize]);
            let before = *count;
            *count += change(row);
            match (before, *count) {
                (0, 0) => {}
                (0, _) => group.push(entry),
                (_, 0) => {
                    group.retain(|known| *known != entry);
                    self.gone += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets entries that have gone, once they are most.
    fn tidy(&mut self) -> Result<()> {
        if self.gone <= 1024 || self.gone * 2 <= self.counts.len() {
            return Ok(());
        }
        self.rebuild((0..).take(self.groups.len()).map(Some).collect())
    }

    /// Gives groups new numbers; those with none are forgotten, with their entries.
    fn rebuild(&mut self, numbers: Vec<Option<u32>>) -> Result<()> {
        let (flat, lengths) = self.flat();
        let columns = self.entries.columns(&flat)?;
        let counts: Vec<i64> = flat.iter().map(|entry| self.counts[*entry as usize]).collect();
        let owners = lengths.iter().zip(&numbers).flat_map(|(length, number)| std::iter::repeat_n(*number, *length));
        let kept: Vec<(u32, u32)> = (0_u32..).zip(owners).filter_map(|(row, owner)| Some((row, owner?))).collect();
        let rows = UInt32Array::from_iter_values(kept.iter().map(|(row, _)| *row));
        let owners: Vec<u32> = kept.iter().map(|(_, owner)| *owner).collect();
        let values = columns[1..].iter().map(|column| take(column, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.entries = KeyTable::new(&self.types)?;
        self.counts.clear();
        self.groups = vec![Vec::new(); numbers.iter().flatten().count()];
        self.gone = 0;
        self.add(&owners, &values, |row| counts[rows.value(row) as usize])
    }

    /// Entries of all groups one after the other, and how many each has.
    fn flat(&self) -> (Vec<u32>, Vec<usize>) {
        (self.groups.iter().flatten().copied().collect(), self.groups.iter().map(Vec::len).collect())
    }
}

impl Cells for Multiset {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.groups.resize_with(total, Vec::new);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        let sign = |row: usize| if change.adds(row) { 1 } else { -1 };
        match change.mask {
            None => self.add(change.groups, change.values, sign)?,
            Some(mask) => {
                let rows: UInt32Array = (0_u32..).zip(mask.values().iter()).filter_map(|(row, counts)| counts.then_some(row)).collect();
                let groups: Vec<u32> = rows.values().iter().map(|row| change.groups[*row as usize]).collect();
                let values = change.values.iter().map(|values| take(values, &rows, None)).collect::<Result<Vec<_>, _>>()?;
                self.add(&groups, &values, |row| sign(rows.value(row) as usize))?;
            }
        }
        self.tidy()
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        let entries = self.groups[from as usize].clone();
        let counts: Vec<i64> = entries.iter().map(|entry| self.counts[*entry as usize]).collect();
        let values = self.entries.columns(&entries)?;
        self.add(&vec![into; entries.len()], &values[1..], |row| counts[row])?;
        self.reset(&[from])
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        if groups.is_empty() {
            return Ok(arrow::array::new_empty_array(self.function.field().data_type()));
        }
        let once = self.function.is_distinct() || matches!(self.function.fun().name(), "min" | "max" | "bool_and" | "bool_or");
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let entries = &self.groups[*group as usize];
            let repeated: Vec<u32> = entries
                .iter()
                .flat_map(|entry| {
                    let count = self.counts[*entry as usize].max(0);
                    std::iter::repeat_n(*entry, if once { 1 } else { usize::try_from(count).unwrap_or(0) })
                })
                .collect();
            let mut accumulator = self.function.create_accumulator()?;
            if !repeated.is_empty() {
                accumulator.update_batch(&self.entries.columns(&repeated)?[1..])?;
            }
            results.push(accumulator.evaluate()?);
        }
        ScalarValue::iter_to_array(results)
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        for group in groups {
            for entry in std::mem::take(&mut self.groups[*group as usize]) {
                self.counts[entry as usize] = 0;
                self.gone += 1;
            }
        }
        Ok(())
    }

    fn retain(&mut self, keep: &BooleanArray) {
        let mut next = 0;
        let number = |keep: bool| {
            next += u32::from(keep);
            keep.then(|| next - 1)
        };
        let numbers = keep.values().iter().map(number).collect();
        self.rebuild(numbers).expect("the entries are of the types that the table was made for");
    }

    fn share(&mut self) -> Result<SharedState> {
        let (flat, lengths) = self.flat();
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(flat.iter().map(|entry| self.counts[*entry as usize])));
        let values = self.entries.columns(&flat)?;
        Ok(Box::new(move || {
            let lists = values.into_iter().skip(1).chain([counts]).map(|values| {
                let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
                Ok(Arc::new(ListArray::try_new(field, offsets.clone(), values, None)?) as ArrayRef)
            });
            lists.collect()
        }))
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        let lists: Vec<&ListArray> = state.iter().map(AsArray::as_list::<i32>).collect();
        let Some(last) = lists.last() else { return Ok(()) };
        self.grow(last.len())?;
        let owners: Vec<u32> =
            (0_u32..).zip(last.iter()).flat_map(|(group, list)| std::iter::repeat_n(group, list.map_or(0, |list| list.len()))).collect();
        // A slice of a list holds more values than it shows.
        let flat = |list: &ListArray| {
            let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            list.values().slice(start, end - start)
        };
        let counts = flat(last).as_primitive::<Int64Type>().clone();
        let values: Vec<ArrayRef> = lists[..lists.len() - 1].iter().map(|list| flat(list)).collect();
        self.add(&owners, &values, |row| counts.value(row))
    }

    fn memory_bytes(&self) -> usize {
        let entries = self.counts.len() * (size_of::<i64>() + size_of::<u32>());
        self.entries.memory_bytes() + entries + self.groups.capacity() * size_of::<Vec<u32>>()
    }
}
