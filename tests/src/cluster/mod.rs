//! A real Kubernetes cluster: one that runs already, or one that is started for the tests and removed after them.
//! It never installs anything of Millrace into it; that is what the tests do.
//!
//! | where | when | images |
//! |---|---|---|
//! | any cluster | `MILLRACE_TEST_KUBECONFIG` or `KUBECONFIG` names its kubeconfig | `MILLRACE_TEST_IMAGE_WORKER`, `MILLRACE_TEST_IMAGE_OPERATOR`; with `MILLRACE_TEST_KIND=<name>` they are built and loaded into that kind cluster |
//! | this machine's | `make cluster-up` has left it running | built and imported |
//! | its own | otherwise, from [`Cluster::start`] until the last test that holds it ends | built and imported |

mod cgroups;
mod control_plane;
mod dns;
mod kubectl;
mod network;
mod node;
mod own;
mod pause;

use std::env;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::Mutex;

use crate::command;
use crate::image::{self, Image};
use crate::servers::process::Lifetime;

/// How long a part of the cluster may take to get ready, on a machine that is busy compiling.
const START_DEADLINE: Duration = Duration::from_mins(3);

/// The cluster of this process: shared by its tests, removed with the last of them.
static CURRENT: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());

/// A cluster that answers and has a ready node.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    kind: Kind,
    /// One import of an image at a time.
    loading: Mutex<()>,
}

#[derive(Debug)]
enum Kind {
    /// Someone else's.
    Foreign,
    /// This machine's, started by [`up`].
    Running,
    /// This machine's, removed when the value is dropped.
    Own { _own: Box<own::Own> },
}

impl Cluster {
    /// The cluster for this process's tests.
    ///
    /// # Errors
    /// It does not answer, or its programs are not installed, or do not start; the error holds the end of the log.
    pub async fn start() -> Result<Arc<Self>> {
        let mut current = CURRENT.lock().await;
        if let Some(cluster) = current.upgrade() {
            return Ok(cluster);
        }
        let cluster = Arc::new(Self::find_or_start().await?);
        *current = Arc::downgrade(&cluster);
        Ok(cluster)
    }

    async fn find_or_start() -> Result<Self> {
        let own_kubeconfig = own::kubeconfig()?;
        if let Some(kubeconfig) = foreign()
            && kubeconfig != own_kubeconfig
        {
            let foreign = Self { kubeconfig, kind: Kind::Foreign, loading: Mutex::new(()) };
            foreign.kubectl(["get", "--raw=/readyz"]).await.context("the cluster that KUBECONFIG names")?;
            return Ok(foreign);
        }
        let lock = own::lock().await?;
        let kind = if own::is_running().await {
            Kind::Running
        } else {
            Kind::Own { _own: Box::new(own::Own::start(Lifetime::Owned, lock).await?) }
        };
        Ok(Self { kubeconfig: own_kubeconfig, kind, loading: Mutex::new(()) })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What the API server has written down of requests by service accounts, and of Pipelines and pods that were made: one audit Event a line, `None` if the cluster is not ours.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn audit_log(&self) -> Result<Option<String>> {
        match self.kind {
            Kind::Running | Kind::Own { .. } => {
                let path = control_plane::audit_log(&own::folder()?);
                std::fs::read_to_string(&path).map(Some).with_context(|| format!("read {}", path.display()))
            }
            Kind::Foreign => Ok(None),
        }
    }

    /// The address under which pods reach servers that a test starts on this host.
    ///
    /// # Errors
    /// The cluster is not ours and `MILLRACE_TEST_HOST` does not say it.
    pub fn host(&self) -> Result<IpAddr> {
        match self.kind {
            Kind::Running | Kind::Own { .. } => Ok(network::HOST),
            Kind::Foreign => {
                let host = env::var("MILLRACE_TEST_HOST").context("set MILLRACE_TEST_HOST to this host's address as the pods see it")?;
                host.parse().with_context(|| format!("MILLRACE_TEST_HOST is {host}"))
            }
        }
    }

    /// Runs `kubectl` and returns what it printed.
    ///
    /// # Errors
    /// It fails; the error holds what it said.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        self.run("kubectl", arguments, "").await
    }

    /// Runs `helm` and returns what it printed.
    ///
    /// # Errors
    /// It fails; the error holds what it said.
    pub async fn helm<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        self.run("helm", arguments, "").await
    }

    /// `kubectl apply` of these manifests.
    ///
    /// # Errors
    /// The API server refuses one of them.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        self.run("kubectl", ["apply", "-f", "-"], manifests).await
    }

    /// Builds an image, brings it into the cluster, and returns the reference that pods use (never to be pulled).
    ///
    /// # Errors
    /// It does not build, or the cluster is not ours and no variable names an image.
    pub async fn image(&self, image: Image) -> Result<String> {
        let variable = format!("MILLRACE_TEST_IMAGE_{}", image.name().to_uppercase());
        if let (Kind::Foreign, Ok(reference)) = (&self.kind, env::var(&variable)) {
            return Ok(reference);
        }
        let archive = tokio::task::spawn_blocking(move || image::pack(image, image::Profile::for_tests(), None));
        let archive = archive.await.context("pack an image")??;
        self.load_image(&archive.path).await.with_context(|| format!("or set {variable} to an image that the cluster can pull"))?;
        Ok(archive.reference)
    }

    /// Brings an image archive onto every node.
    ///
    /// # Errors
    /// The cluster is neither ours nor kind, or does not take the archive.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        let _one = self.loading.lock().await;
        match (&self.kind, env::var("MILLRACE_TEST_KIND")) {
            (Kind::Running | Kind::Own { .. }, _) => own::load(archive),
            (Kind::Foreign, Ok(name)) => {
                let mut kind = Command::new("kind");
                command::output(kind.args(["load", "image-archive", "--name", &name]).arg(archive)).map(drop)
            }
            (Kind::Foreign, Err(_)) => bail!("this cluster takes no image archives"),
        }
    }

    /// Kills the first container of a pod with SIGKILL, as an out-of-memory kill would: the kubelet starts it again.
    /// In a cluster that is not ours the pod is deleted without grace instead, and whoever owns it makes another.
    ///
    /// # Errors
    /// There is no such pod, or its container is not running.
    pub async fn kill_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        if matches!(self.kind, Kind::Foreign) {
            let delete = ["delete", "pod", "--namespace", namespace, pod, "--grace-period=0", "--force"];
            return self.kubectl(delete).await.map(drop);
        }
        let path = "--output=jsonpath={.status.containerStatuses[0].containerID}";
        let id = self.kubectl(["get", "pod", "--namespace", namespace, pod, path]).await?;
        let id = id.strip_prefix("containerd://").with_context(|| format!("the container of pod {pod} is {id:?}"))?;
        own::kill_container(id)
    }

    async fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>, input: &str) -> Result<String> {
        let arguments: Vec<S> = arguments.into_iter().collect();
        kubectl::run(program, &self.kubeconfig, &arguments, input).await
    }
}

/// Starts this machine's cluster, or finds it running; it stays until [`down`]. Returns its kubeconfig.
///
/// # Errors
/// Its programs are not installed, or do not start.
pub async fn up() -> Result<PathBuf> {
    let lock = own::lock().await?;
    if !own::is_running().await {
        own::Own::start(Lifetime::Detached, lock).await?;
    }
    own::kubeconfig()
}

/// Removes this machine's cluster and whatever an earlier one has left.
///
/// # Errors
/// Something of it cannot be removed.
pub async fn down() -> Result<()> {
    let _lock = own::lock().await?;
    own::remove()
}

/// The programs of this machine's cluster that are running.
///
/// # Errors
/// Its folder cannot be read.
pub fn status() -> Result<Vec<String>> {
    own::running()
}

fn foreign() -> Option<PathBuf> {
    let named = |variable| env::var_os(variable).filter(|set| !set.is_empty()).map(PathBuf::from);
    named("MILLRACE_TEST_KUBECONFIG").or_else(|| named("KUBECONFIG"))
}
