//! Project: computes columns from columns, row by row. Never changes the number of rows, except for rows that cannot be evaluated.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion_physical_expr::expressions::Column;

use super::evaluate::{Expression, Failure, Piece, concat, evaluate};
use super::{Blueprint, ExecuteError, Message, Operator, Output, RejectedRow};
use crate::batch::Batch;

/// A projection as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct ProjectBlueprint {
    /// One for each column of the schema.
    pub(crate) expressions: Vec<Expression>,
    /// The columns that come out.
    pub(crate) schema: SchemaRef,
}

impl Blueprint for ProjectBlueprint {
    fn kind(&self) -> &'static str {
        "project"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let columns = self.expressions.iter().zip(self.schema.fields());
        let columns: Vec<String> =
            columns.map(|(e, field)| format!("{} AS {:?} {}", e.identity, field.name(), field.data_type())).collect();
        format!("project {}", columns.join(", "))
    }

    fn explain(&self) -> String {
        let columns = self.expressions.iter().zip(self.schema.fields());
        let columns: Vec<String> = columns
            .map(|(e, field)| if e.sql == *field.name() { e.sql.clone() } else { format!("{} AS {}", e.sql, field.name()) })
            .collect();
        columns.join(", ")
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        let column: &Column = self.expressions.get(column)?.physical.downcast_ref()?;
        Some(vec![column.index()])
    }

    fn operator(&self, _id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(Project { blueprint: self.clone() })
    }
}

/// The operator. Stateless.
struct Project {
    blueprint: ProjectBlueprint,
}

impl Operator for Project {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.project(batch, output),
            other => {
                output.emit(other);
                Ok(())
            }
        }
    }
}

impl Project {
    fn project(&self, batch: Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let mut pieces = evaluate(&batch.records, |records| self.columns(records))?;
        if let [Piece::Values(_)] = pieces.as_slice()
            && let Some(Piece::Values((columns, rows))) = pieces.pop()
        {
            let records = self.records(columns, rows)?;
            output.emit(Message::Batch(Batch { records, ..batch }));
            return Ok(());
        }
        self.without_bad_rows(&batch, pieces, output)
    }

    /// Puts the good pieces together and takes the bad rows out.
    fn without_bad_rows(
        &self,
        batch: &Batch,
        pieces: Vec<Piece<(Vec<ArrayRef>, usize)>>,
        output: &mut dyn Output,
    ) -> Result<(), ExecuteError> {
        let mut columns = vec![Vec::new(); self.blueprint.expressions.len()];
        let mut good = Vec::with_capacity(batch.num_rows());
        for piece in pieces {
            match piece {
                Piece::Values((values, rows)) => {
                    good.resize(good.len() + rows, true);
                    columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                }
                Piece::Bad(error) => {
                    let ordinal = batch.ordinals.value(good.len());
                    output.reject(RejectedRow { origin: batch.origin.clone(), ordinal, error });
                    good.push(false);
                }
            }
        }
        let mask = BooleanArray::from(good);
        let rows = mask.true_count();
        if rows == 0 {
            return Ok(());
        }
        let columns = columns.iter().map(|pieces| concat(pieces)).collect::<Result<_, _>>()?;
        let ordinals = arrow::compute::filter(&batch.ordinals, &mask)?.as_primitive::<UInt64Type>().clone();
        let kinds = batch.kinds.as_ref().map(|kinds| kinds.filter(&mask));
        let records = self.records(columns, rows)?;
        output.emit(Message::Batch(Batch { records, ordinals, kinds, origin: batch.origin.clone(), branch: batch.branch }));
        Ok(())
    }

    fn columns(&self, records: &RecordBatch) -> Result<(Vec<ArrayRef>, usize), Failure<'_>> {
        let columns = self.blueprint.expressions.iter().map(|e| e.evaluate(records)).collect::<Result<_, _>>()?;
        Ok((columns, records.num_rows()))
    }

    fn records(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ExecuteError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?)
    }
}
