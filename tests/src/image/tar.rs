//! A tar archive that depends only on what is in it: owner root, time 0. It takes folders and files, no links.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

const BLOCK: usize = 512;
const NAME: usize = 100;

/// An archive that is being written.
pub(super) struct Tar<W: Write> {
    to: W,
}

impl<W: Write> Tar<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to }
    }

    /// Adds everything below `root`, sorted by name.
    pub(super) fn add_tree(&mut self, root: &Path) -> Result<()> {
        self.add_below(root, "")
    }

    /// Adds a file of `size` bytes.
    pub(super) fn add_file(&mut self, name: &str, mode: u32, size: u64, content: impl Read) -> Result<()> {
        self.header(name, mode, size, b'0')?;
        let written = io::copy(&mut content.take(size), &mut self.to).with_context(|| format!("write {name}"))?;
        ensure!(written == size, "{name} became shorter while it was read");
        let padding = (BLOCK - usize::try_from(size % BLOCK as u64)?) % BLOCK;
        self.to.write_all(&vec![0; padding]).context("write the archive")
    }

    /// Writes the end and returns what it was written to.
    pub(super) fn finish(mut self) -> Result<W> {
        self.to.write_all(&[0; 2 * BLOCK]).context("write the end of the archive")?;
        self.to.flush().context("write the archive")?;
        Ok(self.to)
    }

    fn add_below(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>().context("read a folder")?;
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has an odd name", path.display()))?;
            let metadata = fs::symlink_metadata(&path).with_context(|| format!("look at {}", path.display()))?;
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.header(&format!("{prefix}{name}/"), mode, 0, b'5')?;
                self.add_below(&path, &format!("{prefix}{name}/"))?;
            } else if metadata.is_file() {
                let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
                self.add_file(&format!("{prefix}{name}"), mode, metadata.len(), file)?;
            } else {
                bail!("{} is neither a folder nor a file", path.display());
            }
        }
        Ok(())
    }

    /// One block in the POSIX format `ustar`.
    fn header(&mut self, name: &str, mode: u32, size: u64, kind: u8) -> Result<()> {
        ensure!(name.len() < NAME, "{name} is too long a name");
        ensure!(size < 1 << 33, "{name} is too large");
        let mut block = [0; BLOCK];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000"); // user
        put(116, b"0000000"); // group
        put(124, format!("{size:011o}").as_bytes());
        put(136, b"00000000000"); // time
        put(148, b"        "); // the checksum counts as spaces in itself
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let checksum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
        self.to.write_all(&block).context("write the archive")
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command;

    #[test]
    fn the_usual_program_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/five"), "12345").unwrap();
        fs::write(root.join("a/block"), [b'x'; BLOCK]).unwrap();
        let path = folder.path().join("a.tar");
        let mut tar = Tar::new(File::create(&path).unwrap());
        tar.add_tree(&root).unwrap();
        tar.finish().unwrap();

        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        command::output(Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(&out)).unwrap();
        assert_eq!(fs::read_to_string(out.join("a/b/five")).unwrap(), "12345");
        assert_eq!(fs::read(out.join("a/block")).unwrap(), [b'x'; BLOCK]);
    }
}
