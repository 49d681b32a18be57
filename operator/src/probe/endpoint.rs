//! What Sources and Sinks have in common, for the one loop that serves both. No rule is decided here.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use millrace_crds::report::TroublePart;
use millrace_crds::sink::SinkConnector;
use millrace_crds::source::{Probe, SourceConnector};
use millrace_crds::{Sink, Source};
use serde::Serialize;
use serde_json::{Value, json};

use crate::apply::Owned;
use crate::pipeline::validate::secrets;

/// Status of a Source or Sink: both have the same fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) used_by: i32,
}

/// A Source or Sink.
pub(crate) trait Endpoint: Owned + 'static {
    /// As reports call it.
    const PART: TroublePart;
    /// As Kubernetes calls it.
    const KIND: &'static str;

    /// Whether and how often it is probed.
    fn probe(&self) -> Probe;
    /// Whether a pod without the Pipeline's volumes can see it.
    fn can_be_probed_alone(&self) -> bool;
    /// Its spec as JSON.
    fn spec_json(&self) -> Value;
    /// Its status.
    fn endpoint_status(&self) -> EndpointStatus;

    /// What `millrace probe` reads.
    fn document(&self) -> Value {
        json!({"kind": Self::KIND, "name": self.meta().name, "spec": self.spec_json()})
    }

    /// Names of the Secrets that it refers to.
    fn secrets(&self) -> BTreeSet<String> {
        secrets(&self.spec_json())
    }
}

fn to_json(spec: &impl Serialize) -> Value {
    serde_json::to_value(spec).expect("a spec has only string keys")
}

impl Endpoint for Source {
    const PART: TroublePart = TroublePart::Source;
    const KIND: &'static str = "Source";

    fn probe(&self) -> Probe {
        self.spec.probe.clone().unwrap_or_default()
    }

    fn can_be_probed_alone(&self) -> bool {
        !matches!(self.spec.connector(), None | Some(SourceConnector::Files(_)))
    }

    fn spec_json(&self) -> Value {
        to_json(&self.spec)
    }

    fn endpoint_status(&self) -> EndpointStatus {
        self.status.as_ref().map_or_else(EndpointStatus::default, |status| EndpointStatus {
            observed_generation: status.observed_generation,
            conditions: status.conditions.clone(),
            used_by: status.used_by,
        })
    }
}

impl Endpoint for Sink {
    const PART: TroublePart = TroublePart::Sink;
    const KIND: &'static str = "Sink";

    fn probe(&self) -> Probe {
        self.spec.probe.clone().unwrap_or_default()
    }

    fn can_be_probed_alone(&self) -> bool {
        !matches!(self.spec.connector(), None | Some(SinkConnector::Files(_) | SinkConnector::Stdout(_) | SinkConnector::Blackhole(_)))
    }

    fn spec_json(&self) -> Value {
        to_json(&self.spec)
    }

    fn endpoint_status(&self) -> EndpointStatus {
        self.status.as_ref().map_or_else(EndpointStatus::default, |status| EndpointStatus {
            observed_generation: status.observed_generation,
            conditions: status.conditions.clone(),
            used_by: status.used_by,
        })
    }
}
