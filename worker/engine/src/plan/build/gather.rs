//! Collects the expressions that an operator reads as columns, each once. Adds a projection only if one of them is more than a column.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::{Expr, ExprSchemable};

use super::{Bound, Builder};
use crate::operators::ProjectBlueprint;
use crate::plan::expression;
use crate::plan::graph::Upstream;
use crate::plan::needs::{self, Columns};
use crate::plan::traits::renamed;

/// Expressions over one schema.
#[derive(Default)]
pub(super) struct Gather {
    exprs: Vec<Expr>,
}

/// The expressions as columns of what delivers them.
pub(super) struct Gathered {
    pub(super) upstream: Upstream,
    pub(super) schema: SchemaRef,
    /// Where each is.
    pub(super) positions: Vec<usize>,
}

impl Gather {
    /// The number of an expression among those that are gathered.
    pub(super) fn add(&mut self, expr: &Expr) -> usize {
        let expr = expr.clone().unalias();
        self.exprs.iter().position(|known| *known == expr).unwrap_or_else(|| {
            self.exprs.push(expr);
            self.exprs.len() - 1
        })
    }

    /// The columns that are read.
    pub(super) fn needs(&self, schema: &DFSchema) -> Result<Columns> {
        let mut needs = Columns::new();
        for expr in &self.exprs {
            needs.extend(needs::read_by(expr, schema)?);
        }
        Ok(needs)
    }

    /// Finds or computes them.
    pub(super) fn bind(&self, builder: &mut Builder<'_>, schema: &DFSchema, bound: &Bound) -> Result<Gathered> {
        let physical = Arc::clone(builder.graph.schema(bound.upstream));
        let plain = self.exprs.iter().map(|expr| match renamed(expr) {
            Some(column) => Ok(bound.columns[schema.index_of_column(column)?]),
            None => Ok(None),
        });
        let plain: Option<Vec<usize>> = plain.collect::<Result<Option<Vec<usize>>>>()?;
        if let Some(positions) = plain {
            return Ok(Gathered { upstream: bound.upstream, schema: physical, positions });
        }
        let mut fields = Vec::with_capacity(self.exprs.len());
        let mut expressions = Vec::with_capacity(self.exprs.len());
        for expr in &self.exprs {
            let position = renamed(expr).map(|column| schema.index_of_column(column)).transpose()?.and_then(|column| bound.columns[column]);
            let (field, wanted): (Field, Option<DataType>) = if let Some(position) = position {
                (physical.field(position).clone(), None)
            } else {
                let wanted = expr.get_type(schema)?;
                (Field::new(expr.schema_name().to_string(), wanted.clone(), true), Some(wanted))
            };
            fields.push(field);
            expressions.push(expression::bind(expr, schema, bound, &physical, wanted.as_ref())?);
        }
        let schema = Arc::new(Schema::new(fields));
        let blueprint = ProjectBlueprint { expressions, schema: Arc::clone(&schema) };
        let upstream = builder.add(Arc::new(blueprint), vec![bound.upstream]);
        Ok(Gathered { upstream, schema, positions: (0..self.exprs.len()).collect() })
    }
}
