//! Keys from columns: the `_id` of a document, the key of a Kafka record. It never hashes and knows no system's limits.

use std::fmt::Write as _;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;

/// Between the values of a key of several columns.
const SEPARATOR: char = '|';
/// Before a separator, or itself, inside a value of a key of several columns: so that no two rows with different values share a key.
const ESCAPE: char = '\\';
/// NULL where it must not look like the empty text. No value looks like it: the escape in a value is escaped there.
const NULL: &str = "\\N";

/// The columns that make a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KeyColumns {
    columns: Vec<usize>,
    is_exact: bool,
}

impl KeyColumns {
    /// Finds the columns `names` of option `option` in `schema`; `None` if there are no names.
    ///
    /// # Errors
    /// `Invalid` naming the first column that is not there.
    pub(crate) fn find(schema: &Schema, option: &str, names: &[String]) -> Result<Option<Self>, ConnectorError> {
        if names.is_empty() {
            return Ok(None);
        }
        let find = |name: &String| {
            schema.index_of(name).map_err(|_| {
                let columns: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let message = format!("{option} names column \"{name}\", which the output does not have; it has {}", columns.join(", "));
                ConnectorError::new(ErrorReason::Invalid, message)
            })
        };
        Ok(Some(Self { columns: names.iter().map(find).collect::<Result<_, _>>()?, is_exact: false }))
    }

    /// The same columns, in keys that tell NULL from the empty text: it is `\N`, and an escape in a value is escaped. Every row has a key then.
    pub(crate) fn exact(self) -> Self {
        Self { is_exact: true, ..self }
    }

    /// The key of each row; `None` where all of its columns are NULL. NULL next to other values is the empty text. For [`KeyColumns::exact`], see there.
    ///
    /// # Errors
    /// If a column's type has no text form.
    pub(crate) fn render(&self, records: &RecordBatch) -> Result<Keys, ArrowError> {
        let options = FormatOptions::new().with_null(if self.is_exact { NULL } else { "" });
        let columns: Vec<_> = self.columns.iter().map(|index| records.column(*index)).collect();
        let formatters = columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let formatters = formatters.collect::<Result<Vec<_>, _>>()?;
        let mut keys = Keys { text: String::new(), ends: Vec::with_capacity(records.num_rows()) };
        let mut value = String::new();
        for row in 0..records.num_rows() {
            if !self.is_exact && columns.iter().all(|column| column.is_null(row)) {
                keys.ends.push((keys.text.len(), false));
                continue;
            }
            for (nth, formatter) in formatters.iter().enumerate() {
                if nth > 0 {
                    keys.text.push(SEPARATOR);
                }
                value.clear();
                write!(value, "{}", formatter.value(row)).map_err(|_| cannot_render(records, self.columns[nth], row))?;
                if self.is_exact && columns[nth].is_null(row) {
                    keys.text.push_str(&value);
                    continue;
                }
                append(&mut keys.text, &value, formatters.len() > 1, self.is_exact);
            }
            keys.ends.push((keys.text.len(), true));
        }
        Ok(keys)
    }
}

/// The keys of the rows of a batch, one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    text: String,
    /// Where each ends, and whether the row has one.
    ends: Vec<(usize, bool)>,
}

impl Keys {
    /// The key of a row; `None` if it has none.
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        let (end, is_there) = *self.ends.get(row)?;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before].0);
        is_there.then(|| &self.text[start..end])
    }

    /// The key of each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.ends.len()).map(|row| self.get(row))
    }
}

/// Appends a value; in a key of `several` columns separators are escaped, and in such and in `exact` ones escapes.
fn append(key: &mut String, value: &str, several: bool, exact: bool) {
    let is_escaped = |character: char| match character {
        SEPARATOR => several,
        ESCAPE => several || exact,
        _ => false,
    };
    if !value.contains(is_escaped) {
        key.push_str(value);
        return;
    }
    for character in value.chars() {
        if is_escaped(character) {
            key.push(ESCAPE);
        }
        key.push(character);
    }
}

fn cannot_render(records: &RecordBatch, column: usize, row: usize) -> ArrowError {
    let name = records.schema().field(column).name().clone();
    ArrowError::CastError(format!("the value of column \"{name}\" in row {row} has no text form"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn rows() -> RecordBatch {
        let tenant: ArrayRef = Arc::new(StringArray::from(vec![Some("a|b"), Some("a"), Some("x\\"), None, None]));
        let user: ArrayRef = Arc::new(StringArray::from(vec![Some("c"), Some("b|c"), Some("y"), Some("z"), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(-2), None, Some(4), None]));
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456); 5]).with_timezone("UTC"));
        RecordBatch::try_from_iter([("tenant", tenant), ("user", user), ("number", number), ("at", at)]).unwrap()
    }

    fn keys(names: &[&str]) -> Vec<Option<String>> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let keys = KeyColumns::find(&rows().schema(), "idFrom", &names).unwrap().unwrap().render(&rows()).unwrap();
        keys.iter().map(|key| key.map(str::to_owned)).collect()
    }

    #[test]
    fn one_column_is_its_value() {
        let expected = ["a|b", "a", "x\\"].map(|key| Some(key.to_owned()));
        assert_eq!(keys(&["tenant"])[..3], expected);
        assert_eq!(keys(&["number"])[..2], ["1", "-2"].map(|key| Some(key.to_owned())));
        assert_eq!(keys(&["at"])[0].as_deref(), Some("2023-11-14T22:13:20.123456Z"));
    }

    #[test]
    fn several_columns_never_collide() {
        let keys = keys(&["tenant", "user"]);
        assert_eq!(keys[0].as_deref(), Some("a\\|b|c"));
        assert_eq!(keys[1].as_deref(), Some("a|b\\|c"));
        assert_eq!(keys[2].as_deref(), Some("x\\\\|y"));
    }

    #[test]
    fn null_is_empty_and_all_null_is_no_key() {
        assert_eq!(keys(&["tenant", "user"])[3..], [Some("|z".to_owned()), None]);
        assert_eq!(keys(&["number"])[4], None);
    }

    #[test]
    fn an_exact_key_tells_null_from_text() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some(""), Some("\\N"), Some("a|b")]));
        let more: ArrayRef = Arc::new(StringArray::from(vec![None, None, Some(""), Some("\\")]));
        let rows = RecordBatch::try_from_iter([("text", text), ("more", more)]).unwrap();
        let exact = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            let keys = KeyColumns::find(&rows.schema(), "keyFrom", &names).unwrap().unwrap().exact().render(&rows).unwrap();
            keys.iter().map(|key| key.unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(exact(&["text"]), ["\\N", "", "\\\\N", "a|b"]);
        assert_eq!(exact(&["text", "more"]), ["\\N|\\N", "|\\N", "\\\\N|", "a\\|b|\\\\"]);
    }

    #[test]
    fn an_unknown_column_is_named() {
        let error = KeyColumns::find(&rows().schema(), "keyFrom", &["nmae".to_owned()]).unwrap_err();
        assert_eq!(error.reason, ErrorReason::Invalid);
        assert!(error.message.contains("keyFrom") && error.message.contains("\"nmae\""), "{}", error.message);
    }
}
