//! The network of our own cluster: a bridge on the host, and a network namespace for each node. It never touches the
//! host's packet filter: the rules of Kubernetes are inside the nodes.
//!
//! ```text
//!  host: bridge millrace0 10.205.0.1 (API server, DNS, test servers)
//!    └─ veth ── node-1: eth0 10.205.0.11 ── bridge pods0 10.206.1.1 ── pods 10.206.1.0/24
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

const BRIDGE: &str = "millrace0";

/// The host's address on the bridge: where pods reach the API server, DNS and the servers of a test.
pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 205, 0, 1));
/// Where the addresses of Services come from.
pub(super) const SERVICES: &str = "10.207.0.0/24";

/// The part of the network that belongs to one node, numbered from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeNetwork {
    number: u8,
}

impl NodeNetwork {
    pub(super) fn new(number: u8) -> Self {
        Self { number }
    }

    /// Its network namespace.
    pub(super) fn namespace(self) -> String {
        format!("millrace-node-{}", self.number)
    }

    /// Its address on the bridge.
    pub(super) fn address(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 205, 0, 10 + self.number))
    }

    /// Where the addresses of its pods come from.
    pub(super) fn pods(self) -> String {
        format!("10.206.{}.0/24", self.number)
    }

    fn link(self) -> String {
        format!("millrace-veth{}", self.number)
    }

    /// Makes the namespace and connects it to the bridge.
    pub(super) fn create(self) -> Result<()> {
        let (namespace, link, address) = (self.namespace(), self.link(), self.address());
        ip(&format!("netns add {namespace}"))?;
        ip(&format!("link add {link} type veth peer name eth0 netns {namespace}"))?;
        ip(&format!("link set {link} master {BRIDGE} up"))?;
        ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {namespace} link set eth0 up"))?;
        ip(&format!("-n {namespace} link set lo up"))?;
        ip(&format!("-n {namespace} route add default via {HOST}"))?;
        ip(&format!("route add {} via {address}", self.pods()))
    }
}

/// Makes the bridge.
pub(super) fn create_bridge() -> Result<()> {
    ip(&format!("link add {BRIDGE} type bridge")).context("make the bridge of the cluster")?;
    ip(&format!("addr add {HOST}/24 dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up"))
}

/// Removes all of it, whatever is there.
pub(super) fn remove() -> Result<()> {
    let namespaces = command::run("ip", "netns list")?;
    for namespace in namespaces.lines().filter_map(|line| line.split_whitespace().next()) {
        if namespace.starts_with("millrace-node-") {
            ip(&format!("netns delete {namespace}"))?;
        }
    }
    let links = command::run("ip", "-brief link")?;
    // A veth is named with its other end: `millrace-veth1@if2`.
    for link in links.lines().filter_map(|line| line.split(['@', ' ']).next()) {
        if link == BRIDGE || link.starts_with("millrace-veth") {
            // The kernel may have removed it with its namespace in the meantime.
            if let Err(error) = ip(&format!("link delete {link}"))
                && Path::new("/sys/class/net").join(link).exists()
            {
                return Err(error);
            }
        }
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<()> {
    command::output(Command::new("ip").args(arguments.split(' '))).map(drop)
}
