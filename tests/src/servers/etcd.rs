//! etcd 3.4 of Debian, one member. It never syncs to disk: its data is the test's.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::process::{Lifetime, Process};
use super::{Home, LOOPBACK, START_DEADLINE, http, ports};

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    address: SocketAddr,
    process: Process,
    // After the process: what is declared first is dropped first.
    home: Option<Home>,
}

impl Etcd {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start() -> Result<Self> {
        let home = Home::temporary("etcd")?;
        let mut etcd = Self::start_in(home.path(), home.lifetime(), LOOPBACK).await?;
        etcd.home = Some(home);
        Ok(etcd)
    }

    /// Starts one whose files are in `folder`, which the caller looks after.
    pub(crate) async fn start_in(folder: &Path, lifetime: Lifetime, bind: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(bind, ports::free(bind)?);
        let url = format!("http://{address}");
        let peer = format!("http://{}", SocketAddr::new(bind, ports::free(bind)?));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(folder.join("etcd")).args(["--unsafe-no-fsync", "--logger=zap", "--log-level=warn"]);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        let process = Process::start("etcd", folder, command, lifetime)?;
        let mut etcd = Self { address, process, home: None };
        etcd.wait().await?;
        Ok(etcd)
    }

    /// `http://<address>`, for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it; its data stays.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Starts it on the same port and data.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.wait().await
    }

    async fn wait(&mut self) -> Result<()> {
        let (client, url) = (http()?, format!("{}/health", self.url()));
        let healthy = async || {
            let answer = client.get(&url).send().await?.error_for_status()?.text().await?;
            answer.contains("true").then_some(()).with_context(|| format!("it answers {answer}"))
        };
        self.process.ready(START_DEADLINE, healthy).await
    }
}
