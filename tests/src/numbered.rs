//! Numbered records for tests in which brokers die: what is written to each partition, the manifests of a Pipeline that passes it on in transactions, and
//! whether a reader of what is committed finds each record once and in order. It starts no worker and stops no broker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use serde_json::{Value, json};

use crate::committed;
use crate::dice::Dice;
use crate::poll;
use crate::servers::Brokers;

/// Topic that is written.
pub const OUTPUT: &str = "passed";
/// Group that offsets are committed to.
pub const GROUP: &str = "readers";
/// Partitions of the output.
pub const OUTPUTS: i32 = 6;
/// Keys of the records of one partition: so they go to several partitions of the output.
const KEYS: u64 = 4;
/// For an answer, while brokers come and go.
const ANSWER: Duration = Duration::from_secs(20);
/// For an acknowledgement, while brokers come and go.
const ACKNOWLEDGED: &str = "300000";
/// Until the client has looked at the topic anew.
const LEARNT: Duration = Duration::from_mins(1);

/// Writes records, each numbered within its partition.
pub struct Numbers {
    producer: FutureProducer,
    topic: String,
    /// Tells topics of the same name apart.
    era: u64,
    /// How many records each partition has.
    written: Vec<u64>,
}

impl Numbers {
    /// Of a topic with so many partitions; no other has the same era.
    ///
    /// # Errors
    /// There is no such client.
    pub fn new(brokers: &Brokers, topic: &str, partitions: usize, era: u64) -> Result<Self> {
        let mut config = brokers.config();
        // What this test itself writes twice would look like a fault of what it tests.
        config.set("enable.idempotence", "true").set("message.timeout.ms", ACKNOWLEDGED);
        Ok(Self { producer: config.create().context("make a producer")?, topic: topic.to_owned(), era, written: vec![0; partitions] })
    }

    /// How many records were written.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.written.iter().sum()
    }

    /// How many partitions are written to.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.written.len()
    }

    /// From now on there is one partition more.
    pub fn grow(&mut self) {
        self.written.push(0);
    }

    /// Writes so many records and waits until all are acknowledged.
    ///
    /// # Errors
    /// One of them is not.
    pub async fn write(&mut self, dice: &mut Dice, count: usize) -> Result<()> {
        let mut sent = Vec::with_capacity(count);
        for _ in 0..count {
            let partition = usize::try_from(dice.below(self.written.len() as u64))?;
            let number = self.written[partition];
            let key = format!("{partition}-{}", dice.below(KEYS));
            let value = json!({"key": key, "era": self.era, "origin": partition, "number": number}).to_string();
            sent.push(self.queue(i32::try_from(partition)?, &key, &value).await?);
            self.written[partition] += 1;
        }
        for delivery in futures::future::join_all(sent).await {
            delivery.context("the producer was dropped")?.map_err(|(error, _)| error).context("write a record")?;
        }
        Ok(())
    }

    /// Queues a record, once the client knows of its partition.
    async fn queue(&self, partition: i32, key: &str, value: &str) -> Result<DeliveryFuture> {
        let unknown = Some(RDKafkaErrorCode::UnknownPartition);
        poll::until("the new partition is known", LEARNT, async || {
            let record = FutureRecord::to(&self.topic).partition(partition).key(key).payload(value);
            match self.producer.send_result(record) {
                Err((error, _)) if error.rdkafka_error_code() == unknown => Err(error),
                other => Ok(other.map_err(|(error, _)| error)),
            }
        })
        .await?
        .context("queue a record")
    }

    /// Writes a little now and then, for as long as it is waited for. If that ends, what was to be acknowledged is acknowledged before anything is compared:
    /// the next [`write`](Self::write) is behind it.
    ///
    /// # Errors
    /// A record is not acknowledged.
    pub async fn go_on(&mut self, dice: &mut Dice) -> Result<()> {
        loop {
            self.write(dice, 20).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for everything that was written to be acknowledged.
    ///
    /// # Errors
    /// It is not.
    pub async fn flush(&self) -> Result<()> {
        use rdkafka::producer::Producer as _;
        let producer = self.producer.clone();
        tokio::task::spawn_blocking(move || producer.flush(Duration::from_mins(5))).await?.context("write the rest")
    }

    /// Whether `found` is everything that was written.
    ///
    /// # Errors
    /// What is missing.
    pub fn all_in(&self, found: &Found) -> Result<()> {
        for (origin, written) in (0_u64..).zip(&self.written) {
            let passed = found.0.get(&(self.era, origin)).map_or(0, |numbers| numbers.len() as u64);
            ensure!(passed == *written, "{passed} of {written} records of partition {origin} are committed");
        }
        Ok(())
    }
}

/// What is committed: by era and partition of the input, the numbers, each with the partition of the output where it is.
#[derive(Debug)]
pub struct Found(BTreeMap<(u64, u64), BTreeMap<u64, i32>>);

impl Found {
    /// Records of an era.
    #[must_use]
    pub fn of_era(&self, era: u64) -> u64 {
        self.0.iter().filter(|((found, _), _)| *found == era).map(|(_, numbers)| numbers.len() as u64).sum()
    }
}

/// Everything that is committed in the output.
///
/// # Errors
/// `TWICE` or `ORDER` if a record is there twice or before an earlier one of its partition; anything else may pass.
pub async fn committed(brokers: &Brokers) -> Result<Found> {
    let config = brokers.config();
    tokio::task::spawn_blocking(move || read(config)).await?
}

fn read(config: rdkafka::ClientConfig) -> Result<Found> {
    let mut found = Found(BTreeMap::new());
    let mut last: BTreeMap<(i32, u64, u64), u64> = BTreeMap::new();
    committed::each(config, OUTPUT, OUTPUTS, ANSWER, |record| {
        let row: Value = serde_json::from_slice(record.payload().context("a record without a value")?)?;
        let field = |name: &str| row[name].as_u64().with_context(|| format!("no {name} in {row}"));
        let (era, origin, number) = (field("era")?, field("origin")?, field("number")?);
        let place = format!("record {number} of partition {origin} of era {era}, at {}/{}", record.partition(), record.offset());
        if found.0.entry((era, origin)).or_default().insert(number, record.partition()).is_some() {
            bail!("TWICE: {place}");
        }
        if let Some(before) = last.insert((record.partition(), era, origin), number).filter(|before| *before > number) {
            bail!("ORDER: {place} comes after {before}");
        }
        Ok(())
    })?;
    Ok(found)
}

/// A Source of a topic, a Sink, and the Pipeline between them.
///
/// # Errors
/// They cannot be written as YAML, which does not happen.
pub fn manifests(brokers: &Brokers, input: &str, on_position_lost: &str) -> Result<String> {
    let bootstrap = brokers.bootstrap();
    let column = |(name, kind): (&str, &str)| json!({"name": name, "type": kind});
    let columns: Vec<_> = [("key", "Varchar"), ("era", "BigInt"), ("origin", "BigInt"), ("number", "BigInt")].map(column).into();
    let objects = [
        json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "Source", "metadata": {"name": "numbers"},
            "spec": {
                "kafka": {"bootstrapServers": bootstrap, "topics": [input], "groupId": GROUP, "onPositionLost": on_position_lost},
                "format": {"json": {}}, "schema": {"columns": columns},
            },
        }),
        json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "Sink", "metadata": {"name": "passed"},
            "spec": {"kafka": {"bootstrapServers": bootstrap, "topic": OUTPUT, "keyFrom": ["key"], "transactional": "Auto", "format": {"json": {}}}},
        }),
        json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": input},
            "spec": {
                "inputs": [{"name": "numbers", "sourceRef": {"name": "numbers"}}],
                "steps": [{"name": "result", "sql": "SELECT key, era, origin, number FROM numbers WHERE number >= 0"}],
                "outputs": [{"name": "out", "from": "result", "sinkRef": {"name": "passed"}}],
                "checkpoint": {"intervalSeconds": 1},
            },
        }),
    ];
    let texts = objects.iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join("---\n"))
}
