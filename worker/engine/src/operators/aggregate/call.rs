//! Calls of aggregate functions, and their accumulators for many groups at once. Knows neither keys nor windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::GroupsAccumulatorAdapter;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::ExecuteError;
use crate::operators::columns::place;

/// A call of an aggregate function.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The function with its arguments, DISTINCT and ORDER BY.
    pub(crate) function: Arc<AggregateFunctionExpr>,
    /// Its arguments, and after them what it orders by.
    pub(crate) arguments: Vec<Argument>,
    /// Types of [`Call::arguments`].
    pub(crate) input: Vec<DataType>,
    /// The column of FILTER: only rows for which it is true count.
    pub(crate) filter: Option<usize>,
    /// As SQL, for people.
    pub(crate) sql: String,
    /// What it computes from which columns, exactly.
    pub(crate) identity: String,
}

/// An argument of an aggregate function.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    /// A column of what arrives.
    Column(usize),
    /// The same for all rows.
    Literal(ScalarValue),
}

impl Call {
    /// The arguments for some rows; `columns` are those of what arrived.
    pub(in crate::operators) fn values(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>, ExecuteError> {
        let value = |argument: &Argument| match argument {
            Argument::Column(column) => Ok(Arc::clone(&columns[*column])),
            Argument::Literal(value) => value.to_array_of_size(rows).map_err(|error| self.failed(error)),
        };
        self.arguments.iter().map(value).collect()
    }

    /// Which rows count.
    pub(super) fn mask(&self, columns: &[ArrayRef]) -> Option<BooleanArray> {
        let mask = columns[self.filter?].as_boolean();
        Some(if mask.null_count() == 0 { mask.clone() } else { arrow::compute::prep_null_mask_filter(mask) })
    }

    /// The same where only these columns arrive.
    pub(super) fn narrowed(&self, kept: &[usize]) -> Self {
        let argument = |argument: &Argument| match argument {
            Argument::Column(column) => Argument::Column(place(kept, *column)),
            Argument::Literal(value) => Argument::Literal(value.clone()),
        };
        let filter = self.filter.map(|filter| place(kept, filter));
        Self { arguments: self.arguments.iter().map(argument).collect(), filter, ..self.clone() }
    }

    /// The columns that the call reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> {
        let arguments = self.arguments.iter().filter_map(|argument| match argument {
            Argument::Column(column) => Some(*column),
            Argument::Literal(_) => None,
        });
        arguments.chain(self.filter)
    }

    /// Types of its arguments.
    pub(super) fn types(&self) -> Vec<DataType> {
        self.input.clone()
    }

    /// What its accumulated state depends on, wherever the columns stand.
    pub(crate) fn signature(&self) -> String {
        format!("{} of {:?} as {}", self.sql, self.input, self.function.field().data_type())
    }

    pub(in crate::operators) fn failed(&self, error: DataFusionError) -> ExecuteError {
        ExecuteError::Expression { expression: self.sql.clone(), source: Box::new(error) }
    }
}

/// Whether calls can be computed at all: not every function knows DISTINCT, or every type.
pub(crate) fn check(calls: &[Call]) -> Result<(), ExecuteError> {
    let mut accumulators = Accumulators::new(calls)?;
    for (accumulator, call) in accumulators.0.iter_mut().zip(calls) {
        // Some say so only when they are to begin.
        let nothing: Vec<ArrayRef> = call.input.iter().map(arrow::array::new_empty_array).collect();
        accumulator.update_batch(&nothing, &[], None, 1).map_err(|error| call.failed(error))?;
    }
    Ok(())
}

/// The accumulators of all calls of an operator, for groups by number.
pub(super) struct Accumulators(Vec<Box<dyn GroupsAccumulator>>);

impl Accumulators {
    pub(super) fn new(calls: &[Call]) -> Result<Self, ExecuteError> {
        calls.iter().map(|call| accumulator(&call.function).map_err(|error| call.failed(error))).collect::<Result<_, _>>().map(Self)
    }

    /// Takes rows in: row `n` belongs to group `groups[n]`, all of which are below `total`.
    pub(super) fn update(&mut self, calls: &[Call], columns: &[ArrayRef], groups: &[usize], total: usize) -> Result<(), ExecuteError> {
        for (accumulator, call) in self.0.iter_mut().zip(calls) {
            let values = call.values(columns, groups.len())?;
            accumulator.update_batch(&values, groups, call.mask(columns).as_ref(), total).map_err(|error| call.failed(error))?;
        }
        Ok(())
    }

    /// Takes in what [`Accumulators::state`] has given.
    pub(super) fn merge(&mut self, calls: &[Call], states: &[Vec<ArrayRef>], groups: &[usize], total: usize) -> Result<(), ExecuteError> {
        for ((accumulator, call), state) in self.0.iter_mut().zip(calls).zip(states) {
            accumulator.merge_batch(state, groups, total).map_err(|error| call.failed(error))?;
        }
        Ok(())
    }

    /// The results of all groups, by number, for each call.
    pub(super) fn evaluate(mut self, calls: &[Call]) -> Result<Vec<ArrayRef>, ExecuteError> {
        let results = self.0.iter_mut().zip(calls);
        results.map(|(accumulator, call)| accumulator.evaluate(EmitTo::All).map_err(|error| call.failed(error))).collect()
    }

    /// The state of all groups, by number, for each call: columns that can be stored and [merged](Accumulators::merge).
    pub(super) fn state(mut self, calls: &[Call]) -> Result<Vec<Vec<ArrayRef>>, ExecuteError> {
        let states = self.0.iter_mut().zip(calls);
        states.map(|(accumulator, call)| accumulator.state(EmitTo::All).map_err(|error| call.failed(error))).collect()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.0.iter().map(|accumulator| accumulator.size()).sum()
    }
}

fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}
