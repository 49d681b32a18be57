//! Which columns are read: from the outputs back to the inputs. Decides nothing about how they are computed.

use std::collections::{BTreeMap, BTreeSet};

use datafusion_common::{DFSchema, DataFusionError, Result};
use datafusion_expr::logical_plan::{Aggregate, Join, Window};
use datafusion_expr::{Expr, LogicalPlan};

use super::join::{JoinEnd, JoinPlan};
use super::over::OverPlan;
use super::rank::RankPlan;
use super::temporal;
use super::time::Clock;
use super::window::{self, Grouping, WindowNode};

/// Positions in a schema.
pub(super) type Columns = BTreeSet<usize>;

/// Columns of `schema` that an expression reads.
pub(super) fn read_by(expression: &Expr, schema: &DFSchema) -> Result<Columns> {
    expression.column_refs().into_iter().map(|column| schema.index_of_column(column)).collect()
}

/// Adds what `plan` reads of each table, if only `needed` of its own columns are read.
pub(super) fn of_tables(plan: &LogicalPlan, needed: &Columns, tables: &mut BTreeMap<String, Columns>) -> Result<()> {
    if let LogicalPlan::TableScan(scan) = plan {
        let read = needed.iter().map(|column| scan.projection.as_ref().map_or(*column, |projection| projection[*column]));
        tables.entry(scan.table_name.table().to_owned()).or_default().extend(read);
        return Ok(());
    }
    for (input, needed) in plan.inputs().into_iter().zip(of_inputs(plan, needed)?) {
        of_tables(input, &needed, tables)?;
    }
    Ok(())
}

/// Adds the tables whose watermarks some operator of `plan` waits for; all of them if a reader of the plan does.
pub(super) fn timed_tables(plan: &LogicalPlan, timed: bool, tables: &mut BTreeSet<String>) -> Result<()> {
    if let LogicalPlan::TableScan(scan) = plan
        && timed
    {
        tables.insert(scan.table_name.table().to_owned());
    }
    // The numbers of a top-N are its filter's.
    if let LogicalPlan::Filter(filter) = plan
        && let Some(rank) = RankPlan::of(filter)?
    {
        return timed_tables(&rank.window.input, timed || rank.clock().is_event(), tables);
    }
    if let LogicalPlan::Extension(extension) = plan
        && let Some(node) = temporal::of_extension(extension)
    {
        // What only is there now has no time that rows of the left wait for.
        let versions = node.since.is_some();
        timed_tables(&node.left, timed || versions, tables)?;
        return timed_tables(&node.right, versions, tables);
    }
    let timed = timed || waits(plan)?;
    plan.inputs().into_iter().try_for_each(|input| timed_tables(input, timed, tables))
}

/// Whether a node becomes an operator that waits for watermarks.
fn waits(node: &LogicalPlan) -> Result<bool> {
    Ok(match node {
        LogicalPlan::Aggregate(aggregate) => {
            !matches!(Grouping::of(aggregate)?, Grouping::Window(window) if window.clock == Clock::Processing)
        }
        LogicalPlan::Join(join) => JoinPlan::of(join)?.clock().is_event(),
        LogicalPlan::Window(window) => OverPlan::of(window)?.map_or(true, |over| over.clock().is_event()),
        _ => false,
    })
}

/// What `plan` reads of each of its inputs, if only `needed` of its own columns are read.
pub(super) fn of_inputs(plan: &LogicalPlan, needed: &Columns) -> Result<Vec<Columns>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let mut below = Columns::new();
            for column in needed {
                below.extend(read_by(&projection.expr[*column], projection.input.schema())?);
            }
            Ok(vec![below])
        }
        LogicalPlan::Filter(filter) => Ok(vec![needed.union(&read_by(&filter.predicate, filter.input.schema())?).copied().collect()]),
        LogicalPlan::SubqueryAlias(_) => Ok(vec![needed.clone()]),
        LogicalPlan::Union(union) => Ok(vec![needed.clone(); union.inputs.len()]),
        LogicalPlan::Extension(extension) => match window::of_extension(extension) {
            Some(node) => Ok(vec![of_window(node, needed)?]),
            None => match temporal::of_extension(extension) {
                Some(node) => node.of_inputs(needed),
                None => Err(outside(plan)),
            },
        },
        LogicalPlan::Aggregate(aggregate) => Ok(vec![of_aggregate(aggregate, needed)?]),
        LogicalPlan::Join(join) => of_join(join, needed),
        LogicalPlan::Window(window) => Ok(vec![of_functions(window, needed)?]),
        LogicalPlan::TableScan(_) => Ok(Vec::new()),
        other => Err(outside(other)),
    }
}

/// The time, always; what keys sessions; and what is passed through.
fn of_window(node: &WindowNode, needed: &Columns) -> Result<Columns> {
    let schema = node.input.schema();
    let mut below: Columns = needed.iter().copied().filter(|column| *column < node.input_columns()).collect();
    for column in std::iter::once(&node.time).chain(&node.partition_by) {
        below.insert(schema.index_of_column(column)?);
    }
    Ok(below)
}

/// All that rows are grouped by, and what the aggregates read that are needed.
fn of_aggregate(aggregate: &Aggregate, needed: &Columns) -> Result<Columns> {
    let schema = aggregate.input.schema();
    let mut below = Columns::new();
    for group in &aggregate.group_expr {
        below.extend(read_by(group, schema)?);
    }
    for column in needed.iter().filter(|column| **column >= aggregate.group_expr.len()) {
        below.extend(read_by(&aggregate.aggr_expr[*column - aggregate.group_expr.len()], schema)?);
    }
    Ok(below)
}

/// Keys, times, what the condition reads, and what is passed through.
fn of_join(join: &Join, needed: &Columns) -> Result<Vec<Columns>> {
    let plan = JoinPlan::of(join)?;
    let (left, right) = (join.left.schema(), join.right.schema());
    let mut read = needed.clone();
    if let Some(residual) = &plan.residual {
        read.extend(read_by(residual, &join.schema)?);
    }
    let (mut below, mut other): (Columns, Columns) = read.iter().partition(|column| **column < left.fields().len());
    other = other.iter().map(|column| column - left.fields().len()).collect();
    for (left_key, right_key) in &join.on {
        below.extend(read_by(left_key, left)?);
        other.extend(read_by(right_key, right)?);
    }
    if let JoinEnd::Interval { times: [one, two], .. } | JoinEnd::Window { ends: [one, two] } = plan.end {
        below.insert(one);
        other.insert(two);
    }
    Ok(vec![below, other])
}

/// All that the functions read, whether they are needed or not, and what is passed through.
fn of_functions(window: &Window, needed: &Columns) -> Result<Columns> {
    let schema = window.input.schema();
    let mut below: Columns = needed.iter().copied().filter(|column| *column < schema.fields().len()).collect();
    for function in &window.window_expr {
        below.extend(read_by(function, schema)?);
    }
    Ok(below)
}

/// A node that the whitelist should have stopped.
pub(super) fn outside(node: &LogicalPlan) -> DataFusionError {
    DataFusionError::NotImplemented(format!("{} is not supported", node.display()))
}
