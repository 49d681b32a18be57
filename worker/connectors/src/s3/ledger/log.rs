//! The entries and snapshots of a ledger as objects of a store. It moves bytes; what they mean is `state`'s.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::source::Shared;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::{Entry, Snapshot, State, VERSION};
use crate::aws::store_error;
use crate::retry;

/// Entries that are read at the same time when catching up.
const READS_AT_ONCE: usize = 16;
/// Snapshots that are kept.
const SNAPSHOTS: usize = 2;

/// The log of one input.
#[derive(Clone, Debug)]
pub(super) struct Log {
    store: Arc<dyn ObjectStore>,
    entries: Path,
    snapshots: Path,
    /// A snapshot is made at every multiple of this.
    every: u64,
    health: Health,
}

/// What became of creating an entry.
#[derive(Debug)]
pub(super) enum Created {
    /// It is in the log.
    Written,
    /// Another one has its number.
    Taken(Entry),
    /// The log has moved past its number, and may have been cleaned there: whether it is in the log only the newest snapshot tells.
    Passed,
}

impl Log {
    pub(super) fn new(shared: &Shared, every: u64, health: Health) -> Self {
        let folder = shared.folder.clone().join("ledger");
        Self {
            store: Arc::clone(&shared.store),
            entries: folder.clone().join("entries"),
            snapshots: folder.join("snapshots"),
            every,
            health,
        }
    }

    /// Whether a snapshot is made at entry `number`.
    pub(super) fn is_boundary(&self, number: u64) -> bool {
        number.is_multiple_of(self.every)
    }

    /// Creates entry `number` if there is none: the only arbiter between workers. The one before it MUST have been read.
    pub(super) async fn create(&self, number: u64, entry: &Entry) -> Result<Created, ConnectorError> {
        let is_new = self.create_if_absent(&path(&self.entries, number), entry).await?;
        if !is_new {
            match self.read(number).await? {
                // The answer to our own request was lost.
                Some(found) if found.nonce == entry.nonce => {}
                Some(found) => return Ok(Created::Taken(found)),
                None => return Ok(Created::Passed),
            }
        }
        Ok(if self.has_passed(number).await? { Created::Passed } else { Created::Written })
    }

    /// Entry `number`; `None` if it is not there: not yet, or not any more (see [`Log::has_passed`]).
    pub(super) async fn read(&self, number: u64) -> Result<Option<Entry>, ConnectorError> {
        let entry: Option<Entry> = self.get(&path(&self.entries, number)).await?;
        match entry {
            Some(entry) if entry.version > VERSION => Err(newer("an entry", entry.version)),
            entry => Ok(entry),
        }
    }

    /// The entries after `number`, up to the first that is not there.
    pub(super) async fn read_after(&self, number: u64) -> Result<Vec<Entry>, ConnectorError> {
        let mut found = Vec::new();
        let mut reads = futures::stream::iter(number + 1..).map(|number| self.read(number)).buffered(READS_AT_ONCE);
        while let Some(Some(entry)) = reads.try_next().await? {
            found.push(entry);
        }
        Ok(found)
    }

    /// Whether the log has gone past the next boundary from `number` on. Entries are deleted only then, and the entry at a boundary never is:
    /// that is how one that wakes up late finds out that what looks like the end of the log is a gap.
    pub(super) async fn has_passed(&self, number: u64) -> Result<bool, ConnectorError> {
        let boundary = path(&self.entries, number.next_multiple_of(self.every));
        if self.is_boundary(number) {
            return Ok(false);
        }
        retry::until_done(&self.health, async || match self.store.head(&boundary).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(store_error(&format!("look at {boundary} in the checkpoint store"), error)),
        })
        .await
    }

    /// The state at the newest snapshot; the empty one if there is none.
    pub(super) async fn newest_snapshot(&self) -> Result<State, ConnectorError> {
        loop {
            let Some(newest) = self.list(&self.snapshots).await?.pop() else {
                return Ok(State::default());
            };
            let location = path(&self.snapshots, newest);
            // It is deleted when two newer ones have been made since it was listed.
            let Some(snapshot) = self.get::<Snapshot>(&location).await? else { continue };
            if snapshot.version > VERSION {
                return Err(newer("a snapshot", snapshot.version));
            }
            return snapshot.restore().ok_or_else(|| damaged(&location));
        }
    }

    /// Stores the state at a boundary, which everybody who gets there does alike, and deletes what is no longer needed.
    pub(super) async fn compact(&self, state: &State) -> Result<(), ConnectorError> {
        self.create_if_absent(&path(&self.snapshots, state.applied()), &Snapshot::from(state)).await?;
        let mut snapshots = self.list(&self.snapshots).await?;
        let Some(kept) = snapshots.len().checked_sub(SNAPSHOTS) else { return Ok(()) };
        let oldest_kept = snapshots.split_off(kept).first().copied().unwrap_or(0);
        let entries = self.list(&self.entries).await?;
        let unneeded = entries.into_iter().filter(|number| *number <= oldest_kept && !self.is_boundary(*number));
        let doomed: Vec<_> = unneeded
            .map(|number| path(&self.entries, number))
            .chain(snapshots.into_iter().map(|number| path(&self.snapshots, number)))
            .map(Ok)
            .collect();
        let mut deleted = self.store.delete_stream(futures::stream::iter(doomed).boxed());
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                // The next compaction tries again.
                Err(error) => tracing::warn!(%error, "old entries of the ledger could not be deleted"),
            }
        }
        Ok(())
    }

    async fn list(&self, folder: &Path) -> Result<Vec<u64>, ConnectorError> {
        retry::until_done(&self.health, async || {
            let found: Vec<_> = self
                .store
                .list(Some(folder))
                .try_collect()
                .await
                .map_err(|error| store_error(&format!("list {folder} in the checkpoint store"), error))?;
            let number = |path: &Path| path.filename()?.strip_suffix(".json")?.parse().ok();
            let mut numbers: Vec<u64> = found.iter().filter_map(|meta| number(&meta.location)).collect();
            numbers.sort_unstable();
            Ok(numbers)
        })
        .await
    }

    async fn get<T: DeserializeOwned>(&self, location: &Path) -> Result<Option<T>, ConnectorError> {
        let bytes = retry::until_done(&self.health, async || {
            let got = async { self.store.get(location).await?.bytes().await }.await;
            match got {
                Ok(bytes) => Ok(Some(bytes)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(store_error(&format!("read {location} in the checkpoint store"), error)),
            }
        })
        .await?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| damaged(location).caused_by(error))).transpose()
    }

    /// Returns whether it was created by this request, as far as the answers tell.
    async fn create_if_absent(&self, location: &Path, content: &(impl Serialize + Sync)) -> Result<bool, ConnectorError> {
        let body = serde_json::to_vec(content)
            .map_err(|error| ConnectorError::new(ErrorReason::Internal, format!("cannot encode {location}: {error}")))?;
        retry::until_done(&self.health, async || match self.store.put_opts(location, body.clone().into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(store_error(&format!("create {location} in the checkpoint store"), error)),
        })
        .await
    }
}

fn path(folder: &Path, number: u64) -> Path {
    folder.clone().join(format!("{number:020}.json"))
}

fn damaged(location: &Path) -> ConnectorError {
    ConnectorError::new(ErrorReason::Corrupt, format!("{location} in the checkpoint store is damaged; restore it from a backup"))
}

fn newer(what: &str, version: u32) -> ConnectorError {
    let message = format!("{what} of the ledger has version {version}, this worker reads up to {VERSION}; use the newer worker image");
    ConnectorError::new(ErrorReason::Invalid, message)
}
