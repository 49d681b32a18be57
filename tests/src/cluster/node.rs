//! One node: containerd, kubelet and kube-proxy in namespaces of their own for processes, mounts and network.
//! It never leaves anything behind: the kernel ends every pod, mount and packet rule of a node with the node's first process.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::control_plane::kubeconfig;
use super::network::{HOST, NodeNetwork};
use super::{START_DEADLINE, cgroups, kubectl, pause};
use crate::servers::process::{Lifetime, Process};
use crate::{command, installed};

/// Folders of the host that the node's programs insist on; inside, each is empty and vanishes with the node.
const PRIVATE: [&str; 4] = ["/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers"];
/// The longest path of a socket that the kernel takes, less what containerd adds.
const LONGEST_SOCKET: usize = 100;

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    _kube_proxy: Process,
    _kubelet: Process,
    _containerd: Process,
    // Last: with it goes whatever the others have left.
    _init: Process,
}

impl Node {
    /// Starts node `number` of the cluster whose files are in `folder`, and waits until it is ready for pods.
    pub(super) async fn start(folder: &Path, lifetime: Lifetime, number: u8) -> Result<Self> {
        let network = NodeNetwork::new(number);
        let layout = Layout::new(folder, number)?;
        network.create()?;
        cgroups::create(&layout.name)?;
        layout.write(network)?;

        let mut init = start_init(&layout, lifetime, network)?;
        let first = init.ready(START_DEADLINE, async || first_process(init_id(&layout)?)).await?;
        let inside = |program: PathBuf| {
            let mut command = Command::new("nsenter");
            command.args(["--target", &first.to_string(), "--pid", "--mount", "--net"]).arg(program);
            command
        };

        let mut containerd = inside(PathBuf::from("containerd"));
        containerd.arg("--config").arg(layout.file("containerd.toml"));
        let mut containerd = Process::start("containerd", &layout.folder, containerd, lifetime)?;
        let socket = layout.socket.clone();
        let listens = async || {
            ensure!(fs::metadata(&socket)?.file_type().is_socket(), "{} is no socket", socket.display());
            Ok(())
        };
        containerd.ready(START_DEADLINE, listens).await?;
        import(&layout.socket, &pause::archive(folder)?)?;

        let mut kubelet = inside(installed::program("kubelet")?);
        kubelet.arg("--config").arg(layout.file("kubelet.yaml")).arg("--kubeconfig").arg(kubeconfig(folder, &layout.name));
        kubelet.arg("--root-dir").arg(layout.file("kubelet")).arg("--cert-dir").arg(layout.file("pki"));
        kubelet.args(["--hostname-override", &layout.name, "--node-ip", &network.address().to_string()]);
        let mut kubelet = Process::start("kubelet", &layout.folder, kubelet, lifetime)?;

        let mut kube_proxy = inside(installed::program("kube-proxy")?);
        kube_proxy.arg("--config").arg(layout.file("kube-proxy.yaml"));
        let kube_proxy = Process::start("kube-proxy", &layout.folder, kube_proxy, lifetime)?;

        let admin = kubeconfig(folder, "admin");
        kubelet.ready(START_DEADLINE, async || is_ready(&admin, &layout.name).await).await?;
        Ok(Self { _kube_proxy: kube_proxy, _kubelet: kubelet, _containerd: containerd, _init: init })
    }
}

/// The name of a node, which is also that of its folder.
pub(super) fn name(number: u8) -> String {
    format!("node-{number}")
}

/// Where containerd of a node listens.
pub(super) fn socket(folder: &Path, number: u8) -> PathBuf {
    folder.join(name(number)).join("containerd.sock")
}

/// Brings an image archive onto the node whose containerd listens at `socket`.
pub(super) fn import(socket: &Path, archive: &Path) -> Result<()> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]);
    if let Some(folder) = socket.parent() {
        ctr.args(["--snapshotter", snapshotter(folder)?]);
    }
    command::output(ctr.arg(archive)).map(drop)
}

/// Sends SIGKILL to the first process of a container on the node whose containerd listens at `socket`.
pub(super) fn kill_container(socket: &Path, id: &str) -> Result<()> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id]);
    command::output(&mut ctr).map(drop)
}

/// Fails until the node reports that it can run pods.
pub(super) async fn is_ready(kubeconfig: &Path, node: &str) -> Result<()> {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let ready = kubectl::run("kubectl", kubeconfig, &["get", "node", node, "--output", path], "").await?;
    ensure!(ready == "True", "node {node} says Ready={ready:?}");
    Ok(())
}

/// The first process of the node: it holds the namespaces, and reaps what the others leave.
fn start_init(layout: &Layout, lifetime: Lifetime, network: NodeNetwork) -> Result<Process> {
    for folder in PRIVATE {
        fs::create_dir_all(folder).with_context(|| format!("make {folder}"))?;
    }
    let mounts = PRIVATE.map(|folder| format!("mount -t tmpfs tmpfs {folder}")).join(" && ");
    let mut command = Command::new("nsenter");
    // Not `ip netns exec`: that hides the mounts of the control groups.
    command.arg(format!("--net=/run/netns/{}", network.namespace()));
    command.args(["unshare", "--pid", "--mount", "--propagation", "private", "--mount-proc", "--fork", "--kill-child"]);
    command.args(["sh", "-c", &format!("{mounts} && exec \"$0\"")]).arg(installed::program("pause")?);
    Process::start("init", &layout.folder, command, lifetime)
}

fn init_id(layout: &Layout) -> Result<u32> {
    let text = fs::read_to_string(layout.file("init.pid")).context("read the pid file of the node")?;
    text.split(' ').next().unwrap_or_default().parse().context("the pid file of the node holds no number")
}

/// The process that `unshare` has started, once it has become what it is to be: only then its mounts are in place.
fn first_process(unshare: u32) -> Result<u32> {
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let Some(id) = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        let Some((named, rest)) = stat.rsplit_once(") ") else { continue };
        if rest.split(' ').nth(1) == Some(&unshare.to_string()) {
            ensure!(named.ends_with("(pause"), "the node's first process is still making its mounts");
            return Ok(id);
        }
    }
    anyhow::bail!("the node has no first process yet")
}

/// overlayfs, or copies where the folder itself is on an overlay: one does not stack on the other.
fn snapshotter(folder: &Path) -> Result<&'static str> {
    let kind = command::output(Command::new("stat").args(["--file-system", "--format=%T"]).arg(folder))?;
    Ok(if kind.trim() == "overlayfs" { "native" } else { "overlayfs" })
}

/// The files of one node.
struct Layout {
    name: String,
    folder: PathBuf,
    socket: PathBuf,
    snapshotter: &'static str,
}

impl Layout {
    fn new(cluster: &Path, number: u8) -> Result<Self> {
        let (name, socket) = (name(number), socket(cluster, number));
        ensure!(
            socket.as_os_str().len() < LONGEST_SOCKET,
            "{} is too long for a socket: set XDG_CACHE_HOME to a shorter path",
            socket.display()
        );
        let folder = cluster.join(&name);
        fs::create_dir_all(folder.join("cni")).with_context(|| format!("make {}", folder.display()))?;
        let snapshotter = snapshotter(&folder)?;
        Ok(Self { name, folder, socket, snapshotter })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, network: NodeNetwork) -> Result<()> {
        let network_plugins = json!({"cniVersion": "0.4.0", "name": "millrace", "plugins": [
            {
                "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": self.file("addresses"),
                    "ranges": [[{"subnet": network.pods()}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        let kubelet = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{}", self.socket.display()),
            "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}/{}", cgroups::ROOT, self.name), "failCgroupV1": false, "failSwapOn": false,
            "clusterDNS": [HOST], "clusterDomain": "cluster.local", "resolvConf": self.file("resolv.conf"),
            "podLogsDir": self.file("pods"), "volumePluginDir": self.file("plugins"),
            // Only the API server and the pods of the tests can reach it.
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}}, "authorization": {"mode": "AlwaysAllow"},
            // The machine is shared: the cluster must not give up because others fill its disk.
            "evictionHard": {"memory.available": "1%", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
            // A Secret that changes is seen in the pods within a test's patience.
            "syncFrequency": "10s",
            "imageGCHighThresholdPercent": 100, "nodeStatusUpdateFrequency": "4s", "nodeLeaseDurationSeconds": 20,
        });
        let kube_proxy = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "iptables",
            "clientConnection": {"kubeconfig": kubeconfig(self.cluster()?, "kube-proxy")},
            "clusterCIDR": network.pods(), "hostnameOverride": self.name,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        });
        let containerd = format!(
            "version = 2
root = \"{root}\"
state = \"{state}\"
[grpc]
address = \"{socket}\"
[plugins.\"io.containerd.internal.v1.opt\"]
path = \"{opt}\"
[plugins.\"io.containerd.grpc.v1.cri\"]
sandbox_image = \"{sandbox}\"
# Where the capability to lower it is missing, no container would start.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_tcp_service = true
[plugins.\"io.containerd.grpc.v1.cri\".containerd]
snapshotter = \"{snapshotter}\"
[plugins.\"io.containerd.grpc.v1.cri\".cni]
bin_dir = \"/usr/lib/cni\"
conf_dir = \"{cni}\"
",
            root = self.file("images").display(),
            state = self.file("containers").display(),
            socket = self.socket.display(),
            opt = self.file("opt").display(),
            sandbox = pause::REFERENCE,
            snapshotter = self.snapshotter,
            cni = self.file("cni").display(),
        );
        // The kubelet reads YAML, and JSON is YAML.
        let files = [
            ("cni/10-millrace.conflist", network_plugins.to_string()),
            ("kubelet.yaml", kubelet.to_string()),
            ("kube-proxy.yaml", kube_proxy.to_string()),
            ("containerd.toml", containerd),
            ("resolv.conf", String::new()),
        ];
        files.iter().try_for_each(|(name, text)| fs::write(self.file(name), text).with_context(|| format!("write {name}")))
    }

    fn cluster(&self) -> Result<&Path> {
        self.folder.parent().context("the folder of a node is in that of its cluster")
    }
}
