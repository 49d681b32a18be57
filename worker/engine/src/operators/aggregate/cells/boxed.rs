//! One accumulator of DataFusion for each group. Takes rows back only if the accumulator can.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::take;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Accumulator;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::{Cells, Change, SharedState};

pub(super) struct Boxed {
    function: Arc<AggregateFunctionExpr>,
    /// Whether rows are taken back.
    sliding: bool,
    groups: Vec<Box<dyn Accumulator>>,
}

impl Boxed {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>, sliding: bool) -> Self {
        Self { function, sliding, groups: Vec::new() }
    }

    fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        if self.sliding { self.function.create_sliding_accumulator() } else { self.function.create_accumulator() }
    }

    /// Hands each group its rows, all at once.
    fn each(&mut self, change: &Change<'_>, adds: bool) -> Result<()> {
        let mut rows: Vec<(u32, u32)> = (0_u32..)
            .zip(change.groups)
            .filter(|(row, _)| change.counts(*row as usize) && change.adds(*row as usize) == adds)
            .map(|(row, group)| (*group, row))
            .collect();
        // In the order in which they came, within each group.
        rows.sort_unstable();
        let order = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        let values = change.values.iter().map(|values| take(values, &order, None)).collect::<Result<Vec<_>, _>>()?;
        let mut start = 0;
        for part in rows.chunk_by(|one, other| one.0 == other.0) {
            let slice: Vec<ArrayRef> = values.iter().map(|values| values.slice(start, part.len())).collect();
            let group = &mut self.groups[part[0].0 as usize];
            if adds {
                group.update_batch(&slice)?
            } else {
                group.retract_batch(&slice)?
            }
            start += part.len();
        }
        Ok(())
    }
}

impl Cells for Boxed {
    fn grow(&mut self, total: usize) -> Result<()> {
        while self.groups.len() < total {
            self.groups.push(self.accumulator()?);
        }
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        self.each(change, true)?;
        if change.additions.is_some() { self.each(change, false) } else { Ok(()) }
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        let empty = self.accumulator()?;
        let mut from = std::mem::replace(&mut self.groups[from as usize], empty);
        let state = from.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
        self.groups[into as usize].merge_batch(&state)
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        if groups.is_empty() {
            return Ok(arrow::array::new_empty_array(self.function.field().data_type()));
        }
        let values = groups.iter().map(|group| self.groups[*group as usize].evaluate()).collect::<Result<Vec<_>>>()?;
        ScalarValue::iter_to_array(values)
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        for group in groups {
            self.groups[*group as usize] = self.accumulator()?;
        }
        Ok(())
    }

    fn retain(&mut self, keep: &BooleanArray) {
        let mut group = 0;
        self.groups.retain(|_| {
            group += 1;
            keep.value(group - 1)
        });
    }

    fn share(&mut self) -> Result<SharedState> {
        let mut columns: Vec<Vec<ScalarValue>> = Vec::new();
        for group in 0..self.groups.len() {
            // Giving its state away may use an accumulator up.
            let state = self.groups[group].state()?;
            let mut again = self.accumulator()?;
            let arrays = state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
            again.merge_batch(&arrays)?;
            self.groups[group] = again;
            columns.resize_with(state.len(), Vec::new);
            columns.iter_mut().zip(state).for_each(|(column, value)| column.push(value));
        }
        Ok(Box::new(move || columns.into_iter().map(ScalarValue::iter_to_array).collect()))
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        let rows = state.first().map_or(0, |column| column.len());
        self.grow(rows)?;
        for (row, group) in self.groups.iter_mut().enumerate() {
            group.merge_batch(&state.iter().map(|column| column.slice(row, 1)).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        for (row, group) in groups.iter().enumerate() {
            self.groups[*group as usize].merge_batch(&states.iter().map(|column| column.slice(row, 1)).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        // Asking each would take longer than it is worth: a few tell what all are like.
        let asked = self.groups.len().min(16);
        let some: usize = self.groups[..asked].iter().map(|group| group.size()).sum();
        some.checked_div(asked).unwrap_or_default() * self.groups.len()
    }
}
