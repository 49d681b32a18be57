//! Joins on equal keys: regular, interval and window joins, inner and outer, of tables that are appended to or revised. Never joins without a key.
//!
//! ```text
//!  port 0 ─▶ Side: rows by key ─┐
//!                 ▲  ╳  ▼       ├─▶ pairs ─▶ residual condition ─▶ Changes ─▶ batches
//!  port 1 ─▶ Side: rows by key ─┘
//! ```
//!
//! Each row is kept on its side and meets every row of the other side that is there already, so each pair comes out once, whichever row comes first.
//!
//! **How long rows are kept** is the [`Lifetime`]. An interval or a window ends with the watermark, and nothing is lost by it; a TTL forgets.
//!
//! **Outer joins** say when they pad a row that has met no other: with a lifetime that ends by itself and inputs that are never revised, once it has ended,
//! so that the result is never revised either; else at once, and the padded row is taken back when another comes (as Flink does for each of these kinds).
//!
//! A watermark is passed on with the [delay](Lifetime::delay) of the interval, because rows that old may still come out.

mod changes;
mod operator;
mod side;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::columns::place;
use super::{Blueprint, Expression, Operator};
use crate::batch::Origin;
use crate::plan::Late;

/// A join as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct JoinBlueprint {
    /// Left and right: what arrives at ports 0 and 1.
    pub(crate) sides: [JoinSide; 2],
    /// Whether NULL is a key like any other. If not, a row with a NULL in its key meets none.
    pub(crate) nulls_are_equal: bool,
    /// What has to be true of two rows with equal keys as well.
    pub(crate) residual: Option<Residual>,
    /// How long rows are kept.
    pub(crate) lifetime: Lifetime,
    /// What happens to rows that come too late to meet any.
    pub(crate) late: Late,
    /// For each column that comes out, the side and the column there.
    pub(crate) output: Vec<(usize, usize)>,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
}

/// One side of a join.
#[derive(Clone, Debug)]
pub(crate) struct JoinSide {
    /// Positions among the columns that arrive of those that are kept; other positions are among these.
    pub(crate) take: Vec<usize>,
    /// The columns that are kept.
    pub(crate) schema: SchemaRef,
    /// Positions of the key columns, as many and of the same types as on the other side.
    pub(crate) keys: Vec<usize>,
    /// Whether rows that meet none come out, padded with NULL.
    pub(crate) outer: bool,
    /// If the rows are revised: the columns that tell which row is taken back, all of them if nothing else does.
    pub(crate) revised_by: Option<Vec<usize>>,
}

/// A condition on two rows.
#[derive(Clone, Debug)]
pub(crate) struct Residual {
    /// Yields booleans; over `columns`.
    pub(crate) predicate: Expression,
    /// For each column that it reads, the side and the column there.
    pub(crate) columns: Vec<(usize, usize)>,
    /// The columns that it reads.
    pub(crate) schema: SchemaRef,
}

/// How long the rows of a join are kept. All times in microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lifetime {
    /// So long after they came.
    Ttl(i64),
    /// As long as rows may come whose time is near enough: `lower <= left - right <= upper`, which two rows have to fulfil to meet.
    Interval {
        /// Position of the time column of each side, which no row before the watermark will have.
        times: [usize; 2],
        /// Least difference.
        lower: i64,
        /// Greatest difference.
        upper: i64,
        /// By how much rows may come after the watermark has passed their time.
        slack: i64,
    },
    /// Until the watermark reaches the end of their window, which is part of the key.
    Window {
        /// Position of the window end on each side.
        ends: [usize; 2],
    },
}

impl Lifetime {
    /// How much older than the watermark a row can be when it comes out.
    pub(crate) fn delay(self) -> i64 {
        match self {
            Self::Ttl(_) | Self::Window { .. } => 0,
            Self::Interval { lower, upper, slack, .. } => lower.saturating_neg().max(upper).max(0).saturating_add(slack),
        }
    }

    /// Whether it ends by event time alone, so that no row is forgotten that could still meet another.
    pub(crate) fn ends_by_itself(self) -> bool {
        !matches!(self, Self::Ttl(_))
    }
}

impl JoinBlueprint {
    /// Whether rows that meet none are padded at once, and revised later.
    pub(crate) fn pads_at_once(&self) -> bool {
        !self.lifetime.ends_by_itself() || self.sides.iter().any(|side| side.revised_by.is_some())
    }

    /// Whether rows that came out are revised later.
    pub(crate) fn revises(&self) -> bool {
        let revised = self.sides.iter().any(|side| side.revised_by.is_some());
        revised || (self.pads_at_once() && self.sides.iter().any(|side| side.outer))
    }

    fn name(&self) -> &'static str {
        match (self.sides[0].outer, self.sides[1].outer) {
            (false, false) => "inner",
            (true, false) => "left",
            (false, true) => "right",
            (true, true) => "full",
        }
    }
}

impl Blueprint for JoinBlueprint {
    fn kind(&self) -> &'static str {
        "join"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let residual = self.residual.as_ref().map(|residual| format!("{} {:?}", residual.predicate.identity, residual.columns));
        let keys = self.sides.each_ref().map(|side| &side.keys);
        let revised = self.sides.each_ref().map(|side| (&side.take, &side.revised_by));
        let columns: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        format!(
            "join {} {keys:?} nulls {} {:?} late {:?} {residual:?} revised {revised:?} take {:?} AS {}",
            self.name(),
            self.nulls_are_equal,
            self.lifetime,
            self.late,
            self.output,
            columns.join(", ")
        )
    }

    fn explain(&self) -> String {
        let name = |side: usize, column: &usize| self.sides[side].schema.field(*column).name().clone();
        let keys = self.sides[0].keys.iter().zip(&self.sides[1].keys);
        let mut parts: Vec<String> = keys.map(|(left, right)| format!("left.{} = right.{}", name(0, left), name(1, right))).collect();
        match &self.lifetime {
            Lifetime::Ttl(_) | Lifetime::Window { .. } => {}
            Lifetime::Interval { times: [left, right], lower, upper, slack: _ } => {
                parts.push(format!("left.{} - right.{} from {lower} to {upper} µs", name(0, left), name(1, right)));
            }
        }
        parts.extend(self.residual.iter().map(|residual| residual.predicate.sql.clone()));
        let lifetime = match self.lifetime {
            Lifetime::Ttl(micros) => format!("kept for {} s", micros / 1_000_000),
            Lifetime::Interval { .. } => "kept for the interval".to_owned(),
            Lifetime::Window { .. } => "kept until the window ends".to_owned(),
        };
        format!("{} on {}; {lifetime}", self.name(), parts.join(" AND "))
    }

    fn state_signature(&self) -> Option<String> {
        let sides = self.sides.each_ref().map(|side| {
            let keys: Vec<&String> = side.keys.iter().map(|key| side.schema.field(*key).name()).collect();
            let columns: Vec<String> =
                side.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
            format!("{keys:?} of {}", columns.join(", "))
        });
        let lifetime = match self.lifetime {
            Lifetime::Ttl(_) => "ttl".to_owned(),
            Lifetime::Interval { times, .. } => format!("interval {times:?}"),
            Lifetime::Window { ends } => format!("window {ends:?}"),
        };
        Some(format!("join {} {lifetime} ({}) ({})", self.name(), sides[0], sides[1]))
    }

    fn keys(&self) -> Option<Vec<Vec<usize>>> {
        Some(self.sides.iter().map(|side| side.keys.iter().map(|key| side.take[*key]).collect()).collect())
    }

    fn stored_keys(&self, table: &str) -> Option<Vec<usize>> {
        operator::TABLES.iter().position(|name| *name == table).map(|side| self.sides[side].keys.clone())
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        let (side, column) = *self.output.get(column)?;
        let key = self.sides[side].keys.iter().position(|key| *key == column)?;
        // Where the other side comes out alone, this one is padded.
        let padded = self.sides[1 - side].outer;
        (!padded).then(|| self.sides.iter().map(|side| side.take[side.keys[key]]).collect())
    }

    fn reads(&self, port: usize) -> Option<Vec<usize>> {
        (self.late == Late::Drop).then(|| self.sides[port].take.clone())
    }

    fn narrowed(&self, port: usize, kept: &[usize]) -> Option<Arc<dyn Blueprint>> {
        let mut narrowed = self.clone();
        narrowed.sides[port].take.iter_mut().for_each(|column| *column = place(kept, *column));
        Some(Arc::new(narrowed))
    }

    fn operator(&self, id: &Arc<str>, ports: &[usize]) -> Box<dyn Operator> {
        let origin = Origin::new(&format!("operator/{id}"), id.as_ref());
        Box::new(operator::Join::new(Arc::new(self.clone()), origin, ports))
    }
}
