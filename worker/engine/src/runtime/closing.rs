//! Closing one epoch: prepared → dead letters → record → commit → mark. It runs beside reading and never touches the reader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::{try_join, try_join_all};
use millrace_crds::report::ErrorReason;
use serde_json::Value;
use tokio::sync::oneshot;

use super::buckets::TakenBucket;
use super::config::{OnPoison, TaskConfig};
use super::counters::Counters;
use super::dead_letters::DeadLetters;
use super::driver::Failure;
use super::lanes::Taken;
use super::observed::{Observed, Part};
use super::output::Output;
use super::stage::EXCHANGE_WRITER;
use super::stored::{Increments, Parts, Written};
use crate::batch::Rejected;
use crate::checkpoint::decide::{self, Fate, Settlement};
use crate::checkpoint::{self, CommitPermit, EpochContent, KnownBucket, KnownBuckets, Owner, StateRef};
use crate::connector::{ConnectorError, Health};
use crate::operators::{TakenSnapshot, TakenState};
use crate::sink::{Commit, Prepared, Sink, WriterIdentity};

/// Epochs between two garbage collections.
const EPOCHS_BETWEEN_COLLECTIONS: u64 = 16;
/// The same where each epoch has state files.
const EPOCHS_WITH_STATE_BETWEEN_COLLECTIONS: u64 = 4;

/// What closing an epoch needs for itself; comes back when it is done, so that only one epoch closes at a time.
pub(super) struct Closer {
    pub(super) config: Arc<TaskConfig>,
    pub(super) observed: Arc<Observed>,
    pub(super) owner: Owner,
    pub(super) increments: Increments,
    pub(super) parts: Parts,
    /// Writers of the dead-letter sinks that this task uses, by index into [`TaskConfig::dead_letters`].
    pub(super) dead: BTreeMap<usize, Output>,
}

/// One output that was asked to prepare.
pub(super) struct Preparing {
    /// Index into [`TaskConfig::outputs`].
    pub(super) index: usize,
    pub(super) answer: oneshot::Receiver<Result<Prepared, ConnectorError>>,
    pub(super) writer: Writer,
}

/// Who commits, with what.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) identity: WriterIdentity,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) sink_name: String,
    pub(super) health: Health,
}

impl Writer {
    pub(super) fn of(output: &Output) -> Self {
        Self {
            identity: output.identity.clone(),
            sink: Arc::clone(&output.sink),
            sink_name: output.sink_name.clone(),
            health: output.health.clone(),
        }
    }

    async fn commit(&self, epoch: u64, committables: &[Value]) -> Result<(), Failure> {
        let commit = Commit { writer: &self.identity, epoch, committables, health: &self.health };
        self.sink.commit(commit).await.map_err(|error| self.failure(error))
    }

    async fn seal(&self, epoch: u64, committables: &[Value]) -> Result<Fate, Failure> {
        let commit = Commit { writer: &self.identity, epoch, committables, health: &self.health };
        self.sink.seal(commit).await.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: ConnectorError) -> Failure {
        Failure::new(Part::Sink(self.sink_name.clone()), error)
    }
}

impl Closer {
    /// Closes the epoch that ends with `content` (positions and times; if it `keeps_place`, that in the exchange too) and `state`. On success it is durable and committed, and may be acknowledged.
    pub(super) async fn close(
        mut self,
        preparing: Vec<Preparing>,
        mut dead: DeadLetters,
        mut content: EpochContent,
        state: Taken,
        mut counters: Counters,
        keeps_place: bool,
    ) -> Result<Self, Failure> {
        let epoch = self.owner.next_epoch().0;
        let prepared = try_join_all(preparing.into_iter().map(async |Preparing { index, answer, writer }| {
            let prepared = answered(answer.await).map_err(|error| writer.failure(error))?;
            Ok((index, writer, prepared))
        }));
        let increments = std::mem::take(&mut self.increments);
        let mut parts = std::mem::take(&mut self.parts);
        content.buckets = known(&state);
        let stored = async {
            match state {
                Taken::Whole(state) => write_state(&self.owner, &self.observed, increments, state).await,
                // Whole rows are not told apart: that alone would take too much memory.
                Taken::Buckets(_, buckets) => {
                    let files = parts.store(&self.owner, buckets).await?;
                    self.observed.stored_rows_bytes.store(0, Ordering::Relaxed);
                    Ok((Increments::default(), files))
                }
            }
        };
        let (stored, prepared) = try_join(stored, prepared).await?;
        (self.increments, content.operators) = stored;
        self.parts = parts;
        let mut writers = Vec::with_capacity(prepared.len());
        for (index, writer, prepared) in prepared {
            self.route_refused(index, prepared.rejected, &mut dead, &mut counters)?;
            if writer.identity.output == EXCHANGE_WRITER {
                if !keeps_place {
                    content.exchange = prepared.committables.into_iter().next();
                }
                continue;
            }
            content.sinks.insert(writer.identity.output.clone(), prepared.committables);
            writers.push(writer);
        }
        for (index, output) in &mut self.dead {
            let prepared = write_dead(*index, output, &dead, &self.config, epoch).await?;
            content.sinks.insert(output.identity.output.clone(), prepared.committables);
            writers.push(Writer::of(output));
        }
        content.counters = counters.into_map();
        let permit = self.owner.write_epoch(content).await.map_err(state_failure)?;
        commit(&permit, &writers).await?;
        self.owner.mark_committed(permit).await.map_err(state_failure)?;
        self.observed.epoch.store(epoch, Ordering::Relaxed);
        let stateful = !self.owner.last().operators.is_empty();
        let between = if stateful { EPOCHS_WITH_STATE_BETWEEN_COLLECTIONS } else { EPOCHS_BETWEEN_COLLECTIONS };
        if epoch.is_multiple_of(between)
            && let Err(error) = self.owner.collect_garbage().await
        {
            tracing::warn!(%error, "old epochs could not be deleted; the next collection tries again");
        }
        Ok(self)
    }

    /// Records that the sink of output `index` refused.
    fn route_refused(&self, index: usize, rejected: Vec<Rejected>, dead: &mut DeadLetters, counters: &mut Counters) -> Result<(), Failure> {
        if rejected.is_empty() {
            return Ok(());
        }
        let output = &self.config.outputs[index];
        let part = Part::Sink(output.sink_name.clone());
        let sinks: Vec<usize> = output.dead_letter.into_iter().collect();
        counters.refused_by(&output.name, rejected.len() as u64);
        let verdicts = dead.add(rejected, &sinks, self.config.on_poison, &part)?;
        self.observed.dead_lettered.fetch_add(verdicts.dead_lettered, Ordering::Relaxed);
        self.observed.dropped.fetch_add(verdicts.dropped, Ordering::Relaxed);
        counters.verdicts(&verdicts);
        Ok(())
    }
}

/// What is known of state in buckets without reading it.
fn known(state: &Taken) -> Option<KnownBuckets> {
    let Taken::Buckets(shape, buckets) = state else { return None };
    let known = |bucket: &TakenBucket| {
        let known = bucket.known.as_ref()?;
        let dues = known.dues.iter().map(|due| (due.operator.to_string(), due.at)).collect();
        Some((bucket.number, KnownBucket { dues, state_bytes: known.state_bytes as u64 }))
    };
    Some(KnownBuckets { shape: shape.clone(), known: buckets.iter().filter_map(known).collect() })
}

/// Writes the dead letters of one sink and ends its epoch. A dead-letter sink that refuses envelopes stops the task: nothing may vanish.
async fn write_dead(index: usize, output: &mut Output, dead: &DeadLetters, config: &TaskConfig, epoch: u64) -> Result<Prepared, Failure> {
    let writer = Writer::of(output);
    let generation = output.identity.generation;
    let batches = dead
        .batches(index, &config.envelopes, &config.pipeline, &output.identity.task, generation)
        .map_err(|message| writer.failure(ConnectorError::new(ErrorReason::Internal, message)))?;
    for batch in batches {
        output.send(batch).await?;
    }
    let prepared = match output.prepare(epoch).await?.await {
        Ok(prepared) => prepared.map_err(|error| writer.failure(error))?,
        Err(_ended) => return Err(output.failure().await),
    };
    match prepared.rejected.first() {
        Some(first) if config.on_poison != OnPoison::Drop => Err(writer
            .failure(ConnectorError::new(ErrorReason::PoisonRecord, format!("the dead-letter sink refuses an envelope: {}", first.error)))),
        _ => Ok(prepared),
    }
}

/// Writes what has changed in the state of each operator, one after the other, so that only one is in memory in encoded form.
async fn write_state(
    owner: &Owner,
    observed: &Observed,
    mut increments: Increments,
    TakenSnapshot(snapshot): TakenSnapshot,
) -> Result<(Increments, BTreeMap<String, Vec<StateRef>>), Failure> {
    let mut files = BTreeMap::new();
    increments.retain(|operator| snapshot.contains_key(operator));
    for (operator, state) in snapshot {
        let signature = state.signature.clone();
        let (after, written) = next(increments, operator.to_string(), state).await?;
        increments = after;
        let (whole, bytes) = match written {
            Written::Nothing => (false, None),
            Written::Changes(bytes) => (false, Some(bytes)),
            Written::Whole(bytes) => (true, Some(bytes)),
        };
        let file = match bytes {
            Some(bytes) => Some(owner.write_state(&operator, &signature, bytes).await.map_err(state_failure)?),
            None => None,
        };
        files.insert(operator.to_string(), increments.stored(&operator, whole, file));
    }
    observed.stored_rows_bytes.store(increments.memory_bytes() as u64, Ordering::Relaxed);
    Ok((increments, files))
}

/// Makes the tables, compares and encodes them beside everything else: it takes long where the state is large.
async fn next(mut increments: Increments, operator: String, state: TakenState) -> Result<(Increments, Written), Failure> {
    let failure = |message: String| Failure::new(Part::Task, ConnectorError::new(ErrorReason::Internal, message));
    let next = move || {
        let state = state.finish().map_err(|error| format!("no snapshot of operator {operator}: {error}"))?;
        increments.next(&operator, &state).map(|written| (increments, written))
    };
    tokio::task::spawn_blocking(next).await.map_err(|panic| failure(format!("encoding state panicked: {panic}")))?.map_err(failure)
}

/// The answer of a writer. If it ended instead, the driver finds out why.
fn answered<T>(answer: Result<Result<T, ConnectorError>, oneshot::error::RecvError>) -> Result<T, ConnectorError> {
    answer.unwrap_or_else(|_| Err(ConnectorError::new(ErrorReason::Internal, "the writer failed before it ended its epoch")))
}

/// Commits everything that the permit's epoch prepared: the anchor first, then all other writers at once.
pub(super) async fn commit(permit: &CommitPermit, writers: &[Writer]) -> Result<(), Failure> {
    let epoch = permit.epoch().0;
    let (anchors, others) = owing(permit, writers);
    for (writer, list) in anchors {
        writer.commit(epoch, list).await?;
    }
    try_join_all(others.into_iter().map(|(writer, list)| writer.commit(epoch, list))).await?;
    Ok(())
}

/// Decides what becomes of an epoch whose commit was not marked, whoever wrote it. Forward: everything it prepared is committed.
pub(super) async fn settle(permit: &CommitPermit, writers: &[Writer]) -> Result<Settlement, Failure> {
    let epoch = permit.epoch().0;
    let (anchors, others) = owing(permit, writers);
    let mut fates = Vec::with_capacity(anchors.len());
    for (writer, list) in anchors {
        fates.push(writer.seal(epoch, list).await?);
    }
    let settlement = decide::settle(&fates);
    match settlement {
        Settlement::Forward => drop(try_join_all(others.into_iter().map(|(writer, list)| writer.commit(epoch, list))).await?),
        Settlement::Back => {}
        Settlement::Torn => {
            let message =
                format!("of epoch {epoch}, one transaction was committed and another aborted; have one transactional output only");
            return Err(Failure::new(Part::Task, ConnectorError::new(ErrorReason::Corrupt, message)));
        }
    }
    Ok(settlement)
}

/// Writers that have something to commit, with it.
type Owing<'a> = Vec<(&'a Writer, &'a [Value])>;

/// Who has something to commit: anchors, and the others.
fn owing<'a>(permit: &'a CommitPermit, writers: &'a [Writer]) -> (Owing<'a>, Owing<'a>) {
    let epoch = permit.epoch().0;
    let prepared = permit.committables().iter().filter(|(_, list)| !list.is_empty());
    let owing = prepared.filter_map(|(name, list)| {
        let writer = writers.iter().find(|writer| writer.identity.output == *name);
        if writer.is_none() {
            tracing::warn!(output = %name, epoch, "the Pipeline no longer has this output; what it prepared stays uncommitted");
        }
        Some((writer?, list.as_slice()))
    });
    owing.partition(|(writer, _)| writer.sink.anchor())
}

/// A checkpoint error as the failure of a task.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn state_failure(error: checkpoint::Error) -> Failure {
    let fenced = matches!(error, checkpoint::Error::Fenced { .. });
    let part = match error {
        checkpoint::Error::Fenced { .. } | checkpoint::Error::Overtaken { .. } => Part::Task,
        _ => Part::State,
    };
    Failure { part, error: store_error(&error), fenced }
}

/// A checkpoint error with the reason that reports and conditions use.
#[must_use]
pub fn store_error(error: &checkpoint::Error) -> ConnectorError {
    use checkpoint::{Error, StoreFault};
    let reason = match error {
        Error::Unrecoverable { .. } | Error::NewerFormat { .. } | Error::StateDamaged { .. } => ErrorReason::Corrupt,
        Error::NoConditionalCreate { .. } => ErrorReason::Invalid,
        Error::Store { fault, .. } => match fault {
            StoreFault::Permission => ErrorReason::AccessDenied,
            StoreFault::NotFound => ErrorReason::NotFound,
            StoreFault::Unsupported | StoreFault::Rejected => ErrorReason::Invalid,
            StoreFault::Transient | StoreFault::Precondition => ErrorReason::Unreachable,
        },
        _ => ErrorReason::Internal,
    };
    ConnectorError::new(reason, error.to_string())
}
