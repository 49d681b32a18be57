//! Where the objects of one task lie, and what an object's name says.
//! It never touches a store.

use object_store::path::Path;

use super::{Epoch, Generation, PipelineUid, TaskId};

const RECORD: &str = "record";
const COMMITTED: &str = "committed";

/// The paths of one task.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: Path,
}

/// What an object below `epochs/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EpochFile {
    Record(Epoch),
    Committed(Epoch),
}

impl Layout {
    pub(super) fn new(base: &Path, pipeline: &PipelineUid, task: &TaskId) -> Self {
        Self { root: tasks(base, pipeline).join(task.as_str()) }
    }

    /// The folder that every path in a record is relative to.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn epochs(&self) -> Path {
        self.root.clone().join("epochs")
    }

    pub(super) fn record(&self, epoch: Epoch) -> Path {
        self.epochs().join(format!("{:020}.{RECORD}", epoch.0))
    }

    pub(super) fn committed(&self, epoch: Epoch) -> Path {
        self.epochs().join(format!("{:020}.{COMMITTED}", epoch.0))
    }

    pub(super) fn states(&self) -> Path {
        self.root.clone().join("state")
    }

    pub(super) fn state(&self, generation: Generation, epoch: Epoch) -> Path {
        self.states().join(generation.to_string()).join(epoch.to_string())
    }

    /// The object that a record names so.
    pub(super) fn file(&self, relative: &str) -> Path {
        relative.split('/').fold(self.root.clone(), Path::join)
    }

    /// The name a record uses for an object of this task; `None` if it lies elsewhere.
    pub(super) fn relative(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.prefix_match(&self.root)?.map(|part| part.as_ref().to_owned()).collect();
        Some(parts.join("/"))
    }

    /// The epoch a state file was written for; `None` for anything that is not named like one.
    pub(super) fn epoch_of_state(&self, path: &Path) -> Option<Epoch> {
        let mut parts = path.prefix_match(&self.states())?;
        let _generation: u64 = parts.next()?.as_ref().parse().ok()?;
        let epoch = parts.next()?.as_ref().parse().ok()?;
        parts.next().map(|_file| Epoch(epoch))
    }
}

/// The folder with one folder per task.
pub(super) fn tasks(base: &Path, pipeline: &PipelineUid) -> Path {
    base.clone().join(pipeline.as_str()).join("tasks")
}

/// What the object is, by its name; `None` for anything this protocol did not write.
pub(super) fn parse(path: &Path) -> Option<EpochFile> {
    let (digits, kind) = path.filename()?.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let epoch = Epoch(digits.parse().ok()?);
    match kind {
        RECORD => Some(EpochFile::Record(epoch)),
        COMMITTED => Some(EpochFile::Committed(epoch)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(&Path::from("s/t"), &PipelineUid::new("uid").unwrap(), &TaskId::new("task").unwrap())
    }

    #[test]
    fn names_round_trip_and_sort_by_epoch() {
        let layout = layout();
        assert_eq!(layout.record(Epoch(7)).as_ref(), "s/t/uid/tasks/task/epochs/00000000000000000007.record");
        for epoch in [Epoch(1), Epoch(10), Epoch(u64::MAX)] {
            assert_eq!(parse(&layout.record(epoch)), Some(EpochFile::Record(epoch)));
            assert_eq!(parse(&layout.committed(epoch)), Some(EpochFile::Committed(epoch)));
        }
        assert!(layout.record(Epoch(9)) < layout.committed(Epoch(10)));
        for foreign in ["epochs/7.record", "epochs/00000000000000000007.record.bak", "epochs/x", "epochs/+0000000000000000007.record"] {
            assert_eq!(parse(&Path::from(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn state_files_name_their_epoch_and_nothing_else_does() {
        let layout = layout();
        let file = layout.state(Generation(3), Epoch(9)).join("op-1.parquet");
        assert_eq!(layout.epoch_of_state(&file), Some(Epoch(9)));
        assert_eq!(layout.relative(&file).as_deref(), Some("state/3/9/op-1.parquet"));
        assert_eq!(layout.file("state/3/9/op-1.parquet"), file);
        assert_eq!(layout.epoch_of_state(&layout.states().join("3").join("note")), None);
        assert_eq!(layout.epoch_of_state(&layout.record(Epoch(1))), None);
        assert_eq!(layout.relative(&Path::from("elsewhere/x")), None);
    }
}
