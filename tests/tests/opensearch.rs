//! The opensearch connector against a real node, and against a scripted server for what a real one cannot be made to say.
//! It goes through the contract that the engine uses, and through nothing below it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use millrace_connectors::context::{Context, ResolvedLimits};
use millrace_connectors::registry;
use millrace_crds::pipeline::Limits;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::batch::{Batch, Origin, RejectCode, Rejected};
use millrace_engine::connector::Health;
use millrace_engine::plan::Changelog;
use millrace_engine::row_kind::{RowKind, RowKinds};
use millrace_engine::sink::{OpenSink, Sink, SinkWriter, WriterIdentity};
use millrace_tests::servers::{LOOPBACK, OpenSearch, Proxy, proxy::Mode};
use millrace_tests::{certificates, poll};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Long enough for a machine that is busy compiling.
const DEADLINE: Duration = Duration::from_mins(1);

fn sink(endpoint: &str, options: Value, secrets: &Path) -> Result<Arc<dyn Sink>> {
    let mut block = json!({"endpoint": endpoint, "index": "docs"});
    block.as_object_mut().context("an object")?.extend(options.as_object().context("options are an object")?.clone());
    let context = Context { secrets_dir: secrets.to_owned(), limits: ResolvedLimits::from(&Limits::default()) };
    Ok(registry::sink(&serde_json::from_value(json!({"opensearch": block}))?, &context)?)
}

async fn open(endpoint: &str, options: Value, secrets: &Path) -> Result<(Box<dyn SinkWriter>, Health)> {
    let schema = rows(0..1).records.schema();
    let sink = sink(endpoint, options, secrets)?;
    sink.accepts(&schema, None)?;
    let writer = WriterIdentity { pipeline_uid: "uid".into(), output: "out".into(), task: "task".into(), generation: 1 };
    let open = OpenSink { writer, schema, event_time: None, changelog: Changelog::Append, epoch: 1, health: Health::default() };
    let health = open.health.clone();
    Ok((sink.open(open).await?, health))
}

fn nowhere() -> &'static Path {
    Path::new("/nonexistent")
}

fn rows(ids: std::ops::Range<i64>) -> Batch {
    batch(ids.map(|id| (Some(id), Some(format!("n{id}")))).collect())
}

fn batch(rows: Vec<(Option<i64>, Option<String>)>) -> Batch {
    let first = rows.first().and_then(|(id, _)| *id).map_or(0, i64::unsigned_abs);
    let ordinals = UInt64Array::from_iter_values((first..).take(rows.len()));
    let ids: ArrayRef = Arc::new(rows.iter().map(|(id, _)| *id).collect::<Int64Array>());
    let names: ArrayRef = Arc::new(rows.into_iter().map(|(_, name)| name).collect::<StringArray>());
    let records = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).expect("two columns of one length");
    Batch::new(records, Origin::new("bucket/key/etag", "s3://bucket/key"), ordinals)
}

async fn prepare(writer: &mut dyn SinkWriter, epoch: u64) -> Result<Vec<Rejected>> {
    let prepared = tokio::time::timeout(DEADLINE, writer.prepare(epoch)).await.context("the epoch is not prepared")??;
    ensure!(prepared.committables.is_empty(), "{prepared:?}");
    Ok(prepared.rejected)
}

async fn trouble(health: &Health, reason: ErrorReason) -> Result<String> {
    poll::until("trouble is reported", DEADLINE, async || {
        let trouble = health.current().context("there is none")?;
        ensure!(trouble.reason == reason, "{trouble:?}");
        Ok::<_, anyhow::Error>(trouble.message)
    })
    .await
}

#[tokio::test]
async fn a_replay_overwrites_documents_with_themselves() -> Result<()> {
    let search = OpenSearch::start().await?;
    for _ in 0..2 {
        let (mut writer, health) = open(&search.url(), json!({"index": "by-place"}), nowhere()).await?;
        writer.write(rows(0..1000)).await?;
        writer.write(rows(1000..1500)).await?;
        assert!(prepare(writer.as_mut(), 1).await?.is_empty());
        assert_eq!(health.current(), None);
        writer.close().await;
        assert_eq!(search.count("by-place").await?, 1500);
    }
    // Several indices by a column's value, and ids from columns.
    let options = json!({"index": "tenant-{name}", "idFrom": ["name", "id"]});
    let (mut writer, _) = open(&search.url(), options, nowhere()).await?;
    let named = |id, name: &str| (Some(id), Some(name.to_owned()));
    writer.write(batch(vec![named(1, "Ann"), named(1, "bob|x"), named(1, "Ann"), (None, None)])).await?;
    let refused = prepare(writer.as_mut(), 1).await?;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!((refused[0].ordinal, refused[0].code), (4, RejectCode::RefusedBySink));
    assert!(refused[0].error.contains("idFrom"), "{}", refused[0].error);
    assert_eq!(search.get("/tenant-ann/_doc/Ann%7C1").await?["_source"], json!({"id": 1, "name": "Ann"}));
    assert_eq!(search.count("tenant-ann").await?, 1);
    assert_eq!(search.count("tenant-bob_x").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_changelog_keeps_one_document_for_each_key() -> Result<()> {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let search = OpenSearch::start().await?;
    let options = json!({"index": "totals", "idFrom": ["id"]});
    let updating = |key: &[&str]| Changelog::Updating { key: key.iter().map(|column| (*column).to_owned()).collect() };
    let keyed = sink(&search.url(), options.clone(), nowhere())?;
    keyed.accepts_changelog(&updating(&["id"]))?;
    for (options, key, hint) in [
        (json!({}), vec!["id"], "set idFrom of the Sink to the columns that tell its rows apart, [id]"),
        (options.clone(), vec!["id", "name"], "[id, name]"),
        (options.clone(), vec![], "group by a key"),
        (json!({"index": "t-{name}", "idFrom": ["id"]}), vec!["id"], "name one index"),
    ] {
        let refused = sink(&search.url(), options, nowhere())?.accepts_changelog(&updating(&key)).expect_err(hint);
        assert!(refused.message.contains(hint), "{}", refused.message);
    }
    // Twice, as after a crash.
    for epoch in [1, 2] {
        let (mut writer, _) = open(&search.url(), options.clone(), nowhere()).await?;
        let rows = [(1, "a", Insert), (2, "b", Insert), (1, "a", UpdateBefore), (1, "c", UpdateAfter), (2, "b", Delete), (3, "d", Insert)];
        for (id, name, kind) in rows {
            let kinds = Some(RowKinds::new([kind]));
            writer.write(Batch { kinds, ..batch(vec![(Some(id), Some(name.to_owned()))]) }).await?;
        }
        assert!(prepare(writer.as_mut(), epoch).await?.is_empty());
        writer.close().await;
        assert_eq!(search.count("totals").await?, 2);
        assert_eq!(search.get("/totals/_doc/1").await?["_source"]["name"], "c");
        assert_eq!(search.get("/totals/_doc/3").await?["_source"]["name"], "d");
    }
    Ok(())
}

#[tokio::test]
async fn a_document_that_is_refused_comes_back_and_the_others_are_there() -> Result<()> {
    let search = OpenSearch::start().await?;
    search.post("/docs/_doc/first", &json!({"name": 1})).await?;
    let (mut writer, health) = open(&search.url(), json!({}), nowhere()).await?;
    let name = |id: i64| if id % 100 == 7 { format!("n{id}") } else { id.to_string() };
    writer.write(batch((0..1000).map(|id| (Some(id), Some(name(id)))).collect())).await?;
    let mut refused = prepare(writer.as_mut(), 1).await?;
    refused.sort_by_key(|refused| refused.ordinal);
    assert_eq!(refused.iter().map(|refused| refused.ordinal).collect::<Vec<_>>(), (0..10).map(|n| n * 100 + 7).collect::<Vec<_>>());
    assert_eq!(&refused[0].payload[..], b"{\"id\":7,\"name\":\"n7\"}");
    assert!(refused[0].error.contains("mapper_parsing_exception") && refused[0].error.contains("[name]"), "{}", refused[0].error);
    assert_eq!(refused[0].attempts, 1);
    assert_eq!(health.current(), None);
    assert_eq!(search.count("docs").await?, 991);
    assert!(prepare(writer.as_mut(), 2).await?.is_empty(), "they belong to their epoch only");
    Ok(())
}

#[tokio::test]
async fn an_outage_is_reported_and_nothing_is_lost() -> Result<()> {
    let mut search = OpenSearch::start().await?;
    let mut proxy = Proxy::start(LOOPBACK, search.address()).await?;
    let endpoint = format!("http://{}", proxy.address());
    let (mut writer, health) = open(&endpoint, json!({}), nowhere()).await?;
    writer.write(rows(0..100)).await?;
    assert!(prepare(writer.as_mut(), 1).await?.is_empty());

    search.stop().await?;
    let ending = write_epoch(writer, rows(100..200), 2);
    let message = trouble(&health, ErrorReason::Unreachable).await?;
    assert!(message.contains(&endpoint), "{message}");
    let ProbeResult::Failed { reason, .. } = sink(&endpoint, json!({}), nowhere())?.probe().await else {
        anyhow::bail!("the probe succeeds")
    };
    assert_eq!(reason, ErrorReason::Unreachable);
    assert!(!ending.is_finished(), "what is not accepted is not prepared");
    search.start_again().await?;
    let writer = ended(ending).await?;
    assert_eq!(health.current(), None);
    assert_eq!(search.count("docs").await?, 200);

    // Connections that are cut, and one that says nothing.
    for (mode, from) in [(Mode::Reset, 200), (Mode::Hang, 300)] {
        proxy.set(mode).await?;
        let (mut writer, health) = open(&endpoint, json!({}), nowhere()).await?;
        writer.write(rows(from..from + 100)).await?;
        let ending = write_epoch(writer, rows(from + 50..from + 100), 1);
        trouble(&health, ErrorReason::Unreachable).await?;
        proxy.set(Mode::Pass).await?;
        ended(ending).await?;
        assert_eq!(health.current(), None);
    }
    assert_eq!(search.count("docs").await?, 400);
    let ProbeResult::Ok { detail } = sink(&endpoint, json!({}), nowhere())?.probe().await else { anyhow::bail!("the probe fails") };
    assert!(detail.starts_with("opensearch 2.19"), "{detail}");
    drop(writer);
    Ok(())
}

/// Writes and ends an epoch without waiting for it.
fn write_epoch(mut writer: Box<dyn SinkWriter>, rows: Batch, epoch: u64) -> JoinHandle<Result<Box<dyn SinkWriter>>> {
    tokio::spawn(async move {
        writer.write(rows).await?;
        let prepared = writer.prepare(epoch).await?;
        ensure!(prepared.rejected.is_empty(), "{prepared:?}");
        Ok(writer)
    })
}

async fn ended(ending: JoinHandle<Result<Box<dyn SinkWriter>>>) -> Result<Box<dyn SinkWriter>> {
    tokio::time::timeout(DEADLINE, ending).await.context("the epoch is not prepared")??
}

#[tokio::test]
async fn a_blocked_index_is_waited_for() -> Result<()> {
    let search = OpenSearch::start().await?;
    search.post("/docs/_doc/first", &json!({"id": 1})).await?;
    let block = async |blocked: bool| {
        let body = json!({"index.blocks.write": blocked});
        let answer = reqwest::Client::new().put(format!("{}/docs/_settings", search.url())).json(&body).send().await?;
        ensure!(answer.status().is_success(), "{answer:?}");
        Ok(())
    };
    block(true).await?;
    let (writer, health) = open(&search.url(), json!({}), nowhere()).await?;
    let ending = write_epoch(writer, rows(0..10), 1);
    let message = trouble(&health, ErrorReason::ServerError).await?;
    assert!(message.contains("blocked by") && message.contains("10 of 10 documents"), "{message}");
    block(false).await?;
    ended(ending).await?;
    assert_eq!(health.current(), None);
    assert_eq!(search.count("docs").await?, 11);
    Ok(())
}

#[tokio::test]
async fn the_last_version_of_a_document_wins() -> Result<()> {
    let search = OpenSearch::start().await?;
    // Many small requests, two at a time, and few ids.
    let options = json!({"idFrom": ["id"], "bulk": {"bytes": 1024, "count": 5}});
    let (mut writer, _) = open(&search.url(), options, nowhere()).await?;
    for version in 0..60 {
        writer.write(batch((0..4).map(|id| (Some(id), Some(format!("v{version}")))).collect())).await?;
    }
    assert!(prepare(writer.as_mut(), 1).await?.is_empty());
    assert_eq!(search.count("docs").await?, 4);
    for id in 0..4 {
        let found = search.get(&format!("/docs/_doc/{id}")).await?;
        assert_eq!((&found["_source"]["name"], &found["_version"]), (&json!("v59"), &json!(60)), "{found}");
    }
    Ok(())
}

/// What the scripted server has been asked: authorization and body.
type Asked = Arc<Mutex<Vec<(Option<String>, String)>>>;

/// Answers one request after another with what `answer` says: status line, headers, body.
async fn scripted(
    answer: impl Fn(usize, &str, Option<&str>) -> (String, String) + Send + Sync + 'static,
) -> Result<(String, Asked, JoinHandle<()>)> {
    let listener = TcpListener::bind((LOOPBACK, 0)).await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let asked = Asked::default();
    let answer = Arc::new(answer);
    let requests = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
            tokio::spawn(async move {
                // An error is the client's going away.
                let _ = serve(connection, answer.as_ref(), &requests).await;
            });
        }
    });
    Ok((endpoint, asked, task))
}

async fn serve(
    connection: TcpStream,
    answer: &(impl Fn(usize, &str, Option<&str>) -> (String, String) + Sync),
    requests: &Asked,
) -> Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut length, mut authorization, mut line) = (0, None, String::new());
        loop {
            line.clear();
            ensure!(connection.read_line(&mut line).await? > 0, "closed");
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse()?,
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await?;
        let body = String::from_utf8(body)?;
        let nth = {
            let mut requests = requests.lock().expect("no test panics with it");
            requests.push((authorization.clone(), body.clone()));
            requests.len() - 1
        };
        let (head, text) = answer(nth, &body, authorization.as_deref());
        let reply = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        connection.write_all(reply.as_bytes()).await?;
    }
}

/// Ids of the documents in a bulk request.
fn ids(body: &str) -> Vec<i64> {
    let lines = body.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["id"].as_i64()).collect()
}

/// The answer that accepts all documents of a request but those for which `error` has one.
fn accept(body: &str, error: impl Fn(i64) -> Option<Value>) -> (String, String) {
    let items: Vec<_> = ids(body).into_iter().map(|id| json!({"index": error(id).unwrap_or_else(|| json!({"status": 201}))})).collect();
    ("200 OK".to_owned(), json!({"errors": true, "items": items}).to_string())
}

fn busy() -> Value {
    json!({"status": 429, "error": {"type": "rejected_execution_exception", "reason": "the queue is full"}})
}

#[tokio::test]
async fn a_busy_server_is_given_time_and_only_what_is_left() -> Result<()> {
    let (endpoint, asked, server) = scripted(|nth, body, _| match nth {
        0 => ("429 Too Many Requests\r\nRetry-After: 1".to_owned(), json!({"error": busy()["error"], "status": 429}).to_string()),
        1 => accept(body, |id| (id % 2 == 1).then(busy)),
        2 => accept(body, |id| (id == 3).then(busy)),
        _ => accept(body, |_| None),
    })
    .await?;
    let (writer, health) = open(&endpoint, json!({}), nowhere()).await?;
    let ending = write_epoch(writer, rows(0..6), 1);
    let message = trouble(&health, ErrorReason::Throttled).await?;
    assert!(message.contains("the queue is full"), "{message}");
    ended(ending).await?;
    assert_eq!(health.current(), None);
    let sent: Vec<_> = asked.lock().expect("no test panics with it").iter().map(|(_, body)| ids(body)).collect();
    assert_eq!(sent, [vec![0, 1, 2, 3, 4, 5], vec![0, 1, 2, 3, 4, 5], vec![1, 3, 5], vec![3]]);
    server.abort();
    Ok(())
}

#[tokio::test]
async fn a_later_version_waits_for_an_earlier_one() -> Result<()> {
    let (endpoint, asked, server) = scripted(|nth, body, _| match nth {
        0 => ("429 Too Many Requests\r\nRetry-After: 1".to_owned(), String::new()),
        _ => accept(body, |_| None),
    })
    .await?;
    let (mut writer, health) = open(&endpoint, json!({"idFrom": ["id"]}), nowhere()).await?;
    writer.write(batch(vec![(Some(7), Some("old".to_owned()))])).await?;
    trouble(&health, ErrorReason::Throttled).await?;
    writer.write(batch(vec![(Some(7), Some("new".to_owned()))])).await?;
    assert!(prepare(writer.as_mut(), 1).await?.is_empty());
    let sent: Vec<_> = asked.lock().expect("no test panics with it").iter().map(|(_, body)| body.contains("new")).collect();
    assert_eq!(sent, [false, false, true], "the new one is not sent before the old one is accepted");
    server.abort();
    Ok(())
}

#[tokio::test]
async fn a_document_that_spoils_its_request_is_found_by_halves() -> Result<()> {
    let (endpoint, asked, server) = scripted(|_, body, _| match ids(body) {
        ids if ids.contains(&5) => ("413 Payload Too Large".to_owned(), String::new()),
        _ => accept(body, |_| None),
    })
    .await?;
    let (mut writer, _) = open(&endpoint, json!({}), nowhere()).await?;
    writer.write(rows(0..8)).await?;
    let refused = prepare(writer.as_mut(), 1).await?;
    assert_eq!(refused.iter().map(|refused| refused.ordinal).collect::<Vec<_>>(), [5]);
    assert!(refused[0].error.contains("413"), "{}", refused[0].error);
    let sent: Vec<_> = asked.lock().expect("no test panics with it").iter().map(|(_, body)| ids(body)).collect();
    assert_eq!(sent, [vec![0, 1, 2, 3, 4, 5, 6, 7], vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![4, 5], vec![4], vec![5], vec![6, 7]]);
    server.abort();
    Ok(())
}

#[tokio::test]
async fn a_rotated_password_is_picked_up() -> Result<()> {
    let (endpoint, asked, server) = scripted(|_, body, authorization| match authorization {
        // ann:new
        Some("Basic YW5uOm5ldw==") => accept(body, |_| None),
        _ => ("401 Unauthorized".to_owned(), "Unauthorized".to_owned()),
    })
    .await?;
    let secrets = tempfile::tempdir()?;
    let folder = secrets.path().join("login");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("username"), "ann\n")?;
    std::fs::write(folder.join("password"), "old\n")?;
    let options = json!({"basicAuth": {"secretRef": {"name": "login"}}});
    let (writer, health) = open(&endpoint, options.clone(), secrets.path()).await?;
    let ending = write_epoch(writer, rows(0..3), 1);
    let message = trouble(&health, ErrorReason::AccessDenied).await?;
    assert!(message.contains("401") && !message.contains("old"), "{message}");
    let ProbeResult::Failed { reason, .. } = sink(&endpoint, options.clone(), secrets.path())?.probe().await else {
        anyhow::bail!("the probe succeeds")
    };
    assert_eq!(reason, ErrorReason::AccessDenied);
    std::fs::write(folder.join("password"), "new\n")?;
    ended(ending).await?;
    assert_eq!(health.current(), None);
    let (authorization, body) = asked.lock().expect("no test panics with it").last().cloned().context("nothing was asked")?;
    assert_eq!((authorization.as_deref(), ids(&body)), (Some("Basic YW5uOm5ldw=="), vec![0, 1, 2]));

    std::fs::remove_file(folder.join("password"))?;
    let ProbeResult::Failed { reason, message } = sink(&endpoint, options, secrets.path())?.probe().await else {
        anyhow::bail!("the probe succeeds")
    };
    assert_eq!(reason, ErrorReason::SecretMissing);
    assert!(message.contains("login") && message.contains("password"), "{message}");
    server.abort();
    Ok(())
}

#[tokio::test]
async fn a_request_goes_out_by_itself_and_memory_is_bounded() -> Result<()> {
    let (release, released) = tokio::sync::watch::channel(false);
    let gate = Mutex::new(released);
    let (endpoint, asked, server) = scripted(move |_, body, _| {
        if *gate.lock().expect("no test panics with it").borrow() {
            return accept(body, |_| None);
        }
        ("503 Service Unavailable".to_owned(), "starting".to_owned())
    })
    .await?;
    let options = json!({"bulk": {"bytes": 2048, "seconds": 1}});
    let (mut writer, _) = open(&endpoint, options, nowhere()).await?;
    writer.write(rows(0..1)).await?;
    poll::until("the first document is sent without another call", DEADLINE, async || {
        ensure!(!asked.lock().expect("no test panics with it").is_empty(), "nothing was asked");
        Ok(())
    })
    .await?;
    // While nothing is accepted, writing stops at the bound.
    let mut written = 0;
    while tokio::time::timeout(Duration::from_secs(2), writer.write(rows(written..written + 10))).await.is_ok() {
        written += 10;
        assert!(written < 1000, "there is no bound");
    }
    release.send_replace(true);
    // The call that was cut short may have handed over a part of its rows.
    writer.write(rows(written..written + 10)).await?;
    assert!(prepare(writer.as_mut(), 1).await?.is_empty());
    let sent = asked.lock().expect("no test panics with it").clone();
    assert!(sent.iter().all(|(_, body)| body.len() <= 2048), "no request is larger than bulk.bytes");
    let last: std::collections::BTreeSet<_> = sent.iter().flat_map(|(_, body)| ids(body)).collect();
    assert_eq!(last, (0..written + 10).collect());
    server.abort();
    Ok(())
}

/// A server with a certificate for 127.0.0.1 that answers every request with a web page; ends with its value.
struct TlsServer {
    address: std::net::SocketAddr,
    process: std::process::Child,
}

impl TlsServer {
    /// Its key, its certificate and that of the authority that signed it (`ca.crt`) are made in `folder`.
    fn start(folder: &Path) -> Result<Self> {
        certificates::make(folder, LOOPBACK)?;
        let address = std::net::SocketAddr::new(LOOPBACK, millrace_tests::servers::ports::free(LOOPBACK)?);
        let mut server = std::process::Command::new("openssl");
        server.args(["s_server", "-www", "-cert", "server.crt", "-key", "server.key", "-accept", &address.to_string()]);
        server
            .current_dir(folder)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        Ok(Self { address, process: server.spawn().context("run openssl")? })
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_certificate_is_verified() -> Result<()> {
    let secrets = tempfile::tempdir()?;
    let folder = secrets.path().join("authority");
    std::fs::create_dir(&folder)?;
    let server = TlsServer::start(&folder)?;
    poll::until("the server listens", DEADLINE, async || TcpStream::connect(server.address).await).await?;
    let port = server.address.port();
    let trusting = json!({"tls": {"secretRef": {"name": "authority"}}});
    let probe = async |host: &str, options: &Value| -> Result<(ErrorReason, String)> {
        let endpoint = format!("https://{host}:{port}");
        match sink(&endpoint, options.clone(), secrets.path())?.probe().await {
            ProbeResult::Failed { reason, message } => Ok((reason, message)),
            other => anyhow::bail!("{other:?}"),
        }
    };
    let (reason, message) = probe("127.0.0.1", &trusting).await?;
    assert_eq!(reason, ErrorReason::NotFound, "the certificate is good, the page is none of OpenSearch's: {message}");
    for (host, options) in [("127.0.0.1", &json!({})), ("localhost", &trusting)] {
        let (reason, message) = probe(host, options).await?;
        assert_eq!(reason, ErrorReason::Unreachable, "{host}: {message}");
        assert!(message.contains("certificate"), "{host}: {message}");
    }
    std::fs::write(folder.join("ca.crt"), "no certificate")?;
    let (reason, message) = probe("127.0.0.1", &trusting).await?;
    assert_eq!(reason, ErrorReason::Invalid, "{message}");
    assert!(message.contains("ca.crt"), "{message}");
    Ok(())
}
