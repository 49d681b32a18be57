//! `Sink`: where records go. Reusable by any Pipeline of its namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::connectors::{
    blackhole::BlackholeSink, files::FilesSink, kafka::KafkaSink, opensearch::OpenSearchSink, s3::S3Sink, stdout::StdoutSink,
};
use crate::source::Probe;

/// Where records go. Exactly one connector block.
#[derive(Clone, CustomResource, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "Sink",
    plural = "sinks",
    shortname = "snk",
    category = "streams",
    namespaced,
    status = "SinkStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name may have 63 characters at most: shorten it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether it can be written."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is, or is not, ready."),
    printcolumn(name = "Used By", type_ = "integer", json_path = ".status.usedBy", description = "Pipelines that write it."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since it was created."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1, description = "What was seen.")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.files), has(self.s3), has(self.opensearch), has(self.kafka), has(self.stdout), has(self.blackhole)].filter(x, x).size() == 1").message("exactly one connector must be set: files, s3, opensearch, kafka, stdout or blackhole"),
    validation = Rule::new("has(self.files) == has(oldSelf.files) && has(self.s3) == has(oldSelf.s3) && has(self.opensearch) == has(oldSelf.opensearch) && has(self.kafka) == has(oldSelf.kafka) && has(self.stdout) == has(oldSelf.stdout) && has(self.blackhole) == has(oldSelf.blackhole)").message("the connector of a Sink cannot change, checkpoints hold commits that only it can finish: create another Sink and point outputs[].sinkRef to it"),
)]
pub struct SinkSpec {
    /// Writes files under a directory. A file appears under its name, whole, when its epoch commits, and never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSink>,
    /// Writes objects to S3, listed in one manifest for each epoch: readers of the manifests see every row exactly once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Sink>,
    /// Writes documents to OpenSearch by the bulk API. Replays overwrite a document with itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opensearch: Option<OpenSearchSink>,
    /// Writes records to a Kafka topic in order of each key: at least once, or exactly once in transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSink>,
    /// Prints rows to standard output, which on a cluster is the log of the worker. For looking at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<StdoutSink>,
    /// Drops every row. For measuring, and for trying a Pipeline without its Sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blackhole: Option<BlackholeSink>,
    /// Whether the connection is tried before it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// What is known of a Sink.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, Reachable, Authorized, SecretsResolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// How many Pipelines use it.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub used_by: i32,
}

/// A Sink's connector block, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum SinkConnector<'a> {
    /// `files`
    Files(&'a FilesSink),
    /// `s3`
    S3(&'a S3Sink),
    /// `opensearch`
    OpenSearch(&'a OpenSearchSink),
    /// `kafka`
    Kafka(&'a KafkaSink),
    /// `stdout`
    Stdout(&'a StdoutSink),
    /// `blackhole`
    Blackhole(&'a BlackholeSink),
}

impl SinkSpec {
    /// The one connector block, or `None` unless exactly one is set.
    #[must_use]
    pub fn connector(&self) -> Option<SinkConnector<'_>> {
        let mut blocks = self
            .files
            .iter()
            .map(SinkConnector::Files)
            .chain(self.s3.iter().map(SinkConnector::S3))
            .chain(self.opensearch.iter().map(SinkConnector::OpenSearch))
            .chain(self.kafka.iter().map(SinkConnector::Kafka))
            .chain(self.stdout.iter().map(SinkConnector::Stdout))
            .chain(self.blackhole.iter().map(SinkConnector::Blackhole));
        let first = blocks.next()?;
        blocks.next().is_none().then_some(first)
    }
}
