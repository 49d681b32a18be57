//! A window function in the logical plan: its input with `window_start`, `window_end` and `window_time` added. Never changes other columns.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion_common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result};
use datafusion_expr::logical_plan::Extension;
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::operators::Windows;
use crate::plan::time::{Clock, TimeAttribute, WINDOW_COLUMNS, window_type};
use crate::plan::traits::{self, Traits};

/// Rows with the windows that they are in.
#[derive(Clone, Debug)]
pub(in crate::plan) struct WindowNode {
    pub(in crate::plan) input: LogicalPlan,
    /// The column of the input that tells time.
    pub(in crate::plan) time: Column,
    /// Columns that each have sessions of their own. Empty for the other windows.
    pub(in crate::plan) partition_by: Vec<Column>,
    pub(in crate::plan) windows: Windows,
    schema: DFSchemaRef,
}

/// The window function that an extension node stands for.
pub(in crate::plan) fn of_extension(extension: &Extension) -> Option<&WindowNode> {
    extension.node.as_any().downcast_ref()
}

impl WindowNode {
    pub(in crate::plan) fn new(input: LogicalPlan, time: Column, partition_by: Vec<Column>, windows: Windows) -> Result<Self> {
        let time_type = input.schema().qualified_field_from_column(&time)?.1.data_type().clone();
        let added = window_type(&time_type)
            .ok_or_else(|| DataFusionError::Plan(format!("the time of a window is to be a timestamp, not {time_type}")))?;
        let mut fields: Vec<_> = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        fields.extend(WINDOW_COLUMNS.map(|name| (None, Arc::new(Field::new(name, added.clone(), false)))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { input, time, partition_by, windows, schema })
    }

    /// Columns of the input; after them come those of the window.
    pub(in crate::plan) fn input_columns(&self) -> usize {
        self.input.schema().fields().len()
    }

    /// Position in the input of the column that tells time.
    pub(in crate::plan) fn time_column(&self) -> Result<usize> {
        self.input.schema().index_of_column(&self.time)
    }

    pub(in crate::plan) fn traits(&self) -> Result<Traits> {
        let mut traits = traits::of(&self.input)?;
        // What an earlier window was is no matter for this one, except that its last moment is a time.
        for attribute in &mut traits.times {
            *attribute = attribute.filter(|attribute| attribute.is_time()).map(|attribute| TimeAttribute::Time(attribute.clock()));
        }
        let clock = traits.times[self.time_column()?].map_or(Clock::EVENT, TimeAttribute::clock);
        let added = [TimeAttribute::WindowStart(clock), TimeAttribute::WindowEnd(clock), TimeAttribute::WindowTime(clock)];
        traits.times.extend(added.map(Some));
        Ok(traits)
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &'static str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.partition_by).cloned().map(Expr::Column).collect()
    }

    /// Which sessions there are depends on all rows; the other windows are known row by row.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        if matches!(self.windows, Windows::Session { .. }) {
            self.schema.fields().iter().map(|field| field.name().clone()).collect()
        } else {
            WINDOW_COLUMNS.map(str::to_owned).into()
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.windows)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut columns = exprs.into_iter().map(|expr| match expr {
            Expr::Column(column) => Ok(column),
            other => Err(DataFusionError::Internal(format!("a window over {other} instead of a column"))),
        });
        let time = columns.next().transpose()?.unwrap_or_else(|| self.time.clone());
        let input = inputs.into_iter().next().ok_or_else(|| DataFusionError::Internal("a window over nothing".to_owned()))?;
        Self::new(input, time, columns.collect::<Result<_>>()?, self.windows)
    }
}

// The schema follows from the rest.
impl PartialEq for WindowNode {
    fn eq(&self, other: &Self) -> bool {
        (&self.input, &self.time, &self.partition_by, self.windows) == (&other.input, &other.time, &other.partition_by, other.windows)
    }
}

impl Eq for WindowNode {}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, &self.time, &self.partition_by, self.windows).partial_cmp(&(
            &other.input,
            &other.time,
            &other.partition_by,
            other.windows,
        ))
    }
}

impl Hash for WindowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.time, &self.partition_by, self.windows).hash(state);
    }
}
