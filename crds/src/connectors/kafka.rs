//! Options of the `kafka` connector. Positions live in Millrace's checkpoint; the group's committed offset is only informational.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::SinkFormat;
use crate::reference::SecretRef;

/// How to reach a Kafka cluster and as whom.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaAccess {
    /// Brokers to start from, `host:port`, comma-separated.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("self.matches('^[^,:/@ ]+:[0-9]{1,5}(,[^,:/@ ]+:[0-9]{1,5})*$')").message("bootstrapServers must be host:port, more of them separated by commas without spaces"))]
    pub bootstrap_servers: String,
    /// TLS to the brokers. Default: plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL authentication. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

/// TLS to the brokers; the host name is always verified.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTls {
    /// Secret with the key `ca.crt` (PEM, one or more certificates) and, for mutual TLS, `tls.crt` and `tls.key`. Default: the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// SASL authentication.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSasl {
    /// Mechanism.
    pub mechanism: SaslMechanism,
    /// Secret with the keys `username` and `password`.
    pub secret_ref: SecretRef,
}

/// SASL mechanism.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SaslMechanism {
    /// User name and password in clear; use it with TLS.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

/// Reads topics. Each partition is a split.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSource {
    /// Brokers and identity.
    #[serde(flatten)]
    pub access: KafkaAccess,
    /// Topics to read.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub topics: Vec<String>,
    /// Consumer group under which progress is published for other tools to see. Default: none is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub group_id: Option<String>,
    /// Where to start a partition that has no position in the checkpoint. Default `Earliest`.
    #[serde(default)]
    pub start_from: KafkaStart,
    /// Whether records of open and aborted transactions are seen. Default `ReadCommitted`.
    #[serde(default)]
    pub isolation_level: IsolationLevel,
    /// What to do when the position in the checkpoint is gone (retention, re-created topic). Default `Fail`.
    #[serde(default)]
    pub on_position_lost: OnPositionLost,
}

/// Where to start without a position.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum KafkaStart {
    /// The oldest record there is.
    #[default]
    Earliest,
    /// Records that arrive from now on. Partitions added later start at their oldest record all the same.
    Latest,
}

/// Which records of transactions are read.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum IsolationLevel {
    /// Only of committed transactions.
    #[default]
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// What to do when the records at the position are gone.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnPositionLost {
    /// Stop the Pipeline and say which range was lost.
    #[default]
    Fail,
    /// Go on at the oldest record there is, or where a log was cut (an unclean leader election); the lost range is reported.
    Earliest,
    /// Go on at the newest; the lost range is reported.
    Latest,
}

/// Whether each epoch is one Kafka transaction.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Transactional {
    /// Yes: readers with `isolation.level=read_committed` see every row exactly once, when its epoch is committed. Needs brokers from 4.0 on, the rights
    /// on transactional ids that begin with `millrace/` and on the topic `millrace-ledger` (made if missing). One such output for each Pipeline.
    Auto,
    /// No: rows are visible at once, at least once.
    #[default]
    Off,
}

impl Transactional {
    /// Left out of Jobs, so that a Pipeline without transactions keeps its revision.
    fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

/// Writes to a topic, in order of each key: at least once with the idempotent producer, or exactly once in transactions.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.format.json) || has(self.format.raw)").message("the kafka sink writes json or raw: set format to {json: {}}"),
    validation = Rule::new("!has(self.format.json) || !has(self.format.json.compression)").message("format.json.compression is for files and objects: remove it"),
)]
pub struct KafkaSink {
    /// Brokers and identity.
    #[serde(flatten)]
    pub access: KafkaAccess,
    /// Topic; it must exist.
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub topic: String,
    /// Columns whose values make the record's key, joined by `|`. Default: no key, records are spread over partitions.
    ///
    /// Rows that are revised (an aggregate, join or top-N that no window ends) become values and tombstones under their key, for a compacted topic: the last
    /// record of each key is the row, or says that it is gone. Default then: the columns that tell rows apart. Columns that are set must contain those; where none
    /// are known, they are your word that no two rows have the same values at once. NULL in such a key is `\N`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(k, self.exists_one(other, other == k))").message("name each column once"))]
    pub key_from: Vec<String>,
    /// Whether each epoch is one Kafka transaction. Default `Off`.
    #[serde(default, skip_serializing_if = "Transactional::is_off")]
    pub transactional: Transactional,
    /// How long a transaction may be open before the brokers abort it, and its epoch is done again: longer than an epoch ever takes. Readers of what is
    /// committed wait for so long where a worker died and no other took over. The brokers' `transaction.max.timeout.ms` must allow it. Default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub transaction_timeout_seconds: Option<u32>,
    /// What is in a record's value: one row as `json`, or its one column as it is, `raw`.
    pub format: SinkFormat,
}
