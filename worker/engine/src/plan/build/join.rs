//! Joins: finds keys, times and what is left of the condition in what both sides deliver, and builds the operator. Computes nothing.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema};
use datafusion_common::{Column, DataFusionError, NullEquality, Result};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::{Expr, LogicalPlan};

use super::gather::{Gather, Gathered};
use super::{Bound, Builder};
use crate::operators::{JoinBlueprint, JoinSide, Lifetime, Residual};
use crate::plan::expression;
use crate::plan::join::{JoinEnd, JoinPlan};
use crate::plan::needs::{self, Columns};
use crate::plan::traits::Mode;

/// What one side has to deliver.
pub(super) struct Wanted {
    pub(super) gather: Gather,
    /// Numbers of the keys in the gather.
    pub(super) keys: Vec<usize>,
    /// Numbers of columns of the side's schema in the gather.
    pub(super) columns: Vec<Option<usize>>,
}

impl Wanted {
    pub(super) fn new(plan: &LogicalPlan, keys: impl Iterator<Item = Expr>) -> Self {
        let mut gather = Gather::default();
        let keys = keys.map(|key| gather.add(&key)).collect();
        Self { gather, keys, columns: vec![None; plan.schema().fields().len()] }
    }

    /// Wants a column of the side's schema.
    pub(super) fn add(&mut self, plan: &LogicalPlan, column: usize) {
        let expr = Expr::Column(Column::from(plan.schema().qualified_field(column)));
        self.columns[column] = Some(self.gather.add(&expr));
    }
}

impl Builder<'_> {
    pub(super) fn join(&mut self, join: &Join, needed: &Columns) -> Result<Bound> {
        let plan = JoinPlan::of(join)?;
        let inputs = [&join.left, &join.right];
        let left_columns = join.left.schema().fields().len();
        let place = |column: usize| if column < left_columns { (0, column) } else { (1, column - left_columns) };
        let mut wanted = [
            Wanted::new(&join.left, join.on.iter().map(|(key, _)| key.clone())),
            Wanted::new(&join.right, join.on.iter().map(|(_, key)| key.clone())),
        ];
        let read = plan.residual.as_ref().map_or(Ok(Columns::new()), |residual| needs::read_by(residual, &join.schema))?;
        for (side, column) in needed.union(&read).map(|column| place(*column)) {
            wanted[side].add(inputs[side], column);
        }
        let times = match plan.end {
            JoinEnd::Interval { times, .. } => Some(times),
            JoinEnd::Window { ends } => Some(ends),
            JoinEnd::Nothing => None,
        };
        for (side, time) in times.into_iter().flatten().enumerate() {
            wanted[side].add(inputs[side], time);
        }
        let sides = [self.side(join, &plan, &wanted[0], 0)?, self.side(join, &plan, &wanted[1], 1)?];
        // Where a column of the join is kept.
        let kept = |column: usize| -> Result<(usize, usize)> {
            let (side, column) = place(column);
            let number =
                wanted[side].columns[column].ok_or_else(|| DataFusionError::Internal("a column of a join is not kept".to_owned()))?;
            Ok((side, sides[side].positions[number]))
        };
        let time = |times: [usize; 2]| -> Result<[usize; 2]> { Ok([kept(times[0])?.1, kept(times[1] + left_columns)?.1]) };
        let lifetime = match plan.end {
            JoinEnd::Interval { times, lower, upper } => Lifetime::Interval { times: time(times)?, lower, upper, slack: plan.slack() },
            JoinEnd::Window { ends } => Lifetime::Window { ends: time(ends)? },
            JoinEnd::Nothing => Lifetime::Ttl(self.ttl()?),
        };
        let field = |(side, column): (usize, usize), name: &str| {
            let field = sides[side].side.schema.field(column);
            let nullable = field.is_nullable() || plan.outer[1 - side];
            Field::new(name, field.data_type().clone(), nullable)
        };
        let residual = match &plan.residual {
            Some(predicate) => {
                let columns = read.iter().map(|column| kept(*column)).collect::<Result<Vec<_>>>()?;
                let fields: Vec<Field> =
                    columns.iter().zip(&read).map(|(place, column)| field(*place, join.schema.field(*column).name())).collect();
                let schema = Arc::new(Schema::new(fields));
                let columns_of_join = (0..join.schema.fields().len()).map(|column| read.iter().position(|read| *read == column)).collect();
                let bound = Bound { upstream: sides[0].upstream, columns: columns_of_join };
                Some(Residual { predicate: expression::bind(predicate, &join.schema, &bound, &schema, None)?, columns, schema })
            }
            None => None,
        };
        let output = needed.iter().map(|column| kept(*column)).collect::<Result<Vec<_>>>()?;
        let fields: Vec<Field> =
            output.iter().zip(needed).map(|(place, column)| field(*place, join.schema.field(*column).name())).collect();
        let upstreams = sides.iter().map(|side| side.upstream).collect();
        let blueprint = JoinBlueprint {
            sides: sides.map(|side| side.side),
            nulls_are_equal: join.null_equality == NullEquality::NullEqualsNull,
            residual,
            lifetime,
            late: self.policy.late,
            output,
            schema: Arc::new(Schema::new(fields)),
        };
        let columns = (0..join.schema.fields().len()).map(|column| needed.iter().position(|needed| *needed == column)).collect();
        Ok(Bound { upstream: self.add_by(plan.clock(), Arc::new(blueprint), upstreams), columns })
    }

    fn side(&mut self, join: &Join, plan: &JoinPlan, wanted: &Wanted, number: usize) -> Result<Side> {
        let input = [&join.left, &join.right][number];
        let bound = self.bind(input, &wanted.gather.needs(input.schema())?)?;
        let gathered = wanted.gather.bind(self, input.schema(), &bound)?;
        let Kept { take, schema, positions } = Kept::of(&gathered);
        // The key of a changelog tells which row is taken back; without one, all of the row does.
        let revised_by = match &plan.inputs[number].mode {
            Mode::Append => None,
            Mode::Updating { key } => {
                let key: Option<Vec<usize>> = key.iter().map(|column| wanted.columns[*column].map(|number| positions[number])).collect();
                Some(key.filter(|key| !key.is_empty()).unwrap_or_else(|| (0..take.len()).collect()))
            }
        };
        let keys = wanted.keys.iter().map(|key| positions[*key]).collect();
        let side = JoinSide { take, schema, keys, outer: plan.outer[number], revised_by };
        Ok(Side { upstream: gathered.upstream, side, positions })
    }

    /// The time to live of state, in microseconds.
    pub(super) fn ttl(&self) -> Result<i64> {
        let ttl = self.policy.state_ttl.ok_or_else(|| DataFusionError::Internal("state without an end was let through".to_owned()))?;
        Ok(micros(ttl))
    }
}

/// A duration as operators count it.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A side as it is built.
struct Side {
    upstream: crate::plan::graph::Upstream,
    side: JoinSide,
    /// Where the side keeps each expression of the gather.
    positions: Vec<usize>,
}

/// The gathered columns as an operator keeps them: each once, and none that nobody asked for.
pub(super) struct Kept {
    pub(super) take: Vec<usize>,
    pub(super) schema: Arc<Schema>,
    /// Where each expression of the gather is kept.
    pub(super) positions: Vec<usize>,
}

impl Kept {
    pub(super) fn of(gathered: &Gathered) -> Self {
        let mut take = gathered.positions.clone();
        take.sort_unstable();
        take.dedup();
        let positions = gathered.positions.iter().map(|position| take.partition_point(|taken| taken < position)).collect();
        let fields: Vec<_> = take.iter().map(|column| Arc::clone(&gathered.schema.fields()[*column])).collect();
        Self { take, schema: Arc::new(Schema::new(fields)), positions }
    }
}
