//! What a plan says about its rows beyond their columns: whether they are revised, and which columns tell time. Derived bottom-up; decides nothing about how
//! it is computed.
//!
//! A time attribute follows its column through renaming, filtering and UNION ALL, and is lost as soon as something is computed from it.

use std::any::Any;

use datafusion_common::{Column, Result};
use datafusion_expr::logical_plan::{Aggregate, Projection, TableScan};
use datafusion_expr::{Expr, LogicalPlan};

use super::catalog::Table;
use super::join::JoinPlan;
use super::over::OverPlan;
use super::processing;
use super::rank::RankPlan;
use super::temporal;
use super::time::{Clock, TimeAttribute};
use super::window::{self, Grouping};

/// What is known about the rows of a plan or table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Traits {
    /// Whether rows are revised.
    pub(super) mode: Mode,
    /// What each column tells about time.
    pub(super) times: Vec<Option<TimeAttribute>>,
    /// Columns with bounds of one window: each tells which it is, and stands for the others in a key.
    pub(super) bounds: Vec<usize>,
}

/// Whether rows are revised; [`Changelog`](super::Changelog) by positions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Mode {
    /// Never.
    #[default]
    Append,
    /// Rows are replaced and taken back. There is at most one row for each value of these columns; none are known if it is empty.
    Updating { key: Vec<usize> },
}

impl Traits {
    /// Rows that are only added, of `columns` columns that tell no time.
    pub(super) fn plain(columns: usize) -> Self {
        Self { mode: Mode::Append, times: vec![None; columns], bounds: Vec::new() }
    }

    /// Whether rows are revised.
    pub(super) fn is_updating(&self) -> bool {
        self.mode != Mode::Append
    }

    /// Those of columns at `positions`, which may be none for a column that is computed.
    pub(super) fn select(&self, positions: &[Option<usize>]) -> Self {
        let times = positions.iter().map(|position| position.and_then(|position| self.times.get(position).copied().flatten())).collect();
        let place = |column: usize| positions.iter().position(|position| *position == Some(column));
        let mode = match &self.mode {
            Mode::Append => Mode::Append,
            Mode::Updating { key } => {
                let bound =
                    |column: usize| self.bounds.contains(&column).then(|| self.bounds.iter().find_map(|bound| place(*bound))).flatten();
                let moved: Option<Vec<usize>> = key.iter().map(|column| place(*column).or_else(|| bound(*column))).collect();
                Mode::Updating { key: moved.unwrap_or_default() }
            }
        };
        Self { mode, times, bounds: self.bounds.iter().filter_map(|bound| place(*bound)).collect() }
    }
}

/// The traits of a plan. Nodes that are not known here count as plain.
pub(super) fn of(plan: &LogicalPlan) -> Result<Traits> {
    match plan {
        LogicalPlan::TableScan(scan) => Ok(of_scan(scan)),
        LogicalPlan::SubqueryAlias(alias) => of(&alias.input),
        LogicalPlan::Filter(filter) => match RankPlan::of(filter)? {
            Some(rank) => rank.traits(),
            None => of(&filter.input),
        },
        LogicalPlan::Join(join) => JoinPlan::of(join)?.traits(join),
        LogicalPlan::Window(window) => {
            Ok(OverPlan::of(window)?.map_or_else(|_| Traits::plain(window.schema.fields().len()), |over| over.traits()))
        }
        LogicalPlan::Projection(projection) => of_projection(projection),
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| of(input)).collect::<Result<Vec<_>>>()?;
            let columns = union.schema.fields().len();
            let agreed = |column: usize| {
                let mut attributes = inputs.iter().map(|input| input.times.get(column).copied().flatten());
                let first = attributes.next().flatten();
                first.filter(|first| attributes.all(|attribute| attribute == Some(*first)))
            };
            let mode = if inputs.iter().any(Traits::is_updating) { Mode::Updating { key: Vec::new() } } else { Mode::Append };
            Ok(Traits { mode, times: (0..columns).map(agreed).collect(), bounds: Vec::new() })
        }
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
        LogicalPlan::Extension(extension) => match (window::of_extension(extension), temporal::of_extension(extension)) {
            (Some(window), _) => window.traits(),
            (None, Some(temporal)) => temporal.traits(),
            (None, None) => Ok(Traits::plain(plan.schema().fields().len())),
        },
        other => Ok(Traits::plain(other.schema().fields().len())),
    }
}

fn of_scan(scan: &TableScan) -> Traits {
    let source: &dyn Any = scan.source.as_ref();
    let Some(table) = source.downcast_ref::<Table>() else { return Traits::plain(scan.projected_schema.fields().len()) };
    match &scan.projection {
        Some(projection) => table.traits.select(&projection.iter().copied().map(Some).collect::<Vec<_>>()),
        None => table.traits.clone(),
    }
}

fn of_projection(projection: &Projection) -> Result<Traits> {
    let input = of(&projection.input)?;
    let schema = projection.input.schema();
    let positions = projection.expr.iter().map(|expr| renamed(expr).map(|column| schema.index_of_column(column)).transpose());
    let mut traits = input.select(&positions.collect::<Result<Vec<_>>>()?);
    for (time, expr) in traits.times.iter_mut().zip(&projection.expr) {
        if processing::is_clock(expr) {
            *time = Some(TimeAttribute::Time(Clock::Processing));
        }
    }
    Ok(traits)
}

fn of_aggregate(aggregate: &Aggregate) -> Result<Traits> {
    let columns = aggregate.schema.fields().len();
    match Grouping::of(aggregate)? {
        Grouping::Window(window) => {
            let mut times = vec![None; columns];
            if window.clock.lateness() > 0 {
                // What a window has given is revised after the watermark has passed it.
                let bounds = window.interchangeable();
                let is_key = |group: &usize| bounds.first() == Some(group) || !bounds.contains(group);
                let key = (0..aggregate.group_expr.len()).filter(is_key).collect();
                return Ok(Traits { mode: Mode::Updating { key }, times, bounds });
            }
            times[..window.attributes.len()].clone_from_slice(&window.attributes);
            Ok(Traits { mode: Mode::Append, times, bounds: Vec::new() })
        }
        Grouping::Unbounded => {
            let key = (0..aggregate.group_expr.len()).collect();
            Ok(Traits { mode: Mode::Updating { key }, times: vec![None; columns], bounds: Vec::new() })
        }
    }
}

/// The column that an expression only renames.
pub(super) fn renamed(expression: &Expr) -> Option<&Column> {
    match expression {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => renamed(&alias.expr),
        _ => None,
    }
}
