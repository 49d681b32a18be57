//! COUNT, SUM, AVG, MIN and MAX over numbers, as plain vectors by group. Wraps on overflow, as DataFusion's do.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use datafusion_common::Result;

use super::{Cells, Change};

fn keep<T: Copy>(values: &mut Vec<T>, mask: &BooleanArray) {
    let mut group = 0;
    values.retain(|_| {
        group += 1;
        mask.value(group - 1)
    });
}

/// Rows that count and whose arguments are not NULL.
fn present<'a>(change: &'a Change<'a>) -> impl Iterator<Item = (usize, usize)> + 'a {
    let nullable: Vec<_> = change.values.iter().filter_map(Array::logical_nulls).collect();
    let rows = change.groups.iter().enumerate();
    rows.filter(move |(row, _)| change.counts(*row) && nullable.iter().all(|nulls| nulls.is_valid(*row)))
        .map(|(row, group)| (row, *group as usize))
}

#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Count {
    pub(super) fn new() -> Self {
        Self::default()
    }
}

impl Cells for Count {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.counts.resize(total, 0);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        present(change).for_each(|(row, group)| self.counts[group] += if change.adds(row) { 1 } else { -1 });
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.counts[into as usize] += self.counts[from as usize];
        Ok(())
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]))))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        groups.iter().for_each(|group| self.counts[*group as usize] = 0);
        Ok(())
    }

    fn retain(&mut self, mask: &BooleanArray) {
        keep(&mut self.counts, mask);
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Int64Array::from(self.counts.clone()))])
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        self.counts = state[0].as_primitive::<Int64Type>().values().to_vec();
        Ok(())
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        let counts = states[0].as_primitive::<Int64Type>().values();
        groups.iter().zip(counts).for_each(|(group, count)| self.counts[*group as usize] += count);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}

/// Sums, with the number of values: without any, the sum is NULL.
pub(super) struct Sum<T: ArrowPrimitiveType> {
    result: DataType,
    sums: Vec<T::Native>,
    counts: Vec<i64>,
}

impl<T: ArrowPrimitiveType> Sum<T> {
    pub(super) fn new(result: DataType) -> Self {
        Self { result, sums: Vec::new(), counts: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> Cells for Sum<T> {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.sums.resize(total, T::Native::ZERO);
        self.counts.resize(total, 0);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        let values = change.values[0].as_primitive::<T>().values();
        for (row, group) in present(change) {
            if change.adds(row) {
                self.sums[group] = self.sums[group].add_wrapping(values[row]);
                self.counts[group] += 1;
            } else {
                self.sums[group] = self.sums[group].sub_wrapping(values[row]);
                self.counts[group] -= 1;
            }
        }
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        let (into, from) = (into as usize, from as usize);
        self.sums[into] = self.sums[into].add_wrapping(self.sums[from]);
        self.counts[into] += self.counts[from];
        Ok(())
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        let values = groups.iter().map(|group| (self.counts[*group as usize] > 0).then(|| self.sums[*group as usize]));
        Ok(Arc::new(values.collect::<PrimitiveArray<T>>().with_data_type(self.result.clone())))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        for group in groups {
            self.sums[*group as usize] = T::Native::ZERO;
            self.counts[*group as usize] = 0;
        }
        Ok(())
    }

    fn retain(&mut self, mask: &BooleanArray) {
        keep(&mut self.sums, mask);
        keep(&mut self.counts, mask);
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        let sums = PrimitiveArray::<T>::from_iter_values(self.sums.iter().copied()).with_data_type(self.result.clone());
        Ok(vec![Arc::new(sums), Arc::new(Int64Array::from(self.counts.clone()))])
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        self.sums = state[0].as_primitive::<T>().values().to_vec();
        self.counts = state[1].as_primitive::<Int64Type>().values().to_vec();
        Ok(())
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        let (sums, counts) = (states[0].as_primitive::<T>().values(), states[1].as_primitive::<Int64Type>().values());
        for ((group, sum), count) in groups.iter().zip(sums).zip(counts) {
            let group = *group as usize;
            self.sums[group] = self.sums[group].add_wrapping(*sum);
            self.counts[group] += count;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.counts.capacity() * size_of::<i64>()
    }
}

/// Averages: a sum and a number.
pub(super) struct Average(Sum<Float64Type>);

impl Average {
    pub(super) fn new() -> Self {
        Self(Sum::new(DataType::Float64))
    }
}

impl Cells for Average {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.0.grow(total)
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        self.0.update(change)
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.0.merge(into, from)
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        let average = |group: &u32| {
            let count = self.0.counts[*group as usize];
            (count > 0).then(|| self.0.sums[*group as usize] / count as f64)
        };
        Ok(Arc::new(groups.iter().map(average).collect::<Float64Array>()))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        self.0.reset(groups)
    }

    fn retain(&mut self, mask: &BooleanArray) {
        self.0.retain(mask);
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        self.0.state()
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        self.0.restore(state)
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        self.0.merge_states(groups, states)
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

/// The smallest or largest value. Takes nothing back.
pub(super) struct Extreme<T: ArrowPrimitiveType> {
    result: DataType,
    largest: bool,
    values: Vec<T::Native>,
    /// Whether there is a value: beside it, it would take as much room as the value.
    known: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Extreme<T> {
    pub(super) fn new(result: DataType, largest: bool) -> Self {
        Self { result, largest, values: Vec::new(), known: Vec::new() }
    }

    fn get(&self, group: usize) -> Option<T::Native> {
        self.known[group].then_some(self.values[group])
    }

    fn see(&mut self, group: usize, value: T::Native) {
        if self.get(group).is_none_or(|known| if self.largest { value.is_gt(known) } else { value.is_lt(known) }) {
            (self.values[group], self.known[group]) = (value, true);
        }
    }
}

/// [`Extreme`] for timestamps of any unit.
pub(super) fn extreme_timestamp(unit: TimeUnit, result: DataType, largest: bool) -> Box<dyn Cells> {
    match unit {
        TimeUnit::Second => Box::new(Extreme::<TimestampSecondType>::new(result, largest)),
        TimeUnit::Millisecond => Box::new(Extreme::<TimestampMillisecondType>::new(result, largest)),
        TimeUnit::Microsecond => Box::new(Extreme::<TimestampMicrosecondType>::new(result, largest)),
        TimeUnit::Nanosecond => Box::new(Extreme::<TimestampNanosecondType>::new(result, largest)),
    }
}

impl<T: ArrowPrimitiveType> Cells for Extreme<T> {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.values.resize(total, T::Native::ZERO);
        self.known.resize(total, false);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        let values = change.values[0].as_primitive::<T>().values();
        present(change).for_each(|(row, group)| self.see(group, values[row]));
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        if let Some(value) = self.get(from as usize) {
            self.see(into as usize, value);
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        let values = groups.iter().map(|group| self.get(*group as usize));
        Ok(Arc::new(values.collect::<PrimitiveArray<T>>().with_data_type(self.result.clone())))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        groups.iter().for_each(|group| self.known[*group as usize] = false);
        Ok(())
    }

    fn retain(&mut self, mask: &BooleanArray) {
        keep(&mut self.values, mask);
        keep(&mut self.known, mask);
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(
            (0..self.values.len()).map(|group| self.get(group)).collect::<PrimitiveArray<T>>().with_data_type(self.result.clone()),
        )])
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        let stored = state[0].as_primitive::<T>();
        self.known = (0..stored.len()).map(|group| stored.is_valid(group)).collect();
        self.values = stored.values().to_vec();
        Ok(())
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        let values = states[0].as_primitive::<T>();
        for (group, value) in groups.iter().zip(values) {
            value.into_iter().for_each(|value| self.see(*group as usize, value));
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.known.capacity()
    }
}
