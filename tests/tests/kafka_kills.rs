//! `millrace run` killed at random moments, and stopped as a zombie that wakes after its successor has taken over: Kafka in, windows and revised totals in
//! transactions out. A reader of what is committed must find every window once and right, and totals that only ever grow. No cluster here.
//!
//! `MILLRACE_TEST_KILLS` is the number of kills and zombies (10 unless set), `MILLRACE_TEST_SEED` what they are drawn from (1 unless set). The test prints
//! how many there were of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use millrace_tests::image::{self, Image};
use millrace_tests::poll;
use millrace_tests::servers::Kafka;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// For everything to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// For one answer of a broker.
const ANSWER: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
/// Records that are written between two kills.
const RECORDS: usize = 200;
/// Records in a second of event time.
const RATE: i64 = 25;
/// How far behind the latest one a record may be, in milliseconds.
const DELAY: i64 = 2000;
const WINDOW: i64 = 5000;
/// 2026-03-01T00:00:00Z.
const BEGIN: i64 = 1_772_323_200_000;
/// The worker's code when another has taken over.
const FENCED: i32 = 66;

/// Drawn from a seed: the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One record of the input.
#[derive(Clone, Debug)]
struct Sold {
    partition: i32,
    time: i64,
    item: &'static str,
    amount: i64,
}

/// Everything that was written, in the order of each partition.
struct Input<'a> {
    kafka: &'a Kafka,
    written: Vec<Sold>,
}

impl Input<'_> {
    async fn write(&mut self, dice: &mut Dice, count: usize) -> Result<()> {
        let from = self.written.len();
        for number in from..from + count {
            let latest = BEGIN + i64::try_from(number)? * 1000 / RATE;
            let time = (latest - i64::try_from(dice.below(DELAY.unsigned_abs()))?).max(BEGIN);
            let item = ["apples", "pears", "plums", "nuts", "figs"][usize::try_from(dice.below(5))?];
            self.written.push(Sold { partition: (number % 3).try_into()?, time, item, amount: dice.below(100).try_into()? });
        }
        self.send(from).await
    }

    /// Writes a little now and then, for as long as it is waited for.
    async fn go_on(&mut self, dice: &mut Dice) -> Result<()> {
        loop {
            self.write(dice, 10).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A record on each partition after which all windows before it have ended.
    async fn finish(&mut self) -> Result<()> {
        let from = self.written.len();
        let time = BEGIN + i64::try_from(from)? * 1000 / RATE + DELAY + 2 * WINDOW;
        self.written.extend((0..PARTITIONS).map(|partition| Sold { partition, time, item: "last", amount: 0 }));
        self.send(from).await
    }

    async fn send(&self, from: usize) -> Result<()> {
        let text = |sold: &Sold| json!({"ts": written(sold.time), "item": sold.item, "amount": sold.amount}).to_string();
        let texts: Vec<String> = self.written[from..].iter().map(text).collect();
        let records: Vec<_> =
            self.written[from..].iter().zip(&texts).map(|(sold, text)| (sold.partition, sold.item, text.as_str())).collect();
        self.kafka.produce("sales", &records).await
    }

    /// Count and sum of each window that has ended, and item.
    fn windows(&self) -> BTreeMap<(i64, String), (i64, i64)> {
        let end = self.written.last().map_or(0, |last| last.time) - DELAY;
        let mut windows = BTreeMap::new();
        for sold in &self.written {
            let start = sold.time.div_euclid(WINDOW) * WINDOW;
            if start + WINDOW <= end {
                let (count, sum) = windows.entry((start, sold.item.to_owned())).or_insert((0, 0));
                *count += 1;
                *sum += sold.amount;
            }
        }
        windows
    }

    /// Count and sum of each item.
    fn totals(&self) -> BTreeMap<String, (i64, i64)> {
        let mut totals = BTreeMap::new();
        for sold in &self.written {
            let (count, sum) = totals.entry(sold.item.to_owned()).or_insert((0, 0));
            *count += 1;
            *sum += sold.amount;
        }
        totals
    }
}

fn manifests(kafka: &str) -> Result<String> {
    let source = json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "Source", "metadata": {"name": "sales"},
        "spec": {
            "kafka": {"bootstrapServers": kafka, "topics": ["sales"]},
            "format": {"json": {}},
            "schema": {"columns": [
                {"name": "ts", "type": "Timestamp", "presence": "Required"},
                {"name": "item", "type": "Varchar"},
                {"name": "amount", "type": "BigInt"},
            ]},
            "eventTime": {"column": "ts", "maxDelaySeconds": DELAY / 1000},
        },
    });
    let sink = |topic: &str| {
        json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "Sink", "metadata": {"name": topic},
            "spec": {"kafka": {"bootstrapServers": kafka, "topic": topic, "transactional": "Auto", "format": {"json": {}}}},
        })
    };
    let pipeline = |name: &str, sql: &str| {
        json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": name},
            "spec": {
                "inputs": [{"name": "sales", "sourceRef": {"name": "sales"}}],
                "steps": [{"name": "result", "sql": sql}],
                "outputs": [{"name": "out", "from": "result", "sinkRef": {"name": name}}],
                "checkpoint": {"intervalSeconds": 1},
                "state": {"ttlSeconds": 864_000},
            },
        })
    };
    let windows = "SELECT window_start, item, count(*) AS n, sum(amount) AS total FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(ts), INTERVAL '5' SECOND)) \
                   GROUP BY window_start, window_end, item";
    let totals = "SELECT item, count(*) AS n, sum(amount) AS total FROM sales GROUP BY item";
    let all = [source, sink("windows"), sink("totals"), pipeline("windows", windows), pipeline("totals", totals)];
    let all = all.iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(all.join("---\n"))
}

/// Key and value of all that is committed in a topic, in order.
fn committed(kafka: &Kafka, topic: &str) -> Result<Vec<(Option<String>, Value)>> {
    let mut config = kafka.config();
    config.set("group.id", "reader").set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let reader: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)?;
    reader.assign(&list)?;
    let mut rows = Vec::new();
    loop {
        match reader.poll(ANSWER).context("no answer")? {
            Ok(record) => {
                let key = record.key().map(|key| String::from_utf8_lossy(key).into_owned());
                rows.push((key, serde_json::from_slice(record.payload().context("no item goes away")?)?));
            }
            Err(KafkaError::PartitionEOF(_)) => return Ok(rows),
            Err(error) => return Err(error.into()),
        }
    }
}

fn number(row: &Value, column: &str) -> Result<i64> {
    row[column].as_i64().with_context(|| format!("no {column} in {row}"))
}

/// The windows that are committed, each once.
fn windows(kafka: &Kafka) -> Result<BTreeMap<(i64, String), (i64, i64)>> {
    let mut windows = BTreeMap::new();
    for (_, row) in committed(kafka, "windows")? {
        let start = instant(row["window_start"].as_str().context("no start")?)?;
        let item = row["item"].as_str().context("no item")?.to_owned();
        let values = (number(&row, "n")?, number(&row, "total")?);
        if let Some(before) = windows.insert((start, item.clone()), values) {
            bail!("TWICE: window {start} of {item}: {before:?}, then {values:?}");
        }
    }
    Ok(windows)
}

/// What is left of the totals; on the way each only grows.
fn totals(kafka: &Kafka) -> Result<BTreeMap<String, (i64, i64)>> {
    let mut totals = BTreeMap::<String, (i64, i64)>::new();
    for (key, row) in committed(kafka, "totals")? {
        let item = row["item"].as_str().context("no item")?.to_owned();
        ensure!(key.as_ref() == Some(&item), "TORN: {item} is written under the key {key:?}");
        let values = (number(&row, "n")?, number(&row, "total")?);
        if let Some(before) = totals.insert(item.clone(), values) {
            ensure!(before.0 < values.0 && before.1 <= values.1, "BACK: total of {item}: {before:?}, then {values:?}");
        }
    }
    Ok(totals)
}

/// A time of 1 March 2026, as JSON has it.
fn written(time: i64) -> String {
    let (seconds, millis) = ((time - BEGIN) / 1000, (time - BEGIN) % 1000);
    format!("2026-03-01T{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Milliseconds since 1970 of a time in March 2026, which is where all of them are: `2026-03-01T00:00:05Z`.
fn instant(text: &str) -> Result<i64> {
    let other = || format!("a time of another month, or no whole seconds: {text}");
    let rest = text.strip_prefix("2026-03-").and_then(|rest| rest.strip_suffix('Z')).with_context(other)?;
    let numbers = rest.split(['T', ':']).map(str::parse::<i64>).collect::<Result<Vec<_>, _>>().with_context(other)?;
    let [day, hour, minute, second] = numbers[..] else { bail!(other()) };
    Ok(BEGIN + ((((day - 1) * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

struct Run {
    program: PathBuf,
    manifest: PathBuf,
}

impl Run {
    fn start(&self) -> Result<Child> {
        let folder = self.manifest.parent().context("the manifest has a directory")?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--quiet").arg(&self.manifest).current_dir(folder).stdin(Stdio::null());
        command.kill_on_drop(true).spawn().context("start millrace")
    }
}

fn signal(process: &Child, name: &str) -> Result<()> {
    let id = process.id().context("it has ended")?;
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status()?;
    ensure!(sent.success(), "cannot send SIG{name}");
    Ok(())
}

/// The newest epoch of any Pipeline in the state.
fn newest_epoch(state: &Path) -> Result<usize> {
    let mut records = 0;
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "record") {
                records = records.max(path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(0));
            }
        }
    }
    Ok(records)
}

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number")))
}

#[tokio::test]
async fn windows_and_totals_are_exact_through_kills_and_zombies() -> Result<()> {
    let (kills, seed) = (setting("MILLRACE_TEST_KILLS", 10)?, setting("MILLRACE_TEST_SEED", 1)?);
    let kafka = Kafka::start().await?;
    kafka.create_topic("sales", PARTITIONS).await?;
    kafka.create_topic("windows", 1).await?;
    kafka.create_topic("totals", 1).await?;
    let folder = tempfile::tempdir()?;
    let manifest = folder.path().join("sales.yaml");
    std::fs::write(&manifest, manifests(&kafka.bootstrap())?)?;
    let program = tokio::task::spawn_blocking(|| image::build(Image::Worker, image::Profile::for_tests())).await??;
    let run = Run { program, manifest };
    let state = folder.path().join(".millrace/state");

    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut input = Input { kafka: &kafka, written: Vec::new() };
    input.write(&mut dice, RECORDS).await?;
    let mut millrace = run.start()?;
    let (mut killed, mut zombies) = (0, 0);
    for _ in 0..kills {
        input.write(&mut dice, RECORDS).await?;
        // The moment is what is random here; nothing is expected to have happened by then.
        tokio::time::sleep(Duration::from_millis(dice.below(2500))).await;
        if let Some(status) = millrace.try_wait()? {
            // Of two that took one Pipeline each from the other, none is left.
            ensure!(status.code() == Some(FENCED), "it ended by itself: {status}");
            millrace = run.start()?;
        }
        if dice.below(5) > 1 {
            millrace.kill().await.context("kill millrace")?;
            millrace = run.start()?;
            killed += 1;
            continue;
        }
        signal(&millrace, "STOP")?;
        let before = if state.exists() { newest_epoch(&state)? } else { 0 };
        let mut successor = run.start()?;
        input.write(&mut dice, RECORDS).await?;
        poll::until("the successor has written epochs", PATIENCE, async || {
            let now = newest_epoch(&state)?;
            ensure!(now > before + 1, "epoch {now} after {before}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        signal(&millrace, "CONT")?;
        // Only one of the two goes on: mostly the successor, but a zombie whose transaction was fenced may claim its task again, and one that was
        // stopped before it had claimed its tasks claims them now. Who has nothing to write notices nothing, so there is always something.
        let ended = async {
            tokio::select! {
                status = millrace.wait() => (status, true),
                status = successor.wait() => (status, false),
            }
        };
        let (status, is_zombie) = tokio::select! {
            ended = tokio::time::timeout(PATIENCE, ended) => ended.context("both live on")?,
            failed = input.go_on(&mut dice) => return failed,
        };
        let status = status?;
        ensure!(status.code() == Some(FENCED), "one of them ended with {status}");
        if is_zombie {
            millrace = successor;
        }
        zombies += 1;
    }
    input.finish().await?;
    let (expected_windows, expected_totals) = (input.windows(), input.totals());
    poll::until("all windows and totals are committed", PATIENCE, async || {
        let (windows, totals) = (windows(&kafka), totals(&kafka));
        for wrong in [windows.as_ref().err(), totals.as_ref().err()].into_iter().flatten() {
            // Waiting does not mend what is committed twice or torn.
            assert!(
                !wrong.to_string().contains("TWICE") && !wrong.to_string().contains("TORN") && !wrong.to_string().contains("BACK"),
                "{wrong}"
            );
        }
        let (windows, totals) = (windows?, totals?);
        ensure!(windows.len() >= expected_windows.len(), "{} of {} windows", windows.len(), expected_windows.len());
        ensure!(totals == expected_totals, "{totals:?}, not {expected_totals:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    signal(&millrace, "TERM")?;
    let status = tokio::time::timeout(PATIENCE, millrace.wait()).await.context("millrace does not drain")??;
    ensure!(status.code() == Some(0), "millrace ended with {status}");
    assert_eq!(windows(&kafka)?, expected_windows);
    assert_eq!(totals(&kafka)?, expected_totals);
    println!(
        "n = {killed} kills and {zombies} zombies (seed {seed}): {} records, {} windows and {} totals, each exactly once",
        input.written.len(),
        expected_windows.len(),
        expected_totals.len()
    );
    Ok(())
}
