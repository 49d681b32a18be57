//! Millrace in the cluster: the charts with the images of this checkout, and namespaces in which Pipelines run. It looks only where users can look.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::cluster::Cluster;
use crate::image::Image;
use crate::installed;
use crate::poll;

/// Whether this process has installed it: helm takes one operation at a time.
static INSTALLED: Mutex<bool> = Mutex::const_new(false);

/// Where the operator runs.
pub const SYSTEM: &str = "millrace-system";

/// Installs or upgrades both charts with the images of this checkout, and waits until the operator is ready.
///
/// # Errors
/// An image does not build, or the operator does not get ready; the error holds its log.
pub async fn install_operator(cluster: &Cluster) -> Result<()> {
    let mut installed = INSTALLED.lock().await;
    if !*installed {
        install(cluster).await?;
        *installed = true;
    }
    Ok(())
}

async fn install(cluster: &Cluster) -> Result<()> {
    let (worker, operator) = (cluster.image(Image::Worker).await?, cluster.image(Image::Operator).await?);
    let (worker_repository, worker_tag) = worker.rsplit_once(':').context("an image reference has a tag")?;
    let (repository, tag) = operator.rsplit_once(':').context("an image reference has a tag")?;
    let charts = installed::checkout().join("charts");
    let upgrade = ["upgrade", "--install", "--namespace", SYSTEM, "--create-namespace"].map(str::to_owned);
    let crds = [vec!["millrace-crds".to_owned(), charts.join("millrace-crds").display().to_string()], upgrade.to_vec()].concat();
    cluster.helm(reorder(crds)).await?;
    let mut arguments = [vec!["millrace".to_owned(), charts.join("millrace").display().to_string()], upgrade.to_vec()].concat();
    for setting in [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        "image.pullPolicy=Never".to_owned(),
        format!("worker.image.repository={worker_repository}"),
        format!("worker.image.tag={worker_tag}"),
        "worker.image.pullPolicy=Never".to_owned(),
    ] {
        arguments.extend(["--set-string".to_owned(), setting]);
    }
    arguments.extend(["--wait".to_owned(), "--timeout=3m".to_owned()]);
    if let Err(error) = cluster.helm(reorder(arguments)).await {
        return Err(error.context(operator_log(cluster).await));
    }
    Ok(())
}

/// `<release> <chart> upgrade …` to `upgrade … <release> <chart>`.
fn reorder(arguments: Vec<String>) -> Vec<String> {
    let (names, rest) = arguments.split_at(2);
    [rest, names].concat()
}

/// The end of the operator's log, for failures.
pub async fn operator_log(cluster: &Cluster) -> String {
    let selector = ["logs", "--namespace", SYSTEM, "--selector=app.kubernetes.io/name=millrace", "--tail=60", "--prefix"];
    cluster.kubectl(selector).await.unwrap_or_else(|error| format!("no log of the operator: {error:#}"))
}

/// A namespace under Pod Security `restricted`.
#[derive(Debug)]
pub struct Namespace {
    cluster: Arc<Cluster>,
    name: String,
}

impl Namespace {
    /// Makes it, without what an earlier, killed run has left in it.
    ///
    /// # Errors
    /// The API server refuses, or the old one does not go away.
    pub async fn make(cluster: &Arc<Cluster>, name: &str) -> Result<Self> {
        let namespace = Self { cluster: Arc::clone(cluster), name: name.to_owned() };
        namespace.delete().await?;
        let labels = "{pod-security.kubernetes.io/enforce: restricted}";
        cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {labels}}}}}")).await?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `kubectl` in it.
    ///
    /// # Errors
    /// It fails; the error holds what it said.
    pub async fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut all = vec!["--namespace", self.name.as_str()];
        for argument in arguments {
            all.push(argument);
        }
        self.cluster.kubectl(all).await
    }

    /// Applies manifests to it.
    ///
    /// # Errors
    /// The API server refuses one of them.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), manifests)?;
        let path = file.path().display().to_string();
        self.kubectl(["apply", "--filename", &path]).await
    }

    /// What `kubectl get` prints of `kinds`.
    ///
    /// # Errors
    /// It fails.
    pub async fn get(&self, kinds: &str) -> Result<String> {
        self.kubectl(["get", kinds, "--output=wide"]).await
    }

    /// One object.
    ///
    /// # Errors
    /// There is none.
    pub async fn object(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(["get", name, "--output=json"]).await?)?)
    }

    /// Waits until a condition has this status and reason (any, if empty), for the present generation; returns its message.
    ///
    /// # Errors
    /// It does not within `deadline`; the error says what the object's conditions are.
    pub async fn condition(&self, object: &str, kind: &str, status: &str, reason: &str, deadline: Duration) -> Result<String> {
        let look = async || {
            let found = self.object(object).await?;
            let generation = found["metadata"]["generation"].as_i64();
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let condition =
                conditions.iter().find(|condition| condition["type"] == kind).with_context(|| format!("no condition {kind}"))?;
            let same = condition["status"] == status && (reason.is_empty() || condition["reason"] == reason);
            ensure!(same && condition["observedGeneration"].as_i64() == generation, "the conditions are: {}", brief(&conditions));
            Ok(condition["message"].as_str().unwrap_or_default().to_owned())
        };
        poll::until(&format!("{object}: {kind}={status} {reason}"), deadline, look).await
    }

    /// Kills a worker of a Pipeline with SIGKILL: of those that are ready, the one that was killed least. Returns its name, and how often it had been started again before.
    ///
    /// # Errors
    /// None is running.
    pub async fn kill_a_worker(&self, pipeline: &str) -> Result<(String, u32)> {
        let look = async || {
            let selector = format!("--selector=millrace.dev/pipeline={pipeline}");
            let each = "{range .items[?(@.status.containerStatuses[0].ready==true)]}{.status.containerStatuses[0].restartCount} {.metadata.name}{\"\\n\"}{end}";
            let pods = self.kubectl(["get", "pods", &selector, &format!("--output=jsonpath={each}")]).await?;
            let pods =
                pods.lines().filter_map(|line| line.split_once(' ').and_then(|(killed, name)| Some((killed.parse::<u32>().ok()?, name))));
            let (restarts, pod) = pods.min().context("no worker is running")?;
            self.cluster.kill_pod(&self.name, pod).await.map(|()| (pod.to_owned(), restarts))
        };
        poll::until("a worker to kill", Duration::from_mins(2), look).await
    }

    /// Everything there is to see, for failures.
    pub async fn describe(&self) -> String {
        let mut text = String::new();
        for arguments in [
            vec!["get", "pipelines,sources,sinks,pods", "--output=wide"],
            vec!["describe", "pipelines.millrace.dev"],
            vec!["get", "events", "--sort-by=.lastTimestamp"],
            vec!["logs", "--selector=app.kubernetes.io/managed-by=millrace-operator", "--tail=40", "--prefix"],
        ] {
            let said = self.kubectl(arguments).await.unwrap_or_else(|error| format!("{error:#}"));
            let _infallible = writeln!(text, "{said}");
        }
        text
    }

    /// Deletes it; fails if it is not gone within a minute.
    ///
    /// # Errors
    /// Something in it holds it up.
    pub async fn delete(&self) -> Result<()> {
        self.cluster.kubectl(["delete", "namespace", &self.name, "--ignore-not-found", "--timeout=60s"]).await.map(drop)
    }
}

fn brief(conditions: &[Value]) -> String {
    let lines = conditions.iter().map(|condition| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        format!("{}={} {} {}", text("type"), text("status"), text("reason"), text("message"))
    });
    lines.collect::<Vec<_>>().join("; ")
}
