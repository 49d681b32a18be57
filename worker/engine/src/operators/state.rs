//! The state of operators as it is stored: columnar, each row with the key group it belongs to. Knows neither encoding nor files; those are the runtime's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt16Array};

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

/// One table of an operator's state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTable {
    /// The key group of each row, below [`KEY_GROUPS`]. Rows that belong to no key are in group 0.
    pub groups: UInt16Array,
    /// The rows.
    pub records: RecordBatch,
}

/// State of all operators of a lane, by operator id. Stateless operators are absent.
pub type Snapshot = BTreeMap<Arc<str>, OperatorState>;
