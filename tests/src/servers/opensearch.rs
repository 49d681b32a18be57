//! OpenSearch 2.19, one node without security. It never joins another node.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::process::Process;
use super::{Home, LOOPBACK, START_DEADLINE, http, ports};
use crate::installed;

/// A running OpenSearch node.
#[derive(Debug)]
pub struct OpenSearch {
    address: SocketAddr,
    client: reqwest::Client,
    process: Process,
    _home: Home,
}

impl OpenSearch {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start() -> Result<Self> {
        Self::start_at(LOOPBACK).await
    }

    /// Starts one that binds `bind`, such as the address that pods reach.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start_at(bind: IpAddr) -> Result<Self> {
        Self::start_in(Home::temporary("opensearch")?, bind, ports::free(bind)?).await
    }

    /// Starts one in a given folder, on a given port.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start_in(home: Home, bind: IpAddr, port: u16) -> Result<Self> {
        let address = SocketAddr::new(bind, port);
        let jars = installed::path(installed::OPENSEARCH)?;
        let mut command = Command::new("java");
        command.args(["-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", jars.display())).arg("Node");
        command.arg(home.path().join("node")).args([bind.to_string(), port.to_string(), ports::free(bind)?.to_string()]);
        command.current_dir(home.path());
        let process = Process::start("opensearch", home.path(), command, home.lifetime())?;
        let mut node = Self { address, client: http()?, process, _home: home };
        node.wait().await?;
        Ok(node)
    }

    /// `http://<address>`, for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads `path`, such as `/_cat/indices?format=json`.
    ///
    /// # Errors
    /// The answer is not a success or not JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.client.get(format!("{}{path}", self.url())).send().await;
        answer_of(answer.with_context(|| format!("get {path}"))?).await
    }

    /// Posts `body` to `path`.
    ///
    /// # Errors
    /// The answer is not a success or not JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.client.post(format!("{}{path}", self.url())).json(body).send().await;
        answer_of(answer.with_context(|| format!("post {path}"))?).await
    }

    /// How many documents match `index`, which may hold `*`, after a refresh; none if there is no such index.
    ///
    /// # Errors
    /// The answer is not a success.
    pub async fn count(&self, index: &str) -> Result<u64> {
        self.post(&format!("/{index}/_refresh?ignore_unavailable=true"), &Value::Null).await?;
        let answer = self.get(&format!("/{index}/_count?ignore_unavailable=true")).await?;
        answer["count"].as_u64().with_context(|| format!("no count in {answer}"))
    }

    /// Stops it; its data stays.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Kills it as a power cut would; its data stays.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
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
        let (client, url) = (self.client.clone(), format!("{}/_cluster/health", self.url()));
        let healthy = async || {
            let health = answer_of(client.get(&url).send().await?).await?;
            // Red: the shards of an earlier life are not all back yet.
            let up = matches!(health["status"].as_str(), Some("green" | "yellow"));
            up.then_some(()).with_context(|| format!("its health is {health}"))
        };
        self.process.ready(START_DEADLINE, healthy).await
    }
}

async fn answer_of(answer: reqwest::Response) -> Result<Value> {
    let (url, status) = (answer.url().clone(), answer.status());
    let text = answer.text().await.with_context(|| format!("read the answer of {url}"))?;
    ensure!(status.is_success(), "{url} answers {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("{url} answers {text}"))
}
