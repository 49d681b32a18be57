//! Checkpoints in a directory: as object_store keeps them, but on the disk when a write returns. It never shows a name before its bytes are safe.
//!
//! The bytes are written and synced under a name that is never listed, then get their own name at once (a link if it must be new, else a rename), then the
//! folder is synced, so that after a power cut there is the old, the new or nothing, and never what nobody wrote. Deleting is not synced: what comes back is deleted again.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// A directory.
#[derive(Debug)]
pub(crate) struct LocalStore {
    inner: LocalFileSystem,
    root: PathBuf,
}

impl LocalStore {
    /// Everything below `root`, which must exist.
    ///
    /// # Errors
    /// There is no such directory.
    pub(crate) fn new(root: PathBuf) -> Result<Self> {
        Ok(Self { inner: LocalFileSystem::new_with_prefix(&root)?, root })
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}", self.root.display())
    }
}

/// What is written, and how.
struct Write {
    root: PathBuf,
    to: PathBuf,
    payload: PutPayload,
    /// Whether the name must be new.
    create: bool,
    /// Of this write only.
    number: u64,
}

impl Write {
    fn carry_out(&self) -> io::Result<()> {
        let parent = self.to.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let made = !parent.is_dir();
        fs::create_dir_all(parent)?;
        // object_store lists no name that ends with `#` and digits.
        let mut staged = self.to.as_os_str().to_owned();
        staged.push(format!("#{}", self.number));
        let staged = PathBuf::from(staged);
        let written = self.stage(&staged);
        if self.create || written.is_err() {
            // Left over if this fails too; it is never read.
            let _ = fs::remove_file(&staged);
        }
        written?;
        let above = parent.ancestors().take_while(|folder| folder.starts_with(&self.root));
        above.take(if made { usize::MAX } else { 1 }).try_for_each(sync)
    }

    fn stage(&self, staged: &FilePath) -> io::Result<()> {
        let mut file = File::create_new(staged)?;
        self.payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        if self.create { fs::hard_link(staged, &self.to) } else { fs::rename(staged, &self.to) }
    }
}

/// Makes the names in a folder durable.
fn sync(folder: &FilePath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            // It refuses.
            PutMode::Update(_) => return self.inner.put_opts(location, payload, opts).await,
        };
        let to = self.inner.path_to_filesystem(location)?;
        let write = Write { root: self.root.clone(), to, payload, create, number: rand::random() };
        let written = tokio::task::spawn_blocking(move || write.carry_out()).await.map_err(|source| Error::JoinError { source })?;
        match written {
            // A directory has no conditional update, so nobody has use for an ETag.
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(error) if create && error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: location.to_string(), source: error.into() })
            }
            Err(error) => Err(Error::Generic { store: "LocalFileSystem", source: error.into() }),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "an upload in parts".to_owned(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "a copy".to_owned(), implementer: self.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use object_store::ObjectStoreExt as _;

    use super::*;

    async fn names(store: &LocalStore) -> Vec<String> {
        let mut names: Vec<_> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_name_is_made_once_and_overwritten_as_often_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().to_owned()).unwrap();
        let (path, create) = (Path::from("a/b/1"), PutOptions::from(PutMode::Create));
        store.put_opts(&path, "one".into(), create.clone()).await.unwrap();
        let again = store.put_opts(&path, "two".into(), create).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        assert_eq!(names(&store).await, ["a/b/1"]);
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1, "nothing is left over");
        store.delete(&path).await.unwrap();
        assert_eq!(names(&store).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_a_killed_write_has_left_is_not_seen_and_not_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().to_owned()).unwrap();
        fs::write(folder.path().join("1#77"), "half").unwrap();
        assert_eq!(names(&store).await, Vec::<String>::new());
        store.put_opts(&Path::from("1"), "whole".into(), PutMode::Create.into()).await.unwrap();
        assert_eq!(names(&store).await, ["1"]);
    }

    #[tokio::test]
    async fn the_error_of_the_operating_system_is_in_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().to_owned()).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = store.put(&Path::from("file/1"), "x".into()).await.unwrap_err();
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        assert!(source.is_some(), "{error:?}");
    }
}
