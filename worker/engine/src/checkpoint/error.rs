//! What can go wrong in the epoch protocol, and whose move it is then.
//! It never decides: [`Error::kind`] is the closed set that metrics and events use, the text is for people.

use object_store::path::Path;

use super::{Epoch, Generation, TaskId};

/// Why an epoch could not be opened, claimed, written or committed.
///
/// After any error from an [`Owner`](super::Owner) the task stops, drops it and opens the log again;
/// after [`Error::Fenced`] it does not: somebody else runs the task now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store refused or did not answer, after all retries that make sense for the fault.
    #[error("cannot {doing} {path} in the checkpoint store ({fault}); {}", fault.hint())]
    Store {
        /// The operation, as a verb.
        doing: &'static str,
        /// The object or folder.
        path: Path,
        /// What kind of refusal it was.
        fault: StoreFault,
        /// The store's own error.
        source: Box<object_store::Error>,
    },
    /// Another owner holds the task. Exit code 66; do not restart in place.
    #[error("task {task} was taken over{} while this worker was at epoch {epoch}; this worker must stop", taken_by(*by))]
    Fenced {
        /// The task.
        task: TaskId,
        /// The epoch this owner tried to write, or last wrote.
        epoch: Epoch,
        /// Who holds it now, if that could be read.
        by: Option<Generation>,
    },
    /// Somebody else wrote an epoch between `open` and `claim`. Open again.
    #[error("task {task}: another worker wrote epoch {epoch} first; open the task again")]
    Overtaken {
        /// The task.
        task: TaskId,
        /// The epoch that this claim tried to create.
        epoch: Epoch,
    },
    /// The previous epoch's commit is not marked yet, so no further epoch may follow.
    #[error("task {task}: epoch {epoch} is not committed; commit it and mark it before the next one")]
    NotCommitted {
        /// The task.
        task: TaskId,
        /// The epoch that still has to be committed.
        epoch: Epoch,
    },
    /// An earlier write of this owner ended without an answer; only the store knows whether it happened.
    #[error("task {task}: the outcome of writing the epoch after {epoch} is unknown; open the task again")]
    InDoubt {
        /// The task.
        task: TaskId,
        /// The last epoch that is known.
        epoch: Epoch,
    },
    /// The newest record and the one to fall back to are both damaged or gone. Nothing was changed.
    #[error(
        "task {task}: the newest checkpoints cannot be read (epochs {}); restore these objects from a backup or a \
         version of the bucket, or delete the task's folder to start from the beginning",
        list(epochs)
    )]
    Unrecoverable {
        /// The task.
        task: TaskId,
        /// The epochs that were tried, newest first.
        epochs: Vec<Epoch>,
    },
    /// Written by a newer Millrace, for newer readers only. Never skipped, never overwritten.
    #[error("{path} needs a reader of format {needed}, this one reads up to {supported}; upgrade the worker")]
    NewerFormat {
        /// The record.
        path: Path,
        /// The lowest reader version it accepts.
        needed: u32,
        /// The version of this reader.
        supported: u32,
    },
    /// The store kept listing a record that it would not return.
    #[error("task {task}: the store lists epoch {epoch} but does not return it; check the store's consistency")]
    Inconsistent {
        /// The task.
        task: TaskId,
        /// The record in question.
        epoch: Epoch,
    },
    /// Two writers could create the same object: this store cannot be used.
    #[error(
        "the checkpoint store {store} does not support conditional create ({detail}); use S3, a store with \
         If-None-Match, or a directory on a file system with hard links"
    )]
    NoConditionalCreate {
        /// The store, as it describes itself.
        store: String,
        /// What was observed.
        detail: String,
    },
    /// A state file is not what was written. Nothing was changed; going on without it would give wrong results.
    #[error(
        "task {task}: the state of operator {operator} cannot be restored, its file {path} is damaged: {detail}; restore this object from a backup or \
         a version of the bucket, or delete the task's folder to start from the beginning"
    )]
    StateDamaged {
        /// The task.
        task: TaskId,
        /// Whose state it is.
        operator: String,
        /// The file.
        path: Path,
        /// What is wrong with it.
        detail: String,
    },
    /// A record cannot be written as it could not be read again.
    #[error("task {task}: epoch {epoch} cannot be encoded as a record: {detail}")]
    Encode {
        /// The task.
        task: TaskId,
        /// The epoch.
        epoch: Epoch,
        /// What is wrong with its content.
        detail: String,
    },
    /// Fewer than two retained epochs leave nothing to fall back to.
    #[error("cannot retain {0} epochs: at least 2 are needed to fall back from a damaged one")]
    Retained(u32),
    /// A name is not safe as one path segment.
    #[error("{what} {name:?} cannot name a checkpoint folder: {reason}")]
    Name {
        /// What was named.
        what: &'static str,
        /// The name.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
}

/// What kind of refusal a store gave: decides whether to retry, and whose problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreFault {
    /// Time-out, 5xx, throttling, a broken connection, a full disk: may pass by itself, may have been applied.
    Transient,
    /// 401, 403, read-only: credentials or policy.
    Permission,
    /// There is no such object.
    NotFound,
    /// The object exists already, or a condition did not hold.
    Precondition,
    /// The store or file system cannot do this at all.
    Unsupported,
    /// The request is wrong for this store (bucket, region, name); the same request fails again.
    Rejected,
}

impl std::fmt::Display for StoreFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Transient => "no answer or a temporary failure",
            Self::Permission => "permission denied",
            Self::NotFound => "not found",
            Self::Precondition => "a condition did not hold",
            Self::Unsupported => "not supported",
            Self::Rejected => "request rejected",
        })
    }
}

impl StoreFault {
    fn hint(self) -> &'static str {
        match self {
            Self::Transient => "processing waits until the store is back",
            Self::Permission => {
                "check the credentials and the bucket policy: get, put, list and delete are needed below the state location"
            }
            Self::NotFound => "check that the bucket or directory exists",
            Self::Precondition => "another process may be writing here",
            Self::Unsupported => "use a store with conditional create",
            Self::Rejected => "check the state location: bucket, region, endpoint",
        }
    }
}

impl Error {
    /// The reason, from a closed set: for metric labels and Event reasons.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Store { fault: StoreFault::Permission, .. } => "CheckpointStoreDenied",
            Self::Store { .. } => "CheckpointStoreUnavailable",
            Self::Fenced { .. } => "Fenced",
            Self::Overtaken { .. } => "Overtaken",
            Self::NotCommitted { .. } => "NotCommitted",
            Self::InDoubt { .. } => "InDoubt",
            Self::Unrecoverable { .. } => "CheckpointUnrecoverable",
            Self::NewerFormat { .. } => "CheckpointTooNew",
            Self::Inconsistent { .. } => "CheckpointStoreInconsistent",
            Self::NoConditionalCreate { .. } => "NoConditionalCreate",
            Self::StateDamaged { .. } => "StateDamaged",
            Self::Encode { .. } => "CheckpointNotEncodable",
            Self::Retained(_) | Self::Name { .. } => "InvalidCheckpointConfig",
        }
    }

    /// Whether opening the task again, after a pause, can succeed without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Store { fault: StoreFault::Transient, .. } | Self::Overtaken { .. } | Self::InDoubt { .. } | Self::Inconsistent { .. }
        )
    }
}

fn taken_by(generation: Option<Generation>) -> String {
    generation.map(|g| format!(" by generation {g}")).unwrap_or_default()
}

fn list(epochs: &[Epoch]) -> String {
    epochs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
