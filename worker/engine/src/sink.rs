//! The contract of sinks. Traits only: every implementation lives in `millrace-connectors`.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{ErrorReason, ProbeResult};
use serde_json::Value;

use crate::batch::{Batch, Rejected};
use crate::checkpoint::decide::Fate;
use crate::connector::{ConnectorError, Health};
use crate::exchange::{Coverage, UpTo};
use crate::plan::Changelog;
use crate::time::Time;

/// How refusals of revised rows begin.
pub const REVISED: &str =
    "rows of this output are revised after they were written (a changelog input, or an aggregate, join or top-N that no window ends)";

/// One configured sink, as every worker has it. Making one opens no connection.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Refuses, before anything runs, a schema that it cannot write: template columns, types. Pure.
    fn accepts(&self, schema: &SchemaRef, event_time: Option<&str>) -> Result<(), ConnectorError>;

    /// Refuses, before anything runs, rows that are revised after they were written, unless it can revise them. Pure.
    fn accepts_changelog(&self, changelog: &Changelog) -> Result<(), ConnectorError> {
        match changelog {
            Changelog::Append => Ok(()),
            Changelog::Updating { .. } => Err(ConnectorError::new(
                ErrorReason::Invalid,
                format!(
                    "{REVISED}, and this sink can only append: aggregate or join in a window, or write to a sink that keeps one row for each key (kafka, or \
                     opensearch with idFrom)"
                ),
            )),
        }
    }

    /// What readers may rely on after any number of crashes, and why; of rows that follow from what the sources deliver, each of them the same in every replay. Pure.
    fn guarantee(&self) -> (Guarantee, &'static str);

    /// The same of rows that are revised, for sinks that [accept](Sink::accepts_changelog) them and say something else of them. Pure.
    fn guarantee_of_changelog(&self) -> (Guarantee, &'static str) {
        self.guarantee()
    }

    /// Opens a writer for one output of one task.
    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError>;

    /// Opens the writer of an exchange for a front task, after which nothing counts any more that earlier owners of the task write. `place` is what its last
    /// [`SinkWriter::prepare`] said in the epoch that the task goes on from. Also what the partitions have been given since: see [`exchange`](crate::exchange).
    ///
    /// Of such a writer, what [`SinkWriter::prepare`] returns is its place, and nothing that is to be committed: what is written is visible at once.
    async fn open_exchange(&self, open: OpenSink, place: Option<&Value>) -> Result<(Box<dyn SinkWriter>, Coverage), ConnectorError> {
        let _nobody_reads = (open, place);
        Err(ConnectorError::new(ErrorReason::Internal, "this sink is not that of an exchange"))
    }

    /// Makes visible what an epoch prepared. The permit for it has been given: the epoch record that holds `committables` is durable.
    ///
    /// MUST be idempotent: it may be called again, by another worker, after any crash, also at the same time. MUST retry transient errors inside.
    /// Sinks that write at once (OpenSearch, Kafka at least once) have nothing to do here.
    ///
    /// An [anchor](Sink::anchor) commits only for the writer that prepared, in this process; a doubt is an error, and [`Sink::seal`] resolves it.
    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError>;

    /// Whether only the writer that prepared an epoch can commit it, because the system ties what is prepared to who wrote it (a transaction).
    /// Such a sink decides for the whole epoch: all others commit after it, and if it was aborted, the epoch is done again.
    /// A task can have one such output; a second is refused when the Pipeline is assembled.
    fn anchor(&self) -> bool {
        false
    }

    /// Finds out what became of an epoch that was not marked as committed. Called instead of [`Sink::commit`] by whoever takes the task over.
    ///
    /// MUST make the answer final before it gives it: the writer that prepared, if it still runs, can no longer commit. MUST be idempotent, and give
    /// everybody the same answer, at any time. MUST NOT guess: where the answer cannot be had, that is an error.
    async fn seal(&self, commit: Commit<'_>) -> Result<Fate, ConnectorError> {
        self.commit(commit).await.map(|()| Fate::Committed)
    }

    /// Connects and asks for what writing would ask for, changing nothing. MUST NOT report a success that it did not see.
    async fn probe(&self) -> ProbeResult;
}

/// What a writer needs to start.
#[derive(Clone, Debug)]
pub struct OpenSink {
    /// Who writes: part of deterministic names.
    pub writer: WriterIdentity,
    /// Columns of every batch.
    pub schema: SchemaRef,
    /// Name of the event-time column, if the schema has it.
    pub event_time: Option<String>,
    /// Whether rows are revised; the sink has accepted it.
    pub changelog: Changelog,
    /// The epoch that the first batch belongs to.
    pub epoch: u64,
    /// Where to report trouble while retrying.
    pub health: Health,
}

/// Who writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WriterIdentity {
    /// UID of the Pipeline.
    pub pipeline_uid: String,
    /// Name of the output; `<output>.dead` for its dead letters.
    pub output: String,
    /// Path-safe name of the task.
    pub task: String,
    /// Generation of the task.
    pub generation: u64,
}

/// Writes the batches of one output of one task.
#[async_trait]
pub trait SinkWriter: Send {
    /// Takes a batch. SHOULD return as soon as the bytes are buffered within the writer's bound, and MUST NOT return while it is over it: this is the back-pressure.
    /// A writer that batches for its system sends by itself (size, time, nothing under way), without another call.
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError>;

    /// Takes a batch of one of several channels: only the sink of an exchange has more than one (`0`), and each of them its own columns.
    /// What holds for [`SinkWriter::write`] holds here.
    async fn write_to(&mut self, channel: usize, batch: Batch) -> Result<(), ConnectorError> {
        let _the_only_one = channel;
        self.write(batch).await
    }

    /// The batches that were written to a channel since this was said last are all that came of the rows up to there. Only the sink of an exchange is told; it MUST
    /// give each partition its part of them as one, with `up_to`, or not at all.
    async fn up_to(&mut self, channel: usize, up_to: UpTo) -> Result<(), ConnectorError> {
        let _nobody_asks = (channel, up_to);
        Ok(())
    }

    /// Takes what is known of event time on a channel after all batches that were written to it. Only the sink of an exchange is told.
    ///
    /// Who reads the exchange MUST NOT hear it before those batches, nor without them. A later time MAY replace it for a moment.
    async fn time(&mut self, channel: usize, time: Time) -> Result<(), ConnectorError> {
        let _nobody_asks = (channel, time);
        Ok(())
    }

    /// When the writer has something to do by itself; `None` if it waits for nothing but its caller.
    fn due(&self) -> Option<tokio::time::Instant> {
        None
    }

    /// Does what was [due](SinkWriter::due).
    async fn act(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// Ends `epoch`: everything written so far is either durable and invisible, to be made visible by [`Sink::commit`] with the returned committables, or (idempotent sinks) already accepted by the system.
    /// Refused records of this epoch come back here. What is written afterwards belongs to `epoch + 1`.
    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError>;

    /// Throws away what was not prepared. MUST NOT touch anything that may have been committed.
    async fn close(&mut self);
}

/// What an epoch of one writer leaves behind.
#[derive(Debug, Default)]
pub struct Prepared {
    /// What to hand to [`Sink::commit`]; stored in the epoch record, so keep it small.
    pub committables: Vec<Value>,
    /// Records that the system refused for good.
    pub rejected: Vec<Rejected>,
}

/// A commit of one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// Who wrote.
    pub writer: &'a WriterIdentity,
    /// Which epoch.
    pub epoch: u64,
    /// What [`SinkWriter::prepare`] returned.
    pub committables: &'a [Value],
    /// Where to report trouble while retrying.
    pub health: &'a Health,
}
