//! The control groups that the pods of our own cluster live in. It never touches a group outside [`ROOT`].
//!
//! Under cgroup v1 there is a tree per controller, under v2 one for all; both kubelets want their root to exist beforehand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const MOUNT: &str = "/sys/fs/cgroup";
/// Under v1, the tree of v2 that some systems have beside it: without controllers.
const UNIFIED: &str = "unified";
/// The group of the whole cluster; a node's is below it.
pub(super) const ROOT: &str = "millrace-tests";

/// Makes the group of a node in every tree, with all processors and memory of the machine.
pub(super) fn create(node: &str) -> Result<()> {
    for tree in trees()? {
        let mut group = tree.clone();
        for name in [ROOT, node] {
            delegate(&group);
            let parent = group.clone();
            group.push(name);
            fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
            // A new cpuset of v1 is empty, and nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (parent.join(file), group.join(file));
                if tree.ends_with("cpuset") && from.exists() {
                    let value = fs::read(&from).with_context(|| format!("read {}", from.display()))?;
                    fs::write(&to, value).with_context(|| format!("write {}", to.display()))?;
                }
            }
        }
        delegate(&group);
    }
    Ok(())
}

/// Removes the groups of all nodes; fails as long as a process is in one of them.
pub(super) fn remove() -> Result<()> {
    let mut trees = trees()?;
    // We make none there, runc does.
    trees.push(Path::new(MOUNT).join(UNIFIED));
    trees.iter().try_for_each(|tree| remove_below(&tree.join(ROOT)))
}

fn remove_below(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(group).with_context(|| format!("read {}", group.display()))? {
        let entry = entry.context("read a control group")?;
        if entry.file_type().context("look at a control group")?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(group).with_context(|| format!("remove {}", group.display()))
}

/// The roots of the trees: one per controller (v1), or the mount itself (v2).
fn trees() -> Result<Vec<PathBuf>> {
    if Path::new(MOUNT).join("cgroup.controllers").exists() {
        return Ok(vec![PathBuf::from(MOUNT)]);
    }
    let mut trees = Vec::new();
    for entry in fs::read_dir(MOUNT).with_context(|| format!("read {MOUNT}"))? {
        let entry = entry.context("read the control groups")?;
        // Links are other names of controllers that share a tree.
        if entry.file_type().context("look at a controller")?.is_dir() && entry.file_name() != UNIFIED {
            trees.push(entry.path());
        }
    }
    Ok(trees)
}

/// v2: gives the controllers of a group to the groups below it. The kubelet says which one it misses.
fn delegate(group: &Path) {
    let Ok(controllers) = fs::read_to_string(group.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}
