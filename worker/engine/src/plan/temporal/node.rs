//! The nodes: a table that is wanted as of a time, and its join once the time is known. Decide nothing about what is allowed.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion_common::{Column, DFSchemaRef, DataFusionError, JoinType, Result};
use datafusion_expr::logical_plan::Extension;
use datafusion_expr::logical_plan::builder::build_join_schema;
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::plan::needs::{Columns, read_by};
use crate::plan::text::Place;
use crate::plan::time::{Clock, TimeAttribute};
use crate::plan::traits::{self, Mode, Traits};

/// A table as of a time that is a column of what it is joined with.
#[derive(Clone, Debug, Eq, Hash, PartialEq, PartialOrd)]
pub(super) struct AsOf {
    pub(super) input: LogicalPlan,
    /// The column, as far as it is qualified.
    pub(super) time: Vec<String>,
    pub(super) place: Option<Place>,
}

impl UserDefinedLogicalNodeCore for AsOf {
    fn name(&self) -> &'static str {
        "AsOf"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FOR SYSTEM_TIME AS OF {}", self.time.join("."))
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.into_iter().next().ok_or_else(|| DataFusionError::Internal("a version of nothing".to_owned()))?;
        Ok(Self { input, ..self.clone() })
    }
}

/// Rows with what a table has for them at one moment.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Temporal {
    pub(in crate::plan) left: LogicalPlan,
    pub(in crate::plan) right: LogicalPlan,
    /// The column of the left that says when.
    pub(in crate::plan) time: Column,
    /// From when on rows of the right are in force; `None` if only what is there now counts.
    pub(in crate::plan) since: Option<Column>,
    /// Equal expressions of both sides.
    pub(in crate::plan) on: Vec<(Expr, Expr)>,
    /// What has to be true of two rows with equal keys as well.
    pub(in crate::plan) filter: Option<Expr>,
    /// Whether rows of the left that find nothing come out.
    pub(in crate::plan) outer: bool,
    schema: DFSchemaRef,
}

/// All that a join is made of.
type Parts<'a> = ([&'a LogicalPlan; 2], &'a Column, Option<&'a Column>, &'a [(Expr, Expr)], Option<&'a Expr>, bool);

/// The join that an extension node stands for.
pub(in crate::plan) fn of_extension(extension: &Extension) -> Option<&Temporal> {
    extension.node.as_any().downcast_ref()
}

impl Temporal {
    pub(super) fn new(
        left: LogicalPlan,
        right: LogicalPlan,
        time: Column,
        since: Option<Column>,
        on: Vec<(Expr, Expr)>,
        filter: Option<Expr>,
        outer: bool,
    ) -> Result<Self> {
        let join_type = if outer { JoinType::Left } else { JoinType::Inner };
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &join_type)?);
        Ok(Self { left, right, time, since, on, filter, outer, schema })
    }

    /// All columns of the left, then those of the right.
    pub(in crate::plan) fn join_schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    pub(in crate::plan) fn left_columns(&self) -> usize {
        self.left.schema().fields().len()
    }

    /// Positions of the time of a row and of a version, if versions are looked up.
    pub(in crate::plan) fn times(&self) -> Result<Option<[usize; 2]>> {
        let Some(since) = &self.since else { return Ok(None) };
        Ok(Some([self.left.schema().index_of_column(&self.time)?, self.right.schema().index_of_column(since)?]))
    }

    /// By how much rows may come after the watermark has passed their time.
    pub(in crate::plan) fn slack(&self) -> Result<i64> {
        let time = traits::of(&self.left)?.times[self.left.schema().index_of_column(&self.time)?];
        // A window's last millisecond may lie before a watermark that does not end the window.
        Ok(if matches!(time, Some(TimeAttribute::WindowTime(_))) { 1_000 } else { 0 })
    }

    /// Whether the table on the right is revised: the columns that tell which row is taken back.
    pub(in crate::plan) fn revised_by(&self) -> Result<Option<Vec<usize>>> {
        Ok(match traits::of(&self.right)?.mode {
            Mode::Append => None,
            Mode::Updating { key } => Some(key),
        })
    }

    /// What is known about the rows that come out.
    pub(in crate::plan) fn traits(&self) -> Result<Traits> {
        let mut left = traits::of(&self.left)?;
        let time = self.left.schema().index_of_column(&self.time)?;
        if self.since.is_some() {
            // When rows leave follows the one time; the others say nothing of them any more.
            for (column, attribute) in left.times.iter_mut().enumerate() {
                *attribute = attribute.filter(|attribute| column == time || attribute.clock() == Clock::Processing);
            }
        }
        left.times.resize(self.schema.fields().len(), None);
        Ok(left)
    }

    /// What is read of each side, if only `needed` of its own columns are read.
    pub(in crate::plan) fn of_inputs(&self, needed: &Columns) -> Result<Vec<Columns>> {
        let mut read = needed.clone();
        if let Some(filter) = &self.filter {
            read.extend(read_by(filter, &self.schema)?);
        }
        let left_columns = self.left_columns();
        let (mut left, mut right): (Columns, Columns) = read.iter().partition(|column| **column < left_columns);
        right = right.iter().map(|column| column - left_columns).collect();
        for (one, other) in &self.on {
            left.extend(read_by(one, self.left.schema())?);
            right.extend(read_by(other, self.right.schema())?);
        }
        if let Some([one, other]) = self.times()? {
            left.insert(one);
            right.insert(other);
        }
        if let Some(key) = self.revised_by()? {
            right.extend(key);
        }
        Ok(vec![left, right])
    }

    fn parts(&self) -> Parts<'_> {
        ([&self.left, &self.right], &self.time, self.since.as_ref(), &self.on, self.filter.as_ref(), self.outer)
    }
}

impl UserDefinedLogicalNodeCore for Temporal {
    fn name(&self) -> &'static str {
        "TemporalJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let on = self.on.iter().flat_map(|(left, right)| [left.clone(), right.clone()]);
        let times = std::iter::once(&self.time).chain(&self.since).cloned().map(Expr::Column);
        on.chain(times).chain(self.filter.clone()).collect()
    }

    /// What is filtered before is not in the table: an older version would be found instead.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemporalJoin as of {}", self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let wrong = || DataFusionError::Internal("a temporal join with other parts than it had".to_owned());
        let mut exprs = exprs.into_iter();
        let mut on = Vec::with_capacity(self.on.len());
        for _ in &self.on {
            on.push((exprs.next().ok_or_else(wrong)?, exprs.next().ok_or_else(wrong)?));
        }
        let mut column = || match exprs.next() {
            Some(Expr::Column(column)) => Ok(column),
            _ => Err(wrong()),
        };
        let time = column()?;
        let since = self.since.is_some().then(&mut column).transpose()?;
        let filter = exprs.next();
        let [left, right] = <[LogicalPlan; 2]>::try_from(inputs).map_err(|_| wrong())?;
        Self::new(left, right, time, since, on, filter, self.outer)
    }
}

// The schema follows from the rest.
impl PartialEq for Temporal {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Temporal {}

impl PartialOrd for Temporal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.parts().partial_cmp(&other.parts())
    }
}

impl Hash for Temporal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}
