//! TLS and logins of the kafka connector, against a broker that insists on both.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{Int64Array, RecordBatch, UInt64Array};
use millrace_connectors::conformance;
use millrace_connectors::registry;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::Health;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{OpenSink, Sink, SinkWriter, WriterIdentity};
use millrace_engine::source::{OpenSplit, Shared, Source, SourceEvent};
use millrace_tests::poll;
use millrace_tests::servers::GuardedKafka;
use object_store::memory::InMemory;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(90);

/// Access with the Secrets of `secrets`: `authority` and `login`.
fn access(kafka: &GuardedKafka, mechanism: &str) -> Value {
    json!({
        "bootstrapServers": kafka.address().to_string(),
        "tls": {"secretRef": {"name": "authority"}},
        "sasl": {"mechanism": mechanism, "secretRef": {"name": "login"}},
    })
}

/// Secrets with the authority and the user's `password`.
fn secrets(kafka: &GuardedKafka, password: &str) -> Result<tempfile::TempDir> {
    let secrets = tempfile::tempdir()?;
    for name in ["authority", "login"] {
        fs::create_dir(secrets.path().join(name))?;
    }
    fs::copy(kafka.authority(), secrets.path().join("authority/ca.crt"))?;
    fs::write(secrets.path().join("login/username"), "ann\n")?;
    set_password(secrets.path(), password)?;
    Ok(secrets)
}

fn set_password(secrets: &Path, password: &str) -> Result<()> {
    Ok(fs::write(secrets.join("login/password"), format!("{password}\n"))?)
}

fn source(mut access: Value, secrets: &Path) -> Result<Arc<dyn Source>> {
    access["topics"] = json!(["orders"]);
    let (format, schema) = conformance::format();
    let spec = serde_json::from_value(json!({"kafka": access, "format": format, "schema": schema}))?;
    Ok(registry::source(&spec, &conformance::context(secrets))?)
}

fn sink(mut access: Value, secrets: &Path) -> Result<Arc<dyn Sink>> {
    access["topic"] = "orders".into();
    access["format"] = json!({"json": {}});
    Ok(registry::sink(&serde_json::from_value(json!({"kafka": access}))?, &conformance::context(secrets))?)
}

async fn open(sink: &Arc<dyn Sink>) -> Result<(Box<dyn SinkWriter>, Health)> {
    let writer = WriterIdentity { pipeline_uid: "uid".into(), output: "out".into(), task: "task".into(), generation: 1 };
    let open = OpenSink {
        writer,
        schema: conformance::schema(),
        event_time: None,
        changelog: Changelog::Append,
        epoch: 1,
        health: Health::default(),
    };
    let health = open.health.clone();
    Ok((sink.open(open).await?, health))
}

fn row(value: i64) -> Result<Batch> {
    let records = RecordBatch::try_new(conformance::schema(), vec![Arc::new(Int64Array::from(vec![value]))])?;
    Ok(Batch::new(records, Origin::new("o", "o"), UInt64Array::from(vec![value.unsigned_abs()])))
}

fn failed(result: ProbeResult) -> Result<(ErrorReason, String)> {
    match result {
        ProbeResult::Failed { reason, message } => Ok((reason, message)),
        other => anyhow::bail!("{other:?}"),
    }
}

async fn denied(health: &Health) -> Result<String> {
    poll::until("trouble is reported", DEADLINE, async || {
        let trouble = health.current().context("there is none")?;
        ensure!(trouble.reason == ErrorReason::AccessDenied, "{trouble:?}");
        Ok::<_, anyhow::Error>(trouble.message)
    })
    .await
}

#[tokio::test]
async fn a_login_is_needed_and_a_rotated_password_is_picked_up() -> Result<()> {
    let kafka = GuardedKafka::start().await?;
    let secrets = secrets(&kafka, "wrong")?;
    for mechanism in ["Plain", "ScramSha512"] {
        set_password(secrets.path(), "wrong")?;
        let (source, sink) = (source(access(&kafka, mechanism), secrets.path())?, sink(access(&kafka, mechanism), secrets.path())?);
        for probe in [source.probe().await, sink.probe().await] {
            let (reason, message) = failed(probe)?;
            assert_eq!(reason, ErrorReason::AccessDenied, "{mechanism}: {message}");
            assert!(!message.contains("wrong"), "{message}");
        }

        // Both run into the wrong password.
        let (mut writer, writing) = open(&sink).await?;
        let ending = tokio::spawn(async move {
            writer.write(row(1)?).await?;
            let _prepared = writer.prepare(1).await?;
            anyhow::Ok(())
        });
        let shared = Shared { store: Arc::new(InMemory::new()), folder: "inputs".into() };
        let reading = Health::default();
        let open_split = OpenSplit {
            split: "orders/0".to_owned(),
            position: None,
            projection: vec!["n".to_owned()],
            generation: 1,
            shared,
            health: reading.clone(),
        };
        let mut reader = source.open(open_split).await?;
        let looking = tokio::spawn(async move {
            loop {
                match reader.next().await? {
                    SourceEvent::Records(records) if records.batch.is_some() => return anyhow::Ok(reader),
                    SourceEvent::Records(_) => {}
                    SourceEvent::End | SourceEvent::Time(_) => anyhow::bail!("the input has ended"),
                }
            }
        });
        denied(&writing).await?;
        denied(&reading).await?;

        // The reader goes on by itself. The writer fails, so that its task starts anew; then all is well.
        set_password(secrets.path(), "right")?;
        let error = tokio::time::timeout(DEADLINE, ending)
            .await
            .with_context(|| format!("the writer goes on with the old password: {:?}", writing.current()))??
            .unwrap_err();
        assert!(error.to_string().contains("its Secret has changed"), "{error:#}");
        let (mut writer, writing) = open(&sink).await?;
        writer.write(row(1)?).await?;
        writer.prepare(1).await?;
        assert_eq!(writing.current(), None);
        let mut reader = tokio::time::timeout(DEADLINE, looking)
            .await
            .with_context(|| format!("the reader goes on with the old password: {:?}", reading.current()))???;
        assert_eq!(reading.current(), None);
        for probe in [source.probe().await, sink.probe().await] {
            assert!(matches!(probe, ProbeResult::Ok { .. }), "{mechanism}: {probe:?}");
        }
        reader.close().await;
        writer.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_verified() -> Result<()> {
    let kafka = GuardedKafka::start().await?;
    let secrets = secrets(&kafka, "right")?;
    let probe = async |access: Value| failed(sink(access, secrets.path())?.probe().await);
    let mut by_roots = access(&kafka, "Plain");
    by_roots["tls"] = json!({});
    let (reason, message) = probe(by_roots).await?;
    assert_eq!(reason, ErrorReason::Unreachable, "{message}");
    assert!(message.contains("certificate"), "{message}");
    // The certificate is for 127.0.0.1 only.
    let mut by_name = access(&kafka, "Plain");
    by_name["bootstrapServers"] = format!("localhost:{}", kafka.address().port()).into();
    let (reason, message) = probe(by_name).await?;
    assert_eq!(reason, ErrorReason::Unreachable, "{message}");
    fs::write(secrets.path().join("authority/ca.crt"), "no certificate")?;
    let (reason, message) = probe(access(&kafka, "Plain")).await?;
    assert_eq!(reason, ErrorReason::Invalid, "{message}");
    assert!(message.contains("ca"), "{message}");
    Ok(())
}
