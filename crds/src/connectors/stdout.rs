//! Options of the `stdout` connector: rows to the terminal, or to the worker's log stream.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes rows to standard output: at least once, for looking at. Rows of results that are revised start with what they say:
/// `+I` new, `-U` about to be replaced, `+U` as it is now, `-D` gone.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StdoutSink {
    /// `JsonLines` (default) or an aligned `Table`.
    #[serde(default)]
    pub layout: StdoutLayout,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum StdoutLayout {
    /// One JSON object a row.
    #[default]
    JsonLines,
    /// An aligned table a batch.
    Table,
}
