//! Filter: keeps the rows for which a predicate is true, and of them only the columns that are read later. Never evaluates a predicate on a row that an earlier filter dropped.

use std::sync::Arc;

use arrow::array::{ArrayBuilder, ArrayRef, AsArray, BooleanArray, BooleanBuilder, RecordBatch, RecordBatchOptions};
use arrow::compute::FilterBuilder;
use arrow::datatypes::{SchemaRef, UInt64Type};

use super::evaluate::{Expression, Piece, evaluate};
use super::{Blueprint, ExecuteError, Message, Operator, Output, RejectedRow};
use crate::batch::Batch;

/// A filter as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct FilterBlueprint {
    /// Yields booleans; NULL drops the row.
    pub(crate) predicate: Expression,
    /// Positions of the columns that are kept, ascending.
    pub(crate) keep: Vec<usize>,
    /// The kept columns.
    pub(crate) schema: SchemaRef,
}

impl Blueprint for FilterBlueprint {
    fn kind(&self) -> &'static str {
        "filter"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        format!("filter {} keep {:?}", self.predicate.identity, self.keep)
    }

    fn explain(&self) -> String {
        self.predicate.sql.clone()
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        Some(vec![*self.keep.get(column)?])
    }

    fn operator(&self, _id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(Filter { blueprint: self.clone() })
    }
}

/// The operator. Stateless.
struct Filter {
    blueprint: FilterBlueprint,
}

impl Operator for Filter {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.filter(batch, output),
            other => {
                output.emit(other);
                Ok(())
            }
        }
    }
}

impl Filter {
    fn filter(&self, batch: Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let rows = batch.num_rows();
        let (mask, rejected) = self.mask(&batch, output)?;
        let passed = mask.true_count();
        output.filtered((rows - rejected - passed) as u64);
        if passed == 0 {
            return Ok(());
        }
        let records = &batch.records;
        let keep = self.blueprint.keep.iter().map(|column| records.column(*column));
        let kept = if passed == rows {
            if self.blueprint.keep.len() == records.num_columns() {
                output.emit(Message::Batch(batch));
                return Ok(());
            }
            Batch { records: self.records(keep.cloned().collect(), passed)?, ..batch }
        } else {
            let mut gather = FilterBuilder::new(&mask);
            if self.blueprint.keep.len() > 1 {
                gather = gather.optimize();
            }
            let gather = gather.build();
            let columns = keep.map(|column| gather.filter(column)).collect::<Result<_, _>>()?;
            let ordinals = gather.filter(&batch.ordinals)?.as_primitive::<UInt64Type>().clone();
            let kinds = batch.kinds.map(|kinds| kinds.filter(&mask));
            Batch { records: self.records(columns, passed)?, ordinals, kinds, origin: batch.origin, branch: batch.branch }
        };
        output.emit(Message::Batch(kept));
        Ok(())
    }

    /// Which rows pass, and how many could not be evaluated.
    fn mask(&self, batch: &Batch, output: &mut dyn Output) -> Result<(BooleanArray, usize), ExecuteError> {
        let mut pieces = evaluate(&batch.records, |records| self.blueprint.predicate.evaluate(records))?;
        if let [Piece::Values(_)] = pieces.as_slice()
            && let Some(Piece::Values(mask)) = pieces.pop()
        {
            return Ok((mask.as_boolean().clone(), 0));
        }
        let mut mask = BooleanBuilder::with_capacity(batch.num_rows());
        let mut rejected = 0;
        for piece in pieces {
            match piece {
                Piece::Values(values) => values.as_boolean().iter().for_each(|value| mask.append_value(value == Some(true))),
                Piece::Bad(error) => {
                    let ordinal = batch.ordinals.value(mask.len());
                    output.reject(RejectedRow { origin: batch.origin.clone(), ordinal, error });
                    mask.append_value(false);
                    rejected += 1;
                }
            }
        }
        Ok((mask.finish(), rejected))
    }

    fn records(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ExecuteError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?)
    }
}
