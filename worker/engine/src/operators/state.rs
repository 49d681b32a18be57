//! The state of operators as it is stored: columnar, each row with the key group it belongs to. Knows neither encoding nor files; those are the runtime's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

use super::ExecuteError;
use crate::state::RowStore;

/// Key groups of every Pipeline, fixed for its life: the most lanes that its state can be split among.
pub const KEY_GROUPS: u16 = 128;

/// State of one operator: everything it has to know to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorState {
    /// What the state is made of (columns, types, functions). State with another signature cannot be restored.
    pub signature: String,
    /// Rows by table; the operator names its tables. A table without rows may be left out.
    pub tables: BTreeMap<String, StateTable>,
}

impl OperatorState {
    /// Refuses state that is made of something else than what the plan has there: the signature of its operator.
    pub(super) fn check(&self, planned: Option<String>) -> Result<(), ExecuteError> {
        let planned = planned.unwrap_or_default();
        if self.signature == planned {
            return Ok(());
        }
        Err(ExecuteError::State { message: format!("it is `{}`, and the plan has `{planned}`", self.signature) })
    }
}

/// One table of an operator's state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTable {
    /// The key group of each row, below [`KEY_GROUPS`]. Rows that belong to no key are in group 0.
    pub groups: UInt16Array,
    /// The rows.
    pub records: RecordBatch,
}

/// Rows of a store as a table of state, made later: those at `positions`, with the columns `known` of each behind their own. `fields` are those columns.
pub(super) fn table_of(
    rows: &RowStore,
    positions: Vec<u32>,
    groups: UInt16Array,
    fields: &[(&str, DataType)],
    known: Vec<ArrayRef>,
) -> impl FnOnce() -> Result<StateTable, ArrowError> + Send + use<> {
    let own = rows.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let more = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false));
    let (rows, schema) = (rows.clone(), Arc::new(Schema::new(own.chain(more).collect::<Vec<_>>())));
    move || {
        let mut columns = rows.take(&positions, 0..rows.schema().fields().len())?;
        columns.extend(known);
        Ok(StateTable { groups, records: RecordBatch::try_new(schema, columns)? })
    }
}

/// State of all operators of a lane, by operator id. Stateless operators are absent.
pub type Snapshot = BTreeMap<Arc<str>, OperatorState>;

/// The tables of a state, to be made.
type Tables = Box<dyn FnOnce() -> Result<BTreeMap<String, StateTable>, ExecuteError> + Send>;

/// State of one operator as it was when it was asked for, to be put into columns later: the stream goes on meanwhile, and does not change it.
pub struct TakenState {
    pub(crate) signature: String,
    tables: Tables,
}

impl TakenState {
    /// State whose tables are made by `tables`, which takes long where the state is large. It MUST NOT see what the operator does from now on.
    pub(crate) fn new(
        signature: String,
        tables: impl FnOnce() -> Result<BTreeMap<String, StateTable>, ExecuteError> + Send + 'static,
    ) -> Self {
        Self { signature, tables: Box::new(tables) }
    }

    /// The same under another signature.
    pub(crate) fn signed(self, signature: String) -> Self {
        Self { signature, ..self }
    }

    /// Makes the tables.
    ///
    /// # Errors
    /// If what the operator holds cannot be put into columns.
    pub fn finish(self) -> Result<OperatorState, ExecuteError> {
        Ok(OperatorState { signature: self.signature, tables: (self.tables)()? })
    }
}

impl std::fmt::Debug for TakenState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TakenState").field("signature", &self.signature).finish_non_exhaustive()
    }
}

/// State of all operators as it was when it was asked for, by operator id.
#[derive(Debug, Default)]
pub struct TakenSnapshot(pub BTreeMap<Arc<str>, TakenState>);

impl TakenSnapshot {
    /// Makes all tables.
    ///
    /// # Errors
    /// As [`TakenState::finish`].
    pub fn finish(self) -> Result<Snapshot, ExecuteError> {
        self.0.into_iter().map(|(operator, state)| Ok((operator, state.finish()?))).collect()
    }
}
