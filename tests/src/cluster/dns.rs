//! CoreDNS on the bridge, for the names of Services and pods. It never asks another server: names outside the cluster do not exist.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::control_plane::kubeconfig;
use super::network::HOST;
use super::{START_DEADLINE, kubectl};
use crate::installed;
use crate::servers::process::{Lifetime, Process};
use crate::servers::{http, ports};

/// What it may read; its user is `system:coredns`.
const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: 'system:coredns'}
rules:
- {apiGroups: [''], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: 'system:coredns'}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:coredns'}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: 'system:coredns'}
";

/// Starts it with its files in `folder`.
pub(super) async fn start(folder: &Path, lifetime: Lifetime) -> Result<Process> {
    kubectl::run("kubectl", &kubeconfig(folder, "admin"), &["apply", "-f", "-"], RIGHTS).await?;
    let corefile = folder.join("Corefile");
    let ready = format!("{HOST}:{}", ports::free(HOST)?);
    let text = format!(
        ". {{
    bind {HOST}
    errors
    ready {ready}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        ttl 1
    }}
}}
",
        kubeconfig(folder, "coredns").display()
    );
    fs::write(&corefile, text).context("write the Corefile")?;
    let mut command = Command::new(installed::program("coredns")?);
    command.arg("-conf").arg(&corefile);
    let mut process = Process::start("coredns", folder, command, lifetime)?;
    let (client, url) = (http()?, format!("http://{ready}/ready"));
    process.ready(START_DEADLINE, async || Ok(client.get(&url).send().await?.error_for_status().map(drop)?)).await?;
    Ok(process)
}
