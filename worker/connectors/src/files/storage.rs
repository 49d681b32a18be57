//! Files on a disk: staged in a folder of their own, moved to their place when they commit. It decides nothing.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{ConnectorError, Health};
use serde_json::Value;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;

use super::watch::io_error;
use crate::objects::names;
use crate::objects::writer::{Committable, Staging, Storage};
use crate::retry;

/// Folder, in a writer's own, of files that have not been committed.
const STAGING: &str = "staging";

/// A directory that is written.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
}

impl Directory {
    fn staged(&self, file: &Committable) -> Result<PathBuf, ConnectorError> {
        let name = file.staged.as_str().ok_or_else(|| {
            ConnectorError::new(ErrorReason::Corrupt, format!("an epoch record does not say where {} is staged", file.path))
        })?;
        Ok(self.path.join(name))
    }

    /// Removes what writers of `folder` older than `generation` have staged. Whatever of it was committed has been moved before the
    /// generation could be claimed.
    pub(super) async fn remove_leftovers(&self, folder: &str, generation: u64) -> Result<(), ConnectorError> {
        let staging = self.path.join(folder).join(STAGING);
        let failed = |error| io_error(&format!("list {}", staging.display()), error);
        let mut entries = match fs::read_dir(&staging).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            let name = entry.file_name();
            let older = name.to_str().and_then(names::generation_in).is_some_and(|of| of < generation);
            if older {
                remove(&entry.path()).await;
            }
        }
        Ok(())
    }

    async fn move_into_place(&self, file: &Committable) -> Result<(), ConnectorError> {
        let (from, to) = (self.staged(file)?, self.path.join(&file.path));
        let doing = || format!("move a file to {}", to.display());
        make_parent(&to).await?;
        match fs::rename(&from, &to).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::metadata(&to).await {
                // Somebody has committed it before us.
                Ok(there) if there.len() == file.bytes => {}
                Ok(_) | Err(_) => {
                    let message = format!("{} is neither staged nor in its place; was it deleted?", to.display());
                    return Err(ConnectorError::new(ErrorReason::DataLost, message));
                }
            },
            Err(error) => return Err(io_error(&doing(), error)),
        }
        sync_parent(&to).await
    }
}

#[async_trait]
impl Storage for Directory {
    async fn create(&self, path: &str, folder: &str, _health: &Health) -> Result<Box<dyn Staging>, ConnectorError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let relative = format!("{folder}{STAGING}/{name}.tmp");
        let staged = self.path.join(&relative);
        make_parent(&staged).await?;
        let file = File::create(&staged).await.map_err(|error| io_error(&format!("create {}", staged.display()), error))?;
        Ok(Box::new(StagedFile { file, path: staged, relative }))
    }

    async fn publish(&self, file: &Committable, health: &Health) -> Result<(), ConnectorError> {
        retry::until_done(health, async || self.move_into_place(file).await).await
    }

    async fn discard(&self, file: &Committable) {
        if let Ok(staged) = self.staged(file) {
            remove(&staged).await;
        }
    }

    async fn put(&self, path: &str, body: Bytes, health: &Health) -> Result<(), ConnectorError> {
        let to = self.path.join(path);
        retry::until_done(health, async || put(&to, &body).await).await
    }
}

struct StagedFile {
    file: File,
    path: PathBuf,
    relative: String,
}

#[async_trait]
impl Staging for StagedFile {
    async fn write(&mut self, bytes: Vec<Bytes>) -> Result<(), ConnectorError> {
        for part in bytes {
            let written = self.file.write_all(&part).await;
            written.map_err(|error| io_error(&format!("write {}", self.path.display()), error))?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Value, ConnectorError> {
        let failed = |error| io_error(&format!("write {} to the disk", self.path.display()), error);
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        sync_parent(&self.path).await?;
        Ok(Value::String(self.relative.clone()))
    }

    async fn abort(&mut self) {
        remove(&self.path).await;
    }
}

/// Writes a small file whole: under another name first. The name is of this process, so that two that write the same do not meet.
async fn put(to: &Path, body: &[u8]) -> Result<(), ConnectorError> {
    make_parent(to).await?;
    let failed = |error| io_error(&format!("write {}", to.display()), error);
    let name = to.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let temporary = to.with_file_name(format!(".{name}.{:016x}.tmp", rand::random::<u64>()));
    let mut file = File::create(&temporary).await.map_err(failed)?;
    file.write_all(body).await.map_err(failed)?;
    file.sync_all().await.map_err(failed)?;
    fs::rename(&temporary, to).await.map_err(failed)?;
    sync_parent(to).await
}

async fn make_parent(path: &Path) -> Result<(), ConnectorError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).await.map_err(|error| io_error(&format!("create folder {}", parent.display()), error))
}

/// Makes the name durable, not only the bytes.
async fn sync_parent(path: &Path) -> Result<(), ConnectorError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let failed = |error| io_error(&format!("write folder {} to the disk", parent.display()), error);
    File::open(parent).await.map_err(failed)?.sync_all().await.map_err(failed)
}

/// Removes a file that nobody needs; if it cannot be, the next owner of the folder tries again.
async fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file that was not committed cannot be removed");
    }
}
