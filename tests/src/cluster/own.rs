//! A cluster on this machine: started, found running, and removed to the last trace. There is never more than one of them.
//!
//! Whoever starts it holds a lock for as long as it lives, so what is found without a lock and without the mark of a
//! cluster that is to stay, was left by a process that was killed, and goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::control_plane::{self, ControlPlane};
use super::node::{self, Node};
use super::{cgroups, dns, kubectl, network};
use crate::installed;
use crate::servers::process::{self, Lifetime, Process};

/// The nodes, by number.
const NODE: u8 = 1;
/// How often, and how many times, removal is tried while the kernel still ends processes.
const REMOVAL: (Duration, usize) = (Duration::from_millis(100), 200);

/// A cluster that this process started; it is removed with this value.
#[derive(Debug)]
pub(super) struct Own {
    // In the order in which they end.
    dns: Option<Process>,
    node: Option<Node>,
    control_plane: Option<ControlPlane>,
    lifetime: Lifetime,
    _lock: File,
}

impl Own {
    /// Starts a cluster, after removing the remains of an earlier one. Waits for another process that has one.
    pub(super) async fn start(lifetime: Lifetime, lock: File) -> Result<Self> {
        remove()?;
        let folder = folder()?;
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut own = Self { dns: None, node: None, control_plane: None, lifetime, _lock: lock };
        network::create_bridge()?;
        own.control_plane = Some(ControlPlane::start(&folder, lifetime, &[node::name(NODE)]).await?);
        own.node = Some(Node::start(&folder, lifetime, NODE).await?);
        own.dns = Some(dns::start(&folder, lifetime).await?);
        if lifetime == Lifetime::Detached {
            fs::write(folder.join(STAYS), "").context("mark the cluster")?;
        }
        Ok(own)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let stays = self.lifetime == Lifetime::Detached && folder().is_ok_and(|folder| folder.join(STAYS).exists());
        if stays {
            return;
        }
        (self.dns, self.node, self.control_plane) = (None, None, None);
        if let Err(error) = remove() {
            // There is nowhere to return an error to.
            let _ = writeln!(io::stderr(), "the cluster is not wholly removed, `make cluster-down` tries again: {error:#}");
        }
    }
}

/// The file that marks a complete cluster that is to stay.
const STAYS: &str = "stays";

/// Where the files of the cluster are.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(installed::cache()?.join("cluster"))
}

/// The administrator's kubeconfig.
pub(super) fn kubeconfig() -> Result<PathBuf> {
    Ok(control_plane::kubeconfig(&folder()?, "admin"))
}

/// Takes the lock of this machine's cluster; waits for the process that has it.
pub(super) async fn lock() -> Result<File> {
    let path = installed::cache()?.join("cluster.lock");
    fs::create_dir_all(installed::cache()?).context("make the cache folder")?;
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    let locking = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    locking.await.context("wait for the lock")?.with_context(|| format!("lock {}", path.display()))
}

/// Whether a cluster that is to stay is there, and answers.
pub(super) async fn is_running() -> bool {
    let (Ok(folder), Ok(kubeconfig)) = (folder(), kubeconfig()) else { return false };
    folder.join(STAYS).exists()
        && kubectl::run("kubectl", &kubeconfig, &["get", "--raw=/readyz"], "").await.is_ok()
        && node::is_ready(&kubeconfig, &node::name(NODE)).await.is_ok()
}

/// Brings an image onto every node.
pub(super) fn load(archive: &Path) -> Result<()> {
    node::import(&node::socket(&folder()?, NODE), archive)
}

/// Sends SIGKILL to the first process of a container.
pub(super) fn kill_container(id: &str) -> Result<()> {
    node::kill_container(&node::socket(&folder()?, NODE), id)
}

/// The programs of the cluster that are running.
pub(super) fn running() -> Result<Vec<String>> {
    let folder = folder()?;
    let mut names = process::running(&folder)?;
    names.extend(process::running(&folder.join(node::name(NODE)))?);
    Ok(names)
}

/// Removes whatever there is of a cluster: processes, networks, control groups, files.
pub(super) fn remove() -> Result<()> {
    let folder = folder()?;
    // The node's first process takes everything in the node with it.
    process::end_all(&folder.join(node::name(NODE)))?;
    process::end_all(&folder)?;
    network::remove()?;
    let (pause, times) = REMOVAL;
    let mut result = cgroups::remove();
    for _ in 0..times {
        if result.is_ok() {
            break;
        }
        thread::sleep(pause);
        result = cgroups::remove();
    }
    result.context("processes of the cluster do not end")?;
    if folder.exists() {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
        let mounted = mounts.lines().find(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at).starts_with(&folder)));
        ensure!(mounted.is_none(), "something is still mounted in {}: {}", folder.display(), mounted.unwrap_or_default());
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}
