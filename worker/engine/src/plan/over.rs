//! Aggregates OVER a frame of rows: what they are ordered by and how far back they go. Looks at the plan only; builds nothing.

use datafusion_common::{Result, ScalarValue};
use datafusion_expr::expr::{Sort, WindowFunction};
use datafusion_expr::logical_plan::Window;
use datafusion_expr::{AggregateUDF, Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};

use std::sync::Arc;

use super::join::micros;
use super::time::{Clock, TimeAttribute};
use super::traits::{self, Traits, renamed};
use crate::operators::Frame;

/// Aggregates over frames and what is known about them.
#[derive(Debug)]
pub(super) struct OverPlan<'a> {
    pub(super) partition_by: &'a [Expr],
    /// Position of the time in the input.
    pub(super) time: usize,
    pub(super) calls: Vec<OverCall<'a>>,
    input: Traits,
}

/// One aggregate.
#[derive(Debug)]
pub(super) struct OverCall<'a> {
    pub(super) function: &'a Arc<AggregateUDF>,
    pub(super) arguments: &'a [Expr],
    pub(super) frame: Frame,
    /// The whole call.
    pub(super) expr: &'a Expr,
}

/// Why aggregates cannot be computed, and what to do.
pub(super) type Refused = (&'static str, &'static str);

impl<'a> OverPlan<'a> {
    /// The aggregates of a window node; why they cannot be computed, if so.
    pub(super) fn of(window: &'a Window) -> Result<std::result::Result<Self, Refused>> {
        let input = traits::of(&window.input)?;
        if input.is_updating() {
            let hint = "aggregate the rows before they are joined or numbered, or group by a key";
            return Ok(Err(("OVER rows that are revised is not supported", hint)));
        }
        let mut calls = Vec::with_capacity(window.window_expr.len());
        let mut common: Option<(&[Expr], &[Sort])> = None;
        for expr in &window.window_expr {
            let mut inner = expr;
            while let Expr::Alias(alias) = inner {
                inner = &alias.expr;
            }
            let Expr::WindowFunction(call) = inner else { return Ok(Err(OTHER)) };
            let WindowFunction { fun: WindowFunctionDefinition::AggregateUDF(function), params } = call.as_ref() else {
                return Ok(Err(OTHER));
            };
            if *common.get_or_insert((&params.partition_by, &params.order_by)) != (&params.partition_by[..], &params.order_by[..]) {
                return Ok(Err(OTHER));
            }
            let frame = match frame(&params.window_frame) {
                Ok(frame) => frame,
                Err(refused) => return Ok(Err(refused)),
            };
            calls.push(OverCall { function, arguments: &params.args, frame, expr });
        }
        let Some((partition_by, order_by)) = common else { return Ok(Err(OTHER)) };
        let order = if let [Sort { expr, asc: true, .. }] = order_by { renamed(expr) } else { None };
        let Some(order) = order else { return Ok(Err(ORDER)) };
        let time = window.input.schema().index_of_column(order)?;
        if !input.times[time].is_some_and(TimeAttribute::is_time) {
            return Ok(Err(ORDER));
        }
        Ok(Ok(Self { partition_by, time, calls, input }))
    }

    /// Whether some frame goes back without end in time.
    pub(super) fn needs_ttl(&self) -> bool {
        self.calls.iter().any(|call| !matches!(call.frame, Frame::Range(Some(_))))
    }

    /// By how much rows may come after the watermark has passed their time, in microseconds.
    pub(super) fn slack(&self) -> i64 {
        // A window's last millisecond may lie before a watermark that does not end the window.
        if matches!(self.input.times[self.time], Some(TimeAttribute::WindowTime(_))) { 1_000 } else { 0 }
    }

    /// What says that it is a row's turn.
    pub(super) fn clock(&self) -> Clock {
        self.input.times[self.time].map_or(Clock::EVENT, TimeAttribute::clock)
    }

    /// What is known about the rows that come out.
    pub(super) fn traits(&self) -> Traits {
        let mut traits = Traits::plain(self.input.times.len() + self.calls.len());
        traits.times[self.time] = self.input.times[self.time];
        traits
    }
}

const OTHER: Refused =
    ("a window function with another one of another kind is not supported", "write each in a step or subquery of its own");
const ORDER: Refused = (
    "OVER in another order than that of event time is not supported",
    "write ORDER BY the event time of the input, ascending, and nothing else; eventTime of the Source says which column it is. Or order by PROCTIME() AS a column of a step below",
);
const FRAME: Refused = (
    "this frame of OVER is not supported",
    "write ROWS BETWEEN n PRECEDING AND CURRENT ROW, RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW, or the same with UNBOUNDED PRECEDING",
);

fn frame(frame: &WindowFrame) -> std::result::Result<Frame, Refused> {
    if frame.end_bound != WindowFrameBound::CurrentRow {
        return Err(FRAME);
    }
    match (frame.units, &frame.start_bound) {
        (WindowFrameUnits::Rows, WindowFrameBound::Preceding(value)) if value.is_null() => Ok(Frame::Rows(None)),
        (WindowFrameUnits::Rows, WindowFrameBound::Preceding(ScalarValue::UInt64(Some(rows)))) => Ok(Frame::Rows(Some(*rows))),
        (WindowFrameUnits::Rows, WindowFrameBound::CurrentRow) => Ok(Frame::Rows(Some(0))),
        (WindowFrameUnits::Range, WindowFrameBound::Preceding(value)) if value.is_null() => Ok(Frame::Range(None)),
        (WindowFrameUnits::Range, WindowFrameBound::Preceding(value)) => {
            micros(value).filter(|micros| *micros >= 0).map(|micros| Frame::Range(Some(micros))).ok_or(FRAME)
        }
        (WindowFrameUnits::Range, WindowFrameBound::CurrentRow) => Ok(Frame::Range(Some(0))),
        _ => Err(FRAME),
    }
}
