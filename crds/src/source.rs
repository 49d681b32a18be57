//! `Source`: where records come from, what they look like. Reusable by any Pipeline of its namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::changelog::{Changelog, ChangelogMode};
use crate::connectors::{files::FilesSource, kafka::KafkaSource, s3::S3Source};
use crate::format::{Schema, SourceFormat};

/// Where records come from and what they look like. Exactly one connector block.
#[derive(Clone, CustomResource, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "Source",
    plural = "sources",
    shortname = "src",
    category = "streams",
    namespaced,
    status = "SourceStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name may have 63 characters at most: shorten it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether it can be read."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is, or is not, ready."),
    printcolumn(name = "Used By", type_ = "integer", json_path = ".status.usedBy", description = "Pipelines that read it."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since it was created."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1, description = "What was seen.")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.files), has(self.s3), has(self.kafka)].filter(x, x).size() == 1").message("exactly one connector must be set: files, s3 or kafka"),
    validation = Rule::new("has(self.files) == has(oldSelf.files) && has(self.s3) == has(oldSelf.s3) && has(self.kafka) == has(oldSelf.kafka)").message("the connector of a Source cannot change, checkpoints hold positions in it: create another Source and point inputs[].sourceRef to it"),
    validation = Rule::new("!(has(self.format.json) || has(self.format.csv) || has(self.format.parquet) || has(self.format.debezium)) || has(self.schema)").message("the formats json, csv, parquet and debezium need schema.columns: name the columns and their types"),
    validation = Rule::new("!(has(self.format.raw) || has(self.format.cloudFront) || has(self.format.vpcFlow)) || !has(self.schema)").message("the formats raw, cloudFront and vpcFlow define their own columns: remove schema"),
    validation = Rule::new("!has(self.kafka) || !(has(self.format.parquet) || has(self.format.cloudFront) || has(self.format.vpcFlow))").message("the formats parquet, cloudFront and vpcFlow are for files and objects: kafka reads json, debezium, csv or raw"),
    validation = Rule::new("!has(self.kafka) || !has(self.format.csv) || (has(self.format.csv.header) && self.format.csv.header == 'Absent')").message("records of a topic have no header line: set format.csv.header to Absent"),
    validation = Rule::new("!has(self.eventTime) || !has(self.format.raw)").message("the format raw has no time column: remove eventTime"),
    validation = Rule::new("!has(self.eventTime) || !has(self.schema) || self.schema.columns.exists(c, c.name == self.eventTime.column && c.type == 'Timestamp')").message("eventTime.column must name a column of schema.columns whose type is Timestamp"),
    validation = Rule::new("!has(self.partitionedBy) || has(self.kafka)").message("partitionedBy is for sources with splits that stay, which is kafka: remove it"),
    validation = Rule::new("!has(self.partitionedBy) || !has(self.schema) || self.partitionedBy.all(p, self.schema.columns.exists(c, c.name == p))").message("partitionedBy must name columns of schema.columns"),
    validation = Rule::new("!has(self.format.debezium) || has(self.kafka)").message("the format debezium is for the topics that Debezium writes: set kafka, or use json"),
    validation = Rule::new("!has(self.changelog) || (has(self.kafka) && (has(self.format.json) || has(self.format.debezium)))").message("changelog is for kafka with format json or debezium: remove it"),
    validation = Rule::new("!has(self.changelog) || !has(self.changelog.mode) || self.changelog.mode != 'Retract' || has(self.format.debezium)").message("changelog.mode Retract needs rows as they were before, which only the format debezium has: use Upsert"),
    validation = Rule::new("!has(self.changelog) || !has(self.schema) || self.changelog.primaryKey.all(k, self.schema.columns.exists(c, c.name == k))").message("changelog.primaryKey must name columns of schema.columns"),
    validation = Rule::new("!has(self.eventTime) || !(has(self.changelog) || has(self.format.debezium))").message("event time of rows that are revised is not built, windows and interval joins take rows that are only appended: remove eventTime, the column stays a column"),
)]
pub struct SourceSpec {
    /// Reads the files of a directory, and the ones that appear later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSource>,
    /// Reads S3 objects that an SQS queue announces: S3 event notifications, direct, through SNS, or through EventBridge. Each object is read once however often it is announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Source>,
    /// Reads Kafka topics. Positions are kept in the checkpoint; the group's offset is only informational.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSource>,
    /// What the bytes are. Exactly one block.
    pub format: SourceFormat,
    /// The columns, for formats that do not define their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// That records are changes of rows that were there before, by their key: what Flink reads as `upsert-kafka`. Records in the format `debezium` always are; this says their key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changelog: Option<Changelog>,
    /// Which column is the event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
    /// Columns that say which split (partition) a record is in: records that are equal in all of them are always in one. A Pipeline whose steps keep state keyed by at
    /// least these columns runs as one task per split, on as many workers, each with the state of its splits. It is a promise about who writes there, which nothing
    /// can check: where it is broken, one key has several results. For Kafka these are the columns that the producers' record keys are made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(k, self.exists_one(other, other == k))").message("name each column once"))]
    pub partitioned_by: Vec<String>,
    /// Whether the connection is tried before it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// Event time of the records.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTime {
    /// A column of type Timestamp; templates such as `{yyyy-MM-dd}` of sinks use it.
    #[schemars(length(min = 1, max = 128))]
    pub column: String,
    /// By how many seconds a record may come after one with a later time. Windows wait for so long, and what comes later still is late. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub max_delay_seconds: Option<u32>,
}

/// Probing: connecting to see whether a system is reachable and lets us in.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// `Full` (default) connects and asks for what will be used; `Off` does nothing, and the conditions stay Unknown.
    #[serde(default)]
    pub mode: ProbeMode,
    /// Seconds between probes of a running Pipeline. Default 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86_400))]
    pub interval_seconds: Option<u32>,
}

/// How far a probe goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ProbeMode {
    /// Connect and ask for what will be used.
    #[default]
    Full,
    /// Do nothing.
    Off,
}

/// What is known of a Source.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
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

/// A Source's connector block, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum SourceConnector<'a> {
    /// `files`
    Files(&'a FilesSource),
    /// `s3`
    S3(&'a S3Source),
    /// `kafka`
    Kafka(&'a KafkaSource),
}

impl SourceSpec {
    /// The one connector block, or `None` unless exactly one is set (the API server refuses that; local files are not checked by it).
    #[must_use]
    pub fn connector(&self) -> Option<SourceConnector<'_>> {
        let mut blocks = self
            .files
            .iter()
            .map(SourceConnector::Files)
            .chain(self.s3.iter().map(SourceConnector::S3))
            .chain(self.kafka.iter().map(SourceConnector::Kafka));
        let first = blocks.next()?;
        blocks.next().is_none().then_some(first)
    }

    /// How records change rows that were there before, and the columns that tell rows apart (none may be known); `None` if all are new rows.
    #[must_use]
    pub fn changes(&self) -> Option<(ChangelogMode, &[String])> {
        match &self.changelog {
            Some(changelog) => Some((changelog.mode, &changelog.primary_key)),
            None => self.format.debezium.as_ref().map(|_| (ChangelogMode::Retract, &[][..])),
        }
    }
}
