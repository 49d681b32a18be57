//! The last row of each key: makes of rows that replace each other by key what was there before and what is there now, as Flink's `ChangelogNormalize` does. Knows no time: the
//! table is kept whole.
//!
//! | what comes | there was no row of its key | there was one | it was the same |
//! |---|---|---|---|
//! | an addition | `+I` | `-U` of what was there, `+U` | nothing |
//! | a deletion, of which only the key is looked at | nothing | `-D` of what was there | |
//!
//! For every batch there is at most one change for each key, in the order in which the batch touches them: what came and went within the batch is never seen.

mod operator;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::{Blueprint, Operator};
use crate::batch::Origin;

/// The last row of each key, as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct NormalizeBlueprint {
    /// Positions of the columns of the key.
    pub(crate) key: Vec<usize>,
    /// The columns, those that come in and those that come out.
    pub(crate) schema: SchemaRef,
}

impl NormalizeBlueprint {
    fn names(&self) -> String {
        self.key.iter().map(|column| self.schema.field(*column).name().as_str()).collect::<Vec<_>>().join(", ")
    }

    fn columns(&self) -> String {
        let columns: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        columns.join(", ")
    }
}

impl Blueprint for NormalizeBlueprint {
    fn kind(&self) -> &'static str {
        "normalize"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        format!("normalize by {:?} of {}", self.key, self.columns())
    }

    fn explain(&self) -> String {
        format!("the last row of each {}, revised by the next; kept until it is deleted", self.names())
    }

    fn state_signature(&self) -> Option<String> {
        Some(format!("normalize by ({}) of {}", self.names(), self.columns()))
    }

    fn keys(&self) -> Option<Vec<Vec<usize>>> {
        Some(vec![self.key.clone()])
    }

    fn stored_keys(&self, table: &str) -> Option<Vec<usize>> {
        (table == operator::ROWS).then(|| self.key.clone())
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        self.key.contains(&column).then(|| vec![column])
    }

    fn operator(&self, id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        let origin = Origin::new(&format!("operator/{id}"), id.as_ref());
        Box::new(operator::Normalize::new(Arc::new(self.clone()), origin))
    }
}
