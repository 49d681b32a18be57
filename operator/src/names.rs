//! Names, labels and annotations of everything the operator owns. No object is built here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// Field manager, value of `managed-by`, and reporter of Events.
pub(crate) const MANAGER: &str = "millrace-operator";
/// Name of the software, in `app.kubernetes.io/name` and `part-of`.
const SOFTWARE: &str = "millrace";

/// Label: the Pipeline that a pod or object belongs to.
pub(crate) const PIPELINE: &str = "millrace.dev/pipeline";
/// Label of probe pods and what belongs to them: `Source` or `Sink`.
pub(crate) const PROBE_KIND: &str = "millrace.dev/probe-kind";
/// Label of probe pods and what belongs to them: name of the Source or Sink.
pub(crate) const PROBE_NAME: &str = "millrace.dev/probe-name";
/// Label of ConfigMaps, annotation of pods: revision of the Job.
pub(crate) const REVISION: &str = "millrace.dev/revision";
/// Annotation of the Deployment: image of the workers as the operator set it, whatever admission made of it.
pub(crate) const IMAGE: &str = "millrace.dev/image";
/// Annotation of the Deployment: hash of the tests that passed before this revision was rolled out. Absent if it had none.
pub(crate) const TESTS: &str = "millrace.dev/tests";
/// Annotation of the Deployment: what the state of this revision is made of, a JSON object of operators and digests, as its check or its workers said.
pub(crate) const STATE: &str = "millrace.dev/state";
/// Annotation: hash of the object as the operator last wrote it.
pub(crate) const APPLIED: &str = "millrace.dev/applied";
/// Annotation of the Deployment: everything in flight was finished; it stays without workers until the Pipeline runs again.
pub(crate) const DRAINED: &str = "millrace.dev/drained";

/// Label that finds everything of ours.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const COMPONENT: &str = "app.kubernetes.io/component";
const PART_OF: &str = "app.kubernetes.io/part-of";

/// What a pod is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Component {
    /// Runs tasks.
    Worker,
    /// Checks a Job, once.
    Check,
    /// Probes a Source or Sink, once.
    Probe,
}

impl Component {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Check => "check",
            Self::Probe => "probe",
        }
    }
}

/// An object by namespace and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
}

impl Key {
    /// The key of these names.
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object; absent names are empty, which no object of the API server has.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who owns an object: the labels it gets and the reference by which it is collected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    /// The owner.
    pub(crate) key: Key,
    /// Reference to it. `blockOwnerDeletion` is not set: it would need a right on the owner's finalizers.
    pub(crate) reference: OwnerReference,
}

impl Owner {
    /// The owner that an object of the API server makes; `None` without name, namespace or UID.
    pub(crate) fn of<K: kube::Resource<DynamicType = ()>>(object: &K) -> Option<Self> {
        let meta = object.meta();
        let key = Key::new(meta.namespace.clone()?, meta.name.clone()?);
        let reference = OwnerReference {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            name: key.name.clone(),
            uid: meta.uid.clone()?,
            controller: Some(true),
            block_owner_deletion: None,
        };
        Some(Self { key, reference })
    }

    /// Whether an object is this owner's: its controller reference has the owner's UID. A name proves nothing.
    pub(crate) fn owns(&self, object: &ObjectMeta) -> bool {
        object.owner_references.iter().flatten().any(|reference| reference.controller == Some(true) && reference.uid == self.reference.uid)
    }
}

/// Labels of what belongs to a Pipeline.
pub(crate) fn pipeline_labels(pipeline: &str, component: Component) -> BTreeMap<String, String> {
    labels([(INSTANCE, pipeline), (COMPONENT, component.as_str()), (PIPELINE, pipeline)])
}

/// Labels of what belongs to the probe of a Source or Sink.
pub(crate) fn probe_labels(kind: &str, name: &str) -> BTreeMap<String, String> {
    labels([(COMPONENT, Component::Probe.as_str()), (PROBE_KIND, kind), (PROBE_NAME, name)])
}

fn labels<const N: usize>(own: [(&str, &str); N]) -> BTreeMap<String, String> {
    let common = [(NAME, SOFTWARE), (PART_OF, SOFTWARE), (MANAGED_BY, MANAGER)];
    common.into_iter().chain(own).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What selects the workers of a Pipeline, and never its check pods. It cannot change: Deployments refuse that.
pub(crate) fn worker_selector(pipeline: &str) -> BTreeMap<String, String> {
    [(NAME, SOFTWARE), (COMPONENT, Component::Worker.as_str()), (PIPELINE, pipeline)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A selector as text, for `/scale`.
pub(crate) fn selector_text(selector: &BTreeMap<String, String>) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// A selector as object.
pub(crate) fn label_selector(selector: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(selector), ..LabelSelector::default() }
}

/// Name of the ConfigMap with a Job.
pub(crate) fn job_config_map(pipeline: &str, revision: &str) -> String {
    format!("{pipeline}-job-{revision}")
}

/// Name of the ConfigMap with a Job and its tests; without tests it is that of the Job.
pub(crate) fn check_config_map(pipeline: &str, revision: &str, tests: Option<&str>) -> String {
    let job = job_config_map(pipeline, revision);
    tests.map_or_else(|| job.clone(), |tests| format!("{job}-tests-{tests}"))
}

/// Name of the pod that checks a Job in an image and runs its tests.
pub(crate) fn check_pod(pipeline: &str, revision: &str, image: &str, tests: Option<&str>) -> String {
    let what = tests.map_or_else(|| image.to_owned(), |tests| format!("{image} {tests}"));
    format!("{pipeline}-check-{revision}-{}", short_hash(what.as_bytes()))
}

/// Name of the pod that probes one generation of a Source or Sink, and of what belongs to it.
pub(crate) fn probe_pod(kind: &str, name: &str, generation: i64) -> String {
    format!("{}-{name}-probe-{generation}", kind.to_lowercase())
}

/// Eight hex digits.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).iter().take(4).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Metadata of an owned object.
pub(crate) fn meta(owner: &Owner, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.key.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner.reference.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_what_kubernetes_takes() {
        let longest = "p".repeat(52);
        assert!(job_config_map(&longest, &"f".repeat(16)).len() <= 253);
        assert!(check_pod(&longest, &"f".repeat(16), "image", Some(&"f".repeat(16))).len() <= 253);
        assert!(check_config_map(&longest, &"f".repeat(16), Some(&"f".repeat(16))).len() <= 253);
        assert!(probe_pod("Source", &"s".repeat(63), i64::MAX).len() <= 253);
        for (key, value) in pipeline_labels(&longest, Component::Worker) {
            assert!(value.len() <= 63, "{key}");
        }
    }

    #[test]
    fn the_selector_finds_workers_only() {
        let selects = |component| {
            let labels = pipeline_labels("edge", component);
            worker_selector("edge").iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        assert!(selects(Component::Worker));
        assert!(!selects(Component::Check));
        assert_eq!(
            selector_text(&worker_selector("edge")),
            "app.kubernetes.io/component=worker,app.kubernetes.io/name=millrace,millrace.dev/pipeline=edge"
        );
    }
}
