//! Kafka behind TLS that lets in only who knows a password. It is never reached without both.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::kafka::java;
use super::process::Process;
use super::{Home, LOOPBACK, START_DEADLINE, ports};
use crate::certificates;

/// Who is let in.
pub const USER: &str = "ann";
/// Her password.
pub const PASSWORD: &str = "right";
/// The topic that there is, with one partition.
pub const TOPIC: &str = "orders";

/// A broker that knows [`USER`] by [`PASSWORD`], with PLAIN and SCRAM-SHA-512.
#[derive(Debug)]
pub struct GuardedKafka {
    address: SocketAddr,
    _process: Process,
    home: Home,
}

impl GuardedKafka {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start() -> Result<Self> {
        Self::start_at(LOOPBACK).await
    }

    /// Starts one that binds `bind`, such as the address that pods reach. Its certificate is for that address and for no name.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start_at(bind: IpAddr) -> Result<Self> {
        let home = Home::temporary("kafka-guarded")?;
        let folder = home.path();
        certificates::make(folder, bind)?;
        let pem = ["server.key", "server.crt"].map(|name| fs::read_to_string(folder.join(name)));
        let [key, certificate] = pem;
        fs::write(folder.join("server.pem"), key? + &certificate?).context("write server.pem")?;
        let (address, controller) = (SocketAddr::new(bind, ports::free(bind)?), SocketAddr::new(bind, ports::free(bind)?));
        fs::write(folder.join("server.properties"), properties(folder, address, controller)).context("write server.properties")?;
        let format = java("kafka.tools.StorageTool")?
            .args(["format", "-t", "Mk3PEJsjSOmdlrmNKxxTSw", "-c", "server.properties", "--add-scram"])
            .arg(format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]"))
            .current_dir(folder)
            .output()
            .context("run java")?;
        ensure!(format.status.success(), "formatting Kafka's folder failed: {}", String::from_utf8_lossy(&format.stderr));
        let mut command = java("kafka.Kafka")?;
        command.arg("server.properties").current_dir(folder);
        let mut process = Process::start("kafka-guarded", folder, command, home.lifetime())?;
        let admin: AdminClient<DefaultClientContext> = config(address, folder).create().context("make an admin client")?;
        let create = async || {
            let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
            let made = admin.create_topics(&[NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1))], &options).await?;
            made[0].as_ref().map(drop).map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))
        };
        process.ready(START_DEADLINE, create).await?;
        Ok(Self { address, _process: process, home })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the authority that has signed its own.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.home.path().join("ca.crt")
    }

    /// Writes records to [`TOPIC`] and waits until all are acknowledged.
    ///
    /// # Errors
    /// One of them is not.
    pub async fn produce(&self, values: &[&str]) -> Result<()> {
        let producer: FutureProducer = config(self.address, self.home.path()).create().context("make a producer")?;
        for value in values {
            let record = FutureRecord::<(), _>::to(TOPIC).payload(*value);
            producer.send(record, START_DEADLINE).await.map_err(|(error, _)| error).context("write a record")?;
        }
        Ok(())
    }
}

/// What a client of [`USER`] needs.
fn config(address: SocketAddr, folder: &Path) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.to_string())
        .set("security.protocol", "sasl_ssl")
        .set("ssl.ca.location", folder.join("ca.crt").display().to_string())
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", USER)
        .set("sasl.password", PASSWORD);
    config
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
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{USER}\" password=\"{PASSWORD}\" user_{USER}=\"{PASSWORD}\";
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"
    )
}
