//! Runs a shape as tasks do: with lanes, epochs, a store, killed at random moments and opened again with another number of lanes and another memory. What it has
//! committed by the end is what the table is made of. It knows nothing of what is right.
//!
//! Time is virtual: every access to the store takes some, so that a kill comes between any two of them. Lanes are threads of their own, and real.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{Distribution, ProbeResult, TaskPhase, TaskRef};
use millrace_engine::batch::{Batch, Origin, Rejected};
use millrace_engine::checkpoint::Clock;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::{Changelog, Plan};
use millrace_engine::runtime::{
    Control, Envelopes, InputBinding, Observed, OnPoison, OutputBinding, SpillSpace, Splits, Stage, TaskConfig, TaskEnd, Tier, supervise,
};
use millrace_engine::sink::{Commit, OpenSink, Prepared, Sink, SinkWriter};
use millrace_engine::source::{Lag, OpenSplit, Records, Shared, Source, SourceEvent, SplitReader};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::inputs::{Inputs, MAX_DELAY, schema};
use crate::stream::{INPUTS, Table};

/// Time between epochs, and for one access to the store or the sink.
const INTERVAL: Duration = Duration::from_millis(100);
const ACCESS: Duration = Duration::from_millis(1);
/// Nothing takes longer, in virtual time.
const DEADLINE: Duration = Duration::from_hours(400);
/// Memory in which there is always room, and to begin with where there is not.
const ROOM: usize = 16 << 20;
const NO_ROOM: usize = 2 << 10;

/// How often what has happened, over all cases.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kills: AtomicU64,
    pub(crate) closes: AtomicU64,
    pub(crate) rescales: AtomicU64,
    pub(crate) spills: AtomicU64,
    pub(crate) epochs: AtomicU64,
}

pub(crate) static COUNTS: Counts = Counts {
    kills: AtomicU64::new(0),
    closes: AtomicU64::new(0),
    rescales: AtomicU64::new(0),
    spills: AtomicU64::new(0),
    epochs: AtomicU64::new(0),
};

/// Numbers that look random and are the same for a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }
}

/// What is left in the end, sorted; or what went wrong.
pub(crate) fn run(plan: &Arc<Plan>, inputs: &Inputs) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(Case::new(plan, inputs).run())
}

/// Everything that outlives the processes of a case.
struct Case {
    plan: Arc<Plan>,
    dice: Dice,
    input: Arc<Input>,
    results: Arc<Results>,
    /// How often state went to a disk.
    puts: Arc<AtomicU64>,
    store: Arc<dyn ObjectStore>,
    nonces: Arc<AtomicU64>,
    clock: Arc<VirtualClock>,
    /// Bytes of memory where there is no room.
    tight: usize,
}

/// How a process ended.
enum Ended {
    Finished,
    /// Killed or closed.
    Gone,
    /// There was less memory than the state of one bucket takes.
    NoRoom,
}

impl Case {
    fn new(plan: &Arc<Plan>, inputs: &Inputs) -> Self {
        let mut dice = Dice(inputs.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // One record at a time and an epoch after each, or some records and an epoch now and then.
        let every_record = dice.below(3) == 0;
        let pace = if every_record { INTERVAL * 2 } else { Duration::from_millis(dice.below(60)) };
        let rows = if every_record { 1 } else { 1 + dice.below(7) as usize };
        let throttle = ThrottleConfig {
            wait_get_per_call: ACCESS,
            wait_put_per_call: ACCESS,
            wait_list_per_call: ACCESS,
            wait_delete_per_call: ACCESS,
            ..ThrottleConfig::default()
        };
        Self {
            plan: Arc::clone(plan),
            dice,
            input: Arc::new(Input { tables: [inputs.a.clone(), inputs.b.clone()], rows, pace }),
            results: Arc::default(),
            puts: Arc::default(),
            store: Arc::new(ThrottledStore::new(InMemory::new(), throttle)),
            nonces: Arc::default(),
            clock: Arc::new(VirtualClock(Instant::now())),
            tight: NO_ROOM,
        }
    }

    async fn run(mut self) -> Result<Vec<String>, String> {
        let mut deaths = self.dice.below(5);
        let mut lanes = 0;
        loop {
            let before = std::mem::replace(&mut lanes, [1, 2, 4][self.dice.below(3) as usize]);
            let is_tight = self.dice.below(3) == 0;
            let how = format!("{lanes} lanes after {before}, {}", if is_tight { "little memory" } else { "memory enough" });
            if before != 0 && before != lanes {
                COUNTS.rescales.fetch_add(1, Ordering::Relaxed);
            }
            match self.process(lanes, is_tight, deaths > 0).await.map_err(|wrong| format!("{wrong} ({how})"))? {
                Ended::Finished => break,
                Ended::Gone => deaths = deaths.saturating_sub(1),
                Ended::NoRoom => self.tight *= 2,
            }
        }
        COUNTS.spills.fetch_add(u64::from(self.puts.load(Ordering::Relaxed) > 0), Ordering::Relaxed);
        let mut table = Table::of(&self.plan);
        for (_, batches) in std::mem::take(&mut *self.results.visible.lock().unwrap()) {
            COUNTS.epochs.fetch_add(1, Ordering::Relaxed);
            batches.iter().try_for_each(|batch| table.change(batch))?;
        }
        Ok(table.sorted())
    }

    /// Runs until the end, or until it dies.
    #[expect(clippy::disallowed_methods, reason = "it is aborted below")]
    async fn process(&mut self, lanes: u16, is_tight: bool, may_die: bool) -> Result<Ended, String> {
        let observed = Arc::new(Observed::default());
        let (control, controlled) = watch::channel(Control::Run);
        let nonces = Arc::clone(&self.nonces);
        let at_once = [0, 2, 1000][self.dice.below(3) as usize];
        let config = TaskConfig { at_once, ..self.config(lanes, is_tight) };
        let task = supervise(config, Arc::clone(&observed), controlled, move || u128::from(nonces.fetch_add(1, Ordering::Relaxed)));
        let mut task = tokio::spawn(task);
        let death = may_die.then(|| Instant::now() + Duration::from_millis(self.dice.below(1500)));
        let is_closed = self.dice.below(3) == 0;
        let deadline = Instant::now() + DEADLINE;
        loop {
            tokio::select! {
                biased;
                ended = &mut task => return match ended {
                    Ok(TaskEnd::Finished) => Ok(Ended::Finished),
                    // A task that had just failed for want of memory has no last epoch.
                    Ok(TaskEnd::Released | TaskEnd::Abandoned) if is_closed => Ok(Ended::Gone),
                    other => Err(format!("the task has ended: {other:?}")),
                },
                () = sleep_until(death.unwrap_or(deadline)), if death.is_some() && *control.borrow() == Control::Run => {
                    if is_closed {
                        COUNTS.closes.fetch_add(1, Ordering::Relaxed);
                        control.send_replace(Control::Close);
                        continue;
                    }
                    COUNTS.kills.fetch_add(1, Ordering::Relaxed);
                    task.abort();
                    let _killed = task.await;
                    return Ok(Ended::Gone);
                }
                () = sleep(INTERVAL) => {}
            }
            let seen = observed.snapshot(&TaskRef::whole(), self.clock.now_millis());
            if let Some(trouble) = seen.troubles.first().filter(|_| seen.phase == TaskPhase::Failed) {
                task.abort();
                let _killed = task.await;
                let is_room = is_tight && trouble.message.contains("limits.maxStateBytes");
                return if is_room { Ok(Ended::NoRoom) } else { Err(format!("the task has failed: {}", trouble.message)) };
            }
            if Instant::now() >= deadline {
                task.abort();
                return Err(format!("no end; the task is {seen:?}"));
            }
        }
    }

    fn config(&self, lanes: u16, is_tight: bool) -> TaskConfig {
        let input = |index: usize| InputBinding {
            name: INPUTS[index].to_owned(),
            source: Arc::new(TableSource { input: Arc::clone(&self.input), index }),
            source_name: INPUTS[index].to_owned(),
            event_time: Some("ts".to_owned()),
            max_delay: Duration::from_micros(MAX_DELAY.unsigned_abs()),
            splits: Splits::One("0".to_owned()),
        };
        TaskConfig {
            pipeline_uid: "uid".to_owned(),
            pipeline: "oracle".to_owned(),
            task: TaskRef::whole(),
            inputs: (0..INPUTS.len()).map(input).collect(),
            plan: Arc::clone(&self.plan),
            stage: Stage::All,
            outputs: vec![OutputBinding {
                name: "out".to_owned(),
                sink: Arc::new(EpochSink(Arc::clone(&self.results))),
                sink_name: "out".to_owned(),
                dead_letter: None,
            }],
            dead_letters: Vec::new(),
            on_poison: OnPoison::Fail,
            envelopes: Arc::new(NoEnvelopes),
            store: Arc::clone(&self.store),
            base: Path::from("checkpoints"),
            clock: Arc::<VirtualClock>::clone(&self.clock),
            interval: INTERVAL,
            retained: 2,
            in_flight_bytes: 1 << 20,
            lanes,
            at_once: 0,
            state_bytes: if is_tight { self.tight } else { ROOM },
            // Nobody reads what a process that has died had there.
            spill: Some(Arc::new(SpillSpace::new(Box::new(Disk { files: Mutex::default(), puts: Arc::clone(&self.puts) }), 1 << 30))),
            may_drop_state: false,
            // Virtual time goes on while lanes work: no input is idle.
            idle_timeout: DEADLINE,
            drain_budget: DEADLINE,
        }
    }
}

/// The two tables as they are read.
struct Input {
    tables: [RecordBatch; 2],
    /// Rows in one delivery.
    rows: usize,
    /// Time between two deliveries.
    pace: Duration,
}

struct TableSource {
    input: Arc<Input>,
    index: usize,
}

#[async_trait]
impl Source for TableSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn distribution(&self) -> Distribution {
        Distribution::Partitioned
    }

    async fn splits(&self, _: &Shared) -> Result<Vec<String>, ConnectorError> {
        Ok(vec!["0".to_owned()])
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        sleep(ACCESS).await;
        let columns: Vec<usize> = open.projection.iter().map(|column| schema().index_of(column).unwrap()).collect();
        let table = self.input.tables[self.index].project(&columns).unwrap();
        let next = open.position.map_or(0, |position| usize::try_from(position.as_u64().unwrap()).unwrap());
        let origin = Origin::new(INPUTS[self.index], INPUTS[self.index]);
        Ok(Box::new(TableReader { input: Arc::clone(&self.input), table, origin, next, ready: Instant::now(), is_draining: false }))
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

struct TableReader {
    input: Arc<Input>,
    table: RecordBatch,
    origin: Origin,
    next: usize,
    ready: Instant,
    is_draining: bool,
}

#[async_trait]
impl SplitReader for TableReader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let rows = self.input.rows.min(self.table.num_rows() - self.next);
        if self.is_draining || rows == 0 {
            return Ok(SourceEvent::End);
        }
        sleep_until(self.ready).await;
        self.ready = Instant::now() + self.input.pace;
        let ordinals = UInt64Array::from_iter_values(self.next as u64..(self.next + rows) as u64);
        let batch = Batch::new(self.table.slice(self.next, rows), self.origin.clone(), ordinals);
        self.next += rows;
        Ok(SourceEvent::Records(Records { batch: Some(batch), rejected: Vec::new(), bytes: 1 }))
    }

    fn position(&self) -> Value {
        json!(self.next)
    }

    async fn acknowledge(&mut self, _: &Value) -> Result<(), ConnectorError> {
        sleep(ACCESS).await;
        Ok(())
    }

    fn drain(&mut self) {
        self.is_draining = true;
    }

    fn lag(&self) -> Lag {
        let waiting = (self.table.num_rows() - self.next) as u64;
        Lag { records: Some(waiting), seconds: None, idle: waiting == 0 }
    }

    async fn close(&mut self) {}
}

/// What was prepared, and what was committed, by epoch.
#[derive(Default)]
struct Results {
    staged: Mutex<BTreeMap<String, Vec<Batch>>>,
    visible: Mutex<BTreeMap<u64, Vec<Batch>>>,
}

struct EpochSink(Arc<Results>);

#[async_trait]
impl Sink for EpochSink {
    fn accepts(&self, _: &SchemaRef, _: Option<&str>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn accepts_changelog(&self, _: &Changelog) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (Guarantee::ExactlyOnce, "the test compares what was committed")
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        sleep(ACCESS).await;
        Ok(Box::new(EpochWriter { results: Arc::clone(&self.0), generation: open.writer.generation, batches: Vec::new() }))
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        sleep(ACCESS).await;
        for committable in commit.committables {
            let batches = self.0.staged.lock().unwrap().get(committable.as_str().unwrap()).cloned().unwrap();
            self.0.visible.lock().unwrap().entry(commit.epoch).or_insert(batches);
        }
        sleep(ACCESS).await;
        Ok(())
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

struct EpochWriter {
    results: Arc<Results>,
    generation: u64,
    batches: Vec<Batch>,
}

#[async_trait]
impl SinkWriter for EpochWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        self.batches.push(batch);
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        sleep(ACCESS).await;
        let batches = std::mem::take(&mut self.batches);
        if batches.is_empty() {
            return Ok(Prepared { committables: Vec::new(), rejected: Vec::new() });
        }
        let name = format!("{}/{epoch}", self.generation);
        self.results.staged.lock().unwrap().insert(name.clone(), batches);
        Ok(Prepared { committables: vec![json!(name)], rejected: Vec::new() })
    }

    async fn close(&mut self) {}
}

/// The disk of a process.
struct Disk {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    puts: Arc<AtomicU64>,
}

impl Tier for Disk {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        self.files.lock().unwrap().get(name).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }
}

/// No record is bad.
struct NoEnvelopes;

impl Envelopes for NoEnvelopes {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("error", DataType::Utf8, false)]))
    }

    fn encode(&self, rejected: &[Rejected], _: &str, _: &str, _: u64) -> Result<RecordBatch, String> {
        Err(format!("rejected: {rejected:?}"))
    }
}

#[derive(Debug)]
struct VirtualClock(Instant);

#[async_trait]
impl Clock for VirtualClock {
    fn now_millis(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}
