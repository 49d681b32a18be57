//! An object: what it is known by, where it lies, and its bytes. It claims nothing and remembers nothing.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Origin;
use millrace_engine::connector::{ConnectorError, Health};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::announcement::Announced;
use crate::aws::{object_is_archived, store_error};
use crate::formats::parquet_in::RangeReader;
use crate::retry;

/// What an object is known by in the ledger and in positions: a hash of its identity.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct ObjectId(pub(super) [u8; 16]);

impl ObjectId {
    pub(super) fn of(identity: &str) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(identity.as_bytes())[..16]);
        Self(id)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| text.len() == 32);
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| D::Error::custom("an object id has 32 hexadecimal digits"))
    }
}

/// One version of one object.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    /// Bucket.
    pub(super) bucket: String,
    /// Key.
    pub(super) key: String,
    /// What tells this version from others of the key.
    pub(super) revision: Revision,
    /// Length, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    /// When it was announced to have been created, milliseconds since 1970.
    #[serde(default)]
    pub(super) time: i64,
}

/// What tells a version of an object from others of its key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Revision {
    /// In a bucket with versions: it can be read even if it was overwritten.
    Version(String),
    /// Without: the next one replaces it.
    Etag(String),
}

impl Object {
    /// The announced object, if the announcement says which version it is.
    pub(super) fn announced(announced: &Announced) -> Option<Self> {
        let revision = match (&announced.version, &announced.etag) {
            (Some(version), _) => Revision::Version(version.clone()),
            (None, Some(etag)) => Revision::Etag(etag.clone()),
            (None, None) => return None,
        };
        Some(Self { bucket: announced.bucket.clone(), key: announced.key.clone(), revision, size: announced.size, time: announced.time })
    }

    fn revision(&self) -> &str {
        match &self.revision {
            Revision::Version(revision) | Revision::Etag(revision) => revision,
        }
    }

    /// The same for every announcement of this version.
    pub(super) fn identity(&self) -> String {
        format!("{}/{}/{}", self.bucket, self.key, self.revision())
    }

    pub(super) fn id(&self) -> ObjectId {
        ObjectId::of(&self.identity())
    }

    pub(super) fn name(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::new(&self.identity(), self.name())
    }

    fn options(&self) -> GetOptions {
        let options = GetOptions::new();
        match &self.revision {
            Revision::Version(version) => options.with_version(Some(version)),
            Revision::Etag(etag) => options.with_if_match(Some(format!("\"{etag}\""))),
        }
    }
}

/// Opens buckets.
#[async_trait]
pub(super) trait Buckets: fmt::Debug + Send + Sync {
    /// The store that holds `key` of `bucket`, and the key in it.
    async fn open(&self, bucket: &str, key: &str) -> Result<(Arc<dyn ObjectStore>, Path), ConnectorError>;
}

/// What the key holds now: its ETag and length. `None` if there is nothing. One attempt.
pub(super) async fn current(buckets: &dyn Buckets, bucket: &str, key: &str) -> Result<Option<ObjectMeta>, ConnectorError> {
    let (store, path) = buckets.open(bucket, key).await?;
    match store.get_opts(&path, GetOptions::new().with_head(true)).await {
        Ok(answer) => Ok(Some(answer.meta)),
        Err(error @ object_store::Error::NotFound { .. }) if !bucket_is_missing(&error) => Ok(None),
        Err(error) => Err(store_error(&format!("look at s3://{bucket}/{key}"), error)),
    }
}

/// The bytes of one object, of exactly the version that was announced.
pub(super) struct ObjectBytes {
    object: Object,
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    health: Health,
}

impl ObjectBytes {
    /// # Errors
    /// `DataLost` if it can never be read again.
    pub(super) async fn open(buckets: &dyn Buckets, object: Object, health: Health) -> Result<Self, ConnectorError> {
        let (store, path) = buckets.open(&object.bucket, &object.key).await?;
        let size = if let Some(size) = object.size {
            size
        } else {
            let options = object.options().with_head(true);
            retry::until_done(&health, async || {
                let answer = store.get_opts(&path, options.clone()).await;
                answer.map(|answer| answer.meta.size).map_err(|error| read_error(&object, error))
            })
            .await?
        };
        Ok(Self { object, store, path, size, health })
    }

    async fn get(&self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        let wanted = range.end - range.start;
        let options = self.object.options().with_range(Some(GetRange::Bounded(range)));
        let failed = |error| read_error(&self.object, error);
        let answer = self.store.get_opts(&self.path, options).await.map_err(failed)?;
        if answer.meta.size != self.size {
            let message = format!("{} has {} bytes, {} were announced", self.object.name(), answer.meta.size, self.size);
            return Err(ConnectorError::new(ErrorReason::DataLost, message));
        }
        let bytes = answer.bytes().await.map_err(failed)?;
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        let message = format!("{} ended after {} of {wanted} bytes", self.object.name(), bytes.len());
        Err(ConnectorError::new(ErrorReason::Unreachable, message))
    }
}

#[async_trait]
impl RangeReader for ObjectBytes {
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let this = &*self;
        retry::until_done(&this.health, async || this.get(range.clone()).await).await
    }

    fn len(&self) -> u64 {
        self.size
    }
}

/// Reading an object failed. What cannot get better is `DataLost`; a refusal may be of the whole bucket, and policies change, so it is not.
fn read_error(object: &Object, error: object_store::Error) -> ConnectorError {
    let lost = |what: &str| {
        let message = format!("{} {what}", object.name());
        ConnectorError::new(ErrorReason::DataLost, message)
    };
    match &error {
        object_store::Error::NotFound { .. } if !bucket_is_missing(&error) => lost("is gone").caused_by(error),
        object_store::Error::Precondition { .. } => {
            lost(&format!("has changed: it no longer has the announced ETag {}", object.revision())).caused_by(error)
        }
        _ if object_is_archived(&error) => lost("lies in an archive: restore it and announce it again").caused_by(error),
        _ if error.to_string().contains("InvalidRange") => lost("is shorter than announced").caused_by(error),
        _ => store_error(&format!("read {}", object.name()), error),
    }
}

fn bucket_is_missing(error: &object_store::Error) -> bool {
    format!("{error:?}").contains("NoSuchBucket")
}

/// How object_store can name `key`: below a folder that is put in front as it is (see `S3Access::bucket_below`), if it must be.
/// `None` if it cannot be named at all: HTTP clients resolve `.` and `..`.
pub(super) fn address(key: &str) -> Option<(Option<&str>, Path)> {
    let exact = |text: &str| Path::parse(text).ok().filter(|path| path.as_ref() == text && !text.is_empty());
    if let Some(path) = exact(key) {
        return Some((None, path));
    }
    if key.split('/').any(|segment| segment == "." || segment == "..") {
        return None;
    }
    key.match_indices('/').find_map(|(slash, _)| Some((Some(&key[..slash]), exact(&key[slash + 1..])?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_http_can_carry_has_an_address() {
        for (key, expected) in [
            ("a/b", Some((None, "a/b"))),
            ("a b/ü%20", Some((None, "a b/ü%20"))),
            ("a//b", Some((Some("a/"), "b"))),
            ("/a", Some((Some(""), "a"))),
            ("//a//b/c", Some((Some("//a/"), "b/c"))),
            ("a\u{1}b/c", Some((Some("a\u{1}b"), "c"))),
            ("a/../b", None),
            ("a/", None),
        ] {
            let got = address(key);
            assert_eq!(got.as_ref().map(|(folder, path)| (*folder, path.as_ref())), expected, "{key:?}");
            if let Some((folder, path)) = got {
                assert_eq!(folder.map_or(path.to_string(), |folder| format!("{folder}/{path}")), key);
            }
        }
    }

    #[test]
    fn ids_are_stored_as_text() {
        let id = ObjectId::of("bucket/key/etag");
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text.len(), 34);
        assert_eq!(serde_json::from_str::<ObjectId>(&text).unwrap(), id);
        assert!(serde_json::from_str::<ObjectId>("\"12\"").is_err());
    }
}
