//! JSON: one object a line, or a message. Values go straight from the text into the columns; numbers are never rounded.
//!
//! * Of a name that occurs twice the last value counts. Names that are no columns are skipped, but must be JSON.
//! * A number in a Varchar is kept as its text, and so is a nested value. A Decimal may be a text, since many writers keep its digits that way.
//! * Whether a required column is there is checked even when nobody reads it; whether its type is right only when somebody does.

mod scan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use millrace_engine::batch::RejectCode;

use super::columns::{Column, Columns, Fit};
use super::fields::utf8;
use super::records::{Refusal, Row, RowFormat};
use super::values::{parse_decimal, parse_decimal_cut, parse_int};
pub(super) use scan::plain_prefix;
use scan::{Flaw, Kind, MAX_DEPTH, Scanner, Token, unescape};

/// Names remembered by their place in the record, so that a record like the last one needs no look-up.
const REMEMBERED: usize = 256;
/// Longer names are not remembered.
const REMEMBERED_LENGTH: usize = 64;

/// Decodes records.
#[derive(Debug)]
pub(super) struct Json {
    /// Slots of the names: first the projected columns, then the other required ones.
    slots: HashMap<String, usize>,
    columns: Vec<Target>,
    /// The value of each slot in this record.
    values: Vec<Option<Token>>,
    /// Each with its quotes and the colon: a record like the last one is not scanned for names at all.
    remembered: Vec<(String, Option<usize>)>,
    scratch: String,
}

/// A column that is looked for.
#[derive(Debug)]
struct Target {
    name: String,
    required: bool,
    projected: bool,
}

impl Json {
    pub(super) fn new(table: &SchemaRef, projected: &SchemaRef) -> Self {
        let read = projected.fields().iter().map(|f| Target { name: f.name().clone(), required: !f.is_nullable(), projected: true });
        let unread = table.fields().iter().filter(|f| !f.is_nullable() && projected.column_with_name(f.name()).is_none());
        let unread = unread.map(|f| Target { name: f.name().clone(), required: true, projected: false });
        let columns: Vec<Target> = read.chain(unread).collect();
        let mut slots = HashMap::new();
        for (slot, column) in columns.iter().enumerate() {
            slots.entry(column.name.clone()).or_insert(slot);
        }
        Self { slots, values: vec![None; columns.len()], columns, remembered: Vec::new(), scratch: String::new() }
    }

    /// Finds the values of all slots. `false` if there is nothing but white space.
    fn scan(&mut self, text: &str) -> Result<bool, Flaw> {
        self.values.fill(None);
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.skip_space();
        if scanner.is_at_end() {
            return Ok(false);
        }
        scanner.expect(b'{', "an object, one a line")?;
        scanner.skip_space();
        if !scanner.take(b'}') {
            for place in 0.. {
                let slot = match self.remembered.get(place) {
                    Some((name, slot)) if scanner.take_all(name.as_bytes()) => {
                        scanner.skip_space();
                        *slot
                    }
                    _ => {
                        let key = scanner.key()?;
                        self.slot(place, key, text)
                    }
                };
                let value = scanner.value()?;
                if let Some(slot) = slot {
                    self.values[slot] = Some(value);
                }
                scanner.skip_space();
                if scanner.take(b'}') {
                    break;
                }
                scanner.expect(b',', "a comma or }")?;
                scanner.skip_space();
            }
        }
        scanner.skip_space();
        scanner.expect_end("nothing behind the object")?;
        Ok(true)
    }

    /// The slot of the name `key`, which is the `place`th of its record and was not recognised at once.
    fn slot(&mut self, place: usize, key: Token, text: &str) -> Option<usize> {
        let name = &text[key.start..key.end];
        if key.kind == (Kind::Text { escaped: true }) {
            self.scratch.clear();
            unescape(name, &mut self.scratch);
            return self.slots.get(&self.scratch).copied();
        }
        match self.remembered.get_mut(place) {
            Some((last, slot)) if last[1..].strip_suffix("\":") == Some(name) => return *slot,
            Some((last, slot)) if name.len() <= REMEMBERED_LENGTH => {
                *slot = self.slots.get(name).copied();
                last.clear();
                last.extend(["\"", name, "\":"]);
                return *slot;
            }
            _ => {}
        }
        let slot = self.slots.get(name).copied();
        if place == self.remembered.len() && place < REMEMBERED && name.len() <= REMEMBERED_LENGTH {
            self.remembered.push((format!("\"{name}\":"), slot));
        }
        slot
    }
}

impl RowFormat for Json {
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
        let text = utf8(record)?;
        match self.scan(text) {
            Ok(true) => {}
            Ok(false) => return Ok(Row::None),
            Err(Flaw::Syntax(expected, at)) => {
                return Err(Refusal::malformed(format!("not JSON at byte {at}: expected {expected}")));
            }
            Err(Flaw::Depth) => {
                return Err(Refusal::new(RejectCode::TooDeep, format!("the record is nested deeper than {MAX_DEPTH}")));
            }
        }
        for (target, value) in self.columns.iter().zip(&self.values) {
            let is_null = value.is_none_or(|token| token.kind == Kind::Null);
            if is_null && target.required {
                return Err(Refusal::new(RejectCode::MissingField, format!("column \"{}\" is required, and missing or null", target.name)));
            }
        }
        for (index, (target, value)) in self.columns.iter().zip(&self.values).enumerate() {
            if !target.projected {
                break;
            }
            match value {
                None | Some(Token { kind: Kind::Null, .. }) => columns.column(index).push_null(),
                Some(token) => {
                    let value = &text[token.start..token.end];
                    if push(columns.column(index), token.kind, value, &mut self.scratch) == Fit::No {
                        return Err(columns.mismatch(index, value));
                    }
                }
            }
        }
        Ok(Row::Added)
    }
}

/// Appends a value that is not null.
#[inline]
fn push(column: &mut Column, kind: Kind, value: &str, scratch: &mut String) -> Fit {
    match kind {
        Kind::Text { escaped } => {
            let value = if escaped {
                scratch.clear();
                unescape(value, scratch);
                scratch.as_str()
            } else {
                value
            };
            push_text(column, value)
        }
        Kind::Number => push_number(column, value),
        Kind::True | Kind::False => match column {
            Column::Boolean(builder) => {
                builder.append_value(kind == Kind::True);
                Fit::Yes
            }
            Column::Text(_) => column.push_text(value),
            _ => Fit::No,
        },
        Kind::Nested if matches!(column, Column::Text(_)) => column.push_text(value),
        Kind::Nested | Kind::Null => Fit::No,
    }
}

fn push_text(column: &mut Column, value: &str) -> Fit {
    match column {
        Column::Text(_) | Column::Decimal(..) | Column::Binary(_) | Column::Date(_) | Column::Timestamp(_) => column.push_text(value),
        _ => Fit::No,
    }
}

fn push_number(column: &mut Column, value: &str) -> Fit {
    match column {
        Column::Timestamp(builder) => match millis(value) {
            Some(micros) => builder.append_value(micros),
            None => return Fit::No,
        },
        Column::Long(builder) => match whole(value) {
            Some(value) => builder.append_value(value),
            None => return Fit::No,
        },
        Column::Int(builder) => match whole(value).and_then(|v| i32::try_from(v).ok()) {
            Some(value) => builder.append_value(value),
            None => return Fit::No,
        },
        Column::Double(_) | Column::Float(_) | Column::Decimal(..) | Column::Text(_) => return column.push_text(value),
        _ => return Fit::No,
    }
    Fit::Yes
}

/// A number without fraction, however it is written: `1`, `1.0`, `1e3`.
fn whole(value: &str) -> Option<i64> {
    parse_int(value.as_bytes()).or_else(|| i64::try_from(parse_decimal(value.as_bytes(), 19, 0)?).ok())
}

/// Milliseconds, as microseconds.
fn millis(value: &str) -> Option<i64> {
    match parse_int(value.as_bytes()) {
        Some(millis) => millis.checked_mul(1000),
        None => i64::try_from(parse_decimal_cut(value.as_bytes(), 19, 3)?).ok(),
    }
}
