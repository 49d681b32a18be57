//! Topics of changes through `millrace run`, which is killed at random moments: Debezium's events joined with a table of upserts and added up, and a compacted topic that
//! Millrace has written, read again. What a reader of the last values finds must be what the tables come to. No cluster here.
//!
//! `MILLRACE_TEST_KILLS` is the number of kills (4 unless set), `MILLRACE_TEST_SEED` what changes and moments are drawn from (1 unless set).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_tests::committed;
use millrace_tests::dice::Dice;
use millrace_tests::image::{self, Image};
use millrace_tests::poll;
use millrace_tests::servers::Kafka;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// For everything to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);
const PARTITIONS: i32 = 3;
/// Changes between two kills.
const CHANGES: usize = 150;
const CITIES: [&str; 4] = ["Aachen", "Bonn", "Celle", "Dresden"];

/// A row of `orders`.
#[derive(Clone, Debug)]
struct Order {
    customer: i64,
    amount: i64,
    open: bool,
}

/// The tables of the database, and the topics that follow them.
struct Database<'a> {
    kafka: &'a Kafka,
    producer: FutureProducer,
    orders: BTreeMap<i64, Order>,
    customers: BTreeMap<i64, &'static str>,
    /// Records that were not sent yet: topic, partition, key, value.
    records: Vec<(&'static str, i32, String, Option<String>)>,
}

/// The last values of a topic by their keys.
type Table = BTreeMap<String, Value>;

impl<'a> Database<'a> {
    async fn new(kafka: &'a Kafka) -> Result<Self> {
        let admin: AdminClient<DefaultClientContext> = kafka.config().create()?;
        let topic = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
        let topics = [topic("customers", PARTITIONS), topic("open", 1), topic("totals", 1), topic("busy", 1)];
        for made in admin.create_topics(&topics, &AdminOptions::new().operation_timeout(Some(PATIENCE))).await? {
            made.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
        }
        kafka.create_topic("shop.orders", PARTITIONS).await?;
        let producer = kafka.config().create()?;
        Ok(Self { kafka, producer, orders: BTreeMap::new(), customers: BTreeMap::new(), records: Vec::new() })
    }

    /// An event as Debezium writes it, with a schema around it now and then, and a tombstone behind a deletion.
    fn event(&mut self, topic: &'static str, id: i64, dice: &mut Dice, before: &Value, after: &Value) {
        let op = match (before.is_null(), after.is_null()) {
            (true, _) => ["c", "r"][usize::from(dice.below(4) == 0)],
            (false, false) => "u",
            (false, true) => "d",
        };
        let mut event = json!({"before": before, "after": after, "source": {"connector": "postgresql", "op": "x"}, "op": op, "ts_ms": 1});
        let mut key = json!({"id": id});
        if dice.below(3) == 0 {
            event = json!({"schema": {"type": "struct", "fields": [{"field": "before", "optional": true}]}, "payload": event});
            key = json!({"schema": {"type": "struct"}, "payload": key});
        }
        let partition = (id % i64::from(PARTITIONS)) as i32;
        self.records.push((topic, partition, key.to_string(), Some(event.to_string())));
        if op == "d" {
            self.records.push((topic, partition, key.to_string(), None));
        }
    }

    fn change(&mut self, dice: &mut Dice) {
        if dice.below(4) == 0 {
            self.change_customer(dice);
            return;
        }
        let row = |id: i64, order: Option<&Order>| {
            order.map_or(Value::Null, |order| {
                json!({"id": id, "customer": order.customer, "amount": order.amount.to_string(), "status": if order.open { "new" } else { "done" }})
            })
        };
        let id = dice.below(60).cast_signed();
        let before = row(id, self.orders.get(&id));
        if !before.is_null() && dice.below(4) == 0 {
            self.orders.remove(&id);
        } else {
            let order = Order { customer: dice.below(9).cast_signed(), amount: dice.below(1000).cast_signed(), open: dice.below(3) > 0 };
            self.orders.insert(id, order);
        }
        let after = row(id, self.orders.get(&id));
        self.event("shop.orders", id, dice, &before, &after);
    }

    /// A value or none, which may be there twice.
    fn change_customer(&mut self, dice: &mut Dice) {
        let id = dice.below(9).cast_signed();
        let value = if dice.below(4) == 0 {
            self.customers.remove(&id);
            None
        } else {
            let city = CITIES[dice.below(4) as usize];
            self.customers.insert(id, city);
            Some(json!({"id": id, "city": city}).to_string())
        };
        for _ in 0..=dice.below(2) {
            self.records.push(("customers", (id % i64::from(PARTITIONS)) as i32, json!({"id": id}).to_string(), value.clone()));
        }
    }

    /// Makes so many changes, and waits until they are in their topics.
    async fn go_on(&mut self, dice: &mut Dice) -> Result<()> {
        (0..CHANGES).for_each(|_| self.change(dice));
        let mut sent = Vec::new();
        for (topic, partition, key, value) in std::mem::take(&mut self.records) {
            let mut record = FutureRecord::<String, String>::to(topic).partition(partition).key(&key);
            if let Some(value) = &value {
                record = record.payload(value);
            }
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error)?);
        }
        for delivery in futures::future::join_all(sent).await {
            delivery.context("the producer was dropped")?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    /// The orders that are open, by their id.
    fn open(&self) -> Table {
        let open = self.orders.iter().filter(|(_, order)| order.open);
        open.map(|(id, order)| (id.to_string(), json!({"id": id, "customer": order.customer, "amount": order.amount}))).collect()
    }

    /// Count and sum of the open orders of each city.
    fn totals(&self) -> Table {
        let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for order in self.orders.values().filter(|order| order.open) {
            if let Some(city) = self.customers.get(&order.customer) {
                let total = totals.entry(city).or_default();
                *total = (total.0 + 1, total.1 + order.amount);
            }
        }
        totals
            .into_iter()
            .map(|(city, (orders, amount))| (city.to_owned(), json!({"city": city, "orders": orders, "amount": amount})))
            .collect()
    }

    /// Those with five orders or more.
    fn busy(&self) -> Table {
        let busy = self.totals().into_iter().filter(|(_, row)| row["orders"].as_i64() >= Some(5));
        busy.map(|(city, row)| (city, json!({"city": row["city"], "orders": row["orders"]}))).collect()
    }

    /// Whether the topics hold what the tables come to.
    fn check(&self) -> Result<()> {
        for (topic, expected) in [("open", self.open()), ("totals", self.totals()), ("busy", self.busy())] {
            let found = last_values(self.kafka, topic)?;
            ensure!(found == expected, "{topic}: {found:?}, not {expected:?}");
        }
        Ok(())
    }
}

/// What is left of all that is committed in a topic, with numbers as numbers.
fn last_values(kafka: &Kafka, topic: &str) -> Result<Table> {
    let mut table = Table::new();
    committed::each(kafka.config(), topic, 1, PATIENCE, |record| {
        let key = String::from_utf8(record.key().context("no key")?.to_vec())?;
        let Some(value) = record.payload() else {
            table.remove(&key);
            return Ok(());
        };
        let mut row: Value = serde_json::from_slice(value)?;
        for value in row.as_object_mut().context("no object")?.values_mut() {
            // A decimal is written as a text.
            if let Some(number) = value.as_str().and_then(|text| text.parse::<i64>().ok()) {
                *value = number.into();
            }
        }
        table.insert(key, row);
        Ok(())
    })?;
    Ok(table)
}

fn manifests(kafka: &Kafka) -> Result<String> {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "millrace.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let source = |name: &str, topic: &str, format: Value, changelog: Value, columns: Value| {
        let kafka = json!({"bootstrapServers": kafka.bootstrap(), "topics": [topic]});
        object("Source", name, json!({"kafka": kafka, "format": format, "changelog": changelog, "schema": {"columns": columns}}))
    };
    let sink = |topic: &str, transactional: &str| {
        let kafka = json!({"bootstrapServers": kafka.bootstrap(), "topic": topic, "transactional": transactional, "format": {"json": {}}});
        object("Sink", topic, json!({ "kafka": kafka }))
    };
    let pipeline = |name: &str, inputs: &[&str], steps: &[(&str, &str)]| {
        let inputs: Vec<Value> = inputs.iter().map(|name| json!({"name": name, "sourceRef": {"name": name}})).collect();
        let outputs: Vec<Value> = steps.iter().map(|(name, _)| json!({"name": name, "from": name, "sinkRef": {"name": name}})).collect();
        let steps: Vec<Value> = steps.iter().map(|(name, sql)| json!({"name": name, "sql": sql})).collect();
        let (checkpoint, state) = (json!({"intervalSeconds": 1}), json!({"ttlSeconds": 864_000}));
        object("Pipeline", name, json!({"inputs": inputs, "steps": steps, "outputs": outputs, "checkpoint": checkpoint, "state": state}))
    };
    let big = |name: &str| json!({"name": name, "type": "BigInt"});
    let all = [
        source(
            "orders",
            "shop.orders",
            json!({"debezium": {}}),
            json!({"mode": "Retract", "primaryKey": ["id"]}),
            json!([big("id"), big("customer"), {"name": "amount", "type": "Decimal", "precision": 10}, {"name": "status", "type": "Varchar"}]),
        ),
        source(
            "customers",
            "customers",
            json!({"json": {}}),
            json!({"primaryKey": ["id"]}),
            json!([big("id"), {"name": "city", "type": "Varchar", "presence": "Required"}]),
        ),
        source(
            "results",
            "totals",
            json!({"json": {}}),
            json!({"primaryKey": ["city"], "recordKey": "Text"}),
            json!([{"name": "city", "type": "Varchar"}, big("orders")]),
        ),
        sink("open", "Off"),
        sink("totals", "Auto"),
        sink("busy", "Off"),
        pipeline("shop", &["orders", "customers"], &[("open", OPEN), ("totals", TOTALS)]),
        pipeline("again", &["results"], &[("busy", BUSY)]),
    ];
    let all = all.iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(all.join("---\n"))
}

const OPEN: &str = "SELECT id, customer, amount FROM orders WHERE status <> 'done'";
const TOTALS: &str =
    "SELECT c.city, count(*) AS orders, sum(o.amount) AS amount FROM open AS o JOIN customers AS c ON o.customer = c.id GROUP BY c.city";
const BUSY: &str = "SELECT city, orders FROM results WHERE orders >= 5";

fn start(program: &Path, manifest: &Path) -> Result<Child> {
    let folder = manifest.parent().context("the manifest has a directory")?;
    let mut command = Command::new(program);
    command.arg("run").arg("--quiet").arg(manifest).current_dir(folder).stdin(Stdio::null());
    command.kill_on_drop(true).spawn().context("start millrace")
}

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number")))
}

#[tokio::test]
async fn tables_that_are_followed_come_to_what_they_are_through_kills() -> Result<()> {
    let (kills, seed) = (setting("MILLRACE_TEST_KILLS", 4)?, setting("MILLRACE_TEST_SEED", 1)?);
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let manifest: PathBuf = folder.path().join("shop.yaml");
    std::fs::write(&manifest, manifests(&kafka)?)?;
    let program = tokio::task::spawn_blocking(|| image::build(Image::Worker, image::Profile::for_tests())).await??;
    let mut dice = Dice::new(seed);
    let mut database = Database::new(&kafka).await?;
    database.go_on(&mut dice).await?;
    let mut millrace = start(&program, &manifest)?;
    for _ in 0..kills {
        database.go_on(&mut dice).await?;
        // The moment is what is random here; nothing is expected to have happened by then.
        tokio::time::sleep(Duration::from_millis(dice.below(2500))).await;
        if let Some(status) = millrace.try_wait()? {
            anyhow::bail!("it ended by itself: {status}");
        }
        millrace.kill().await.context("kill millrace")?;
        millrace = start(&program, &manifest)?;
    }
    database.go_on(&mut dice).await?;
    ensure!(database.totals().len() > 1 && !database.busy().is_empty() && database.open().len() > 5, "there is too little to look at");
    poll::until("the topics follow the tables", PATIENCE, async || database.check()).await?;
    // What is revised within a transaction is never seen half: nothing changes any more.
    let id = millrace.id().context("it has ended")?;
    ensure!(std::process::Command::new("kill").args(["-TERM", &id.to_string()]).status()?.success(), "cannot send SIGTERM");
    let status = tokio::time::timeout(PATIENCE, millrace.wait()).await.context("millrace does not drain")??;
    ensure!(status.code() == Some(0), "millrace ended with {status}");
    database.check()?;
    println!("{kills} kills (seed {seed}): {} orders, {} totals", database.orders.len(), database.totals().len());
    Ok(())
}
