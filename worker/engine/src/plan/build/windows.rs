//! Window functions in FROM: an operator that gives rows their windows, unless the aggregate above does. Computes no window.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion_common::Result;
use datafusion_expr::LogicalPlan;

use super::{Bound, Builder};
use crate::operators::{WindowBlueprint, WindowColumn};
use crate::plan::needs::{self, Columns};
use crate::plan::window::WindowNode;

impl Builder<'_> {
    pub(super) fn window(&mut self, plan: &LogicalPlan, node: &WindowNode, needed: &Columns) -> Result<Bound> {
        let fused = std::mem::take(&mut self.fused);
        let below = needs::of_inputs(plan, needed)?.pop().unwrap_or_default();
        let bound = self.bind(&node.input, &below)?;
        let time = bound.columns[node.time_column()?];
        let inputs = node.input_columns();
        if fused {
            let columns = bound.columns.iter().copied().chain([time; 3]).collect();
            return Ok(Bound { upstream: bound.upstream, columns });
        }
        let time = time.ok_or_else(|| needs::outside(plan))?;
        let physical = self.graph.schema(bound.upstream);
        let mut columns = Vec::with_capacity(needed.len());
        let mut fields: Vec<FieldRef> = Vec::with_capacity(needed.len());
        for column in needed {
            if let Some(position) = bound.columns.get(*column).copied().flatten() {
                columns.push(WindowColumn::Input(position));
                fields.push(Arc::clone(&physical.fields()[position]));
            } else {
                columns.push([WindowColumn::Start, WindowColumn::End, WindowColumn::Time][column - inputs]);
                let field = plan.schema().field(*column);
                fields.push(Arc::new(Field::new(field.name(), field.data_type().clone(), false)));
            }
        }
        let blueprint = WindowBlueprint {
            windows: node.windows,
            time,
            time_name: node.time.name.clone(),
            columns,
            schema: Arc::new(Schema::new(fields)),
        };
        let columns = (0..inputs + 3).map(|column| needed.iter().position(|needed| *needed == column)).collect();
        Ok(Bound { upstream: self.add(Arc::new(blueprint), vec![bound.upstream]), columns })
    }
}
