//! The conformance suite of connectors, run by those that need a real server: kafka and opensearch. The checks themselves are in `millrace-connectors`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use millrace_connectors::conformance::{self, SinkFixture, SourceFixture, TableFixture, record};
use millrace_connectors::registry;
use millrace_engine::sink::Sink;
use millrace_engine::source::Source;
use millrace_tests::servers::{Kafka, OpenSearch};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

/// How long one request of a fixture may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn sink(spec: Value) -> Arc<dyn Sink> {
    let spec = serde_json::from_value(spec).expect("a sink's spec");
    registry::sink(&spec, &conformance::context(Path::new("/nonexistent"))).expect("a sink")
}

/// One topic of a broker that all fixtures share.
struct Topic<'a> {
    kafka: &'a Kafka,
    name: &'static str,
}

impl<'a> Topic<'a> {
    async fn new(kafka: &'a Kafka, name: &'static str) -> Result<Self> {
        kafka.create_topic(name, 1).await?;
        Ok(Self { kafka, name })
    }

    async fn write(&self, records: &[String]) {
        let records: Vec<_> = records.iter().map(|record| (0, "k", record.as_str())).collect();
        self.kafka.produce(self.name, &records).await.expect("the broker takes records");
    }

    fn list(&self, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.name, 0, offset).expect("a valid offset");
        list
    }
}

#[async_trait]
impl SourceFixture for Topic<'_> {
    fn source(&self) -> Arc<dyn Source> {
        let (format, schema) = conformance::format();
        let kafka = json!({"bootstrapServers": self.kafka.bootstrap(), "topics": [self.name], "groupId": self.name});
        let spec = serde_json::from_value(json!({"kafka": kafka, "format": format, "schema": schema})).expect("a source's spec");
        registry::source(&spec, &conformance::context(Path::new("/nonexistent"))).expect("a source")
    }

    fn split(&self) -> String {
        format!("{}/0", self.name)
    }

    async fn produce(&self, values: Range<i64>) {
        self.write(&values.map(record).collect::<Vec<_>>()).await;
    }

    async fn produce_bad(&self, good: i64) {
        self.write(&[record(good), "{broken".to_owned(), record(good + 1)]).await;
    }

    /// What the group has not committed: for Kafka an account of records, not of inputs.
    async fn kept(&self) -> Option<u64> {
        let client: BaseConsumer = self.kafka.config().set("group.id", self.name).create().expect("a client");
        let committed = client.committed_offsets(self.list(Offset::Invalid), PATIENCE).expect("the broker answers");
        let (low, high) = self.kafka.offsets(self.name, 0).expect("the broker answers");
        let committed = committed.elements()[0].offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(low);
        Some((high - committed).unsigned_abs())
    }
}

/// A topic of changes: Debezium's events, or rows by their key.
struct Changes<'a> {
    topic: Topic<'a>,
    events: bool,
}

impl<'a> Changes<'a> {
    async fn new(kafka: &'a Kafka, name: &'static str, events: bool) -> Result<Self> {
        Ok(Self { topic: Topic::new(kafka, name).await?, events })
    }

    fn record(&self, value: i64) -> String {
        let row = record(value);
        if self.events { format!("{{\"before\":null,\"after\":{row},\"op\":\"c\"}}") } else { row }
    }
}

#[async_trait]
impl SourceFixture for Changes<'_> {
    fn source(&self) -> Arc<dyn Source> {
        let (_, schema) = conformance::format();
        let format = if self.events { json!({"debezium": {}}) } else { json!({"json": {}}) };
        let mode = if self.events { "Retract" } else { "Upsert" };
        let kafka = json!({"bootstrapServers": self.topic.kafka.bootstrap(), "topics": [self.topic.name]});
        let spec = json!({"kafka": kafka, "format": format, "schema": schema, "changelog": {"mode": mode, "primaryKey": ["n"]}});
        let spec = serde_json::from_value(spec).expect("a source's spec");
        registry::source(&spec, &conformance::context(Path::new("/nonexistent"))).expect("a source")
    }

    fn split(&self) -> String {
        self.topic.split()
    }

    async fn produce(&self, values: Range<i64>) {
        self.topic.write(&values.map(|value| self.record(value)).collect::<Vec<_>>()).await;
    }

    async fn produce_bad(&self, good: i64) {
        self.topic.write(&[self.record(good), "{broken".to_owned(), self.record(good + 1)]).await;
    }

    async fn kept(&self) -> Option<u64> {
        None
    }
}

#[tokio::test]
async fn kafka_changes() -> Result<()> {
    let kafka = Kafka::start().await?;
    for (events, names) in [(true, ["e1", "e2", "e3", "e4"]), (false, ["u1", "u2", "u3", "u4"])] {
        conformance::source::resumes_exactly(&Changes::new(&kafka, names[0], events).await?, 10, 500, 3).await?;
        conformance::source::drains(&Changes::new(&kafka, names[1], events).await?).await?;
        conformance::source::rests_when_all_is_read(&Changes::new(&kafka, names[2], events).await?).await?;
        conformance::source::returns_rejected_records(&Changes::new(&kafka, names[3], events).await?).await?;
    }
    Ok(())
}

#[async_trait]
impl SinkFixture for Topic<'_> {
    fn sink(&self) -> Arc<dyn Sink> {
        sink(json!({"kafka": {"bootstrapServers": self.kafka.bootstrap(), "topic": self.name, "format": {"json": {}}}}))
    }

    /// As a reader sees it who drops duplicates by their coordinate.
    async fn visible(&self) -> Vec<i64> {
        let (low, high) = self.kafka.offsets(self.name, 0).expect("the broker answers");
        let client: BaseConsumer = self.kafka.config().set("group.id", "looker").create().expect("a client");
        client.assign(&self.list(Offset::Beginning)).expect("the topic exists");
        let mut found = std::collections::BTreeMap::new();
        for _ in low..high {
            let record = client.poll(PATIENCE).expect("a record is missing").expect("the broker answers");
            let coordinate = rdkafka::message::Headers::get(record.headers().expect("headers"), 0).value.expect("a coordinate").to_vec();
            let value: Value = serde_json::from_slice(record.payload().expect("a value")).expect("JSON");
            found.insert(coordinate, value["n"].as_i64().expect("a number"));
        }
        found.into_values().collect()
    }

    fn is_transactional(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn kafka_source() -> Result<()> {
    let kafka = Kafka::start().await?;
    conformance::source::resumes_exactly(&Topic::new(&kafka, "resumes").await?, 20, 3000, 3).await?;
    conformance::source::resumes_exactly(&Topic::new(&kafka, "resumes-small").await?, 3, 5, 11).await?;
    conformance::source::acknowledges_only_when_told(&Topic::new(&kafka, "acknowledges").await?).await?;
    conformance::source::drains(&Topic::new(&kafka, "drains").await?).await?;
    conformance::source::rests_when_all_is_read(&Topic::new(&kafka, "rests").await?).await?;
    conformance::source::returns_rejected_records(&Topic::new(&kafka, "rejects").await?).await?;
    Ok(())
}

#[tokio::test]
async fn kafka_sink() -> Result<()> {
    let kafka = Kafka::start().await?;
    conformance::sink::commits_once(&Topic::new(&kafka, "commits").await?).await?;
    conformance::sink::takes_empty_epochs(&Topic::new(&kafka, "empty").await?).await?;
    conformance::sink::closing_leaves_what_was_prepared(&Topic::new(&kafka, "closing").await?).await?;
    conformance::sink::survives_replacement(&Topic::new(&kafka, "replacement").await?).await?;
    Ok(())
}

/// A topic that keeps a table.
struct Compacted<'a> {
    topic: Topic<'a>,
    transactional: &'static str,
}

#[async_trait]
impl TableFixture for Compacted<'_> {
    fn sink(&self) -> Arc<dyn Sink> {
        let Topic { kafka, name } = self.topic;
        let (servers, transactional) = (kafka.bootstrap(), self.transactional);
        sink(json!({"kafka": {"bootstrapServers": servers, "topic": name, "transactional": transactional, "format": {"json": {}}}}))
    }

    /// The last value of each key, of what is committed.
    async fn table(&self) -> BTreeMap<i64, i64> {
        let mut config = self.topic.kafka.config();
        config.set("group.id", "looker").set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        let client: BaseConsumer = config.create().expect("a client");
        client.assign(&self.topic.list(Offset::Beginning)).expect("the topic exists");
        let mut table = BTreeMap::new();
        loop {
            match client.poll(PATIENCE).expect("an answer") {
                Ok(record) => {
                    let key = std::str::from_utf8(record.key().expect("a key")).ok().and_then(|key| key.parse().ok()).expect("a number");
                    match record.payload() {
                        None => drop(table.remove(&key)),
                        Some(value) => {
                            let value: Value = serde_json::from_slice(value).expect("JSON");
                            assert_eq!(value["k"], key);
                            table.insert(key, value["n"].as_i64().expect("a number"));
                        }
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => return table,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn kafka_table() -> Result<()> {
    let kafka = Kafka::start().await?;
    for (name, transactional) in [("table", "Off"), ("table-in-transactions", "Auto")] {
        let topic = Topic::new(&kafka, name).await?;
        conformance::sink::keeps_a_table(&Compacted { topic, transactional }).await.with_context(|| name)?;
    }
    Ok(())
}

/// One index of a node that all fixtures share.
struct Index<'a> {
    search: &'a OpenSearch,
    name: &'static str,
}

#[async_trait]
impl SinkFixture for Index<'_> {
    fn sink(&self) -> Arc<dyn Sink> {
        sink(json!({"opensearch": {"endpoint": self.search.url(), "index": self.name}}))
    }

    async fn visible(&self) -> Vec<i64> {
        if self.search.count(self.name).await.expect("the node answers") == 0 {
            return Vec::new();
        }
        let found = self.search.get(&format!("/{}/_search?size=1000", self.name)).await.expect("the node answers");
        let hits = found["hits"]["hits"].as_array().context("no hits").expect("the node answers a search");
        hits.iter().map(|hit| hit["_source"]["n"].as_i64().expect("a number")).collect()
    }

    fn is_transactional(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn opensearch_sink() -> Result<()> {
    let search = OpenSearch::start().await?;
    let index = |name| Index { search: &search, name };
    conformance::sink::commits_once(&index("commits")).await?;
    conformance::sink::takes_empty_epochs(&index("empty")).await?;
    conformance::sink::closing_leaves_what_was_prepared(&index("closing")).await?;
    conformance::sink::survives_replacement(&index("replacement")).await?;
    Ok(())
}

/// An index that keeps a table.
struct Documents<'a>(Index<'a>);

#[async_trait]
impl TableFixture for Documents<'_> {
    fn sink(&self) -> Arc<dyn Sink> {
        sink(json!({"opensearch": {"endpoint": self.0.search.url(), "index": self.0.name, "idFrom": ["k"]}}))
    }

    async fn table(&self) -> BTreeMap<i64, i64> {
        if self.0.search.count(self.0.name).await.expect("the node answers") == 0 {
            return BTreeMap::new();
        }
        let found = self.0.search.get(&format!("/{}/_search?size=1000", self.0.name)).await.expect("the node answers");
        let hits = found["hits"]["hits"].as_array().expect("hits").iter();
        let number = |hit: &Value, column: &str| hit["_source"][column].as_i64().expect("a number");
        hits.map(|hit| (number(hit, "k"), number(hit, "n"))).collect()
    }
}

#[tokio::test]
async fn opensearch_table() -> Result<()> {
    let search = OpenSearch::start().await?;
    conformance::sink::keeps_a_table(&Documents(Index { search: &search, name: "table" })).await?;
    Ok(())
}
