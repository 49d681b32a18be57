//! From nothing to a run: rolls the last commit forward, claims the task, opens writers and readers, restores state. It reads no record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::{Schema, SchemaRef};
use futures::future::{try_join, try_join_all};

use super::closing::{self, Closer, Writer, state_failure};
use super::config::TaskConfig;
use super::dead_letters::DeadLetters;
use super::driver::{Failure, Run};
use super::front::Front;
use super::lanes::Operators;
use super::observed::{Observed, Part};
use super::output::{Budget, Output};
use super::reading::{Reading, ahead_of};
use super::stored::{self, Opened};
use super::watermarks::{self, Watermarks};
use crate::checkpoint::decide::Settlement;
use crate::checkpoint::{EpochLog, Options, Owner, PipelineUid};
use crate::connector::ConnectorError;
use crate::exchange::Replay;
use crate::plan::Changelog;
use crate::sink::{OpenSink, Sink, SinkWriter, WriterIdentity};

/// Rolls the last epoch's commit forward if it was not marked, and claims the next generation.
pub(super) async fn claim(config: &Arc<TaskConfig>, observed: &Observed, nonce: String) -> Result<Owner, Failure> {
    let options = Options { retained: config.retained, ..Options::default() };
    let uid = PipelineUid::encoded(&config.pipeline_uid);
    let log = EpochLog::new(Arc::clone(&config.store), &config.base, uid, config.task_id(), options, Arc::clone(&config.clock))
        .map_err(state_failure)?;
    let opened = async { log.open(nonce).await.map_err(state_failure) };
    let ((), mut opened) = try_join(stored::check_kind(config), opened).await?;
    if let Some(regressed) = &opened.regressed {
        tracing::error!(?regressed, "the newest epoch is damaged; going on from the one before, effects may repeat");
    }
    let mut settlement = Settlement::Forward;
    if let Some(permit) = opened.uncommitted.take() {
        let (epoch, generation) = (permit.epoch().0, permit.generation().0);
        let writers: Vec<Writer> = writers(config, observed, generation);
        settlement = closing::settle(&permit, &writers).await?;
        if settlement == Settlement::Forward {
            tracing::info!(epoch, generation, "the last epoch's commit was rolled forward");
            log.mark_committed(permit).await.map_err(state_failure)?;
        } else {
            tracing::info!(epoch, generation, "the last epoch's transaction was aborted; its input is read again");
        }
    }
    if let Some(last) = &opened.last {
        stored::check_state(config, last)?;
    }
    let owner = match settlement {
        Settlement::Forward => log.claim(opened, config.plan.hash()).await,
        Settlement::Back | Settlement::Torn => log.claim_back(opened, config.plan.hash()).await,
    };
    let owner = owner.map_err(state_failure)?;
    observed.generation.store(owner.generation().0, Ordering::Relaxed);
    observed.epoch.store(owner.last().epoch.0, Ordering::Relaxed);
    Ok(owner)
}

/// Everybody who may have prepared something, as `generation`.
fn writers(config: &TaskConfig, observed: &Observed, generation: u64) -> Vec<Writer> {
    let outputs = config.reached_outputs().chain(config.exchange_output());
    let outputs = outputs.map(|(_, output)| (output.name.clone(), &output.sink, &output.sink_name));
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

/// Opens writers, operators and readers, at the last epoch of `owner`: all at once, for each waits for another system.
pub(super) async fn open(config: &Arc<TaskConfig>, observed: &Arc<Observed>, owner: Owner) -> Result<(Run, Closer), Failure> {
    let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
    let quarter = ahead_of(config.in_flight_bytes);
    let generation = owner.generation().0;
    let input_dead_letters: Vec<_> = names.iter().map(|input| config.input_dead_letters(input)).collect();
    let positions = owner.last().positions.clone();
    let mut reading = Reading::new(config, observed, generation);
    // What operators in front of an exchange leave out follows from what is in it.
    let exchange = open_exchange(config, observed, &owner).await?;
    let replay = exchange.as_ref().map(|(_, _, replay)| replay.clone()).unwrap_or_default();
    let is_placed = owner.last().exchange.is_some();
    let restored = Box::pin(stored::open(config, &owner, quarter, &replay));
    let opening = try_join_all(to_open(config, observed, &owner, &input_dead_letters).into_iter().map(Opening::open));
    let (opened, (writers, ())) = try_join(restored, try_join(opening, reading.open(&positions))).await?;
    let Opened { operators, increments, parts } = opened;
    let before = if matches!(operators, Operators::Whole(_)) { quarter } else { 2 * quarter };
    let budget = Budget::new(config.in_flight_bytes - before);
    let (mut outputs, mut dead) = (BTreeMap::new(), BTreeMap::new());
    let writers = exchange.into_iter().map(|(opening, writer, _)| (opening, writer)).chain(writers);
    for (opening, writer) in writers {
        match opening.slot {
            Slot::Output(index) => outputs.insert(index, opening.start(writer, budget.clone())),
            // Dead letters have a budget of their own: they are written while data may fill the other.
            Slot::DeadLetters(index) => dead.insert(index, opening.start(writer, Budget::new(config.in_flight_bytes))),
        };
    }
    let watermarks = config.keeps_time().then(|| watermarks_of(config, &owner));
    let processing_time = owner.last().event_times.as_ref().and_then(|times| times.processing_time);
    let closer = Closer { config: Arc::clone(config), observed: Arc::clone(observed), owner, increments, parts, dead };
    let dead = DeadLetters::new(config.dead_letters.len());
    let mut run = Run::new(config, observed, reading, operators, outputs, input_dead_letters, dead, positions);
    run.processing_time = processing_time;
    run.front = Front::new(&config.stage, replay, is_placed);
    if let Some(watermarks) = watermarks {
        run.keep_time(watermarks)?;
    }
    Ok((run, closer))
}

/// Every writer that a run needs.
fn to_open(config: &TaskConfig, observed: &Observed, owner: &Owner, input_dead_letters: &[Vec<usize>]) -> Vec<Opening> {
    let mut all = Vec::new();
    let mut used = input_dead_letters.concat();
    for (index, binding) in config.reached_outputs() {
        let plan = &config.plan.outputs()[index];
        let rows = (Arc::clone(&plan.schema), config.event_time_of(index), plan.changelog.clone());
        let whose = (Slot::Output(index), binding.name.clone());
        all.push(Opening::new(config, observed, owner, whose, (&binding.sink, &binding.sink_name), rows));
        used.extend(binding.dead_letter);
    }
    used.sort_unstable();
    used.dedup();
    for index in used {
        let binding = &config.dead_letters[index];
        let (whose, rows) = ((Slot::DeadLetters(index), binding.writer_name()), (config.envelopes.schema(), None, Changelog::Append));
        all.push(Opening::new(config, observed, owner, whose, (&binding.sink, &binding.sink_name), rows));
    }
    all
}

/// Opens the writer of the exchange, of a task in front of one, and what operators are to leave out.
async fn open_exchange(
    config: &TaskConfig,
    observed: &Observed,
    owner: &Owner,
) -> Result<Option<(Opening, Box<dyn SinkWriter>, Replay)>, Failure> {
    let Some((index, binding)) = config.exchange_output() else { return Ok(None) };
    // Each channel has columns of its own, which the sink knows.
    let (whose, rows) = ((Slot::Output(index), binding.name.clone()), (Arc::new(Schema::empty()), None, Changelog::Append));
    let opening = Opening::new(config, observed, owner, whose, (&binding.sink, &binding.sink_name), rows);
    let opened = opening.sink.open_exchange(opening.open.clone(), owner.last().exchange.as_ref()).await;
    let (writer, coverage) = opened.map_err(|error| opening.failed(error))?;
    Ok(Some((opening, writer, Replay::new(coverage))))
}

/// What a writer is for.
#[derive(Clone, Copy)]
enum Slot {
    Output(usize),
    DeadLetters(usize),
}

/// A writer to open.
struct Opening {
    slot: Slot,
    sink: Arc<dyn Sink>,
    sink_name: String,
    open: OpenSink,
}

impl Opening {
    /// Of the writer with this name, to this sink, of rows with these columns, this event time, and this changelog.
    fn new(
        config: &TaskConfig,
        observed: &Observed,
        owner: &Owner,
        (slot, name): (Slot, String),
        (sink, sink_name): (&Arc<dyn Sink>, &str),
        (schema, event_time, changelog): (SchemaRef, Option<String>, Changelog),
    ) -> Self {
        let (writer, epoch) = (identity(config, name, owner.generation().0), owner.next_epoch().0);
        let health = observed.health(Part::Sink(sink_name.to_owned()));
        let open = OpenSink { writer, schema, event_time, changelog, epoch, health };
        Self { slot, sink: Arc::clone(sink), sink_name: sink_name.to_owned(), open }
    }

    async fn open(self) -> Result<(Self, Box<dyn SinkWriter>), Failure> {
        match self.sink.open(self.open.clone()).await {
            Ok(writer) => Ok((self, writer)),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: ConnectorError) -> Failure {
        Failure::new(Part::Sink(self.sink_name.clone()), error)
    }

    fn start(self, writer: Box<dyn SinkWriter>, budget: Budget) -> Output {
        let OpenSink { writer: identity, health, .. } = self.open;
        Output::start(identity, self.sink, self.sink_name, health, writer, budget)
    }
}

fn watermarks_of(config: &TaskConfig, owner: &Owner) -> Watermarks {
    let inputs = config.inputs.iter().map(|input| {
        let delay = i64::try_from(input.max_delay.as_micros()).unwrap_or(i64::MAX);
        let clock = match config.event_time(&input.name) {
            _ if input.source.carries_time() => watermarks::Clock::Told,
            Some(_) => watermarks::Clock::Event(delay),
            // A table that rows look things up in has no time of its own: it only says when it has been read.
            None if config.plan.is_table(&input.name) => watermarks::Clock::Event(delay),
            None if config.keeps_state() => watermarks::Clock::Processing,
            None => watermarks::Clock::Elsewhere,
        };
        (input.name.clone(), clock)
    });
    Watermarks::new(inputs, config.idle_timeout, owner.last().event_times.as_ref())
}
