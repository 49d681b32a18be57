//! The Deployment of the workers. Whether it is to be written at all is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, ServiceAccountTokenProjection,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use millrace_crds::pipeline;
use millrace_crds::report::TOKEN_AUDIENCE;

use super::super::rollout::{State, Workers};
use super::super::validate::{Ready, Shell, Validated};
use super::config_map::{JOB_DIR, JOB_FILE};
use super::{pod, service_account};
use crate::names::{self, Component, DRAINED, IMAGE, REVISION, STATE, TESTS};

/// Port of health and metrics, by number and name.
pub(super) const HTTP_PORT: (i32, &str) = (8080, "http");
/// Time for closing a last epoch: the worker uses all but five seconds of it.
const GRACE_SECONDS: i64 = 30;
/// Lifetime of the token that proves who reports; the kubelet renews it.
const TOKEN_SECONDS: i64 = 3600;
/// Where workers look for it; no volume of the user is mounted there.
const SPILL_DIR: &str = "/run/millrace/spill";
/// What a file system takes beside the bytes of some thousand files.
const SPILL_SLACK: u64 = 64 << 20;
const TOKEN_DIR: &str = "/var/run/secrets/millrace";

/// Builds it. `state` is what the state of this revision is made of, if that is known.
pub(super) fn build(validated: &Validated, ready: &Ready, workers: Workers, state: Option<&State>) -> Deployment {
    let pipeline = &validated.owner.key.name;
    let shell = &validated.shell;
    let selector = names::worker_selector(pipeline);
    let labels = names::pipeline_labels(pipeline, Component::Worker);
    let mut metadata = names::meta(&validated.owner, pipeline.clone(), labels.clone());
    let mut own = annotations([(REVISION, &ready.revision), (IMAGE, &shell.image), (DRAINED, &workers.drained.to_string())]);
    own.extend(ready.tests.clone().map(|tests| (TESTS.to_owned(), tests)));
    own.extend(state.map(|state| (STATE.to_owned(), serde_json::to_string(state).expect("a map of texts is JSON"))));
    metadata.annotations = Some(own);
    let own = annotations([(REVISION, &ready.revision), ("kubectl.kubernetes.io/default-container", "worker")]);
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(workers.replicas),
            revision_history_limit: Some(2),
            progress_deadline_seconds: Some(600),
            selector: names::label_selector(selector.clone()),
            // No surge: a second pod would only wait for what the first still holds.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(0)),
                    max_unavailable: Some(IntOrString::String("25%".to_owned())),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    // The user's first, so that ours win.
                    labels: Some(shell.workload.pod_labels.clone().into_iter().chain(labels).collect()),
                    annotations: Some(shell.workload.pod_annotations.clone().into_iter().chain(own).collect()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(validated, ready, &selector)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod_spec(validated: &Validated, ready: &Ready, selector: &BTreeMap<String, String>) -> PodSpec {
    let shell = &validated.shell;
    let workload = &shell.workload;
    let job = names::job_config_map(&validated.owner.key.name, &ready.revision);
    let mut volumes = vec![pod::config_map_volume("job", &job, JOB_DIR), token()];
    volumes.extend(pod::secret_volumes(&ready.secrets));
    volumes.extend(spill(ready.job.limits.spill_bytes()));
    volumes.extend(workload.volumes.iter().map(user_volume));
    let default = || pod::resources([("cpu", "100m"), ("memory", "128Mi")], [("cpu", "1"), ("memory", "512Mi")]);
    let mut spec = pod::harden(pod::Draft {
        container: "worker",
        image: &shell.image,
        pull_policy: &shell.pull_policy,
        args: vec!["worker".to_owned(), "--job".to_owned(), format!("{JOB_DIR}/{JOB_FILE}")],
        env: env(shell),
        resources: workload.resources.clone().unwrap_or_else(default),
        service_account: Some(service_account::name(validated)),
        image_pull_secrets: workload.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        volumes,
    });
    for container in &mut spec.containers {
        let port = ContainerPort {
            container_port: HTTP_PORT.0,
            name: Some(HTTP_PORT.1.to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        };
        container.ports = Some(vec![port]);
        container.liveness_probe = Some(probe("/healthz", 10, 6));
        container.readiness_probe = Some(probe("/readyz", 5, 3));
    }
    spec.termination_grace_period_seconds = Some(GRACE_SECONDS);
    spec.node_selector = (!workload.node_selector.is_empty()).then(|| workload.node_selector.clone());
    spec.tolerations = (!workload.tolerations.is_empty()).then(|| workload.tolerations.clone());
    spec.priority_class_name.clone_from(&workload.priority_class_name);
    spec.topology_spread_constraints =
        Some(["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(|key| spread(key, selector.clone())).into());
    spec
}

/// Ours, then the user's; a variable of the same name is the user's, except for `MILLRACE_…`, which validation has refused.
fn env(shell: &Shell) -> Vec<EnvVar> {
    let value = |name: &str, value: &str| EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None };
    let ours = [
        value("MILLRACE_OPERATOR_URL", &shell.report_url),
        from_field("MILLRACE_WORKER_NAME", "metadata.name"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
        value("RUST_LOG", shell.log_level),
    ];
    let users: BTreeSet<&str> = shell.workload.env.iter().map(|variable| variable.name.as_str()).collect();
    let ours = ours.into_iter().filter(|variable| !users.contains(variable.name.as_str()));
    ours.chain(shell.workload.env.iter().cloned()).collect()
}

fn from_field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: None };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }) }
}

/// Disk for state that has no room in memory. Its bound is that of the worker and some more: whoever reaches it is evicted, while the worker says what to do.
fn spill(bytes: u64) -> Option<(Volume, VolumeMount)> {
    if bytes == 0 {
        return None;
    }
    let limit = bytes + bytes / 8 + SPILL_SLACK;
    let source = EmptyDirVolumeSource { size_limit: Some(Quantity(limit.to_string())), medium: None };
    let volume = Volume { name: "spill".to_owned(), empty_dir: Some(source), ..Volume::default() };
    Some((volume, VolumeMount { name: "spill".to_owned(), mount_path: SPILL_DIR.to_owned(), ..VolumeMount::default() }))
}

fn token() -> (Volume, VolumeMount) {
    let token = ServiceAccountTokenProjection {
        audience: Some(TOKEN_AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    let projection = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    let projected = ProjectedVolumeSource { default_mode: Some(pod::READ_ONLY_MODE), sources: Some(vec![projection]) };
    pod::mounted(Volume { name: "token".to_owned(), projected: Some(projected), ..Volume::default() }, TOKEN_DIR.to_owned())
}

/// The user's volume under a name that none of ours has.
fn user_volume(volume: &pipeline::VolumeMount) -> (Volume, VolumeMount) {
    let name = format!("user-{}", volume.name);
    let claim = volume.persistent_volume_claim.as_ref();
    let built = Volume {
        name: name.clone(),
        persistent_volume_claim: claim.map(|claim| PersistentVolumeClaimVolumeSource { claim_name: claim.name.clone(), read_only: None }),
        config_map: volume
            .config_map
            .as_ref()
            .map(|map| ConfigMapVolumeSource { name: map.name.clone(), ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    };
    let mount =
        VolumeMount { name, mount_path: volume.mount_path.clone(), read_only: claim.is_none().then_some(true), ..VolumeMount::default() };
    (built, mount)
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    let get = HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::String(HTTP_PORT.1.to_owned()), ..HTTPGetAction::default() };
    Probe {
        http_get: Some(get),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Workers on different nodes and in different zones, if there are any.
fn spread(key: &str, selector: BTreeMap<String, String>) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(names::label_selector(selector)),
        ..TopologySpreadConstraint::default()
    }
}

fn annotations<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
