//! A Pipeline that counts rows per window of ten seconds and key, and everything that outlives its processes.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_crds::pipeline::Step;
use millrace_crds::report::{TaskPhase, TaskRef, Trouble};
use millrace_engine::batch::Rejected;
use millrace_engine::checkpoint::{Clock, EpochRecord};
use millrace_engine::plan::{InputChangelog, InputTable, Plan, Policy, compile};
use millrace_engine::runtime::{
    Control, DeadLetterBinding, Envelopes, InputBinding, Observed, OnPoison, OutputBinding, Snapshot, SpillSpace, Splits as Which, Stage,
    TaskConfig, TaskEnd, supervise,
};
use object_store::path::Path;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::results::{ResultSink, Results};
use super::splits::{Row, SplitSource, Splits, schema};
use crate::process::{Fate, Process};
use crate::store::{Chaos, WatchedStore};
use crate::world::{DRAIN_BUDGET, INTERVAL, Outcome, Setup, TestClock, World, until};

/// By how much rows may come late.
pub(super) const DELAY: Duration = Duration::from_secs(5);
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// What it computes.
pub(super) const COUNT: &str = "SELECT window_start, k, count(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECONDS)) \
                                GROUP BY window_start, window_end, k";

/// The same over both splits, each as an input of its own, window by window side by side. Each is united with nothing, so that time goes two ways.
const JOINED: [(&str, &str); 5] = [
    ("e", "SELECT ts, k FROM events UNION ALL SELECT ts, k FROM events WHERE k = 'none'"),
    ("o", "SELECT ts, k FROM others UNION ALL SELECT ts, k FROM others WHERE k = 'none'"),
    (
        "x",
        "SELECT window_start, window_end, k, count(*) AS n FROM TABLE(TUMBLE(TABLE e, DESCRIPTOR(ts), INTERVAL '10' SECONDS)) \
         GROUP BY window_start, window_end, k",
    ),
    (
        "y",
        "SELECT window_start, window_end, k, count(*) AS n FROM TABLE(TUMBLE(TABLE o, DESCRIPTOR(ts), INTERVAL '10' SECONDS)) \
         GROUP BY window_start, window_end, k",
    ),
    (
        "joined",
        "SELECT x.window_start, x.k, x.n + y.n AS n FROM x JOIN y ON x.window_start = y.window_start AND x.window_end = y.window_end AND x.k = y.k",
    ),
];

/// Everything that outlives processes.
pub(super) struct Scene {
    /// Its store, and what it notices of records.
    world: Arc<World>,
    pub(super) splits: Arc<Splits>,
    pub(super) results: Arc<Results>,
    pub(super) dead: Arc<Mutex<Vec<(u64, String)>>>,
    pub(super) step: Mutex<Step>,
    pub(super) task: Mutex<TaskRef>,
    /// Whether the splits are two inputs that are joined.
    pub(super) joined: bool,
    pub(super) lanes: AtomicU16,
    pub(super) state_bytes: usize,
    /// Where state goes that has no room in memory.
    pub(super) spill: Option<Arc<SpillSpace>>,
    pub(super) may_drop_state: bool,
    clock: Arc<TestClock>,
    nonces: Arc<AtomicU64>,
}

/// A process that was started.
pub(super) struct Running {
    pub(super) process: Arc<Process>,
    observed: Arc<Observed>,
    control: watch::Sender<Control>,
    handle: JoinHandle<Outcome>,
    clock: Arc<TestClock>,
    task: TaskRef,
}

impl Scene {
    pub(super) fn new(rows: Vec<Vec<Row>>, bounded: bool) -> Self {
        Self::of(Splits::new(rows, bounded))
    }

    pub(super) fn of(splits: Splits) -> Self {
        Self {
            world: World::new(Setup::open_end(0)),
            splits: Arc::new(splits),
            results: Arc::default(),
            dead: Arc::default(),
            step: Mutex::new(Step { name: "counts".to_owned(), sql: COUNT.to_owned() }),
            task: Mutex::new(TaskRef::whole()),
            joined: false,
            lanes: AtomicU16::new(1),
            state_bytes: 1 << 20,
            spill: None,
            may_drop_state: false,
            clock: Arc::new(TestClock(Instant::now())),
            nonces: Arc::default(),
        }
    }

    /// Two splits whose rows are out of order by less than [`DELAY`], over some minutes.
    pub(super) fn two_splits() -> Self {
        Self::new(rows(), true)
    }

    /// Starts the task of one split.
    pub(super) fn start_split(&self, split: usize, fate: Fate) -> Running {
        *self.task.lock().unwrap() = TaskRef { input: "events".to_owned(), split: split.to_string() };
        self.start(fate)
    }

    /// Starts the task of all splits, in so many lanes.
    pub(super) fn start_in_lanes(&self, lanes: u16, fate: Fate) -> Running {
        self.lanes.store(lanes, Ordering::Relaxed);
        self.start(fate)
    }

    pub(super) fn store(&self) -> Arc<dyn object_store::ObjectStore> {
        Arc::clone(&self.world.store)
    }

    /// The epochs that were written, without claims.
    pub(super) fn epochs(&self) -> Vec<EpochRecord> {
        self.world.epochs()
    }

    #[expect(clippy::disallowed_methods, reason = "`Running` owns the handle, and aborts it on drop")]
    pub(super) fn start(&self, fate: Fate) -> Running {
        let process = Process::new(fate);
        let observed = Arc::new(Observed::default());
        let (control, receiver) = watch::channel(Control::Run);
        let nonces = Arc::clone(&self.nonces);
        let task =
            supervise(self.config(&process), Arc::clone(&observed), receiver, move || u128::from(nonces.fetch_add(1, Ordering::Relaxed)));
        let dying = Arc::clone(&process);
        let handle = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = dying.crashed() => Outcome::Crashed,
                end = task => Outcome::Ended(end),
            }
        });
        let task = self.task.lock().unwrap().clone();
        Running { process, observed, control, handle, clock: Arc::clone(&self.clock), task }
    }

    pub(super) fn config(&self, process: &Arc<Process>) -> TaskConfig {
        let task = self.task.lock().unwrap().clone();
        let sink = |results: &Arc<Results>| Arc::new(ResultSink { results: Arc::clone(results), process: Arc::clone(process) });
        let which = if task.is_whole() { Which::All } else { Which::One(task.split.clone()) };
        let input = |name: &str, splits: Which| InputBinding {
            name: name.to_owned(),
            source: Arc::new(SplitSource { splits: Arc::clone(&self.splits), process: Arc::clone(process) }),
            source_name: name.to_owned(),
            event_time: Some("ts".to_owned()),
            max_delay: DELAY,
            splits,
        };
        let inputs = if self.joined {
            vec![input("events", Which::One("0".to_owned())), input("others", Which::One("1".to_owned()))]
        } else {
            vec![input("events", which)]
        };
        TaskConfig {
            pipeline_uid: "uid".to_owned(),
            pipeline: "edge".to_owned(),
            task,
            inputs,
            plan: self.plan(),
            stage: Stage::All,
            outputs: vec![OutputBinding {
                name: "out".to_owned(),
                sink: sink(&self.results),
                sink_name: "out".to_owned(),
                dead_letter: Some(0),
            }],
            dead_letters: vec![DeadLetterBinding { sink: sink(&Arc::default()), sink_name: "dead".to_owned() }],
            on_poison: OnPoison::DeadLetter,
            envelopes: Arc::new(Noted(Arc::clone(&self.dead))),
            store: Arc::new(WatchedStore::new(Arc::clone(&self.world), Arc::clone(process), Chaos::none())),
            base: Path::from("checkpoints"),
            clock: Arc::<TestClock>::clone(&self.clock),
            interval: INTERVAL,
            retained: 2,
            in_flight_bytes: 1 << 20,
            lanes: self.lanes.load(Ordering::Relaxed),
            at_once: 1,
            state_bytes: self.state_bytes,
            spill: self.spill.clone(),
            may_drop_state: self.may_drop_state,
            idle_timeout: IDLE,
            drain_budget: DRAIN_BUDGET,
        }
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        let input = |name: &str| InputTable {
            name: name.to_owned(),
            schema: schema(),
            event_time: Some("ts".to_owned()),
            changelog: InputChangelog::Append,
        };
        let step = |(name, sql): (&str, &str)| Step { name: name.to_owned(), sql: sql.to_owned() };
        let (steps, inputs) = if self.joined {
            (JOINED.map(step).to_vec(), vec![input("events"), input("others")])
        } else {
            (vec![self.step.lock().unwrap().clone()], vec![input("events")])
        };
        let outputs = [("out".to_owned(), steps.last().unwrap().name.clone())];
        Arc::new(compile(&steps, &inputs, &outputs, &Policy::default()).unwrap())
    }
}

/// Keys and times of two splits.
pub(super) fn rows() -> Vec<Vec<Row>> {
    const KEYS: [&str; 3] = ["a", "b", "c"];
    let row = |split: i64, number: i64| {
        let key = KEYS[usize::try_from((number * 5 + split) % 3).unwrap()];
        (Some(number * 4 + split + number * 7 % 5), key)
    };
    (0..2).map(|split| (0..32).map(|number| row(split, number)).collect()).collect()
}

/// What must have come out of rows: one line for each window and key.
pub(super) fn counted(rows: &[Vec<Row>]) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::new();
    for (time, key) in rows.iter().flatten() {
        if let Some(time) = time {
            *counts.entry((time / 10 * 10, *key)).or_insert(0) += 1;
        }
    }
    let line = |((start, key), n): ((i64, &str), i32)| {
        format!(r#"{{"window_start":"1970-01-01T00:{:02}:{:02}","k":"{key}","n":{n}}}"#, start / 60, start % 60)
    };
    let mut lines: Vec<String> = counts.into_iter().map(line).collect();
    lines.sort();
    lines
}

impl Running {
    pub(super) async fn outcome(mut self) -> Outcome {
        let Ok(ended) = tokio::time::timeout(Duration::from_mins(40), &mut self.handle).await else {
            let steps = self.process.steps();
            panic!("no end; the last steps: {:?}; the task: {:?}", &steps[steps.len().saturating_sub(9)..], self.snapshot());
        };
        ended.unwrap()
    }

    pub(super) async fn end(self) -> TaskEnd {
        match self.outcome().await {
            Outcome::Ended(end) => end,
            Outcome::Crashed => panic!("the process was not meant to crash"),
        }
    }

    pub(super) fn tell(&self, control: Control) {
        self.control.send_replace(control);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.observed.snapshot(&self.task, self.clock.now_millis())
    }

    /// The one trouble of a task that has failed.
    pub(super) async fn trouble(&self) -> Trouble {
        until("it has failed", || self.snapshot().phase == TaskPhase::Failed).await;
        let mut troubles = self.snapshot().troubles;
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        troubles.remove(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Envelopes that are noted down: ordinal and error.
struct Noted(Arc<Mutex<Vec<(u64, String)>>>);

impl Envelopes for Noted {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("ordinal", DataType::UInt64, false), Field::new("error", DataType::Utf8, false)]))
    }

    fn encode(&self, rejected: &[Rejected], _: &str, _: &str, _: u64) -> Result<RecordBatch, String> {
        self.0.lock().unwrap().extend(rejected.iter().map(|record| (record.ordinal, record.error.clone())));
        let ordinals: ArrayRef = Arc::new(rejected.iter().map(|record| record.ordinal).collect::<UInt64Array>());
        let errors: ArrayRef = Arc::new(rejected.iter().map(|record| Some(record.error.as_str())).collect::<StringArray>());
        RecordBatch::try_new(self.schema(), vec![ordinals, errors]).map_err(|error| error.to_string())
    }
}
