//! The manifest of an epoch: which files it made visible. It is written after all of them are, and never changes.
//!
//! # The reader's contract
//! Below the *root* of a sink (its prefix up to the last `/` before the first placeholder) lies, for each epoch that wrote anything,
//! ```text
//! <root>_millrace/<pipeline uid>/<output>/<task>/<epoch, 20 digits>.json
//! ```
//! A reader that reads exactly the files that manifests name sees every row once, whatever crashed and was retried while it was written.
//! * A manifest is written once; a retried commit writes the same bytes again.
//! * Every file that it names is there, whole, and never changes. Its `bytes` and `rows` are the file's.
//! * A file that no manifest names (yet) belongs to an epoch that is just being committed: its rows will be, or are, in exactly this file.
//!   A reader that lists folders instead may therefore see part of an epoch early, never a row twice.
//! * Epochs of one task are in order; tasks are independent. Epochs without data have no manifest, so numbers have gaps.

use millrace_engine::checkpoint::PipelineUid;
use millrace_engine::sink::WriterIdentity;
use serde::{Deserialize, Serialize};

use super::writer::Committable;

/// Version of [`Manifest`]; readers ignore fields they do not know.
const VERSION: u32 = 1;

/// The files of one epoch of one output of one task.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// 1.
    pub(crate) version: u32,
    /// UID of the Pipeline, path-safe.
    pub(crate) pipeline_uid: String,
    /// Name of the output.
    pub(crate) output: String,
    /// Name of the task, path-safe.
    pub(crate) task: String,
    /// Generation of the task that wrote the epoch.
    pub(crate) generation: u64,
    /// Number of the epoch.
    pub(crate) epoch: u64,
    /// The files, by path.
    pub(crate) files: Vec<FileEntry>,
}

/// One file.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileEntry {
    /// Key in the bucket; path below the sink's directory.
    pub(crate) path: String,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Length.
    pub(crate) bytes: u64,
}

impl Manifest {
    /// The manifest of what an epoch prepared. Pure, so a retried commit makes the same.
    pub(crate) fn of(writer: &WriterIdentity, epoch: u64, committables: &[Committable]) -> Self {
        let mut files: Vec<_> =
            committables.iter().map(|file| FileEntry { path: file.path.clone(), rows: file.rows, bytes: file.bytes }).collect();
        files.sort();
        Self {
            version: VERSION,
            pipeline_uid: PipelineUid::encoded(&writer.pipeline_uid).as_str().to_owned(),
            output: writer.output.clone(),
            task: writer.task.clone(),
            generation: writer.generation,
            epoch,
            files,
        }
    }
}
