//! The ConfigMap with a Job. It is immutable: another Job is another ConfigMap. It holds no secret, because a Job holds none.

use k8s_openapi::api::core::v1::ConfigMap;
use millrace_crds::job::Job;

use super::super::validate::{Ready, Validated};
use crate::names::{self, Component, REVISION};

/// Where it is mounted.
pub(super) const JOB_DIR: &str = "/etc/millrace/job";
/// Its one key.
pub(super) const JOB_FILE: &str = "job.json";

/// Builds that of the workers, which run no tests.
pub(super) fn build(validated: &Validated, ready: &Ready) -> ConfigMap {
    let name = names::job_config_map(&validated.owner.key.name, &ready.revision);
    with(validated, ready, name, &ready.job.without_tests())
}

/// Builds that of the check pod.
pub(super) fn with_tests(validated: &Validated, ready: &Ready) -> ConfigMap {
    let name = names::check_config_map(&validated.owner.key.name, &ready.revision, ready.tests.as_deref());
    with(validated, ready, name, &ready.job)
}

fn with(validated: &Validated, ready: &Ready, name: String, job: &Job) -> ConfigMap {
    let pipeline = &validated.owner.key.name;
    let mut labels = names::pipeline_labels(pipeline, Component::Worker);
    labels.insert(REVISION.to_owned(), ready.revision.clone());
    let job = serde_json::to_string_pretty(job).expect("a Job has only string keys");
    ConfigMap {
        metadata: names::meta(&validated.owner, name, labels),
        data: Some([(JOB_FILE.to_owned(), job)].into()),
        immutable: Some(true),
        binary_data: None,
    }
}
