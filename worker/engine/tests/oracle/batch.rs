//! Evaluates DataFusion's logical plans over whole tables, each relation as it is defined. It is slow and simple on purpose.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat, concat_batches, filter_record_batch, prep_null_mask_filter, take};
use datafusion_common::{Column, DFSchema, DataFusionError, JoinType, NullEquality, Result};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::logical_plan::{Distinct, Join};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::ContextProvider as _;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::Analyzer;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_physical_expr::create_physical_expr;
use datafusion_sql::parser::{DFParser, Statement};
use datafusion_sql::planner::SqlToRel;

use crate::accumulate::{aggregate, groups, over};
use crate::catalog::Catalog;
use crate::tables::Tables;

/// The answer to a query.
pub(crate) fn query(sql: &str, tables: &Tables) -> Result<RecordBatch> {
    let catalog = Catalog::of(tables);
    let mut statements = DFParser::parse_sql(sql)?;
    let Some(Statement::Statement(statement)) = statements.pop_front() else { return other("one query is expected") };
    let plan = SqlToRel::new(&catalog).sql_statement_to_plan(*statement)?;
    let plan = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]).execute_and_check(plan, catalog.options(), |_, _| {})?;
    run(&plan, tables)
}

fn run(plan: &LogicalPlan, tables: &Tables) -> Result<RecordBatch> {
    let below = |index: usize| run(plan.inputs()[index], tables);
    match plan {
        LogicalPlan::TableScan(scan) => {
            let table = &tables[scan.table_name.table()];
            let columns = scan.projection.clone().unwrap_or_else(|| (0..table.num_columns()).collect());
            named(plan, table.project(&columns)?)
        }
        LogicalPlan::SubqueryAlias(_) => named(plan, below(0)?),
        LogicalPlan::Projection(projection) => {
            let input = below(0)?;
            let columns = projection.expr.iter().map(|expression| evaluate(expression, projection.input.schema(), &input));
            made(plan, columns.collect::<Result<_>>()?, input.num_rows())
        }
        LogicalPlan::Filter(filter) => {
            let input = below(0)?;
            let passes = evaluate(&filter.predicate, filter.input.schema(), &input)?;
            Ok(filter_record_batch(&input, &is_true(&passes))?)
        }
        LogicalPlan::Aggregate(node) => {
            let input = below(0)?;
            let schema = node.input.schema();
            let keys: Vec<ArrayRef> =
                node.group_expr.iter().map(|expression| evaluate(expression, schema, &input)).collect::<Result<_>>()?;
            let mut grouped = groups(&keys, input.num_rows())?;
            if keys.is_empty() && grouped.is_empty() {
                grouped.push(UInt32Array::from(Vec::<u32>::new()));
            }
            let firsts = UInt32Array::from_iter_values(grouped.iter().filter(|_| !keys.is_empty()).map(|rows| rows.value(0)));
            let mut columns: Vec<ArrayRef> = keys.iter().map(|key| Ok(take(key, &firsts, None)?)).collect::<Result<_>>()?;
            for expression in &node.aggr_expr {
                columns.push(aggregate(expression, schema, &input, &grouped)?);
            }
            made(plan, columns, grouped.len())
        }
        LogicalPlan::Window(node) => {
            let input = below(0)?;
            let mut columns = input.columns().to_vec();
            for expression in &node.window_expr {
                columns.push(over(expression, node.input.schema(), &input)?);
            }
            made(plan, columns, input.num_rows())
        }
        LogicalPlan::Distinct(Distinct::All(_)) => {
            let input = below(0)?;
            let firsts = groups(input.columns(), input.num_rows())?.iter().map(|rows| rows.value(0)).collect::<Vec<_>>();
            Ok(arrow::compute::take_record_batch(&input, &UInt32Array::from(firsts))?)
        }
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| named(plan, run(input, tables)?)).collect::<Result<Vec<_>>>()?;
            Ok(concat_batches(&inputs[0].schema(), &inputs)?)
        }
        LogicalPlan::Join(node) => join(plan, node, &below(0)?, &below(1)?),
        unknown => other(&format!("the judge does not know {}", unknown.display())),
    }
}

/// Every pair for which the condition is true; of outer joins, rows without a partner besides.
fn join(plan: &LogicalPlan, node: &Join, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch> {
    let (lefts, rights) = (left.num_rows() as u32, right.num_rows() as u32);
    let mut on_left = UInt32Array::from_iter_values((0..lefts).flat_map(|row| std::iter::repeat_n(row, rights as usize)));
    let mut on_right = UInt32Array::from_iter_values((0..lefts).flat_map(|_| 0..rights));
    let schema = node.left.schema().join(node.right.schema())?;
    let mut conditions: Vec<Expr> = node.filter.iter().cloned().collect();
    for (one, other) in &node.on {
        conditions.push(match node.null_equality {
            NullEquality::NullEqualsNothing => one.clone().eq(other.clone()),
            NullEquality::NullEqualsNull => {
                datafusion_expr::binary_expr(one.clone(), datafusion_expr::Operator::IsNotDistinctFrom, other.clone())
            }
        });
    }
    for condition in conditions {
        let pairs = padded(left, &on_left, right, &on_right)?;
        let pairs = RecordBatch::try_new_with_options(
            Arc::clone(schema.inner()),
            pairs,
            &RecordBatchOptions::new().with_row_count(Some(on_left.len())),
        )?;
        let met = is_true(&evaluate(&condition, &schema, &pairs)?);
        on_left = arrow::compute::filter(&on_left, &met)?.as_primitive().clone();
        on_right = arrow::compute::filter(&on_right, &met)?.as_primitive().clone();
    }
    let alone = |count: u32, met: &UInt32Array, wanted: bool| {
        let met: HashSet<u32> = met.values().iter().copied().collect();
        (0..count).filter(|row| wanted && !met.contains(row)).map(Some).collect::<Vec<_>>()
    };
    let left_alone = alone(lefts, &on_left, matches!(node.join_type, JoinType::Left | JoinType::Full));
    let right_alone = alone(rights, &on_right, matches!(node.join_type, JoinType::Right | JoinType::Full));
    let nobody = |count: usize| std::iter::repeat_n(None, count);
    let all_left: UInt32Array = on_left.iter().chain(left_alone.clone()).chain(nobody(right_alone.len())).collect();
    let all_right: UInt32Array = on_right.iter().chain(nobody(left_alone.len())).chain(right_alone).collect();
    made(plan, padded(left, &all_left, right, &all_right)?, all_left.len())
}

fn padded(left: &RecordBatch, on_left: &UInt32Array, right: &RecordBatch, on_right: &UInt32Array) -> Result<Vec<ArrayRef>> {
    let lefts = left.columns().iter().map(|column| Ok(take(column, on_left, None)?));
    lefts.chain(right.columns().iter().map(|column| Ok(take(column, on_right, None)?))).collect()
}

/// The values of an expression.
pub(crate) fn evaluate(expression: &Expr, schema: &DFSchema, input: &RecordBatch) -> Result<ArrayRef> {
    // What an aggregate or a window has computed is a column by its name.
    let position = schema.index_of_column(&Column::from_name(expression.schema_name().to_string()));
    if let (Expr::AggregateFunction(_) | Expr::WindowFunction(_), Ok(position)) = (expression, position) {
        return Ok(Arc::clone(input.column(position)));
    }
    let physical = create_physical_expr(expression, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    physical.evaluate(input)?.into_array(input.num_rows())
}

pub(crate) fn is_true(values: &ArrayRef) -> BooleanArray {
    let values = values.as_boolean();
    if values.null_count() == 0 { values.clone() } else { prep_null_mask_filter(values) }
}

fn named(plan: &LogicalPlan, records: RecordBatch) -> Result<RecordBatch> {
    let rows = records.num_rows();
    made(plan, records.columns().to_vec(), rows)
}

fn made(plan: &LogicalPlan, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(plan.schema().inner()), columns, &options)?)
}

/// One array of scalars of one type.
pub(crate) fn column(values: Vec<datafusion_common::ScalarValue>, like: &arrow::datatypes::DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(arrow::array::new_empty_array(like));
    }
    let arrays = values.iter().map(datafusion_common::ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
    Ok(concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
}

pub(crate) fn other<T>(message: &str) -> Result<T> {
    Err(DataFusionError::Internal(message.to_owned()))
}
