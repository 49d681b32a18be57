//! Rows by their number in an order, for each key: keep-first and keep-last deduplication, top-N, top-N of windows. Numbers rows only as far as they come out.
//!
//! What comes out when is the [`Emission`]: with a window, or where the first row by event time is wanted, the watermark says when the numbers are final, and
//! nothing is ever revised; else they are revised as rows come.
//!
//! **Order.** By the ORDER BY columns; NULL is where the plan says. Rows that are equal in them are in the order in which they came, or, for keep-last, the
//! last that came is the first.

mod operator;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::columns::place;
use super::{Blueprint, Operator};
use crate::batch::Origin;
use crate::plan::Late;

/// A top-N as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct RankBlueprint {
    /// Positions among the columns that arrive of those that are kept; other positions are among these.
    pub(crate) take: Vec<usize>,
    /// The columns that are kept.
    pub(crate) input: SchemaRef,
    /// Positions of the columns that rows are numbered for.
    pub(crate) partition_by: Vec<usize>,
    /// The order in which they are numbered.
    pub(crate) order_by: Vec<OrderBy>,
    /// Which of equal rows is the first.
    pub(crate) ties: Ties,
    /// The lowest number that comes out, from 1.
    pub(crate) first: u64,
    /// The highest.
    pub(crate) last: u64,
    /// If the rows are revised: the columns that tell which row is taken back.
    pub(crate) revised_by: Option<Vec<usize>>,
    /// When rows come out.
    pub(crate) emission: Emission,
    /// What happens to rows that come once it is known that they have no number.
    pub(crate) late: Late,
    /// For each column that comes out, its position among those that are kept; `None` for the row's number.
    pub(crate) output: Vec<Option<usize>>,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
}

/// A column of ORDER BY.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OrderBy {
    /// Its position.
    pub(crate) column: usize,
    /// Whether the greatest value is the first.
    pub(crate) descending: bool,
    /// Whether NULL comes before all values.
    pub(crate) nulls_first: bool,
}

/// Which of rows that are equal in ORDER BY is the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ties {
    /// The one that came first.
    Earliest,
    /// The one that came last.
    Latest,
}

/// When rows come out. All times in microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Emission {
    /// At once; numbers are revised as rows come. Keys are forgotten so long after they were last touched.
    Revised {
        /// So long.
        ttl: i64,
    },
    /// Only the first row by event time, once the watermark says that none will come before it. Keys are forgotten so long after that.
    First {
        /// Position of the event time.
        time: usize,
        /// So long.
        ttl: i64,
    },
    /// When the window ends, which is part of the key.
    Window {
        /// Position of the window's end.
        end: usize,
    },
}

impl RankBlueprint {
    /// Whether rows that came out are revised later.
    pub(crate) fn revises(&self) -> bool {
        matches!(self.emission, Emission::Revised { .. })
    }

    fn names(&self, columns: &[usize]) -> String {
        let names: Vec<&str> = columns.iter().map(|column| self.input.field(*column).name().as_str()).collect();
        names.join(", ")
    }

    fn order(&self) -> String {
        let column = |order: &OrderBy| {
            let direction = if order.descending { " DESC" } else { "" };
            let nulls =
                if order.nulls_first == order.descending { if order.nulls_first { " NULLS FIRST" } else { " NULLS LAST" } } else { "" };
            format!("{}{direction}{nulls}", self.input.field(order.column).name())
        };
        self.order_by.iter().map(column).collect::<Vec<_>>().join(", ")
    }
}

impl Blueprint for RankBlueprint {
    fn kind(&self) -> &'static str {
        "rank"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let columns: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        format!(
            "rank {} to {} of {:?} {:?} by {:?} {:?} {:?} late {:?} revised {:?} take {:?} AS {}",
            self.first,
            self.last,
            self.take,
            self.partition_by,
            self.order_by,
            self.ties,
            self.emission,
            self.late,
            self.revised_by,
            self.output,
            columns.join(", ")
        )
    }

    fn explain(&self) -> String {
        let range = if self.first == self.last { self.first.to_string() } else { format!("{} to {}", self.first, self.last) };
        let partition = if self.partition_by.is_empty() { String::new() } else { format!(" of each {}", self.names(&self.partition_by)) };
        let ties = if self.ties == Ties::Latest { ", the last of equal rows" } else { "" };
        let emission = match self.emission {
            Emission::Revised { ttl } => format!("at once, revised later; kept for {} s", ttl / 1_000_000),
            Emission::First { ttl, .. } => format!("once it is final; kept for {} s", ttl / 1_000_000),
            Emission::Window { .. } => "when the window ends".to_owned(),
        };
        format!("row {range}{partition} by {}{ties}; {emission}", self.order())
    }

    fn state_signature(&self) -> Option<String> {
        let columns: Vec<String> = self.input.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        let emission = match self.emission {
            Emission::Revised { .. } => "revised",
            Emission::First { .. } => "first",
            Emission::Window { .. } => "window",
        };
        // What fewer rows were kept for is not enough for more.
        Some(format!(
            "rank {emission} to {} of ({}) by ({}) of {}",
            self.last,
            self.names(&self.partition_by),
            self.order(),
            columns.join(", ")
        ))
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
        let column = (*self.output.get(column)?)?;
        self.partition_by.contains(&column).then(|| vec![self.take[column]])
    }

    fn reads(&self, _port: usize) -> Option<Vec<usize>> {
        (self.late == Late::Drop).then(|| self.take.clone())
    }

    fn narrowed(&self, _port: usize, kept: &[usize]) -> Option<Arc<dyn Blueprint>> {
        Some(Arc::new(Self { take: self.take.iter().map(|column| place(kept, *column)).collect(), ..self.clone() }))
    }

    fn operator(&self, id: &Arc<str>, ports: &[usize]) -> Box<dyn Operator> {
        let origin = Origin::new(&format!("operator/{id}"), id.as_ref());
        Box::new(operator::Rank::new(Arc::new(self.clone()), origin, ports))
    }
}
