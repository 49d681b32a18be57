//! A folder of the local disk for state that has no room in memory. It keeps nothing for the next process, and syncs nothing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use millrace_engine::runtime::Tier;

/// A folder.
#[derive(Debug)]
pub struct SpillFolder(PathBuf);

impl SpillFolder {
    /// The folder at `path`, made if it is not there, and emptied: what is in it is of a process that has ended.
    ///
    /// # Errors
    /// If it cannot be made, read or written.
    pub fn emptied(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            // Only what this code writes.
            if path.extension().is_some_and(|extension| extension == "state") {
                fs::remove_file(path)?;
            }
        }
        let folder = Self(path.to_owned());
        folder.put("probe.state", b"")?;
        folder.delete("probe.state")?;
        Ok(folder)
    }
}

impl Tier for SpillFolder {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.join(name);
        let written = File::create_new(&path)?.write_all(bytes);
        if written.is_err() {
            // What has failed for want of room must not take it.
            let _gone = fs::remove_file(&path);
        }
        written
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_bytes_until_they_are_deleted_or_a_process_begins() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/spill");
        let folder = SpillFolder::emptied(&path).unwrap();
        folder.put("1.state", b"one").unwrap();
        folder.put("2.state", b"two").unwrap();
        assert_eq!(folder.put("1.state", b"other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(folder.get("1.state").unwrap(), b"one");
        folder.delete("2.state").unwrap();
        assert_eq!(folder.get("2.state").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(path.join("foreign"), b"").unwrap();
        let names = || fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        drop(SpillFolder::emptied(&path).unwrap());
        assert_eq!(names(), ["foreign"], "only what it has written is deleted");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), b"").unwrap();
        assert!(SpillFolder::emptied(&root.path().join("file")).is_err());
    }
}
