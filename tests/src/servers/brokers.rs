//! Kafka 4.1 in KRaft mode with three brokers, each a controller too: topics have three replicas, of which two must have a record before it is acknowledged.
//! It makes no topic on its own, and never decides what goes wrong.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::kafka::{CLUSTER_ID, java};
use super::process::Process;
use super::{Home, LOOPBACK, START_DEADLINE, ports};
use crate::poll;

/// How many brokers there are.
pub const BROKERS: usize = 3;
/// The topic whose leader coordinates all transactions, and the one whose leader coordinates all consumer groups: each has one partition.
pub const TRANSACTIONS: &str = "__transaction_state";
/// See [`TRANSACTIONS`].
pub const GROUPS: &str = "__consumer_offsets";
/// How long one request of a test may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long one look at the cluster may take; there will be another.
const LOOK: Duration = Duration::from_secs(5);

/// A running cluster. Brokers are numbered from 1.
#[derive(Debug)]
pub struct Brokers {
    brokers: Vec<Broker>,
    _home: Home,
}

#[derive(Debug)]
struct Broker {
    address: SocketAddr,
    process: Process,
}

/// One partition, as the cluster says.
#[derive(Clone, Debug)]
pub struct Partition {
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// Brokers that have a replica.
    pub replicas: Vec<i32>,
    /// Those of them that have everything.
    pub in_sync: Vec<i32>,
}

impl Brokers {
    /// Starts all of them on loopback, and waits until each knows the others.
    ///
    /// # Errors
    /// Kafka is not installed or does not get ready.
    pub async fn start() -> Result<Self> {
        let home = Home::temporary("brokers")?;
        let address = || Ok::<_, anyhow::Error>(SocketAddr::new(LOOPBACK, ports::free(LOOPBACK)?));
        let addresses = (0..BROKERS).map(|_| Ok((address()?, address()?))).collect::<Result<Vec<_>>>()?;
        let voters: Vec<_> = (1..).zip(&addresses).map(|(number, (_, controller))| format!("{number}@{controller}")).collect();
        let mut formatting = Vec::new();
        for (number, (listens, controller)) in (1..).zip(&addresses) {
            let folder = home.path().join(number.to_string());
            fs::create_dir(&folder).context("make a broker's folder")?;
            let config = folder.join("server.properties");
            fs::write(&config, properties(number, &folder, *listens, *controller, &voters.join(","))).context("write server.properties")?;
            let mut format = java("kafka.tools.StorageTool")?;
            format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(&config);
            formatting.push(tokio::task::spawn_blocking(move || format.output()));
        }
        for formatted in formatting {
            let formatted = formatted.await?.context("run java")?;
            ensure!(formatted.status.success(), "formatting Kafka's folder failed: {}", String::from_utf8_lossy(&formatted.stderr));
        }
        let mut brokers = Vec::new();
        for (number, (listens, _)) in (1..).zip(&addresses) {
            let folder = home.path().join(number.to_string());
            let mut command = java("kafka.Kafka")?;
            command.arg(folder.join("server.properties")).current_dir(&folder);
            let process = Process::start("kafka", &folder, command, home.lifetime())?;
            brokers.push(Broker { address: *listens, process });
        }
        let mut cluster = Self { brokers, _home: home };
        for number in 1..=BROKERS {
            cluster.wait(number, BROKERS).await?;
        }
        Ok(cluster)
    }

    /// All brokers, for `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let all: Vec<_> = self.brokers.iter().map(|broker| broker.address.to_string()).collect();
        all.join(",")
    }

    /// A client configuration for all brokers.
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        config(&self.bootstrap())
    }

    /// Makes a topic with so many replicas and these settings.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn create_topic(&self, name: &str, partitions: i32, replicas: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        topic.config.extend(settings);
        let made = self.admin()?.create_topics(&[topic], &options()).await.context("create a topic")?;
        made.into_iter().try_for_each(|made| done(name, made))?;
        self.until_in_sync(name).await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let gone = self.admin()?.delete_topics(&[name], &options()).await.context("delete a topic")?;
        gone.into_iter().try_for_each(|gone| done(name, gone))
    }

    /// Gives a topic more partitions: `count` in all.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn grow_topic(&self, name: &str, count: usize) -> Result<()> {
        let grown = self.admin()?.create_partitions(&[NewPartitions::new(name, count)], &options()).await.context("add partitions")?;
        grown.into_iter().try_for_each(|grown| done(name, grown))
    }

    /// The partitions of a topic, in order; none if there is no such topic.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn partitions(&self, name: &str) -> Result<Vec<Partition>> {
        look(self.config(), name.to_owned()).await
    }

    /// The broker that leads a partition.
    ///
    /// # Errors
    /// It does not come to have one.
    pub async fn leader(&self, name: &str, partition: usize) -> Result<i32> {
        let what = format!("{name}/{partition} has a leader");
        poll::until(&what, START_DEADLINE, async || {
            let partitions = self.partitions(name).await?;
            partitions.get(partition).and_then(|partition| partition.leader).context("it has none")
        })
        .await
    }

    /// Waits until a broker leads no partition of a topic, and every partition has a leader.
    ///
    /// # Errors
    /// That does not happen.
    pub async fn until_led_by_others(&self, name: &str, than: i32) -> Result<()> {
        let what = format!("others than {than} lead {name}");
        poll::until(&what, START_DEADLINE, async || {
            let partitions = self.partitions(name).await?;
            let moved = partitions.iter().all(|partition| partition.leader.is_some_and(|leader| leader != than));
            ensure!(moved && !partitions.is_empty(), "{partitions:?}");
            Ok(())
        })
        .await
    }

    /// Waits until all replicas of a topic have everything.
    ///
    /// # Errors
    /// That does not happen.
    pub async fn until_in_sync(&self, name: &str) -> Result<()> {
        poll::until(&format!("all replicas of {name} have everything"), START_DEADLINE, async || {
            let partitions = self.partitions(name).await?;
            let all = partitions.iter().all(|partition| partition.leader.is_some() && partition.in_sync.len() == partition.replicas.len());
            ensure!(all && !partitions.is_empty(), "{partitions:?}");
            Ok(())
        })
        .await
    }

    /// Kills a broker as a power cut would; its data stays.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn kill(&mut self, number: i32) -> Result<()> {
        self.process(number)?.kill()
    }

    /// Lets a broker hand over what it leads, and end.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self, number: i32) -> Result<()> {
        self.process(number)?.stop().await
    }

    /// Starts a broker that has ended, and waits until it answers.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_again(&mut self, number: i32) -> Result<()> {
        self.process(number)?.start_again()?;
        self.wait(usize::try_from(number)?, 1).await
    }

    /// Freezes a broker: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// It is not running.
    pub fn freeze(&mut self, number: i32) -> Result<()> {
        self.process(number)?.freeze()
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// It is not running.
    pub fn thaw(&mut self, number: i32) -> Result<()> {
        self.process(number)?.thaw()
    }

    fn process(&mut self, number: i32) -> Result<&mut Process> {
        let place = usize::try_from(number - 1)?;
        Ok(&mut self.brokers.get_mut(place).with_context(|| format!("no broker {number}"))?.process)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.config().create().context("make an admin client")
    }

    /// Waits until a broker answers and knows of so many.
    async fn wait(&mut self, number: usize, known: usize) -> Result<()> {
        let broker = &mut self.brokers[number - 1];
        let config = config(&broker.address.to_string());
        let answers = async || {
            let config = config.clone();
            // The client blocks; it must not hold up the look at whether the process lives.
            let asked = tokio::task::spawn_blocking(move || -> Result<usize> {
                let client: BaseConsumer = config.create()?;
                Ok(client.fetch_metadata(None, LOOK)?.brokers().len())
            });
            let found = asked.await.context("look at Kafka")??;
            ensure!(found >= known, "broker {number} knows of {found} brokers");
            Ok(())
        };
        broker.process.ready(START_DEADLINE, answers).await
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("broker.address.family", "v4").set("topic.metadata.refresh.interval.ms", "5000");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

fn done(name: &str, result: rdkafka::admin::TopicResult) -> Result<()> {
    result.map(drop).map_err(|(_, code)| anyhow::anyhow!("Kafka refuses it for topic {name}: {code}"))
}

async fn look(config: ClientConfig, name: String) -> Result<Vec<Partition>> {
    let asked = tokio::task::spawn_blocking(move || -> Result<Vec<Partition>> {
        let client: BaseConsumer = config.create()?;
        let metadata = client.fetch_metadata(Some(&name), LOOK)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
        let mut found: Vec<_> = topic.map(|topic| topic.partitions().iter().collect()).unwrap_or_default();
        found.sort_by_key(|partition| partition.id());
        let of = |partition: &&rdkafka::metadata::MetadataPartition| Partition {
            leader: Some(partition.leader()).filter(|leader| *leader > 0),
            replicas: partition.replicas().to_vec(),
            in_sync: partition.isr().to_vec(),
        };
        Ok(found.iter().map(of).collect())
    });
    asked.await.context("look at Kafka")?
}

/// Brokers are missed after 4 s, and replicas that fall behind after 5; leaders go home by themselves, so that they move again after each return.
fn properties(number: usize, folder: &Path, listens: SocketAddr, controller: SocketAddr, voters: &str) -> String {
    let data = folder.join("data");
    format!(
        "process.roles=broker,controller
node.id={number}
listeners=CLIENT://{listens},CONTROLLER://{controller}
advertised.listeners=CLIENT://{listens}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
auto.leader.rebalance.enable=true
leader.imbalance.check.interval.seconds=5
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=3
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
",
        data = data.display()
    )
}
