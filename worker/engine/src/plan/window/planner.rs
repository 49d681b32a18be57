//! From a call of a window function to its node in the plan. Checks the table, the time and the intervals; computes nothing.

use std::sync::Arc;
use std::time::Duration;

use datafusion_common::{Column, DataFusionError, Result, ScalarValue};
use datafusion_expr::logical_plan::Extension;
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_sql::sqlparser::ast::{Expr as SqlExpr, Ident, Spanned, TableFactor};

use super::call::{Call, WindowFunction};
use super::node::WindowNode;
use crate::operators::Windows;
use crate::plan::problem::{Reason, Refusal, quoted};
use crate::plan::text::Place;
use crate::plan::time::{TimeAttribute, WINDOW_COLUMNS, window_type};
use crate::plan::traits;

const MILLISECOND: i64 = 1000;
const DAY: i64 = 24 * 60 * 60 * 1000 * MILLISECOND;

/// Plans `TUMBLE(…)` and its like in FROM.
#[derive(Debug)]
pub(in crate::plan) struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let call = match Call::read(&relation) {
            None => return Ok(RelationPlanning::Original(Box::new(relation))),
            Some(Err(message)) => return Err(DataFusionError::Plan(message)),
            Some(Ok(call)) => call,
        };
        let table = TableFactor::Table {
            name: call.table.clone(),
            alias: None,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        };
        let input = context.plan(table)?;
        let windows = windows(&call, context)?;
        let plan = window(input, &call, windows, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

fn window(input: LogicalPlan, call: &Call, windows: Windows, context: &dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let function = call.function.as_str();
    let time = column(&input, &call.time, context)?;
    let (_, field) = input.schema().qualified_field_from_column(&time)?;
    let here = Place::new(call.time.span.start);
    if window_type(field.data_type()).is_none() {
        let message = format!("{function} needs a timestamp, and {} is {}", quoted(&time.name), field.data_type());
        return Err(Refusal::at(here, Reason::TypeMismatch, message, "name the column that holds the event time").into());
    }
    let traits = traits::of(&input)?;
    if traits.is_updating() {
        let message = format!("{function} over rows that are revised is not supported");
        let hint = "window the rows before they are aggregated or joined: what a window has given out cannot be taken back";
        return Err(Refusal::at(call.place, Reason::NotSupported, message, hint).into());
    }
    let position = input.schema().index_of_column(&time)?;
    if !traits.times[position].is_some_and(TimeAttribute::is_time) {
        let message = format!("{} is not an event time, so {function} cannot know when a window is complete", quoted(&time.name));
        let hint = "name the column in spec.eventTime of the Source, with the delay that is to be waited for, and select it unchanged; \
                    for processing time, select PROCTIME() AS a column in a step or subquery below";
        return Err(Refusal::at(here, Reason::PlanInvalid, message, hint).into());
    }
    if let Some(taken) = WINDOW_COLUMNS.iter().find(|name| input.schema().fields().iter().any(|field| field.name() == *name)) {
        let message = format!("{function} adds a column {taken}, which the table has already");
        let hint = format!("select it under another name first: {taken} AS first_{taken}");
        return Err(Refusal::at(call.place, Reason::SchemaInvalid, message, hint).into());
    }
    let partition_by = call.partition_by.iter().map(|key| column(&input, key, context)).collect::<Result<_>>()?;
    let node = WindowNode::new(input, time, partition_by, windows)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn column(input: &LogicalPlan, ident: &Ident, context: &dyn RelationPlannerContext) -> Result<Column> {
    let name = context.normalize_ident(ident.clone());
    Ok(Column::from(input.schema().qualified_field_with_unqualified_name(&name)?))
}

fn windows(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<Windows> {
    let size = interval(call, &call.size, context)?;
    let step = call.step.as_ref().map(|step| interval(call, step, context)).transpose()?;
    let offset = call.offset.as_ref().map(|offset| microseconds(call, offset, context)).transpose()?.unwrap_or_default();
    let wrong = |message: String, hint: &str| {
        Err(Refusal::at(call.place, Reason::PlanInvalid, format!("{}: {message}", call.function.as_str()), hint).into())
    };
    let text = |micros: i64| format!("{:?}", Duration::from_micros(micros.unsigned_abs()));
    match (call.function, step) {
        (WindowFunction::Session, _) => Ok(Windows::Session { gap: size }),
        (WindowFunction::Hop, Some(slide)) if size % slide != 0 => {
            wrong(format!("the size {} is no multiple of the slide {}", text(size), text(slide)), "choose a slide that divides the size")
        }
        (WindowFunction::Hop, Some(slide)) => Ok(Windows::Hop { size, slide, offset: offset.rem_euclid(slide) }),
        (WindowFunction::Cumulate, Some(step)) if size % step != 0 => {
            wrong(format!("the size {} is no multiple of the step {}", text(size), text(step)), "choose a step that divides the size")
        }
        (WindowFunction::Cumulate, Some(step)) => Ok(Windows::Cumulate { size, step, offset: offset.rem_euclid(size) }),
        (WindowFunction::Tumble | WindowFunction::Hop | WindowFunction::Cumulate, _) => {
            Ok(Windows::Tumble { size, offset: offset.rem_euclid(size) })
        }
    }
}

/// A length of time: whole milliseconds, more than none.
fn interval(call: &Call, expr: &SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<i64> {
    let micros = microseconds(call, expr, context)?;
    if micros <= 0 {
        let message = format!("{}: {expr} is no length of time", call.function.as_str());
        return Err(Refusal::at(Place::new(expr.span().start).or(call.place), Reason::PlanInvalid, message, call.function.usage()).into());
    }
    Ok(micros)
}

fn microseconds(call: &Call, expr: &SqlExpr, context: &mut dyn RelationPlannerContext) -> Result<i64> {
    let wrong = |message: String, hint: &str| {
        let place = Place::new(expr.span().start).or(call.place);
        Err(Refusal::at(place, Reason::PlanInvalid, format!("{}: {message}", call.function.as_str()), hint).into())
    };
    let planned = context.sql_to_expr(expr.clone(), &datafusion_common::DFSchema::empty())?;
    let planned = if let Expr::Negative(inner) = planned { (*inner, -1) } else { (planned, 1) };
    let (Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _), sign) = planned else {
        return wrong(format!("{expr} is no interval"), call.function.usage());
    };
    if value.months != 0 {
        return wrong(format!("{expr} is not of one length"), "months and years differ: write days or hours");
    }
    let micros = i64::from(value.days).checked_mul(DAY).and_then(|days| days.checked_add(value.nanoseconds / 1000));
    match micros {
        Some(micros) if value.nanoseconds % (1000 * MILLISECOND) == 0 => Ok(sign * micros),
        Some(_) => wrong(format!("{expr} is finer than a millisecond"), "choose a length in whole milliseconds"),
        None => wrong(format!("{expr} is too long"), "choose a shorter one"),
    }
}
