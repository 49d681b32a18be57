//! The key of a record that deletes: the columns that it names, and NULL in all others. Looks at no value.

use arrow::datatypes::SchemaRef;
use millrace_crds::changelog::RecordKey;
use millrace_engine::batch::RejectCode;

use super::super::columns::{Columns, Fit};
use super::super::fields::utf8;
use super::super::json::{Json, Member, Numbers};
use super::super::records::Refusal;
use super::add_row;

/// Members of what is wrapped.
const WRAPPING: [&str; 2] = ["schema", "payload"];

/// Makes rows of keys.
pub(super) struct Keys {
    kind: RecordKey,
    row: Json,
    /// With `schema` and `payload` around it.
    wrapped: Json,
    /// Position of the only column of a key that is text.
    column: Option<usize>,
}

impl Keys {
    /// `key` are names of columns that are among the projected ones.
    pub(super) fn new(projected: &SchemaRef, key: &[String], kind: RecordKey, numbers: Numbers) -> Self {
        let column = key.first().and_then(|name| projected.index_of(name).ok());
        Self { kind, row: Json::only(projected, key).with_numbers(numbers), wrapped: Json::members(&WRAPPING), column }
    }

    /// Adds a row of the columns that an object holds.
    pub(super) fn add_object(&mut self, object: &[u8], what: &str, columns: &mut Columns) -> Result<(), Refusal> {
        add_row(&mut self.row, object, what, columns)
    }

    /// Adds a row of the key of a record without a value.
    pub(super) fn add(&mut self, key: Option<&[u8]>, columns: &mut Columns) -> Result<(), Refusal> {
        let Some(key) = key else {
            return Err(Refusal::new(
                RejectCode::MissingField,
                "the record has neither a value nor a key: it does not say which row is gone",
            ));
        };
        match self.kind {
            RecordKey::Json => {
                self.wrapped
                    .find_members(key)
                    .map_err(|refusal| Refusal { error: format!("the record's key: {}", refusal.error), ..refusal })?;
                let object = match (self.wrapped.member(key, 0), self.wrapped.member(key, 1)) {
                    (Member::Object(_), Member::Object(payload)) => payload,
                    _ => key,
                };
                add_row(&mut self.row, object, "the record's key", columns)
            }
            RecordKey::Text => self.add_text(utf8(key)?, columns),
        }
    }

    fn add_text(&mut self, text: &str, columns: &mut Columns) -> Result<(), Refusal> {
        for column in 0..columns.schema().fields().len() {
            if Some(column) != self.column {
                columns.column(column).push_null();
            } else if columns.column(column).push_text(text) == Fit::No {
                let refusal = columns.mismatch(column, text);
                columns.abandon_row();
                return Err(Refusal { error: format!("the record's key: {}", refusal.error), ..refusal });
            }
        }
        columns.end_row();
        Ok(())
    }
}
