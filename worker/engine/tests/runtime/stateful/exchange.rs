//! The same Pipeline in two stages: a task for each split in front of an exchange, a task for each of its partitions behind it, in two processes. What comes
//! out is what one task gives, coordinates and all, whatever crashes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{Distribution, ProbeResult, TaskRef};
use millrace_engine::batch::Batch;
use millrace_engine::connector::ConnectorError;
use millrace_engine::exchange::{Acceptance, Coverage, UpTo, Verdict};
use millrace_engine::plan::stages::{Exchange, partition_rows};
use millrace_engine::runtime::{
    BackStage, Control, EXCHANGE_WRITER, FrontStage, InputBinding, Observed, OutputBinding, SpillSpace, Splits as Which, Stage, TaskConfig,
    TaskEnd, supervise,
};
use millrace_engine::sink::{Commit, OpenSink, Prepared, Sink, SinkWriter, WriterIdentity};
use millrace_engine::source::{Lag, OpenSplit, Records, Shared, Source, SourceEvent, SplitReader};
use millrace_engine::time::Time;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::scene::{DELAY, IDLE, Scene, counted, rows};
use super::spilled::{InMemory, rows as many_keys, with_room};
use super::splits::Row;
use crate::process::{Dice, Fate, Process};

const PARTITIONS: u16 = 2;

/// What a producer has written.
#[derive(Clone, Debug)]
enum Said {
    Opening,
    Rows(Vec<Batch>),
    Time(Time),
}

#[derive(Clone, Debug)]
struct Message {
    producer: String,
    generation: u64,
    number: u64,
    up_to: UpTo,
    said: Said,
}

/// A channel and its partition.
type Place = (usize, u16);

/// Messages by channel and partition.
type Partitions = BTreeMap<Place, Vec<Message>>;

/// An exchange in memory. Outlives every process.
#[derive(Debug, Default)]
struct Log {
    books: Mutex<Books>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Books {
    written: Partitions,
    /// On their way, in order; what is there when a process dies arrives later.
    aloft: Partitions,
}

impl Log {
    fn send(&self, place: Place, message: Message) {
        let mut books = self.books.lock().unwrap();
        let aloft = books.aloft.entry(place).or_default();
        aloft.push(message);
        // The last ones are on their way for a while.
        let arrived: Vec<_> = aloft.drain(..aloft.len().saturating_sub(2)).collect();
        books.written.entry(place).or_default().extend(arrived);
        drop(books);
        self.changes.send_replace(());
    }

    /// What is on its way from a producer to a partition arrives, but for so many.
    fn arrive(&self, place: Place, producer: &str, generation: u64, rest: usize) {
        let mut books = self.books.lock().unwrap();
        let Some(aloft) = books.aloft.get_mut(&place) else { return };
        let mine = aloft.iter().filter(|message| message.producer == producer && message.generation <= generation).count();
        let (mut left, mut arrived) = (mine.saturating_sub(rest), Vec::new());
        aloft.retain(|message| {
            let arrives = left > 0 && message.producer == producer && message.generation <= generation;
            if arrives {
                left -= 1;
                arrived.push(message.clone());
            }
            !arrives
        });
        books.written.entry(place).or_default().extend(arrived);
        drop(books);
        self.changes.send_replace(());
    }
}

/// Of each partition: the number of the last message, and a place that is not behind it.
type Ends = BTreeMap<String, (u64, usize)>;

fn end_of(place: Place) -> String {
    format!("{}/{}", place.0, place.1)
}

struct LogSink {
    log: Arc<Log>,
    exchange: Exchange,
    process: Arc<Process>,
}

#[async_trait]
impl Sink for LogSink {
    fn accepts(&self, _: &SchemaRef, _: Option<&str>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (Guarantee::ExactlyOnce, "the test compares what comes out behind it")
    }

    async fn open(&self, _: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        panic!("it is an exchange")
    }

    async fn open_exchange(&self, open: OpenSink, place: Option<&Value>) -> Result<(Box<dyn SinkWriter>, Coverage), ConnectorError> {
        let (before, ends): (u64, Ends) = place.map_or_else(Default::default, |place| serde_json::from_value(place.clone()).unwrap());
        let (producer, generation) = (open.writer.task.clone(), open.writer.generation);
        let channels = self.exchange.channels().len();
        let places: Vec<Place> = (0..channels).flat_map(|channel| (0..PARTITIONS).map(move |partition| (channel, partition))).collect();
        let mut coverage = Coverage::new(channels, PARTITIONS);
        for place in &places {
            self.process.step("exchange: open: marker").await;
            // Of what a dead process had on its way, one message arrives too late, and counts no more.
            self.log.arrive(*place, &producer, generation - 1, 1);
            let mut books = self.log.books.lock().unwrap();
            let written = books.written.entry(*place).or_default();
            let (number, from) = ends.get(&end_of(*place)).copied().unwrap_or_default();
            let mut acceptance = Acceptance::after(before, number);
            for message in written.iter().skip(from).filter(|message| message.producer == producer) {
                if acceptance.judge(message.generation, message.number) == Verdict::Taken {
                    coverage.add(place.0, place.1, &message.up_to);
                }
            }
            written.push(Message { producer: producer.clone(), generation, number: 0, up_to: UpTo::new(), said: Said::Opening });
            drop(books);
            self.log.arrive(*place, &producer, generation - 1, 0);
        }
        self.process.step("exchange: open: after").await;
        let (log, exchange, process) = (Arc::clone(&self.log), self.exchange.clone(), Arc::clone(&self.process));
        let writer = LogWriter { log, exchange, process, identity: open.writer, groups: BTreeMap::new(), numbers: BTreeMap::new(), places };
        Ok((Box::new(writer), coverage))
    }

    async fn commit(&self, _: Commit<'_>) -> Result<(), ConnectorError> {
        panic!("there is nothing to commit")
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

struct LogWriter {
    log: Arc<Log>,
    exchange: Exchange,
    process: Arc<Process>,
    identity: WriterIdentity,
    groups: BTreeMap<Place, Vec<Batch>>,
    numbers: BTreeMap<Place, u64>,
    places: Vec<Place>,
}

impl LogWriter {
    async fn send(&mut self, place: Place, up_to: UpTo, said: Said) {
        self.process.step("exchange: send").await;
        let number = self.numbers.entry(place).or_default();
        *number += 1;
        let (producer, generation, number) = (self.identity.task.clone(), self.identity.generation, *number);
        self.log.send(place, Message { producer, generation, number, up_to, said });
    }
}

#[async_trait]
impl SinkWriter for LogWriter {
    async fn write(&mut self, _: Batch) -> Result<(), ConnectorError> {
        panic!("an exchange has channels")
    }

    async fn write_to(&mut self, channel: usize, batch: Batch) -> Result<(), ConnectorError> {
        self.process.step("exchange: write").await;
        let key = &self.exchange.channels()[channel].key;
        for (partition, part) in partition_rows(&batch, key, PARTITIONS).unwrap() {
            self.groups.entry((channel, partition)).or_default().push(part);
        }
        Ok(())
    }

    async fn up_to(&mut self, channel: usize, up_to: UpTo) -> Result<(), ConnectorError> {
        for place in self.places.clone().into_iter().filter(|place| place.0 == channel) {
            if let Some(batches) = self.groups.remove(&place) {
                self.send(place, up_to.clone(), Said::Rows(batches)).await;
            }
        }
        Ok(())
    }

    async fn time(&mut self, channel: usize, time: Time) -> Result<(), ConnectorError> {
        assert!(self.groups.keys().all(|place| place.0 != channel), "time is told between rows that belong together");
        for place in self.places.clone().into_iter().filter(|place| place.0 == channel) {
            self.send(place, UpTo::new(), Said::Time(time)).await;
        }
        Ok(())
    }

    async fn prepare(&mut self, _epoch: u64) -> Result<Prepared, ConnectorError> {
        self.process.step("exchange: prepare: before").await;
        assert!(self.groups.is_empty(), "an epoch ends between rows that belong together");
        let mut ends = Ends::new();
        for place in &self.places {
            self.log.arrive(*place, &self.identity.task, self.identity.generation, 0);
            let written = self.log.books.lock().unwrap().written[place].len();
            ends.insert(end_of(*place), (self.numbers.get(place).copied().unwrap_or_default(), written.saturating_sub(1)));
        }
        self.process.step("exchange: prepare: after").await;
        Ok(Prepared { committables: vec![json!((self.identity.generation, ends))], rejected: Vec::new() })
    }

    async fn close(&mut self) {}
}

struct LogSource {
    log: Arc<Log>,
    channel: usize,
    schema: SchemaRef,
    /// Tasks of the splits.
    producers: Vec<String>,
    process: Arc<Process>,
}

#[async_trait]
impl Source for LogSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Partitioned
    }

    fn carries_time(&self) -> bool {
        true
    }

    async fn splits(&self, _: &Shared) -> Result<Vec<String>, ConnectorError> {
        Ok((0..PARTITIONS).map(|partition| partition.to_string()).collect())
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        self.process.step("exchange: read: open").await;
        let mut reader = LogReader {
            log: Arc::clone(&self.log),
            place: (self.channel, open.split.parse().unwrap()),
            producers: self.producers.iter().map(|producer| (producer.clone(), Known::default())).collect(),
            process: Arc::clone(&self.process),
            next: 0,
            batches: VecDeque::new(),
            told: None,
        };
        // What was read before is read again for the times in it.
        let (next, left): (u64, usize) = open.position.map_or_else(Default::default, |position| serde_json::from_value(position).unwrap());
        while reader.next < next {
            reader.batches.clear();
            reader.take().unwrap();
        }
        while reader.batches.len() > left {
            reader.batches.pop_front();
        }
        Ok(Box::new(reader))
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

#[derive(Debug, Default)]
struct Known {
    acceptance: Acceptance,
    watermark: Option<i64>,
    idle: bool,
    ended: bool,
}

struct LogReader {
    log: Arc<Log>,
    place: Place,
    producers: BTreeMap<String, Known>,
    process: Arc<Process>,
    next: u64,
    /// Of the message before.
    batches: VecDeque<Batch>,
    told: Option<Time>,
}

impl LogReader {
    /// Takes the next message, if there is one.
    fn take(&mut self) -> Option<()> {
        let Message { producer, generation, number, said, .. } =
            self.log.books.lock().unwrap().written.get(&self.place)?.get(usize::try_from(self.next).unwrap())?.clone();
        self.next += 1;
        let known = self.producers.get_mut(&producer).unwrap();
        match known.acceptance.judge(generation, number) {
            Verdict::Taken | Verdict::Opened => {}
            Verdict::Zombie => return Some(()),
            verdict @ (Verdict::Again | Verdict::Hole) => panic!("{verdict:?}: {generation}, {number} of {producer}"),
        }
        match said {
            Said::Opening => (known.idle, known.ended) = (false, false),
            Said::Rows(batches) => {
                (known.idle, known.ended) = (false, false);
                self.batches = batches.into();
            }
            Said::Time(Time::Watermark(watermark)) => (known.watermark, known.idle) = (known.watermark.max(Some(watermark)), false),
            Said::Time(Time::Idle) => known.idle = true,
            Said::Time(Time::End) => known.ended = true,
        }
        Some(())
    }

    fn merged(&self) -> Option<Time> {
        let mut merged = Time::End;
        for known in self.producers.values() {
            merged = match merged {
                _ if known.ended => merged,
                Time::End | Time::Idle if known.idle => Time::Idle,
                Time::Watermark(_) if known.idle => merged,
                Time::Watermark(other) => Time::Watermark(known.watermark?.min(other)),
                Time::End | Time::Idle => Time::Watermark(known.watermark?),
            };
        }
        Some(merged)
    }
}

#[async_trait]
impl SplitReader for LogReader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        let mut changes = self.log.changes.subscribe();
        loop {
            if let Some(batch) = self.batches.pop_front() {
                return Ok(SourceEvent::Records(Records { batch: Some(batch), rejected: Vec::new(), bytes: 1 }));
            }
            if let Some(time) = self.merged().filter(|time| self.told != Some(*time)) {
                self.told = Some(time);
                return Ok(SourceEvent::Time(time));
            }
            self.process.step("exchange: read").await;
            if self.take().is_none() {
                drop(changes.changed().await);
            }
        }
    }

    fn position(&self) -> Value {
        json!((self.next, self.batches.len()))
    }

    async fn acknowledge(&mut self, _: &Value) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn drain(&mut self) {}

    fn lag(&self) -> Lag {
        Lag::default()
    }

    async fn close(&mut self) {}
}

/// Two processes, each with a task of either stage.
struct Pair {
    scene: Scene,
    log: Arc<Log>,
    exchange: Exchange,
    nonces: Arc<AtomicU64>,
}

/// What goes through the exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Through {
    Rows,
    Partials,
}

impl Pair {
    fn new(rows: Vec<Vec<Row>>, bounded: bool, through: Through) -> Self {
        let scene = Scene::new(rows, bounded);
        let exchange = scene.plan().exchange().unwrap();
        let exchange = if through == Through::Partials { exchange.condensed() } else { exchange };
        assert_eq!(exchange.channels().len(), 1);
        assert_eq!(exchange.partial(0).is_ok(), through == Through::Partials);
        Self { scene, log: Arc::default(), exchange, nonces: Arc::default() }
    }

    /// Rows that have gone through the exchange.
    fn rows_through(&self) -> usize {
        let books = self.log.books.lock().unwrap();
        let said = books.written.values().flatten();
        said.map(|message| if let Said::Rows(batches) = &message.said { batches.iter().map(Batch::num_rows).sum() } else { 0 }).sum()
    }

    fn front(&self, process: &Arc<Process>, split: u16) -> TaskConfig {
        let sink = LogSink { log: Arc::clone(&self.log), exchange: self.exchange.clone(), process: Arc::clone(process) };
        let output =
            OutputBinding { name: EXCHANGE_WRITER.to_owned(), sink: Arc::new(sink), sink_name: "exchange".to_owned(), dead_letter: None };
        let mut config = self.scene.config(process);
        config.task = TaskRef { input: "events".to_owned(), split: split.to_string() };
        config.inputs[0].splits = Which::One(split.to_string());
        config.stage = Stage::Front(Arc::new(FrontStage { exchange: self.exchange.clone(), output }));
        config
    }

    fn back(&self, process: &Arc<Process>, partition: u16) -> TaskConfig {
        let task = |split: u16| TaskRef { input: "events".to_owned(), split: split.to_string() };
        let bind = |(channel, plan): (usize, &millrace_engine::plan::stages::Channel)| InputBinding {
            name: plan.name.clone(),
            source: Arc::new(LogSource {
                log: Arc::clone(&self.log),
                channel,
                schema: Arc::clone(&plan.schema),
                producers: (0..2).map(|split| TaskConfig::id_of(&task(split)).as_str().to_owned()).collect(),
                process: Arc::clone(process),
            }),
            source_name: "exchange".to_owned(),
            event_time: None,
            max_delay: Duration::ZERO,
            splits: Which::One(partition.to_string()),
        };
        let mut config = self.scene.config(process);
        config.task = TaskRef::exchange(partition.into());
        config.inputs = self.exchange.channels().iter().enumerate().map(bind).collect();
        config.stage = Stage::Back(Arc::new(BackStage { exchange: self.exchange.clone(), event_times: vec![None] }));
        config
    }

    /// Runs the tasks of a process to their end; false if it crashed.
    async fn run(&self, tasks: impl Fn(&Arc<Process>) -> Vec<TaskConfig>, fate: Fate) -> (bool, Arc<Process>) {
        let process = Process::new(fate);
        let (_control, receiver) = watch::channel(Control::Run);
        let mut running = JoinSet::new();
        for config in tasks(&process) {
            let nonces = Arc::clone(&self.nonces);
            let nonce = move || u128::from(nonces.fetch_add(1, Ordering::Relaxed));
            running.spawn(supervise(config, Arc::new(Observed::default()), receiver.clone(), nonce));
        }
        let ended = async {
            while let Some(end) = running.join_next().await {
                assert_eq!(end.unwrap(), TaskEnd::Finished);
            }
        };
        tokio::select! {
            biased;
            () = process.crashed() => (false, Arc::clone(&process)),
            ended = tokio::time::timeout(Duration::from_mins(40), ended) => {
                ended.unwrap_or_else(|_| panic!("no end; the last steps: {:?}", process.steps().into_iter().rev().take(9).collect::<Vec<_>>()));
                (true, Arc::clone(&process))
            }
        }
    }

    /// Runs both processes to their end, each again after it has crashed. The steps that the first one took in the end.
    async fn finish(&self, fates: [Fate; 2]) -> [usize; 2] {
        let one = async |place: u16| {
            let mut fate = fates[usize::from(place)];
            loop {
                let (ended, process) = self.run(|process| vec![self.front(process, place), self.back(process, 1 - place)], fate).await;
                if ended {
                    return process.steps().len();
                }
                // Once more soon after, while it still reads again what it has read.
                fate = match fate {
                    Fate::CrashAt(step) if step % 2 == 0 => Fate::CrashAt((step / 2) | 1),
                    _ => Fate::Live,
                };
            }
        };
        let (first, second) = futures::join!(one(0), one(1));
        [first, second]
    }
}

/// Each row twice, so that keys repeat within an epoch.
fn twice() -> Vec<Vec<Row>> {
    rows().into_iter().map(|rows| rows.into_iter().flat_map(|row| [row; 2]).collect()).collect()
}

/// What one task gives.
async fn whole() -> Vec<String> {
    let scene = Scene::new(twice(), true);
    assert_eq!(scene.start(Fate::Live).end().await, TaskEnd::Finished);
    scene.results.with_coordinates()
}

#[tokio::test(start_paused = true)]
async fn two_stages_give_what_one_task_gives() {
    let expected = whole().await;
    let mut through = Vec::new();
    for what in [Through::Rows, Through::Partials] {
        let pair = Pair::new(twice(), true, what);
        pair.finish([Fate::Live, Fate::Live]).await;
        assert_eq!(pair.scene.results.rows(), counted(&twice()), "{what:?}");
        assert_eq!(pair.scene.results.with_coordinates(), expected, "{what:?}");
        through.push(pair.rows_through());
    }
    assert_eq!(through[0], twice().iter().map(Vec::len).sum::<usize>());
    assert!(through[1] < through[0] * 2 / 3, "{through:?}");
}

/// Tasks behind the exchange whose state has no room in memory.
#[tokio::test(start_paused = true)]
async fn what_is_behind_goes_on_in_buckets() {
    let (expected, most) = with_room(many_keys()).await;
    for what in [Through::Rows, Through::Partials] {
        for seed in 0..6 {
            let mut dice = Dice::new(seed);
            let tier = InMemory::default();
            let mut pair = Pair::new(many_keys(), true, what);
            pair.scene.state_bytes = most / 2;
            pair.scene.spill = Some(Arc::new(SpillSpace::new(Box::new(tier.clone()), 1 << 20)));
            let fates = if seed == 0 { [Fate::Live, Fate::Live] } else { [Fate::CrashAt(dice.below(100)), Fate::CrashAt(dice.below(100))] };
            pair.finish(fates).await;
            assert_eq!(pair.scene.results.with_coordinates(), expected, "{what:?}, seed {seed}: {fates:?}");
            assert!(tier.puts() > 0, "{what:?}, seed {seed}: nothing was put aside, with {most} bytes of state");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn they_do_wherever_either_process_crashes() {
    let expected = whole().await;
    for what in [Through::Rows, Through::Partials] {
        let steps = Pair::new(twice(), true, what).finish([Fate::Live, Fate::Live]).await;
        for seed in 0..80 {
            let mut dice = Dice::new(seed);
            let pair = Pair::new(twice(), true, what);
            let fates = [Fate::CrashAt(dice.below(steps[0])), Fate::CrashAt(dice.below(steps[1]))];
            pair.finish(fates).await;
            assert_eq!(pair.scene.results.with_coordinates(), expected, "{what:?}, seed {seed}: {fates:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_front_task_that_is_away_holds_time_back_and_one_that_is_idle_does_not() {
    for through in [Through::Rows, Through::Partials] {
        away_and_idle(through).await;
    }
}

async fn away_and_idle(through: Through) {
    let rows: Vec<Vec<Row>> = vec![vec![(Some(1), "a"), (Some(50), "a")], vec![(Some(2), "a")]];
    let pair = Pair::new(rows, false, through);
    let first = |process: &Arc<Process>| vec![pair.front(process, 0), pair.back(process, 0), pair.back(process, 1)];
    let second = |process: &Arc<Process>| vec![pair.front(process, 1)];
    let expected = counted(&[vec![(Some(1), "a"), (Some(2), "a")]]);
    let watching = async {
        // Much longer than a split may be silent, and the other front task does not run at all.
        for seconds in 51..55 {
            tokio::time::sleep(IDLE).await;
            pair.scene.splits.add(0, [(Some(seconds), "a")]);
        }
        assert!(pair.scene.results.rows().is_empty());
        let idle = async {
            // It runs and says its one row; nothing more comes, and after a while it says that it is idle. Only then can the other move time on.
            tokio::time::sleep(IDLE + DELAY).await;
            pair.scene.splits.add(0, [(Some(56), "a")]);
            crate::world::until("its window ends", || pair.scene.results.rows() == expected).await;
        };
        tokio::select! {
            _ = pair.run(second, Fate::Live) => panic!("its input has no end"),
            () = idle => {}
        }
    };
    tokio::select! {
        _ = pair.run(first, Fate::Live) => panic!("its input has no end"),
        () = watching => {}
    }
}
