//! Clients of the Kafka library: their configuration from options and Secrets, their end, and questions asked of them. No record passes here.

use std::time::Duration;

use millrace_crds::connectors::kafka::{KafkaAccess, SaslMechanism};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{ConnectorError, Health};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::events::Events;
use super::failure;
use crate::context::Context;

/// Group of clients that publish no progress: the library insists on one, nothing is ever committed to it.
pub(crate) const NO_GROUP: &str = "millrace";
/// Options whose values come from Secrets.
const FROM_SECRETS: [&str; 5] = ["ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem", "sasl.username", "sasl.password"];
/// How long one question may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to end before whoever waits for it goes on.
const ENDING: Duration = Duration::from_secs(3);
/// How long to wait for one event of a client that was just asked in vain, and how many to look at.
const EVENT_WAIT: Duration = Duration::from_millis(50);
const MAX_EVENTS: usize = 20;
/// Time between the client's statistics, milliseconds: they end trouble.
const STATISTICS_MILLIS: &str = "1000";

/// What every client needs: brokers, TLS, identity. Secrets are read now.
pub(crate) fn config(access: &KafkaAccess, context: &Context) -> Result<ClientConfig, ConnectorError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &access.bootstrap_servers).set("client.id", "millrace");
    let protocol = match (access.tls.is_some(), access.sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(secret) = access.tls.as_ref().and_then(|tls| tls.secret_ref.as_ref()) {
        config.set("ssl.ca.pem", context.secret(secret, "ca.crt")?);
        if let Some(certificate) = context.optional_secret(secret, "tls.crt")? {
            config.set("ssl.certificate.pem", certificate);
            config.set("ssl.key.pem", context.secret(secret, "tls.key")?);
        }
    }
    if let Some(sasl) = &access.sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", context.secret(&sasl.secret_ref, "username")?);
        config.set("sasl.password", context.secret(&sasl.secret_ref, "password")?);
    }
    // A broker that accepts and says nothing must be noticed within the time in which trouble has to be reported.
    config.set("socket.timeout.ms", "10000").set("socket.connection.setup.timeout.ms", "10000");
    config.set("reconnect.backoff.max.ms", "5000");
    config.set("statistics.interval.ms", STATISTICS_MILLIS);
    Ok(config)
}

/// Whether two configurations differ in what comes from Secrets.
pub(crate) fn has_other_secrets(one: &ClientConfig, other: &ClientConfig) -> bool {
    FROM_SECRETS.iter().any(|option| one.get(option) != other.get(option))
}

/// Asks the brokers something with a client that lives only for the question. Creates no topic.
///
/// # Errors
/// What the question said, or, if the client has said why, that.
pub(crate) async fn ask<T: Send + 'static>(
    config: ClientConfig,
    doing: String,
    question: impl FnOnce(&BaseConsumer<Events>) -> Result<T, ConnectorError> + Send + 'static,
) -> Result<T, ConnectorError> {
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer<Events> =
            config.create_with_context(Events::of(Health::default())).map_err(|error| failure::error(&doing, error))?;
        let answer = question(&client);
        answer.map_err(|error| explained(&client, error))
    });
    asked.await.map_err(|error| ConnectorError::new(ErrorReason::Internal, "a question to Kafka was not finished").caused_by(error))?
}

/// The error with what the client has said meanwhile, which is why there was no answer.
fn explained(client: &BaseConsumer<Events>, error: ConnectorError) -> ConnectorError {
    if error.reason != ErrorReason::Unreachable {
        return error;
    }
    // Events wait in a queue until somebody polls, behind log lines. What is polled here besides them is nothing.
    for _ in 0..MAX_EVENTS {
        if client.poll(EVENT_WAIT).is_none() && client.context().trouble().is_some() {
            break;
        }
    }
    match client.context().trouble() {
        Some(trouble) => ConnectorError::new(trouble.reason, format!("{}: {}", error.message, trouble.message)).caused_by(error),
        None => error,
    }
}

/// Numbers of the partitions of a topic.
pub(crate) fn partitions(client: &BaseConsumer<Events>, topic: &str) -> Result<Vec<i32>, ConnectorError> {
    let doing = format!("asking for the partitions of topic {topic}");
    let metadata = client.fetch_metadata(Some(topic), PATIENCE).map_err(|error| failure::error(&doing, error))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(ConnectorError::new(ErrorReason::NotFound, format!("topic {topic} does not exist")));
    };
    if let Some(code) = found.error() {
        return Err(failure::error(&doing, KafkaError::MetadataFetch(code.into())));
    }
    Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
}

/// A client whose end may take a while, because it says good-bye: it ends on a thread of its own.
pub(crate) struct Held<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Held<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }

    /// The client, until it was released.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// Ends the client, and waits for that a little.
    pub(crate) async fn release(&mut self) {
        if let Some(client) = self.0.take() {
            let (done, ended) = tokio::sync::oneshot::channel::<()>();
            end(move || {
                drop(client);
                drop(done);
            });
            if tokio::time::timeout(ENDING, ended).await.is_err() {
                tracing::debug!("a Kafka client takes its time to end");
            }
        }
    }
}

impl<T: Send + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            end(move || drop(client));
        }
    }
}

fn end(ending: impl FnOnce() + Send + 'static) {
    // Without a thread the closure, and the client in it, is dropped where it stands.
    if let Err(error) = std::thread::Builder::new().name("kafka-end".to_owned()).spawn(ending) {
        tracing::warn!(%error, "a Kafka client had no thread to end on");
    }
}
