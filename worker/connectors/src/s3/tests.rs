//! The connector over a queue and buckets in memory: the conformance suite, several workers at once, and what only queues and objects do.
//! Time is paused: waiting costs nothing, so it can be waited for what takes a queue minutes.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use millrace_crds::SourceSpec;
use millrace_crds::connectors::s3::{S3Sink as SinkOptions, S3Source as SourceOptions};
use millrace_crds::format::{JsonOut, SinkFormat};
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::RejectCode;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::Sink;
use millrace_engine::source::{OpenSplit, Shared, Source, SourceEvent, SplitReader};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::object::Buckets;
use super::queue::{Depth, Message, Queue};
use super::upload::{Bucket, Target};
use super::{S3Sink, S3Source};
use crate::conformance::{self, SinkFixture, SourceFixture, record, values};
use crate::objects::manifest::Manifest;

/// SQS in memory.
#[derive(Debug, Default)]
struct MemoryQueue(Mutex<Messages>);

#[derive(Debug, Default)]
struct Messages {
    messages: Vec<(Message, Option<Instant>)>,
    deliveries: u64,
    /// Receive each message as often as it is asked for, hidden or not.
    rude: bool,
}

impl MemoryQueue {
    fn send(&self, body: &str) {
        let mut queue = self.0.lock().unwrap();
        let id = format!("m{}", queue.messages.len() as u64 + queue.deliveries * 1000);
        queue.deliveries += 1;
        queue.messages.push((Message { id, receipt: String::new(), body: body.to_owned(), sent: Some(1) }, None));
    }

    fn len(&self) -> u64 {
        self.0.lock().unwrap().messages.len() as u64
    }

    fn try_receive(&self, max: usize, hidden: Duration) -> Vec<Message> {
        let mut queue = self.0.lock().unwrap();
        let now = Instant::now();
        let Messages { messages, deliveries, rude } = &mut *queue;
        let due = messages.iter_mut().filter(|(_, until)| *rude || until.is_none_or(|until| until <= now));
        let mut received = Vec::new();
        for (message, until) in due.take(max) {
            *deliveries += 1;
            message.receipt = format!("{}#{deliveries}", message.id);
            *until = Some(now + hidden);
            received.push(message.clone());
        }
        received
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn receive(&self, max: usize, hidden: Duration, wait: Duration) -> Result<Vec<Message>, ConnectorError> {
        let end = Instant::now() + wait;
        // As any server it takes a while.
        tokio::time::sleep(Duration::from_millis(5)).await;
        loop {
            let received = self.try_receive(max, hidden);
            if !received.is_empty() || Instant::now() >= end {
                return Ok(received);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn hide(&self, receipts: &[String], hidden: Duration) -> Result<(), ConnectorError> {
        let mut queue = self.0.lock().unwrap();
        for (message, until) in &mut queue.messages {
            if receipts.contains(&message.receipt) {
                *until = Some(Instant::now() + hidden);
            }
        }
        Ok(())
    }

    async fn delete(&self, receipts: &[String]) -> Result<Vec<String>, ConnectorError> {
        self.0.lock().unwrap().messages.retain(|(message, _)| !receipts.contains(&message.receipt));
        Ok(Vec::new())
    }

    async fn depth(&self) -> Result<Depth, ConnectorError> {
        Ok(Depth { waiting: self.len(), hidden: 0 })
    }
}

/// A bucket in memory whose ETags have quotes, as S3's do.
#[derive(Debug, Default)]
struct MemoryBucket {
    inner: InMemory,
    refuse: Mutex<Option<&'static str>>,
}

impl fmt::Display for MemoryBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket")
    }
}

#[async_trait]
impl ObjectStore for MemoryBucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> StoreResult<GetResult> {
        let refusal = *self.refuse.lock().unwrap();
        if let Some(refusal) = refusal {
            return Err(object_store::Error::PermissionDenied { path: location.to_string(), source: refusal.into() });
        }
        options.if_match = options.if_match.map(|etag| etag.trim_matches('"').to_owned());
        let mut result = self.inner.get_opts(location, options).await?;
        result.meta.e_tag = result.meta.e_tag.map(|etag| format!("\"{etag}\""));
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Any bucket is this one.
#[derive(Debug)]
struct OneBucket(Arc<MemoryBucket>);

#[async_trait]
impl Buckets for OneBucket {
    async fn open(&self, _bucket: &str, key: &str) -> Result<(Arc<dyn ObjectStore>, Path), ConnectorError> {
        Ok((Arc::clone(&self.0) as Arc<dyn ObjectStore>, Path::parse(key).unwrap()))
    }
}

/// A queue and a bucket that announces to it.
struct World {
    queue: Arc<MemoryQueue>,
    bucket: Arc<MemoryBucket>,
    next: AtomicU64,
    /// How often each object is announced.
    announcements: u64,
    gzip: bool,
    hidden_seconds: u32,
}

impl World {
    fn new() -> Self {
        Self { queue: Arc::default(), bucket: Arc::default(), next: AtomicU64::new(0), announcements: 1, gzip: false, hidden_seconds: 30 }
    }

    async fn put(&self, key: &str, body: Vec<u8>) -> Value {
        let size = body.len();
        let put = self.bucket.put(&Path::parse(key).unwrap(), body.into()).await.unwrap();
        event(key, &put.e_tag.unwrap(), Some(size))
    }

    async fn put_lines(&self, values: Range<i64>) -> Value {
        let text: String = values.map(|n| format!("{}\n", record(n))).collect();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let body = if self.gzip {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        } else {
            text.into_bytes()
        };
        self.put(&format!("in/{number:05}"), body).await
    }

    fn announce(&self, event: &Value) {
        self.queue.send(&json!({"Records": [event]}).to_string());
    }

    fn source(&self) -> S3Source {
        let (format, schema) = conformance::format();
        let options: SourceOptions = serde_json::from_value(json!({
            "sqs": {"queueUrl": "http://queue/q", "visibilityTimeoutSeconds": self.hidden_seconds}, "bucket": "b", "prefix": "in/"
        }))
        .unwrap();
        let spec = SourceSpec {
            files: None,
            s3: Some(options.clone()),
            kafka: None,
            format,
            schema: Some(schema),
            changelog: None,
            event_time: None,
            partitioned_by: Vec::new(),
            probe: None,
        };
        let queue: Arc<dyn Queue> = Arc::clone(&self.queue) as _;
        let buckets = Arc::new(OneBucket(Arc::clone(&self.bucket)));
        S3Source::over(queue, buckets, &options, &spec, &conformance::context(FilePath::new("/nowhere"))).unwrap()
    }
}

fn event(key: &str, etag: &str, size: Option<usize>) -> Value {
    json!({
        "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00.000Z",
        "s3": {"bucket": {"name": "b"}, "object": {"key": key, "eTag": etag, "size": size, "sequencer": "00"}}
    })
}

#[async_trait]
impl SourceFixture for World {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(Self::source(self))
    }

    fn split(&self) -> String {
        "0".to_owned()
    }

    async fn produce(&self, values: Range<i64>) {
        let event = self.put_lines(values).await;
        for _ in 0..self.announcements {
            self.announce(&event);
        }
    }

    async fn produce_bad(&self, good: i64) {
        let body = format!("{}\nno json\n{}", record(good), record(good + 1));
        let event = self.put("in/bad", body.into_bytes()).await;
        self.announce(&event);
    }

    async fn kept(&self) -> Option<u64> {
        Some(self.queue.len())
    }
}

#[tokio::test(start_paused = true)]
async fn reading_resumes_exactly() {
    for seed in [3, 5] {
        conformance::source::resumes_exactly(&World::new(), 30, 20_000, seed).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn reading_compressed_and_repeatedly_announced_objects_resumes_exactly() {
    let world = World { announcements: 3, gzip: true, ..World::new() };
    conformance::source::resumes_exactly(&world, 30, 20_000, 7).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_delivers_hidden_messages_again_and_again_does_no_harm() {
    let world = World { hidden_seconds: 2, ..World::new() };
    world.queue.0.lock().unwrap().rude = true;
    conformance::source::resumes_exactly(&world, 20, 100, 9).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_are_deleted_only_when_durable() {
    conformance::source::acknowledges_only_when_told(&World::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn draining_ends() {
    conformance::source::drains(&World::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_rests() {
    conformance::source::rests_when_all_is_read(&World::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rejected_records_come_back() {
    conformance::source::returns_rejected_records(&World::new()).await.unwrap();
}

fn shared() -> Shared {
    Shared::of(Arc::new(InMemory::new()), &Path::ROOT, "uid", "in")
}

async fn open(source: &S3Source, shared: &Shared, split: &str, generation: u64, position: Option<Value>) -> Box<dyn SplitReader> {
    let open = OpenSplit {
        split: split.to_owned(),
        position,
        projection: vec!["n".to_owned()],
        generation,
        shared: shared.clone(),
        health: Health::default(),
    };
    source.open(open).await.unwrap()
}

/// What a reader delivers until nothing has come for a minute: values, and codes of rejected records. Every second an epoch becomes durable.
async fn drink(reader: &mut dyn SplitReader) -> (Vec<i64>, Vec<RejectCode>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut quiet = 0;
    while quiet < 60 {
        match tokio::time::timeout(Duration::from_secs(1), reader.next()).await.map(Result::unwrap) {
            Ok(SourceEvent::Records(records)) => {
                good.extend(records.batch.iter().flat_map(|batch| values(&batch.records)));
                bad.extend(records.rejected.iter().map(|rejected| rejected.code));
                quiet = 0;
            }
            Ok(SourceEvent::End | SourceEvent::Time(_)) => break,
            Err(_) => {
                let position = reader.position();
                reader.acknowledge(&position).await.unwrap();
                quiet += 1;
            }
        }
    }
    (good, bad)
}

#[tokio::test(start_paused = true)]
async fn competing_workers_read_each_object_once_whatever_is_announced_how_often() {
    let world = World { announcements: 3, hidden_seconds: 2, ..World::new() };
    for object in 0..60 {
        world.produce(object * 10..object * 10 + 10).await;
    }
    let shared = shared();
    let workers = (0..3).map(|worker| {
        let (source, shared) = (world.source(), shared.clone());
        async move {
            let mut reader = open(&source, &shared, &worker.to_string(), 1, None).await;
            let read = drink(reader.as_mut()).await;
            reader.close().await;
            read.0
        }
    });
    let read = futures::future::join_all(workers).await;
    assert!(read.iter().filter(|values| !values.is_empty()).count() > 1, "more than one worker takes part");
    let mut all: Vec<_> = read.into_iter().flatten().collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..600), "{} records", all.len());
    assert_eq!(world.queue.len(), 0, "all messages, duplicates too, are deleted");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_gone_is_reported_as_unfinished_and_finished_by_its_next_owner_only() {
    let world = World { hidden_seconds: 2, ..World::new() };
    world.produce(0..10).await;
    let (shared, source) = (shared(), world.source());
    assert!(source.splits(&shared).await.unwrap().is_empty());
    let mut dead = open(&source, &shared, "0", 1, None).await;
    assert!(matches!(dead.next().await.unwrap(), SourceEvent::Records(_)));
    drop(dead);
    assert_eq!(source.splits(&shared).await.unwrap(), ["0"]);

    let mut other = open(&source, &shared, "1", 1, None).await;
    assert_eq!(drink(other.as_mut()).await.0, Vec::<i64>::new(), "it belongs to task 0");
    assert_eq!(world.queue.len(), 1);
    let mut next = open(&source, &shared, "0", 2, None).await;
    assert_eq!(drink(next.as_mut()).await.0.len(), 10);
    assert!(source.splits(&shared).await.unwrap().is_empty());
    drink(other.as_mut()).await;
    assert_eq!(world.queue.len(), 0, "whoever sees the message next deletes it");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_replaced_cannot_go_on() {
    let world = World { hidden_seconds: 2, ..World::new() };
    let (shared, source) = (shared(), world.source());
    let mut zombie = open(&source, &shared, "0", 1, None).await;
    let mut owner = open(&source, &shared, "0", 2, None).await;
    world.produce(0..10).await;
    let error = zombie.next().await.expect_err("the zombie delivers nothing");
    assert_eq!(error.reason, ErrorReason::Internal);
    assert!(error.message.contains("newer owner"), "{}", error.message);
    drop(zombie);
    assert_eq!(drink(owner.as_mut()).await.0.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_any_more_is_one_rejected_record_each() {
    let world = World::new();
    let gone = world.put("in/gone", b"x".to_vec()).await;
    world.bucket.delete(&Path::from("in/gone")).await.unwrap();
    world.announce(&gone);
    let replaced = world.put("in/replaced", b"old".to_vec()).await;
    world.put("in/replaced", b"new".to_vec()).await;
    world.announce(&replaced);
    let longer = world.put("in/longer", format!("{}\n", record(5)).into_bytes()).await;
    let mut wrong = longer.clone();
    wrong["s3"]["object"]["size"] = json!(1_000_000);
    world.announce(&wrong);
    world.queue.send("hello");
    world.produce(0..1).await;
    let source = world.source();
    let mut reader = open(&source, &shared(), "0", 1, None).await;
    let (good, mut bad) = drink(reader.as_mut()).await;
    bad.sort_unstable();
    assert_eq!(good.last(), Some(&0));
    assert_eq!(bad.iter().filter(|code| **code == RejectCode::Malformed).count(), 1);
    assert_eq!(bad.iter().filter(|code| **code == RejectCode::ObjectLost).count(), 3);
    reader.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_successor_is_announced_is_not_lost() {
    let world = World::new();
    let old = world.put("in/a", format!("{}\n", record(1)).into_bytes()).await;
    let new = world.put("in/a", format!("{}\n", record(2)).into_bytes()).await;
    world.announce(&old);
    world.announce(&new);
    let source = world.source();
    let mut reader = open(&source, &shared(), "0", 1, None).await;
    assert_eq!(drink(reader.as_mut()).await, (vec![2], Vec::new()));
    assert_eq!(world.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_refuses_is_trouble_and_no_loss() {
    let world = World::new();
    world.produce(0..10).await;
    *world.bucket.refuse.lock().unwrap() = Some("<Code>AccessDenied</Code><Message>no</Message>");
    let (source, shared, health) = (world.source(), shared(), Health::default());
    let open = OpenSplit {
        split: "0".to_owned(),
        position: None,
        projection: vec!["n".to_owned()],
        generation: 1,
        shared,
        health: health.clone(),
    };
    let mut reader = source.open(open).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(300), reader.next()).await.is_err());
    let trouble = health.current().expect("it is told");
    assert_eq!(trouble.reason, ErrorReason::AccessDenied);
    assert!(trouble.message.contains("s3://b/in/00000"), "{}", trouble.message);
    *world.bucket.refuse.lock().unwrap() = None;
    assert_eq!(drink(reader.as_mut()).await.0.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_archived_object_is_lost_and_the_next_one_read() {
    let world = World::new();
    world.produce(0..10).await;
    *world.bucket.refuse.lock().unwrap() = Some("status code: 403: <Code>InvalidObjectState</Code>");
    let source = world.source();
    let mut reader = open(&source, &shared(), "0", 1, None).await;
    assert_eq!(drink(reader.as_mut()).await, (Vec::new(), vec![RejectCode::ObjectLost]));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_and_what_is_empty_is_deleted_without_a_word() {
    let world = World::new();
    let elsewhere = world.put("out/a", b"x".to_vec()).await;
    world.announce(&elsewhere);
    let empty = world.put("in/empty", Vec::new()).await;
    world.announce(&empty);
    world.queue.send(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}"#);
    let source = world.source();
    let mut reader = open(&source, &shared(), "0", 1, None).await;
    assert_eq!(drink(reader.as_mut()).await, (Vec::new(), Vec::new()));
    assert_eq!(world.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_announcement_without_a_version_is_of_what_is_there() {
    let world = World::new();
    world.put("in/a", format!("{}\n", record(1)).into_bytes()).await;
    for key in ["in/a", "in/a", "in/gone"] {
        let mut bare = event(key, "", None);
        bare["s3"]["object"].as_object_mut().unwrap().remove("eTag");
        world.announce(&bare);
    }
    let source = world.source();
    let mut reader = open(&source, &shared(), "0", 1, None).await;
    assert_eq!(drink(reader.as_mut()).await, (vec![1], vec![RejectCode::ObjectLost]));
}

#[tokio::test(start_paused = true)]
async fn messages_stay_hidden_for_as_long_as_their_objects_are_not_durable() {
    let world = World { hidden_seconds: 2, ..World::new() };
    world.produce(0..10).await;
    let source = world.source();
    let mut reader = open(&source, &shared(), "0", 1, None).await;
    assert!(matches!(reader.next().await.unwrap(), SourceEvent::Records(_)));
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(370)).await;
        assert!(world.queue.try_receive(1, Duration::ZERO).is_empty(), "somebody else gets the message");
    }
}

#[tokio::test(start_paused = true)]
async fn lag_counts_what_waits_and_how_long() {
    let world = World::new();
    for object in 0..40 {
        world.produce(object..object + 1).await;
    }
    let source = world.source();
    let mut reader = open(&source, &shared(), "0", 1, None).await;
    assert!(matches!(reader.next().await.unwrap(), SourceEvent::Records(_)));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let lag = reader.lag();
    assert!(lag.records.is_some_and(|records| records >= 39), "{lag:?}");
    assert!(!lag.idle);
    assert!(lag.seconds.is_some_and(|seconds| seconds > 1_000_000), "sent in 1970: {lag:?}");
    drink(reader.as_mut()).await;
    assert_eq!(reader.lag(), millrace_engine::source::Lag { records: Some(0), seconds: Some(0), idle: true });
}

/// A bucket that is written.
struct Lake {
    store: Arc<InMemory>,
    prefix: Option<&'static str>,
}

#[async_trait]
impl SinkFixture for Lake {
    fn sink(&self) -> Arc<dyn Sink> {
        let options = SinkOptions {
            bucket: "lake".to_owned(),
            prefix: self.prefix.map(str::to_owned),
            format: SinkFormat { json: Some(JsonOut::default()), ..SinkFormat::default() },
            roll: None,
            aws: millrace_crds::connectors::aws::AwsAccess::default(),
        };
        let bucket = Bucket::over("lake", Arc::clone(&self.store) as Arc<dyn Target>);
        Arc::new(S3Sink::over(bucket, &options, &conformance::context(FilePath::new("/nowhere"))).unwrap())
    }

    async fn visible(&self) -> Vec<i64> {
        let objects: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let mut contents = HashMap::new();
        for object in objects {
            let bytes = self.store.get(&object.location).await.unwrap().bytes().await.unwrap();
            contents.insert(object.location.to_string(), bytes);
        }
        let manifests = contents.iter().filter(|(key, _)| key.contains("_millrace/"));
        let mut rows = Vec::new();
        for (_, manifest) in manifests {
            let manifest: Manifest = serde_json::from_slice(manifest).unwrap();
            for file in manifest.files {
                let bytes = &contents[&file.path];
                assert_eq!(bytes.len() as u64, file.bytes);
                let text = std::str::from_utf8(bytes).unwrap();
                rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_i64().unwrap()));
            }
        }
        rows
    }

    fn is_transactional(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_bucket_is_written_once() {
    for prefix in [None, Some("by/n={n}/")] {
        let lake = || Lake { store: Arc::default(), prefix };
        conformance::sink::commits_once(&lake()).await.unwrap();
        conformance::sink::takes_empty_epochs(&lake()).await.unwrap();
        conformance::sink::closing_leaves_what_was_prepared(&lake()).await.unwrap();
        conformance::sink::survives_replacement(&lake()).await.unwrap();
    }
}

#[tokio::test]
async fn listing_the_bucket_shows_no_row_before_its_commit() {
    let lake = Lake { store: Arc::default(), prefix: None };
    conformance::sink::commits_once(&lake).await.unwrap();
    let keys: Vec<_> = lake.store.list(None).map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(keys.iter().filter(|key| !key.contains("_millrace")).count(), 2, "{keys:?}: one file for each epoch");
}
