//! Everything that outlives processes, and the rules that it must never break. It runs no record itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use millrace_crds::pipeline::Step;
use millrace_crds::report::TaskRef;
use millrace_engine::batch::Rejected;
use millrace_engine::checkpoint::{Clock, EpochRecord, position_key};
use millrace_engine::plan::{InputChangelog, InputTable, Plan, Policy, compile};
use millrace_engine::runtime::{
    Control, DeadLetterBinding, Envelopes, InputBinding, Observed, OnPoison, OutputBinding, Snapshot, Splits, Stage, TaskConfig, TaskEnd,
    supervise,
};
use millrace_engine::sink::{Sink, WriterIdentity};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::process::{Fate, Process};
use crate::sink::{Ledger, LedgerSink};
use crate::source::{Kind, Script, ScriptedSource, schema};
use crate::store::{Chaos, WatchedStore};

/// Nothing takes longer than this, in the time of the test.
const DEADLINE: Duration = Duration::from_mins(40);

/// Which outputs there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// `main` gets every good record.
    One,
    /// `main` gets what a query leaves (it drops every fifth, and cannot evaluate every eleventh), `keyed` every good record.
    Two,
}

/// How a world is made.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) shape: Shape,
    pub(crate) rows: Vec<Kind>,
    pub(crate) bounded: bool,
    pub(crate) batch: usize,
    pub(crate) pace: Duration,
    pub(crate) body: usize,
    pub(crate) on_poison: OnPoison,
    pub(crate) dead_letter: bool,
    pub(crate) in_flight_bytes: usize,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Whether `main` writes in transactions.
    pub(crate) anchored: bool,
}

/// Time between epochs.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// How long closing may take.
pub(crate) const DRAIN_BUDGET: Duration = Duration::from_secs(25);

impl Setup {
    /// A bounded input of `rows` records, every seventh of them bad, for both outputs; two or three batches make an epoch.
    pub(crate) fn mixed(rows: u64) -> Self {
        Self {
            shape: Shape::Two,
            rows: (0..rows).map(|ordinal| if ordinal % 7 == 3 { Kind::Bad } else { Kind::Good }).collect(),
            bounded: true,
            batch: 4,
            pace: Duration::from_millis(400),
            body: 10,
            on_poison: OnPoison::DeadLetter,
            dead_letter: true,
            in_flight_bytes: 1 << 20,
            store: Arc::new(InMemory::new()),
            anchored: false,
        }
    }

    /// The same, where `main` writes in transactions.
    pub(crate) fn anchored(rows: u64) -> Self {
        Self { anchored: true, ..Self::mixed(rows) }
    }

    /// An input of good records that may get more, for one output.
    pub(crate) fn open_end(rows: usize) -> Self {
        Self { shape: Shape::One, rows: vec![Kind::Good; rows], bounded: false, ..Self::mixed(0) }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) script: Script,
    pub(crate) main: Ledger,
    pub(crate) keyed: Ledger,
    pub(crate) dead: Ledger,
    pub(crate) store: Arc<dyn ObjectStore>,
    store_down: AtomicBool,
    epochs: Mutex<BTreeMap<u64, EpochRecord>>,
    marks: Mutex<BTreeSet<u64>>,
    violations: Mutex<Vec<String>>,
    clock: Arc<TestClock>,
    nonces: Arc<AtomicU64>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Ended(TaskEnd),
    Crashed,
}

/// A process that was started.
pub(crate) struct Running {
    world: Arc<World>,
    pub(crate) process: Arc<Process>,
    pub(crate) observed: Arc<Observed>,
    pub(crate) control: watch::Sender<Control>,
    handle: JoinHandle<Outcome>,
}

/// What must be visible in the end.
#[derive(Debug, Default)]
struct Expected {
    main: Vec<u64>,
    keyed: Vec<u64>,
    dead: Vec<u64>,
    filtered: u64,
    dropped: u64,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            script: Script::new(setup.rows.clone(), setup.batch, setup.pace, setup.body, setup.bounded),
            main: Ledger::new("main", false).anchored(setup.anchored),
            keyed: Ledger::new("keyed", true),
            dead: Ledger::new("dead", false),
            store: Arc::clone(&setup.store),
            store_down: AtomicBool::new(false),
            epochs: Mutex::default(),
            marks: Mutex::default(),
            violations: Mutex::default(),
            clock: Arc::new(TestClock(Instant::now())),
            nonces: Arc::default(),
            setup,
        })
    }

    pub(crate) fn start(self: &Arc<Self>, fate: Fate) -> Running {
        self.start_with(fate, Control::Run, Chaos::none())
    }

    #[expect(clippy::disallowed_methods, reason = "`Running` owns the handle, and aborts it on drop")]
    pub(crate) fn start_with(self: &Arc<Self>, fate: Fate, first: Control, chaos: Chaos) -> Running {
        let process = Process::new(fate);
        let observed = Arc::new(Observed::default());
        let (control, receiver) = watch::channel(first);
        let (config, nonces) = (self.config(&process, chaos), Arc::clone(&self.nonces));
        let task = supervise(config, Arc::clone(&observed), receiver, move || u128::from(nonces.fetch_add(1, Ordering::Relaxed)));
        let dying = Arc::clone(&process);
        let handle = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = dying.crashed() => Outcome::Crashed,
                end = task => Outcome::Ended(end),
            }
        });
        Running { world: Arc::clone(self), process, observed, control, handle }
    }

    fn config(self: &Arc<Self>, process: &Arc<Process>, chaos: Chaos) -> TaskConfig {
        let sink = |ledger: fn(&World) -> &Ledger| -> Arc<dyn Sink> {
            Arc::new(LedgerSink { world: Arc::clone(self), process: Arc::clone(process), ledger })
        };
        let output = |name: &str, ledger| OutputBinding {
            name: name.to_owned(),
            sink: sink(ledger),
            sink_name: name.to_owned(),
            dead_letter: self.setup.dead_letter.then_some(0),
        };
        let mut outputs = vec![output("main", |world| &world.main)];
        if self.setup.shape == Shape::Two {
            outputs.push(output("keyed", |world| &world.keyed));
        }
        TaskConfig {
            pipeline_uid: "uid".to_owned(),
            pipeline: "edge".to_owned(),
            task: task(),
            inputs: vec![InputBinding {
                name: "logs".to_owned(),
                source: Arc::new(ScriptedSource { world: Arc::clone(self), process: Arc::clone(process) }),
                source_name: "script".to_owned(),
                event_time: None,
                max_delay: Duration::ZERO,
                splits: Splits::One("0".to_owned()),
            }],
            plan: plan(self.setup.shape),
            stage: Stage::All,
            outputs,
            dead_letters: vec![DeadLetterBinding { sink: sink(|world| &world.dead), sink_name: "dead".to_owned() }],
            on_poison: self.setup.on_poison,
            envelopes: Arc::new(PlainEnvelopes),
            store: Arc::new(WatchedStore::new(Arc::clone(self), Arc::clone(process), chaos)),
            base: Path::from("checkpoints"),
            clock: Arc::<TestClock>::clone(&self.clock),
            interval: INTERVAL,
            retained: 2,
            in_flight_bytes: self.setup.in_flight_bytes,
            lanes: 1,
            at_once: 0,
            state_bytes: 1 << 20,
            spill: None,
            may_drop_state: false,
            idle_timeout: Duration::from_secs(30),
            drain_budget: DRAIN_BUDGET,
        }
    }

    /// What is reported of a task, also after its end.
    pub(crate) fn report(&self, observed: &Observed) -> Snapshot {
        observed.snapshot(&task(), self.clock.now_millis())
    }

    pub(crate) fn store_is_down(&self) -> bool {
        self.store_down.load(Ordering::Relaxed)
    }

    pub(crate) fn take_store_down(&self, down: bool) {
        self.store_down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn violated(&self, rule: String) {
        self.violations.lock().unwrap().push(rule);
    }

    /// An object exists now that did not before.
    pub(crate) fn was_stored(&self, path: &Path, bytes: &Bytes) {
        let Some((number, kind)) = path.filename().and_then(|name| name.split_once('.')) else { return };
        let Ok(number) = number.parse() else { return };
        match kind {
            "record" => {
                let record = EpochRecord::decode(bytes).unwrap();
                self.epochs.lock().unwrap().entry(number).or_insert(record);
            }
            _ => drop(self.marks.lock().unwrap().insert(number)),
        }
    }

    /// The epochs that were written, without those that only claim, and those that were gone back from.
    pub(crate) fn epochs(&self) -> Vec<EpochRecord> {
        let epochs = self.epochs.lock().unwrap();
        let mut last_generation = 0;
        let owners = epochs.values().filter(|record| std::mem::replace(&mut last_generation, record.generation.0) == record.generation.0);
        owners.filter(|record| !self.is_void(record)).cloned().collect()
    }

    /// Whether the epoch's transaction was aborted.
    fn is_void(&self, record: &EpochRecord) -> bool {
        record.sinks.get("main").is_some_and(|committables| self.main.has_aborted(committables))
    }

    /// A sink is told to commit an epoch: its transaction must have been committed before.
    pub(crate) fn check_anchored(&self, epoch: u64) {
        let epochs = self.epochs.lock().unwrap();
        let main = epochs.get(&epoch).and_then(|record| record.sinks.get("main"));
        if self.setup.anchored && main.is_some_and(|committables| !self.main.has_committed(committables)) {
            self.violated(format!("a sink commits epoch {epoch}, whose transaction is not committed"));
        }
    }

    /// Whether the store still has the record of an epoch.
    pub(crate) async fn has_record(&self, epoch: u64) -> bool {
        let objects: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        objects.iter().any(|object| object.location.as_ref().ends_with(&format!("/{epoch:020}.record")))
    }

    /// Upstream is told up to `position`: that much must be visible, and an epoch that says so durable and committed.
    pub(crate) fn check_acknowledged(&self, position: u64) {
        if position == 0 {
            return;
        }
        let epochs = self.epochs.lock().unwrap();
        let marks = self.marks.lock().unwrap();
        let covers = |record: &&EpochRecord| position_of(record) >= Some(position) && !self.is_void(record);
        let settled = |record: &EpochRecord| !record.has_committables() || marks.contains(&record.epoch.0);
        if !epochs.values().find(covers).is_some_and(settled) {
            self.violated(format!("{position} is acknowledged, but no durable and committed epoch reaches it"));
        }
        let expected = self.expected(position);
        for (ledger, rows) in [(&self.main, expected.main), (&self.keyed, expected.keyed), (&self.dead, expected.dead)] {
            let visible: BTreeSet<u64> = ledger.visible().into_iter().collect();
            let missing: Vec<u64> = rows.into_iter().filter(|row| !visible.contains(row)).collect();
            if !missing.is_empty() {
                self.violated(format!("{position} is acknowledged, but {} does not have {missing:?}", ledger.name));
            }
        }
    }

    /// A sink is told to commit: there must be a record that says just this.
    pub(crate) fn check_committed(&self, writer: &WriterIdentity, epoch: u64, committables: &[Value]) {
        let epochs = self.epochs.lock().unwrap();
        let agrees = |record: &EpochRecord| {
            record.generation.0 == writer.generation && record.sinks.get(&writer.output).is_some_and(|stored| stored == committables)
        };
        if !epochs.get(&epoch).is_some_and(agrees) {
            self.violated(format!("commit of {committables:?} by {writer:?} for epoch {epoch}, of which no record says so"));
        }
    }

    /// What must be visible of the records below `end`.
    fn expected(&self, end: u64) -> Expected {
        let rows = self.script.rows.lock().unwrap();
        let refused = self.main.refused();
        let mut expected = Expected::default();
        for (ordinal, kind) in (0..end).zip(rows.iter()) {
            let queried = self.setup.shape == Shape::Two;
            let mut bad = *kind == Kind::Bad;
            if !bad {
                if queried {
                    expected.keyed.push(ordinal);
                }
                if queried && ordinal % 5 == 0 {
                    expected.filtered += 1;
                } else if queried && ordinal % 11 == 0 || refused.contains(&ordinal) {
                    bad = true;
                } else {
                    expected.main.push(ordinal);
                }
            }
            match (bad, self.setup.on_poison) {
                (true, OnPoison::DeadLetter) => expected.dead.push(ordinal),
                (true, OnPoison::Drop) => expected.dropped += 1,
                _ => {}
            }
        }
        expected
    }

    /// Nothing has been violated so far.
    pub(crate) fn verify_rules(&self, context: &str) {
        let violations = self.violations.lock().unwrap();
        assert!(violations.is_empty(), "{context}: {violations:#?}");
    }

    /// Everything has arrived once and is accounted for, and no rule was broken on the way.
    pub(crate) fn verify(&self, context: &str) {
        self.verify_rules(context);
        let rows = self.script.len();
        let expected = self.expected(rows);
        assert_eq!(self.main.visible(), expected.main, "{context}: main");
        assert_eq!(self.keyed.visible(), expected.keyed, "{context}: keyed");
        assert_eq!(self.dead.visible(), expected.dead, "{context}: dead letters");

        let mut sums = BTreeMap::new();
        for record in self.epochs() {
            let count = |name: &str| record.counters.get(name).copied().unwrap_or(0);
            let accounted = count("out.main") + count("filtered.main") + count("deadLettered") + count("dropped");
            assert_eq!(count("in"), accounted, "{context}: epoch {} has {:?}", record.epoch, record.counters);
            for (name, count) in &record.counters {
                *sums.entry(name.clone()).or_insert(0) += count;
            }
        }
        let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
        assert_eq!(sum("in"), rows, "{context}: {sums:?}");
        assert_eq!(sum("filtered.main"), expected.filtered, "{context}: {sums:?}");
        assert_eq!(sum("out.main"), expected.main.len() as u64, "{context}: {sums:?}");
        assert_eq!(sum("out.keyed"), expected.keyed.len() as u64, "{context}: {sums:?}");
        assert_eq!(sum("deadLettered"), expected.dead.len() as u64, "{context}: {sums:?}");
        assert_eq!(sum("dropped"), expected.dropped, "{context}: {sums:?}");

        let epochs = self.epochs.lock().unwrap();
        assert_eq!(epochs.values().next_back().and_then(position_of), Some(rows), "{context}: the last epoch's position");
    }
}

fn task() -> TaskRef {
    TaskRef { input: "logs".to_owned(), split: "0".to_owned() }
}

fn position_of(record: &EpochRecord) -> Option<u64> {
    record.positions.get(&position_key("logs", "0"))?.as_u64()
}

impl Running {
    /// How it ends.
    pub(crate) async fn outcome(mut self) -> Outcome {
        let ended = tokio::time::timeout(DEADLINE, &mut self.handle).await;
        ended.unwrap_or_else(|_| panic!("no end after {DEADLINE:?}; the last steps: {:?}", self.last_steps())).unwrap()
    }

    /// How it ends, being no process that crashes.
    pub(crate) async fn end(self) -> TaskEnd {
        match self.outcome().await {
            Outcome::Ended(end) => end,
            Outcome::Crashed => panic!("the process was not meant to crash"),
        }
    }

    pub(crate) fn tell(&self, control: Control) {
        self.control.send_replace(control);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.world.report(&self.observed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.handle.is_finished()
    }

    fn last_steps(&self) -> Vec<String> {
        let steps = self.process.steps();
        steps[steps.len().saturating_sub(12)..].to_vec()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

fn plan(shape: Shape) -> Arc<Plan> {
    static ONE: OnceLock<Arc<Plan>> = OnceLock::new();
    static TWO: OnceLock<Arc<Plan>> = OnceLock::new();
    let kept = "SELECT id, body, 60 / (id % 11) AS share FROM logs WHERE id % 5 <> 0";
    let (cell, outputs): (_, &[(&str, &str)]) = match shape {
        Shape::One => (&ONE, &[("main", "logs")]),
        Shape::Two => (&TWO, &[("main", "kept"), ("keyed", "logs")]),
    };
    let plan = cell.get_or_init(|| {
        let steps = [Step { name: "kept".to_owned(), sql: kept.to_owned() }];
        let outputs: Vec<_> = outputs.iter().map(|(name, from)| ((*name).to_owned(), (*from).to_owned())).collect();
        Arc::new(
            compile(
                &steps,
                &[InputTable { name: "logs".to_owned(), schema: schema(), event_time: None, changelog: InputChangelog::Append }],
                &outputs,
                &Policy::default(),
            )
            .unwrap(),
        )
    });
    Arc::clone(plan)
}

struct PlainEnvelopes;

impl Envelopes for PlainEnvelopes {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("ordinal", DataType::UInt64, false), Field::new("code", DataType::Utf8, false)]))
    }

    fn encode(&self, rejected: &[Rejected], _: &str, _: &str, _: u64) -> Result<RecordBatch, String> {
        let ordinals: ArrayRef = Arc::new(rejected.iter().map(|record| record.ordinal).collect::<UInt64Array>());
        let codes: ArrayRef = Arc::new(rejected.iter().map(|record| Some(record.code.as_str())).collect::<StringArray>());
        RecordBatch::try_new(self.schema(), vec![ordinals, codes]).map_err(|error| error.to_string())
    }
}

/// The paused time of the test, as if it had begun in 2023.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) Instant);

#[async_trait]
impl Clock for TestClock {
    fn now_millis(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
