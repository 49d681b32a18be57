//! The kafka connector against a real broker: positions, transactions, losses, outages, refusals. It goes through the contracts that the
//! engine uses, and through nothing below them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use millrace_connectors::context::{Context, ResolvedLimits};
use millrace_connectors::registry;
use millrace_crds::pipeline::Limits;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::batch::{Batch, Origin, RejectCode};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::plan::Changelog;
use millrace_engine::row_kind::{RowKind, RowKinds};
use millrace_engine::sink::{OpenSink, Sink, SinkWriter, WriterIdentity};
use millrace_engine::source::{OpenSplit, Shared, Source, SourceEvent, SplitReader};
use millrace_tests::poll;
use millrace_tests::servers::Kafka;
use object_store::memory::InMemory;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

/// Long enough for a machine that is busy compiling.
const DEADLINE: Duration = Duration::from_mins(1);

fn context() -> Context {
    Context { secrets_dir: "/nonexistent".into(), limits: ResolvedLimits::from(&Limits::default()) }
}

/// A source of JSON records with the columns `id` and `name`; `options` are added to the kafka block.
fn source(kafka: &str, topic: &str, options: Value) -> Result<Arc<dyn Source>> {
    let mut block = json!({"bootstrapServers": kafka, "topics": [topic]});
    let fields = block.as_object_mut().context("an object")?;
    fields.extend(options.as_object().context("options are an object")?.clone());
    let columns = json!([{"name": "id", "type": "BigInt"}, {"name": "name", "type": "Varchar"}]);
    let spec = json!({"kafka": block, "format": {"json": {}}, "schema": {"columns": columns}});
    Ok(registry::source(&serde_json::from_value(spec)?, &context())?)
}

fn shared() -> Shared {
    Shared { store: Arc::new(InMemory::new()), folder: "pipelines/uid/inputs/orders".into() }
}

fn split(split: &str, position: Option<Value>, shared: &Shared) -> OpenSplit {
    let projection = ["id", "name"].map(str::to_owned).to_vec();
    OpenSplit { split: split.to_owned(), position, projection, generation: 1, shared: shared.clone(), health: Health::default() }
}

async fn open(source: &Arc<dyn Source>, position: Option<Value>) -> Result<(Box<dyn SplitReader>, Health)> {
    let open = split("orders/0", position, &shared());
    let health = open.health.clone();
    Ok((source.open(open).await?, health))
}

/// What a reader delivered: ids with their coordinates, and what was refused.
#[derive(Debug, Default)]
struct Read {
    ids: Vec<i64>,
    coordinates: Vec<String>,
    refused: Vec<(u64, RejectCode)>,
}

impl Read {
    fn add(&mut self, event: SourceEvent) -> Result<()> {
        let SourceEvent::Records(records) = event else { anyhow::bail!("the input has ended") };
        self.refused.extend(records.rejected.iter().map(|rejected| (rejected.ordinal, rejected.code)));
        if let Some(batch) = records.batch {
            self.ids.extend(batch.records.column(0).as_primitive::<arrow::datatypes::Int64Type>().values());
            self.coordinates.extend((0..batch.num_rows()).map(|row| batch.coordinate(row)));
        }
        Ok(())
    }
}

/// Reads until `count` rows have come.
async fn take(reader: &mut dyn SplitReader, count: usize) -> Result<Read> {
    let mut read = Read::default();
    while read.ids.len() < count {
        let event = tokio::time::timeout(DEADLINE, reader.next()).await;
        read.add(event.with_context(|| format!("only {read:?} within {DEADLINE:?}"))??)?;
    }
    Ok(read)
}

/// Reads until everything there is has been read.
async fn drained(reader: &mut dyn SplitReader) -> Result<Read> {
    let mut read = Read::default();
    while !reader.lag().idle {
        read.add(tokio::time::timeout(DEADLINE, reader.next()).await.context("not idle in time")??)?;
    }
    Ok(read)
}

/// Reads on, as the engine does, until `check` says so.
async fn read_until(reader: &mut dyn SplitReader, what: &str, check: impl Fn() -> bool) -> Result<Read> {
    let mut read = Read::default();
    poll::until(what, DEADLINE, async || {
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(100), reader.next()).await {
            read.add(event?)?;
        }
        ensure!(check(), "not yet");
        Ok(())
    })
    .await?;
    Ok(read)
}

/// The error that ends a reader.
async fn failure(reader: &mut dyn SplitReader) -> Result<ConnectorError> {
    let ending = async {
        loop {
            if let Err(error) = reader.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(DEADLINE, ending).await.context("the reader goes on")
}

async fn produce(kafka: &Kafka, ids: std::ops::Range<i64>) -> Result<()> {
    let values: Vec<_> = ids.map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}")).collect();
    let records: Vec<_> = values.iter().map(|value| (0, "k", value.as_str())).collect();
    kafka.produce("orders", &records).await
}

fn admin(kafka: &Kafka) -> Result<AdminClient<DefaultClientContext>> {
    Ok(kafka.config().create()?)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE))
}

#[tokio::test]
async fn a_reader_goes_on_exactly_where_the_last_one_was() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 2).await?;
    let source = source(&kafka.bootstrap(), "orders", json!({"groupId": "watched"}))?;
    assert_eq!(source.splits(&shared()).await?, ["orders/0", "orders/1"]);

    produce(&kafka, 0..3).await?;
    let (mut first, _) = open(&source, None).await?;
    let before = first.position();
    let read = take(first.as_mut(), 3).await?;
    assert_eq!(read.ids, [0, 1, 2]);
    let position = first.position();
    assert_ne!(position, before);
    assert_eq!(position["offset"], 3);
    assert_eq!(position["topicId"].as_str().map(str::len), Some(22), "the id of the topic is known: {position}");

    produce(&kafka, 3..6).await?;
    let ahead = take(first.as_mut(), 3).await?;
    drained(first.as_mut()).await?;
    assert_eq!(first.lag().records, Some(0));

    // Another owner starts at the last epoch: it sees what came after, under the same coordinates.
    let (mut second, _) = open(&source, Some(position)).await?;
    let again = take(second.as_mut(), 3).await?;
    assert_eq!(again.ids, [3, 4, 5]);
    assert_eq!(again.coordinates, ahead.coordinates);

    // A tombstone is no row; what is no JSON is refused under its offset; both are passed.
    let producer: FutureProducer = kafka.config().create()?;
    for value in [None, Some("{broken"), Some("{\"id\":6,\"name\":\"n6\"}")] {
        let mut record = FutureRecord::to("orders").partition(0).key("k");
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record, DEADLINE).await.map_err(|(error, _)| error)?;
    }
    let mut read = take(second.as_mut(), 1).await?;
    assert_eq!((read.ids.as_slice(), read.refused.pop()), (&[6][..], Some((7, RejectCode::Malformed))));
    assert_eq!(second.position()["offset"], 9);

    // Progress is published only when it is acknowledged.
    let position = second.position();
    second.acknowledge(&position).await?;
    let watcher: BaseConsumer = kafka.config().set("group.id", "watched").create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition("orders", 0);
    read_until(second.as_mut(), "the offset is committed", || {
        let committed = watcher.committed_offsets(list.clone(), DEADLINE);
        committed.is_ok_and(|committed| committed.elements()[0].offset() == Offset::Offset(9))
    })
    .await?;

    second.drain();
    assert!(matches!(second.next().await?, SourceEvent::End));
    first.close().await;
    second.close().await;
    Ok(())
}

/// Kinds, ids and coordinates of changes that a reader delivers, until it has come to the end.
async fn changes_of(reader: &mut dyn SplitReader) -> Result<(Vec<(RowKind, i64)>, Vec<String>)> {
    let (mut rows, mut coordinates) = (Vec::new(), Vec::new());
    while !reader.lag().idle {
        let SourceEvent::Records(records) = tokio::time::timeout(DEADLINE, reader.next()).await.context("not idle in time")?? else {
            anyhow::bail!("the input has ended")
        };
        ensure!(records.rejected.is_empty(), "{:?}", records.rejected);
        let Some(batch) = records.batch else { continue };
        let ids = batch.records.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        rows.extend((0..batch.num_rows()).map(|row| (batch.kind(row), ids.value(row))));
        coordinates.extend((0..batch.num_rows()).map(|row| batch.coordinate(row)));
    }
    Ok((rows, coordinates))
}

#[tokio::test]
async fn changes_have_kinds_and_each_row_a_coordinate_of_its_own() -> Result<()> {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    let row = |id: i64, name: &str| json!({"id": id, "name": name});
    let event = |op: &str, before: Value, after: Value| json!({"op": op, "before": before, "after": after}).to_string();
    let events = [
        event("c", Value::Null, row(1, "a")),
        event("u", row(1, "a"), row(1, "b")),
        event("d", row(1, "b"), Value::Null),
        event("r", Value::Null, row(2, "c")),
        event("u", row(2, "c"), row(2, "d")),
    ];
    let records: Vec<_> = events.iter().map(|event| (0, "k", event.as_str())).collect();
    kafka.produce("orders", &records).await?;
    let spec = json!({
        "kafka": {"bootstrapServers": kafka.bootstrap(), "topics": ["orders"]},
        "format": {"debezium": {}},
        "schema": {"columns": [{"name": "id", "type": "BigInt"}, {"name": "name", "type": "Varchar"}]},
    });
    let of = |spec: &Value| Ok::<_, anyhow::Error>(registry::source(&serde_json::from_value(spec.clone())?, &context())?);
    let source = of(&spec)?;
    let (mut reader, _) = open(&source, None).await?;
    let (rows, coordinates) = changes_of(reader.as_mut()).await?;
    let all = [(Insert, 1), (UpdateBefore, 1), (UpdateAfter, 1), (Delete, 1), (Insert, 2), (UpdateBefore, 2), (UpdateAfter, 2)];
    assert_eq!(rows, all);
    let distinct: std::collections::BTreeSet<_> = coordinates.iter().collect();
    assert_eq!(distinct.len(), coordinates.len(), "{coordinates:?}");
    reader.close().await;
    // From a position on they are the same.
    let (mut reader, _) = open(&source, Some(json!({"offset": 1}))).await?;
    let (again, same) = changes_of(reader.as_mut()).await?;
    assert_eq!((again.as_slice(), same.as_slice()), (&all[1..], &coordinates[1..]));
    reader.close().await;
    // By their key, only what is there from now on counts.
    let mut by_key = spec;
    by_key["changelog"] = json!({"primaryKey": ["id"]});
    let source = of(&by_key)?;
    let (mut reader, _) = open(&source, None).await?;
    let (rows, _) = changes_of(reader.as_mut()).await?;
    assert_eq!(rows, [(Insert, 1), (Insert, 1), (Delete, 1), (Insert, 2), (Insert, 2)]);
    reader.close().await;
    Ok(())
}

#[tokio::test]
async fn what_was_aborted_is_never_seen() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    let producer: FutureProducer = kafka.config().set("transactional.id", "writer").create()?;
    producer.init_transactions(DEADLINE)?;
    let send = async |id: i64| -> Result<()> {
        let value = format!("{{\"id\":{id}}}");
        producer.send(FutureRecord::<(), _>::to("orders").partition(0).payload(&value), DEADLINE).await.map_err(|(error, _)| error)?;
        Ok(())
    };
    producer.begin_transaction()?;
    send(1).await?;
    producer.abort_transaction(DEADLINE)?;
    producer.begin_transaction()?;
    send(2).await?;
    producer.commit_transaction(DEADLINE)?;
    producer.begin_transaction()?;
    send(3).await?;
    producer.abort_transaction(DEADLINE)?;

    let committed = source(&kafka.bootstrap(), "orders", json!({}))?;
    let (mut reader, _) = open(&committed, None).await?;
    assert_eq!(drained(reader.as_mut()).await?.ids, [2]);
    let end = kafka.offsets("orders", 0)?.1;
    assert_eq!(reader.position()["offset"], end, "the ends of transactions behind the last record are passed");

    // An open transaction holds back what is in it, and what comes after.
    producer.begin_transaction()?;
    send(4).await?;
    produce(&kafka, 5..6).await?;
    let all = source(&kafka.bootstrap(), "orders", json!({"isolationLevel": "ReadUncommitted"}))?;
    let (mut dirty, _) = open(&all, None).await?;
    assert_eq!(take(dirty.as_mut(), 5).await?.ids, [1, 2, 3, 4, 5]);
    let held_back = tokio::time::timeout(Duration::from_secs(2), take(reader.as_mut(), 1)).await;
    assert!(held_back.is_err(), "{held_back:?}");
    producer.commit_transaction(DEADLINE)?;
    assert_eq!(take(reader.as_mut(), 2).await?.ids, [4, 5]);
    Ok(())
}

#[tokio::test]
async fn a_lost_position_is_named_and_the_policy_decides() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    produce(&kafka, 0..10).await?;
    let policy = |policy: &str| source(&kafka.bootstrap(), "orders", json!({"onPositionLost": policy}));
    let (mut reader, _) = open(&policy("Fail")?, None).await?;
    take(reader.as_mut(), 10).await?;
    let mut position = reader.position();
    position["offset"] = 2.into();

    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset("orders", 0, Offset::Offset(5))?;
    admin(&kafka)?.delete_records(&gone, &options()).await?;
    let (mut stopped, _) = open(&policy("Fail")?, Some(position.clone())).await?;
    let error = failure(stopped.as_mut()).await?;
    assert_eq!(error.reason, ErrorReason::DataLost);
    assert!(error.message.contains("orders/0") && error.message.contains("offsets 2 to 4"), "{}", error.message);

    let (mut earliest, health) = open(&policy("Earliest")?, Some(position.clone())).await?;
    assert_eq!(take(earliest.as_mut(), 5).await?.ids, [5, 6, 7, 8, 9]);
    let trouble = health.current().context("a loss shows until an epoch after it is durable")?;
    assert_eq!(trouble.reason, ErrorReason::DataLost);
    assert!(trouble.message.contains("offsets 2 to 4"), "{}", trouble.message);
    let after = earliest.position();
    earliest.acknowledge(&after).await?;
    assert_eq!(health.current(), None);

    let (mut latest, _) = open(&policy("Latest")?, Some(position)).await?;
    assert_eq!(drained(latest.as_mut()).await?.ids, [0; 0]);
    produce(&kafka, 10..11).await?;
    assert_eq!(take(latest.as_mut(), 1).await?.ids, [10]);
    Ok(())
}

#[tokio::test]
async fn a_topic_that_was_created_again_is_another_topic() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    produce(&kafka, 0..3).await?;
    let failing = source(&kafka.bootstrap(), "orders", json!({}))?;
    let (mut running, _) = open(&failing, None).await?;
    let old = take(running.as_mut(), 3).await?;
    drained(running.as_mut()).await?;
    let position = running.position();

    let admin = admin(&kafka)?;
    admin.delete_topics(&["orders"], &options()).await?[0].as_ref().map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    let create = async || {
        let topic = NewTopic::new("orders", 1, TopicReplication::Fixed(1));
        admin.create_topics(&[topic], &options()).await?[0].as_ref().map(drop).map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))
    };
    poll::until("the topic is made again", DEADLINE, create).await?;
    // More records than the position: the offset is there, what it stands for is not.
    produce(&kafka, 100..110).await?;

    let error = failure(running.as_mut()).await?;
    assert_eq!(error.reason, ErrorReason::DataLost, "while reading: {}", error.message);
    let (mut reopened, _) = open(&failing, Some(position.clone())).await?;
    let error = failure(reopened.as_mut()).await?;
    assert_eq!(error.reason, ErrorReason::DataLost, "after a restart: {}", error.message);
    assert!(error.message.contains("created again") && error.message.contains("from offset 3"), "{}", error.message);

    let going_on = source(&kafka.bootstrap(), "orders", json!({"onPositionLost": "Earliest"}))?;
    let (mut reader, _) = open(&going_on, Some(position.clone())).await?;
    let new = take(reader.as_mut(), 10).await?;
    assert_eq!(new.ids, (100..110).collect::<Vec<_>>());
    assert_ne!(new.coordinates[0], old.coordinates[0], "records of different topics have different coordinates");
    assert_ne!(reader.position()["topicId"], position["topicId"]);
    Ok(())
}

#[tokio::test]
async fn latest_is_where_the_end_was_at_first_sight() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    produce(&kafka, 0..3).await?;
    let source = source(&kafka.bootstrap(), "orders", json!({"startFrom": "Latest"}))?;
    let shared = shared();
    source.splits(&shared).await?;
    produce(&kafka, 3..5).await?;
    let mut reader = source.open(split("orders/0", None, &shared)).await?;
    assert_eq!(take(reader.as_mut(), 2).await?.ids, [3, 4], "what came before anybody read is not skipped");

    // A partition that is added later is read from its beginning.
    let added = NewPartitions::new("orders", 2);
    admin(&kafka)?.create_partitions(&[added], &options()).await?[0]
        .as_ref()
        .map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    poll::until("the partition is there", DEADLINE, async || {
        let splits = source.splits(&shared).await?;
        ensure!(splits == ["orders/0", "orders/1"], "{splits:?}");
        Ok(())
    })
    .await?;
    kafka.produce("orders", &[(1, "k", "{\"id\":50}")]).await?;
    let mut reader = source.open(split("orders/1", None, &shared)).await?;
    assert_eq!(take(reader.as_mut(), 1).await?.ids, [50]);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_goes_away_is_reported_and_nothing_is_lost() -> Result<()> {
    let mut kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    produce(&kafka, 0..5).await?;
    let source = source(&kafka.bootstrap(), "orders", json!({}))?;
    let (mut reader, reading) = open(&source, None).await?;
    take(reader.as_mut(), 5).await?;
    let (mut writer, writing) = open_sink(&kafka.bootstrap(), json!({"topic": "orders", "keyFrom": ["name"]})).await?;
    writer.write(rows(5..8)).await?;
    writer.prepare(1).await?;
    assert_eq!(take(reader.as_mut(), 3).await?.ids, [5, 6, 7]);

    kafka.stop().await?;
    let written = tokio::spawn(async move {
        writer.write(rows(8..10)).await?;
        let prepared = writer.prepare(2).await?;
        ensure!(prepared.rejected.is_empty(), "{prepared:?}");
        Ok(writer)
    });
    let read = read_until(reader.as_mut(), "both sides report the outage", || {
        [&reading, &writing].iter().all(|health| health.current().is_some_and(|trouble| trouble.reason == ErrorReason::Unreachable))
    });
    assert_eq!(read.await?.ids, [0; 0]);
    assert!(!written.is_finished(), "what is not acknowledged is not prepared");
    let ProbeResult::Failed { reason, .. } = source.probe().await else { anyhow::bail!("the probe succeeds") };
    assert_eq!(reason, ErrorReason::Unreachable);

    kafka.start_again().await?;
    assert_eq!(take(reader.as_mut(), 2).await?.ids, [8, 9]);
    let mut writer = tokio::time::timeout(DEADLINE, written).await.context("the epoch is not prepared")???;
    assert_eq!((reading.current(), writing.current()), (None, None));
    assert_eq!(kafka.offsets("orders", 0)?, (0, 10), "nothing was written twice");

    // With nothing to read or write, trouble ends all the same.
    drained(reader.as_mut()).await?;
    kafka.stop().await?;
    read_until(reader.as_mut(), "both sides report the second outage", || reading.current().is_some() && writing.current().is_some())
        .await?;
    kafka.start_again().await?;
    let read =
        read_until(reader.as_mut(), "both sides are well again", || reading.current().is_none() && writing.current().is_none()).await?;
    assert_eq!(read.ids, [0; 0]);
    writer.close().await;
    reader.close().await;
    Ok(())
}

fn rows(ids: std::ops::Range<i64>) -> Batch {
    let ordinals = UInt64Array::from_iter_values(ids.clone().map(i64::unsigned_abs));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("n{id}"))));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    batch(ids, names, ordinals)
}

fn batch(ids: ArrayRef, names: ArrayRef, ordinals: UInt64Array) -> Batch {
    let records = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).expect("two columns of one length");
    Batch::new(records, Origin::new("bucket/key/etag", "s3://bucket/key"), ordinals)
}

fn sink(kafka: &str, options: Value) -> Result<Arc<dyn Sink>> {
    let mut block = json!({"bootstrapServers": kafka, "format": {"json": {}}});
    block.as_object_mut().context("an object")?.extend(options.as_object().context("options are an object")?.clone());
    Ok(registry::sink(&serde_json::from_value(json!({"kafka": block}))?, &context())?)
}

async fn open_sink(kafka: &str, options: Value) -> Result<(Box<dyn SinkWriter>, Health)> {
    let schema: SchemaRef = rows(0..1).records.schema();
    let sink = sink(kafka, options)?;
    sink.accepts(&schema, None)?;
    let writer = WriterIdentity { pipeline_uid: "uid".into(), output: "out".into(), task: "task".into(), generation: 1 };
    let open = OpenSink { writer, schema, event_time: None, changelog: Changelog::Append, epoch: 1, health: Health::default() };
    let health = open.health.clone();
    Ok((sink.open(open).await?, health))
}

/// Key, value and coordinate of every record of partition 0, in order.
fn records(kafka: &Kafka, topic: &str) -> Result<Vec<(Option<String>, String, String)>> {
    let (low, high) = kafka.offsets(topic, 0)?;
    let consumer: BaseConsumer = kafka.config().set("group.id", "looker").create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut found = Vec::new();
    while found.len() < usize::try_from(high - low)? {
        let record = consumer.poll(DEADLINE).context("a record is missing")??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = record.headers().context("no headers")?;
        ensure!(headers.count() == 1 && headers.get(0).key == "millrace-coordinate", "{} headers", headers.count());
        let coordinate = headers.get(0).value.map(text).unwrap_or_default();
        found.push((record.key().map(text), record.payload().map(text).unwrap_or_default(), coordinate));
    }
    Ok(found)
}

#[tokio::test]
async fn records_have_keys_values_and_the_same_coordinates_in_a_replay() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("out", 1).await?;
    let options = json!({"topic": "out", "keyFrom": ["id", "name"]});
    for _ in 0..2 {
        let (mut writer, _) = open_sink(&kafka.bootstrap(), options.clone()).await?;
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, None]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a|b"), Some("c"), None]));
        writer.write(batch(ids, names, UInt64Array::from(vec![7, 8, 9]))).await?;
        let prepared = writer.prepare(1).await?;
        assert!(prepared.rejected.is_empty() && prepared.committables.is_empty(), "{prepared:?}");
        writer.close().await;
    }
    let found = records(&kafka, "out")?;
    let (first, replay) = found.split_at(3);
    assert_eq!(first, replay);
    let keys: Vec<_> = first.iter().map(|(key, ..)| key.as_deref()).collect();
    assert_eq!(keys, [Some("1|a\\|b"), Some("|c"), None]);
    let values: Vec<_> = first.iter().map(|(_, value, _)| value.as_str()).collect();
    assert_eq!(values, ["{\"id\":1,\"name\":\"a|b\"}", "{\"name\":\"c\"}", "{}"]);
    assert!(first.iter().map(|(.., coordinate)| coordinate).all(|text| text.len() > 20), "{first:?}");
    assert_ne!(first[0].2, first[1].2);
    Ok(())
}

#[tokio::test]
async fn a_record_that_the_topic_refuses_comes_back_and_the_others_are_written() -> Result<()> {
    let kafka = Kafka::start().await?;
    let topic = NewTopic::new("small", 1, TopicReplication::Fixed(1)).set("max.message.bytes", "2000");
    admin(&kafka)?.create_topics(&[topic], &options()).await?[0].as_ref().map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    let (mut writer, health) = open_sink(&kafka.bootstrap(), json!({"topic": "small"})).await?;
    // Together they are far beyond what the topic takes in one request; only one of them is by itself.
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|id| "x".repeat(if id == 40 { 5000 } else { 500 }))));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    writer.write(batch(ids, names, UInt64Array::from_iter_values(0..100))).await?;
    let prepared = writer.prepare(1).await?;
    assert_eq!(prepared.rejected.len(), 1, "{:?}", prepared.rejected.iter().map(|refused| refused.ordinal).collect::<Vec<_>>());
    let refused = &prepared.rejected[0];
    assert_eq!((refused.ordinal, refused.code), (40, RejectCode::TooLarge));
    assert!(refused.error.contains("small") && refused.payload.starts_with(b"{\"id\":40,"), "{refused:?}");
    assert_eq!(health.current(), None);
    let values = records(&kafka, "small")?;
    let ids: Result<Vec<Value>, _> = values.iter().map(|(_, value, _)| serde_json::from_str(value)).collect();
    let ids: Vec<_> = ids?.iter().filter_map(|value| value["id"].as_i64()).collect();
    assert_eq!(ids, (0..100).filter(|id| *id != 40).collect::<Vec<_>>(), "each once, in order");

    // The next epoch is not burdened with it.
    writer.write(rows(200..201)).await?;
    assert!(writer.prepare(2).await?.rejected.is_empty());
    Ok(())
}

/// `ids` and `names` as changes of the given kinds.
fn changes(rows: &[(RowKind, Option<i64>, Option<&str>)]) -> Batch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|(_, id, _)| *id)));
    let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|(.., name)| *name)));
    let mut batch = batch(ids, names, UInt64Array::from_iter_values(0..rows.len() as u64));
    batch.kinds = Some(RowKinds::new(rows.iter().map(|(kind, ..)| *kind)));
    batch
}

#[tokio::test]
async fn revised_rows_are_values_and_tombstones_under_their_key() -> Result<()> {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let kafka = Kafka::start().await?;
    // A tombstone of a long key is too large for the topic.
    let topic = NewTopic::new("table", 1, TopicReplication::Fixed(1)).set("max.message.bytes", "2000").set("cleanup.policy", "compact");
    admin(&kafka)?.create_topics(&[topic], &options()).await?[0].as_ref().map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    let long = "x".repeat(5000);
    let revisions = changes(&[
        (Insert, Some(1), Some("a")),
        (UpdateBefore, Some(1), Some("a")),
        (UpdateAfter, Some(1), Some("b")),
        (Insert, None, None),
        (Insert, None, Some("")),
        (Delete, None, Some(&long)),
        (Delete, None, None),
        (UpdateBefore, Some(1), Some("b")),
        (UpdateAfter, Some(2), Some("b")),
    ]);
    // By the key of the plan; by more columns than it has, so that a row that changes in them leaves its key.
    for (key_from, key, replaced) in [(json!([]), vec!["name"], false), (json!(["id", "name"]), vec!["id"], true)] {
        let (_, low) = kafka.offsets("table", 0)?;
        let changelog = Changelog::Updating { key: key.iter().map(|column| (*column).to_owned()).collect() };
        let sink = sink(&kafka.bootstrap(), json!({"topic": "table", "keyFrom": key_from}))?;
        sink.accepts_changelog(&changelog)?;
        let writer = WriterIdentity { pipeline_uid: "uid".into(), output: "out".into(), task: "task".into(), generation: 1 };
        let schema = revisions.records.schema();
        let open = OpenSink { writer, schema, event_time: None, changelog, epoch: 1, health: Health::default() };
        let mut writer = sink.open(open).await?;
        writer.write(revisions.clone()).await?;
        let prepared = writer.prepare(1).await?;
        writer.close().await;
        let [refused] = prepared.rejected.as_slice() else { anyhow::bail!("{:?}", prepared.rejected) };
        assert_eq!((refused.ordinal, refused.code, refused.payload_bytes), (5, RejectCode::TooLarge, 0));
        assert!(refused.error.contains("topic table refuses that the row of key \"") && refused.error.contains("xxx"), "{}", refused.error);
        assert!(refused.error.len() < 500, "{}", refused.error);
        let found: Vec<_> = table_records(&kafka, "table", low)?;
        let expected: Vec<(&str, Option<&str>)> = if replaced {
            vec![
                ("1|a", Some(r#"{"id":1,"name":"a"}"#)),
                ("1|a", None),
                ("1|b", Some(r#"{"id":1,"name":"b"}"#)),
                (r"\N|\N", Some("{}")),
                (r"\N|", Some(r#"{"name":""}"#)),
                (r"\N|\N", None),
                ("1|b", None),
                ("2|b", Some(r#"{"id":2,"name":"b"}"#)),
            ]
        } else {
            vec![
                ("a", Some(r#"{"id":1,"name":"a"}"#)),
                ("a", None),
                ("b", Some(r#"{"id":1,"name":"b"}"#)),
                (r"\N", Some("{}")),
                ("", Some(r#"{"name":""}"#)),
                (r"\N", None),
                ("b", Some(r#"{"id":2,"name":"b"}"#)),
            ]
        };
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(found, expected);
    }
    Ok(())
}

/// Key and value of every record of partition 0 from an offset on.
fn table_records(kafka: &Kafka, topic: &str, from: i64) -> Result<Vec<(String, Option<String>)>> {
    let consumer: BaseConsumer = kafka.config().set("group.id", "looker").create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(from))?;
    consumer.assign(&list)?;
    let mut found = Vec::new();
    for _ in from..kafka.offsets(topic, 0)?.1 {
        let record = consumer.poll(DEADLINE).context("a record is missing")??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found.push((record.key().map(text).context("no key")?, record.payload().map(text)));
    }
    Ok(found)
}

#[tokio::test]
async fn a_probe_says_what_it_saw() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 3).await?;
    let failed = |result: ProbeResult| match result {
        ProbeResult::Failed { reason, message } => Ok((reason, message)),
        other => Err(anyhow::anyhow!("{other:?}")),
    };
    let ProbeResult::Ok { detail } = source(&kafka.bootstrap(), "orders", json!({}))?.probe().await else {
        anyhow::bail!("the probe fails")
    };
    assert!(detail.contains("orders has 3 partitions"), "{detail}");
    let ProbeResult::Ok { detail } = sink(&kafka.bootstrap(), json!({"topic": "orders"}))?.probe().await else {
        anyhow::bail!("the probe fails")
    };
    assert!(detail.contains("3 partitions"), "{detail}");
    let (reason, message) = failed(source(&kafka.bootstrap(), "order", json!({}))?.probe().await)?;
    assert_eq!(reason, ErrorReason::NotFound, "{message}");
    let (reason, message) = failed(sink(&kafka.bootstrap(), json!({"topic": "order"}))?.probe().await)?;
    assert_eq!(reason, ErrorReason::NotFound, "{message}");
    let error = source(&kafka.bootstrap(), "order", json!({}))?.splits(&shared()).await.unwrap_err();
    assert_eq!(error.reason, ErrorReason::NotFound);

    // TLS where there is none: no login, no data, a cause that can be acted on.
    let tls = json!({"topic": "orders", "tls": {}});
    let (reason, message) = failed(sink(&kafka.bootstrap(), tls)?.probe().await)?;
    assert_eq!(reason, ErrorReason::Unreachable, "{message}");
    assert!(message.to_lowercase().contains("ssl"), "{message}");
    Ok(())
}
