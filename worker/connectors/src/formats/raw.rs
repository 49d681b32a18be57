//! Text as it is: each line or message is one row of one column. It refuses nothing but text that is not UTF-8.

use super::columns::Columns;
use super::fields::utf8;
use super::records::{Refusal, Row, RowFormat};

/// The only column.
pub(super) const COLUMN: &str = "line";

/// A row for each line. Empty lines are rows too.
#[derive(Debug)]
pub(super) struct Raw;

impl RowFormat for Raw {
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
        let text = utf8(record)?;
        for index in 0..columns.schema().fields().len() {
            let _always = columns.column(index).push_text(text);
        }
        Ok(Row::Added)
    }
}
