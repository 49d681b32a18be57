//! Columns: leaves columns out that nobody behind reads, in front of an exchange. Changes no row, and knows none by itself.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::{Blueprint, ExecuteError, Message, Operator, Output};
use crate::batch::Batch;

/// Where a column is among those that are kept.
pub(super) fn place(kept: &[usize], column: usize) -> usize {
    kept.iter().position(|kept| *kept == column).expect("what is read is kept")
}

/// What leaves columns out, as it stands in front of an exchange.
#[derive(Clone, Debug)]
pub(crate) struct ColumnsBlueprint {
    /// Positions of those that are kept.
    pub(crate) kept: Vec<usize>,
    /// The same with names and types.
    pub(crate) schema: SchemaRef,
}

impl Blueprint for ColumnsBlueprint {
    fn kind(&self) -> &'static str {
        "columns"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        format!("columns {:?}", self.kept)
    }

    fn explain(&self) -> String {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        Some(vec![*self.kept.get(column)?])
    }

    fn operator(&self, _id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(Columns(self.clone()))
    }
}

/// The operator. Stateless.
struct Columns(ColumnsBlueprint);

impl Operator for Columns {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let message = match message {
            Message::Batch(batch) => {
                let columns = self.0.kept.iter().map(|column| Arc::clone(batch.records.column(*column))).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let records = RecordBatch::try_new_with_options(Arc::clone(&self.0.schema), columns, &options)?;
                Message::Batch(Batch { records, ..batch })
            }
            other => other,
        };
        output.emit(message);
        Ok(())
    }
}
