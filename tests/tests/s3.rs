//! The `s3` connector against moto, which announces its objects to a queue as S3 does: the conformance suite, and what needs a server's answers.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use flate2::write::GzEncoder;
use millrace_connectors::aws::open_store;
use millrace_connectors::conformance::{self, SinkFixture, SourceFixture, record};
use millrace_connectors::registry;
use millrace_crds::connectors::aws::AwsAccess;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::connector::Health;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, Sink, WriterIdentity};
use millrace_engine::source::{OpenSplit, Records, Shared, Source, SourceEvent, SplitReader};
use millrace_tests::servers::proxy::Mode;
use millrace_tests::servers::{LOOPBACK, Moto, Proxy, moto};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// moto, and a Secret that lets in.
struct Cloud {
    moto: Moto,
    secrets: TempDir,
}

impl Cloud {
    async fn start() -> Result<Self> {
        let secrets = tempfile::tempdir()?;
        let folder = secrets.path().join("aws");
        fs::create_dir(&folder)?;
        fs::write(folder.join("AWS_ACCESS_KEY_ID"), moto::ACCESS_KEY)?;
        fs::write(folder.join("AWS_SECRET_ACCESS_KEY"), moto::SECRET_KEY)?;
        Ok(Self { moto: Moto::start().await?, secrets })
    }

    /// Region, endpoint and identity, as they stand in a spec.
    fn access(&self, endpoint: &str) -> Value {
        json!({"region": moto::REGION, "endpoint": endpoint, "secretRef": {"name": "aws"}})
    }

    async fn bucket(&self, name: &str) -> Result<()> {
        self.moto.create_bucket(name).await
    }

    /// A bucket and a queue that it announces its objects to.
    async fn inbox(&self, name: &str) -> Result<Inbox<'_>> {
        self.bucket(name).await?;
        let queue = self.moto.create_queue(name).await?;
        let arn = format!("arn:aws:sqs:{}:123456789012:{name}", moto::REGION);
        let configuration = format!(
            "<NotificationConfiguration><QueueConfiguration><Queue>{arn}</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>"
        );
        // A sub-resource of the bucket is written as an object of that name would be.
        self.moto.put_object(name, "?notification", configuration.into_bytes()).await?;
        Ok(Inbox { cloud: self, name: name.to_owned(), queue, next: AtomicU64::new(0), hidden: 2 })
    }
}

/// A bucket whose objects are announced.
struct Inbox<'a> {
    cloud: &'a Cloud,
    name: String,
    queue: String,
    next: AtomicU64,
    hidden: u32,
}

impl Inbox<'_> {
    async fn put(&self, key: &str, text: &str) -> Result<()> {
        self.cloud.moto.put_object(&self.name, key, text.as_bytes().to_vec()).await
    }

    fn spec(&self, queue: &str, endpoint: &str) -> Value {
        let (format, schema) = conformance::format();
        let mut s3 = self.cloud.access(endpoint);
        s3["sqs"] = json!({"queueUrl": queue, "visibilityTimeoutSeconds": self.hidden});
        s3["bucket"] = json!(self.name);
        json!({"s3": s3, "format": format, "schema": schema})
    }

    fn source_at(&self, queue: &str, endpoint: &str) -> Arc<dyn Source> {
        let spec = serde_json::from_value(self.spec(queue, endpoint)).expect("a source's spec");
        registry::source(&spec, &conformance::context(self.cloud.secrets.path())).expect("a source")
    }

    async fn left(&self) -> u64 {
        let (visible, hidden) = self.cloud.moto.queue_length(&self.queue).await.expect("moto answers");
        visible + hidden
    }

    /// Waits until the queue is empty while `reader` is acknowledged.
    async fn empties(&self, reader: &mut dyn SplitReader) -> Result<()> {
        let emptying = async {
            while self.left().await > 0 {
                if let Ok(event) = timeout(Duration::from_millis(200), reader.next()).await {
                    let event = event?;
                    ensure!(matches!(event, SourceEvent::Records(Records { batch: None, .. })), "something comes after all: {event:?}");
                }
                let position = reader.position();
                reader.acknowledge(&position).await?;
            }
            Ok(())
        };
        timeout(conformance::DEADLINE, emptying).await.context("the queue is not emptied")?
    }
}

#[async_trait]
impl SourceFixture for Inbox<'_> {
    fn source(&self) -> Arc<dyn Source> {
        self.source_at(&self.queue, &self.cloud.moto.url())
    }

    fn split(&self) -> String {
        "0".to_owned()
    }

    async fn produce(&self, values: Range<i64>) {
        let text: String = values.map(|n| format!("{}\n", record(n))).collect();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.put(&format!("in/{number:05}.json"), &text).await.expect("moto takes objects");
    }

    async fn produce_bad(&self, good: i64) {
        let text = format!("{}\nno json\n{}\n", record(good), record(good + 1));
        self.put("bad.json", &text).await.expect("moto takes objects");
    }

    async fn kept(&self) -> Option<u64> {
        Some(self.left().await)
    }
}

/// The ledger's folder in a bucket of its own: conditional creates are the server's.
async fn shared(cloud: &Cloud, name: &str) -> Result<Shared> {
    cloud.bucket(name).await?;
    let access: AwsAccess = serde_json::from_value(cloud.access(&cloud.moto.url()))?;
    let (store, base) = open_store(&format!("s3://{name}/state"), Some(&access), &conformance::context(cloud.secrets.path())).await?;
    Ok(Shared::of(store, &base, "uid", "in"))
}

async fn open(source: &dyn Source, shared: &Shared, split: &str, health: &Health) -> Result<Box<dyn SplitReader>> {
    let open = OpenSplit {
        split: split.to_owned(),
        position: None,
        projection: vec!["n".to_owned()],
        generation: 1,
        shared: shared.clone(),
        health: health.clone(),
    };
    Ok(source.open(open).await?)
}

fn values(records: &Records) -> Vec<i64> {
    use arrow::array::AsArray as _;
    let Some(batch) = &records.batch else { return Vec::new() };
    batch.records.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
}

/// Values until there are `count`.
async fn read(reader: &mut dyn SplitReader, count: usize) -> Result<Vec<i64>> {
    let mut all = Vec::new();
    while all.len() < count {
        let event =
            timeout(conformance::DEADLINE, reader.next()).await.with_context(|| format!("{} of {count} values came", all.len()))??;
        let SourceEvent::Records(records) = event else { break };
        ensure!(records.rejected.is_empty(), "rejected: {:?}", records.rejected);
        all.extend(values(&records));
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_conforms() -> Result<()> {
    let cloud = Cloud::start().await?;
    for (name, seed) in [("resumes-a", 3), ("resumes-b", 5)] {
        conformance::source::resumes_exactly(&cloud.inbox(name).await?, 10, 20_000, seed).await?;
    }
    conformance::source::drains(&cloud.inbox("drains").await?).await?;
    conformance::source::rests_when_all_is_read(&cloud.inbox("rests").await?).await?;
    conformance::source::returns_rejected_records(&cloud.inbox("rejects").await?).await?;
    let acknowledges = Inbox { hidden: 30, ..cloud.inbox("acknowledges").await? };
    // The test event that moto sends first is no input of ours.
    let purge = json!({"QueueUrl": acknowledges.queue});
    cloud.moto.call("sqs", "AmazonSQS.PurgeQueue", purge).await?;
    conformance::source::acknowledges_only_when_told(&acknowledges).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn competing_workers_read_each_object_once_whatever_is_announced_how_often() -> Result<()> {
    let cloud = Cloud::start().await?;
    let inbox = cloud.inbox("inbox").await?;
    let (objects, each) = (90, 10);
    for object in 0..objects {
        inbox.produce(object * each..object * each + each).await;
    }
    // Everything is announced twice more, wrapped by SNS and through EventBridge, in another order.
    for object in (0..objects).rev() {
        let key = format!("in/{object:05}.json");
        let body = cloud.moto.get_object("inbox", &key).await?;
        let etag = cloud.moto.etag("inbox", &key).await?;
        let event = json!({"Records": [{
            "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"bucket": {"name": "inbox"}, "object": {"key": key, "eTag": etag, "size": body.len()}}
        }]});
        let wrapped = json!({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": event.to_string()});
        cloud.moto.send_message(&inbox.queue, &wrapped.to_string()).await?;
        let bridged = json!({
            "detail-type": "Object Created", "source": "aws.s3", "time": "2026-01-01T00:00:00Z",
            "detail": {"bucket": {"name": "inbox"}, "object": {"key": key, "etag": etag, "size": body.len()}}
        });
        cloud.moto.send_message(&inbox.queue, &bridged.to_string()).await?;
    }
    let shared = shared(&cloud, "state").await?;
    let total = usize::try_from(objects * each)?;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    // However slow the server is: whoever has something waits for somebody else to get something too.
    let busy = Arc::new(AtomicU64::new(0));
    let workers = (0..3).map(|worker| {
        let (source, shared, seen, busy, inbox) = (inbox.source(), shared.clone(), Arc::clone(&seen), Arc::clone(&busy), &inbox);
        async move {
            let mut reader = open(source.as_ref(), &shared, &worker.to_string(), &Health::default()).await?;
            let mut mine = 0;
            let reading = async {
                while seen.lock().expect("not poisoned").len() < total || inbox.left().await > 0 {
                    if mine > 0 && busy.load(Ordering::Relaxed) < 2 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    }
                    if let Ok(event) = timeout(Duration::from_millis(300), reader.next()).await
                        && let SourceEvent::Records(records) = event?
                    {
                        ensure!(records.rejected.is_empty(), "rejected: {:?}", records.rejected);
                        let values = values(&records);
                        if mine == 0 && !values.is_empty() {
                            busy.fetch_add(1, Ordering::Relaxed);
                        }
                        mine += values.len();
                        seen.lock().expect("not poisoned").extend(values);
                    }
                    let position = reader.position();
                    reader.acknowledge(&position).await?;
                }
                Ok(())
            };
            timeout(Duration::from_secs(180), reading).await.context("not everything is read and deleted")??;
            reader.close().await;
            anyhow::Ok(mine)
        }
    });
    let shares = futures::future::try_join_all(workers).await?;
    ensure!(shares.iter().filter(|share| **share > 0).count() > 1, "one worker did it all: {shares:?}");
    let mut seen = std::mem::take(&mut *seen.lock().expect("not poisoned"));
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..objects * each), "{} records of {total}", seen.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_key_is_read() -> Result<()> {
    let cloud = Cloud::start().await?;
    let inbox = cloud.inbox("keys").await?;
    // As a URL holds them: `moto.put_object` puts the key into one.
    let keys = ["a b+c.json", "%C3%BC/%25.json", "x//y.json", "~!*'()&=$@,;:.json", "a%2Bb.json"];
    for (n, key) in keys.iter().enumerate() {
        inbox.put(key, &format!("{}\n", record(i64::try_from(n)?))).await?;
    }
    let shared = shared(&cloud, "state").await?;
    let source = inbox.source();
    let mut reader = open(source.as_ref(), &shared, "0", &Health::default()).await?;
    let mut read = read(reader.as_mut(), keys.len()).await?;
    read.sort_unstable();
    assert_eq!(read, [0, 1, 2, 3, 4]);
    inbox.empties(reader.as_mut()).await?;
    reader.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_objects_are_read_and_a_lost_one_is_rejected() -> Result<()> {
    use std::io::Write as _;
    let cloud = Cloud::start().await?;
    let inbox = cloud.inbox("zipped").await?;
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for n in 0..50_000 {
        writeln!(gzip, "{}", record(n))?;
    }
    cloud.moto.put_object("zipped", "a.gz", gzip.finish()?).await?;
    // Announced, and replaced before it is read: only the new version can be.
    inbox.put("b.json", &record(-1)).await?;
    inbox.put("b.json", &record(-2)).await?;
    let shared = shared(&cloud, "state").await?;
    let source = inbox.source();
    let mut reader = open(source.as_ref(), &shared, "0", &Health::default()).await?;
    let read: BTreeSet<i64> = read(reader.as_mut(), 50_001).await?.into_iter().collect();
    assert!(read.len() == 50_001 && read.contains(&-2) && !read.contains(&-1));
    inbox.empties(reader.as_mut()).await?;
    reader.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_and_waited_out() -> Result<()> {
    let cloud = Cloud::start().await?;
    let inbox = cloud.inbox("outage").await?;
    let mut proxy = Proxy::start(LOOPBACK, cloud.moto.address()).await?;
    let endpoint = format!("http://{}", proxy.address());
    let queue = inbox.queue.replace(&cloud.moto.url(), &endpoint);
    ensure!(queue.starts_with(&endpoint), "the queue's URL {} names another host than moto's", inbox.queue);
    let source = inbox.source_at(&queue, &endpoint);
    let (shared, health) = (shared(&cloud, "state").await?, Health::default());
    let mut reader = open(source.as_ref(), &shared, "0", &health).await?;
    inbox.produce(0..10).await;
    assert_eq!(read(reader.as_mut(), 10).await?.len(), 10);

    proxy.set(Mode::Refuse).await?;
    inbox.produce(10..20).await;
    let told = async {
        while health.current().is_none_or(|trouble| trouble.reason != ErrorReason::Unreachable) {
            let early = timeout(Duration::from_millis(100), reader.next()).await;
            ensure!(early.is_err(), "records through a closed door: {early:?}");
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_secs(30), told).await.context("the outage is not told")??;
    match source.probe().await {
        ProbeResult::Failed { reason: ErrorReason::Unreachable, .. } => {}
        other => anyhow::bail!("the probe says {other:?}"),
    }
    proxy.set(Mode::Pass).await?;
    assert_eq!(read(reader.as_mut(), 10).await?.len(), 10);
    inbox.empties(reader.as_mut()).await?;
    reader.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_say_what_they_saw() -> Result<()> {
    let cloud = Cloud::start().await?;
    let inbox = cloud.inbox("probed").await?;
    let seen = inbox.source().probe().await;
    ensure!(matches!(&seen, ProbeResult::Ok { detail } if detail.contains("bucket probed")), "{seen:?}");
    inbox.put("x", "y").await?;
    let seen = inbox.source().probe().await;
    ensure!(matches!(&seen, ProbeResult::Ok { detail } if detail.contains("listed and read")), "{seen:?}");
    let missing = inbox.queue.replace("probed", "missing");
    let seen = inbox.source_at(&missing, &cloud.moto.url()).probe().await;
    ensure!(matches!(&seen, ProbeResult::Failed { reason: ErrorReason::NotFound, message } if message.contains("missing")), "{seen:?}");

    let lake = |bucket| Lake { cloud: &cloud, bucket, prefix: None };
    let seen = lake("probed").sink().probe().await;
    ensure!(matches!(seen, ProbeResult::Ok { .. }), "{seen:?}");
    let seen = lake("missing").sink().probe().await;
    ensure!(matches!(&seen, ProbeResult::Failed { reason: ErrorReason::NotFound, message } if message.contains("missing")), "{seen:?}");
    fs::remove_dir_all(cloud.secrets.path().join("aws"))?;
    let seen = lake("probed").sink().probe().await;
    ensure!(
        matches!(&seen, ProbeResult::Failed { reason: ErrorReason::SecretMissing, message } if message.contains("\"aws\"")),
        "{seen:?}"
    );
    Ok(())
}

/// A bucket that is written.
struct Lake<'a> {
    cloud: &'a Cloud,
    bucket: &'static str,
    prefix: Option<&'static str>,
}

impl Lake<'_> {
    fn sink_at(&self, endpoint: &str) -> Arc<dyn Sink> {
        let mut s3 = self.cloud.access(endpoint);
        s3["bucket"] = json!(self.bucket);
        s3["format"] = json!({"json": {}});
        if let Some(prefix) = self.prefix {
            s3["prefix"] = json!(prefix);
        }
        let spec = serde_json::from_value(json!({"s3": s3})).expect("a sink's spec");
        registry::sink(&spec, &conformance::context(self.cloud.secrets.path())).expect("a sink")
    }
}

#[async_trait]
impl SinkFixture for Lake<'_> {
    fn sink(&self) -> Arc<dyn Sink> {
        self.sink_at(&self.cloud.moto.url())
    }

    async fn visible(&self) -> Vec<i64> {
        let moto = &self.cloud.moto;
        let mut rows = Vec::new();
        for key in moto.list_objects(self.bucket, "").await.expect("moto lists") {
            if !FilePath::new(&key).iter().any(|part| part == "_millrace") {
                continue;
            }
            let manifest: Value = serde_json::from_slice(&moto.get_object(self.bucket, &key).await.expect("a manifest")).expect("JSON");
            for file in manifest["files"].as_array().expect("files") {
                // `get_object` puts the key into a URL, which would decode it.
                let path = file["path"].as_str().expect("a path").replace('%', "%25");
                let text = String::from_utf8(moto.get_object(self.bucket, &path).await.expect("the file")).expect("text");
                assert_eq!(file["bytes"], text.len());
                assert_eq!(file["rows"], text.lines().count());
                rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["n"].as_i64().expect("n")));
            }
        }
        rows
    }

    fn is_transactional(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_conforms() -> Result<()> {
    let cloud = Cloud::start().await?;
    let lake = |bucket, prefix| Lake { cloud: &cloud, bucket, prefix };
    for (bucket, prefix) in [("commits", None), ("commits-by", Some("data/n={n}/"))] {
        cloud.bucket(bucket).await?;
        conformance::sink::commits_once(&lake(bucket, prefix)).await?;
    }
    for bucket in ["empty", "closing", "replaced"] {
        cloud.bucket(bucket).await?;
    }
    conformance::sink::takes_empty_epochs(&lake("empty", None)).await?;
    conformance::sink::closing_leaves_what_was_prepared(&lake("closing", None)).await?;
    conformance::sink::survives_replacement(&lake("replaced", None)).await?;
    Ok(())
}

/// Answers everything as S3 does when there is neither the upload nor the object; returns where.
async fn without_uploads() -> Result<String> {
    const ANSWER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchUpload</Code><Message>The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.</Message></Error>";
    let listener = TcpListener::bind((LOOPBACK, 0)).await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            // Requests are small: head and body come in one piece or end with the closing tag.
            while !(request.starts_with(b"HEAD") && request.ends_with(b"\r\n\r\n")) && !request.ends_with(b"</CompleteMultipartUpload>") {
                if connection.read_buf(&mut request).await.unwrap_or_default() == 0 {
                    break;
                }
            }
            let body = if request.starts_with(b"HEAD") { "" } else { ANSWER };
            let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // An error is the client's going away.
            let _ = connection.write_all((head + body).as_bytes()).await;
        }
    });
    Ok(endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_is_uploaded_in_parts_and_completed_once() -> Result<()> {
    let cloud = Cloud::start().await?;
    cloud.bucket("parts").await?;
    let lake = Lake { cloud: &cloud, bucket: "parts", prefix: None };
    let sink = lake.sink();
    let identity = WriterIdentity { pipeline_uid: "u".to_owned(), output: "out".to_owned(), task: "in-0".to_owned(), generation: 1 };
    let health = Health::default();
    let open = OpenSink {
        writer: identity.clone(),
        schema: conformance::schema(),
        event_time: None,
        changelog: Changelog::Append,
        epoch: 1,
        health: health.clone(),
    };
    let mut writer = sink.open(open).await?;
    // 28 MB: more than three parts of 8 MiB.
    let rows: Vec<i64> = (0..1_400_000).map(|n| 1_000_000_000_000 + n).collect();
    for chunk in rows.chunks(100_000) {
        let batch = millrace_engine::batch::Batch::new(
            conformance::batch(chunk),
            millrace_engine::batch::Origin::new("o", "o"),
            (0..chunk.len() as u64).collect::<Vec<_>>().into(),
        );
        writer.write(batch).await?;
    }
    let prepared = writer.prepare(1).await?;
    let parts = prepared.committables[0]["staged"]["parts"].as_array().context("parts")?.len();
    ensure!(parts >= 3, "{parts} parts");
    let commit = |committables| Commit { writer: &identity, epoch: 1, committables, health: &health };
    sink.commit(commit(&prepared.committables)).await?;
    assert_eq!(lake.visible().await.len(), rows.len());

    // Once more, as after a lost answer: the upload is gone, and the object is there.
    sink.commit(commit(&prepared.committables)).await?;
    assert_eq!(lake.visible().await.len(), rows.len());

    // Neither is there: an error, never a success. moto answers 500 to an upload that it does not know, so S3's own answer is given here.
    let endpoint = without_uploads().await?;
    let error = lake.sink_at(&endpoint).commit(commit(&prepared.committables)).await.expect_err("nothing is there");
    assert_eq!(error.reason, ErrorReason::DataLost, "{}", error.message);
    writer.close().await;
    Ok(())
}
