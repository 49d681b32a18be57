//! `spec.exchange`: where rows of one key are brought together when several workers share a plan that keeps state. Topics are made by workers, not here.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::connectors::kafka::KafkaAccess;

/// Where rows of one key are brought together across workers. A plan that needs that runs in two stages: one task for each split of its inputs, which
/// sends rows on by their key, and one task for each partition of the exchange, which keeps the state of its keys. A plan that keeps no state needs none.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// Kafka topics.
    pub kafka: KafkaExchange,
}

/// An exchange through Kafka topics. They are made if they are missing (retention of 7 days). What is written there is read at once, and each row counts once,
/// whatever crashes: messages are numbered. Needs the rights to make, write and read topics with this prefix.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaExchange {
    /// Brokers and identity.
    #[serde(flatten)]
    pub access: KafkaAccess,
    /// What the names of the topics start with; the Pipeline's identity and the operator follow. Default `millrace-exchange.`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub topic_prefix: Option<String>,
    /// Partitions of each topic: as many tasks keep the state, and as many workers can share it. Immutable, because state is kept by partition.
    #[schemars(range(min = 1, max = 128))]
    pub partitions: u32,
}

impl KafkaExchange {
    /// What the names of the topics start with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.topic_prefix.as_deref().unwrap_or("millrace-exchange.")
    }
}
