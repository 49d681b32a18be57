//! Joins with a table as it is at one moment: each row of the left finds what the right has for its key then, and what comes later changes nothing about it.
//!
//! ```text
//!  port 0 ─▶ rows, which wait ─┐
//!                              ├─▶ pairs ─▶ residual condition ─▶ rows, appended
//!  port 1 ─▶ table, by key ────┘
//! ```
//!
//! * **Versions** (event time): a row waits until the watermark has passed its time, and finds the last version of its key that is not later.
//! * **Current** (processing time): a row finds what is there when it comes. Rows that come before the table has been read once wait for that.
//!
//! The table is kept for as long as the task lives; of versions those that a row could still find.

mod operator;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::{Blueprint, Operator, Residual};
use crate::batch::Origin;
use crate::plan::Late;

/// A join with a table at one moment, as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct TemporalBlueprint {
    /// Left and right: what arrives at ports 0 and 1.
    pub(crate) sides: [TemporalSide; 2],
    /// What has to be true of two rows with equal keys as well.
    pub(crate) residual: Option<Residual>,
    /// Whether rows of the left that find nothing come out, padded with NULL.
    pub(crate) outer: bool,
    pub(crate) moment: Moment,
    /// What happens to rows of the left that come too late.
    pub(crate) late: Late,
    /// For each column that comes out, the side and the column there.
    pub(crate) output: Vec<(usize, usize)>,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
}

/// One side.
#[derive(Clone, Debug)]
pub(crate) struct TemporalSide {
    /// Positions among the columns that arrive of those that are kept; other positions are among these.
    pub(crate) take: Vec<usize>,
    /// The columns that are kept.
    pub(crate) schema: SchemaRef,
    /// Positions of the key columns, as many and of the same types as on the other side.
    pub(crate) keys: Vec<usize>,
}

/// The moment at which a row finds the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Moment {
    /// Its event time.
    Versions {
        /// Position of the time of a row, and of that from which on a version is in force.
        times: [usize; 2],
        /// By how much rows may come after the watermark has passed their time, in microseconds.
        slack: i64,
    },
    /// When it comes.
    Current {
        /// If the table is revised: the columns that tell which row is taken back.
        revised_by: Option<Vec<usize>>,
        /// Whether there is one row at most for each of their values: a new one then replaces the old one, also if what revised it has forgotten that.
        unique: bool,
    },
}

impl Blueprint for TemporalBlueprint {
    fn kind(&self) -> &'static str {
        "temporal_join"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let residual = self.residual.as_ref().map(|residual| format!("{} {:?}", residual.predicate.identity, residual.columns));
        let sides = self.sides.each_ref().map(|side| (&side.take, &side.keys));
        let columns: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        format!(
            "temporal {} {:?} {sides:?} {residual:?} late {:?} take {:?} AS {}",
            self.outer,
            self.moment,
            self.late,
            self.output,
            columns.join(", ")
        )
    }

    fn explain(&self) -> String {
        let name = |side: usize, column: usize| self.sides[side].schema.field(column).name().clone();
        let keys = self.sides[0].keys.iter().zip(&self.sides[1].keys);
        let mut parts: Vec<String> = keys.map(|(left, right)| format!("left.{} = right.{}", name(0, *left), name(1, *right))).collect();
        parts.extend(self.residual.iter().map(|residual| residual.predicate.sql.clone()));
        let moment = match &self.moment {
            Moment::Versions { times, .. } => format!("the version of right by {} at left.{}", name(1, times[1]), name(0, times[0])),
            Moment::Current { .. } => "right as it is when left comes".to_owned(),
        };
        format!("{} on {}; {moment}", if self.outer { "left" } else { "inner" }, parts.join(" AND "))
    }

    fn state_signature(&self) -> Option<String> {
        let sides = self.sides.each_ref().map(|side| {
            let keys: Vec<&String> = side.keys.iter().map(|key| side.schema.field(*key).name()).collect();
            let columns: Vec<String> =
                side.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
            format!("{keys:?} of {}", columns.join(", "))
        });
        let moment = match &self.moment {
            Moment::Versions { times, .. } => format!("versions {times:?}"),
            Moment::Current { .. } => "current".to_owned(),
        };
        Some(format!("temporal_join {moment} ({}) ({})", sides[0], sides[1]))
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
        // Where a row finds nothing, the table's side is padded.
        (side == 0 || !self.outer).then(|| self.sides.iter().map(|side| side.take[side.keys[key]]).collect())
    }

    fn reads_clock(&self) -> bool {
        matches!(self.moment, Moment::Current { .. })
    }

    fn table_port(&self) -> Option<usize> {
        matches!(self.moment, Moment::Current { .. }).then_some(1)
    }

    fn operator(&self, id: &Arc<str>, ports: &[usize]) -> Box<dyn Operator> {
        let origin = Origin::new(&format!("operator/{id}"), id.as_ref());
        Box::new(operator::Temporal::new(Arc::new(self.clone()), origin, ports))
    }
}
