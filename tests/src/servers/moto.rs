//! moto: the APIs of S3, SQS, SNS, Kinesis, DynamoDB, Lambda and more on one port. It keeps nothing on disk: a restart is empty.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::process::Process;
use super::{Home, LOOPBACK, START_DEADLINE, http, ports};
use crate::installed;

/// The region that its queues and streams are in.
pub const REGION: &str = "eu-west-1";
/// It accepts any credentials; these are the ones tests use.
pub const ACCESS_KEY: &str = "millrace";
/// Belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "millrace-secret";

/// A running moto server.
#[derive(Debug)]
pub struct Moto {
    address: SocketAddr,
    client: reqwest::Client,
    process: Process,
    _home: Home,
}

impl Moto {
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
        Self::start_in(Home::temporary("moto")?, bind, ports::free(bind)?).await
    }

    /// Starts one in a given folder, on a given port.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    pub async fn start_in(home: Home, bind: IpAddr, port: u16) -> Result<Self> {
        let address = SocketAddr::new(bind, port);
        let mut command = Command::new(installed::path(installed::MOTO)?.join("bin/moto_server"));
        command.args(["-H", &bind.to_string(), "-p", &port.to_string()]).current_dir(home.path());
        // The queue URLs it hands out name the host that the request named, as long as this is not set.
        command.env_remove("MOTO_SQS_ENDPOINT_STRATEGY");
        let process = Process::start("moto", home.path(), command, home.lifetime())?;
        let mut moto = Self { address, client: http()?, process, _home: home };
        moto.wait().await?;
        Ok(moto)
    }

    /// `http://<address>`: what `AWS_ENDPOINT_URL` is set to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The variables that make the standard AWS clients use it.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    /// Calls a JSON API: `call("sqs", "AmazonSQS.CreateQueue", …)`.
    ///
    /// # Errors
    /// The answer is not a success; the error holds it.
    pub async fn call(&self, service: &str, target: &str, body: Value) -> Result<Value> {
        let request = self.client.post(self.url()).header("X-Amz-Target", target).header("Authorization", credentials(service));
        let answer = request.header("Content-Type", "application/x-amz-json-1.0").body(body.to_string()).send().await;
        let text = success(answer.with_context(|| format!("call {target}"))?).await?;
        serde_json::from_str(&text).with_context(|| format!("{target} answers {text}"))
    }

    /// Makes a queue and returns its URL.
    ///
    /// # Errors
    /// The answer is not a success.
    pub async fn create_queue(&self, name: &str) -> Result<String> {
        let answer = self.call("sqs", "AmazonSQS.CreateQueue", json!({"QueueName": name})).await?;
        answer["QueueUrl"].as_str().map(str::to_owned).with_context(|| format!("no QueueUrl in {answer}"))
    }

    /// Sends a message to a queue.
    ///
    /// # Errors
    /// The answer is not a success.
    pub async fn send_message(&self, queue_url: &str, body: &str) -> Result<()> {
        let message = json!({"QueueUrl": queue_url, "MessageBody": body});
        self.call("sqs", "AmazonSQS.SendMessage", message).await.map(drop)
    }

    /// How many messages a queue holds: waiting to be received, and received but not deleted.
    ///
    /// # Errors
    /// The answer is not a success.
    pub async fn queue_length(&self, queue_url: &str) -> Result<(u64, u64)> {
        let wanted = json!({"QueueUrl": queue_url, "AttributeNames": ["All"]});
        let answer = self.call("sqs", "AmazonSQS.GetQueueAttributes", wanted).await?;
        let count = |name: &str| -> Result<u64> {
            let text = answer["Attributes"][name].as_str().with_context(|| format!("no {name} in {answer}"))?;
            text.parse().with_context(|| format!("{name} is {text}"))
        };
        Ok((count("ApproximateNumberOfMessages")?, count("ApproximateNumberOfMessagesNotVisible")?))
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// The answer is not a success.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        let region = format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        self.put(name, region.into_bytes()).await
    }

    /// Writes an object.
    ///
    /// # Errors
    /// The answer is not a success.
    pub async fn put_object(&self, bucket: &str, key: &str, body: Vec<u8>) -> Result<()> {
        self.put(&format!("{bucket}/{key}"), body).await
    }

    /// Reads an object.
    ///
    /// # Errors
    /// The answer is not a success, as when there is no such object.
    pub async fn get_object(&self, bucket: &str, key: &str) -> Result<Vec<u8>> {
        let request = self.client.get(format!("{}/{bucket}/{key}", self.url())).header("Authorization", credentials("s3"));
        let answer = request.send().await.with_context(|| format!("read {bucket}/{key}"))?;
        Ok(answer.error_for_status()?.bytes().await?.to_vec())
    }

    /// The `ETag` of an object, without its quotes.
    ///
    /// # Errors
    /// The answer is not a success, as when there is no such object.
    pub async fn etag(&self, bucket: &str, key: &str) -> Result<String> {
        let request = self.client.head(format!("{}/{bucket}/{key}", self.url())).header("Authorization", credentials("s3"));
        let answer = request.send().await.with_context(|| format!("look at {bucket}/{key}"))?.error_for_status()?;
        let etag = answer.headers().get("etag").with_context(|| format!("{bucket}/{key} has no ETag"))?.to_str()?;
        Ok(etag.trim_matches('"').to_owned())
    }

    /// Keys of the objects whose key starts with `prefix`, in order.
    ///
    /// # Errors
    /// The answer is not a success.
    pub async fn list_objects(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().cloned().unwrap_or_default();
            let query = [("list-type", "2"), ("prefix", prefix), ("start-after", after.as_str())];
            let request = self.client.get(format!("{}/{bucket}", self.url())).header("Authorization", credentials("s3"));
            let answer = request.query(&query).send().await.with_context(|| format!("list {bucket}/{prefix}"))?;
            let text = success(answer).await?;
            let page = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
            keys.extend(page.map(|key| key.replace("&amp;", "&")));
            if !text.contains("<IsTruncated>true") {
                return Ok(keys);
            }
        }
    }

    /// Kills it, and everything in it: for an outage that its data survives use a [`Proxy`](super::Proxy).
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Starts it, empty, on the same port.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.wait().await
    }

    async fn put(&self, path: &str, body: Vec<u8>) -> Result<()> {
        let request = self.client.put(format!("{}/{path}", self.url())).header("Authorization", credentials("s3"));
        let answer = request.body(body).send().await.with_context(|| format!("write {path}"))?;
        success(answer).await.map(drop)
    }

    async fn wait(&mut self) -> Result<()> {
        let (client, url) = (self.client.clone(), format!("{}/moto-api/data.json", self.url()));
        let healthy = async || Ok(client.get(&url).send().await?.error_for_status().map(drop)?);
        self.process.ready(START_DEADLINE, healthy).await
    }
}

/// moto reads the service from the scope of the credentials, and checks no signature.
fn credentials(service: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0")
}

async fn success(answer: reqwest::Response) -> Result<String> {
    let (url, status) = (answer.url().clone(), answer.status());
    let text = answer.text().await.with_context(|| format!("read the answer of {url}"))?;
    anyhow::ensure!(status.is_success(), "{url} answers {status}: {text}");
    Ok(text)
}
