//! One run of a task, from claim to release: pushes what is read through the plan to the writers, and starts the closing of epochs. It never retries; that is `supervise`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use super::front::Front;
use super::lanes::{Operators, Spilling, Taken};
use super::observed::{Observed, Part};
use super::opening;
use super::output::{Outgoing, Output, Room};
use super::processing::broken;
use super::reading::{Event, Reading, Said};
use super::watermarks::Watermarks;
use crate::checkpoint::{EpochContent, EventTimes};
use crate::connector::ConnectorError;

/// How often lag and time are looked at, whatever else happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After so long the first epoch of a task that goes on ends, if the interval is not shorter.
const FIRST_EPOCH: Duration = Duration::from_millis(200);

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
    pub(super) reading: Reading,
    pub(super) operators: Operators,
    /// Outputs that the inputs reach, by index into [`TaskConfig::outputs`].
    pub(super) outputs: BTreeMap<usize, Output>,
    /// Batches that their output has no room for yet, and times between them, in order. Nothing is processed and no epoch begins before they are gone.
    pub(super) waiting: VecDeque<(usize, Outgoing)>,
    /// If the task is in front of an exchange.
    pub(super) front: Option<Front>,
    /// By input.
    pub(super) input_dead_letters: Vec<Vec<usize>>,
    pub(super) dead: DeadLetters,
    pub(super) counters: Counters,
    /// Rows that the query had dropped when the last epoch ended, by output.
    filtered: BTreeMap<usize, u64>,
    /// Where to go on after everything that has been processed, by split.
    pub(super) positions: BTreeMap<String, Value>,
    /// The same at the last epoch.
    last_positions: BTreeMap<String, Value>,
    /// Time, if the plan keeps state.
    pub(super) watermarks: Option<Watermarks>,
    /// Splits that have been read to their end once.
    pub(super) read_once: BTreeSet<usize>,
    /// Processing time as the operators were last told.
    pub(super) processing_time: Option<i64>,
    /// Whether the state may be another than that of the last epoch, though no position is.
    pub(super) state_changed: bool,
    /// Where state may go that has no room in memory; `None` once it is known that the plan cannot be shared by key.
    pub(super) spill: Option<Spilling>,
    pub(super) started: Instant,
    told_to_close: Option<Instant>,
    /// Whether the operators have been told that everything has ended.
    pub(super) finished: bool,
}

struct Closing {
    handle: AbortOnDropHandle<Result<Closer, Failure>>,
    positions: BTreeMap<String, Value>,
}

/// Claims the task and runs it until it is told to close, its inputs end, or something fails.
pub(super) async fn run(
    config: &Arc<TaskConfig>,
    observed: &Arc<Observed>,
    control: &mut watch::Receiver<Control>,
    nonce: String,
) -> Result<TaskEnd, Failure> {
    observed.set_phase(TaskPhase::Claiming);
    let started = Instant::now();
    let owner = opening::claim(config, observed, nonce).await?;
    let (claimed, generation) = (started.elapsed(), owner.generation().0);
    let (mut run, closer) = opening::open(config, observed, owner).await?;
    let (claim_ms, open_ms) = (millis(claimed), millis(started.elapsed().saturating_sub(claimed)));
    tracing::info!(task = config.task_id().as_str(), generation, claim_ms, open_ms, "the task runs");
    observed.set_phase(TaskPhase::Running);
    observed.recovered();
    let end = run.drive(closer, control).await;
    let Run { reading, outputs, told_to_close, .. } = run;
    // All at once: the next owner may be waiting for the end of this.
    let written = async {
        if end.is_ok() {
            futures::future::join_all(outputs.into_values().map(Output::close)).await;
        }
    };
    tokio::join!(reading.close(), written);
    if let (Ok(end), Some(told)) = (&end, told_to_close) {
        tracing::info!(task = config.task_id().as_str(), ?end, closing_ms = millis(told.elapsed()), "the task has closed");
    }
    end
}

impl Run {
    #[expect(clippy::too_many_arguments, reason = "called in one place, with what it opened")]
    pub(super) fn new(
        config: &Arc<TaskConfig>,
        observed: &Arc<Observed>,
        reading: Reading,
        operators: Operators,
        outputs: BTreeMap<usize, Output>,
        input_dead_letters: Vec<Vec<usize>>,
        dead: DeadLetters,
        positions: BTreeMap<String, Value>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            observed: Arc::clone(observed),
            reading,
            operators,
            outputs,
            waiting: VecDeque::new(),
            front: None,
            input_dead_letters,
            dead,
            counters: Counters::default(),
            filtered: BTreeMap::new(),
            last_positions: positions.clone(),
            positions,
            watermarks: None,
            read_once: BTreeSet::new(),
            processing_time: None,
            state_changed: false,
            spill: config.spilling(),
            started: Instant::now(),
            told_to_close: None,
            finished: false,
        }
    }

    async fn drive(&mut self, closer: Closer, control: &mut watch::Receiver<Control>) -> Result<TaskEnd, Failure> {
        // Whoever goes on after a crash should not have to read back all of an exchange; and who waits for results has waited since the last epoch of the owner
        // before: the first of this one comes soon.
        let resumes = !closer.owner.last().positions.is_empty();
        let mut due = match (self.is_stale(), resumes) {
            (true, _) => Instant::now(),
            (false, true) => Instant::now() + self.config.interval.min(FIRST_EPOCH),
            (false, false) => self.next_due(),
        };
        let mut resting = Some(closer);
        let mut closing: Option<Closing> = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wanted = *control.borrow_and_update();
        self.obey(wanted);
        loop {
            let ended = self.reading.has_ended();
            if ended {
                self.finish()?;
            }
            let stopping = ended || wanted == Control::Close && self.reading.is_quiet();
            let epoch_wanted = resting.is_some() && (stopping || self.dead.is_full() || Instant::now() >= due);
            if epoch_wanted && self.waiting.is_empty() {
                // From here until the epoch begins, nothing more is taken in.
                self.say_all()?;
            }
            let flowing = self.waiting.is_empty();
            if epoch_wanted && flowing {
                self.operators.flush();
            }
            // All that was taken in has come out, and been handed on; or, as long as no epoch is to end, waits for a bucket.
            let settled = flowing && self.operators.is_idle();
            if epoch_wanted
                && settled
                && let Some(closer) = resting.take()
            {
                if self.has_progress() {
                    closing = Some(self.begin_epoch(closer).await?);
                } else {
                    self.found_complete();
                    if stopping {
                        return Ok(if ended { TaskEnd::Finished } else { TaskEnd::Released });
                    }
                    resting = Some(closer);
                }
                due = self.next_due();
            }
            let settling = epoch_wanted && !settled;
            let processing = flowing && !stopping && !settling && !self.dead.is_full() && self.operators.has_room();
            let clock_due = self.until_due().map(|wait| Instant::now() + wait);
            let moment_ends = self.moment_ends();
            tokio::select! {
                biased;
                // Closing is final. A controller that is gone would be seen again and again.
                changed = control.changed(), if wanted != Control::Close => {
                    // A controller that is gone means that the process is going down.
                    wanted = if changed.is_ok() { *control.borrow_and_update() } else { Control::Close };
                    self.obey(wanted);
                }
                closed = async { (&mut closing.as_mut().expect("guarded by `if`").handle).await }, if closing.is_some() => {
                    let positions = closing.take().map(|closing| closing.positions).unwrap_or_default();
                    match joined(closed) {
                        Ok(closer) => resting = Some(closer),
                        Err(failure) => return Err(self.cause(failure).await),
                    }
                    self.acknowledge(positions).await?;
                }
                () = any_ended(&self.outputs) => {
                    if let Some(failure) = self.writer_failure().await {
                        return Err(failure);
                    }
                }
                () = tokio::time::sleep_until(due), if closing.is_none() && settled => {}
                Some(room) = room_for(self.waiting.front(), &self.outputs), if !flowing => {
                    if let Some((index, outgoing)) = self.waiting.pop_front() {
                        if let Outgoing::Batch(_, batch) = &outgoing {
                            self.sent(index, batch.num_rows() as u64);
                        }
                        room.fill(outgoing);
                    }
                }
                out = self.operators.next(), if flowing => self.came_out_later(out)?,
                _ = look.tick() => {
                    self.observed.set_lag(self.reading.lag());
                    if processing {
                        self.tell_clock()?;
                        self.advance()?;
                    }
                }
                () = at(clock_due), if processing => self.tell_clock()?,
                () = at(moment_ends), if processing => self.say_all()?,
                event = self.reading.next(), if processing => self.happened(event)?,
            }
        }
    }

    fn next_due(&self) -> Instant {
        Instant::now() + self.config.interval
    }

    fn obey(&mut self, wanted: Control) {
        match wanted {
            Control::Run => {}
            Control::Drain => {
                self.observed.set_phase(TaskPhase::Draining);
                self.reading.drain();
            }
            Control::Close => {
                self.told_to_close.get_or_insert_with(Instant::now);
                self.reading.stop();
            }
        }
    }

    fn happened(&mut self, event: Event) -> Result<(), Failure> {
        let (split, said) = match event {
            Event::Split(split, said) => (split, said),
            Event::Found(input, found) => {
                for split in self.reading.add(input, found, &self.positions) {
                    self.opened(split);
                }
                return Ok(());
            }
        };
        match said {
            Said::Records(records, position, _held) => {
                self.push(split, records)?;
                self.moved(split, position);
                self.advance()
            }
            Said::Time(time, position) => {
                self.moved(split, position);
                self.timed(|watermarks| watermarks.told(split, time))
            }
            Said::Moved(position) => {
                self.moved(split, position);
                Ok(())
            }
            Said::CaughtUp => self.caught_up(split),
            Said::Idle => self.timed(|watermarks| watermarks.idle(split)),
            // A split that was told to drain may go on another time, from its watermark.
            Said::Ended if self.reading.goes_on_later(split) => Ok(()),
            Said::Ended => {
                self.timed(|watermarks| watermarks.ended(split))?;
                self.caught_up(split)
            }
            Said::Stopped => Ok(()),
            Said::Failed(error) => Err(self.reading.failure(self.reading.input_of(split), error)),
        }
    }

    fn moved(&mut self, split: usize, position: Value) {
        self.positions.insert(self.reading.key_of(split).to_owned(), position);
    }

    fn has_progress(&self) -> bool {
        !self.dead.is_empty() || !self.counters.is_empty() || self.state_changed || self.is_stale() || self.last_positions != self.positions
    }

    /// Nothing has happened since the last epoch: it is as good as one closed now.
    fn found_complete(&self) {
        self.observed.epoch_at_millis.store(self.config.clock.now_millis(), Ordering::Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "the handle is awaited by `drive` and aborts on drop")]
    async fn begin_epoch(&mut self, closer: Closer) -> Result<Closing, Failure> {
        let epoch = closer.owner.next_epoch().0;
        let keeps_place = self.epoch_began();
        let state = self.snapshot().await?;
        let mut preparing = Vec::with_capacity(self.outputs.len());
        for (index, output) in &mut self.outputs {
            let answer = output.prepare(epoch).await?;
            preparing.push(Preparing { index: *index, answer, writer: Writer::of(output) });
        }
        let positions = self.positions.clone();
        let processing_time = self.processing_time;
        let event_times = self.watermarks.as_ref().map(|watermarks| EventTimes { processing_time, ..watermarks.times() });
        let stage = self.config.stage.name();
        let exchange = closer.owner.last().exchange.clone().filter(|_| keeps_place);
        let content = EpochContent { positions: positions.clone(), event_times, stage, exchange, ..EpochContent::default() };
        let counters = self.take_counters();
        self.state_changed = false;
        let handle = tokio::spawn(closer.close(preparing, self.dead.take(), content, state, counters, keeps_place));
        Ok(Closing { handle: AbortOnDropHandle::new(handle), positions })
    }

    /// The state after everything that has been processed.
    async fn snapshot(&mut self) -> Result<Taken, Failure> {
        self.operators.snapshot().await.map_err(|error| broken(&error))
    }

    /// What the epoch that ends has counted.
    fn take_counters(&mut self) -> Counters {
        for (output, filtered) in self.operators.filtered() {
            let before = self.filtered.insert(output, filtered).unwrap_or(0);
            self.counters.filtered_before(self.config.name_of(output), filtered.saturating_sub(before));
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

    async fn acknowledge(&mut self, positions: BTreeMap<String, Value>) -> Result<(), Failure> {
        self.reading.acknowledge(&positions).await?;
        self.last_positions = positions;
        self.found_complete();
        Ok(())
    }

    fn sent(&mut self, index: usize, rows: u64) {
        // What goes on to other tasks has not gone out.
        if index < self.config.outputs.len() {
            self.observed.records_out.fetch_add(rows, Ordering::Relaxed);
        }
        self.counters.sent_to(self.config.name_of(index), rows);
    }
}

/// For a log line.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Resolves when any writer has ended by itself; never if there is none.
async fn any_ended(outputs: &BTreeMap<usize, Output>) {
    if outputs.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(outputs.values().map(|output| Box::pin(output.ended()))).await;
}

/// Waits until then, or for ever.
pub(super) async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Waits for room for the first of what waits. `None` if there is no such output, or its writer has ended.
async fn room_for(first: Option<&(usize, Outgoing)>, outputs: &BTreeMap<usize, Output>) -> Option<Room> {
    let (index, outgoing) = first?;
    outputs.get(index)?.room(outgoing.bytes()).await
}

fn joined(closed: Result<Result<Closer, Failure>, tokio::task::JoinError>) -> Result<Closer, Failure> {
    closed.unwrap_or_else(|panic| {
        let error = ConnectorError::new(ErrorReason::Internal, format!("closing an epoch panicked: {panic}"));
        Err(Failure::new(Part::Task, error))
    })
}
