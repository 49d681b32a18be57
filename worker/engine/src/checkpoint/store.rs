//! Objects with retries: create if absent, read, list, delete, and what a store's error means.
//! It decides nothing about epochs, and never overwrites an object.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::decide::{CreateReply, Listing};
use super::layout::{EpochFile, parse};
use super::{Clock, Error, StoreFault};

/// How transient faults are retried. Also what bounds how long a call waits for a store that is down,
/// together with the store client's own retries, which should be few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, at least one.
    pub attempts: u32,
    /// Pause after the first failure; doubles with each further one.
    pub initial: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Default for Retry {
    /// Gives up after about a minute.
    fn default() -> Self {
        Self { attempts: 18, initial: Duration::from_millis(50), cap: Duration::from_secs(5) }
    }
}

impl Retry {
    /// The pause after failure number `failed` (from 0): exponential, capped, and between half of that and all of it,
    /// depending on the path, so that the tasks of a pipeline do not come back in step.
    fn pause(&self, failed: u32, path: &Path) -> Duration {
        let full = self.initial.saturating_mul(1_u32.checked_shl(failed).unwrap_or(u32::MAX)).min(self.cap);
        let mut hasher = DefaultHasher::new();
        (path.as_ref(), failed).hash(&mut hasher);
        let half = full / 2;
        half + half.mul_f64((hasher.finish() % 1024) as f64 / 1024.0)
    }
}

/// A store with retries.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    retry: Retry,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, retry: Retry) -> Self {
        Self { store, clock, retry }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The store's description of itself, for messages.
    pub(super) fn describe(&self) -> String {
        self.store.to_string()
    }

    /// Pauses as after failure number `failed`; `false` if there were enough.
    pub(super) async fn pause(&self, failed: u32, path: &Path) -> bool {
        if failed + 1 >= self.retry.attempts {
            return false;
        }
        self.clock.sleep(self.retry.pause(failed, path)).await;
        true
    }

    /// Creates the object if absent. After a lost reply the retry conflicts with our own object.
    pub(super) async fn create(&self, path: &Path, bytes: &Bytes) -> Result<CreateReply, Error> {
        self.retried("create", path, || async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(path, PutPayload::from(bytes.clone()), options).await {
                Ok(_) => Ok(CreateReply::Created),
                Err(error) if classify(&error) == StoreFault::Precondition => Ok(CreateReply::Conflict),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The object's bytes; `None` if there is no such object.
    pub(super) async fn read(&self, path: &Path) -> Result<Option<Bytes>, Error> {
        self.retried("read", path, || async move {
            match self.store.get(path).await {
                Ok(reply) => reply.bytes().await.map(Some),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Whether the object exists.
    pub(super) async fn exists(&self, path: &Path) -> Result<bool, Error> {
        self.retried("look up", path, || async move {
            match self.store.head(path).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The epochs in a folder, or those whose files sort after `offset`.
    ///
    /// The protocol relies on the store for one thing here: what exists during all of the listing is listed.
    pub(super) async fn epochs(&self, folder: &Path, offset: Option<&Path>) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for path in self.paths(folder, offset).await? {
            match parse(&path) {
                Some(EpochFile::Record(epoch)) => listing.records.insert(epoch),
                Some(EpochFile::Committed(epoch)) => listing.committed.insert(epoch),
                None => false,
            };
        }
        Ok(listing)
    }

    /// All objects below a folder.
    pub(super) async fn paths(&self, folder: &Path, offset: Option<&Path>) -> Result<Vec<Path>, Error> {
        self.retried("list", folder, || async move {
            let objects = match offset {
                Some(offset) => self.store.list_with_offset(Some(folder), offset),
                None => self.store.list(Some(folder)),
            };
            objects.map_ok(|object| object.location).try_collect().await
        })
        .await
    }

    /// The folders right below a folder.
    pub(super) async fn folders(&self, folder: &Path) -> Result<Vec<Path>, Error> {
        self.retried("list", folder, || async move { Ok(self.store.list_with_delimiter(Some(folder)).await?.common_prefixes) }).await
    }

    /// Deletes the object; one that is gone already is as good.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), Error> {
        self.retried("delete", path, || async move {
            match self.store.delete(path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                reply => reply,
            }
        })
        .await
    }

    async fn retried<T, F>(&self, doing: &'static str, path: &Path, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut failed = 0;
        loop {
            let source = match request().await {
                Ok(reply) => return Ok(reply),
                Err(source) => source,
            };
            let fault = classify(&source);
            if fault != StoreFault::Transient || !self.pause(failed, path).await {
                return Err(Error::Store { doing, path: path.clone(), fault, source: Box::new(source) });
            }
            failed += 1;
            tracing::debug!(%path, doing, failed, error = %source, "checkpoint store: trying again");
        }
    }
}

/// What a store's error means. What is not known to be permanent is transient: retrying is bounded, giving up is not free.
pub(super) fn classify(error: &object_store::Error) -> StoreFault {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => StoreFault::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => StoreFault::Precondition,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => StoreFault::Permission,
        E::NotSupported { .. } | E::NotImplemented { .. } => StoreFault::Unsupported,
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => StoreFault::Rejected,
        E::Generic { source, .. } => io_fault(source.as_ref()).unwrap_or_else(|| http_fault(&source.to_string())),
        _ => StoreFault::Transient,
    }
}

/// For directories: the operating system's error, wherever it is in the chain.
fn io_fault(error: &(dyn std::error::Error + 'static)) -> Option<StoreFault> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(StoreFault::Permission),
                io::ErrorKind::Unsupported => Some(StoreFault::Unsupported),
                io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => Some(StoreFault::Rejected),
                _ => None,
            };
        }
        link = error.source();
    }
    None
}

/// For HTTP stores: the status is only in the text, as object_store keeps its error type to itself.
fn http_fault(text: &str) -> StoreFault {
    if text.contains("without LOCATION") {
        return StoreFault::Rejected;
    }
    let status = text.split_once("non-2xx status code: ").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    match status {
        Some(400) if text.contains("ExpiredToken") || text.contains("TokenRefreshRequired") => StoreFault::Permission,
        Some(400) if text.contains("RequestTimeout") => StoreFault::Transient,
        Some(405 | 501) => StoreFault::Unsupported,
        Some(408 | 409 | 425 | 429) => StoreFault::Transient,
        Some(300..=499) => StoreFault::Rejected,
        _ => StoreFault::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn http_statuses_are_told_apart() {
        let status =
            |s: &str| classify(&generic(&format!("Error performing PUT http://x in 2ms - Server returned non-2xx status code: {s}")));
        assert_eq!(status("500 Internal Server Error: "), StoreFault::Transient);
        assert_eq!(status("503 Slow Down: "), StoreFault::Transient);
        assert_eq!(status("429 Too Many Requests: "), StoreFault::Transient);
        assert_eq!(status("400 Bad Request: <Code>RequestTimeout</Code>"), StoreFault::Transient);
        assert_eq!(status("400 Bad Request: <Code>ExpiredToken</Code>"), StoreFault::Permission);
        assert_eq!(status("400 Bad Request: <Code>InvalidArgument</Code>"), StoreFault::Rejected);
        assert_eq!(status("301 Moved Permanently: "), StoreFault::Rejected);
        assert_eq!(status("501 Not Implemented: "), StoreFault::Unsupported);
        assert_eq!(classify(&generic("error sending request")), StoreFault::Transient);
    }

    #[test]
    fn errors_of_the_operating_system_are_found_in_the_chain() {
        let of = |kind: io::ErrorKind| {
            classify(&object_store::Error::Generic { store: "LocalFileSystem", source: io::Error::from(kind).into() })
        };
        assert_eq!(of(io::ErrorKind::PermissionDenied), StoreFault::Permission);
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem), StoreFault::Permission);
        assert_eq!(of(io::ErrorKind::Unsupported), StoreFault::Unsupported);
        assert_eq!(of(io::ErrorKind::StorageFull), StoreFault::Transient);
    }

    #[test]
    fn pauses_grow_to_the_cap_and_stay_there() {
        let retry = Retry::default();
        let path = Path::from("a");
        for failed in 0..100 {
            let full = retry.initial.saturating_mul(1 << failed.min(20)).min(retry.cap);
            let pause = retry.pause(failed, &path);
            assert!(pause <= full && pause >= full / 2, "{failed}: {pause:?}");
        }
        assert_ne!(retry.pause(5, &path), retry.pause(5, &Path::from("b")));
    }
}
