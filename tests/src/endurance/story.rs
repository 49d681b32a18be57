//! What happens to the Pipeline while the load goes on, and when. It never waits for the load or the reader, except where the query has to be seen to run on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::windows::{Found, WINDOW};
use super::{OBJECT, PATIENCE, PIPELINE, Query, REPLICAS, Setting, Sizes, locked, now};
use crate::poll;

/// Where in the pod the operator writes which revision it runs.
const REVISION: &str = "millrace.dev/revision";
/// Windows that have to come out while a change stands refused.
const UNTOUCHED: u64 = 3;

/// A kind of event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// The load begins.
    Load,
    /// A worker is killed.
    Kill,
    /// A change is rolled out.
    Rollout,
    /// A change is refused.
    Refusal,
    /// There are to be more or fewer workers.
    Rescale,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// When, in milliseconds since 1970.
    pub(super) at: u64,
    /// What kind.
    pub(super) what: What,
    /// In words.
    pub(super) text: String,
}

/// All that happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// In order of time.
    pub(super) events: Vec<Event>,
    /// When the last worker with the first query was gone.
    pub(super) rolled_out: Option<u64>,
    /// What the refused change was told.
    pub(super) refusal: String,
}

/// What happens.
pub(super) struct Story<'a> {
    setting: &'a Setting,
    sizes: Sizes,
    found: &'a Mutex<Found>,
    began: u64,
    told: Mutex<Told>,
    changed: AtomicBool,
}

/// Selects the workers.
pub(super) fn selector() -> String {
    format!("--selector=millrace.dev/pipeline={PIPELINE},app.kubernetes.io/component=worker")
}

impl<'a> Story<'a> {
    /// It begins with the load, now.
    pub(super) fn new(setting: &'a Setting, sizes: Sizes, found: &'a Mutex<Found>) -> Self {
        let began = now();
        let text = format!("{} records/s, {REPLICAS} workers", sizes.rate);
        let told = Told { events: vec![Event { at: began, what: What::Load, text }], ..Told::default() };
        Self { setting, sizes, found, began, told: Mutex::new(told), changed: AtomicBool::new(false) }
    }

    /// Lets everything happen: kills all the time, and beside them one change after the other.
    pub(super) async fn happen(&self) -> Result<()> {
        tokio::try_join!(self.kills(), self.changes()).map(drop)
    }

    /// What happened so far.
    pub(super) fn told(&self) -> Told {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.events.sort_by_key(|event| event.at);
        told
    }

    fn note(&self, at: u64, what: What, text: String) {
        let event = Event { at, what, text };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).events.push(event);
    }

    async fn reach(&self, seconds: u64) {
        let due = self.began + seconds * 1000;
        tokio::time::sleep(Duration::from_millis(due.saturating_sub(now()))).await;
    }

    async fn kills(&self) -> Result<()> {
        for number in 1.. {
            let due = number * self.sizes.kill_every;
            self.reach(due).await;
            if due >= self.sizes.seconds && self.changed.load(Ordering::Acquire) {
                break;
            }
            let (pod, restarts) = self.setting.namespace.kill_a_worker(PIPELINE).await?;
            // The kubelet starts it again at once only the first time.
            let before = if restarts == 0 { String::new() } else { format!(", restart {} of its container", restarts + 1) };
            self.note(now(), What::Kill, format!("{pod} killed{before}"));
        }
        Ok(())
    }

    async fn changes(&self) -> Result<()> {
        // In the middle between two kills each.
        let middle = async |share: u64| {
            let kills = self.sizes.seconds * share / 100 / self.sizes.kill_every;
            self.reach(kills * self.sizes.kill_every + self.sizes.kill_every / 2).await;
        };
        middle(20).await;
        self.roll_out().await.context("a compatible change")?;
        middle(40).await;
        self.refuse().await.context("an incompatible change")?;
        for (share, replicas) in [(55, 1), (60, 4), (80, 2)] {
            middle(share).await;
            self.scale(replicas).await.with_context(|| format!("{replicas} workers"))?;
        }
        self.changed.store(true, Ordering::Release);
        Ok(())
    }

    /// A compatible query is taken on, with all state.
    async fn roll_out(&self) -> Result<()> {
        let before = self.revision().await?;
        let at = now();
        self.setting.apply(Query::Compatible).await?;
        let rolled = async || {
            let revision = self.revision().await?;
            ensure!(revision != before, "revision {before} still runs");
            let pods = self.workers().await?;
            ensure!(pods.len() == REPLICAS && pods.iter().all(|pod| pod.revision == revision), "the workers are {pods:?}");
            Ok::<_, anyhow::Error>(())
        };
        poll::until("all workers run the changed query", PATIENCE, rolled).await?;
        let rolled_out = now();
        self.note(at, What::Rollout, format!("compatible query applied, all workers have it after {:.1} s", seconds(rolled_out - at)));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).rolled_out = Some(rolled_out);
        self.setting.namespace.condition(OBJECT, "StateCompatible", "True", "", PATIENCE).await?;
        poll::until("results of the changed query", PATIENCE, async || {
            ensure!(locked(self.found).changed() > 0, "there are none");
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// An incompatible query is refused, with the reason, and what runs is not touched.
    async fn refuse(&self) -> Result<()> {
        let before = self.revision().await?;
        let at = now();
        self.setting.apply(Query::Incompatible).await?;
        let said = self.setting.namespace.condition(OBJECT, "StateCompatible", "False", "KeyChanged", PATIENCE).await?;
        ensure!(said.contains("operator counts/") && said.contains("loses its state"), "the message does not name the operator: {said}");
        let refused = now();
        self.note(at, What::Refusal, format!("incompatible query applied, refused after {:.1} s", seconds(refused - at)));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).refusal.clone_from(&said);
        let wanted = refused + UNTOUCHED * WINDOW;
        poll::until("windows of after the refusal", PATIENCE, async || {
            ensure!(locked(self.found).latest() >= Some(wanted), "none is there");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        self.setting.namespace.condition(OBJECT, "StateCompatible", "False", "KeyChanged", PATIENCE).await?;
        let (revision, workers) = (self.revision().await?, self.workers().await?);
        ensure!(revision == before, "revision {revision} runs instead of {before}");
        ensure!(workers.len() == REPLICAS && workers.iter().all(|pod| pod.revision == before), "the workers are {workers:?}");
        self.setting.apply(Query::Compatible).await?;
        self.setting.namespace.condition(OBJECT, "StateCompatible", "True", "", PATIENCE).await?;
        let revision = self.revision().await?;
        ensure!(revision == before, "after the change was taken back, revision {revision} runs instead of {before}");
        Ok(())
    }

    async fn scale(&self, replicas: usize) -> Result<()> {
        let before = self.workers().await?.len();
        let at = now();
        self.setting.namespace.kubectl(["scale", OBJECT, &format!("--replicas={replicas}")]).await?;
        poll::until("the workers are as many as they should be", PATIENCE, async || {
            let pods = self.workers().await?;
            ensure!(pods.len() == replicas && pods.iter().all(|pod| pod.has_run), "the workers are {pods:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        self.note(at, What::Rescale, format!("replicas {before} → {replicas}, there after {:.1} s", seconds(now() - at)));
        Ok(())
    }

    /// The revision that runs.
    async fn revision(&self) -> Result<String> {
        let status = self.setting.namespace.object(OBJECT).await?["status"].clone();
        status["revision"]["current"].as_str().map(str::to_owned).with_context(|| format!("no revision in {status}"))
    }

    /// All workers, those included that are going away.
    async fn workers(&self) -> Result<Vec<Worker>> {
        let pods = self.setting.namespace.kubectl(["get", "pods", &selector(), "--output=json"]).await?;
        let pods: Value = serde_json::from_str(&pods)?;
        Ok(pods["items"].as_array().context("kubectl lists no pods")?.iter().map(Worker::of).collect())
    }
}

/// A worker pod.
#[derive(Debug)]
#[expect(dead_code, reason = "the name is for messages")]
struct Worker {
    name: String,
    revision: String,
    /// Whether it is ready, or was before it was killed.
    has_run: bool,
}

impl Worker {
    fn of(pod: &Value) -> Self {
        let metadata = &pod["metadata"];
        let container = &pod["status"]["containerStatuses"][0];
        Self {
            name: metadata["name"].as_str().unwrap_or_default().to_owned(),
            revision: metadata["annotations"][REVISION].as_str().unwrap_or_default().to_owned(),
            has_run: container["ready"] == true || container["restartCount"].as_u64().is_some_and(|restarts| restarts > 0),
        }
    }
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
