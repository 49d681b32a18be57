//! `changelog` of a Source: its records are changes of rows that were there before. Types and their documentation only.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the records of a topic say about rows that earlier records have said something about.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.recordKey) || self.recordKey != 'Text' || self.primaryKey.size() == 1").message("recordKey Text is the text of one column: name one column in primaryKey, or use record keys in Json"),
    validation = Rule::new("!has(self.mode) || self.mode != 'Retract' || !has(self.recordKey)").message("recordKey says how deletions in mode Upsert are read; records in mode Retract hold the whole row: remove recordKey"),
)]
pub struct Changelog {
    /// How a record changes the table. Default `Upsert`. Without `changelog`, `debezium` is `Retract` without a key.
    #[serde(default)]
    pub mode: ChangelogMode,
    /// Columns of `schema` that tell rows apart: there is one row at most for each of their values, and none of them is NULL. Records of one key have to be in one
    /// partition, which they are if the producers' record keys are made of these columns; name them in `partitionedBy` too, and splits are shared out among workers.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(k, self.exists_one(other, other == k))").message("name each column once"))]
    pub primary_key: Vec<String>,
    /// In mode `Upsert`: how the key of a record without a value (a tombstone) is read. Default `Json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_key: Option<RecordKey>,
}

/// How records change a table.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ChangelogMode {
    /// A record is the row that its key has from now on; one without a value deletes the row of the record's key. The last row of each key is kept in state, without a
    /// time to live, so that what was there before can be taken back. What repeats itself, or deletes what is not there, changes nothing: so it is the mode
    /// for `debezium` whose events may come twice (a connector was restarted), or have no `before`.
    #[default]
    Upsert,
    /// Only for `debezium`: each event holds the row as it was before and as it is after, and is believed. No state is kept; an event that comes twice counts twice.
    Retract,
}

/// What the keys of records are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RecordKey {
    /// An object with the columns of `primaryKey`, with or without `schema` and `payload` around it.
    #[default]
    Json,
    /// The text of the one column of `primaryKey`: what Kafka sinks of Millrace write for a key of one column.
    Text,
}
