//! Which GROUP BY is bounded by a window, and whether its window function can be computed along with it. Looks at the plan only.

use datafusion_common::Result;
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::{Expr, LogicalPlan};

use super::node::{WindowNode, of_extension};
use crate::operators::Windows;
use crate::plan::time::{Clock, TimeAttribute};
use crate::plan::traits::{self, renamed};

/// What ends the state of an aggregate.
#[derive(Debug)]
pub(in crate::plan) enum Grouping<'a> {
    /// A window.
    Window(WindowGrouping<'a>),
    /// Nothing but the time to live.
    Unbounded,
}

/// An aggregate for each window.
#[derive(Debug)]
pub(in crate::plan) struct WindowGrouping<'a> {
    /// For each expression of GROUP BY, what it tells about the window.
    pub(in crate::plan) attributes: Vec<Option<TimeAttribute>>,
    /// For each expression of GROUP BY, its position in the input if it is a column there.
    pub(in crate::plan) columns: Vec<Option<usize>>,
    /// The window function, if rows need not be given windows one by one.
    pub(in crate::plan) fused: Option<&'a WindowNode>,
    /// What says that a window has ended.
    pub(in crate::plan) clock: Clock,
}

impl<'a> Grouping<'a> {
    pub(in crate::plan) fn of(aggregate: &'a Aggregate) -> Result<Self> {
        let input = traits::of(&aggregate.input)?;
        let schema = aggregate.input.schema();
        let columns = aggregate.group_expr.iter().map(|expr| renamed(expr).map(|column| schema.index_of_column(column)).transpose());
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut attributes: Vec<Option<TimeAttribute>> = columns
            .iter()
            .map(|column| column.and_then(|column| input.times[column]).filter(|attribute| attribute.is_of_window()))
            .collect();
        let clock = attributes.iter().flatten().next().map_or(Clock::EVENT, |first| first.clock());
        // A window is of one clock; columns of another window are keys like any other.
        attributes.iter_mut().for_each(|attribute| *attribute = attribute.filter(|attribute| attribute.clock() == clock));
        let has = |wanted: fn(Clock) -> TimeAttribute| attributes.contains(&Some(wanted(clock)));
        let fused = if reads_windows(aggregate, &input.times)? { None } else { fused(&aggregate.input)? };
        // The end of a window tells when it is complete; where all windows have one length, so does the start.
        let of_one_length = fused.is_some_and(|node| matches!(node.windows, Windows::Tumble { .. } | Windows::Hop { .. }));
        let bounded = has(TimeAttribute::WindowEnd) || has(TimeAttribute::WindowTime) || (has(TimeAttribute::WindowStart) && of_one_length);
        Ok(if bounded { Self::Window(WindowGrouping { attributes, columns, fused, clock }) } else { Self::Unbounded })
    }
}

/// Whether something but GROUP BY itself reads columns of the window.
fn reads_windows(aggregate: &Aggregate, times: &[Option<TimeAttribute>]) -> Result<bool> {
    let computed = aggregate.group_expr.iter().filter(|expr| renamed(expr).is_none());
    reads(computed.chain(&aggregate.aggr_expr), &aggregate.input, times)
}

fn reads<'e>(exprs: impl Iterator<Item = &'e Expr>, input: &LogicalPlan, times: &[Option<TimeAttribute>]) -> Result<bool> {
    for expr in exprs {
        for column in expr.column_refs() {
            if times[input.schema().index_of_column(column)?].is_some_and(TimeAttribute::is_of_window) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The window function below a plan, if nothing between reads its columns.
fn fused(plan: &LogicalPlan) -> Result<Option<&WindowNode>> {
    let (mut plan, mut filtered) = (plan, false);
    loop {
        plan = match plan {
            LogicalPlan::Extension(extension) => {
                // A row that is filtered out holds its session together all the same.
                let holds = |node: &&WindowNode| !(filtered && matches!(node.windows, Windows::Session { .. }));
                return Ok(of_extension(extension).filter(holds));
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Filter(filter) => {
                filtered = true;
                let times = traits::of(&filter.input)?.times;
                if reads(std::iter::once(&filter.predicate), &filter.input, &times)? {
                    return Ok(None);
                }
                &filter.input
            }
            LogicalPlan::Projection(projection) => {
                let times = traits::of(&projection.input)?.times;
                if reads(projection.expr.iter().filter(|expr| renamed(expr).is_none()), &projection.input, &times)? {
                    return Ok(None);
                }
                &projection.input
            }
            _ => return Ok(None),
        };
    }
}

impl WindowGrouping<'_> {
    /// Positions in GROUP BY of bounds of the window each of which tells which window it is: its end, its last millisecond, and its start where all windows
    /// have one length.
    pub(in crate::plan) fn interchangeable(&self) -> Vec<usize> {
        let of_one_length = self.fused.is_some_and(|node| matches!(node.windows, Windows::Tumble { .. } | Windows::Hop { .. }));
        let tells = |attribute: &Option<TimeAttribute>| match attribute {
            Some(TimeAttribute::WindowEnd(_) | TimeAttribute::WindowTime(_)) => self.fused.is_some(),
            Some(TimeAttribute::WindowStart(_)) => of_one_length,
            _ => false,
        };
        self.attributes.iter().enumerate().filter(|(_, attribute)| tells(attribute)).map(|(group, _)| group).collect()
    }

    /// Whether GROUP BY names exactly what SESSION is partitioned by, beside the window.
    pub(in crate::plan) fn groups_by_session(&self, aggregate: &Aggregate, node: &WindowNode) -> Result<bool> {
        let mut keys = Vec::new();
        for (column, attribute) in self.columns.iter().zip(&self.attributes) {
            match (column, attribute) {
                (_, Some(_)) => {}
                (Some(column), None) => keys.push(source(&aggregate.input, *column)?),
                (None, None) => return Ok(false),
            }
        }
        let mut partitions = Vec::new();
        for column in &node.partition_by {
            partitions.push(Some(node.input.schema().index_of_column(column)?));
        }
        let has = |attribute: fn(Clock) -> TimeAttribute| self.attributes.contains(&Some(attribute(self.clock)));
        let both = has(TimeAttribute::WindowStart) && (has(TimeAttribute::WindowEnd) || has(TimeAttribute::WindowTime));
        keys.sort_unstable();
        partitions.sort_unstable();
        keys.dedup();
        partitions.dedup();
        Ok(both && keys == partitions)
    }
}

/// The position of a column in the window function below a plan that [`fused`] has gone through.
fn source(plan: &LogicalPlan, column: usize) -> Result<Option<usize>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => source(&alias.input, column),
        LogicalPlan::Filter(filter) => source(&filter.input, column),
        LogicalPlan::Projection(projection) => match renamed(&projection.expr[column]) {
            Some(below) => source(&projection.input, projection.input.schema().index_of_column(below)?),
            None => Ok(None),
        },
        _ => Ok(Some(column)),
    }
}
