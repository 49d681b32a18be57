//! `ROW_NUMBER() OVER (…)` with a condition on the number: which rows come out, and when they are final. Looks at the plan only; builds nothing.
//!
//! The optimiser moves the condition down to the window function, however deep it was nested: nothing is between them but the choice of columns.

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Column, DataFusionError, Result, ScalarValue};
use datafusion_expr::expr::{Between, Sort, WindowFunction};
use datafusion_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion_expr::logical_plan::{Filter, Window};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{
    BinaryExpr, Expr, LimitEffect, LogicalPlan, Operator, PartitionEvaluator, Signature, Volatility, WindowFunctionDefinition, WindowUDF,
    WindowUDFImpl,
};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, Value, WindowType, visit_expressions_mut,
};

use super::time::{Clock, TimeAttribute};
use super::traits::{self, Mode, Traits, renamed};

/// A top-N and what is known about it.
#[derive(Debug)]
pub(super) struct RankPlan<'a> {
    pub(super) window: &'a Window,
    /// For each column that the condition is about, its position in the window.
    pub(super) columns: Vec<usize>,
    pub(super) partition_by: &'a [Expr],
    pub(super) order_by: &'a [Sort],
    /// The lowest and the highest number that comes out.
    pub(super) range: (u64, u64),
    /// What else has to be true of a row that comes out.
    pub(super) rest: Option<Expr>,
    pub(super) input: Traits,
    pub(super) finality: Finality,
}

/// When the number of a row is final.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Finality {
    /// Never.
    Never,
    /// Once the watermark has passed it: position of the time in the input.
    Time(usize),
    /// At the end of the window: its number in PARTITION BY, and the position of its end in the input.
    Window(usize),
}

impl<'a> RankPlan<'a> {
    /// The top-N that a filter makes of the numbers below it, if it does.
    pub(super) fn of(filter: &'a Filter) -> Result<Option<Self>> {
        let Some((window, columns)) = window_below(&filter.input)? else { return Ok(None) };
        let Some(WindowFunction { params, .. }) = row_number(window) else { return Ok(None) };
        let number = window.input.schema().fields().len();
        let schema = filter.input.schema();
        let is_number = |column: &Column| -> Result<bool> { Ok(columns[schema.index_of_column(column)?] == number) };
        let (mut first, mut last, mut rest) = (1, u64::MAX, Vec::new());
        for condition in split_conjunction(&filter.predicate) {
            let mut reads = false;
            for column in condition.column_refs() {
                reads |= is_number(column)?;
            }
            match (reads, bounds(condition, &is_number)?) {
                (false, _) => rest.push(condition.clone()),
                (true, Some((lower, upper))) => (first, last) = (lower.max(first), upper.min(last)),
                (true, None) => return Ok(None),
            }
        }
        if last == u64::MAX {
            return Ok(None);
        }
        let input = traits::of(&window.input)?;
        let mut plan = Self {
            window,
            columns,
            partition_by: &params.partition_by,
            order_by: &params.order_by,
            range: (first, last),
            rest: conjunction(rest),
            input,
            finality: Finality::Never,
        };
        plan.finality = plan.finality()?;
        Ok(Some(plan))
    }

    fn finality(&self) -> Result<Finality> {
        if self.input.is_updating() {
            return Ok(Finality::Never);
        }
        let schema = self.window.input.schema();
        for expr in self.partition_by {
            if let Some(column) = renamed(expr) {
                let column = schema.index_of_column(column)?;
                if matches!(self.input.times[column], Some(TimeAttribute::WindowEnd(_))) {
                    return Ok(Finality::Window(column));
                }
            }
        }
        Ok(match self.by_time()? {
            Some((column, true)) if self.range == (1, 1) => Finality::Time(column),
            _ => Finality::Never,
        })
    }

    /// What says that a number is final.
    pub(super) fn clock(&self) -> Clock {
        match self.finality {
            Finality::Never => Clock::EVENT,
            Finality::Time(time) | Finality::Window(time) => self.input.times[time].map_or(Clock::EVENT, TimeAttribute::clock),
        }
    }

    /// The time, if rows are in its order alone, and whether the earliest is the first.
    fn by_time(&self) -> Result<Option<(usize, bool)>> {
        let [Sort { expr, asc, .. }] = self.order_by else { return Ok(None) };
        let Some(column) = renamed(expr) else { return Ok(None) };
        let column = self.window.input.schema().index_of_column(column)?;
        Ok(matches!(self.input.times[column], Some(TimeAttribute::Time(_))).then_some((column, *asc)))
    }

    /// Whether the last of rows with the same event time is the first: when only the last row is kept, as Flink does.
    pub(super) fn last_wins(&self) -> Result<bool> {
        let keeps_last = self.range == (1, 1) && !self.input.is_updating();
        Ok(keeps_last && self.by_time()?.is_some_and(|(_, ascending)| !ascending))
    }

    /// The event time by which only the last row of each key is kept, if that is what it does.
    pub(super) fn keeps_last(&self) -> Result<Option<usize>> {
        if !self.last_wins()? {
            return Ok(None);
        }
        let time = self.by_time()?.map(|(column, _)| column);
        Ok(time.filter(|column| self.input.times[*column].is_some_and(|time| time.clock().is_event())))
    }

    /// Position of the number among the columns that come out.
    pub(super) fn number(&self) -> usize {
        self.window.input.schema().fields().len()
    }

    /// What is known about the rows that come out.
    pub(super) fn traits(&self) -> Result<Traits> {
        Ok(self.traits_of_window()?.select(&self.columns.iter().copied().map(Some).collect::<Vec<_>>()))
    }

    fn traits_of_window(&self) -> Result<Traits> {
        let schema = self.window.input.schema();
        let keeps = |column: usize, attribute: TimeAttribute| match self.finality {
            Finality::Never => false,
            Finality::Time(time) => column == time,
            Finality::Window(_) => attribute.is_of_window(),
        };
        let times = self.input.times.iter().enumerate().map(|(column, attribute)| attribute.filter(|attribute| keeps(column, *attribute)));
        let times = times.chain([None]).collect();
        if self.finality != Finality::Never {
            return Ok(Traits { mode: Mode::Append, times, bounds: Vec::new() });
        }
        let mut key = Vec::new();
        for expr in self.partition_by {
            match renamed(expr) {
                Some(column) => key.push(schema.index_of_column(column)?),
                None => return Ok(Traits { mode: Mode::Updating { key: Vec::new() }, times, bounds: Vec::new() }),
            }
        }
        if self.range.0 != self.range.1 {
            key.push(self.number());
        }
        Ok(Traits { mode: Mode::Updating { key }, times, bounds: Vec::new() })
    }
}

/// The window function below a plan that only chooses columns, and where these are in it.
fn window_below(plan: &LogicalPlan) -> Result<Option<(&Window, Vec<usize>)>> {
    match plan {
        LogicalPlan::Window(window) => Ok(Some((window, (0..window.schema.fields().len()).collect()))),
        LogicalPlan::SubqueryAlias(alias) => window_below(&alias.input),
        LogicalPlan::Projection(projection) => {
            let Some((window, below)) = window_below(&projection.input)? else { return Ok(None) };
            let mut columns = Vec::with_capacity(projection.expr.len());
            for expr in &projection.expr {
                let Some(column) = renamed(expr) else { return Ok(None) };
                columns.push(below[projection.input.schema().index_of_column(column)?]);
            }
            Ok(Some((window, columns)))
        }
        _ => Ok(None),
    }
}

/// The function of a window that only numbers rows.
pub(super) fn row_number(window: &Window) -> Option<&WindowFunction> {
    let [function] = window.window_expr.as_slice() else { return None };
    let mut function = function;
    while let Expr::Alias(alias) = function {
        function = &alias.expr;
    }
    match function {
        Expr::WindowFunction(function) => {
            matches!(&function.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == ROW_NUMBER).then_some(function)
        }
        _ => None,
    }
}

/// The numbers for which a condition on nothing but the number is true.
fn bounds(condition: &Expr, number: &dyn Fn(&Column) -> Result<bool>) -> Result<Option<(u64, u64)>> {
    let is_number = |expr: &Expr| -> Result<bool> {
        let mut expr = expr;
        while let Expr::Cast(cast) = expr {
            expr = &cast.expr;
        }
        match expr {
            Expr::Column(column) => number(column),
            _ => Ok(false),
        }
    };
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, limit) = match (is_number(left)?, is_number(right)?) {
                (true, false) => (*op, integer(right)),
                (false, true) => (op.swap().unwrap_or(*op), integer(left)),
                _ => return Ok(None),
            };
            let Some(limit) = limit else { return Ok(None) };
            let clamp = |limit: i64| u64::try_from(limit).unwrap_or(0);
            Ok(match op {
                Operator::Eq => Some((clamp(limit), clamp(limit))),
                Operator::Lt => Some((0, clamp(limit - 1))),
                Operator::LtEq => Some((0, clamp(limit))),
                Operator::Gt => Some((clamp(limit + 1), u64::MAX)),
                Operator::GtEq => Some((clamp(limit), u64::MAX)),
                _ => None,
            })
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_number(expr)? => {
            let clamp = |limit: i64| u64::try_from(limit).unwrap_or(0);
            Ok(integer(low).zip(integer(high)).map(|(low, high)| (clamp(low), clamp(high))))
        }
        _ => Ok(None),
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    let mut expr = expr;
    while let Expr::Cast(cast) = expr {
        expr = &cast.expr;
    }
    let Expr::Literal(value, _) = expr else { return None };
    if !value.data_type().is_integer() {
        return None;
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(value)) => value.filter(|value| value.unsigned_abs() < 1 << 40),
        _ => None,
    }
}

/// Writes out what the calls of window functions leave open: NULL is below all values in their order, as in Flink, unless the query says otherwise, and
/// `count(*)` counts rows.
pub(super) fn write_out(statement: &mut Statement) {
    let _ = visit_expressions_mut(statement, |expr| {
        if let ast::Expr::Function(ast::Function { args, over: Some(WindowType::WindowSpec(spec)), .. }) = expr {
            if let FunctionArguments::List(list) = args
                && let [FunctionArg::Unnamed(argument @ FunctionArgExpr::Wildcard)] = list.args.as_mut_slice()
            {
                *argument = FunctionArgExpr::Expr(ast::Expr::value(Value::Number("1".to_owned(), false)));
            }
            for order in &mut spec.order_by {
                let options = &mut order.options;
                options.nulls_first.get_or_insert(options.asc.unwrap_or(true));
            }
        }
        ControlFlow::<()>::Continue(())
    });
}

const ROW_NUMBER: &str = "row_number";

/// `ROW_NUMBER()`, as far as it is planned with.
pub(super) fn function() -> Arc<WindowUDF> {
    static FUNCTION: LazyLock<Arc<WindowUDF>> =
        LazyLock::new(|| Arc::new(WindowUDF::from(RowNumber { signature: Signature::nullary(Volatility::Immutable) })));
    Arc::clone(&FUNCTION)
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct RowNumber {
    signature: Signature,
}

impl WindowUDFImpl for RowNumber {
    fn name(&self) -> &'static str {
        ROW_NUMBER
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _arguments: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Err(DataFusionError::Internal("numbers are given by the top-N".to_owned()))
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), DataType::UInt64, false)))
    }

    fn limit_effect(&self, _arguments: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}
