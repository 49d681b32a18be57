//! Sales by the second, for tests in which a worker dies: records with event times, the windows and totals that they must come to, the manifests of the
//! Pipelines that count them, and what a reader of what is committed finds. It starts no worker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use crate::committed;
use crate::dice::Dice;
use crate::servers::Kafka;

/// For one answer of a broker.
const ANSWER: Duration = Duration::from_secs(60);
/// Milliseconds for an acknowledgement.
const ACKNOWLEDGED: &str = "300000";
const PARTITIONS: i32 = 3;
/// Records in a second of event time.
const RATE: i64 = 25;
/// How far behind the latest one a record may be, in milliseconds.
const DELAY: i64 = 2000;
const WINDOW: i64 = 5000;
/// 2026-03-01T00:00:00Z.
const BEGIN: i64 = 1_772_323_200_000;

/// One record of the input.
#[derive(Clone, Debug)]
struct Sold {
    partition: i32,
    time: i64,
    item: &'static str,
    amount: i64,
}

/// Everything that was written, in the order of each partition.
pub struct Input {
    /// One for all: what is still on its way when nobody waits for it any more is written all the same, before what comes next.
    producer: FutureProducer,
    written: Vec<Sold>,
}

/// Count and sum of each window and item, by the window's start in milliseconds since 1970.
pub type Windows = BTreeMap<(i64, String), (i64, i64)>;
/// Count and sum of each item.
pub type Totals = BTreeMap<String, (i64, i64)>;

impl Input {
    /// Makes the topics: that of the sales, and one with one partition for each Pipeline.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn new(kafka: &Kafka) -> Result<Self> {
        kafka.create_topic("sales", PARTITIONS).await?;
        kafka.create_topic("windows", 1).await?;
        kafka.create_topic("totals", 1).await?;
        let mut config = kafka.config();
        // What is written twice here would look like a fault of what is tested.
        config.set("enable.idempotence", "true").set("message.timeout.ms", ACKNOWLEDGED);
        Ok(Self { producer: config.create().context("make a producer")?, written: Vec::new() })
    }

    /// How many records were written.
    #[must_use]
    pub fn records(&self) -> usize {
        self.written.len()
    }

    /// Writes so many records.
    ///
    /// # Errors
    /// The broker does not take one.
    pub async fn write(&mut self, dice: &mut Dice, count: usize) -> Result<()> {
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
    ///
    /// # Errors
    /// The broker does not take one.
    pub async fn go_on(&mut self, dice: &mut Dice) -> Result<()> {
        loop {
            self.write(dice, 10).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A record on each partition after which all windows before it have ended.
    ///
    /// # Errors
    /// The broker does not take one.
    pub async fn finish(&mut self) -> Result<()> {
        let from = self.written.len();
        let time = BEGIN + i64::try_from(from)? * 1000 / RATE + DELAY + 2 * WINDOW;
        self.written.extend((0..PARTITIONS).map(|partition| Sold { partition, time, item: "last", amount: 0 }));
        self.send(from).await
    }

    async fn send(&self, from: usize) -> Result<()> {
        let text = |sold: &Sold| json!({"ts": written(sold.time), "item": sold.item, "amount": sold.amount}).to_string();
        let texts: Vec<String> = self.written[from..].iter().map(text).collect();
        let mut sent = Vec::with_capacity(texts.len());
        for (sold, text) in self.written[from..].iter().zip(&texts) {
            let record = FutureRecord::to("sales").partition(sold.partition).key(sold.item).payload(text);
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error).context("queue a record")?);
        }
        for delivery in futures::future::join_all(sent).await {
            delivery.context("the producer was dropped")?.map_err(|(error, _)| error).context("write a record")?;
        }
        Ok(())
    }

    /// What must come of each window that has ended.
    #[must_use]
    pub fn windows(&self) -> Windows {
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

    /// What must come of each item.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = BTreeMap::new();
        for sold in &self.written {
            let (count, sum) = totals.entry(sold.item.to_owned()).or_insert((0, 0));
            *count += 1;
            *sum += sold.amount;
        }
        totals
    }
}

/// A Source, and for each of these Pipelines (`windows`, `totals`) a Sink; `more` is added to the Pipelines' specs.
///
/// # Errors
/// They cannot be written as YAML, which does not happen.
pub fn manifests(kafka: &Kafka, pipelines: &[&str], more: &Value) -> Result<String> {
    let kafka = kafka.bootstrap();
    let source = json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "Source", "metadata": {"name": "sales"},
        "spec": {
            "kafka": {"bootstrapServers": kafka, "topics": ["sales"], "groupId": "sales-readers"},
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
    let pipeline = |name: &str| {
        let sql = if name == "windows" { WINDOWS } else { TOTALS };
        let mut pipeline = json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": name},
            "spec": {
                "inputs": [{"name": "sales", "sourceRef": {"name": "sales"}}],
                "steps": [{"name": "result", "sql": sql}],
                "outputs": [{"name": "out", "from": "result", "sinkRef": {"name": name}}],
                "checkpoint": {"intervalSeconds": 1},
                "state": {"ttlSeconds": 864_000},
            },
        });
        for (field, values) in more.as_object().into_iter().flatten() {
            for (name, value) in values.as_object().into_iter().flatten() {
                pipeline["spec"][field][name] = value.clone();
            }
        }
        pipeline
    };
    let all = std::iter::once(source).chain(pipelines.iter().flat_map(|name| [sink(name), pipeline(name)]));
    let all = all.map(|object| serde_yaml::to_string(&object)).collect::<Result<Vec<_>, _>>()?;
    Ok(all.join("---\n"))
}

const WINDOWS: &str = "SELECT window_start, item, count(*) AS n, sum(amount) AS total FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(ts), INTERVAL '5' SECOND)) \
                       GROUP BY window_start, window_end, item";
const TOTALS: &str = "SELECT item, count(*) AS n, sum(amount) AS total FROM sales GROUP BY item";

/// Key and value of all that is committed in a topic, in order.
fn committed(kafka: &Kafka, topic: &str) -> Result<Vec<(Option<String>, Value)>> {
    let mut rows = Vec::new();
    committed::each(kafka.config(), topic, 1, ANSWER, |record| {
        let key = record.key().map(|key| String::from_utf8_lossy(key).into_owned());
        rows.push((key, serde_json::from_slice(record.payload().context("no item goes away")?)?));
        Ok(())
    })?;
    Ok(rows)
}

fn number(row: &Value, column: &str) -> Result<i64> {
    row[column].as_i64().with_context(|| format!("no {column} in {row}"))
}

/// The windows that are committed, each once.
///
/// # Errors
/// One is there twice, or the broker does not answer.
pub fn windows(kafka: &Kafka) -> Result<Windows> {
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
///
/// # Errors
/// One goes back, or the broker does not answer.
pub fn totals(kafka: &Kafka) -> Result<Totals> {
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
