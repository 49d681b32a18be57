//! Top-N and deduplication: finds what rows are numbered by in what arrives, and builds the operator. Computes nothing.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::Expr;

use super::gather::Gather;
use super::join::Kept;
use super::{Bound, Builder};
use crate::operators::{Emission, OrderBy, RankBlueprint, Ties};
use crate::plan::needs::Columns;
use crate::plan::rank::{Finality, RankPlan};
use crate::plan::traits::Mode;

impl Builder<'_> {
    /// The rows of a top-N of which only `needed` columns are read.
    pub(super) fn rank(&mut self, plan: &RankPlan<'_>, needed: &Columns) -> Result<Bound> {
        let of_window: Columns = needed.iter().map(|column| plan.columns[*column]).collect();
        let bound = self.numbered(plan, &of_window)?;
        Ok(Bound { columns: plan.columns.iter().map(|column| bound.columns[*column]).collect(), ..bound })
    }

    fn numbered(&mut self, plan: &RankPlan<'_>, needed: &Columns) -> Result<Bound> {
        let input = &plan.window.input;
        let schema = input.schema();
        let number = plan.number();
        let column = |column: usize| Expr::Column(Column::from(schema.qualified_field(column)));
        let mut gather = Gather::default();
        let partition_by: Vec<usize> = plan.partition_by.iter().map(|expr| gather.add(expr)).collect();
        let order_by: Vec<usize> = plan.order_by.iter().map(|sort| gather.add(&sort.expr)).collect();
        let time = match plan.finality {
            Finality::Never => None,
            Finality::Time(time) | Finality::Window(time) => Some(gather.add(&column(time))),
        };
        let columns: Vec<Option<usize>> = needed.iter().map(|wanted| (*wanted != number).then(|| gather.add(&column(*wanted)))).collect();
        let bound = self.bind(input, &gather.needs(schema)?)?;
        let gathered = gather.bind(self, schema, &bound)?;
        let Kept { take, schema: kept, positions } = Kept::of(&gathered);
        let revised_by = match &plan.input.mode {
            Mode::Append => None,
            Mode::Updating { key } => {
                let among = |key: &usize| needed.iter().position(|column| column == key).and_then(|at| columns[at]).map(|at| positions[at]);
                let key: Option<Vec<usize>> = key.iter().map(among).collect();
                Some(key.filter(|key| !key.is_empty()).unwrap_or_else(|| (0..take.len()).collect()))
            }
        };
        let time = time.map(|time| positions[time]);
        let emission = match (plan.finality, time) {
            (Finality::Time(_), Some(time)) => Emission::First { time, ttl: self.ttl()? },
            (Finality::Window(_), Some(end)) => Emission::Window { end },
            _ => Emission::Revised { ttl: self.ttl()? },
        };
        let orders = order_by.iter().zip(plan.order_by);
        let order_by: Vec<OrderBy> = orders
            .map(|(order, sort)| OrderBy { column: positions[*order], descending: !sort.asc, nulls_first: sort.nulls_first })
            .collect();
        let output: Vec<Option<usize>> = columns.iter().map(|column| column.map(|column| positions[column])).collect();
        let fields = output.iter().zip(needed).map(|(position, column)| match position {
            Some(position) => kept.field(*position).clone().with_name(schema.field(*column).name()),
            None => Field::new(plan.window.schema.field(number).name(), arrow::datatypes::DataType::UInt64, false),
        });
        let out = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let blueprint = RankBlueprint {
            take,
            input: kept,
            partition_by: partition_by.iter().map(|column| positions[*column]).collect(),
            order_by,
            ties: if plan.last_wins()? { Ties::Latest } else { Ties::Earliest },
            first: plan.range.0.max(1),
            last: plan.range.1,
            revised_by,
            emission,
            late: self.policy.late,
            output,
            schema: out,
        };
        if blueprint.last < blueprint.first {
            return Err(DataFusionError::Internal("a top-N of no rows was let through".to_owned()));
        }
        let columns = (0..=number).map(|column| needed.iter().position(|needed| *needed == column)).collect();
        Ok(Bound { upstream: self.add_by(plan.clock(), Arc::new(blueprint), vec![gathered.upstream]), columns })
    }
}
