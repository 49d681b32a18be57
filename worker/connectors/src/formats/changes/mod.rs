//! Records that are changes of rows: a row that is there from now on, one that replaces another, one that is gone. They know no topic and keep no row.
//!
//! ```text
//!  key, value ─┬─ debezium   {"before", "after", "op"}: +I, -U and +U, -D as they are, or, where rows replace each other by key, +I and -D
//!              └─ upserts    the value is the row: +I; no value: -D of the key
//! ```
//!
//! What deletes a row by its key has NULL in all other columns: the engine knows the row.

mod debezium;
mod keys;
mod table;
#[cfg(test)]
mod tests;
mod upserts;

use arrow::array::UInt64Array;
use millrace_engine::row_kind::{RowKind, RowKinds};

use super::columns::Columns;
use super::json::Json;
use super::records::{Refusal, Row, decode_one, reject, too_large};
use super::{Decoded, Keyed, RecordDecoder};
pub use table::RecordTable;

/// What became of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    /// Nothing is different after it, and no row was added.
    None,
    /// One row.
    One(RowKind),
    /// Two rows: what is replaced, and by what.
    Replaced,
}

/// Knows what one record changes.
trait ChangeFormat: Send {
    /// Rows that one record can become.
    const ROWS: u64;

    /// Adds the rows of a record to `columns`; none if it is refused.
    fn decode(&mut self, record: Keyed<'_>, columns: &mut Columns) -> Result<Change, Refusal>;
}

/// Records that are changes.
struct Changes<F> {
    format: F,
    columns: Columns,
    limit: usize,
}

impl<F: ChangeFormat> RecordDecoder for Changes<F> {
    fn decode(&mut self, payloads: &[&[u8]]) -> Decoded {
        self.decode_keyed(&payloads.iter().map(|value| Keyed { key: None, value: Some(*value) }).collect::<Vec<_>>())
    }

    fn takes_keys(&self) -> bool {
        true
    }

    fn rows_of_record(&self) -> u64 {
        F::ROWS
    }

    fn decode_keyed(&mut self, records: &[Keyed<'_>]) -> Decoded {
        let (mut ordinals, mut kinds) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
        let mut rejected = Vec::new();
        let mut bytes = 0;
        for (record, ordinal) in records.iter().zip(0_u64..) {
            let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
            let length = (key.len() + value.len()) as u64;
            bytes += length;
            let outcome = if key.len().max(value.len()) > self.limit {
                Err(too_large(key.len().max(value.len()) as u64, self.limit))
            } else {
                self.format.decode(*record, &mut self.columns)
            };
            match outcome {
                Ok(Change::None) => {}
                Ok(Change::One(kind)) => {
                    ordinals.push(ordinal);
                    kinds.push(kind);
                }
                Ok(Change::Replaced) => {
                    ordinals.extend([ordinal; 2]);
                    kinds.extend([RowKind::UpdateBefore, RowKind::UpdateAfter]);
                }
                Err(refusal) => {
                    let payload = record.value.unwrap_or(key);
                    rejected.push(reject(refusal, ordinal, payload, payload.len() as u64));
                }
            }
        }
        Decoded { records: self.columns.take(), ordinals: UInt64Array::from(ordinals), rejected, bytes, kinds: Some(RowKinds::new(kinds)) }
    }
}

/// Adds one row; `what` it is, for people.
fn add_row(row: &mut Json, text: &[u8], what: &str, columns: &mut Columns) -> Result<(), Refusal> {
    match decode_one(row, text, columns) {
        Ok(Row::Added) => Ok(()),
        Ok(Row::None) => Err(Refusal::malformed(format!("{what} is empty"))),
        Err(refusal) => Err(Refusal { error: format!("{what}: {}", refusal.error), ..refusal }),
    }
}
