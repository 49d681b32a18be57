//! Window: gives rows the windows that they are in, as columns. A row of overlapping windows becomes several. Keeps nothing, and drops no row for being late.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{SchemaRef, UInt64Type};

use super::aggregate::{MILLISECOND, microseconds, timestamps};
use super::windows::Windows;
use super::{Blueprint, ExecuteError, Message, Operator, Output, RejectedRow};
use crate::batch::{Batch, Origin};
use crate::state::{hash_rows, row_ids};

/// A column of what comes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WindowColumn {
    /// A column of what arrives.
    Input(usize),
    /// Where the window starts.
    Start,
    /// The first moment after it.
    End,
    /// Its last millisecond.
    Time,
}

/// A window function as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct WindowBlueprint {
    /// Any but SESSION.
    pub(crate) windows: Windows,
    /// The column that tells time.
    pub(crate) time: usize,
    /// Its name, for messages.
    pub(crate) time_name: String,
    /// One for each column of the schema.
    pub(crate) columns: Vec<WindowColumn>,
    pub(crate) schema: SchemaRef,
}

impl Blueprint for WindowBlueprint {
    fn kind(&self) -> &'static str {
        "window"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let fields: Vec<String> = self.schema.fields().iter().map(|f| format!("{:?} {}", f.name(), f.data_type())).collect();
        format!("window {:?} of {} as {:?} {fields:?}", self.windows, self.time, self.columns)
    }

    fn explain(&self) -> String {
        format!("{} of {}", self.windows, self.time_name)
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        match self.columns.get(column)? {
            WindowColumn::Input(input) => Some(vec![*input]),
            WindowColumn::Start | WindowColumn::End | WindowColumn::Time => None,
        }
    }

    fn operator(&self, id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(Window { origin: Origin::new(&format!("operator/{id}"), id.as_ref()), blueprint: self.clone() })
    }
}

/// The operator. Stateless.
struct Window {
    blueprint: WindowBlueprint,
    origin: Origin,
}

impl Operator for Window {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.assign(&batch, output),
            Message::Watermark(time) => {
                // A row is as old as the last millisecond of its window.
                let passed = if time == i64::MAX { time } else { time.saturating_sub(time.rem_euclid(MILLISECOND)) };
                output.emit(Message::Watermark(passed));
                Ok(())
            }
            other => {
                output.emit(other);
                Ok(())
            }
        }
    }
}

impl Window {
    fn assign(&self, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let WindowBlueprint { windows, .. } = self.blueprint;
        let times = microseconds(batch.records.column(self.blueprint.time))?;
        if let Windows::Tumble { .. } = windows
            && times.null_count() == 0
        {
            let ends: Int64Array = times.unary(|time| windows.slice_end(time));
            let records = self.records(batch.records.columns(), &ends)?;
            output.emit(Message::Batch(Batch { records, ..batch.clone() }));
            return Ok(());
        }
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        for (row, time) in (0_u32..).zip(&times) {
            let Some(time) = time else {
                let error = format!("`{}` is NULL, so there is no telling which window the row is in", self.blueprint.time_name);
                output.reject(RejectedRow { origin: batch.origin.clone(), ordinal: batch.ordinals.value(row as usize), error });
                continue;
            };
            for end in windows.windows_of(windows.slice_end(time)) {
                rows.push(row);
                ends.push(end);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let (rows, ends) = (UInt32Array::from(rows), Int64Array::from(ends));
        let used = |column: usize| self.blueprint.columns.contains(&WindowColumn::Input(column));
        let columns = batch.records.columns().iter().enumerate().map(|(position, column)| {
            // Columns that nobody reads keep their place, as they are.
            if used(position) { take(column, &rows, None) } else { Ok(Arc::clone(column)) }
        });
        let records = self.records(&columns.collect::<Result<Vec<_>, _>>()?, &ends)?;
        let kinds = batch.kinds.as_ref().map(|kinds| kinds.take(&rows)).transpose()?;
        let (origin, ordinals, branch) = if let Windows::Tumble { .. } = windows {
            (batch.origin.clone(), take(&batch.ordinals, &rows, None)?.as_primitive::<UInt64Type>().clone(), batch.branch)
        } else {
            // Several rows of one: each is named after it and its window.
            let ids = UInt64Array::from(row_ids(batch));
            let named: [ArrayRef; 2] = [take(&ids, &rows, None)?, Arc::new(ends)];
            (self.origin.clone(), hash_rows(&named, rows.len())?.into(), 0)
        };
        output.emit(Message::Batch(Batch { records, origin, ordinals, branch, kinds }));
        Ok(())
    }

    fn records(&self, columns: &[ArrayRef], ends: &Int64Array) -> Result<RecordBatch, ExecuteError> {
        let windows = self.blueprint.windows;
        let columns = self.blueprint.columns.iter().zip(self.blueprint.schema.fields()).map(|(column, field)| match column {
            WindowColumn::Input(column) => Ok(Arc::clone(&columns[*column])),
            WindowColumn::Start => timestamps(ends.unary(|end| windows.start(end)), field.data_type()),
            WindowColumn::End => timestamps(ends.clone(), field.data_type()),
            WindowColumn::Time => timestamps(ends.unary(|end| end.saturating_sub(MILLISECOND)), field.data_type()),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(ends.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns.collect::<Result<_, _>>()?, &options)?)
    }
}
