//! TLS and logins of the kafka connector, against a broker that insists on both.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{Int64Array, RecordBatch, UInt64Array};
use millrace_connectors::conformance;
use millrace_connectors::registry;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::Health;
use millrace_engine::sink::{OpenSink, Sink, SinkWriter, WriterIdentity};
use millrace_engine::source::{OpenSplit, Shared, Source, SourceEvent};
use millrace_tests::servers::process::{Lifetime, Process};
use millrace_tests::servers::{LOOPBACK, ports};
use millrace_tests::{certificates, installed, poll};
use object_store::memory::InMemory;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(90);

/// A broker behind TLS that knows `ann` by her password `right`, with PLAIN and SCRAM-SHA-512.
struct Guarded {
    address: SocketAddr,
    _process: Process,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        certificates::make(folder.path())?;
        let pem = ["server.key", "server.crt"].map(|name| fs::read_to_string(folder.path().join(name)));
        let [key, certificate] = pem;
        fs::write(folder.path().join("server.pem"), key? + &certificate?)?;
        let address = SocketAddr::new(LOOPBACK, ports::free(LOOPBACK)?);
        let controller = SocketAddr::new(LOOPBACK, ports::free(LOOPBACK)?);
        fs::write(folder.path().join("server.properties"), properties(folder.path(), address, controller))?;
        let format = java("kafka.tools.StorageTool")?
            .args(["format", "-t", "Mk3PEJsjSOmdlrmNKxxTSw", "-c", "server.properties", "--add-scram"])
            .arg("SCRAM-SHA-512=[name=ann,password=right]")
            .current_dir(folder.path())
            .output()?;
        ensure!(format.status.success(), "{}", String::from_utf8_lossy(&format.stderr));
        let mut command = java("kafka.Kafka")?;
        command.arg("server.properties").current_dir(folder.path());
        let mut process = Process::start("kafka-guarded", folder.path(), command, Lifetime::Owned)?;
        let admin: AdminClient<DefaultClientContext> = config(address, folder.path()).create()?;
        let create = async || {
            let topic = NewTopic::new("orders", 1, TopicReplication::Fixed(1));
            let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
            let made = admin.create_topics(&[topic], &options).await?;
            made[0].as_ref().map(drop).map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))
        };
        process.ready(DEADLINE, create).await?;
        Ok(Self { address, _process: process, folder })
    }

    /// Access with the Secrets of `secrets`: `authority` and `login`.
    fn access(&self, mechanism: &str) -> Value {
        json!({
            "bootstrapServers": self.address.to_string(),
            "tls": {"secretRef": {"name": "authority"}},
            "sasl": {"mechanism": mechanism, "secretRef": {"name": "login"}},
        })
    }

    /// Secrets with the authority and `ann`'s `password`.
    fn secrets(&self, password: &str) -> Result<tempfile::TempDir> {
        let secrets = tempfile::tempdir()?;
        for name in ["authority", "login"] {
            fs::create_dir(secrets.path().join(name))?;
        }
        fs::copy(self.folder.path().join("ca.crt"), secrets.path().join("authority/ca.crt"))?;
        fs::write(secrets.path().join("login/username"), "ann\n")?;
        set_password(secrets.path(), password)?;
        Ok(secrets)
    }
}

fn set_password(secrets: &Path, password: &str) -> Result<()> {
    Ok(fs::write(secrets.join("login/password"), format!("{password}\n"))?)
}

fn java(main: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg("-cp").arg(installed::path(installed::KAFKA)?.join("lib/*")).arg(main);
    Ok(command)
}

fn properties(folder: &Path, address: SocketAddr, controller: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "process.roles=broker,controller
node.id=1
listeners=CLIENT://{address},CONTROLLER://{controller}
listener.security.protocol.map=CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{controller}
log.dirs={folder}/data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.crt
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"ann\" password=\"right\" user_ann=\"right\";
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"
    )
}

fn config(address: SocketAddr, folder: &Path) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.to_string())
        .set("security.protocol", "sasl_ssl")
        .set("ssl.ca.location", folder.join("ca.crt").display().to_string())
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", "ann")
        .set("sasl.password", "right");
    config
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
    let open = OpenSink { writer, schema: conformance::schema(), event_time: None, epoch: 1, health: Health::default() };
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
    let kafka = Guarded::start().await?;
    let secrets = kafka.secrets("wrong")?;
    for mechanism in ["Plain", "ScramSha512"] {
        set_password(secrets.path(), "wrong")?;
        let (source, sink) = (source(kafka.access(mechanism), secrets.path())?, sink(kafka.access(mechanism), secrets.path())?);
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
                    SourceEvent::End => anyhow::bail!("the input has ended"),
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
    let kafka = Guarded::start().await?;
    let secrets = kafka.secrets("right")?;
    let probe = async |access: Value| failed(sink(access, secrets.path())?.probe().await);
    let mut by_roots = kafka.access("Plain");
    by_roots["tls"] = json!({});
    let (reason, message) = probe(by_roots).await?;
    assert_eq!(reason, ErrorReason::Unreachable, "{message}");
    assert!(message.contains("certificate"), "{message}");
    // The certificate is for 127.0.0.1 only.
    let mut by_name = kafka.access("Plain");
    by_name["bootstrapServers"] = format!("localhost:{}", kafka.address.port()).into();
    let (reason, message) = probe(by_name).await?;
    assert_eq!(reason, ErrorReason::Unreachable, "{message}");
    fs::write(secrets.path().join("authority/ca.crt"), "no certificate")?;
    let (reason, message) = probe(kafka.access("Plain")).await?;
    assert_eq!(reason, ErrorReason::Invalid, "{message}");
    assert!(message.contains("ca"), "{message}");
    Ok(())
}
