//! Options of the `s3` connector: objects announced through SQS in, Parquet or JSON lines out.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::aws::AwsAccess;
use crate::format::{Compression, SinkFormat};

/// Reads S3 objects that a queue announces: S3 event notifications, direct, through SNS, or through EventBridge.
///
/// Each object (bucket, key, version or ETag) is read once however often it is announced; a message is deleted when what
/// it announced is durable. Any number of workers compete for the queue.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Source {
    /// The queue that announces objects.
    pub sqs: SqsQueue,
    /// Only objects of this bucket; announcements of others are acknowledged and counted as skipped. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub bucket: Option<String>,
    /// Only keys that start with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// Only keys that end with this, for example `.gz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub suffix: Option<String>,
    /// How the objects are compressed. Default `Auto`: by their first bytes.
    #[serde(default)]
    pub compression: Compression,
    /// How long an object is remembered as read. Must not be shorter than the queue's retention. Default 1,209,600 (14 days, the longest a queue retains).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub ledger_ttl_seconds: Option<u32>,
    /// Region, endpoint and identity for S3.
    #[serde(flatten)]
    pub aws: AwsAccess,
}

/// An SQS queue.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsQueue {
    /// URL of the queue.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://.+"))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("queueUrl is immutable, messages of the old queue would never be finished: create another Source and point inputs[].sourceRef to it"),
        validation = Rule::new("!self.matches('^https?://[^/]*@')").message("put no credentials into a URL: use secretRef"),
    )]
    pub queue_url: String,
    /// For how long a received message is hidden from others; renewed at half of it for as long as its object is read. Default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 43_200))]
    pub visibility_timeout_seconds: Option<u32>,
}

/// Writes objects to S3, one or more for each partition and epoch, listed in one manifest for each epoch.
///
/// Readers of the manifests (`<prefix root>/_millrace/<pipeline uid>/<output>/<task>/<epoch>.json`) see every row exactly once. An object appears when its epoch is durable.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Sink {
    /// Bucket.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub bucket: String,
    /// Template of the key in front of the file name. `{column}` is a column's value, `{column:yyyy-MM-dd}` a timestamp column formatted,
    /// `{yyyy-MM-dd}` the event time of the input formatted. Values are percent-encoded, so none escapes its folder. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^([^{}]|[{][^{}]+[}])*$')").message("braces must pair up: {column}, {column:yyyy-MM-dd} or {yyyy-MM-dd}"),
        validation = Rule::new("!self.startsWith('/') && !self.matches('(^|/)[.]{1,2}(/|$)')").message("must not start with / nor hold . or .. as a folder"),
    )]
    pub prefix: Option<String>,
    /// What is in the objects.
    #[x_kube(validation = Rule::new("!has(self.raw)").message("raw is for topics: write json or parquet"))]
    pub format: SinkFormat,
    /// When an object is closed before the epoch ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<Roll>,
    /// Region, endpoint and identity for S3.
    #[serde(flatten)]
    pub aws: AwsAccess,
}

/// When a file is closed before the end of its epoch. At the end of an epoch every open file is closed.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Roll {
    /// At this many encoded bytes. Default 134,217,728 (128 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576, max = 5_368_709_120i64))]
    pub bytes: Option<i64>,
}
