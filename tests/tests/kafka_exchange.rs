//! Plans that keep state and are shared through a Kafka exchange, against a real broker: worker processes are killed while windows are counted, and bounded
//! inputs end. What comes out is compared with a computation of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use millrace_crds::report::{Distribution, EXCHANGE};
use millrace_tests::committed::each;
use millrace_tests::conductor::Conductor;
use millrace_tests::dice::Dice;
use millrace_tests::image::{self, Image};
use millrace_tests::poll;
use millrace_tests::servers::Kafka;
use millrace_tests::servers::process::{Lifetime, Process};
use rdkafka::message::Message as _;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_mins(5);
/// Partitions of the topic that is read, of the exchange, and of the topic that is written.
/// Workers killed, each at a random moment, and records before each.
const KILLS: u64 = 8;
const RECORDS: u64 = 1500;
const KEYS: u64 = 40;
/// Seconds of a window, and by how much records come out of order.
const IN_PARTITIONS: i32 = 4;
const EXCHANGE_PARTITIONS: u32 = 3;
const OUT_PARTITIONS: i32 = 2;
/// Seconds of a window.
const WINDOW: u64 = 10;
/// By how many seconds records come out of order, in each partition.
const DISORDER: u64 = 4;

const SQL: &str = "SELECT window_start, k, count(*) AS n, sum(v) AS total FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '10' SECONDS)) \
                   GROUP BY window_start, window_end, k";

async fn program() -> Result<PathBuf> {
    tokio::task::spawn_blocking(|| image::build(Image::Worker, image::Profile::for_tests())).await?
}

/// Seconds since 2026 as text.
fn instant(seconds: u64) -> String {
    format!("2026-01-01T{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What must come out: count and sum for each window and key.
type Windows = BTreeMap<(String, String), (i64, i64)>;

fn job(kafka: &Kafka, state: &Path, interval: u32) -> Value {
    let columns = json!([{"name": "k", "type": "Varchar"}, {"name": "v", "type": "BigInt"}, {"name": "at", "type": "Timestamp"}]);
    json!({
        "version": 1,
        "pipeline": {"namespace": "default", "name": "shared", "uid": "5b0e4e5c-1111-4222-8333-944444444444"},
        "inputs": [{"name": "events", "sourceName": "events", "source": {
            "kafka": {"bootstrapServers": kafka.bootstrap(), "topics": ["in"]},
            "format": {"json": {}},
            "schema": {"columns": columns},
            "eventTime": {"column": "at", "maxDelaySeconds": DISORDER},
        }}],
        "steps": [{"name": "counts", "sql": SQL}],
        "outputs": [{"name": "out", "from": "counts", "sink": "out"}],
        "sinks": {"out": {"kafka": {
            "bootstrapServers": kafka.bootstrap(), "topic": "out", "keyFrom": ["k"], "transactional": "Auto", "format": {"json": {}},
        }}},
        "state": {"location": format!("file://{}", state.display())},
        "checkpoint": {"intervalSeconds": interval},
        "errorPolicy": {},
        "exchange": {"kafka": {"bootstrapServers": kafka.bootstrap(), "partitions": EXCHANGE_PARTITIONS}},
        "limits": {},
        // Nothing here is ever idle: a worker that is dead must hold time back, however long.
        "time": {"idleTimeoutSeconds": 3600},
    })
}

/// Everything that a reader of what is committed sees.
fn committed(kafka: &Kafka) -> Result<Vec<Value>> {
    read(kafka, "out", OUT_PARTITIONS)
}

fn read(kafka: &Kafka, topic: &str, partitions: i32) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    each(kafka.config(), topic, partitions, DEADLINE, |record| {
        rows.push(serde_json::from_slice(record.payload().unwrap_or_default())?);
        Ok(())
    })?;
    Ok(rows)
}

/// What was read, by window and key. Anything that is there twice is an error.
fn windows(rows: &[Value]) -> Result<Windows> {
    let mut windows = Windows::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().map(str::to_owned).with_context(|| format!("{name} in {row}"));
        let number = |name: &str| row[name].as_i64().with_context(|| format!("{name} in {row}"));
        // Without fractions and zone: all are whole seconds of UTC.
        let start = text("window_start")?.get(..19).with_context(|| format!("a time in {row}"))?.to_owned();
        let before = windows.insert((start, text("k")?), (number("n")?, number("total")?));
        ensure!(before.is_none(), "a window is there twice: {row}");
    }
    Ok(windows)
}

/// What was written, and the windows that must come of it.
struct Events {
    dice: Dice,
    clock: u64,
    expected: Windows,
}

impl Events {
    fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), clock: 0, expected: Windows::new() }
    }

    /// Writes so many.
    async fn write(&mut self, kafka: &Kafka, count: u64) -> Result<()> {
        let mut records = Vec::new();
        for _ in 0..count {
            // The partition has nothing to do with the key.
            let (partition, key, value) = (self.dice.below(4), self.dice.below(KEYS), self.dice.below(1000));
            let at = self.clock + self.dice.below(DISORDER);
            self.clock += u64::from(self.dice.below(25) == 0);
            let key = format!("key-{key}");
            let entry = self.expected.entry((instant(at / WINDOW * WINDOW).replace('Z', ""), key.clone())).or_default();
            *entry = (entry.0 + 1, entry.1 + i64::try_from(value)?);
            records.push((i32::try_from(partition)?, json!({"k": key, "v": value, "at": instant(at)}).to_string()));
        }
        produce(kafka, "in", &records).await
    }

    /// Lets time pass in each partition, so that the last windows end.
    async fn end(&self, kafka: &Kafka) -> Result<()> {
        let end = json!({"k": "end", "v": 0, "at": instant(self.clock + 3600)}).to_string();
        let ends: Vec<_> = (0..IN_PARTITIONS).map(|partition| (partition, end.clone())).collect();
        produce(kafka, "in", &ends).await
    }

    /// Waits until all windows are there, each once and right; says how many.
    async fn until_seen(&self, kafka: &Kafka, conductor: &Conductor) -> Result<usize> {
        poll::until("all windows are there", DEADLINE, async || {
            let found = windows(&committed(kafka)?)?.len();
            ensure!(found >= self.expected.len(), "{found} of {} windows: {:?}", self.expected.len(), troubles(conductor));
            Ok(())
        })
        .await?;
        let found = windows(&committed(kafka)?)?;
        let wrong: Vec<_> = self.expected.iter().filter(|(window, values)| found.get(window) != Some(values)).take(5).collect();
        ensure!(
            wrong.is_empty() && found.len() == self.expected.len(),
            "{} windows, {} expected; among those that differ: {wrong:?}",
            found.len(),
            self.expected.len()
        );
        Ok(found.len())
    }
}

async fn produce(kafka: &Kafka, topic: &str, records: &[(i32, String)]) -> Result<()> {
    let records: Vec<(i32, &str, &str)> = records.iter().map(|(partition, value)| (*partition, "", value.as_str())).collect();
    kafka.produce(topic, &records).await
}

/// Worker processes.
struct Workers {
    program: PathBuf,
    folder: PathBuf,
    url: String,
    running: BTreeMap<String, Process>,
}

impl Workers {
    /// None yet, of this Job.
    fn of(program: PathBuf, folder: &Path, conductor: &Conductor, job: &Value) -> Result<Self> {
        std::fs::write(folder.join("job.json"), serde_json::to_vec(job)?)?;
        std::fs::write(folder.join("token"), "token")?;
        Ok(Self { program, folder: folder.to_owned(), url: conductor.url(), running: BTreeMap::new() })
    }

    fn start(&mut self, name: &str) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["worker", "--http", "127.0.0.1:0", "--operator-url", &self.url, "--name", name]);
        command.arg("--job").arg(self.folder.join("job.json")).arg("--token-file").arg(self.folder.join("token"));
        command.arg("--secrets-dir").arg(self.folder.join("secrets"));
        self.running.insert(name.to_owned(), Process::start(name, &self.folder, command, Lifetime::Owned)?);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_window_is_seen_once_however_workers_die() -> Result<()> {
    let program = program().await?;
    let kafka = Kafka::start().await?;
    kafka.create_topic("in", IN_PARTITIONS).await?;
    kafka.create_topic("out", OUT_PARTITIONS).await?;
    let folder = tempfile::tempdir()?;
    let job = job(&kafka, &folder.path().join("state"), 1);
    let conductor = Conductor::start().await?;
    let mut workers = Workers::of(program, folder.path(), &conductor, &job)?;
    for name in ["a", "b"] {
        workers.start(name)?;
    }
    conductor.share(&["a", "b"]);

    let mut events = Events::new(1);
    for kill in 0..=KILLS {
        events.write(&kafka, RECORDS).await?;
        // From one round to the next, there are three, two or three workers.
        let names: &[&str] = if kill % 3 == 1 { &["a", "b"] } else { &["a", "b", "c"] };
        for name in names {
            if !workers.running.contains_key(*name) {
                workers.start(name)?;
            }
        }
        conductor.share(names);
        if kill == 0 {
            poll::until("both stages run", DEADLINE, async || {
                let reports = conductor.reports();
                let plan = reports.values().find_map(|report| report.check.plan.clone()).context("no plan yet")?;
                ensure!(plan.inputs.iter().all(|input| input.distribution == Distribution::Partitioned), "{:?}", plan.inputs);
                let tasks: Vec<_> = reports.values().flat_map(|report| &report.tasks).collect();
                let back = tasks.iter().filter(|task| task.task.input == EXCHANGE && task.epoch > 0).count();
                ensure!(
                    back == EXCHANGE_PARTITIONS as usize && tasks.len() > back,
                    "{} of {} tasks are behind the exchange",
                    back,
                    tasks.len()
                );
                Ok(())
            })
            .await?;
        }
        if kill < KILLS {
            tokio::time::sleep(Duration::from_millis(events.dice.below(4000))).await;
            let name = names[usize::try_from(events.dice.below(names.len() as u64))?];
            if let Some(mut worker) = workers.running.remove(name) {
                worker.kill()?;
            }
            conductor.gone(name);
        }
    }
    events.end(&kafka).await?;
    for name in ["a", "b", "c"] {
        if !workers.running.contains_key(name) {
            workers.start(name)?;
        }
    }
    conductor.share(&["a", "b", "c"]);
    let found = events.until_seen(&kafka, &conductor).await?;
    println!("{found} windows of {} records exactly once after {KILLS} kills", (KILLS + 1) * RECORDS);
    Ok(())
}

/// An output that shows what it has at once.
fn at_once(job: &mut Value, kafka: &Kafka) {
    job["sinks"]["out"] = json!({"kafka": {
        "bootstrapServers": kafka.bootstrap(), "topic": "out", "keyFrom": ["k"], "transactional": "Off", "format": {"json": {}},
    }});
}

/// Epochs are an hour apart, so nothing that comes within minutes has waited for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_waits_for_its_time_and_for_no_epoch() -> Result<()> {
    let program = program().await?;
    let kafka = Kafka::start().await?;
    let windows_of = "SELECT window_start, k, count(*) AS n, sum(v) AS total FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '10' SECONDS)) \
                      GROUP BY window_start, window_end, k";
    // Partial aggregates, and rows: that many values have to be seen one by one.
    for (number, sql) in [windows_of.to_owned(), windows_of.replace("count(*)", "count(DISTINCT v)")].into_iter().enumerate() {
        let (input, output) = (format!("in{number}"), format!("out{number}"));
        kafka.create_topic(&input, IN_PARTITIONS).await?;
        kafka.create_topic(&output, 1).await?;
        let folder = tempfile::tempdir()?;
        let mut job = job(&kafka, &folder.path().join("state"), 3600);
        at_once(&mut job, &kafka);
        job["pipeline"]["uid"] = format!("5b0e4e5c-1111-4222-8333-94444444444{number}").into();
        job["inputs"][0]["source"]["kafka"]["topics"] = json!([input]);
        job["sinks"]["out"]["kafka"]["topic"] = output.as_str().into();
        job["steps"][0]["sql"] = sql.into();
        let conductor = Conductor::start().await?;
        let mut workers = Workers::of(program.clone(), folder.path(), &conductor, &job)?;
        for name in ["a", "b"] {
            workers.start(name)?;
        }
        conductor.share(&["a", "b"]);
        let first: Vec<(i32, String)> =
            (0..IN_PARTITIONS).map(|partition| (partition, json!({"k": "key", "v": partition, "at": instant(1)}).to_string())).collect();
        let later: Vec<(i32, String)> =
            (0..IN_PARTITIONS).map(|partition| (partition, json!({"k": "key", "v": 1, "at": instant(60)}).to_string())).collect();
        for records in [first, later] {
            produce(&kafka, &input, &records).await?;
        }
        poll::until("the window is there", DEADLINE, async || {
            let rows = read(&kafka, &output, 1)?;
            ensure!(rows.len() == 1, "{rows:?}, {:?}", troubles(&conductor));
            ensure!(rows[0]["n"] == IN_PARTITIONS && rows[0]["total"] == (0..IN_PARTITIONS).sum::<i32>(), "{rows:?}");
            Ok(())
        })
        .await?;
        for (_, mut worker) in std::mem::take(&mut workers.running) {
            worker.kill()?;
        }
    }
    Ok(())
}

/// Workers that stand still are replaced, and write on when they wake: what they write counts no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_wake_up_after_they_were_replaced_add_nothing() -> Result<()> {
    let program = program().await?;
    let kafka = Kafka::start().await?;
    kafka.create_topic("in", IN_PARTITIONS).await?;
    kafka.create_topic("out", OUT_PARTITIONS).await?;
    let folder = tempfile::tempdir()?;
    let job = job(&kafka, &folder.path().join("state"), 2);
    let conductor = Conductor::start().await?;
    let mut workers = Workers::of(program, folder.path(), &conductor, &job)?;
    let mut events = Events::new(7);
    let mut zombies: Vec<Process> = Vec::new();
    let names = ["a", "b", "c", "d", "e", "f"];
    for round in 0..names.len() - 1 {
        let running = [names[round], names[round + 1]];
        for name in running {
            if !workers.running.contains_key(name) {
                workers.start(name)?;
            }
        }
        conductor.share(&running);
        for _ in 0..5 {
            events.write(&kafka, RECORDS / 5).await?;
            tokio::time::sleep(Duration::from_millis(events.dice.below(800))).await;
        }
        // In the midst of it, one stands still; the one of the round before wakes, with whatever it had to say.
        if let Some(worker) = workers.running.remove(names[round]) {
            worker.freeze()?;
            conductor.gone(names[round]);
            for zombie in &zombies {
                zombie.thaw()?;
            }
            zombies.push(worker);
        }
    }
    events.end(&kafka).await?;
    let last = names[names.len() - 1];
    conductor.share(&[last]);
    for zombie in &zombies {
        zombie.thaw()?;
    }
    events.until_seen(&kafka, &conductor).await?;
    Ok(())
}

/// What workers say is wrong.
fn troubles(conductor: &Conductor) -> Vec<String> {
    let reports = conductor.reports();
    let tasks = reports.values().flat_map(|report| &report.tasks);
    tasks.flat_map(|task| task.troubles.iter().map(|trouble| format!("{:?}: {}", task.task, trouble.message))).collect()
}

/// A Pipeline over files: a join of two inputs and a count of one of them, by other keys than that.
fn manifests(folder: &Path, out: &str, exchange: Option<(&Kafka, u32)>) -> String {
    let exchange = exchange.map_or_else(String::new, |(kafka, partitions)| {
        format!("  exchange: {{kafka: {{bootstrapServers: \"{}\", partitions: {partitions}}}}}\n", kafka.bootstrap())
    });
    let source = |name: &str, columns: &str| {
        format!(
            "apiVersion: millrace.dev/v1alpha1\nkind: Source\nmetadata: {{name: {name}}}\nspec:\n  files: {{path: {}, include: {name}.jsonl, mode: Once}}\n  \
             format: {{json: {{}}}}\n  schema: {{columns: [{columns}]}}\n  eventTime: {{column: at, maxDelaySeconds: 5}}\n---\n",
            folder.display()
        )
    };
    let sink = |name: &str| {
        let path = folder.join(out).join(name);
        format!(
            "apiVersion: millrace.dev/v1alpha1\nkind: Sink\nmetadata: {{name: {name}}}\nspec: {{files: {{path: {}, format: {{json: {{}}}}}}}}\n---\n",
            path.display()
        )
    };
    [
        source("orders", "{name: id, type: BigInt}, {name: customer, type: Varchar}, {name: at, type: Timestamp}"),
        source("payments", "{name: id, type: BigInt}, {name: amount, type: BigInt}, {name: at, type: Timestamp}"),
        sink("paid"),
        sink("busy"),
        sink("raw"),
        format!(
            "apiVersion: millrace.dev/v1alpha1\nkind: Pipeline\nmetadata: {{name: {out}}}\nspec:\n  inputs: [{{name: orders, sourceRef: {{name: orders}}}}, \
             {{name: payments, sourceRef: {{name: payments}}}}]\n  steps:\n  - name: paid\n    sql: |\n      SELECT o.id, o.customer, p.amount FROM orders o JOIN payments p \
             ON o.id = p.id AND p.at BETWEEN o.at AND o.at + INTERVAL '1' MINUTE\n  - name: busy\n    sql: |\n      SELECT window_start, id, count(*) AS n \
             FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(at), INTERVAL '10' SECONDS)) GROUP BY window_start, window_end, id\n  outputs:\n  \
             - {{name: paid, from: paid, sinkRef: {{name: paid}}}}\n  - {{name: busy, from: busy, sinkRef: {{name: busy}}}}\n  \
             - {{name: raw, from: orders, sinkRef: {{name: raw}}}}\n  checkpoint: {{intervalSeconds: 1}}\n{exchange}"
        ),
    ]
    .concat()
}

/// Runs a Pipeline to its end; what it has printed as errors if it fails.
async fn run(program: &Path, folder: &Path, name: &str, manifest: &str) -> Result<(bool, String)> {
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, manifest)?;
    let mut command = Command::new(program);
    command.arg("run").arg(&file).args(["--quiet", "--state-dir"]).arg(folder.join("state"));
    let output = tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(move || command.output())).await???;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// All rows that were written below a folder, sorted.
fn rows(folder: &Path) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "_millrace") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "jsonl" || extension == "json") {
                rows.extend(std::fs::read_to_string(&path)?.lines().map(str::to_owned));
            }
        }
    }
    rows.sort();
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounded_inputs_end_through_the_exchange_and_give_what_they_give_without() -> Result<()> {
    let program = program().await?;
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let mut dice = Dice::new(42);
    let (mut orders, mut payments) = (String::new(), String::new());
    for id in 0..600 {
        let at = id / 4 + dice.below(DISORDER);
        orders.push_str(&format!("{}\n", json!({"id": id, "customer": format!("c{}", dice.below(20)), "at": instant(at)})));
        for _ in 0..dice.below(3) {
            let (id, amount) = (dice.below(id + 1), dice.below(100));
            payments.push_str(&format!("{}\n", json!({"id": id, "amount": amount, "at": instant(at + dice.below(DISORDER))})));
        }
    }
    std::fs::write(folder.path().join("orders.jsonl"), orders)?;
    std::fs::write(folder.path().join("payments.jsonl"), payments)?;

    let whole = run(&program, folder.path(), "whole", &manifests(folder.path(), "whole", None)).await?;
    assert!(whole.0, "{}", whole.1);
    let shared = run(&program, folder.path(), "shared", &manifests(folder.path(), "shared", Some((&kafka, 3)))).await?;
    assert!(shared.0, "{}", shared.1);
    for output in ["paid", "busy", "raw"] {
        let expected = rows(&folder.path().join("whole").join(output))?;
        assert!(expected.len() > 100, "{output}: {} rows", expected.len());
        assert_eq!(rows(&folder.path().join("shared").join(output))?, expected, "{output}");
    }
    // It has ended: another run adds nothing.
    let again = run(&program, folder.path(), "shared", &manifests(folder.path(), "shared", Some((&kafka, 3)))).await?;
    assert!(again.0, "{}", again.1);
    assert_eq!(rows(&folder.path().join("shared/paid"))?, rows(&folder.path().join("whole/paid"))?);
    Ok(())
}
