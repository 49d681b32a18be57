//! Objects that are being written: multipart uploads that stay invisible until they are completed. It decides nothing about epochs.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{ConnectorError, Health};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, ObjectStore, PutPayload};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::aws::{S3Access, store_error};
use crate::objects::writer::{Committable, Staging, Storage};
use crate::retry;

/// Bytes of a part; S3 wants at least 5 MiB of all but the last.
const PART: usize = 8 << 20;
/// Parts of one object that are uploaded at the same time.
const PARTS_AT_ONCE: usize = 3;

/// A store whose uploads can be completed by another worker.
pub(super) trait Target: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Target for T {}

/// A bucket that is written.
pub(super) struct Bucket {
    pub(super) name: String,
    access: Option<S3Access>,
    store: OnceCell<Arc<dyn Target>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("access", &self.access).finish_non_exhaustive()
    }
}

/// How [`Storage::publish`] finds an upload.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Upload {
    upload_id: String,
    /// ETags of the parts, in order.
    parts: Vec<String>,
}

impl Bucket {
    pub(super) fn new(name: &str, access: S3Access) -> Self {
        Self { name: name.to_owned(), access: Some(access), store: OnceCell::new() }
    }

    /// The same over any store.
    #[cfg(test)]
    pub(super) fn over(name: &str, store: Arc<dyn Target>) -> Self {
        Self { name: name.to_owned(), access: None, store: OnceCell::new_with(Some(store)) }
    }

    async fn store(&self) -> Result<&Arc<dyn Target>, ConnectorError> {
        self.store
            .get_or_try_init(|| async {
                let access = self.access.as_ref().ok_or_else(|| ConnectorError::new(ErrorReason::Internal, "a bucket without access"))?;
                Ok(Arc::new(access.bucket(&self.name).await?) as Arc<dyn Target>)
            })
            .await
    }

    fn path(&self, key: &str) -> Result<Path, ConnectorError> {
        Path::parse(key).ok().filter(|path| path.as_ref() == key).ok_or_else(|| {
            let message =
                format!("\"{key}\" cannot be a key: it has an empty, \".\" or \"..\" segment or control characters; change `prefix`");
            ConnectorError::new(ErrorReason::Invalid, message)
        })
    }

    fn failed(&self, doing: &str, key: &Path, error: StoreError) -> ConnectorError {
        store_error(&format!("{doing} s3://{}/{key}", self.name), error)
    }

    /// Starts an upload and aborts it: needs the right to write, and changes nothing that can be seen.
    pub(super) async fn probe(&self, key: &str) -> Result<(), ConnectorError> {
        let (store, path) = (self.store().await?, self.path(key)?);
        let id = store.create_multipart(&path).await.map_err(|error| self.failed("start an upload to", &path, error))?;
        if let Err(error) = store.abort_multipart(&path, &id).await {
            tracing::debug!(%error, "the upload of a probe could not be aborted");
        }
        Ok(())
    }

    /// Completes an upload. What counts is that the object is there, whoever completed it: a second completion is refused by some
    /// servers and not by others, and an answer may be lost.
    async fn complete(&self, file: &Committable) -> Result<(), ConnectorError> {
        let (store, path) = (self.store().await?, self.path(&file.path)?);
        let upload = Upload::deserialize(&file.staged).map_err(|error| {
            let message = format!("an epoch record does not say how to complete s3://{}/{path}", self.name);
            ConnectorError::new(ErrorReason::Corrupt, message).caused_by(error)
        })?;
        let parts = upload.parts.into_iter().map(|content_id| PartId { content_id }).collect();
        let Err(error) = store.complete_multipart(&path, &upload.upload_id, parts).await else {
            return Ok(());
        };
        // The name is of this generation and epoch only: an object of it is ours.
        match store.get_opts(&path, GetOptions::new().with_head(true)).await {
            Ok(there) if there.meta.size == file.bytes => Ok(()),
            Ok(_) | Err(StoreError::NotFound { .. }) if matches!(error, StoreError::NotFound { .. }) => {
                let message = format!(
                    "s3://{}/{path} cannot be completed: its upload is gone and so is the object; was it aborted by a lifecycle rule or deleted?",
                    self.name
                );
                Err(ConnectorError::new(ErrorReason::DataLost, message).caused_by(error))
            }
            _ => Err(self.failed("complete", &path, error)),
        }
    }
}

#[async_trait]
impl Storage for Bucket {
    async fn create(&self, key: &str, _folder: &str, health: &Health) -> Result<Box<dyn Staging>, ConnectorError> {
        Ok(Box::new(StagedObject {
            bucket: self.name.clone(),
            store: Arc::clone(self.store().await?),
            path: self.path(key)?,
            health: health.clone(),
            upload: None,
            buffer: Vec::new(),
            buffered: 0,
            sending: JoinSet::new(),
            next_part: 0,
            parts: Vec::new(),
        }))
    }

    async fn publish(&self, file: &Committable, health: &Health) -> Result<(), ConnectorError> {
        retry::until_done(health, async || self.complete(file).await).await
    }

    async fn discard(&self, file: &Committable) {
        let (Ok(store), Ok(path), Ok(upload)) = (self.store().await, self.path(&file.path), Upload::deserialize(&file.staged)) else {
            return;
        };
        abort(store.as_ref(), &path, &upload.upload_id).await;
    }

    async fn put(&self, key: &str, body: Bytes, health: &Health) -> Result<(), ConnectorError> {
        let path = self.path(key)?;
        retry::until_done(health, async || {
            let put = self.store().await?.put_opts(&path, body.clone().into(), object_store::PutOptions::default()).await;
            put.map(drop).map_err(|error| self.failed("write", &path, error))
        })
        .await
    }
}

/// An object that is being uploaded.
struct StagedObject {
    bucket: String,
    store: Arc<dyn Target>,
    path: Path,
    health: Health,
    /// Started with the first part.
    upload: Option<String>,
    buffer: Vec<Bytes>,
    buffered: usize,
    /// Parts under way: their number and ETag.
    sending: JoinSet<Result<(usize, PartId), ConnectorError>>,
    next_part: usize,
    parts: Vec<(usize, PartId)>,
}

impl StagedObject {
    async fn upload_id(&mut self) -> Result<String, ConnectorError> {
        if let Some(id) = &self.upload {
            return Ok(id.clone());
        }
        let doing = format!("start an upload to s3://{}/{}", self.bucket, self.path);
        let (store, path) = (&self.store, &self.path);
        let id = retry::until_done(&self.health, async || store.create_multipart(path).await.map_err(|error| store_error(&doing, error)))
            .await?;
        self.upload = Some(id.clone());
        Ok(id)
    }

    /// Sends what is buffered as one part.
    async fn send(&mut self) -> Result<(), ConnectorError> {
        let id = self.upload_id().await?;
        while self.sending.len() >= PARTS_AT_ONCE {
            self.sent().await?;
        }
        let payload: PutPayload = std::mem::take(&mut self.buffer).into_iter().collect();
        self.buffered = 0;
        let number = self.next_part;
        self.next_part += 1;
        let (store, path, health) = (Arc::clone(&self.store), self.path.clone(), self.health.clone());
        let doing = format!("upload part {number} of s3://{}/{path}", self.bucket);
        self.sending.spawn(async move {
            retry::until_done(&health, async || {
                let put = store.put_part(&path, &id, number, payload.clone()).await;
                put.map(|part| (number, part)).map_err(|error| store_error(&doing, error))
            })
            .await
        });
        Ok(())
    }

    async fn sent(&mut self) -> Result<(), ConnectorError> {
        match self.sending.join_next().await {
            None => Ok(()),
            Some(Ok(part)) => {
                self.parts.push(part?);
                Ok(())
            }
            Some(Err(crashed)) => Err(ConnectorError::new(ErrorReason::Internal, format!("an upload failed: {crashed}"))),
        }
    }
}

#[async_trait]
impl Staging for StagedObject {
    async fn write(&mut self, bytes: Vec<Bytes>) -> Result<(), ConnectorError> {
        for piece in bytes {
            self.buffered += piece.len();
            self.buffer.push(piece);
            if self.buffered >= PART {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Value, ConnectorError> {
        if self.buffered > 0 || self.next_part == 0 {
            self.send().await?;
        }
        while !self.sending.is_empty() {
            self.sent().await?;
        }
        self.parts.sort_by_key(|(number, _)| *number);
        let upload =
            Upload { upload_id: self.upload_id().await?, parts: self.parts.iter().map(|(_, part)| part.content_id.clone()).collect() };
        serde_json::to_value(upload)
            .map_err(|error| ConnectorError::new(ErrorReason::Internal, "cannot describe an upload").caused_by(error))
    }

    async fn abort(&mut self) {
        self.sending.shutdown().await;
        if let Some(id) = &self.upload {
            abort(self.store.as_ref(), &self.path, id).await;
        }
    }
}

async fn abort(store: &dyn Target, path: &Path, upload_id: &String) {
    if let Err(error) = store.abort_multipart(path, upload_id).await {
        tracing::debug!(%path, %error, "an upload could not be aborted; a lifecycle rule for incomplete uploads removes it");
    }
}
