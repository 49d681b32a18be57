//! One run of a task, from claim to release: pushes what is read through the plan to the writers, and starts the closing of epochs. It never retries; that is `supervise`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_crds::report::{ErrorReason, TaskPhase};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::closing::{Closer, Preparing, Writer};
use super::config::{Control, TaskConfig};
use super::counters::Counters;
use super::dead_letters::DeadLetters;
use super::observed::{Observed, Part};
use super::opening;
use super::output::{Budget, Output, Room};
use crate::batch::{Batch, Rejected};
use crate::connector::ConnectorError;
use crate::operators::{Executor, Message};
use crate::source::{Records, SourceEvent, SplitReader};

/// How often the lag is looked at, whatever else happens.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// How a run ended without failing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TaskEnd {
    /// Told to close: a last epoch is durable, the task can be taken over.
    Released,
    /// Nothing more will come: everything is durable.
    Finished,
    /// Somebody else has claimed the task.
    Fenced,
    /// Closing took longer than the budget; what was not committed will be read again.
    Abandoned,
}

/// Why a run failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) part: Part,
    pub(super) error: ConnectorError,
    pub(super) fenced: bool,
}

impl Failure {
    pub(super) fn new(part: Part, error: ConnectorError) -> Self {
        Self { part, error, fenced: false }
    }
}

/// What flows: everything that one run holds besides the epoch that is closing.
pub(super) struct Run {
    pub(super) config: Arc<TaskConfig>,
    pub(super) observed: Arc<Observed>,
    pub(super) reader: Box<dyn SplitReader>,
    pub(super) executor: Executor,
    /// Outputs that the input reaches, by index into [`TaskConfig::outputs`].
    pub(super) outputs: BTreeMap<usize, Output>,
    /// Batches that their output has no room for yet, in order. Nothing is read and no epoch begins before they are gone.
    pub(super) waiting: VecDeque<(usize, Batch)>,
    pub(super) input_dead_letters: Vec<usize>,
    pub(super) dead: DeadLetters,
    pub(super) counters: Counters,
    /// Rows that the query had dropped when the last epoch ended, by output.
    pub(super) filtered: BTreeMap<usize, u64>,
    /// Position of the last epoch.
    pub(super) last_position: Option<Value>,
}

type Closing = AbortOnDropHandle<Result<Closer, Failure>>;

/// Claims the task and runs it until it is told to close, its input ends, or something fails.
pub(super) async fn run(
    config: &Arc<TaskConfig>,
    observed: &Arc<Observed>,
    control: &mut watch::Receiver<Control>,
    nonce: String,
) -> Result<TaskEnd, Failure> {
    observed.set_phase(TaskPhase::Claiming);
    let budget = Budget::new(config.in_flight_bytes);
    let owner = opening::claim(config, observed, nonce).await?;
    let (mut run, closer) = opening::open(config, observed, owner, &budget).await?;
    observed.set_phase(TaskPhase::Running);
    observed.recovered();
    let end = run.drive(closer, control).await;
    run.reader.close().await;
    if end.is_ok() {
        for output in std::mem::take(&mut run.outputs).into_values() {
            output.close().await;
        }
    }
    end
}

impl Run {
    async fn drive(&mut self, closer: Closer, control: &mut watch::Receiver<Control>) -> Result<TaskEnd, Failure> {
        let mut resting = Some(closer);
        let mut closing: Option<(Closing, Value)> = None;
        let mut due = self.next_due();
        let mut lag = tokio::time::interval(LAG_EVERY);
        lag.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wanted = *control.borrow_and_update();
        let mut ended = false;
        if wanted == Control::Drain {
            self.drain();
        }
        loop {
            let stopping = ended || wanted == Control::Close;
            let flowing = self.waiting.is_empty();
            if flowing && let Some(closer) = resting.take() {
                let epoch_wanted = stopping || self.dead.is_full() || Instant::now() >= due;
                if epoch_wanted && self.has_progress() {
                    closing = Some(self.begin_epoch(closer).await?);
                } else {
                    if epoch_wanted {
                        self.found_complete();
                    }
                    if stopping {
                        return Ok(if ended { TaskEnd::Finished } else { TaskEnd::Released });
                    }
                    resting = Some(closer);
                }
                if epoch_wanted {
                    due = self.next_due();
                }
            }
            let reading = flowing && !stopping && !self.dead.is_full();
            tokio::select! {
                biased;
                // Closing is final. A controller that is gone would be seen again and again.
                changed = control.changed(), if wanted != Control::Close => {
                    // A controller that is gone means that the process is going down.
                    wanted = if changed.is_ok() { *control.borrow_and_update() } else { Control::Close };
                    if wanted == Control::Drain {
                        self.drain();
                    }
                }
                closed = async { closing.as_mut().map(|(handle, _)| handle).expect("guarded by `if`").await }, if closing.is_some() => {
                    let position = closing.take().map(|(_, position)| position).unwrap_or_default();
                    match joined(closed) {
                        Ok(closer) => resting = Some(closer),
                        Err(failure) => return Err(self.cause(failure).await),
                    }
                    self.acknowledge(position).await?;
                }
                () = any_ended(&self.outputs) => {
                    if let Some(failure) = self.writer_failure().await {
                        return Err(failure);
                    }
                }
                () = tokio::time::sleep_until(due), if closing.is_none() && flowing => {}
                Some(room) = room_for(self.waiting.front(), &self.outputs), if !flowing => {
                    if let Some((index, batch)) = self.waiting.pop_front() {
                        let rows = batch.num_rows() as u64;
                        room.fill(batch);
                        self.sent(index, rows);
                    }
                }
                event = self.reader.next(), if reading => {
                    match event.map_err(|error| self.source_failure(error))? {
                        SourceEvent::Records(records) => self.push(records)?,
                        SourceEvent::End => ended = true,
                    }
                }
                _ = lag.tick() => {}
            }
            self.observed.set_lag(self.reader.lag());
        }
    }

    fn next_due(&self) -> Instant {
        Instant::now() + self.config.interval
    }

    fn drain(&mut self) {
        self.observed.set_phase(TaskPhase::Draining);
        self.reader.drain();
    }

    fn source_failure(&self, error: ConnectorError) -> Failure {
        Failure::new(Part::Source(self.config.source_name.clone()), error)
    }

    fn has_progress(&self) -> bool {
        !self.dead.is_empty() || !self.counters.is_empty() || self.last_position.as_ref() != Some(&self.reader.position())
    }

    /// Nothing has happened since the last epoch: it is as good as one closed now.
    fn found_complete(&self) {
        self.observed.epoch_at_millis.store(self.config.clock.now_millis(), Ordering::Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "the handle is awaited by `drive` and aborts on drop")]
    async fn begin_epoch(&mut self, closer: Closer) -> Result<(Closing, Value), Failure> {
        let epoch = closer.owner.next_epoch().0;
        let position = self.reader.position();
        let mut preparing = Vec::with_capacity(self.outputs.len());
        for (index, output) in &mut self.outputs {
            let answer = output.prepare(epoch).await?;
            preparing.push(Preparing { index: *index, answer, writer: Writer::of(output) });
        }
        let positions = BTreeMap::from([(self.config.position_key(), position.clone())]);
        let counters = self.take_counters();
        let handle = tokio::spawn(closer.close(preparing, self.dead.take(), positions, counters));
        Ok((AbortOnDropHandle::new(handle), position))
    }

    /// What the epoch that ends has counted.
    fn take_counters(&mut self) -> Counters {
        for output in self.executor.counters().outputs {
            let before = self.filtered.insert(output.output, output.rows_filtered).unwrap_or(0);
            let name = &self.config.outputs[output.output].name;
            self.counters.filtered_before(name, output.rows_filtered.saturating_sub(before));
        }
        std::mem::take(&mut self.counters)
    }

    /// Why closing an epoch failed: a writer that has ended knows better than whoever waited for its answer.
    async fn cause(&mut self, failure: Failure) -> Failure {
        if failure.fenced { failure } else { self.writer_failure().await.unwrap_or(failure) }
    }

    /// Why a writer has ended by itself, if one has.
    async fn writer_failure(&mut self) -> Option<Failure> {
        let output = self.outputs.values_mut().find(|output| output.has_ended())?;
        Some(output.failure().await)
    }

    async fn acknowledge(&mut self, position: Value) -> Result<(), Failure> {
        if let Err(error) = self.reader.acknowledge(&position).await {
            return Err(self.source_failure(error));
        }
        self.last_position = Some(position);
        self.found_complete();
        Ok(())
    }

    /// Records through the plan; what comes out waits for the writers.
    fn push(&mut self, records: Records) -> Result<(), Failure> {
        let good = records.batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        let taken = good + records.rejected.len() as u64;
        self.observed.records_in.fetch_add(taken, Ordering::Relaxed);
        self.observed.bytes_in.fetch_add(records.bytes, Ordering::Relaxed);
        self.counters.taken_in(taken);
        let sinks = self.input_dead_letters.clone();
        self.refuse(records.rejected, &sinks)?;
        let Some(batch) = records.batch else { return Ok(()) };
        let mut refused: Vec<(Rejected, Vec<usize>)> = Vec::new();
        let (outputs, waiting) = (&self.config.outputs, &mut self.waiting);
        self.executor
            .push(0, Message::Batch(batch), &mut |index, message| match message {
                Message::Batch(batch) => waiting.push_back((index, batch)),
                Message::Rejected(record) => gather(&mut refused, record, outputs[index].dead_letter),
                Message::Watermark(_) | Message::Barrier(_) | Message::Idle | Message::End => {}
            })
            .map_err(|error| Failure::new(Part::Task, ConnectorError::new(ErrorReason::Internal, error.to_string())))?;
        for (record, mut sinks) in refused {
            sinks.sort_unstable();
            sinks.dedup();
            self.refuse(vec![record], &sinks)?;
        }
        Ok(())
    }

    fn sent(&mut self, index: usize, rows: u64) {
        self.observed.records_out.fetch_add(rows, Ordering::Relaxed);
        self.counters.sent_to(&self.config.outputs[index].name, rows);
    }

    fn refuse(&mut self, rejected: Vec<Rejected>, sinks: &[usize]) -> Result<(), Failure> {
        if rejected.is_empty() {
            return Ok(());
        }
        let part = Part::Source(self.config.source_name.clone());
        let verdicts = self.dead.add(rejected, sinks, self.config.on_poison, &part)?;
        self.observed.dead_lettered.fetch_add(verdicts.dead_lettered, Ordering::Relaxed);
        self.observed.dropped.fetch_add(verdicts.dropped, Ordering::Relaxed);
        self.counters.verdicts(&verdicts);
        Ok(())
    }
}

/// Adds a row that could not be evaluated on its way to an output. Outputs that share the way report the same row; it counts once.
fn gather(refused: &mut Vec<(Rejected, Vec<usize>)>, record: Rejected, sink: Option<usize>) {
    match refused.iter_mut().find(|(known, _)| *known == record) {
        Some((_, sinks)) => sinks.extend(sink),
        None => refused.push((record, sink.into_iter().collect())),
    }
}

/// Resolves when any writer has ended by itself; never if there is none.
async fn any_ended(outputs: &BTreeMap<usize, Output>) {
    if outputs.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(outputs.values().map(|output| Box::pin(output.ended()))).await;
}

/// Waits for room for the first batch that waits. `None` if there is no such output, or its writer has ended.
async fn room_for(first: Option<&(usize, Batch)>, outputs: &BTreeMap<usize, Output>) -> Option<Room> {
    let (index, batch) = first?;
    outputs.get(index)?.room(batch.memory_bytes()).await
}

fn joined(closed: Result<Result<Closer, Failure>, tokio::task::JoinError>) -> Result<Closer, Failure> {
    closed.unwrap_or_else(|panic| {
        let error = ConnectorError::new(ErrorReason::Internal, format!("closing an epoch panicked: {panic}"));
        Err(Failure::new(Part::Task, error))
    })
}
