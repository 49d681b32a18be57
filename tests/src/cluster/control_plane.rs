//! The control plane on the host: etcd, API server, controllers, scheduler. It never listens outside loopback and the bridge.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::network::{HOST, SERVICES};
use super::{START_DEADLINE, kubectl};
use crate::servers::process::{Lifetime, Process};
use crate::servers::{Etcd, LOOPBACK};
use crate::{command, hex, installed};

/// The port of the API server on the bridge.
const PORT: u16 = 6443;

/// User, and the groups it is in, for each client of the API server.
const CLIENTS: [(&str, &str, &str); 5] = [
    ("admin", "admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("coredns", "system:coredns", ""),
];

/// What the API server writes down: what the service accounts of workloads have asked for, and who made Pipelines and pods, all without bodies.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, verbs: [create, patch], resources: [{group: millrace.dev, resources: [pipelines]}, {group: \"\", resources: [pods]}]}
- {level: None, userGroups: [\"system:serviceaccounts:kube-system\"]}
- {level: Metadata, userGroups: [\"system:serviceaccounts\"]}
- {level: None}
";

/// A running control plane.
#[derive(Debug)]
pub(super) struct ControlPlane {
    // Dropped from the top: the clients first.
    _controllers: Process,
    _scheduler: Process,
    _api_server: Process,
    _etcd: Etcd,
}

impl ControlPlane {
    /// Starts all of it with its files in `folder`; `nodes` are the names of the nodes that will join.
    pub(super) async fn start(folder: &Path, lifetime: Lifetime, nodes: &[String]) -> Result<Self> {
        let keys = folder.join("pki");
        fs::create_dir_all(&keys).context("make the folder for keys")?;
        let key = keys.join("service-accounts.key");
        command::output(Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"))?;
        let tokens = write_clients(folder, &keys, nodes)?;

        let etcd = Etcd::start_in(folder, lifetime, LOOPBACK).await?;
        let mut api_server = Command::new(installed::program("kube-apiserver")?);
        api_server.args([format!("--etcd-servers={}", etcd.url()), format!("--service-cluster-ip-range={SERVICES}")]);
        api_server.args([format!("--bind-address={HOST}"), format!("--advertise-address={HOST}"), format!("--secure-port={PORT}")]);
        api_server.args([option("--cert-dir", &keys), option("--token-auth-file", &tokens)]);
        api_server.args([option("--service-account-key-file", &key), option("--service-account-signing-key-file", &key)]);
        api_server.args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=Node,RBAC"]);
        api_server.args(["--enable-admission-plugins=NodeRestriction", "--kubelet-preferred-address-types=InternalIP"]);
        let policy = folder.join("audit-policy.yaml");
        fs::write(&policy, AUDIT_POLICY).context("write the audit policy")?;
        api_server.args([option("--audit-policy-file", &policy), option("--audit-log-path", &audit_log(folder))]);
        let mut api_server = Process::start("kube-apiserver", folder, api_server, lifetime)?;
        let admin = kubeconfig(folder, "admin");
        let ready = async || kubectl::run("kubectl", &admin, &["get", "--raw=/readyz"], "").await.map(drop);
        api_server.ready(START_DEADLINE, ready).await?;

        let mut controllers = client_of("kube-controller-manager", folder)?;
        controllers.args([option("--service-account-private-key-file", &key), option("--root-ca-file", &authority(folder))]);
        controllers.arg("--use-service-account-credentials");
        // A node that stops answering is noticed, and its pods replaced, within a test's patience.
        controllers.args(["--node-monitor-period=2s", "--node-monitor-grace-period=20s"]);
        Ok(Self {
            _controllers: Process::start("kube-controller-manager", folder, controllers, lifetime)?,
            _scheduler: Process::start("kube-scheduler", folder, client_of("kube-scheduler", folder)?, lifetime)?,
            _api_server: api_server,
            _etcd: etcd,
        })
    }
}

/// The kubeconfig of a client: `admin`, a component, or a node.
pub(super) fn kubeconfig(folder: &Path, client: &str) -> PathBuf {
    folder.join(format!("{client}.kubeconfig"))
}

/// Where the API server writes down who has asked for what.
pub(super) fn audit_log(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

/// The certificates that clients trust: those the API server has made for itself.
fn authority(folder: &Path) -> PathBuf {
    folder.join("pki/apiserver.crt")
}

fn client_of(name: &str, folder: &Path) -> Result<Command> {
    let kubeconfig = kubeconfig(folder, name);
    let mut command = Command::new(installed::program(name)?);
    command.args(["--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig"].map(|name| option(name, &kubeconfig)));
    command.args(["--leader-elect=false", "--secure-port=0"]);
    Ok(command)
}

fn option(name: &str, value: &Path) -> String {
    format!("{name}={}", value.display())
}

/// Writes a kubeconfig for each client, and returns the file with all their tokens.
fn write_clients(folder: &Path, keys: &Path, nodes: &[String]) -> Result<PathBuf> {
    let mut clients: Vec<(String, String, &str)> = CLIENTS.map(|(name, user, groups)| (name.to_owned(), user.to_owned(), groups)).to_vec();
    clients.extend(nodes.iter().map(|node| (node.clone(), format!("system:node:{node}"), "system:nodes")));
    let mut lines = Vec::new();
    for (name, user, groups) in clients {
        let token = token()?;
        lines.push(format!("{token},{user},{name},\"{groups}\"\n"));
        let authority = authority(folder);
        let text = format!(
            "apiVersion: v1
kind: Config
clusters:
- {{name: millrace, cluster: {{server: \"https://{HOST}:{PORT}\", certificate-authority: \"{}\"}}}}
users:
- {{name: {name}, user: {{token: {token}}}}}
contexts:
- {{name: millrace, context: {{cluster: millrace, user: {name}}}}}
current-context: millrace
",
            authority.display()
        );
        write_private(&kubeconfig(folder, &name), &text)?;
    }
    let tokens = keys.join("tokens.csv");
    write_private(&tokens, &lines.concat())?;
    Ok(tokens)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}

fn token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).context("read random bytes")?;
    Ok(hex::encode(&bytes))
}
