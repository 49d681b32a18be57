//! Which Secrets a Source, Sink or Job needs, and with which keys: what the operator mounts is what the worker reads. No value is ever here.

use std::collections::{BTreeMap, BTreeSet};

use crate::connectors::aws::AwsAccess;
use crate::connectors::kafka::KafkaAccess;
use crate::connectors::opensearch::OpenSearchSink;
use crate::job::{Job, StateLocation};
use crate::reference::SecretRef;
use crate::sink::SinkConnector;
use crate::source::SourceConnector;
use crate::{SinkSpec, SourceSpec};

/// A Secret that is referred to, and the keys that are read from it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SecretUse<'a> {
    /// Name of the Secret.
    pub name: &'a str,
    /// Keys that must be there.
    pub required: &'static [&'static str],
    /// Keys that are read if they are there.
    pub optional: &'static [&'static str],
}

/// Required keys, then optional ones.
type Keys = (&'static [&'static str], &'static [&'static str]);

const AWS: Keys = (&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], &["AWS_SESSION_TOKEN"]);
const USER: Keys = (&["username", "password"], &[]);
const KAFKA_TLS: Keys = (&["ca.crt"], &["tls.crt", "tls.key"]);
const OPENSEARCH_TLS: Keys = (&["ca.crt"], &[]);

fn secret_use(reference: &SecretRef, keys: Keys) -> SecretUse<'_> {
    SecretUse { name: &reference.name, required: keys.0, optional: keys.1 }
}

impl SourceSpec {
    /// The Secrets that its connector refers to.
    pub fn secrets(&self) -> Vec<SecretUse<'_>> {
        match self.connector() {
            Some(SourceConnector::S3(s3)) => aws(&s3.aws),
            Some(SourceConnector::Kafka(kafka)) => kafka_access(&kafka.access),
            Some(SourceConnector::Files(_)) | None => Vec::new(),
        }
    }
}

impl SinkSpec {
    /// The Secrets that its connector refers to.
    pub fn secrets(&self) -> Vec<SecretUse<'_>> {
        match self.connector() {
            Some(SinkConnector::S3(s3)) => aws(&s3.aws),
            Some(SinkConnector::Kafka(kafka)) => kafka_access(&kafka.access),
            Some(SinkConnector::OpenSearch(sink)) => opensearch(sink),
            Some(SinkConnector::Files(_) | SinkConnector::Stdout(_) | SinkConnector::Blackhole(_)) | None => Vec::new(),
        }
    }
}

impl StateLocation {
    /// The Secrets that the checkpoint store refers to.
    pub fn secrets(&self) -> Vec<SecretUse<'_>> {
        self.aws.as_ref().map(aws).unwrap_or_default()
    }
}

impl Job {
    /// Names of all Secrets that its Sources, Sinks, checkpoint store and exchange refer to, each with every key that one of them requires.
    pub fn secrets(&self) -> BTreeMap<&str, BTreeSet<&'static str>> {
        let sources = self.inputs.iter().flat_map(|input| input.source.secrets());
        let sinks = self.sinks.values().flat_map(SinkSpec::secrets);
        let mut names: BTreeMap<&str, BTreeSet<&'static str>> = BTreeMap::new();
        let exchange = self.exchange.iter().flat_map(|exchange| kafka_access(&exchange.kafka.access));
        for secret in sources.chain(sinks).chain(self.state.secrets()).chain(exchange) {
            names.entry(secret.name).or_default().extend(secret.required);
        }
        names
    }
}

fn aws(access: &AwsAccess) -> Vec<SecretUse<'_>> {
    access.secret_ref.iter().map(|reference| secret_use(reference, AWS)).collect()
}

fn kafka_access(access: &KafkaAccess) -> Vec<SecretUse<'_>> {
    let tls = access.tls.iter().filter_map(|tls| tls.secret_ref.as_ref()).map(|reference| secret_use(reference, KAFKA_TLS));
    let sasl = access.sasl.iter().map(|sasl| secret_use(&sasl.secret_ref, USER));
    tls.chain(sasl).collect()
}

fn opensearch(sink: &OpenSearchSink) -> Vec<SecretUse<'_>> {
    let user = sink.basic_auth.iter().map(|auth| secret_use(&auth.secret_ref, USER));
    let tls = sink.tls.iter().map(|tls| secret_use(&tls.secret_ref, OPENSEARCH_TLS));
    user.chain(tls).collect()
}
