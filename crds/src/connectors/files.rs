//! Options of the `files` connector: a directory on a disk or volume.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::{Compression, SinkFormat};

/// Reads the files of a directory, and the ones that appear later. A file is read in order of its bytes; a file that grows is read on from where it was.
///
/// Files are ordered by modification time, then name. The directory is one split: one task reads it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesSource {
    /// Directory. Relative paths are relative to the manifest with `millrace run`; on a cluster the path is inside the worker and belongs to one of `workload.volumes`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("path is immutable, checkpoints hold positions in its files: create another Source and point inputs[].sourceRef to it"))]
    pub path: String,
    /// Only files whose name, below `path`, matches this glob (`*`, `**`, `?`). Default: `**`. Names that start with a dot or end in `.tmp` are never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub include: Option<String>,
    /// `Continuous` (default) watches for new files and new bytes; `Once` reads what is there and then ends the input.
    #[serde(default)]
    pub mode: FilesMode,
    /// How the files are compressed. Default `Auto`: by their first bytes.
    #[serde(default)]
    pub compression: Compression,
}

/// Whether a directory is watched.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum FilesMode {
    /// New files and new bytes are read as they appear.
    #[default]
    Continuous,
    /// What is there is read, then the input ends; the Pipeline completes when all its inputs have.
    Once,
}

/// Writes files under a directory. A file appears under its name, whole, when its epoch commits, and never changes.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesSink {
    /// Directory. Relative paths are relative to the manifest with `millrace run`.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Template of the folders below `path`, as `prefix` of the `s3` sink. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^([^{}]|[{][^{}]+[}])*$')").message("braces must pair up: {column}, {column:yyyy-MM-dd} or {yyyy-MM-dd}"),
        validation = Rule::new("!self.startsWith('/') && !self.matches('(^|/)[.]{1,2}(/|$)')").message("must not start with / nor hold . or .. as a folder"),
    )]
    pub prefix: Option<String>,
    /// What is in the files.
    #[x_kube(validation = Rule::new("!has(self.raw)").message("raw is for topics: write json or parquet"))]
    pub format: SinkFormat,
    /// When a file is closed before the epoch ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<super::s3::Roll>,
}
