//! Reading: everything that a Pipeline points at and owns, from the caches. It changes nothing and decides nothing.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _};
use millrace_crds::condition;
use millrace_crds::report::{CheckOutcome, TroublePart};
use millrace_crds::resolve::References;

use super::rollout::{Check, State, Version};
use crate::names::{self, Component, DRAINED, IMAGE, Key, Owner, REVISION, STATE, TESTS};
use crate::pods::{self, Obstacle, OneShot};
use crate::scope::Stores;

/// What was found.
pub(crate) struct Found {
    /// Sources and Sinks of the namespace.
    pub(crate) references: References,
    /// What Sources and Sinks say of themselves when they are not well.
    pub(crate) unwell: Vec<Unwell>,
    /// The Deployment, whosever it is: the writer leaves alone what is not ours.
    pub(crate) deployment: Option<Arc<Deployment>>,
    /// Its pods.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Check pods of any revision.
    pub(crate) check_pods: Vec<Arc<Pod>>,
    /// ConfigMaps of any revision.
    pub(crate) config_maps: Vec<Arc<ConfigMap>>,
    /// The objects of the same name as the Pipeline.
    pub(crate) service: Option<Arc<Service>>,
    /// See `service`.
    pub(crate) service_account: Option<Arc<ServiceAccount>>,
    /// See `service`.
    pub(crate) pdb: Option<Arc<PodDisruptionBudget>>,
    /// See `service`.
    pub(crate) network_policy: Option<Arc<NetworkPolicy>>,
}

/// A Source or Sink whose own status says that it is not ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unwell {
    /// `Source` or `Sink`.
    pub(crate) kind: TroublePart,
    /// Its name.
    pub(crate) name: String,
    /// Reason of its condition Ready.
    pub(crate) reason: String,
    /// Message of it.
    pub(crate) message: String,
}

/// Reads. Only a Deployment that the caches do not know is asked for: whether one runs decides whether a new revision must be checked first.
pub(crate) async fn dereference(key: &Key, stores: &Stores, client: &Client) -> Result<Found, kube::Error> {
    let deployment = match stores.deployments.get(&stores.key(key)) {
        Some(deployment) => Some(deployment),
        None => Api::<Deployment>::namespaced(client.clone(), &key.namespace).get_opt(&key.name).await?.map(Arc::new),
    };
    let (check_pods, pods) = stores.pods_of(key).into_iter().partition(|pod: &Arc<Pod>| {
        let check = names::pipeline_labels(&key.name, Component::Check);
        check.iter().all(|(label, value)| pod.labels().get(label) == Some(value))
    });
    let (references, unwell) = references(&key.namespace, stores);
    Ok(Found {
        references,
        unwell,
        deployment,
        pods,
        check_pods,
        config_maps: stores.config_maps_of(key),
        service: stores.services.get(&stores.key(key)),
        service_account: stores.service_accounts.get(&stores.key(key)),
        pdb: stores.pdbs.get(&stores.key(key)),
        network_policy: stores.network_policies.get(&stores.key(key)),
    })
}

fn references(namespace: &str, stores: &Stores) -> (References, Vec<Unwell>) {
    let mut references = References::default();
    let mut unwell = Vec::new();
    let mut judge = |kind, name: &str, conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
        if let Some(ready) = condition::find(conditions, "Ready").filter(|ready| ready.status == "False") {
            unwell.push(Unwell { kind, name: name.to_owned(), reason: ready.reason.clone(), message: ready.message.clone() });
        }
    };
    for source in stores.sources.state_filter(|source| source.namespace().as_deref() == Some(namespace)) {
        judge(TroublePart::Source, &source.name_any(), source.status.as_ref().map_or(&[], |status| &status.conditions));
        references.sources.insert(source.name_any(), source.spec.clone());
    }
    for sink in stores.sinks.state_filter(|sink| sink.namespace().as_deref() == Some(namespace)) {
        judge(TroublePart::Sink, &sink.name_any(), sink.status.as_ref().map_or(&[], |status| &status.conditions));
        references.sinks.insert(sink.name_any(), sink.spec.clone());
    }
    (references, unwell)
}

impl Found {
    /// The Deployment, if it is the Pipeline's.
    pub(crate) fn own_deployment(&self, owner: &Owner) -> Option<&Deployment> {
        self.deployment.as_deref().filter(|deployment| owner.owns(&deployment.metadata))
    }

    /// The version that the Deployment runs, if it is one of ours.
    pub(crate) fn running(&self) -> Option<Version> {
        let annotations = self.deployment.as_ref()?.metadata.annotations.as_ref()?;
        Some(Version {
            revision: annotations.get(REVISION)?.clone(),
            image: annotations.get(IMAGE)?.clone(),
            tests: annotations.get(TESTS).cloned(),
        })
    }

    /// What the state of the version that the Deployment runs is made of, as far as it was written down.
    pub(crate) fn written_state(&self) -> Option<State> {
        let annotations = self.deployment.as_ref()?.metadata.annotations.as_ref()?;
        serde_json::from_str(annotations.get(STATE)?).ok()
    }

    /// Whether the Deployment stands still because everything was finished.
    pub(crate) fn drained(&self) -> bool {
        let annotations = self.deployment.as_ref().and_then(|deployment| deployment.metadata.annotations.as_ref());
        annotations.and_then(|annotations| annotations.get(DRAINED)).is_some_and(|drained| drained == "true")
    }

    /// What has become of the check of a version.
    pub(crate) fn check(&self, pipeline: &str, version: &Version, now: Timestamp) -> Check {
        let name = names::check_pod(pipeline, &version.revision, &version.image, version.tests.as_deref());
        let pod = self.check_pods.iter().find(|pod| pod.name_any() == name && pod.metadata.deletion_timestamp.is_none());
        pod.map_or(Check::Absent, |pod| check_of(pod, now))
    }
}

fn check_of(pod: &Pod, now: Timestamp) -> Check {
    let seconds_since = |time: Timestamp| now.as_second() - time.as_second();
    let made = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    match pods::one_shot(pod) {
        OneShot::Underway { obstacle } => Check::Underway { age: seconds_since(made), waits_for: obstacle.as_ref().map(describe) },
        OneShot::Ended { message, at } => match serde_json::from_str::<CheckOutcome>(&message) {
            Ok(outcome) => Check::Answered(outcome),
            Err(_) => Check::Failed {
                age: seconds_since(at.unwrap_or(made)),
                message: format!("the check pod ended without a result: {message}"),
            },
        },
    }
}

/// An obstacle in words.
pub(crate) fn describe(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::ImagePull(message) => format!("its image: {message}"),
        Obstacle::Config(message) => format!("its configuration: {message}"),
        Obstacle::Unschedulable(message) => format!("a node: {message}"),
        Obstacle::OutOfMemory(message) => format!("memory: {message}"),
        Obstacle::CrashLoop(message) => format!("its container to start: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::tests::pod;

    fn ended(message: &str) -> Pod {
        let state = json!({"terminated": {"exitCode": 0, "message": message, "finishedAt": "2026-01-01T00:00:10Z"}});
        let container = json!({"name": "check", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        pod(&json!({"phase": "Succeeded", "containerStatuses": [container]}))
    }

    #[test]
    fn a_check_pod_is_read() {
        let now = "2026-01-01T00:00:15Z".parse().unwrap();
        assert!(matches!(check_of(&ended(r#"{"revision":"r","problems":[]}"#), now), Check::Answered(outcome) if outcome.revision == "r"));
        assert!(matches!(check_of(&ended("boom"), now), Check::Failed { age: 5, message } if message.ends_with("boom")));
        let mut waits = pod(&json!({"phase": "Pending"}));
        waits.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(check_of(&waits, now), Check::Underway { age: 15, waits_for: None });
    }
}
