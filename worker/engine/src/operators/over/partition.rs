//! The rows of one key that frames still reach, and its running aggregates. Knows neither keys nor watermarks.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef};
use datafusion_common::ScalarValue;
use datafusion_expr::Accumulator;

use super::{Frame, FramedCall};
use crate::operators::ExecuteError;

/// Time of a key that has had no row.
pub(super) const NEVER: i64 = i64::MIN;

/// One key.
#[derive(Debug)]
pub(super) struct Partition {
    /// Positions of rows that have left and that a frame still reaches, in order.
    pub(super) history: VecDeque<u32>,
    /// One for each call, once there was a row.
    pub(super) running: Vec<Running>,
    /// Time of the last row that has left; [`NEVER`] if what it left behind is forgotten.
    pub(super) last: i64,
    /// Rows that wait.
    pub(super) waiting: usize,
}

/// An aggregate of a key.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) accumulator: Box<dyn Accumulator>,
    /// How many of the last rows of the history are in it; counted for bounded frames only.
    pub(super) rows: usize,
}

impl Partition {
    pub(super) fn new() -> Self {
        Self { history: VecDeque::new(), running: Vec::new(), last: NEVER, waiting: 0 }
    }

    /// Whether nothing is known of the key.
    pub(super) fn is_empty(&self) -> bool {
        self.last == NEVER && self.waiting == 0
    }

    pub(super) fn start(&mut self, calls: &[FramedCall]) -> Result<(), ExecuteError> {
        if self.running.is_empty() {
            self.running =
                calls.iter().map(|call| Ok(Running { accumulator: accumulator(call)?, rows: 0 })).collect::<Result<_, ExecuteError>>()?;
        }
        Ok(())
    }

    /// Results of the rows that leave now. `times` and `values` (by call) are of the history and of those rows after it.
    pub(super) fn leave(
        &mut self,
        calls: &[FramedCall],
        times: &[i64],
        values: &[Vec<ArrayRef>],
    ) -> Result<Vec<Vec<ScalarValue>>, ExecuteError> {
        self.start(calls)?;
        let first = self.history.len();
        let mut results = Vec::with_capacity(calls.len());
        for ((call, running), values) in calls.iter().zip(&mut self.running).zip(values) {
            results.push(run(call, running, first, times, values)?);
        }
        if let Some(last) = times.last() {
            self.last = *last;
        }
        Ok(results)
    }

    /// How many rows of the history some frame still reaches.
    pub(super) fn reached(&self, calls: &[FramedCall]) -> usize {
        let rows = |(call, running): (&FramedCall, &Running)| match call.frame {
            // The row that comes next takes the place of the first.
            Frame::Rows(Some(preceding)) => running.rows.min(usize::try_from(preceding).unwrap_or(usize::MAX).saturating_add(1)),
            Frame::Range(Some(_)) => running.rows,
            Frame::Rows(None) | Frame::Range(None) => 0,
        };
        calls.iter().zip(&self.running).map(rows).max().unwrap_or(0)
    }
}

pub(super) fn accumulator(FramedCall { call, frame }: &FramedCall) -> Result<Box<dyn Accumulator>, ExecuteError> {
    let made = if frame.is_bounded() { call.function.create_sliding_accumulator() } else { call.function.create_accumulator() };
    made.map_err(|error| call.failed(error))
}

/// The results of one call for the rows from `first` on.
fn run(
    framed: &FramedCall,
    running: &mut Running,
    first: usize,
    times: &[i64],
    values: &[ArrayRef],
) -> Result<Vec<ScalarValue>, ExecuteError> {
    let failed = |error| framed.call.failed(error);
    let slice = |from: usize, to: usize| -> Vec<ArrayRef> { values.iter().map(|value| value.slice(from, to - from)).collect() };
    let mut results = Vec::with_capacity(times.len() - first);
    // The rows from here on are in the accumulator, up to the one at hand.
    let mut start = first - running.rows.min(first);
    let mut row = first;
    while row < times.len() {
        let peers = match framed.frame {
            Frame::Rows(_) => 1,
            Frame::Range(_) => times[row..].iter().take_while(|time| **time == times[row]).count(),
        };
        let end = row + peers;
        let from = match framed.frame {
            Frame::Rows(None) | Frame::Range(None) => start,
            Frame::Rows(Some(preceding)) => row.saturating_sub(usize::try_from(preceding).unwrap_or(usize::MAX)).max(start),
            Frame::Range(Some(preceding)) => {
                let reached = |time: &i64| *time < times[row].saturating_sub(preceding);
                start + times[start..row].iter().take_while(|time| reached(time)).count()
            }
        };
        if framed.frame.is_bounded() {
            if from == row && start < row {
                // Nothing is left, not even what rounding leaves behind.
                running.accumulator = accumulator(framed)?;
            } else if from > start {
                running.accumulator.retract_batch(&slice(start, from)).map_err(failed)?;
            }
            start = from;
        }
        running.accumulator.update_batch(&slice(row, end)).map_err(failed)?;
        let result = running.accumulator.evaluate().map_err(failed)?;
        results.extend(std::iter::repeat_n(result, peers));
        row = end;
    }
    running.rows = if framed.frame.is_bounded() { times.len() - start } else { 0 };
    Ok(results)
}
