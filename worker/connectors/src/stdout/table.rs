//! A batch as an aligned table. It knows nothing of terminals: wide characters count as one.

use std::fmt::Write as _;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millrace_engine::row_kind::{RowKind, RowKinds};

/// Control characters in values, which would break the table or the terminal, are printed as this.
const REPLACEMENT: char = '\u{fffd}';

/// The table: names, a line, a line for each row. NULL is empty. With `kinds`, these are the first column, which has no name.
pub(super) fn format(records: &RecordBatch, kinds: Option<&RowKinds>) -> Result<String, ArrowError> {
    let options = FormatOptions::new().with_null("");
    let mut columns = Vec::with_capacity(records.num_columns() + 1);
    if let Some(kinds) = kinds {
        let cells = std::iter::once("").chain(kinds.iter().map(RowKind::as_str)).map(str::to_owned).collect::<Vec<_>>();
        columns.push((cells, 2, false));
    }
    for (field, array) in records.schema().fields().iter().zip(records.columns()) {
        let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
        let mut cells = vec![clean(field.name())];
        for row in 0..records.num_rows() {
            cells.push(clean(&formatter.value(row).try_to_string()?));
        }
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default();
        columns.push((cells, width, array.data_type().is_numeric()));
    }
    let mut text = String::new();
    for line in 0..=records.num_rows() {
        for (nth, (cells, width, numeric)) in columns.iter().enumerate() {
            let cell = &cells[line];
            text.push_str(if nth == 0 { "" } else { "  " });
            // Writing to a String cannot fail.
            let _ = if *numeric { write!(text, "{cell:>width$}") } else { write!(text, "{cell:<width$}") };
        }
        end_line(&mut text);
        if line == 0 {
            let rules: Vec<_> = columns.iter().map(|(_, width, _)| "-".repeat(*width)).collect();
            text.push_str(&rules.join("  "));
            end_line(&mut text);
        }
    }
    Ok(text)
}

fn end_line(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

fn clean(value: &str) -> String {
    value.chars().map(|character| if character.is_control() { REPLACEMENT } else { character }).collect()
}
