//! The contract of sources. Traits only: every implementation lives in `millrace-connectors`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::report::{Distribution, ProbeResult};
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;

use crate::batch::{Batch, Rejected};
use crate::checkpoint::PipelineUid;
use crate::connector::{ConnectorError, Health};
use crate::time::Time;

/// One configured input, as every worker has it. Making one opens no connection.
#[async_trait]
pub trait Source: Send + Sync {
    /// The columns that the source can deliver.
    fn schema(&self) -> SchemaRef;

    /// Who may read it: see [`Distribution`].
    fn distribution(&self) -> Distribution;

    /// Whether readers say themselves how far event time has come ([`SourceEvent::Time`]), because they read what other tasks have written. Then event times
    /// of rows are not looked at again, and a reader that is silent still holds time back: whoever writes for it may be restarting.
    fn carries_time(&self) -> bool {
        false
    }

    /// Splits there are now. Partitioned: all of them. Competing: those that still hold unfinished work (in the ledger), so that somebody is told to finish it.
    async fn splits(&self, shared: &Shared) -> Result<Vec<String>, ConnectorError>;

    /// Opens one split. MUST start exactly at `open.position`, or at the configured start if there is none.
    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError>;

    /// Connects and asks for what reading would ask for, changing nothing. MUST NOT report a success that it did not see.
    async fn probe(&self) -> ProbeResult;
}

/// What readers of one input share across all workers: a folder of the checkpoint store.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The checkpoint store; conditional create works on it.
    pub store: Arc<dyn ObjectStore>,
    /// Folder of this input, below the Pipeline's UID.
    pub folder: Path,
}

impl Shared {
    /// The folder of `input` of a Pipeline, where `base` holds all Pipelines.
    #[must_use]
    pub fn of(store: Arc<dyn ObjectStore>, base: &Path, pipeline_uid: &str, input: &str) -> Self {
        let folder = base.clone().join(PipelineUid::encoded(pipeline_uid).as_str()).join("inputs").join(input);
        Self { store, folder }
    }
}

/// What a reader needs to start.
#[derive(Clone, Debug)]
pub struct OpenSplit {
    /// Which split.
    pub split: String,
    /// What [`SplitReader::position`] said in the last durable epoch; `None` if there is none.
    pub position: Option<Value>,
    /// Columns to decode, by name, in the order of [`Source::schema`]; batches MUST have exactly these. May be empty: only rows are counted.
    pub projection: Vec<String>,
    /// Generation of the task: grows with every owner.
    pub generation: u64,
    /// What all readers of this input share.
    pub shared: Shared,
    /// Where to report trouble while retrying.
    pub health: Health,
}

/// Reads one split, in order.
#[async_trait]
pub trait SplitReader: Send {
    /// The next records. Waits for as long as there are none. MUST be cancel-safe: a dropped call loses nothing.
    ///
    /// SHOULD return what is waiting, as much as makes one batch (about 8,192 rows or 1 MiB), and never wait to fill one.
    /// Transient errors MUST be retried inside, with back-off, and told to [`Health`]; an `Err` closes the task, which is then reopened at its last epoch.
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError>;

    /// Where to go on after everything that [`SplitReader::next`] has returned. Two equal positions mean no progress in between.
    fn position(&self) -> Value;

    /// The epoch that holds `position` is durable and its sinks have committed. Only now MAY anything be acknowledged upstream, up to this position.
    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError>;

    /// Take nothing new; once what is held has been returned, [`SplitReader::next`] returns [`SourceEvent::End`].
    fn drain(&mut self);

    /// How far behind the reader is, as last seen. Cheap.
    fn lag(&self) -> Lag;

    /// Lets go of what is held, within a few seconds; what was not acknowledged MUST be left for the next owner.
    async fn close(&mut self);
}

/// What a reader delivers.
#[derive(Debug)]
pub enum SourceEvent {
    /// Records.
    Records(Records),
    /// How far event time has come after all records before. Only of sources that [carry it](Source::carries_time). [`Time::End`] is the same as
    /// [`SourceEvent::End`].
    Time(Time),
    /// Nothing more will come: a bounded input has ended, or the reader was told to drain and has.
    End,
}

/// Records of one origin.
#[derive(Debug, Default)]
pub struct Records {
    /// The ones that could be decoded.
    pub batch: Option<Batch>,
    /// The ones that could not.
    pub rejected: Vec<Rejected>,
    /// Uncompressed bytes of both.
    pub bytes: u64,
}

/// How far behind a reader is. `None` where the source cannot tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lag {
    /// Records (queue: announcements) not yet taken in.
    pub records: Option<u64>,
    /// Age of the oldest of them, seconds.
    pub seconds: Option<u64>,
    /// True when nothing is held and nothing is waiting.
    pub idle: bool,
}
