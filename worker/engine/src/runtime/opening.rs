//! From nothing to a run: rolls the last commit forward, claims the task, opens writers and readers, restores state. It reads no record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::Schema;

use super::closing::{self, Closer, Writer, state_failure};
use super::config::TaskConfig;
use super::dead_letters::DeadLetters;
use super::driver::{Failure, Run};
use super::lanes::Operators;
use super::observed::{Observed, Part};
use super::output::{Budget, Output};
use super::reading::{Reading, ahead_of};
use super::stored::{self, Opened};
use super::watermarks::{self, Watermarks};
use crate::checkpoint::decide::Settlement;
use crate::checkpoint::{EpochLog, Options, Owner, PipelineUid};
use crate::connector::Health;
use crate::plan::Changelog;
use crate::sink::{OpenSink, Sink, WriterIdentity};

/// Most bytes that wait for writers: some batches. What a writer needs to be quick, it holds by itself; more in front of a slow one would only fill memory.
const MOST_BEHIND: usize = 8 << 20;

/// Rolls the last epoch's commit forward if it was not marked, and claims the next generation.
pub(super) async fn claim(config: &Arc<TaskConfig>, observed: &Observed, nonce: String) -> Result<Owner, Failure> {
    let options = Options { retained: config.retained, ..Options::default() };
    let uid = PipelineUid::encoded(&config.pipeline_uid);
    let log = EpochLog::new(Arc::clone(&config.store), &config.base, uid, config.task_id(), options, Arc::clone(&config.clock))
        .map_err(state_failure)?;
    stored::check_kind(config).await?;
    let mut opened = log.open(nonce).await.map_err(state_failure)?;
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

/// Opens writers, operators and readers, at the last epoch of `owner`.
pub(super) async fn open(config: &Arc<TaskConfig>, observed: &Arc<Observed>, owner: Owner) -> Result<(Run, Closer), Failure> {
    let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
    let quarter = ahead_of(config.in_flight_bytes);
    let Opened { operators, increments, parts } = stored::open(config, &owner, quarter).await?;
    let generation = owner.generation().0;
    let epoch = owner.next_epoch().0;
    let before = if matches!(operators, Operators::Whole(_)) { quarter } else { 2 * quarter };
    let budget = Budget::new((config.in_flight_bytes - before).min(MOST_BEHIND));
    let mut outputs = BTreeMap::new();
    let input_dead_letters: Vec<_> = names.iter().map(|input| config.input_dead_letters(input)).collect();
    let mut used = input_dead_letters.concat();
    for (index, binding) in config.reached_outputs() {
        let plan = &config.plan.outputs()[index];
        let open = OpenSink {
            writer: identity(config, binding.name.clone(), generation),
            schema: Arc::clone(&plan.schema),
            event_time: config.event_time_of(index),
            changelog: plan.changelog.clone(),
            epoch,
            health: observed.health(Part::Sink(binding.sink_name.clone())),
        };
        outputs.insert(index, start(&binding.sink, &binding.sink_name, open, &budget).await?);
        used.extend(binding.dead_letter);
    }
    if let Some((index, binding)) = config.exchange_output() {
        // Each channel has columns of its own, which the sink knows.
        let open = OpenSink {
            writer: identity(config, binding.name.clone(), generation),
            schema: Arc::new(Schema::empty()),
            event_time: None,
            changelog: Changelog::Append,
            epoch,
            health: observed.health(Part::Sink(binding.sink_name.clone())),
        };
        outputs.insert(index, start(&binding.sink, &binding.sink_name, open, &budget).await?);
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
            changelog: Changelog::Append,
            epoch,
            health: observed.health(Part::Sink(binding.sink_name.clone())),
        };
        // Dead letters have a budget of their own: they are written while data may fill the other.
        let own = Budget::new(config.in_flight_bytes.min(MOST_BEHIND));
        dead.insert(index, start(&binding.sink, &binding.sink_name, open, &own).await?);
    }
    let positions = owner.last().positions.clone();
    let mut reading = Reading::new(config, observed, generation);
    reading.open(&positions).await?;
    let watermarks = config.keeps_time().then(|| watermarks_of(config, &owner));
    let processing_time = owner.last().event_times.as_ref().and_then(|times| times.processing_time);
    let closer = Closer { config: Arc::clone(config), observed: Arc::clone(observed), owner, increments, parts, dead };
    let dead = DeadLetters::new(config.dead_letters.len());
    let mut run = Run::new(config, observed, reading, operators, outputs, input_dead_letters, dead, positions);
    run.processing_time = processing_time;
    if let Some(watermarks) = watermarks {
        run.keep_time(watermarks)?;
    }
    Ok((run, closer))
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

async fn start(sink: &Arc<dyn Sink>, sink_name: &str, open: OpenSink, budget: &Budget) -> Result<Output, Failure> {
    let identity = open.writer.clone();
    let health: Health = open.health.clone();
    let writer = sink.open(open).await.map_err(|error| Failure::new(Part::Sink(sink_name.to_owned()), error))?;
    Ok(Output::start(identity, Arc::clone(sink), sink_name.to_owned(), health, writer, budget.clone()))
}
