//! OVER aggregates: finds what they read in what arrives, and builds the operator. Computes nothing.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Window;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{Column as PhysicalColumn, Literal};

use super::gather::Gather;
use super::join::Kept;
use super::{Bound, Builder};
use crate::operators::{Argument, Call, FramedCall, OverBlueprint, OverColumn};
use crate::plan::expression;
use crate::plan::needs::Columns;
use crate::plan::over::{OverCall, OverPlan};

impl Builder<'_> {
    pub(super) fn over(&mut self, window: &Window, needed: &Columns) -> Result<Bound> {
        let plan = OverPlan::of(window)?.map_err(|(message, _)| DataFusionError::NotImplemented(message.to_owned()))?;
        let schema = window.input.schema();
        let inputs = schema.fields().len();
        let column = |column: usize| Expr::Column(Column::from(schema.qualified_field(column)));
        let mut gather = Gather::default();
        let partition_by: Vec<usize> = plan.partition_by.iter().map(|expr| gather.add(expr)).collect();
        let time = gather.add(&column(plan.time));
        // Functions that nobody reads are not computed.
        let called: Vec<usize> = needed.iter().filter(|column| **column >= inputs).map(|column| column - inputs).collect();
        let arguments: Vec<Vec<Option<usize>>> = called
            .iter()
            .map(|call| {
                let argument = |argument: &Expr| (!matches!(argument, Expr::Literal(..))).then(|| gather.add(argument));
                plan.calls[*call].arguments.iter().map(argument).collect()
            })
            .collect();
        let passed: Vec<Option<usize>> = needed.iter().map(|wanted| (*wanted < inputs).then(|| gather.add(&column(*wanted)))).collect();
        let bound = self.bind(&window.input, &gather.needs(schema)?)?;
        let gathered = gather.bind(self, schema, &bound)?;
        let Kept { take, schema: kept, positions } = Kept::of(&gathered);
        let mut calls = Vec::with_capacity(called.len());
        for (call, arguments) in called.iter().zip(&arguments) {
            let arguments: Vec<Option<usize>> = arguments.iter().map(|argument| argument.map(|argument| positions[argument])).collect();
            calls.push(framed(&plan.calls[*call], &arguments, &kept)?);
        }
        let mut next = 0..;
        let output: Vec<OverColumn> = passed
            .iter()
            .map(|column| match column {
                Some(column) => OverColumn::Input(positions[*column]),
                None => OverColumn::Call(next.next().unwrap_or_default()),
            })
            .collect();
        let fields = output.iter().zip(needed).map(|(place, column)| match place {
            OverColumn::Input(position) => kept.field(*position).clone().with_name(schema.field(*column).name()),
            OverColumn::Call(_) => {
                let field = window.schema.field(*column);
                Field::new(field.name(), field.data_type().clone(), true)
            }
        });
        let out = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let blueprint = OverBlueprint {
            take,
            partition_by: partition_by.iter().map(|column| positions[*column]).collect(),
            time: positions[time],
            slack: plan.slack(),
            calls,
            ttl: if plan.needs_ttl() { Some(self.ttl()?) } else { None },
            late: self.policy.late,
            output,
            schema: out,
            input: kept,
        };
        let columns = (0..window.schema.fields().len()).map(|column| needed.iter().position(|needed| *needed == column)).collect();
        Ok(Bound { upstream: self.add_by(plan.clock(), Arc::new(blueprint), vec![gathered.upstream]), columns })
    }
}

/// A call whose arguments are at positions of what is kept, or the same for all rows.
fn framed(call: &OverCall<'_>, positions: &[Option<usize>], kept: &Arc<Schema>) -> Result<FramedCall> {
    let mut arguments = Vec::with_capacity(positions.len());
    let mut physical: Vec<Arc<dyn PhysicalExpr>> = Vec::with_capacity(positions.len());
    for (position, expr) in positions.iter().zip(call.arguments) {
        match (position, expr) {
            (Some(position), _) => {
                arguments.push(Argument::Column(*position));
                physical.push(Arc::new(PhysicalColumn::new(kept.field(*position).name(), *position)));
            }
            (None, Expr::Literal(value, _)) => {
                arguments.push(Argument::Literal(value.clone()));
                physical.push(Arc::new(Literal::new(value.clone())));
            }
            (None, other) => return Err(DataFusionError::Internal(format!("argument {other} was not gathered"))),
        }
    }
    let plain: Vec<String> = call.arguments.iter().map(expression::sql).collect();
    let sql = format!("{}({})", call.function.name(), plain.join(", ")).replace("count(1)", "count(*)");
    let function = AggregateExprBuilder::new(Arc::clone(call.function), physical)
        .schema(Arc::clone(kept))
        .alias(call.expr.schema_name().to_string())
        .build()?;
    let types = arguments.iter().map(|argument| match argument {
        Argument::Column(column) => kept.field(*column).data_type().clone(),
        Argument::Literal(value) => value.data_type(),
    });
    let input = types.collect();
    let identity = format!("{} {arguments:?}", call.expr);
    let call_of = Call { function: Arc::new(function), arguments, input, filter: None, sql, identity };
    Ok(FramedCall { call: call_of, frame: call.frame })
}
