//! What a join means for state and time: whether an interval or a window ends it, which of its columns still tell time, whether its result is revised.
//! Looks at the plan only; builds nothing.

use datafusion_common::{JoinType, Result, ScalarValue};
use datafusion_expr::expr::Between;
use datafusion_expr::logical_plan::Join;
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use arrow::datatypes::{DataType, TimeUnit};

use super::time::{Clock, TimeAttribute};
use super::traits::{self, Mode, Traits, renamed};

/// A join and what is known about it.
#[derive(Debug)]
pub(super) struct JoinPlan {
    /// Traits of both inputs.
    pub(super) inputs: [Traits; 2],
    /// For each side, whether rows that meet none come out.
    pub(super) outer: [bool; 2],
    /// What ends the rows.
    pub(super) end: JoinEnd,
    /// What has to be true of two rows with equal keys beside the interval.
    pub(super) residual: Option<Expr>,
}

/// What ends the rows of a join. Positions are in the schemas of left and right; times in microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum JoinEnd {
    /// `lower <= left - right <= upper`.
    Interval { times: [usize; 2], lower: i64, upper: i64 },
    /// The end of the window.
    Window { ends: [usize; 2] },
    /// Nothing but the time to live.
    Nothing,
}

impl JoinPlan {
    pub(super) fn of(join: &Join) -> Result<Self> {
        let inputs = [traits::of(&join.left)?, traits::of(&join.right)?];
        let outer = match join.join_type {
            JoinType::Left => [true, false],
            JoinType::Right => [false, true],
            JoinType::Full => [true, true],
            _ => [false, false],
        };
        let conditions: Vec<&Expr> = join.filter.iter().flat_map(split_conjunction).collect();
        let window = window(join, &inputs)?;
        let (end, residual) = match window {
            Some(ends) => (JoinEnd::Window { ends }, join.filter.clone()),
            None => match interval(join, &inputs, &conditions)? {
                Some(Interval { times, bounds, conditions: used }) => {
                    let rest = conditions.iter().enumerate().filter(|(number, _)| !used.contains(number));
                    let end = JoinEnd::Interval { times, lower: bounds.lower, upper: bounds.upper };
                    (end, conjunction(rest.map(|(_, condition)| (*condition).clone())))
                }
                None => (JoinEnd::Nothing, join.filter.clone()),
            },
        };
        Ok(Self { inputs, outer, end, residual })
    }

    /// What says that rows are over.
    pub(super) fn clock(&self) -> Clock {
        let time = match self.end {
            JoinEnd::Interval { times: [left, _], .. } | JoinEnd::Window { ends: [left, _] } => self.inputs[0].times[left],
            JoinEnd::Nothing => None,
        };
        time.map_or(Clock::EVENT, TimeAttribute::clock)
    }

    /// By how much rows may come after the watermark has passed their time.
    pub(super) fn slack(&self) -> i64 {
        let JoinEnd::Interval { times: [left, right], .. } = self.end else { return 0 };
        let is_window_time = |side: usize, column: usize| matches!(self.inputs[side].times[column], Some(TimeAttribute::WindowTime(_)));
        // A window's last millisecond may lie before a watermark that does not end the window.
        if is_window_time(0, left) || is_window_time(1, right) { 1_000 } else { 0 }
    }

    /// Whether rows that came out are revised later.
    pub(super) fn revises(&self) -> bool {
        self.inputs.iter().any(Traits::is_updating) || (self.end == JoinEnd::Nothing && self.outer.contains(&true))
    }

    /// What is known about the rows that come out.
    pub(super) fn traits(&self, join: &Join) -> Result<Traits> {
        let left = self.inputs[0].times.len();
        let mut times = Vec::with_capacity(left + self.inputs[1].times.len());
        for (side, input) in self.inputs.iter().enumerate() {
            // Where rows are padded the times are NULL.
            let padded = self.outer[1 - side];
            times.extend(
                input.times.iter().enumerate().map(|(column, attribute)| attribute.filter(|_| !padded && self.keeps(side, column))),
            );
        }
        let mode = if self.revises() { Mode::Updating { key: self.key(join, left)? } } else { Mode::Append };
        Ok(Traits { mode, times, bounds: Vec::new() })
    }

    /// Whether a time is still one that watermarks are about.
    fn keeps(&self, side: usize, column: usize) -> bool {
        let attribute = self.inputs[side].times[column];
        // When rows leave follows the one clock; the other says nothing of them any more.
        if attribute.map(TimeAttribute::clock) != Some(self.clock()) {
            return false;
        }
        let of_window = attribute.is_some_and(TimeAttribute::is_of_window);
        match self.end {
            JoinEnd::Nothing => false,
            JoinEnd::Window { .. } => of_window,
            JoinEnd::Interval { times, .. } => {
                let by_window = self.inputs[side].times[times[side]].is_some_and(TimeAttribute::is_of_window);
                column == times[side] || (by_window && of_window)
            }
        }
    }

    /// Columns that tell the rows apart at any time; none if none are known.
    fn key(&self, join: &Join, left: usize) -> Result<Vec<usize>> {
        let key = |side: usize| match &self.inputs[side].mode {
            Mode::Updating { key } if !key.is_empty() => Some(key.iter().map(|column| column + side * left).collect::<Vec<usize>>()),
            _ => None,
        };
        let (keys, schemas) = ([key(0), key(1)], [join.left.schema(), join.right.schema()]);
        // A row of one side meets one row of the other at most, if its key is joined on.
        let meets_one = |other: usize| -> Result<bool> {
            let Some(key) = &keys[other] else { return Ok(false) };
            let mut joined = Vec::new();
            for (left_key, right_key) in &join.on {
                if let Some(column) = renamed(if other == 0 { left_key } else { right_key }) {
                    joined.push(schemas[other].index_of_column(column)? + other * left);
                }
            }
            Ok(key.iter().all(|column| joined.contains(column)))
        };
        for (side, key) in keys.iter().enumerate() {
            if let Some(key) = key
                && !self.outer[1 - side]
                && meets_one(1 - side)?
            {
                return Ok(key.clone());
            }
        }
        // A row of each side that meets none looks the same in the keys if both keys are NULL.
        let can_be_null = |side: usize| {
            let columns = keys[side].iter().flatten();
            columns.map(|column| schemas[side].field(column - side * left)).all(|field| field.is_nullable())
        };
        let is_ambiguous = self.outer == [true, true] && can_be_null(0) && can_be_null(1);
        Ok(match keys {
            [Some(left), Some(right)] if !is_ambiguous => left.into_iter().chain(right).collect(),
            _ => Vec::new(),
        })
    }
}

/// The columns with the window's end of both sides, if they have to be equal.
fn window(join: &Join, inputs: &[Traits; 2]) -> Result<Option<[usize; 2]>> {
    for (left, right) in &join.on {
        if let (Some(left), Some(right)) = (renamed(left), renamed(right)) {
            let ends = [join.left.schema().index_of_column(left)?, join.right.schema().index_of_column(right)?];
            let [one, other] = [0, 1].map(|side| inputs[side].times[ends[side]]);
            if one == other && matches!(one, Some(TimeAttribute::WindowEnd(_))) {
                return Ok(Some(ends));
            }
        }
    }
    Ok(None)
}

/// Bounds of `left - right`.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    lower: i64,
    upper: i64,
}

struct Interval {
    times: [usize; 2],
    bounds: Bounds,
    /// Numbers of the conditions that it replaces.
    conditions: Vec<usize>,
}

/// The first two times of which the difference has to be in bounds.
fn interval(join: &Join, inputs: &[Traits; 2], conditions: &[&Expr]) -> Result<Option<Interval>> {
    let mut found: Vec<Interval> = Vec::new();
    let mut add = |comparison: Option<Comparison>, condition: Option<usize>| {
        let Some(Comparison { times, bounds, exact }) = comparison else { return };
        let at = found.iter().position(|interval| interval.times == times).unwrap_or_else(|| {
            found.push(Interval { times, bounds: Bounds { lower: i64::MIN, upper: i64::MAX }, conditions: Vec::new() });
            found.len() - 1
        });
        let Interval { bounds: known, conditions, .. } = &mut found[at];
        *known = Bounds { lower: known.lower.max(bounds.lower), upper: known.upper.min(bounds.upper) };
        conditions.extend(condition.filter(|_| exact));
    };
    for (left, right) in &join.on {
        add(comparison(join, inputs, left, Operator::Eq, right)?, None);
    }
    for (number, condition) in conditions.iter().enumerate() {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => add(comparison(join, inputs, left, *op, right)?, Some(number)),
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let low = comparison(join, inputs, expr, Operator::GtEq, low)?;
                let high = comparison(join, inputs, expr, Operator::LtEq, high)?;
                // Only both together replace it.
                let both = low.is_some() && high.is_some();
                add(low, None);
                add(high, both.then_some(number));
            }
            _ => {}
        }
    }
    Ok(found.into_iter().find(|interval| interval.bounds.lower > i64::MIN && interval.bounds.upper < i64::MAX))
}

/// A condition on the difference of two times.
struct Comparison {
    times: [usize; 2],
    bounds: Bounds,
    /// Whether it says no more than the bounds.
    exact: bool,
}

/// A sum of times and durations, in microseconds: `left - right + plus` or `right - left + plus`, or a part of that.
#[derive(Clone, Copy, Debug)]
struct Sum {
    /// The time column of each side and whether it is subtracted.
    times: [Option<(usize, bool)>; 2],
    plus: i64,
}

fn comparison(join: &Join, inputs: &[Traits; 2], left: &Expr, op: Operator, right: &Expr) -> Result<Option<Comparison>> {
    if !matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
        return Ok(None);
    }
    let (Some(left), Some(right)) = (sum(join, inputs, left)?, sum(join, inputs, right)?) else { return Ok(None) };
    let Some(Sum { times: [Some((one, subtracted)), Some((other, other_subtracted))], plus }) = minus(left, right) else { return Ok(None) };
    let clock = |side: usize, column: usize| inputs[side].times[column].map(TimeAttribute::clock);
    if subtracted == other_subtracted || clock(0, one) != clock(1, other) {
        return Ok(None);
    }
    // `left - right op limit`, once the sides are turned so that the left time is not subtracted.
    let (op, limit) = if subtracted { (op.swap().unwrap_or(op), plus) } else { (op, -plus) };
    let bounds = match op {
        Operator::Eq => Bounds { lower: limit, upper: limit },
        Operator::Lt => Bounds { lower: i64::MIN, upper: limit - 1 },
        Operator::LtEq => Bounds { lower: i64::MIN, upper: limit },
        Operator::Gt => Bounds { lower: limit + 1, upper: i64::MAX },
        _ => Bounds { lower: limit, upper: i64::MAX },
    };
    let nanos = |schema: &datafusion_common::DFSchema, column: usize| {
        matches!(schema.field(column).data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _))
    };
    if nanos(join.left.schema(), one) || nanos(join.right.schema(), other) {
        // Microseconds are too coarse: the condition stays.
        let Bounds { lower, upper } = bounds;
        let bounds = Bounds { lower: lower.saturating_sub(1), upper: upper.saturating_add(1) };
        return Ok(Some(Comparison { times: [one, other], bounds, exact: false }));
    }
    Ok(Some(Comparison { times: [one, other], bounds, exact: true }))
}

/// What an expression adds up, if it adds up times that watermarks are about and durations.
fn sum(join: &Join, inputs: &[Traits; 2], expr: &Expr) -> Result<Option<Sum>> {
    let schemas = [join.left.schema(), join.right.schema()];
    match expr {
        Expr::Column(column) => {
            for side in 0..2 {
                if let Some(position) = schemas[side].maybe_index_of_column(column) {
                    let tells = inputs[side].times[position].filter(|attribute| !matches!(attribute, TimeAttribute::WindowStart(_)));
                    let mut times = [None; 2];
                    times[side] = Some((position, false));
                    return Ok(tells.map(|_| Sum { times, plus: 0 }));
                }
            }
            Ok(None)
        }
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(&join.schema)?;
            let same = match (&from, cast.field.data_type()) {
                // A finer unit or another name of the same instant; a coarser one rounds.
                (DataType::Timestamp(from, one), DataType::Timestamp(to, other)) => one.is_some() == other.is_some() && from <= to,
                (from, to) => from == to,
            };
            if same { sum(join, inputs, &cast.expr) } else { Ok(None) }
        }
        Expr::Alias(alias) => sum(join, inputs, &alias.expr),
        Expr::Literal(value, _) => Ok(micros(value).map(|plus| Sum { times: [None; 2], plus })),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
            let (Some(left), Some(right)) = (sum(join, inputs, left)?, sum(join, inputs, right)?) else { return Ok(None) };
            Ok(minus(left, if *op == Operator::Plus { negated(right) } else { right }))
        }
        _ => Ok(None),
    }
}

fn negated(sum: Sum) -> Sum {
    Sum { times: sum.times.map(|time| time.map(|(column, subtracted)| (column, !subtracted))), plus: -sum.plus }
}

/// The difference, if no time is in both.
fn minus(one: Sum, other: Sum) -> Option<Sum> {
    let other = negated(other);
    let mut times = one.times;
    for (time, more) in times.iter_mut().zip(other.times) {
        match (&time, more) {
            (Some(_), Some(_)) => return None,
            (None, Some(_)) => *time = more,
            (_, None) => {}
        }
    }
    Some(Sum { times, plus: one.plus.checked_add(other.plus)? })
}

/// A duration in microseconds; `None` if it has months, which differ in length, or parts of a microsecond.
pub(super) fn micros(value: &ScalarValue) -> Option<i64> {
    const DAY: i64 = 86_400_000_000;
    let limited = |micros: i64| Some(micros).filter(|micros| micros.unsigned_abs() < i64::MAX as u64 / 8);
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 && interval.nanoseconds % 1_000 == 0 => {
            limited(i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1_000)?)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            limited(i64::from(interval.days).checked_mul(DAY)?.checked_add(i64::from(interval.milliseconds) * 1_000)?)
        }
        ScalarValue::DurationSecond(Some(duration)) => limited(duration.checked_mul(1_000_000)?),
        ScalarValue::DurationMillisecond(Some(duration)) => limited(duration.checked_mul(1_000)?),
        ScalarValue::DurationMicrosecond(Some(duration)) => limited(*duration),
        ScalarValue::DurationNanosecond(Some(duration)) if duration % 1_000 == 0 => limited(duration / 1_000),
        _ => None,
    }
}
