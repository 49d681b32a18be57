//! The kafka sink in transactions, against a real broker: killed at each point, fenced, timed out. It plays the part of the engine, and looks at
//! the topic as a reader of what is committed does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_connectors::context::{Context, ResolvedLimits};
use millrace_connectors::registry;
use millrace_crds::pipeline::Limits;
use millrace_engine::batch::{Batch, Origin, RejectCode};
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Sink, SinkWriter, WriterIdentity};
use millrace_tests::poll;
use millrace_tests::servers::Kafka;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_mins(2);
const TOPIC: &str = "out";

/// One worker's sink. Another worker has another one.
fn sink(kafka: &Kafka, timeout_seconds: u32) -> Result<Arc<dyn Sink>> {
    let block = json!({
        "bootstrapServers": kafka.bootstrap(), "topic": TOPIC, "format": {"json": {}},
        "transactional": "Auto", "transactionTimeoutSeconds": timeout_seconds,
    });
    let context = Context { secrets_dir: "/nonexistent".into(), limits: ResolvedLimits::from(&Limits::default()) };
    Ok(registry::sink(&serde_json::from_value(json!({"kafka": block}))?, &context)?)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

fn identity(generation: u64) -> WriterIdentity {
    WriterIdentity { pipeline_uid: "uid".into(), output: "main".into(), task: "in_2f0".into(), generation }
}

async fn open(sink: &Arc<dyn Sink>, generation: u64, epoch: u64) -> Result<Box<dyn SinkWriter>> {
    let health = Health::default();
    let open = OpenSink { writer: identity(generation), schema: schema(), event_time: None, changelog: Changelog::Append, epoch, health };
    Ok(tokio::time::timeout(DEADLINE, sink.open(open)).await.context("open")??)
}

fn rows(numbers: std::ops::Range<i64>) -> Result<Batch> {
    let ordinals = UInt64Array::from_iter_values(numbers.clone().map(i64::unsigned_abs));
    let records = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(numbers))])?;
    Ok(Batch::new(records, Origin::new("o", "o"), ordinals))
}

/// What a task in its place would keep in the epoch record.
async fn prepared(writer: &mut Box<dyn SinkWriter>, epoch: u64) -> Result<Vec<Value>> {
    let prepared = tokio::time::timeout(DEADLINE, writer.prepare(epoch)).await.context("prepare")??;
    ensure!(prepared.rejected.is_empty(), "{:?}", prepared.rejected);
    Ok(prepared.committables)
}

async fn commit(sink: &Arc<dyn Sink>, generation: u64, epoch: u64, committables: &[Value]) -> Result<(), ConnectorError> {
    let (writer, health) = (identity(generation), Health::default());
    sink.commit(Commit { writer: &writer, epoch, committables, health: &health }).await
}

async fn seal(sink: &Arc<dyn Sink>, generation: u64, epoch: u64, committables: &[Value]) -> Result<Fate> {
    let (writer, health) = (identity(generation), Health::default());
    let sealing = sink.seal(Commit { writer: &writer, epoch, committables, health: &health });
    Ok(tokio::time::timeout(DEADLINE, sealing).await.with_context(|| format!("seal: {:?}", health.current()))??)
}

/// What a reader sees, from the start to the end that there is now; `None` if an open transaction holds it back.
fn visible(kafka: &Kafka, isolation: &str) -> Result<Vec<i64>> {
    let mut config = kafka.config();
    config.set("group.id", "reader").set("isolation.level", isolation).set("enable.partition.eof", "true");
    let reader: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
    reader.assign(&list)?;
    let mut numbers = Vec::new();
    loop {
        match reader.poll(DEADLINE).context("no answer")? {
            Ok(record) => {
                let row: Value = serde_json::from_slice(record.payload().unwrap_or_default())?;
                numbers.push(row["n"].as_i64().context("a number")?);
            }
            Err(KafkaError::PartitionEOF(_)) => return Ok(numbers),
            Err(error) => return Err(error.into()),
        }
    }
}

fn committed(kafka: &Kafka) -> Result<Vec<i64>> {
    visible(kafka, "read_committed")
}

async fn broker() -> Result<Kafka> {
    let kafka = Kafka::start().await?;
    kafka.create_topic(TOPIC, 1).await?;
    Ok(kafka)
}

#[tokio::test]
async fn rows_are_seen_when_their_epoch_is_committed_and_the_next_epoch_waits_for_that() -> Result<()> {
    let kafka = broker().await?;
    let sink = sink(&kafka, 900)?;
    assert!(sink.anchor());
    let mut writer = open(&sink, 1, 2).await?;
    // An epoch without rows has nothing to commit.
    assert!(prepared(&mut writer, 2).await?.is_empty());
    writer.write(rows(0..3)?).await?;
    let first = prepared(&mut writer, 3).await?;
    assert_eq!(first.len(), 1);
    assert_eq!((committed(&kafka)?, visible(&kafka, "read_uncommitted")?), (vec![], vec![0, 1, 2]));
    {
        // What is written now belongs to the next transaction, which cannot begin yet.
        let mut writing = writer.write(rows(3..5)?);
        assert!(futures::poll!(&mut writing).is_pending());
        commit(&sink, 1, 3, &first).await?;
        tokio::time::timeout(DEADLINE, writing).await??;
    }
    commit(&sink, 1, 3, &first).await?;
    let second = prepared(&mut writer, 4).await?;
    assert_eq!(committed(&kafka)?, [0, 1, 2]);
    commit(&sink, 1, 4, &second).await?;
    assert_eq!(committed(&kafka)?, [0, 1, 2, 3, 4]);
    writer.close().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_killed_at_any_point_leaves_its_epoch_seen_once_or_to_be_done_again() -> Result<()> {
    let kafka = broker().await?;
    let (mut generation, mut epoch, mut expected) = (0, 1, Vec::new());
    for point in ["written", "prepared", "committed", "committed and going on"] {
        generation += 1;
        let next = i64::try_from(expected.len())?;
        let one = sink(&kafka, 900)?;
        let mut writer = open(&one, generation, epoch).await?;
        writer.write(rows(next..next + 2)?).await?;
        let mut record = None;
        if point != "written" {
            record = Some(prepared(&mut writer, epoch).await?);
        }
        let is_committed = point.starts_with("committed");
        if let Some(committables) = record.as_deref().filter(|_| is_committed) {
            commit(&one, generation, epoch, committables).await?;
        }
        if point == "committed and going on" {
            writer.write(rows(next + 2..next + 4)?).await?;
        }
        // Killed: nobody aborts, nobody says good-bye.
        drop((writer, one));

        let other = sink(&kafka, 900)?;
        if let Some(committables) = &record {
            let fate = if is_committed { Fate::Committed } else { Fate::Aborted };
            for _ in 0..2 {
                assert_eq!(seal(&other, generation, epoch, committables).await?, fate, "{point}");
            }
        }
        generation += 1;
        epoch += 2;
        let again = if is_committed { next + 2 } else { next };
        let mut writer = open(&other, generation, epoch).await?;
        writer.write(rows(again..next + 4)?).await?;
        let committables = prepared(&mut writer, epoch).await?;
        commit(&other, generation, epoch, &committables).await?;
        writer.close().await;
        epoch += 1;
        expected.extend(next..next + 4);
        assert_eq!(committed(&kafka)?, expected, "{point}");
    }
    Ok(())
}

#[tokio::test]
async fn a_zombie_commits_nothing_once_its_epoch_is_sealed() -> Result<()> {
    let kafka = broker().await?;
    let (zombie, other) = (sink(&kafka, 900)?, sink(&kafka, 900)?);
    let mut sleeping = open(&zombie, 1, 2).await?;
    sleeping.write(rows(0..2)?).await?;
    let prepared_by_zombie = prepared(&mut sleeping, 2).await?;
    assert_eq!(seal(&other, 1, 2, &prepared_by_zombie).await?, Fate::Aborted);
    let mut writer = open(&other, 2, 4).await?;
    writer.write(rows(0..2)?).await?;

    // It wakes with its permit.
    let error = commit(&zombie, 1, 2, &prepared_by_zombie).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let error = sleeping.write(rows(2..4)?).await.unwrap_err();
    assert!(error.message.contains("ledger"), "{error}");
    sleeping.close().await;
    // Nor can anybody else commit for it.
    assert!(commit(&other, 1, 2, &prepared_by_zombie).await.is_err());

    let committables = prepared(&mut writer, 4).await?;
    commit(&other, 2, 4, &committables).await?;
    assert_eq!(committed(&kafka)?, [0, 1]);
    // Whoever looks again, however late, hears the same; the one that runs is fenced by that and finds its own epoch committed.
    assert_eq!(seal(&zombie, 1, 2, &prepared_by_zombie).await?, Fate::Aborted);
    assert_eq!(seal(&zombie, 2, 4, &committables).await?, Fate::Committed);
    // Whether it hears of that when it writes is up to timing.
    drop(writer.write(rows(2..4)?).await);
    let fenced = writer.prepare(5).await.unwrap_err();
    assert!(fenced.is_transient(), "{fenced:?}");
    assert_eq!(committed(&kafka)?, [0, 1]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_the_broker_times_out_is_done_again() -> Result<()> {
    let kafka = broker().await?;
    let one = sink(&kafka, 10)?;
    let mut writer = open(&one, 1, 2).await?;
    writer.write(rows(0..2)?).await?;
    let committables = prepared(&mut writer, 2).await?;
    // Another reader's record behind it is held back until the broker has given the transaction up.
    kafka.produce(TOPIC, &[(0, "k", r#"{"n":100}"#)]).await?;
    assert_eq!(committed(&kafka)?, [0; 0]);
    poll::until("the broker aborts", DEADLINE, async || {
        let seen = committed(&kafka)?;
        ensure!(seen == [100], "{seen:?}");
        Ok(())
    })
    .await?;
    let error = commit(&one, 1, 2, &committables).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    writer.close().await;
    assert_eq!(seal(&one, 1, 2, &committables).await?, Fate::Aborted);
    let mut writer = open(&one, 2, 4).await?;
    writer.write(rows(0..2)?).await?;
    let committables = prepared(&mut writer, 4).await?;
    commit(&one, 2, 4, &committables).await?;
    assert_eq!(committed(&kafka)?, [100, 0, 1]);
    writer.close().await;
    Ok(())
}

#[tokio::test]
async fn a_record_that_the_topic_refuses_is_a_dead_letter_and_its_epoch_is_committed_without_it() -> Result<()> {
    let kafka = Kafka::start().await?;
    let admin: AdminClient<DefaultClientContext> = kafka.config().create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "2000");
    let made = admin.create_topics(&[topic], &AdminOptions::new().operation_timeout(Some(DEADLINE))).await?;
    ensure!(made.iter().all(Result::is_ok), "{made:?}");
    let one = sink(&kafka, 900)?;
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("text", DataType::Utf8, true)]));
    let writer = identity(1);
    let health = Health::default();
    let open =
        OpenSink { writer, schema: Arc::clone(&schema), event_time: None, changelog: Changelog::Append, epoch: 2, health: health.clone() };
    let mut writer = one.open(open).await?;
    // Together they are far beyond what the topic takes at once; only one of them is by itself.
    let batch = |numbers: std::ops::Range<i64>| -> Result<Batch> {
        let texts = StringArray::from_iter_values(numbers.clone().map(|n| "x".repeat(if n == 7 { 3000 } else { 300 })));
        let ordinals = UInt64Array::from_iter_values(numbers.clone().map(i64::unsigned_abs));
        let records = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from_iter_values(numbers)), Arc::new(texts)])?;
        Ok(Batch::new(records, Origin::new("o", "o"), ordinals))
    };
    writer.write(batch(0..20)?).await?;
    let first = tokio::time::timeout(DEADLINE, writer.prepare(2)).await??;
    let refused: Vec<_> = first.rejected.iter().map(|refused| (refused.ordinal, refused.code)).collect();
    assert_eq!(refused, [(7, RejectCode::TooLarge)]);
    commit(&one, 1, 2, &first.committables).await?;
    writer.write(batch(20..40)?).await?;
    let second = prepared(&mut writer, 3).await?;
    commit(&one, 1, 3, &second).await?;
    assert_eq!(committed(&kafka)?, (0..40).filter(|n| *n != 7).collect::<Vec<_>>());
    assert_eq!(health.current(), None);
    writer.close().await;
    Ok(())
}

#[tokio::test]
async fn a_ledger_that_was_made_anew_is_no_answer() -> Result<()> {
    let kafka = broker().await?;
    let one = sink(&kafka, 900)?;
    let mut writer = open(&one, 1, 2).await?;
    writer.write(rows(0..2)?).await?;
    let committables = prepared(&mut writer, 2).await?;
    commit(&one, 1, 2, &committables).await?;
    writer.close().await;
    let mut beyond = committables[0].clone();
    beyond["offset"] = 1_000_000.into();
    let (writer, health) = (identity(1), Health::default());
    let error = one.seal(Commit { writer: &writer, epoch: 2, committables: &[beyond], health: &health }).await.unwrap_err();
    assert_eq!(error.reason, millrace_crds::report::ErrorReason::DataLost, "{error}");
    // The same place, another epoch: another entry lies there.
    let error = one.seal(Commit { writer: &writer, epoch: 3, committables: &committables, health: &health }).await.unwrap_err();
    assert_eq!(error.reason, millrace_crds::report::ErrorReason::DataLost, "{error}");
    Ok(())
}
