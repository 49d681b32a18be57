//! The pod that probes one Source or Sink, with its document and its NetworkPolicy. It takes no client and cannot fail; it holds Secrets by reference only.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};

use super::endpoint::Endpoint;
use crate::names::{self, Owner, PROBE_KIND, PROBE_NAME};
use crate::pipeline::build::{network_egress, pod};
use crate::settings::Settings;

const PROBE_DIR: &str = "/etc/millrace/probe";
const PROBE_FILE: &str = "probe.json";
/// The kubelet ends it after so many seconds.
const DEADLINE_SECONDS: i64 = 120;

/// What a probe needs.
pub(super) struct Built {
    pub(super) config_map: ConfigMap,
    pub(super) network_policy: NetworkPolicy,
    pub(super) pod: Pod,
}

/// Builds it.
pub(super) fn build<E: Endpoint>(owner: &Owner, object: &E, settings: &Settings) -> Built {
    let name = names::probe_pod(E::KIND, &owner.key.name, object.meta().generation.unwrap_or_default());
    let labels = names::probe_labels(E::KIND, &owner.key.name);
    let document = serde_json::to_string_pretty(&object.document()).expect("a JSON value has only string keys");
    let mut volumes = vec![pod::config_map_volume("probe", &name, PROBE_DIR)];
    volumes.extend(pod::secret_volumes(&object.secrets()));
    let mut spec = pod::harden(pod::Draft {
        container: "probe",
        image: &settings.worker_image,
        pull_policy: &settings.worker_image_pull_policy,
        args: ["probe", "--document", &format!("{PROBE_DIR}/{PROBE_FILE}"), "--termination-message", pod::TERMINATION_MESSAGE]
            .map(str::to_owned)
            .into(),
        env: Vec::new(),
        resources: pod::one_shot_resources(),
        service_account: None,
        image_pull_secrets: Vec::new(),
        volumes,
    });
    spec.restart_policy = Some("Never".to_owned());
    spec.active_deadline_seconds = Some(DEADLINE_SECONDS);
    let selector: BTreeMap<_, _> = labels.clone().into_iter().filter(|(key, _)| key == PROBE_KIND || key == PROBE_NAME).collect();
    Built {
        config_map: ConfigMap {
            metadata: names::meta(owner, name.clone(), labels.clone()),
            data: Some([(PROBE_FILE.to_owned(), document)].into()),
            immutable: Some(true),
            binary_data: None,
        },
        network_policy: NetworkPolicy {
            metadata: names::meta(owner, name.clone(), labels.clone()),
            spec: Some(NetworkPolicySpec {
                pod_selector: Some(names::label_selector(selector)),
                policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
                ingress: None,
                egress: Some(vec![network_egress()]),
            }),
        },
        pod: Pod { metadata: names::meta(owner, name, labels), spec: Some(spec), status: None },
    }
}
