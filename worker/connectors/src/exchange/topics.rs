//! The topics of an exchange: their names, and that they are there as they should be. It deletes and alters none.

use std::time::Duration;

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use sha2::{Digest as _, Sha256};

use super::MESSAGE_BYTES;
use crate::kafka::wire::cluster::Cluster;
use crate::kafka::wire::error::Error;

/// For how long rows are kept: a task that has not run for longer has lost some.
const RETENTION: Duration = Duration::from_hours(7 * 24);
/// Most bytes of a topic's name.
const NAME_BYTES: usize = 249;
/// How often, and how long apart, it is looked whether a topic that was made is known everywhere.
const LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(250);

/// What all topics of an exchange have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Topics {
    pub(super) partitions: u16,
}

/// What the names of all topics of a Pipeline start with.
pub(super) fn stem(prefix: &str, uid: &str) -> String {
    let digest = Sha256::digest(uid.as_bytes());
    let short: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{short}")
}

/// The topic of a channel. Slashes between the parts of a channel's name become dots, which its parts do not have.
pub(super) fn name(prefix: &str, uid: &str, channel: &str) -> Result<String, ConnectorError> {
    let name = format!("{}.{}", stem(prefix, uid), channel.replace('/', "."));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() > NAME_BYTES || !name.bytes().all(legal) {
        let message = format!("\"{name}\" cannot be the name of a topic: shorten exchange.kafka.topicPrefix, or the name of the step");
        return Err(ConnectorError::new(ErrorReason::Invalid, message));
    }
    Ok(name)
}

impl Topics {
    /// Makes the topics that are missing, and checks the others.
    pub(super) async fn ensure(self, cluster: &Cluster, topics: &[&str]) -> Result<(), ConnectorError> {
        for topic in topics {
            if let Some(found) = partitions(cluster, topic).await? {
                self.check(topic, found)?;
                continue;
            }
            self.make(cluster, topic).await?;
            let mut looks = 0;
            let found = loop {
                match partitions(cluster, topic).await? {
                    Some(found) => break found,
                    None if looks < LOOKS => tokio::time::sleep(LOOK).await,
                    None => {
                        let message = format!("topic {topic} of the exchange was made, and the brokers still do not know it");
                        return Err(ConnectorError::new(ErrorReason::ServerError, message));
                    }
                }
                looks += 1;
            };
            self.check(topic, found)?;
        }
        Ok(())
    }

    fn check(self, topic: &str, found: usize) -> Result<(), ConnectorError> {
        if found == usize::from(self.partitions) {
            return Ok(());
        }
        let message = format!(
            "topic {topic} of the exchange has {found} partitions, and exchange.kafka.partitions says {}: state and positions are kept for each partition, \
             so set it to {found} again, or create a Pipeline with another name",
            self.partitions
        );
        Err(ConnectorError::new(ErrorReason::Invalid, message))
    }

    async fn make(self, cluster: &Cluster, topic: &str) -> Result<(), ConnectorError> {
        let doing = format!(
            "making topic {topic} of the exchange ({} partitions): allow it, or make it yourself with cleanup.policy=delete and max.message.bytes={MESSAGE_BYTES}",
            self.partitions
        );
        let (retention, message) = (RETENTION.as_millis().to_string(), MESSAGE_BYTES.to_string());
        let options = [
            ("cleanup.policy", "delete"),
            ("retention.ms", retention.as_str()),
            ("retention.bytes", "-1"),
            ("max.message.bytes", message.as_str()),
        ];
        // Another task may be faster: then it is there as well.
        cluster.create_topic(topic, self.partitions.into(), &options).await.map_err(|error| error.of(&doing))
    }
}

/// How many partitions a topic has; `None` if there is no such topic.
pub(super) async fn partitions(cluster: &Cluster, topic: &str) -> Result<Option<usize>, ConnectorError> {
    match cluster.topic_anew(topic, None).await {
        Ok(topic) => Ok(Some(topic.partitions().len())),
        Err(Error::NoTopic { .. }) => Ok(None),
        Err(error) => Err(error.of(&format!("looking for topic {topic} of the exchange"))),
    }
}
