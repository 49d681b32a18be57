//! What is in a directory right now. It opens no file and remembers nothing.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use regex::Regex;

use super::position::Seen;

/// Folder of sinks' manifests.
const MANIFESTS: &str = "_millrace";

/// Which files of a directory are read.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// The directory.
    pub(super) directory: PathBuf,
    /// Paths below it; `None` for all.
    pub(super) include: Option<Regex>,
}

impl Selection {
    /// Selects by a glob of `*`, `**` and `?`.
    pub(super) fn new(directory: PathBuf, include: Option<&str>) -> Result<Self, regex::Error> {
        Ok(Self { directory, include: include.map(glob).transpose()? })
    }

    /// The files there are, by modification time, then name. Blocks.
    pub(super) fn scan(&self) -> io::Result<Vec<Seen>> {
        let mut found = Vec::new();
        self.scan_folder(&self.directory, "", &mut found)?;
        found.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        Ok(found)
    }

    fn scan_folder(&self, folder: &Path, prefix: &str, found: &mut Vec<Seen>) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                tracing::debug!(folder = %folder.display(), "a file whose name is not UTF-8 is not read");
                continue;
            };
            if name.starts_with('.') || name.ends_with(".tmp") {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // Folders behind symbolic links are not entered: they may lead back.
            if kind.is_dir() {
                if name != MANIFESTS {
                    match self.scan_folder(&entry.path(), &format!("{path}/"), found) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        other => other?,
                    }
                }
                continue;
            }
            if self.include.as_ref().is_some_and(|include| !include.is_match(&path)) {
                continue;
            }
            match std::fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_file() => found.push(seen(path, &metadata)),
                Ok(_) => {}
                // Gone since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is known of a file.
pub(super) fn seen(path: String, metadata: &std::fs::Metadata) -> Seen {
    let born = metadata
        .created()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_nanos()).ok());
    let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    Seen { path, inode: metadata.ino(), born, size: metadata.len(), modified }
}

/// A glob as a regular expression: `*` and `?` stay within a folder, `**` does not, `**/` may stand for no folder at all.
fn glob(pattern: &str) -> Result<Regex, regex::Error> {
    let mut expression = String::from("^");
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let (taken, meaning) = if rest.starts_with("**/") {
            (3, "(?:.*/)?".to_owned())
        } else if rest.starts_with("**") {
            (2, ".*".to_owned())
        } else if first == '*' {
            (1, "[^/]*".to_owned())
        } else if first == '?' {
            (1, "[^/]".to_owned())
        } else {
            (first.len_utf8(), regex::escape(&rest[..first.len_utf8()]))
        };
        expression.push_str(&meaning);
        rest = &rest[taken..];
    }
    expression.push('$');
    Regex::new(&expression)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_like_a_shell_with_globstar() {
        for (pattern, path, expected) in [
            ("**", "a/b.log", true),
            ("*.log", "b.log", true),
            ("*.log", "a/b.log", false),
            ("**/*.log", "b.log", true),
            ("**/*.log", "a/c/b.log", true),
            ("a/**", "a/b/c", true),
            ("a/**", "b/a/c", false),
            ("?.log", "b.log", true),
            ("?.log", "bb.log", false),
            ("a+b(1).log", "a+b(1).log", true),
            ("größe-*.txt", "größe-1.txt", true),
            ("b.log", "bxlog", false),
        ] {
            assert_eq!(glob(pattern).unwrap().is_match(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn hidden_temporary_and_manifest_files_are_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b/2.log", "1.log", ".hidden", "x.tmp", ".git/config", "_millrace/u/o/t/1.json"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let mut seen: Vec<_> = Selection::new(dir.path().to_owned(), None).unwrap().scan().unwrap().into_iter().map(|f| f.path).collect();
        seen.sort();
        assert_eq!(seen, ["1.log", "b/2.log"]);
    }
}
