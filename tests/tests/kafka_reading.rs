//! What the kafka source makes of the bytes of a real broker: compressions, transactions that cross each other, connections that hang or break. It goes
//! through the contracts that the engine uses, and through nothing below them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use millrace_connectors::context::{Context, ResolvedLimits};
use millrace_connectors::registry;
use millrace_crds::pipeline::Limits;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::connector::Health;
use millrace_engine::source::{OpenSplit, Shared, Source, SourceEvent, SplitReader};
use millrace_tests::servers::proxy::Mode;
use millrace_tests::servers::{Home, Kafka, LOOPBACK, Proxy, ports};
use object_store::memory::InMemory;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use serde_json::{Value, json};

/// Long enough for a machine that is busy compiling.
const DEADLINE: Duration = Duration::from_mins(1);
/// Enough for several batches, and for more than one delivery.
const RECORDS: i64 = 20_000;

fn source(kafka: &str, options: Value) -> Result<Arc<dyn Source>> {
    let mut block = json!({"bootstrapServers": kafka, "topics": ["orders"]});
    block.as_object_mut().context("an object")?.extend(options.as_object().context("options are an object")?.clone());
    let columns = json!([{"name": "id", "type": "BigInt"}, {"name": "name", "type": "Varchar"}]);
    let spec = json!({"kafka": block, "format": {"json": {}}, "schema": {"columns": columns}});
    let context = Context { secrets_dir: "/nonexistent".into(), limits: ResolvedLimits::from(&Limits::default()) };
    Ok(registry::source(&serde_json::from_value(spec)?, &context)?)
}

async fn open(source: &Arc<dyn Source>, position: Option<Value>) -> Result<(Box<dyn SplitReader>, Health)> {
    let shared = Shared { store: Arc::new(InMemory::new()), folder: "pipelines/uid/inputs/orders".into() };
    let projection = ["id", "name"].map(str::to_owned).to_vec();
    let health = Health::default();
    let split = OpenSplit { split: "orders/0".to_owned(), position, projection, generation: 1, shared, health: health.clone() };
    Ok((source.open(split).await?, health))
}

fn ids(event: SourceEvent) -> Result<Vec<i64>> {
    let SourceEvent::Records(records) = event else { anyhow::bail!("the input has ended") };
    ensure!(records.rejected.is_empty(), "{:?}", records.rejected);
    Ok(records.batch.map(|batch| batch.records.column(0).as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default())
}

/// Reads until everything there is has been read.
async fn drained(reader: &mut dyn SplitReader) -> Result<Vec<i64>> {
    let mut read = Vec::new();
    while !reader.lag().idle {
        read.extend(ids(tokio::time::timeout(DEADLINE, reader.next()).await.context("not idle in time")??)?);
    }
    Ok(read)
}

/// Reads until `count` rows have come.
async fn take(reader: &mut dyn SplitReader, count: usize) -> Result<Vec<i64>> {
    let mut read = Vec::new();
    while read.len() < count {
        let event = tokio::time::timeout(DEADLINE, reader.next()).await;
        read.extend(ids(event.with_context(|| format!("only {} of {count}", read.len()))??)?);
    }
    Ok(read)
}

/// Reads on, as the engine does, until `check` says so.
async fn read_until(reader: &mut dyn SplitReader, what: &str, check: impl Fn() -> bool) -> Result<Vec<i64>> {
    let mut read = Vec::new();
    millrace_tests::poll::until(what, DEADLINE, async || {
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(100), reader.next()).await {
            read.extend(ids(event?)?);
        }
        ensure!(check(), "not yet");
        Ok(())
    })
    .await?;
    Ok(read)
}

/// Sends records with `producer` to partition 0, and waits for none.
fn send(producer: &FutureProducer, ids: std::ops::Range<i64>) -> Result<Vec<rdkafka::producer::DeliveryFuture>> {
    let values = ids.map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}"));
    let sent = values.map(|value| {
        let record: FutureRecord<'_, (), _> = FutureRecord::to("orders").partition(0).payload(&value);
        producer.send_result(record).map_err(|(error, _)| error).context("queue a record")
    });
    sent.collect()
}

async fn delivered(sent: Vec<rdkafka::producer::DeliveryFuture>) -> Result<()> {
    for delivery in sent {
        delivery.await.context("the producer was dropped")?.map_err(|(error, _)| error).context("write a record")?;
    }
    Ok(())
}

#[tokio::test]
async fn every_compression_of_both_clients_is_read() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    let java = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/Produce.java");
    let mut next = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer: FutureProducer =
            kafka.config().set("compression.codec", codec).set("linger.ms", "500").set("batch.size", "300000").create()?;
        delivered(send(&producer, next..next + RECORDS)?).await?;
        next += RECORDS;
        let (from, to) = (next.to_string(), (next + RECORDS).to_string());
        kafka.java(&java, &[&kafka.bootstrap(), "orders", codec, &from, &to]).await?;
        next += RECORDS;
    }
    let source = source(&kafka.bootstrap(), json!({}))?;
    let (mut reader, health) = open(&source, None).await?;
    let read = drained(reader.as_mut()).await?;
    ensure!(read.len() as i64 == next, "{} of {next}", read.len());
    ensure!(read.iter().copied().eq(0..next), "in order");
    assert_eq!((reader.position()["offset"].as_i64(), health.current()), (Some(next), None));

    // From the middle of a batch on, whatever it is compressed with.
    for offset in [1, RECORDS * 3 + 7, RECORDS * 5 - 1, RECORDS * 7 + 1234, next - 1] {
        let mut position = reader.position();
        position["offset"] = offset.into();
        let (mut reader, _) = open(&source, Some(position)).await?;
        let first = ids(tokio::time::timeout(DEADLINE, reader.next()).await??)?;
        assert_eq!(first.first(), Some(&offset));
    }
    Ok(())
}

#[tokio::test]
async fn transactions_that_cross_each_other_are_told_apart() -> Result<()> {
    let kafka = Kafka::start().await?;
    kafka.create_topic("orders", 1).await?;
    let plain: FutureProducer = kafka.config().set("enable.idempotence", "true").create()?;
    let transactional = |id: &str| -> Result<FutureProducer> {
        let producer: FutureProducer = kafka.config().set("transactional.id", id).set("compression.codec", "lz4").create()?;
        producer.init_transactions(DEADLINE)?;
        Ok(producer)
    };
    let (one, two) = (transactional("one")?, transactional("two")?);
    let (mut expected, mut id) = (Vec::new(), 0);
    for round in 0..6 {
        // Each of the two aborts in some rounds, and their records lie between each other's.
        let (one_aborts, two_aborts) = (round % 2 == 0, round % 3 == 0);
        one.begin_transaction()?;
        two.begin_transaction()?;
        for _ in 0..3 {
            for (producer, aborts) in [(&one, one_aborts), (&plain, false), (&two, two_aborts)] {
                delivered(send(producer, id..id + 700)?).await?;
                if !aborts {
                    expected.extend(id..id + 700);
                }
                id += 700;
            }
        }
        for (producer, aborts) in [(&two, two_aborts), (&one, one_aborts)] {
            if aborts { producer.abort_transaction(DEADLINE)? } else { producer.commit_transaction(DEADLINE)? }
        }
    }
    let committed = source(&kafka.bootstrap(), json!({}))?;
    let (mut reader, _) = open(&committed, None).await?;
    assert_eq!(drained(reader.as_mut()).await?, expected);
    assert_eq!(reader.position()["offset"].as_i64(), Some(kafka.offsets("orders", 0)?.1));
    // A reader that starts within a transaction is told of it all the same.
    for offset in (0..kafka.offsets("orders", 0)?.1).step_by(4099) {
        let mut position = reader.position();
        position["offset"] = offset.into();
        let (mut rest, _) = open(&committed, Some(position)).await?;
        let rest = drained(rest.as_mut()).await?;
        ensure!(expected.ends_with(&rest), "from offset {offset}: {} records", rest.len());
    }
    let all = source(&kafka.bootstrap(), json!({"isolationLevel": "ReadUncommitted"}))?;
    let (mut reader, _) = open(&all, None).await?;
    assert_eq!(drained(reader.as_mut()).await?, (0..id).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn connections_that_hang_or_break_are_reported_and_nothing_is_lost() -> Result<()> {
    let address = std::net::SocketAddr::new(LOOPBACK, ports::free(LOOPBACK)?);
    let mut proxy = Proxy::start(LOOPBACK, address).await?;
    let kafka = Kafka::start_in(Home::temporary("kafka")?, address, proxy.address()).await?;
    kafka.create_topic("orders", 1).await?;
    let source = source(&proxy.address().to_string(), json!({}))?;
    let (mut reader, health) = open(&source, None).await?;
    let producer: FutureProducer = kafka.config().create()?;
    let mut next = 0;
    for mode in [Mode::Reset, Mode::Hang, Mode::Refuse] {
        delivered(send(&producer, next..next + 500)?).await?;
        assert_eq!(take(reader.as_mut(), 500).await?, (next..next + 500).collect::<Vec<_>>(), "before {mode:?}");
        next += 500;
        proxy.set(mode).await?;
        let read = read_until(reader.as_mut(), "the outage is reported", || health.current().is_some()).await?;
        assert_eq!(read, [0; 0]);
        let trouble = health.current().context("it was there")?;
        assert_eq!(trouble.reason, ErrorReason::Unreachable, "{}", trouble.message);
        if mode == Mode::Refuse {
            let ProbeResult::Failed { reason, message } = source.probe().await else { anyhow::bail!("the probe succeeds") };
            assert_eq!(reason, ErrorReason::Unreachable, "{message}");
        }
        proxy.set(Mode::Pass).await?;
        let read = read_until(reader.as_mut(), "all is well again", || health.current().is_none()).await?;
        assert_eq!(read, [0; 0]);
    }
    Ok(())
}
