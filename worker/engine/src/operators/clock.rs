//! Processing time: a column with the time that the executor was last told, and operators that go by it instead of by watermarks. Looks at no clock itself.
//!
//! ```text
//!  Message::Clock(now) ─▶ Executor ─▶ each operator's `clock`, in the order of the plan
//!  rows ─▶ Clock: + column `now` ─▶ … ─▶ ByClock { a window aggregate, a join … that takes `now` for its watermark }
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::aggregate::moment;
use super::alignment::Alignment;
use super::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, RejectedRow, TakenState};
use crate::batch::Batch;

/// Adds the time as a column, as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct ClockBlueprint {
    /// The columns that arrive, and the time.
    pub(crate) schema: SchemaRef,
}

impl Blueprint for ClockBlueprint {
    fn kind(&self) -> &'static str {
        "clock"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        format!("clock after {} columns", self.schema.fields().len() - 1)
    }

    fn explain(&self) -> String {
        "PROCTIME()".to_owned()
    }

    fn reads_clock(&self) -> bool {
        true
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        (column + 1 < self.schema.fields().len()).then(|| vec![column])
    }

    fn operator(&self, _id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(Clock { schema: Arc::clone(&self.schema), now: 0 })
    }
}

/// The operator. It is told the time before every batch, so it keeps no state.
struct Clock {
    schema: SchemaRef,
    now: i64,
}

impl Operator for Clock {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let Message::Batch(batch) = message else {
            output.emit(message);
            return Ok(());
        };
        let rows = batch.num_rows();
        let data_type = self.schema.field(self.schema.fields().len() - 1).data_type();
        let mut columns: Vec<ArrayRef> = batch.records.columns().to_vec();
        columns.push(moment(self.now, data_type, rows)?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        output.emit(Message::Batch(Batch { records, ..batch }));
        Ok(())
    }

    fn clock(&mut self, now: i64, _output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.now = now;
        Ok(())
    }
}

/// An operator that goes by processing time, as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct ByClockBlueprint {
    /// The same by watermarks.
    pub(crate) inner: Arc<dyn Blueprint>,
}

impl Blueprint for ByClockBlueprint {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn schema(&self) -> &SchemaRef {
        self.inner.schema()
    }

    fn identity(&self) -> String {
        format!("by processing time: {}", self.inner.identity())
    }

    fn explain(&self) -> String {
        format!("by processing time: {}", self.inner.explain())
    }

    fn state_signature(&self) -> Option<String> {
        self.inner.state_signature().map(|signature| format!("by processing time: {signature}"))
    }

    fn reads_clock(&self) -> bool {
        true
    }

    fn keys(&self) -> Option<Vec<Vec<usize>>> {
        self.inner.keys()
    }

    fn stored_keys(&self, table: &str) -> Option<Vec<usize>> {
        self.inner.stored_keys(table)
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        self.inner.lineage(column)
    }

    fn operator(&self, id: &Arc<str>, ports: &[usize]) -> Box<dyn Operator> {
        Box::new(ByClock {
            blueprint: self.clone(),
            inner: self.inner.operator(id, ports),
            ports: ports.to_vec(),
            alignment: Alignment::new(ports),
        })
    }
}

struct ByClock {
    blueprint: ByClockBlueprint,
    /// It is given batches, and the time as its watermarks.
    inner: Box<dyn Operator>,
    ports: Vec<usize>,
    /// Everything else is passed on here.
    alignment: Alignment,
}

impl ByClock {
    fn tell(&mut self, time: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.ports.iter().try_for_each(|port| self.inner.push(*port, Message::Watermark(time), &mut Batches(output)))
    }
}

impl Operator for ByClock {
    fn push(&mut self, port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match self.alignment.admit(port, message) {
            Some(Message::Batch(batch)) => self.inner.push(port, Message::Batch(batch), &mut Batches(output)),
            // The last one: nothing more will come, at whatever time.
            Some(Message::Watermark(i64::MAX)) => {
                self.tell(i64::MAX, output)?;
                output.emit(Message::Watermark(i64::MAX));
                Ok(())
            }
            Some(other) => {
                output.emit(other);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn clock(&mut self, now: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.tell(now, output)
    }

    fn due(&self) -> Option<i64> {
        self.inner.due()
    }

    fn waits_for_pause(&self) -> bool {
        self.inner.waits_for_pause()
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let signature = self.blueprint.state_signature().unwrap_or_default();
        Ok(self.inner.snapshot()?.map(|state| state.signed(signature)))
    }

    fn state_bytes(&self) -> usize {
        self.inner.state_bytes()
    }

    fn restore(&mut self, state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        let signature = self.blueprint.inner.state_signature().unwrap_or_default();
        self.inner.restore(OperatorState { signature, ..state })
    }
}

/// Lets rows through, and nothing that is said of time.
struct Batches<'a>(&'a mut dyn Output);

impl Output for Batches<'_> {
    fn emit(&mut self, message: Message) {
        if matches!(message, Message::Batch(_)) {
            self.0.emit(message);
        }
    }

    fn filtered(&mut self, rows: u64) {
        self.0.filtered(rows);
    }

    fn reject(&mut self, row: RejectedRow) {
        self.0.reject(row);
    }
}
