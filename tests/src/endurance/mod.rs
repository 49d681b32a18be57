//! A windowed, keyed Pipeline from Kafka to Kafka, shared by workers in the cluster, under a steady load while everything happens to it; and what a reader of what is
//! committed has seen. It looks only where users can look.
//!
//! ```text
//!  load ──▶ Kafka: in ──▶ Pipeline, 3 workers ──▶ Kafka: out ──▶ reader (read_committed)
//!   └ what must come out    ▲  a worker killed again and again; a compatible query, an incompatible one; replicas 3 → 1 → 4 → 2
//!                           └ story
//! ```
//!
//! `make endurance` runs it for ten minutes with release builds and prints [`Outcome`]; `tests/cluster_exchange.rs` runs a short one.

mod cpu;
mod load;
mod manifests;
mod reader;
mod report;
mod story;
mod windows;

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

pub use self::report::Outcome;
pub use self::windows::Verdict;

use self::manifests::{Query, manifests};
use self::story::Story;
use self::windows::Found;
use crate::cluster::Cluster;
use crate::install::{Namespace, install_operator, operator_log};
use crate::poll;
use crate::servers::{Kafka, Moto};

/// The topics, each with so many partitions; the exchange has as many.
const IN: &str = "in";
const OUT: &str = "out";
const PARTITIONS: i32 = 4;
/// The Pipeline, and as kubectl takes it.
const PIPELINE: &str = "counts";
const OBJECT: &str = "pipelines.millrace.dev/counts";
/// Workers at first.
const REPLICAS: usize = 3;
/// Seconds by which records may come late.
const MAX_DELAY: u64 = 1;
/// For something to happen in the cluster on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// How much, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Records a second.
    pub rate: u64,
    /// Seconds of load; it goes on until everything has happened.
    pub seconds: u64,
    /// Seconds between two kills.
    pub kill_every: u64,
    /// Different keys.
    pub keys: u64,
}

impl Sizes {
    /// These, unless `MILLRACE_TEST_RATE`, `MILLRACE_TEST_SECONDS`, `MILLRACE_TEST_KILL_EVERY` and `MILLRACE_TEST_KEYS` say otherwise.
    ///
    /// # Errors
    /// One of them is no number, or zero.
    pub fn or_from_environment(self) -> Result<Self> {
        let size = |name: &str, default: u64| -> Result<u64> {
            let Some(text) = env::var(name).ok().filter(|text| !text.is_empty()) else { return Ok(default) };
            let size = text.parse().with_context(|| format!("{name} is {text:?}"))?;
            ensure!(size > 0, "{name} is 0");
            Ok(size)
        };
        Ok(Self {
            rate: size("MILLRACE_TEST_RATE", self.rate)?,
            seconds: size("MILLRACE_TEST_SECONDS", self.seconds)?,
            kill_every: size("MILLRACE_TEST_KILL_EVERY", self.kill_every)?,
            keys: size("MILLRACE_TEST_KEYS", self.keys)?,
        })
    }
}

/// Where it happens.
struct Setting {
    cluster: Arc<Cluster>,
    namespace: Namespace,
    kafka: Kafka,
    moto: Moto,
}

/// Runs the Pipeline in a namespace of its own, and says what came of it: whether that is right is for [`Verdict::is_clean`] to say.
///
/// # Errors
/// Something does not happen in the cluster that must, or is refused that must not be; the error holds what there is to see.
pub async fn run(namespace: &str, sizes: Sizes) -> Result<Outcome> {
    let cluster = Cluster::start().await?;
    let host = cluster.host()?;
    let (kafka, moto) = (Kafka::start_at(host).await?, Moto::start_at(host).await?);
    for topic in [IN, OUT] {
        kafka.create_topic(topic, PARTITIONS).await?;
    }
    moto.create_bucket("state").await?;
    install_operator(&cluster).await?;
    let namespace = Namespace::make(&cluster, namespace).await?;
    let setting = Setting { cluster, namespace, kafka, moto };
    let mut outcome = match Box::pin(setting.run(sizes)).await {
        Ok(outcome) => outcome,
        Err(error) => return Err(error.context(setting.describe().await)),
    };
    if !outcome.verdict.is_clean() {
        outcome.seen = Some(setting.describe().await);
        return Ok(outcome);
    }
    setting.namespace.delete().await.context("the namespace is gone within a minute")?;
    Ok(outcome)
}

impl Setting {
    async fn apply(&self, query: Query) -> Result<()> {
        self.namespace.apply(&manifests(&self.kafka, &self.moto, REPLICAS, query)).await.map(drop)
    }

    async fn describe(&self) -> String {
        format!("{}\n{}", self.namespace.describe().await, operator_log(&self.cluster).await)
    }

    async fn run(&self, sizes: Sizes) -> Result<Outcome> {
        self.apply(Query::First).await?;
        self.namespace.condition(OBJECT, "Ready", "True", "", PATIENCE).await?;
        let keys = usize::try_from(sizes.keys)?;
        let found = Arc::new(Mutex::new(Found::new(keys)));
        let loading = Background::start({
            let config = self.kafka.config();
            move |stop| load::send(config, sizes.rate, keys, stop)
        });
        let reading = Background::start({
            let (config, found) = (self.kafka.config(), Arc::clone(&found));
            move |stop| reader::follow(config, &found, stop)
        });
        let working = Background::start({
            let (name, kafka) = (self.namespace.name().to_owned(), self.kafka.id()?);
            move |stop| Ok(cpu::watch(&name, kafka, stop))
        });
        let story = Story::new(self, sizes, &found);
        story.happen().await?;
        let sent = loading.stop().await.context("send the load")?;
        let all = async || {
            let (results, wanted) = (locked(&found).results(), sent.expected.results());
            ensure!(results >= wanted, "{results} of {wanted} results");
            Ok::<_, anyhow::Error>(())
        };
        // What is missing then is counted, and said with the rest.
        let arrived = poll::until("every result has arrived", PATIENCE, all).await;
        let cpu = working.stop().await.context("watch the processes")?;
        self.end().await?;
        reading.stop().await.context("read what is committed")?;
        let found = &*locked(&found);
        Ok(report::outcome(sizes, &sent, found, story.told(), cpu, arrived.err()))
    }

    /// Pauses the Pipeline: a last epoch of every task, then there are no workers, and nothing is written any more.
    async fn end(&self) -> Result<()> {
        let delivery = self.namespace.object(OBJECT).await?["status"]["delivery"]["effective"].clone();
        ensure!(delivery == "ExactlyOnce", "status.delivery.effective is {delivery}");
        let pause = "--patch={\"spec\": {\"desiredState\": \"Paused\"}}";
        self.namespace.kubectl(["patch", OBJECT, "--type=merge", pause]).await?;
        self.namespace.condition(OBJECT, "Ready", "True", "Paused", PATIENCE).await?;
        poll::until("no worker is left", PATIENCE, async || {
            let pods = self.namespace.kubectl(["get", "pods", &story::selector(), "--output=name"]).await?;
            ensure!(pods.trim().is_empty(), "there are {pods}");
            Ok::<_, anyhow::Error>(())
        })
        .await
    }
}

/// Work on a thread of its own until it is told to stop. Told so too if it is dropped.
struct Background<T> {
    stop: Arc<AtomicBool>,
    thread: Option<tokio::task::JoinHandle<Result<T>>>,
}

impl<T: Send + 'static> Background<T> {
    fn start(work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Self { stop, thread: Some(tokio::task::spawn_blocking(move || work(&told))) }
    }

    async fn stop(mut self) -> Result<T> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().context("it is stopped once")?.await.context("it ends by itself")?
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn locked(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970, by the one clock of load, story and reader.
#[expect(clippy::disallowed_methods, reason = "this measures time")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
