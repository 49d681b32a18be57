//! Rows that replace each other by key: the value is the row, and a record without a value deletes the row of its key. Does not look whether key and value agree.

use millrace_engine::row_kind::RowKind;

use super::super::Keyed;
use super::super::columns::Columns;
use super::super::json::Json;
use super::super::records::Refusal;
use super::keys::Keys;
use super::{Change, ChangeFormat, add_row};

/// Decodes records.
pub(super) struct Upserts {
    pub(super) row: Json,
    pub(super) keys: Keys,
}

impl ChangeFormat for Upserts {
    const ROWS: u64 = 1;

    fn decode(&mut self, record: Keyed<'_>, columns: &mut Columns) -> Result<Change, Refusal> {
        let Some(value) = record.value else {
            self.keys.add(record.key, columns)?;
            return Ok(Change::One(RowKind::Delete));
        };
        add_row(&mut self.row, value, "the record", columns)?;
        Ok(Change::One(RowKind::Insert))
    }
}
