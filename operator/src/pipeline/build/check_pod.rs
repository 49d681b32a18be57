//! The pod that checks a Job in the image that will run it, and runs its tests. It connects to nothing, so it gets no Secret and no identity.

use k8s_openapi::api::core::v1::Pod;

use super::super::rollout::State;
use super::super::validate::{Ready, Validated};
use super::config_map::{JOB_DIR, JOB_FILE};
use super::pod;
use crate::names::{self, Component, REVISION};

/// The kubelet ends it after so many seconds.
const DEADLINE_SECONDS: i64 = 120;

/// Builds it. `state` is what the state of what runs is made of, if that is known.
pub(super) fn build(validated: &Validated, ready: &Ready, state: Option<&State>) -> Pod {
    let pipeline = &validated.owner.key.name;
    let shell = &validated.shell;
    let workload = &shell.workload;
    let job = names::check_config_map(pipeline, &ready.revision, ready.tests.as_deref());
    let mut args =
        ["check", "--job", &format!("{JOB_DIR}/{JOB_FILE}"), "--termination-message", pod::TERMINATION_MESSAGE].map(str::to_owned).to_vec();
    if let Some(state) = state {
        args.extend(["--running-state".to_owned(), serde_json::to_string(state).expect("a map of texts is JSON")]);
    }
    let mut spec = pod::harden(pod::Draft {
        container: "check",
        image: &shell.image,
        pull_policy: &shell.pull_policy,
        args,
        env: Vec::new(),
        resources: pod::one_shot_resources(),
        service_account: None,
        image_pull_secrets: workload.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        volumes: vec![pod::config_map_volume("job", &job, JOB_DIR)],
    });
    spec.restart_policy = Some("Never".to_owned());
    spec.active_deadline_seconds = Some(DEADLINE_SECONDS);
    spec.node_selector = (!workload.node_selector.is_empty()).then(|| workload.node_selector.clone());
    spec.tolerations = (!workload.tolerations.is_empty()).then(|| workload.tolerations.clone());
    let name = names::check_pod(pipeline, &ready.revision, &shell.image, ready.tests.as_deref());
    let mut metadata = names::meta(&validated.owner, name, names::pipeline_labels(pipeline, Component::Check));
    metadata.annotations = Some([(REVISION.to_owned(), ready.revision.clone())].into());
    Pod { metadata, spec: Some(spec), status: None }
}
