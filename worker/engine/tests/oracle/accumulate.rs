//! Groups, aggregates and OVER, with DataFusion's accumulators: each value from all of its rows anew. Nothing is kept from one row to the next.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{SortColumn, SortOptions, filter_record_batch, lexsort_to_indices, take_record_batch};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::{AggregateFunction, WindowFunction};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use datafusion_physical_expr::aggregate::LoweredAggregateBuilder;

use crate::batch::{column, evaluate, is_true, other};

/// The rows of each group, in the order of their first ones. NULL is equal to NULL here.
pub(crate) fn groups(keys: &[ArrayRef], rows: usize) -> Result<Vec<UInt32Array>> {
    let mut numbers: HashMap<Vec<ScalarValue>, usize> = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for row in 0..rows {
        let key = keys.iter().map(|key| ScalarValue::try_from_array(key, row)).collect::<Result<Vec<_>>>()?;
        let number = *numbers.entry(key).or_insert(groups.len());
        if number == groups.len() {
            groups.push(Vec::new());
        }
        groups[number].push(row as u32);
    }
    Ok(groups.into_iter().map(UInt32Array::from).collect())
}

/// The value of an aggregate for each group.
pub(crate) fn aggregate(expression: &Expr, schema: &DFSchema, input: &RecordBatch, groups: &[UInt32Array]) -> Result<ArrayRef> {
    let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let lowered = LoweredAggregateBuilder::new(expression, schema, schema.as_arrow(), &props, &context).build()?;
    let mut values = Vec::with_capacity(groups.len());
    for rows in groups {
        let mut rows = take_record_batch(input, rows)?;
        if let Some(filter) = &lowered.filter {
            let passes = filter.evaluate(&rows)?.into_array(rows.num_rows())?;
            rows = filter_record_batch(&rows, &is_true(&passes))?;
        }
        let arguments = lowered.aggregate.expressions();
        let arguments =
            arguments.iter().map(|argument| argument.evaluate(&rows)?.into_array(rows.num_rows())).collect::<Result<Vec<_>>>()?;
        let mut accumulator = lowered.aggregate.create_accumulator()?;
        accumulator.update_batch(&arguments)?;
        values.push(accumulator.evaluate()?);
    }
    column(values, lowered.aggregate.field().data_type())
}

/// The value of a window function for each row.
pub(crate) fn over(expression: &Expr, schema: &DFSchema, input: &RecordBatch) -> Result<ArrayRef> {
    let Expr::WindowFunction(function) = expression.clone().unalias() else { return other("a window function is expected") };
    let WindowFunction { fun, params } = *function;
    let evaluated = |expressions: &[Expr]| expressions.iter().map(|part| evaluate(part, schema, input)).collect::<Result<Vec<_>>>();
    let orders = evaluated(&params.order_by.iter().map(|sort| sort.expr.clone()).collect::<Vec<_>>())?;
    let mut by: Vec<SortColumn> = Vec::new();
    for (sort, values) in params.order_by.iter().zip(&orders) {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        by.push(SortColumn { values: Arc::clone(values), options: Some(options) });
    }
    by.push(SortColumn { values: Arc::new(UInt64Array::from_iter_values(0..input.num_rows() as u64)), options: None });
    let ranks = lexsort_to_indices(&by, None)?;
    let mut rank_of = vec![0; input.num_rows()];
    ranks.values().iter().enumerate().for_each(|(rank, row)| rank_of[*row as usize] = rank);

    let mut frames: Vec<UInt32Array> = vec![UInt32Array::from(Vec::<u32>::new()); input.num_rows()];
    let mut numbers = vec![0; input.num_rows()];
    for partition in groups(&evaluated(&params.partition_by)?, input.num_rows())? {
        let mut rows = partition.values().to_vec();
        rows.sort_by_key(|row| rank_of[*row as usize]);
        for (position, row) in rows.iter().enumerate() {
            numbers[*row as usize] = position as u64 + 1;
            if matches!(fun, WindowFunctionDefinition::AggregateUDF(_)) {
                let (from, to) = frame(&params.window_frame, &orders, &rows, position)?;
                frames[*row as usize] = UInt32Array::from(rows[from..to].to_vec());
            }
        }
    }
    match fun {
        WindowFunctionDefinition::WindowUDF(_) => Ok(Arc::new(UInt64Array::from(numbers))),
        WindowFunctionDefinition::AggregateUDF(function) => {
            let call = AggregateFunction::new_udf(function, params.args, params.distinct, params.filter, Vec::new(), params.null_treatment);
            aggregate(&Expr::AggregateFunction(call), schema, input, &frames)
        }
    }
}

/// From which of the sorted rows to before which one the frame of a row goes.
fn frame(frame: &WindowFrame, orders: &[ArrayRef], rows: &[u32], position: usize) -> Result<(usize, usize)> {
    let value = |position: usize| ScalarValue::try_from_array(&orders[0], rows[position] as usize);
    let unbounded = matches!(&frame.start_bound, WindowFrameBound::Preceding(back) if back.is_null());
    if !matches!(frame.end_bound, WindowFrameBound::CurrentRow) {
        return other("frames end at the current row");
    }
    match (frame.units, &frame.start_bound) {
        (WindowFrameUnits::Rows, _) if unbounded => Ok((0, position + 1)),
        (WindowFrameUnits::Rows, WindowFrameBound::Preceding(ScalarValue::UInt64(Some(back)))) => {
            Ok((position.saturating_sub(*back as usize), position + 1))
        }
        (WindowFrameUnits::Range, WindowFrameBound::Preceding(back)) => {
            let here = value(position)?;
            let mut to = position + 1;
            while to < rows.len() && value(to)? == here {
                to += 1;
            }
            let mut from = 0;
            if !unbounded {
                let earliest = here.sub(back)?;
                while value(from)?.partial_cmp(&earliest).is_some_and(std::cmp::Ordering::is_lt) {
                    from += 1;
                }
            }
            Ok((from, to))
        }
        _ => other(&format!("the judge does not know the frame {frame}")),
    }
}
