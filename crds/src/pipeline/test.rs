//! `spec.tests`: rows that are given, and what the outputs must then hold. Nothing is run here.

use std::borrow::Cow;

use k8s_openapi::jiff::Timestamp;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A test of the Pipeline: rows go in, rows must come out. It connects to nothing and has a clock of its own.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Test {
    /// Name of the test.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// What happens, one after the other. At the end every input ends, so that all windows close.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub given: Vec<Given>,
    /// What outputs must hold in the end. Outputs that are not named may hold anything.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["output".into()]))]
    pub expect: Vec<Expect>,
}

/// Rows of one input, and then the time to which the clock is put.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.input) == has(self.rows)").message("input and rows belong together: set both or neither"),
    validation = Rule::new("has(self.input) || has(self.advanceTo)").message("set input and rows, or advanceTo, or all of them"),
)]
pub struct Given {
    /// The input that the rows belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub input: Option<String>,
    /// The rows, as JSON of the Source's columns, whatever its format. None of them is late for another one of this list: only after the last one does the
    /// watermark move, to the latest event time less what the Source allows for delay. Rows of a Source whose rows are revised (`changelog`, `debezium`) say what they are in `_op`:
    /// `+I` (default), `-D`, and where the Source holds rows as they were before, `-U` followed by `+U`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rows: Vec<Row>,
    /// After the rows: puts the watermark of every input to this time, as RFC 3339 (`2026-01-01T00:10:00Z`). What is earlier is late from now on.
    /// Processing time is put forward too: it begins at 1970, and goes on by this alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 40),
        regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$")
    )]
    pub advance_to: Option<String>,
}

/// What one output must hold in the end.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expect {
    /// The output.
    #[schemars(length(min = 1, max = 63))]
    pub output: String,
    /// Its rows, as JSON sinks write them: a column that is NULL is left out, timestamps are texts in UTC (`2026-01-01T00:10:00Z`), numbers are compared by
    /// their value, and a number of many digits may be a text. Default: no rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rows: Vec<Row>,
    /// What the rows are. `Table` (default): the rows that are there in the end. `Changelog`: every change, each row with `_op` (`+I`, `-U`, `+U`, `-D`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub form: ExpectForm,
    /// `InOrder` (default) or `Any`. The Table of an output whose rows are replaced has no order: it is always `Any`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: ExpectOrder,
    /// How many rows are rejected on their way to this output, as they would be dead-lettered. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub rejected: Option<u32>,
}

/// What expected rows are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ExpectForm {
    /// The rows that are there in the end.
    #[default]
    Table,
    /// Every change.
    Changelog,
}

/// Whether the order of expected rows counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ExpectOrder {
    /// It counts.
    #[default]
    InOrder,
    /// It does not.
    Any,
}

/// A row of a test: values by column.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Row(pub Map<String, Value>);

impl JsonSchema for Row {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Row".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "maxProperties": 1024, "x-kubernetes-preserve-unknown-fields": true})
    }
}

impl Given {
    /// [`Given::advance_to`] in microseconds since 1970.
    ///
    /// # Errors
    /// If it is no time: the API server knows only its form.
    pub fn advance_to_micros(&self) -> Result<Option<i64>, String> {
        let Some(text) = &self.advance_to else { return Ok(None) };
        let time = text.parse::<Timestamp>().map_err(|error| format!("advanceTo {text:?} is no time: {error}"))?;
        Ok(Some(time.as_microsecond()))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_exact() {
        let given = |text: &str| Given { input: None, rows: Vec::new(), advance_to: Some(text.to_owned()) };
        assert_eq!(given("1970-01-01T00:00:01.000002Z").advance_to_micros(), Ok(Some(1_000_002)));
        assert_eq!(given("1970-01-01T01:00:00+01:00").advance_to_micros(), Ok(Some(0)));
        assert!(given("2026-02-30T00:00:00Z").advance_to_micros().unwrap_err().contains("2026-02-30"));
    }
}
