//! GROUP BY and DISTINCT: finds what is grouped by and aggregated, and builds the operator. Computes nothing.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment, Sort};
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::{BinaryExpr, Expr, Operator, lit, when};
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::{Column as PhysicalColumn, Literal};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::gather::{Gather, Gathered};
use super::{Bound, Builder};
use crate::operators::{
    Argument, Assignment, Call, ExecuteError, GroupBlueprint, OutputColumn, SessionBlueprint, WindowAggregateBlueprint, Windows,
    check_calls, check_groups,
};
use crate::plan::expression::{self, is_guarded};
use crate::plan::needs::Columns;
use crate::plan::problem::{Reason, Refusal, quoted};
use crate::plan::time::{Clock, TimeAttribute};
use crate::plan::traits;
use crate::plan::window::{Grouping, WindowGrouping};

/// A call whose arguments are gathered.
struct Wanted<'a> {
    function: &'a AggregateFunction,
    /// Numbers in the [`Gather`], or the same value for all rows.
    arguments: Vec<Given>,
    order_by: Vec<(usize, SortOptions)>,
    filter: Option<usize>,
}

enum Given {
    Gathered(usize),
    Literal(ScalarValue),
}

/// Columns of a result that are read, with their fields.
type Outputs = (Vec<OutputColumn>, Vec<FieldRef>);

impl Builder<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, needed: &Columns) -> Result<Bound> {
        match Grouping::of(aggregate)? {
            Grouping::Window(window) => self.window_aggregate(aggregate, &window, needed),
            Grouping::Unbounded => self.group(aggregate, needed),
        }
    }

    fn window_aggregate(&mut self, aggregate: &Aggregate, window: &WindowGrouping<'_>, needed: &Columns) -> Result<Bound> {
        let schema = aggregate.input.schema();
        let mut gather = Gather::default();
        let keys = gather_keys(aggregate, &window.attributes, &mut gather);
        let wanted = gather_calls(aggregate, needed, schema, &mut gather)?;
        let column = |attribute: fn(Clock) -> TimeAttribute| {
            let group = window.attributes.iter().position(|known| *known == Some(attribute(window.clock)))?;
            Some(Expr::from(schema.qualified_field(window.columns[group]?)))
        };
        let (start, end, time) = (column(TimeAttribute::WindowStart), column(TimeAttribute::WindowEnd), column(TimeAttribute::WindowTime));
        let (carrier, start) = if window.fused.is_some() {
            (end.or(start).or(time), None)
        } else {
            (end.or(time.map(after)), start.map(|start| gather.add(&start)))
        };
        let carrier = carrier.ok_or_else(|| DataFusionError::Internal("a window without bounds".to_owned()))?;
        let name = window.fused.map_or_else(|| carrier.schema_name().to_string(), |node| node.time.name.clone());
        let carrier = gather.add(&carrier);
        self.fused = window.fused.is_some();
        let bound = self.bind(&aggregate.input, &gather.needs(schema)?)?;
        let gathered = gather.bind(self, schema, &bound)?;
        let calls = calls(&wanted, &gathered, check_calls)?;
        let keys: Vec<usize> = keys.iter().map(|key| gathered.positions[*key]).collect();
        let key_types = key_types(&keys, &gathered)?;
        let (output, fields) = outputs(aggregate, &window.attributes, needed);
        let (late, lateness, schema) = (self.policy.late, window.clock.lateness(), Arc::new(Schema::new(fields)));
        if let Some(Windows::Session { gap }) = window.fused.map(|node| node.windows) {
            check_groups(&calls, false).map_err(|error| DataFusionError::External(Box::new(error)))?;
            let time = gathered.positions[carrier];
            let blueprint = SessionBlueprint { time, time_name: name, gap, keys, key_types, calls, output, late, schema };
            return Ok(Bound {
                upstream: self.add_by(window.clock, Arc::new(blueprint), vec![gathered.upstream]),
                columns: among(needed, aggregate),
            });
        }
        let assignment = match window.fused {
            Some(node) => Assignment::Time { column: gathered.positions[carrier], windows: node.windows },
            None => Assignment::Attached { start: start.map(|start| gathered.positions[start]), end: gathered.positions[carrier] },
        };
        let blueprint =
            WindowAggregateBlueprint { assignment, time_name: name, keys, key_types, calls, output, late, lateness, merges: None, schema };
        Ok(Bound { upstream: self.add_by(window.clock, Arc::new(blueprint), vec![gathered.upstream]), columns: among(needed, aggregate) })
    }
}

impl Builder<'_> {
    /// An aggregate that no window bounds.
    fn group(&mut self, aggregate: &Aggregate, needed: &Columns) -> Result<Bound> {
        let schema = aggregate.input.schema();
        let retracts = traits::of(&aggregate.input)?.is_updating();
        let attributes = vec![None; aggregate.group_expr.len()];
        let mut gather = Gather::default();
        let keys = gather_keys(aggregate, &attributes, &mut gather);
        let wanted = gather_calls(aggregate, needed, schema, &mut gather)?;
        let bound = self.bind(&aggregate.input, &gather.needs(schema)?)?;
        let gathered = gather.bind(self, schema, &bound)?;
        let calls = calls(&wanted, &gathered, |calls| check_groups(calls, retracts))?;
        let keys: Vec<usize> = keys.iter().map(|key| gathered.positions[*key]).collect();
        let key_types = key_types(&keys, &gathered)?;
        let (output, fields) = outputs(aggregate, &attributes, needed);
        let ttl = self.policy.state_ttl.ok_or_else(|| DataFusionError::Internal("a GROUP BY whose state has no end".to_owned()))?;
        let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
        let schema = Arc::new(Schema::new(fields));
        let blueprint = GroupBlueprint { keys, key_types, calls, output, retracts, ttl, merges: None, schema };
        Ok(Bound { upstream: self.add(Arc::new(blueprint), vec![gathered.upstream]), columns: among(needed, aggregate) })
    }
}

/// For each column of a result its position among those that are read.
fn among(needed: &Columns, aggregate: &Aggregate) -> Vec<Option<usize>> {
    (0..aggregate.schema.fields().len()).map(|column| needed.iter().position(|needed| *needed == column)).collect()
}

/// The end of the window whose last millisecond this is.
fn after(time: Expr) -> Expr {
    let millisecond = arrow::datatypes::IntervalMonthDayNano::new(0, 0, 1_000_000);
    let millisecond = lit(ScalarValue::IntervalMonthDayNano(Some(millisecond)));
    Expr::BinaryExpr(BinaryExpr::new(Box::new(time), Operator::Plus, Box::new(millisecond)))
}

/// What is grouped by beside the window.
fn gather_keys(aggregate: &Aggregate, attributes: &[Option<TimeAttribute>], gather: &mut Gather) -> Vec<usize> {
    let keys = aggregate.group_expr.iter().zip(attributes).filter(|(_, attribute)| attribute.is_none());
    keys.map(|(key, _)| gather.add(key)).collect()
}

fn gather_calls<'a>(aggregate: &'a Aggregate, needed: &Columns, schema: &DFSchema, gather: &mut Gather) -> Result<Vec<Wanted<'a>>> {
    let groups = aggregate.group_expr.len();
    let calls = needed.iter().filter(|column| **column >= groups).map(|column| &aggregate.aggr_expr[*column - groups]);
    calls.map(|call| gather_call(call, schema, gather)).collect()
}

fn gather_call<'a>(call: &'a Expr, schema: &DFSchema, gather: &mut Gather) -> Result<Wanted<'a>> {
    let function = match call {
        Expr::AggregateFunction(function) => function,
        Expr::Alias(alias) => return gather_call(&alias.expr, schema, gather),
        other => return Err(DataFusionError::Internal(format!("{other} is no aggregate"))),
    };
    let AggregateFunctionParams { args, distinct: _, filter, order_by, null_treatment: _ } = &function.params;
    let mut argument = |expr: &Expr| match (expr, filter) {
        (Expr::Literal(value, _), _) => Ok(Given::Literal(value.clone())),
        // What FILTER leaves out must not fail.
        (expr, Some(filter)) if is_guarded(expr, schema)? => {
            Ok(Given::Gathered(gather.add(&when(filter.as_ref().clone(), expr.clone()).end()?)))
        }
        (expr, _) => Ok(Given::Gathered(gather.add(expr))),
    };
    let arguments = args.iter().map(&mut argument).collect::<Result<Vec<_>>>()?;
    let order_by = order_by
        .iter()
        .map(|Sort { expr, asc, nulls_first }| (gather.add(expr), SortOptions { descending: !asc, nulls_first: *nulls_first }))
        .collect();
    Ok(Wanted { function, arguments, order_by, filter: filter.as_ref().map(|filter| gather.add(filter)) })
}

fn calls(
    wanted: &[Wanted<'_>],
    gathered: &Gathered,
    check: impl Fn(&[Call]) -> std::result::Result<(), ExecuteError>,
) -> Result<Vec<Call>> {
    let calls = wanted.iter().map(|call| bind_call(call, gathered)).collect::<Result<Vec<_>>>()?;
    for call in &calls {
        check(std::slice::from_ref(call)).map_err(|error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            let why = why.lines().next().unwrap_or_default().to_owned();
            DataFusionError::from(Refusal::at(
                None,
                Reason::NotSupported,
                format!("{} is not supported: {why}", call.sql),
                "write it in another way",
            ))
        })?;
    }
    Ok(calls)
}

fn bind_call(call: &Wanted<'_>, gathered: &Gathered) -> Result<Call> {
    let column = |number: usize| {
        let position = gathered.positions[number];
        (position, Arc::new(PhysicalColumn::new(gathered.schema.field(position).name(), position)) as Arc<dyn PhysicalExpr>)
    };
    let mut arguments = Vec::new();
    let mut physical: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for given in &call.arguments {
        match given {
            Given::Gathered(number) => {
                let (position, expr) = column(*number);
                arguments.push(Argument::Column(position));
                physical.push(expr);
            }
            Given::Literal(value) => {
                arguments.push(Argument::Literal(value.clone()));
                physical.push(Arc::new(Literal::new(value.clone())));
            }
        }
    }
    let AggregateFunctionParams { distinct, null_treatment, .. } = &call.function.params;
    let whole = Expr::AggregateFunction(call.function.clone());
    let sql = expression::sql(&whole).replace("count(1)", "count(*)");
    let order_by = call.order_by.iter().map(|(number, options)| PhysicalSortExpr::new(column(*number).1, *options)).collect();
    let function = AggregateExprBuilder::new(Arc::clone(&call.function.func), physical)
        .schema(Arc::clone(&gathered.schema))
        .alias(whole.schema_name().to_string())
        .order_by(order_by)
        .with_distinct(*distinct)
        .with_ignore_nulls(*null_treatment == Some(NullTreatment::IgnoreNulls))
        .build()?;
    let function = unordered(function, &sql)?;
    if !function.order_bys().is_empty() {
        arguments.extend(call.order_by.iter().map(|(number, _)| Argument::Column(column(*number).0)));
    }
    let input = arguments.iter().map(|argument| match argument {
        Argument::Column(column) => gathered.schema.field(*column).data_type().clone(),
        Argument::Literal(value) => value.data_type(),
    });
    let input = input.collect();
    let filter = call.filter.map(|number| gathered.positions[number]);
    let identity = format!("{whole} {arguments:?} {filter:?}");
    Ok(Call { function: Arc::new(function), arguments, input, filter, sql, identity })
}

/// The function for rows that come in any order.
fn unordered(function: AggregateFunctionExpr, sql: &str) -> Result<AggregateFunctionExpr> {
    let sensitivity = function.order_sensitivity();
    if function.order_bys().is_empty() {
        return Ok(function);
    }
    if sensitivity.hard_requires() {
        let hint = "use array_agg(… ORDER BY …), first_value or last_value";
        return Err(Refusal::at(None, Reason::NotSupported, format!("ORDER BY in {sql} is not supported"), hint).into());
    }
    let function = Arc::new(function);
    Ok(Arc::clone(&function).with_beneficial_ordering(false)?.unwrap_or_else(|| function.as_ref().clone()))
}

/// Types of the keys; a type that cannot be compared is refused.
fn key_types(keys: &[usize], gathered: &Gathered) -> Result<Vec<DataType>> {
    let mut types = Vec::with_capacity(keys.len());
    for key in keys {
        let field = gathered.schema.field(*key);
        if field.data_type().is_nested() {
            let message = format!("GROUP BY {}, which is {}, is not supported", quoted(field.name()), field.data_type());
            return Err(Refusal::at(None, Reason::NotSupported, message, "group by single values of it").into());
        }
        types.push(field.data_type().clone());
    }
    Ok(types)
}

fn outputs(aggregate: &Aggregate, attributes: &[Option<TimeAttribute>], needed: &Columns) -> Outputs {
    let groups = aggregate.group_expr.len();
    let mut calls = 0;
    let column = |column: usize| {
        let field = aggregate.schema.field(column);
        let output = if column >= groups {
            calls += 1;
            OutputColumn::Call(calls - 1)
        } else {
            match attributes[column] {
                None => OutputColumn::Key(attributes[..column].iter().filter(|attribute| attribute.is_none()).count()),
                Some(TimeAttribute::WindowStart(_)) => OutputColumn::WindowStart,
                Some(TimeAttribute::WindowEnd(_)) => OutputColumn::WindowEnd,
                Some(TimeAttribute::WindowTime(_) | TimeAttribute::Time(_)) => OutputColumn::WindowTime,
            }
        };
        let nullable = matches!(output, OutputColumn::Key(_) | OutputColumn::Call(_));
        (output, Arc::new(Field::new(field.name(), field.data_type().clone(), nullable)))
    };
    needed.iter().copied().map(column).unzip()
}
