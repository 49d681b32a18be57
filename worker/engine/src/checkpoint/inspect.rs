//! Looking at checkpoints without taking part: probing a store, listing tasks, peeking at one.
//! It never claims a task and never changes one.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::decide::{self, ProbeFacts};
use super::layout;
use super::log::{DataRegression, EpochLog, Options};
use super::store::{Objects, Retry};
use super::{Clock, EpochRecord, Error, PipelineUid, StoreFault, TaskId};

/// What a task's log says, for `status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Peek {
    /// The last epoch; `None` for a task that never ran.
    pub last: Option<EpochRecord>,
    /// Whether everything up to that epoch is committed.
    pub committed: bool,
    /// Set if the newest record is damaged and `last` is the one before.
    pub regressed: Option<DataRegression>,
}

/// Checks that the store can be the arbiter: two racing creates of one object, of which exactly one may win.
/// Run it once at start, before any task. `nonce` must be random. Leaves nothing behind.
///
/// # Errors
/// [`Error::NoConditionalCreate`] if the store must not be used; [`Error::Store`] if it could not be found out.
pub async fn probe(store: Arc<dyn ObjectStore>, base: &Path, nonce: &str, clock: Arc<dyn Clock>) -> Result<(), Error> {
    let objects = Objects::new(store, clock, Retry::default());
    let refuse = |detail: String| Error::NoConditionalCreate { store: objects.describe(), detail };
    let path = base.clone().join(".probe").join(TaskId::encoded(nonce).as_str());
    let contents = [Bytes::from_static(b"first"), Bytes::from_static(b"second")];

    let (first, second) = futures::join!(objects.create(&path, &contents[0]), objects.create(&path, &contents[1]));
    let raced = first.and_then(|first| Ok([first, second?])).map_err(|error| match error {
        Error::Store { fault: StoreFault::Unsupported, source, .. } => refuse(source.to_string()),
        other => other,
    });
    let found = objects.read(&path).await;
    let cleaned = objects.delete(&path).await;

    let replies = raced?;
    let found = found?;
    cleaned?;
    let content = contents.iter().position(|content| Some(content) == found.as_ref());
    if decide::arbitrates(&ProbeFacts { replies, content }) {
        return Ok(());
    }
    Err(refuse(format!("two racing creates of {path} ended as {replies:?}, and the object is that of {content:?}")))
}

/// Reads where a task stands without claiming it.
///
/// # Errors
/// As [`EpochLog::open`].
pub async fn peek(
    store: Arc<dyn ObjectStore>,
    base: &Path,
    pipeline: &PipelineUid,
    task: &TaskId,
    clock: Arc<dyn Clock>,
) -> Result<Peek, Error> {
    let log = EpochLog::new(store, base, pipeline.clone(), task.clone(), Options::default(), clock)?;
    let opened = log.open("").await?;
    Ok(Peek { committed: opened.uncommitted.is_none(), last: opened.last, regressed: opened.regressed })
}

/// The tasks of a pipeline that ever ran, by name.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_tasks(
    store: Arc<dyn ObjectStore>,
    base: &Path,
    pipeline: &PipelineUid,
    clock: Arc<dyn Clock>,
) -> Result<Vec<TaskId>, Error> {
    let objects = Objects::new(store, clock, Retry::default());
    let folders = objects.folders(&layout::tasks(base, pipeline)).await?;
    let mut tasks: Vec<_> = folders.iter().filter_map(|folder| TaskId::new(folder.filename()?).ok()).collect();
    tasks.sort();
    Ok(tasks)
}
