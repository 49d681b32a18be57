//! One run of a task, from claim to release: reads, pushes through the plan, and starts the closing of epochs. It never retries; that is `supervise`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millrace_crds::report::{ErrorReason, TaskPhase};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::closing::{self, Closer, Preparing, Writer, state_failure};
use super::config::{Control, TaskConfig};
use super::dead_letters::DeadLetters;
use super::observed::{Observed, Part};
use super::output::{Budget, Output};
use crate::batch::Rejected;
use crate::checkpoint::{EpochLog, Options, Owner, PipelineUid};
use crate::connector::{ConnectorError, Health};
use crate::operators::{Executor, Message};
use crate::sink::{OpenSink, WriterIdentity};
use crate::source::{OpenSplit, Records, Shared, SourceEvent, SplitReader};

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
struct Run {
    config: Arc<TaskConfig>,
    observed: Arc<Observed>,
    reader: Box<dyn SplitReader>,
    executor: Executor,
    /// Outputs that the input reaches, by index into [`TaskConfig::outputs`].
    outputs: BTreeMap<usize, Output>,
    input_dead_letters: Vec<usize>,
    dead: DeadLetters,
    counters: BTreeMap<String, u64>,
    /// Position of the last epoch.
    last_position: Option<Value>,
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
    let owner = claim(config, observed, nonce).await?;
    let (mut run, closer) = Run::open(config, observed, owner, &budget).await?;
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

/// Rolls the last epoch's commit forward if it was not marked, and claims the next generation.
async fn claim(config: &Arc<TaskConfig>, observed: &Observed, nonce: String) -> Result<Owner, Failure> {
    let options = Options { retained: config.retained, ..Options::default() };
    let uid = PipelineUid::encoded(&config.pipeline_uid);
    let log = EpochLog::new(Arc::clone(&config.store), &config.base, uid, config.task_id(), options, Arc::clone(&config.clock))
        .map_err(state_failure)?;
    let mut opened = log.open(nonce).await.map_err(state_failure)?;
    if let Some(regressed) = &opened.regressed {
        tracing::error!(?regressed, "the newest epoch is damaged; going on from the one before, effects may repeat");
    }
    if let Some(permit) = opened.uncommitted.take() {
        let generation = permit.generation().0;
        tracing::info!(epoch = permit.epoch().0, generation, "rolling the last epoch's commit forward");
        let writers: Vec<Writer> = writers(config, observed, generation);
        closing::commit(&permit, &writers).await?;
        log.mark_committed(permit).await.map_err(state_failure)?;
    }
    let owner = log.claim(opened, config.plan.hash()).await.map_err(state_failure)?;
    observed.generation.store(owner.generation().0, Ordering::Relaxed);
    observed.epoch.store(owner.last().epoch.0, Ordering::Relaxed);
    Ok(owner)
}

/// Everybody who may have prepared something, as `generation`.
fn writers(config: &TaskConfig, observed: &Observed, generation: u64) -> Vec<Writer> {
    let outputs = config.reached_outputs().map(|(_, output)| (output.name.clone(), &output.sink, &output.sink_name));
    let dead = config.dead_letters.iter().map(|dead| (dead.writer_name(), &dead.sink, &dead.sink_name));
    outputs
        .chain(dead)
        .map(|(name, sink, sink_name)| Writer {
            identity: identity(config, name, generation),
            sink: Arc::clone(sink),
            sink_name: sink_name.clone(),
            health: observed.health(Part::Sink(sink_name.clone())),
        })
        .collect()
}

fn identity(config: &TaskConfig, output: String, generation: u64) -> WriterIdentity {
    WriterIdentity { pipeline_uid: config.pipeline_uid.clone(), output, task: config.task_id().as_str().to_owned(), generation }
}

impl Run {
    async fn open(config: &Arc<TaskConfig>, observed: &Arc<Observed>, owner: Owner, budget: &Budget) -> Result<(Self, Closer), Failure> {
        let generation = owner.generation().0;
        let epoch = owner.next_epoch().0;
        let last_position = owner.last().positions.get(&config.position_key()).cloned();
        let mut outputs = BTreeMap::new();
        let mut used: Vec<usize> = config.input_dead_letters();
        for (index, binding) in config.reached_outputs() {
            let plan = &config.plan.outputs()[index];
            let open = OpenSink {
                writer: identity(config, binding.name.clone(), generation),
                schema: Arc::clone(&plan.schema),
                event_time: config.event_time.clone(),
                epoch,
                health: observed.health(Part::Sink(binding.sink_name.clone())),
            };
            outputs.insert(index, start(&binding.sink, &binding.sink_name, open, budget).await?);
            used.extend(binding.dead_letter);
        }
        used.sort_unstable();
        used.dedup();
        let mut dead = BTreeMap::new();
        for index in used {
            let binding = &config.dead_letters[index];
            let open = OpenSink {
                writer: identity(config, binding.writer_name(), generation),
                schema: config.envelopes.schema(),
                event_time: None,
                epoch,
                health: observed.health(Part::Sink(binding.sink_name.clone())),
            };
            // Dead letters have a budget of their own: they are written while data may fill the other.
            let own = Budget::new(config.in_flight_bytes);
            dead.insert(index, start(&binding.sink, &binding.sink_name, open, &own).await?);
        }
        let source_part = Part::Source(config.source_name.clone());
        let open = OpenSplit {
            split: config.split.clone(),
            position: last_position.clone(),
            projection: config.plan.projection(&config.input),
            generation,
            shared: Shared::of(Arc::clone(&config.store), &config.base, &config.pipeline_uid, &config.input),
            health: observed.health(source_part.clone()),
        };
        let reader = config.source.open(open).await.map_err(|error| Failure::new(source_part, error))?;
        let closer = Closer { config: Arc::clone(config), observed: Arc::clone(observed), owner, dead };
        let run = Self {
            config: Arc::clone(config),
            observed: Arc::clone(observed),
            reader,
            executor: config.plan.executor(&config.input),
            outputs,
            input_dead_letters: config.input_dead_letters(),
            dead: DeadLetters::new(config.dead_letters.len()),
            counters: BTreeMap::new(),
            last_position,
        };
        Ok((run, closer))
    }

    async fn drive(&mut self, closer: Closer, control: &mut watch::Receiver<Control>) -> Result<TaskEnd, Failure> {
        let mut resting = Some(closer);
        let mut closing: Option<(Closing, Value)> = None;
        let mut due = self.next_due();
        let mut wanted = *control.borrow_and_update();
        let mut ended = false;
        if wanted == Control::Drain {
            self.drain();
        }
        loop {
            let stopping = ended || wanted == Control::Close;
            if let Some(closer) = resting.take() {
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
            let reading = !stopping && !self.dead.is_full();
            tokio::select! {
                biased;
                changed = control.changed() => {
                    // A controller that is gone means that the process is going down.
                    wanted = if changed.is_ok() { *control.borrow_and_update() } else { Control::Close };
                    if wanted == Control::Drain {
                        self.drain();
                    }
                }
                closed = async { closing.as_mut().map(|(handle, _)| handle).expect("guarded by `if`").await }, if closing.is_some() => {
                    let position = closing.take().map(|(_, position)| position).unwrap_or_default();
                    resting = Some(joined(closed)?);
                    self.acknowledge(position).await?;
                }
                failure = any_failed(&mut self.outputs) => return Err(failure),
                () = tokio::time::sleep_until(due), if closing.is_none() => {}
                event = self.reader.next(), if reading => {
                    match event.map_err(|error| self.source_failure(error))? {
                        SourceEvent::Records(records) => self.push(records).await?,
                        SourceEvent::End => ended = true,
                    }
                }
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
        !self.dead.is_empty()
            || self.counters.values().any(|count| *count > 0)
            || self.last_position.as_ref() != Some(&self.reader.position())
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
        let counters = std::mem::take(&mut self.counters);
        let handle = tokio::spawn(closer.close(preparing, self.dead.take(), positions, counters));
        Ok((AbortOnDropHandle::new(handle), position))
    }

    async fn acknowledge(&mut self, position: Value) -> Result<(), Failure> {
        if let Err(error) = self.reader.acknowledge(&position).await {
            return Err(self.source_failure(error));
        }
        self.last_position = Some(position);
        self.found_complete();
        Ok(())
    }

    /// Records through the plan and to the writers.
    async fn push(&mut self, records: Records) -> Result<(), Failure> {
        let good = records.batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        let taken = good + records.rejected.len() as u64;
        self.observed.records_in.fetch_add(taken, Ordering::Relaxed);
        self.observed.bytes_in.fetch_add(records.bytes, Ordering::Relaxed);
        self.count("in", taken);
        let sinks = self.input_dead_letters.clone();
        self.refuse(records.rejected, &sinks)?;
        let Some(batch) = records.batch else { return Ok(()) };
        let mut sends = Vec::new();
        let mut refused: Vec<(Rejected, Vec<usize>)> = Vec::new();
        let outputs = &self.config.outputs;
        self.executor
            .push(Message::Batch(batch), &mut |index, message| match message {
                Message::Batch(batch) => sends.push((index, batch)),
                Message::Rejected(record) => gather(&mut refused, record, outputs[index].dead_letter),
                Message::Watermark(_) | Message::Barrier(_) | Message::Idle | Message::End => {}
            })
            .map_err(|error| Failure::new(Part::Task, ConnectorError::new(ErrorReason::Internal, error.to_string())))?;
        for (record, mut sinks) in refused {
            sinks.sort_unstable();
            sinks.dedup();
            self.refuse(vec![record], &sinks)?;
        }
        for (index, batch) in sends {
            let rows = batch.num_rows() as u64;
            if let Some(output) = self.outputs.get_mut(&index) {
                output.send(batch).await?;
                self.observed.records_out.fetch_add(rows, Ordering::Relaxed);
                let key = format!("out.{}", self.config.outputs[index].name);
                self.count(&key, rows);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, rejected: Vec<Rejected>, sinks: &[usize]) -> Result<(), Failure> {
        if rejected.is_empty() {
            return Ok(());
        }
        let part = Part::Source(self.config.source_name.clone());
        let verdicts = self.dead.add(rejected, sinks, self.config.on_poison, &part)?;
        self.observed.dead_lettered.fetch_add(verdicts.dead_lettered, Ordering::Relaxed);
        self.observed.dropped.fetch_add(verdicts.dropped, Ordering::Relaxed);
        self.count("deadLettered", verdicts.dead_lettered);
        self.count("dropped", verdicts.dropped);
        Ok(())
    }

    fn count(&mut self, counter: &str, by: u64) {
        if by > 0 {
            *self.counters.entry(counter.to_owned()).or_default() += by;
        }
    }
}

/// Adds a row that could not be evaluated on its way to an output. Outputs that share the way report the same row; it counts once.
fn gather(refused: &mut Vec<(Rejected, Vec<usize>)>, record: Rejected, sink: Option<usize>) {
    match refused.iter_mut().find(|(known, _)| *known == record) {
        Some((_, sinks)) => sinks.extend(sink),
        None => refused.push((record, sink.into_iter().collect())),
    }
}

async fn start(sink: &Arc<dyn crate::sink::Sink>, sink_name: &str, open: OpenSink, budget: &Budget) -> Result<Output, Failure> {
    let identity = open.writer.clone();
    let health: Health = open.health.clone();
    let writer = sink.open(open).await.map_err(|error| Failure::new(Part::Sink(sink_name.to_owned()), error))?;
    Ok(Output::start(identity, Arc::clone(sink), sink_name.to_owned(), health, writer, budget.clone()))
}

/// Resolves when any writer has failed; never if there is none.
async fn any_failed(outputs: &mut BTreeMap<usize, Output>) -> Failure {
    if outputs.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(outputs.values_mut().map(|output| Box::pin(output.failed()))).await.0
}

fn joined(closed: Result<Result<Closer, Failure>, tokio::task::JoinError>) -> Result<Closer, Failure> {
    closed.unwrap_or_else(|panic| {
        let error = ConnectorError::new(ErrorReason::Internal, format!("closing an epoch panicked: {panic}"));
        Err(Failure::new(Part::Task, error))
    })
}
