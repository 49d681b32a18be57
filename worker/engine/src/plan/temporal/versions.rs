//! The versions of a table that keeps the last row of each key by event time (`ROW_NUMBER() … ORDER BY time DESC` = 1): the rows that it was made from. Looks at the plan only.
//!
//! What such a table says while it is revised is not enough: of rows that come together only the last is seen, and a version that comes out of order never is.

use std::sync::Arc;

use datafusion_common::{Column, Result};
use datafusion_expr::logical_plan::{Filter, Projection, SubqueryAlias};
use datafusion_expr::{Expr, LogicalPlan, lit};

use crate::plan::rank::RankPlan;
use crate::plan::traits::renamed;

/// A table's versions.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Versions {
    /// The rows, with the columns of the table.
    pub(in crate::plan) plan: LogicalPlan,
    /// Columns that tell which rows are versions of one.
    pub(in crate::plan) key: Vec<usize>,
    /// The column from which on a version is in force.
    pub(in crate::plan) since: usize,
}

impl Versions {
    /// Those of the table that a plan gives, if it keeps the last row of each key.
    pub(in crate::plan) fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(versions) = Self::of(&alias.input)? else { return Ok(None) };
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(versions.plan), alias.alias.clone())?);
                Ok(Some(Self { plan, ..versions }))
            }
            LogicalPlan::Projection(projection) => {
                let Some(versions) = Self::of(&projection.input)? else { return Ok(None) };
                let schema = projection.input.schema();
                let mut from = Vec::with_capacity(projection.expr.len());
                for expr in &projection.expr {
                    from.push(renamed(expr).map(|column| schema.index_of_column(column)).transpose()?);
                }
                let place = |column: &usize| from.iter().position(|from| *from == Some(*column));
                let (Some(key), Some(since)) = (versions.key.iter().map(place).collect(), place(&versions.since)) else { return Ok(None) };
                let plan =
                    Projection::try_new_with_schema(projection.expr.clone(), Arc::new(versions.plan), Arc::clone(&projection.schema))?;
                Ok(Some(Self { plan: LogicalPlan::Projection(plan), key, since }))
            }
            LogicalPlan::Filter(filter) => of_filter(filter),
            _ => Ok(None),
        }
    }
}

fn of_filter(filter: &Filter) -> Result<Option<Versions>> {
    let Some(rank) = RankPlan::of(filter)?.filter(|rank| rank.rest.is_none()) else { return Ok(None) };
    let Some(time) = rank.keeps_last()? else { return Ok(None) };
    let schema = rank.window.input.schema();
    let place = |column: usize| rank.columns.iter().position(|of_window| *of_window == column);
    let mut key = Vec::with_capacity(rank.partition_by.len());
    for expr in rank.partition_by {
        let Some(column) = renamed(expr) else { return Ok(None) };
        match place(schema.index_of_column(column)?) {
            Some(column) => key.push(column),
            None => return Ok(None),
        }
    }
    let Some(since) = place(time) else { return Ok(None) };
    // The columns that the filter has, from the rows that are numbered; the number of each is one.
    let of_filter = filter.input.schema();
    let mut exprs = Vec::with_capacity(rank.columns.len());
    for (position, column) in rank.columns.iter().enumerate() {
        let expr = if *column == rank.number() { lit(1_u64) } else { Expr::Column(Column::from(schema.qualified_field(*column))) };
        let (qualifier, field) = of_filter.qualified_field(position);
        exprs.push(expr.alias_qualified(qualifier.cloned(), field.name()));
    }
    let plan = Projection::try_new_with_schema(exprs, Arc::clone(&rank.window.input), Arc::clone(of_filter))?;
    Ok(Some(Versions { plan: LogicalPlan::Projection(plan), key, since }))
}
