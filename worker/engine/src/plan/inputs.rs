//! The tables that steps begin with: columns, event time, and whether rows are revised. Nothing is read here.

use arrow::array::new_empty_array;
use arrow::datatypes::SchemaRef;
use millrace_crds::report::Problem;

use super::problem::{Reason, problem, quoted};
use super::traits::Mode;
use crate::state::hash_rows;

/// One input: a table that steps can read.
#[derive(Clone, Debug, PartialEq)]
pub struct InputTable {
    /// Its name in SQL.
    pub name: String,
    /// All its columns.
    pub schema: SchemaRef,
    /// The column that holds the time at which what a row tells of happened. It is a timestamp.
    pub event_time: Option<String>,
    /// Whether rows are revised, and how the input says so.
    pub changelog: InputChangelog,
}

/// What the rows of an input say of rows before them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum InputChangelog {
    /// Nothing: all are insertions.
    #[default]
    Append,
    /// Batches have row kinds, and every row that is replaced or deleted is there as it was before.
    Retract {
        /// Columns that tell rows apart at any time; empty if none are known.
        key: Vec<String>,
    },
    /// Batches have row kinds. An addition is the row that its key has from now on; what is deleted need hold no column but those of the key, and need not be there.
    /// An operator above the input keeps the last row of each key, and makes of them what [`InputChangelog::Retract`] is.
    Upsert {
        /// Columns of the key.
        key: Vec<String>,
    },
}

impl InputChangelog {
    /// Columns of the key, if rows are revised.
    #[must_use]
    pub fn key(&self) -> Option<&[String]> {
        match self {
            Self::Append => None,
            Self::Retract { key } | Self::Upsert { key } => Some(key),
        }
    }
}

impl InputTable {
    /// Whether rows are revised, by the positions of columns.
    pub(super) fn mode(&self) -> Mode {
        match self.changelog.key() {
            None => Mode::Append,
            Some(key) => Mode::Updating { key: key.iter().filter_map(|column| self.schema.index_of(column).ok()).collect() },
        }
    }

    /// Positions of the key of which the last row is kept, if that is so.
    pub(super) fn normalized_by(&self) -> Option<Vec<usize>> {
        match (&self.changelog, self.mode()) {
            (InputChangelog::Upsert { .. }, Mode::Updating { key }) => Some(key),
            _ => None,
        }
    }

    /// What is wrong with its changelog.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let Some(key) = self.changelog.key() else { return Vec::new() };
        let refused =
            |message: String, hint: &str| problem(Reason::SchemaInvalid, format!("input {}", self.name), message, Some(hint.to_owned()));
        let mut problems = Vec::new();
        for (position, column) in key.iter().enumerate() {
            let Ok(field) = self.schema.field_with_name(column) else {
                problems.push(refused(format!("there is no column {} for the key", quoted(column)), "name columns of the input"));
                continue;
            };
            if key[..position].contains(column) {
                problems.push(refused(format!("the key names the column {} twice", quoted(column)), "name each column once"));
            }
            if hash_rows(&[new_empty_array(field.data_type())], 0).is_err() {
                problems.push(refused(
                    format!("the column {} cannot be a key: it is {}", quoted(column), field.data_type()),
                    "use another column",
                ));
            }
        }
        if key.is_empty() && matches!(self.changelog, InputChangelog::Upsert { .. }) {
            problems.push(refused("rows replace each other by key, and there is none".to_owned(), "name the columns of the key"));
        }
        if self.event_time.is_some() {
            problems.push(refused(
                "event time of rows that are revised is not supported: windows and interval joins take rows that are only appended"
                    .to_owned(),
                "remove the event time; the column stays a column",
            ));
        }
        problems
    }
}
