//! COUNT, SUM, AVG, MIN and MAX over numbers, as vectors by group. Wraps on overflow, as DataFusion's do.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use datafusion_common::Result;

use super::tallies::Tallies;
use super::{Cells, Change, SharedState};
use crate::state::{SharedBits, SharedVec};

/// Rows that count and whose arguments are not NULL.
fn present<'a>(change: &'a Change<'a>) -> impl Iterator<Item = (usize, usize)> + 'a {
    let nullable: Vec<_> = change.values.iter().filter_map(Array::logical_nulls).collect();
    let rows = change.groups.iter().enumerate();
    rows.filter(move |(row, _)| change.counts(*row) && nullable.iter().all(|nulls| nulls.is_valid(*row)))
        .map(|(row, group)| (row, *group as usize))
}

#[derive(Default)]
pub(super) struct Count {
    counts: Tallies,
}

impl Count {
    pub(super) fn new() -> Self {
        Self::default()
    }
}

impl Cells for Count {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.counts.grow(total);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        present(change).for_each(|(row, group)| self.counts.add(group, if change.adds(row) { 1 } else { -1 }));
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.counts.add(into as usize, self.counts.get(from as usize));
        Ok(())
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.counts.get(*group as usize)))))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        groups.iter().for_each(|group| self.counts.reset(*group as usize));
        Ok(())
    }

    fn retain(&mut self, keep: &BooleanArray) {
        self.counts.retain(keep);
    }

    fn share(&mut self) -> Result<SharedState> {
        let counts = self.counts.share();
        Ok(Box::new(move || Ok(vec![counts.column()])))
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        self.counts = Tallies::from(state[0].as_primitive::<Int64Type>().values().as_ref());
        Ok(())
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        let counts = states[0].as_primitive::<Int64Type>().values();
        groups.iter().zip(counts).for_each(|(group, count)| self.counts.add(*group as usize, *count));
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.counts.memory_bytes()
    }
}

/// How many values a sum is of.
enum Summed {
    /// Where values can be taken back: the number of them.
    Number(Tallies),
    /// Where not: whether there are any. As a number that is 1.
    Any(SharedBits),
}

impl Summed {
    fn grow(&mut self, total: usize) {
        match self {
            Self::Number(numbers) => numbers.grow(total),
            Self::Any(any) => any.grow(total),
        }
    }

    fn get(&self, group: usize) -> i64 {
        match self {
            Self::Number(numbers) => numbers.get(group),
            Self::Any(any) => any.get(group).into(),
        }
    }

    #[inline]
    fn add(&mut self, group: usize, more: i64) {
        match self {
            Self::Number(numbers) => numbers.add(group, more),
            Self::Any(any) if more > 0 => any.set(group, true),
            Self::Any(_) => {}
        }
    }

    fn reset(&mut self, group: usize) {
        match self {
            Self::Number(numbers) => numbers.reset(group),
            Self::Any(any) => any.set(group, false),
        }
    }

    fn retain(&mut self, keep: &BooleanArray) {
        match self {
            Self::Number(numbers) => numbers.retain(keep),
            Self::Any(any) => any.retain(keep),
        }
    }

    /// What they are now, as a column that is made later.
    fn share(&mut self) -> Box<dyn FnOnce() -> ArrayRef + Send> {
        match self {
            Self::Number(numbers) => {
                let numbers = numbers.share();
                Box::new(move || numbers.column())
            }
            Self::Any(any) => {
                let any = any.share();
                Box::new(move || Arc::new(Int64Array::from_iter_values(any.iter().map(i64::from))))
            }
        }
    }

    fn restore(&mut self, counts: &[i64]) {
        match self {
            Self::Number(numbers) => *numbers = Tallies::from(counts),
            Self::Any(any) => *any = counts.iter().map(|count| *count > 0).collect(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Number(numbers) => numbers.memory_bytes(),
            Self::Any(any) => any.memory_bytes(),
        }
    }
}

/// Sums, with the number of values: without any, the sum is NULL.
pub(super) struct Sum<T: ArrowPrimitiveType> {
    result: DataType,
    sums: SharedVec<T::Native>,
    counts: Summed,
}

impl<T: ArrowPrimitiveType> Sum<T> {
    /// `counts`: whether it matters how many values there are, because some may be taken back.
    pub(super) fn new(result: DataType, counts: bool) -> Self {
        let counts = if counts { Summed::Number(Tallies::default()) } else { Summed::Any(SharedBits::default()) };
        Self { result, sums: SharedVec::default(), counts }
    }
}

impl<T: ArrowPrimitiveType> Cells for Sum<T> {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.sums.grow(total, T::Native::ZERO);
        self.counts.grow(total);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        let values = change.values[0].as_primitive::<T>().values();
        for (row, group) in present(change) {
            let sum = self.sums.at(group);
            if change.adds(row) {
                *sum = sum.add_wrapping(values[row]);
                self.counts.add(group, 1);
            } else {
                *sum = sum.sub_wrapping(values[row]);
                self.counts.add(group, -1);
            }
        }
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        let (into, from) = (into as usize, from as usize);
        *self.sums.at(into) = self.sums.get(into).add_wrapping(self.sums.get(from));
        self.counts.add(into, self.counts.get(from));
        Ok(())
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        let values = groups.iter().map(|group| (self.counts.get(*group as usize) > 0).then(|| self.sums.get(*group as usize)));
        Ok(Arc::new(values.collect::<PrimitiveArray<T>>().with_data_type(self.result.clone())))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        for group in groups {
            *self.sums.at(*group as usize) = T::Native::ZERO;
            self.counts.reset(*group as usize);
        }
        Ok(())
    }

    fn retain(&mut self, keep: &BooleanArray) {
        self.sums.retain(keep);
        self.counts.retain(keep);
    }

    fn share(&mut self) -> Result<SharedState> {
        let (result, sums, counts) = (self.result.clone(), self.sums.share(), self.counts.share());
        Ok(Box::new(move || {
            let sums = PrimitiveArray::<T>::from_iter_values(sums.iter()).with_data_type(result);
            Ok(vec![Arc::new(sums), counts()])
        }))
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        self.sums = state[0].as_primitive::<T>().values().iter().copied().collect();
        self.counts.restore(state[1].as_primitive::<Int64Type>().values());
        Ok(())
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        let (sums, counts) = (states[0].as_primitive::<T>().values(), states[1].as_primitive::<Int64Type>().values());
        for ((group, sum), count) in groups.iter().zip(sums).zip(counts) {
            let group = *group as usize;
            *self.sums.at(group) = self.sums.get(group).add_wrapping(*sum);
            self.counts.add(group, *count);
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.sums.memory_bytes() + self.counts.memory_bytes()
    }
}

/// Averages: a sum and a number.
pub(super) struct Average(Sum<Float64Type>);

impl Average {
    pub(super) fn new() -> Self {
        Self(Sum::new(DataType::Float64, true))
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
            let count = self.0.counts.get(*group as usize);
            (count > 0).then(|| self.0.sums.get(*group as usize) / count as f64)
        };
        Ok(Arc::new(groups.iter().map(average).collect::<Float64Array>()))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        self.0.reset(groups)
    }

    fn retain(&mut self, keep: &BooleanArray) {
        self.0.retain(keep);
    }

    fn share(&mut self) -> Result<SharedState> {
        self.0.share()
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
    values: SharedVec<T::Native>,
    /// Whether there is a value: beside it, it would take as much room as the value.
    known: SharedBits,
}

impl<T: ArrowPrimitiveType> Extreme<T> {
    pub(super) fn new(result: DataType, largest: bool) -> Self {
        Self { result, largest, values: SharedVec::default(), known: SharedBits::default() }
    }

    fn get(&self, group: usize) -> Option<T::Native> {
        self.known.get(group).then(|| self.values.get(group))
    }

    fn see(&mut self, group: usize, value: T::Native) {
        if self.get(group).is_none_or(|known| if self.largest { value.is_gt(known) } else { value.is_lt(known) }) {
            *self.values.at(group) = value;
            self.known.set(group, true);
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
        self.values.grow(total, T::Native::ZERO);
        self.known.grow(total);
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
        groups.iter().for_each(|group| self.known.set(*group as usize, false));
        Ok(())
    }

    fn retain(&mut self, keep: &BooleanArray) {
        self.values.retain(keep);
        self.known.retain(keep);
    }

    fn share(&mut self) -> Result<SharedState> {
        let (result, values, known) = (self.result.clone(), self.values.share(), self.known.share());
        Ok(Box::new(move || {
            let values = values.iter().zip(known.iter()).map(|(value, known)| known.then_some(value));
            Ok(vec![Arc::new(values.collect::<PrimitiveArray<T>>().with_data_type(result))])
        }))
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        let stored = state[0].as_primitive::<T>();
        self.known = (0..stored.len()).map(|group| stored.is_valid(group)).collect();
        self.values = stored.values().iter().copied().collect();
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
        self.values.memory_bytes() + self.known.memory_bytes()
    }
}
