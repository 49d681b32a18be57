//! Kafka 4.1 in KRaft mode, one broker. It makes no topic on its own.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::process::Process;
use super::{Home, LOOPBACK, START_DEADLINE, ports};
use crate::installed;

/// Any will do: no two clusters of tests meet.
pub(super) const CLUSTER_ID: &str = "Mk3PEJsjSOmdlrmNKxxTSw";
/// How long one request of a test may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running Kafka broker.
#[derive(Debug)]
pub struct Kafka {
    address: SocketAddr,
    process: Process,
    _home: Home,
}

impl Kafka {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start() -> Result<Self> {
        Self::start_at(LOOPBACK).await
    }

    /// Starts one that binds and advertises `bind`, such as the address that pods reach.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start_at(bind: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(bind, ports::free(bind)?);
        Self::start_in(Home::temporary("kafka")?, address, address).await
    }

    /// Starts one in a given folder that listens at `address` and tells its clients to come to `advertised`:
    /// the same, or that of a [`Proxy`](super::Proxy).
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start_in(home: Home, address: SocketAddr, advertised: SocketAddr) -> Result<Self> {
        let controller = SocketAddr::new(address.ip(), ports::free(address.ip())?);
        let config = home.path().join("server.properties");
        fs::write(&config, properties(home.path(), address, advertised, controller)).context("write server.properties")?;
        let format = java("kafka.tools.StorageTool")?.args(["format", "-t", CLUSTER_ID, "-c"]).arg(&config).output();
        let format = format.context("run java")?;
        ensure!(format.status.success(), "formatting Kafka's folder failed: {}", String::from_utf8_lossy(&format.stderr));

        let mut command = java("kafka.Kafka")?;
        command.arg(&config).current_dir(home.path());
        let process = Process::start("kafka", home.path(), command, home.lifetime())?;
        let mut kafka = Self { address, process, _home: home };
        kafka.wait().await?;
        Ok(kafka)
    }

    /// `<address>:<port>`, for `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    ///
    /// # Errors
    /// It has ended.
    pub fn id(&self) -> Result<u32> {
        self.process.id()
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// The broker refuses, as when it exists.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, &[]).await
    }

    /// Makes a topic with these settings.
    ///
    /// # Errors
    /// The broker refuses, as when it exists.
    pub async fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create().context("make an admin client")?;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topic.config.extend(settings);
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        for made in admin.create_topics(&[topic], &options).await.context("create a topic")? {
            made.map_err(|(name, code)| anyhow::anyhow!("Kafka refuses topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// Writes records, `(partition, key, value)`, and waits until all are acknowledged.
    ///
    /// # Errors
    /// One of them is not.
    pub async fn produce(&self, topic: &str, records: &[(i32, &str, &str)]) -> Result<()> {
        let producer: FutureProducer = self.config().create().context("make a producer")?;
        let mut sent = Vec::with_capacity(records.len());
        for (partition, key, value) in records {
            let record = FutureRecord::to(topic).partition(*partition).key(*key).payload(*value);
            sent.push(producer.send_result(record).map_err(|(error, _)| error).context("queue a record")?);
        }
        for delivery in futures::future::join_all(sent).await {
            delivery.context("the producer was dropped")?.map_err(|(error, _)| error).context("write a record")?;
        }
        Ok(())
    }

    /// The first and the next offset of a partition.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn offsets(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let client: BaseConsumer = self.config().create().context("make a consumer")?;
        client.fetch_watermarks(topic, partition, TIMEOUT).with_context(|| format!("read the offsets of {topic}"))
    }

    /// Runs a program of one source file that uses Java's client, and waits for its end.
    ///
    /// # Errors
    /// It fails.
    pub async fn java(&self, source: &Path, arguments: &[&str]) -> Result<()> {
        let mut command = java(source.to_str().context("a path that is text")?)?;
        command.args(arguments);
        let run = tokio::task::spawn_blocking(move || command.output()).await?.context("run java")?;
        ensure!(run.status.success(), "{} failed: {}", source.display(), String::from_utf8_lossy(&run.stderr));
        Ok(())
    }

    /// Stops it; its data stays.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Kills it as a power cut would; its data stays.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it on the same port and data.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.wait().await
    }

    /// A client configuration for it.
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("broker.address.family", "v4");
        config
    }

    async fn wait(&mut self) -> Result<()> {
        let config = self.config();
        let answers = async || {
            let config = config.clone();
            // The client blocks; it must not hold up the look at whether the process lives.
            let look = tokio::task::spawn_blocking(move || -> Result<usize> {
                let client: BaseConsumer = config.create()?;
                Ok(client.fetch_metadata(None, Duration::from_secs(2))?.brokers().len())
            });
            ensure!(look.await.context("look at Kafka")?? == 1, "its broker is not registered yet");
            Ok(())
        };
        self.process.ready(START_DEADLINE, answers).await
    }
}

/// One of Kafka's programs, in a small heap.
pub(super) fn java(main: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg("-cp").arg(installed::path(installed::KAFKA)?.join("lib/*")).arg(main);
    Ok(command)
}

fn properties(folder: &Path, address: SocketAddr, advertised: SocketAddr, controller: SocketAddr) -> String {
    let data = folder.join("data");
    format!(
        "process.roles=broker,controller
node.id=1
listeners=CLIENT://{address},CONTROLLER://{controller}
advertised.listeners=CLIENT://{advertised}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{controller}
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
",
        data = data.display()
    )
}
