//! How far each file has been read, and what is to be done with a file that is there now. Pure: it looks at nothing itself.

use std::collections::{BTreeMap, HashMap};

use millrace_engine::batch::Origin;
use serde::{Deserialize, Serialize};

use crate::formats::StreamPosition;

/// Files that are gone but still remembered, so that one that comes back (a volume that was not mounted) is not read again.
const ABSENT: usize = 1_000;

/// A file as a directory shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seen {
    /// Path below the directory.
    #[serde(skip)]
    pub(super) path: String,
    /// Its inode.
    pub(super) inode: u64,
    /// When the inode was made, nanoseconds since 1970, if the file system knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) born: Option<u64>,
    /// Length.
    pub(super) size: u64,
    /// When it was changed last, nanoseconds since 1970.
    pub(super) modified: i64,
}

/// How far one file has been read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileState {
    /// The file when it was looked at last.
    #[serde(flatten)]
    pub(super) seen: Seen,
    /// Where to go on.
    pub(super) at: StreamPosition,
    /// Nothing is left of what was there when it was looked at.
    pub(super) done: bool,
    /// How often the file has been started over.
    #[serde(default)]
    pub(super) version: u32,
    /// What its origin is made of: where it was when it was first seen.
    pub(super) first_path: String,
}

impl FileState {
    fn new(seen: Seen, version: u32) -> Self {
        let first_path = seen.path.clone();
        Self { seen, at: StreamPosition::default(), done: false, version, first_path }
    }

    /// Where its records come from: the same in every replay, another for every file and version.
    pub(super) fn origin(&self, directory: &str) -> Origin {
        let Seen { inode, born, path, .. } = &self.seen;
        let identity = match born {
            Some(born) => format!("files/{inode}/{born}/{}", self.version),
            None => format!("files/{inode}/{}/{}", self.version, self.first_path),
        };
        Origin::new(&identity, format!("{directory}/{path}"))
    }

    fn is_same_file(&self, seen: &Seen) -> bool {
        let copied = self.seen.size == seen.size && self.seen.modified == seen.modified;
        let grown = self.seen.inode == seen.inode && self.seen.born == seen.born && self.seen.size <= seen.size;
        copied || grown
    }
}

/// How far all files have been read: the position of the split.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Positions {
    /// By path.
    pub(super) files: BTreeMap<String, FileState>,
}

/// A file that has something to read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Work {
    /// From where; its `seen` is the file as it is now.
    pub(super) state: FileState,
    /// Whether it has changed since it was looked at last.
    pub(super) changed: bool,
}

/// What to do about a directory.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Decision {
    /// Files that are known under another path now: from, to.
    pub(super) moved: Vec<(String, String)>,
    /// Files to read, in order.
    pub(super) work: Vec<Work>,
}

/// Compares what was read with what is there. `whole` says that files of the format are only read as a whole, so that a changed one is another one.
pub(super) fn decide(positions: &Positions, scanned: &[Seen], whole: bool) -> Decision {
    let mut decision = Decision::default();
    let here: HashMap<&str, &Seen> = scanned.iter().map(|seen| (seen.path.as_str(), seen)).collect();
    // Known files that are no longer where they were, by what they are.
    let missing: HashMap<(u64, u64), &str> = positions
        .files
        .iter()
        .filter(|(path, state)| here.get(path.as_str()).is_none_or(|seen| !state.is_same_file(seen)))
        .filter_map(|(path, state)| Some(((state.seen.inode, state.seen.born?), path.as_str())))
        .collect();
    for seen in scanned {
        let known = positions.files.get(&seen.path);
        let state = match known.filter(|state| state.is_same_file(seen)) {
            Some(state) => Some(state),
            None => moved(positions, &missing, seen).map(|from| {
                decision.moved.push((from.to_owned(), seen.path.clone()));
                &positions.files[from]
            }),
        };
        let changed = state.is_none_or(|state| state.seen.size != seen.size || state.seen.modified != seen.modified);
        let next = match state {
            Some(state) if state.done && !changed => continue,
            Some(state) if whole && changed && state.seen.size != seen.size => FileState::new(seen.clone(), state.version + 1),
            Some(state) => FileState { seen: seen.clone(), done: false, ..state.clone() },
            None => FileState::new(seen.clone(), known.map_or(0, |replaced| replaced.version + 1)),
        };
        decision.work.push(Work { state: next, changed });
    }
    decision
}

fn moved<'a>(positions: &Positions, missing: &HashMap<(u64, u64), &'a str>, seen: &Seen) -> Option<&'a str> {
    let from = *missing.get(&(seen.inode, seen.born?))?;
    (from != seen.path && positions.files[from].is_same_file(seen)).then_some(from)
}

impl Positions {
    /// Notes how far a file has been read.
    pub(super) fn set(&mut self, state: FileState) {
        self.files.insert(state.seen.path.clone(), state);
    }

    /// A file is known under another path now.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(mut state) = self.files.remove(from) {
            to.clone_into(&mut state.seen.path);
            self.files.insert(to.to_owned(), state);
        }
    }

    /// Which files may be forgotten: gone, and so many that they are a burden. The longest unchanged first.
    pub(super) fn forgettable(&self, scanned: &[Seen]) -> Vec<String> {
        let here: std::collections::HashSet<&str> = scanned.iter().map(|seen| seen.path.as_str()).collect();
        let mut absent: Vec<_> = self.files.iter().filter(|(path, _)| !here.contains(path.as_str())).collect();
        let surplus = absent.len().saturating_sub(ABSENT);
        if surplus == 0 {
            return Vec::new();
        }
        absent.sort_by_key(|(_, state)| state.seen.modified);
        absent.into_iter().take(surplus).map(|(path, _)| path.clone()).collect()
    }

    /// Restores the paths, which are only kept as keys.
    pub(super) fn restored(mut self) -> Self {
        for (path, state) in &mut self.files {
            state.seen.path.clone_from(path);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, inode: u64, size: u64, modified: i64) -> Seen {
        Seen { path: path.to_owned(), inode, born: Some(inode * 10), size, modified }
    }

    fn read(seen: Seen, byte: u64, done: bool) -> FileState {
        let at = StreamPosition { record: byte, byte, header: None };
        FileState { at, done, ..FileState::new(seen, 0) }
    }

    fn positions(states: Vec<FileState>) -> Positions {
        let mut positions = Positions::default();
        for state in states {
            positions.set(state);
        }
        positions
    }

    fn starts(decision: &Decision) -> Vec<(&str, u64, u32)> {
        decision.work.iter().map(|w| (w.state.seen.path.as_str(), w.state.at.byte, w.state.version)).collect()
    }

    #[test]
    fn what_is_done_and_unchanged_is_left_alone() {
        let known = positions(vec![read(seen("a", 1, 5, 1), 5, true)]);
        assert_eq!(decide(&known, &[seen("a", 1, 5, 1)], false), Decision::default());
    }

    #[test]
    fn a_file_that_grows_is_read_on() {
        let known = positions(vec![read(seen("a", 1, 5, 1), 5, true)]);
        assert_eq!(starts(&decide(&known, &[seen("a", 1, 9, 2)], false)), [("a", 5, 0)]);
    }

    #[test]
    fn a_file_that_shrinks_or_is_another_is_read_as_a_new_version() {
        let known = positions(vec![read(seen("a", 1, 5, 1), 5, true)]);
        assert_eq!(starts(&decide(&known, &[seen("a", 1, 3, 2)], false)), [("a", 0, 1)]);
        assert_eq!(starts(&decide(&known, &[seen("a", 2, 9, 2)], false)), [("a", 0, 1)]);
    }

    #[test]
    fn a_changed_parquet_file_is_another_one() {
        let known = positions(vec![read(seen("a", 1, 5, 1), 5, true)]);
        assert_eq!(starts(&decide(&known, &[seen("a", 1, 9, 2)], true)), [("a", 0, 1)]);
    }

    #[test]
    fn a_copied_volume_is_not_read_again() {
        let known = positions(vec![read(seen("a", 1, 5, 1), 5, true)]);
        assert_eq!(decide(&known, &[seen("a", 77, 5, 1)], false), Decision::default());
    }

    #[test]
    fn rotation_moves_what_was_read_and_starts_the_new_file() {
        let known = positions(vec![read(seen("app.log", 1, 5, 1), 5, true)]);
        let decision = decide(&known, &[seen("app.log.1", 1, 7, 2), seen("app.log", 2, 3, 3)], false);
        assert_eq!(decision.moved, [("app.log".to_owned(), "app.log.1".to_owned())]);
        assert_eq!(starts(&decision), [("app.log.1", 5, 0), ("app.log", 0, 1)]);
    }

    #[test]
    fn an_inode_used_again_is_not_a_move() {
        let known = positions(vec![read(seen("old", 1, 5, 1), 5, true)]);
        let reused = Seen { born: Some(999), ..seen("new", 1, 50, 2) };
        let decision = decide(&known, &[reused], false);
        assert!(decision.moved.is_empty());
        assert_eq!(starts(&decision), [("new", 0, 0)]);
    }

    #[test]
    fn versions_and_files_have_origins_of_their_own() {
        let first = FileState::new(seen("a", 1, 5, 1), 0);
        let again = FileState::new(seen("a", 1, 3, 2), 1);
        let other = FileState::new(seen("a", 2, 5, 1), 0);
        let moved = FileState { seen: seen("b", 1, 5, 1), ..first.clone() };
        assert_ne!(first.origin("/d").key(), again.origin("/d").key());
        assert_ne!(first.origin("/d").key(), other.origin("/d").key());
        assert_eq!(first.origin("/d").key(), moved.origin("/d").key());
        assert_eq!(moved.origin("/d").name(), "/d/b");
    }

    #[test]
    fn positions_survive_being_stored() {
        let known = positions(vec![read(seen("a/b", 1, 5, 1), 3, false)]);
        let text = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<Positions>(&text).unwrap().restored(), known);
    }
}
