//! Text as it is: each line or message is one row of one column. It refuses nothing but text that is not UTF-8.

use super::columns::{Columns, Fit};
use super::fields::utf8;
use super::records::{Refusal, Row, RowFormat};

/// The only column.
pub(super) const COLUMN: &str = "line";

/// A row for each line. Empty lines are rows too.
#[derive(Debug)]
pub(super) struct Raw;

impl RowFormat for Raw {
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
        let count = columns.schema().fields().len();
        if count == 0 {
            utf8(record)?;
        }
        for index in 0..count {
            if columns.column(index).push_record(record) == Fit::No {
                utf8(record)?;
            }
        }
        Ok(Row::Added)
    }

    fn keeps_records(&self) -> bool {
        true
    }
}
