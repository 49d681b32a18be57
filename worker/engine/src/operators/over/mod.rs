//! OVER aggregates in the order of event time: for each row the aggregates of the rows before it, as far back as the frame goes. Never revises a result.
//!
//! Rows wait until the watermark says that none will come before them, and leave in the order of their times, then of their arrival. In a RANGE frame rows of
//! one key and time have one result; in a ROWS frame each has its own.

mod operator;
mod partition;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::columns::place;
use super::{Blueprint, Call, Operator};
use crate::batch::Origin;
use crate::plan::Late;

/// Aggregates over frames as they stand in the plan.
#[derive(Clone, Debug)]
pub(crate) struct OverBlueprint {
    /// Positions among the columns that arrive of those that are kept; other positions are among these.
    pub(crate) take: Vec<usize>,
    /// The columns that are kept.
    pub(crate) input: SchemaRef,
    /// Positions of the columns of PARTITION BY.
    pub(crate) partition_by: Vec<usize>,
    /// Position of the event time, which rows are in the order of.
    pub(crate) time: usize,
    /// By how much rows may come after the watermark has passed their time, in microseconds.
    pub(crate) slack: i64,
    /// The aggregates.
    pub(crate) calls: Vec<FramedCall>,
    /// For how long a key is kept after its last row if a frame goes back without end in time, in microseconds.
    pub(crate) ttl: Option<i64>,
    /// What happens to rows that come when it was their turn already.
    pub(crate) late: Late,
    /// The columns that come out.
    pub(crate) output: Vec<OverColumn>,
    /// The same with names and types.
    pub(crate) schema: SchemaRef,
}

/// An aggregate and the rows that it is over.
#[derive(Clone, Debug)]
pub(crate) struct FramedCall {
    /// The aggregate; its arguments are among the columns that are kept.
    pub(crate) call: Call,
    /// How far back it goes.
    pub(crate) frame: Frame,
}

/// How far back a frame goes from the current row, which is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    /// So many rows before the current one; all if `None`.
    Rows(Option<u64>),
    /// Rows so many microseconds before the current one, and all of its own time; all before if `None`.
    Range(Option<i64>),
}

/// A column that comes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OverColumn {
    /// One that is kept.
    Input(usize),
    /// The result of a call.
    Call(usize),
}

impl Frame {
    /// Whether it has a beginning.
    pub(crate) fn is_bounded(self) -> bool {
        !matches!(self, Self::Rows(None) | Self::Range(None))
    }
}

impl OverBlueprint {
    /// For how long after its last row a key may still be read.
    fn kept(&self) -> i64 {
        let range = |call: &FramedCall| if let Frame::Range(Some(preceding)) = call.frame { preceding } else { 0 };
        let longest = self.calls.iter().map(range).max().unwrap_or(0);
        self.ttl.unwrap_or(0).max(longest).saturating_add(self.slack)
    }

    fn names(&self, columns: &[usize]) -> String {
        let names: Vec<&str> = columns.iter().map(|column| self.input.field(*column).name().as_str()).collect();
        names.join(", ")
    }
}

impl Blueprint for OverBlueprint {
    fn kind(&self) -> &'static str {
        "over"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let columns: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        let calls: Vec<String> = self.calls.iter().map(|framed| format!("{} {:?}", framed.call.identity, framed.frame)).collect();
        format!(
            "over {calls:?} of {:?} {:?} by {} slack {} ttl {:?} late {:?} take {:?} AS {}",
            self.take,
            self.partition_by,
            self.time,
            self.slack,
            self.ttl,
            self.late,
            self.output,
            columns.join(", ")
        )
    }

    fn explain(&self) -> String {
        let call = |FramedCall { call, frame }: &FramedCall| {
            let frame = match frame {
                Frame::Rows(None) | Frame::Range(None) => "all rows before".to_owned(),
                Frame::Rows(Some(rows)) => format!("{rows} rows before"),
                Frame::Range(Some(micros)) => format!("{micros} µs before"),
            };
            format!("{} over {frame}", call.sql)
        };
        let calls: Vec<String> = self.calls.iter().map(call).collect();
        let partition = if self.partition_by.is_empty() { String::new() } else { format!(" of each {}", self.names(&self.partition_by)) };
        format!("{}{partition} by {}", calls.join(", "), self.input.field(self.time).name())
    }

    fn state_signature(&self) -> Option<String> {
        let columns: Vec<String> = self.input.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        let calls: Vec<String> = self.calls.iter().map(|framed| format!("{} {:?}", framed.call.signature(), framed.frame)).collect();
        Some(format!("over {calls:?} of ({}) by {} of {}", self.names(&self.partition_by), self.time, columns.join(", ")))
    }

    fn keys(&self) -> Option<Vec<Vec<usize>>> {
        Some(vec![self.partition_by.iter().map(|key| self.take[*key]).collect()])
    }

    fn stored_keys(&self, table: &str) -> Option<Vec<usize>> {
        match table {
            operator::ROWS => Some(self.partition_by.clone()),
            operator::KEYS => Some((0..self.partition_by.len()).collect()),
            _ => None,
        }
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        match *self.output.get(column)? {
            OverColumn::Input(column) if self.partition_by.contains(&column) => Some(vec![self.take[column]]),
            OverColumn::Input(_) | OverColumn::Call(_) => None,
        }
    }

    fn reads(&self, _port: usize) -> Option<Vec<usize>> {
        (self.late == Late::Drop).then(|| self.take.clone())
    }

    fn narrowed(&self, _port: usize, kept: &[usize]) -> Option<Arc<dyn Blueprint>> {
        Some(Arc::new(Self { take: self.take.iter().map(|column| place(kept, *column)).collect(), ..self.clone() }))
    }

    fn operator(&self, id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        let origin = Origin::new(&format!("operator/{id}"), id.as_ref());
        Box::new(operator::Over::new(Arc::new(self.clone()), origin))
    }
}
