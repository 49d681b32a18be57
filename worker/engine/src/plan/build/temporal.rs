//! Joins with a table as it is at one moment: finds keys, times and what is left of the condition in what both sides deliver, and builds the operator. Computes nothing.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_common::{DataFusionError, Result};

use super::gather::Gathered;
use super::join::{Kept, Wanted};
use super::{Bound, Builder};
use crate::operators::{Moment, Residual, TemporalBlueprint, TemporalSide};
use crate::plan::expression;
use crate::plan::graph::Upstream;
use crate::plan::needs::{self, Columns};
use crate::plan::temporal::Temporal;

impl Builder<'_> {
    pub(super) fn temporal(&mut self, node: &Temporal, needed: &Columns) -> Result<Bound> {
        let inputs = [&node.left, &node.right];
        let schema = node.join_schema();
        let left_columns = node.left_columns();
        let place = |column: usize| if column < left_columns { (0, column) } else { (1, column - left_columns) };
        let mut wanted = [
            Wanted::new(&node.left, node.on.iter().map(|(key, _)| key.clone())),
            Wanted::new(&node.right, node.on.iter().map(|(_, key)| key.clone())),
        ];
        let read = node.filter.as_ref().map_or(Ok(Columns::new()), |filter| needs::read_by(filter, schema))?;
        for (side, column) in needed.union(&read).map(|column| place(*column)) {
            wanted[side].add(inputs[side], column);
        }
        let (times, revised_by) = (node.times()?, node.revised_by()?);
        for (side, time) in times.into_iter().flatten().enumerate() {
            wanted[side].add(inputs[side], time);
        }
        for column in revised_by.iter().flatten() {
            wanted[1].add(inputs[1], *column);
        }
        let sides = [self.temporal_side(node, &wanted[0], 0)?, self.temporal_side(node, &wanted[1], 1)?];
        // Where a column of a side is kept.
        let of_side = |side: usize, column: usize| -> Result<usize> {
            let number = wanted[side].columns[column];
            let number = number.ok_or_else(|| DataFusionError::Internal("a column of a join is not kept".to_owned()))?;
            Ok(sides[side].positions[number])
        };
        let kept = |column: usize| -> Result<(usize, usize)> {
            let (side, column) = place(column);
            Ok((side, of_side(side, column)?))
        };
        let moment = if let Some([one, other]) = times {
            Moment::Versions { times: [of_side(0, one)?, of_side(1, other)?], slack: node.slack()? }
        } else {
            let unique = revised_by.as_ref().is_some_and(|key| !key.is_empty());
            // Without a key all of a row tells which is taken back.
            let revised_by = revised_by
                .map(|key| key.iter().map(|column| of_side(1, *column)).collect::<Result<Vec<_>>>())
                .transpose()?
                .map(|key| if key.is_empty() { (0..sides[1].side.take.len()).collect() } else { key });
            Moment::Current { revised_by, unique }
        };
        let field = |(side, column): (usize, usize), name: &str| {
            let field = sides[side].side.schema.field(column);
            Field::new(name, field.data_type().clone(), field.is_nullable() || (node.outer && side == 1))
        };
        let residual = match &node.filter {
            Some(predicate) => {
                let columns = read.iter().map(|column| kept(*column)).collect::<Result<Vec<_>>>()?;
                let fields: Vec<Field> =
                    columns.iter().zip(&read).map(|(place, column)| field(*place, schema.field(*column).name())).collect();
                let physical = Arc::new(Schema::new(fields));
                let columns_of_join = (0..schema.fields().len()).map(|column| read.iter().position(|read| *read == column)).collect();
                let bound = Bound { upstream: sides[0].upstream, columns: columns_of_join };
                Some(Residual { predicate: expression::bind(predicate, schema, &bound, &physical, None)?, columns, schema: physical })
            }
            None => None,
        };
        let output = needed.iter().map(|column| kept(*column)).collect::<Result<Vec<_>>>()?;
        let fields: Vec<Field> = output.iter().zip(needed).map(|(place, column)| field(*place, schema.field(*column).name())).collect();
        let upstreams = sides.iter().map(|side| side.upstream).collect();
        let columns = (0..schema.fields().len()).map(|column| needed.iter().position(|needed| *needed == column)).collect();
        let blueprint = TemporalBlueprint {
            sides: sides.map(|side| side.side),
            residual,
            outer: node.outer,
            moment,
            late: self.policy.late,
            output,
            schema: Arc::new(Schema::new(fields)),
        };
        Ok(Bound { upstream: self.add(Arc::new(blueprint), upstreams), columns })
    }

    fn temporal_side(&mut self, node: &Temporal, wanted: &Wanted, number: usize) -> Result<Side> {
        let input = [&node.left, &node.right][number];
        let bound = self.bind(input, &wanted.gather.needs(input.schema())?)?;
        let gathered: Gathered = wanted.gather.bind(self, input.schema(), &bound)?;
        let Kept { take, schema, positions } = Kept::of(&gathered);
        let keys = wanted.keys.iter().map(|key| positions[*key]).collect();
        Ok(Side { upstream: gathered.upstream, side: TemporalSide { take, schema, keys }, positions })
    }
}

/// A side as it is built.
struct Side {
    upstream: Upstream,
    side: TemporalSide,
    /// Where the side keeps each expression of the gather.
    positions: Vec<usize>,
}
