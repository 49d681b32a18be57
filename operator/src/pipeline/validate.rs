//! Validating: from a Pipeline and what it refers to, to values that the API server will not refuse. Later steps never see the raw spec. It looks nothing up.
//!
//! The CRD's rules say most of this too; here it holds even for objects that are older than a rule.

use std::collections::BTreeSet;

use millrace_crds::Pipeline;
use millrace_crds::job::{Job, StateLocation};
use millrace_crds::pipeline::{DesiredState, LogLevel, Workload};
use millrace_crds::report::Problem;
use millrace_crds::resolve::{self, References, resolve};
use serde_json::Value;

use crate::names::Owner;
use crate::settings::Settings;

/// Annotations that once set, or still set, the security profile of a container: the operator alone does that.
const PROFILE_ANNOTATIONS: [&str; 3] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];

/// Labels that the operator sets.
const OWN_LABELS: [&str; 5] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
];

/// A Pipeline that can be built from.
#[derive(Clone, Debug)]
pub(crate) struct Validated {
    /// The Pipeline as owner.
    pub(crate) owner: Owner,
    /// What it should be doing.
    pub(crate) desired: DesiredState,
    /// How many workers when it runs.
    pub(crate) replicas: i32,
    /// What surrounds the Job in a pod.
    pub(crate) shell: Shell,
    /// What should run.
    pub(crate) target: Target,
}

/// What surrounds the Job in a pod.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    /// Image of the workers.
    pub(crate) image: String,
    /// When it is pulled.
    pub(crate) pull_policy: String,
    /// Where workers report.
    pub(crate) report_url: String,
    /// The user's service account; `None`: one of our own.
    pub(crate) service_account: Option<String>,
    /// Value of `RUST_LOG`.
    pub(crate) log_level: &'static str,
    /// The user's wishes for pods.
    pub(crate) workload: Workload,
}

/// What should run.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// This Job.
    Ready(Box<Ready>),
    /// Something that is referred to does not exist.
    Missing(Vec<resolve::Error>),
    /// The spec cannot run as it is.
    Invalid(Vec<Problem>),
}

/// A Job with what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// The Job.
    pub(crate) job: Job,
    /// Its revision.
    pub(crate) revision: String,
    /// Names of the Secrets that it refers to.
    pub(crate) secrets: BTreeSet<String>,
}

impl Target {
    /// The Job, if it can run.
    pub(crate) fn ready(&self) -> Option<&Ready> {
        match self {
            Self::Ready(ready) => Some(ready),
            Self::Missing(_) | Self::Invalid(_) => None,
        }
    }
}

/// Validates.
pub(crate) fn validate(pipeline: &Pipeline, owner: Owner, references: &References, settings: &Settings) -> Validated {
    let spec = &pipeline.spec;
    let workload = spec.workload.clone().unwrap_or_default();
    Validated {
        owner,
        desired: spec.desired_state,
        replicas: spec.scale.as_ref().and_then(|scale| scale.replicas).unwrap_or(1).max(0),
        target: target(pipeline, &workload, references, settings),
        shell: Shell {
            image: settings.worker_image.clone(),
            pull_policy: settings.worker_image_pull_policy.clone(),
            report_url: settings.report_url.clone(),
            service_account: spec.service_account_name.clone(),
            log_level: log_level(spec.observability.as_ref().map(|o| o.log_level).unwrap_or_default()),
            workload,
        },
    }
}

fn target(pipeline: &Pipeline, workload: &Workload, references: &References, settings: &Settings) -> Target {
    let mut problems = workload_problems(workload);
    let default = settings.default_state();
    if resolve::state_location(&pipeline.spec).is_none() && default.is_none() {
        problems.push(problem(
            "state",
            "there is nowhere to keep checkpoints: the Pipeline has no spec.state.location, and the operator was installed without a default location",
            "set spec.state.location, for example s3://bucket/prefix",
        ));
    }
    // Without a default the Pipeline has its own state, or was refused above: the value is never used.
    let default = default.unwrap_or_else(|| StateLocation { location: String::new(), aws: None });
    match resolve(pipeline, references, &default) {
        Ok(job) if problems.is_empty() => Target::Ready(Box::new(Ready { revision: job.revision(), secrets: secrets(&job), job })),
        Ok(_) => Target::Invalid(problems),
        Err(errors) => {
            let (missing, unusable): (Vec<_>, Vec<_>) =
                errors.into_iter().partition(|error| matches!(error, resolve::Error::NotFound { .. }));
            problems.extend(unusable.iter().map(unusable_reference));
            if problems.is_empty() { Target::Missing(missing) } else { Target::Invalid(problems) }
        }
    }
}

fn unusable_reference(error: &resolve::Error) -> Problem {
    let (kind, name) = match error {
        resolve::Error::NotFound { kind, name, .. }
        | resolve::Error::NotOneConnector { kind, name }
        | resolve::Error::RelativePath { kind, name, .. } => (kind, name),
    };
    Problem { reason: "PlanInvalid".to_owned(), location: format!("{kind} {name}"), message: error.to_string(), hint: None }
}

/// What users may not set, because pods are hardened after merging their wishes.
fn workload_problems(workload: &Workload) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in workload.env.iter().map(|variable| &variable.name).filter(|name| name.starts_with("MILLRACE_")) {
        problems.push(problem("workload.env", &format!("the variable {name} is the operator's"), "remove it"));
    }
    for label in workload.pod_labels.keys().filter(|label| label.starts_with("millrace.dev/") || OWN_LABELS.contains(&label.as_str())) {
        problems.push(problem("workload.podLabels", &format!("the label {label} is the operator's"), "remove it"));
    }
    for annotation in workload.pod_annotations.keys() {
        let profile = PROFILE_ANNOTATIONS.iter().any(|prefix| annotation.starts_with(prefix));
        if profile || annotation.starts_with("millrace.dev/") {
            problems.push(problem("workload.podAnnotations", &format!("the annotation {annotation} is the operator's"), "remove it"));
        }
    }
    for volume in &workload.volumes {
        if volume.persistent_volume_claim.is_some() == volume.config_map.is_some() {
            let message = format!("the volume {} must have exactly one of persistentVolumeClaim and configMap", volume.name);
            problems.push(problem("workload.volumes", &message, "set one of them"));
        }
        if hides_ours(&volume.mount_path) {
            let message = format!("the mountPath {} would hide a directory of the worker or the system", volume.mount_path);
            problems.push(problem("workload.volumes", &message, "mount it elsewhere, for example below /data"));
        }
    }
    problems
}

/// Directories that the worker or the system needs.
fn hides_ours(path: &str) -> bool {
    const EXACT: [&str; 4] = ["/", "/etc", "/tmp", "/var"];
    const BELOW: [&str; 13] = [
        "/bin",
        "/dev",
        "/etc/millrace",
        "/etc/ssl",
        "/lib",
        "/lib64",
        "/proc",
        "/run",
        "/sbin",
        "/sys",
        "/usr",
        "/var/run",
        "/var/lib/kubelet",
    ];
    let path = path.trim_end_matches('/');
    let path = if path.is_empty() { "/" } else { path };
    let relative = !path.starts_with('/') || path.split('/').any(|part| matches!(part, "." | ".."));
    relative
        || EXACT.contains(&path)
        || BELOW.iter().any(|dir| path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn problem(location: &str, message: &str, hint: &str) -> Problem {
    Problem { reason: "PlanInvalid".to_owned(), location: location.to_owned(), message: message.to_owned(), hint: Some(hint.to_owned()) }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

/// Names of all Secrets that a document refers to: every `secretRef` in it, whatever the connector.
pub(crate) fn secrets(document: &impl serde::Serialize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // What cannot be serialized refers to nothing; these types always can.
    if let Ok(value) = serde_json::to_value(document) {
        collect(&value, &mut names);
    }
    names
}

fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            names.extend(fields.get("secretRef").and_then(|reference| reference["name"].as_str()).map(str::to_owned));
            fields.values().for_each(|value| collect(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixtures::{edge, references};
    use crate::settings::tests::settings;

    fn validated(change: impl FnOnce(&mut Pipeline)) -> Validated {
        let mut pipeline = edge();
        change(&mut pipeline);
        let owner = Owner::of(&pipeline).unwrap();
        validate(&pipeline, owner, &references(), &settings())
    }

    fn first_problem(change: impl FnOnce(&mut Workload)) -> String {
        let target = validated(|pipeline| change(pipeline.spec.workload.get_or_insert_default())).target;
        match target {
            Target::Invalid(problems) => format!("{}: {}", problems[0].location, problems[0].message),
            Target::Ready(_) | Target::Missing(_) => panic!("{target:?}"),
        }
    }

    #[test]
    fn a_good_pipeline_becomes_a_job_with_its_secrets() {
        let validated = validated(|_| {});
        let ready = validated.target.ready().unwrap();
        assert_eq!(ready.revision, ready.job.revision());
        assert_eq!(ready.secrets, ["aws-keys".to_owned(), "search-login".to_owned()].into());
        assert_eq!((validated.replicas, validated.desired), (2, DesiredState::Running));
    }

    #[test]
    fn what_does_not_exist_is_missing_not_invalid() {
        let target = validated(|pipeline| pipeline.spec.inputs[0].source_ref.name = "gone".into()).target;
        assert!(matches!(&target, Target::Missing(errors) if errors.len() == 1), "{target:?}");
    }

    #[test]
    fn without_any_place_for_checkpoints_it_is_refused() {
        let mut pipeline = edge();
        pipeline.spec.state = None;
        let owner = Owner::of(&pipeline).unwrap();
        let mut settings = settings();
        assert!(validate(&pipeline, owner.clone(), &references(), &settings).target.ready().is_some());
        settings.default_state_location = String::new();
        let target = validate(&pipeline, owner, &references(), &settings).target;
        assert!(matches!(&target, Target::Invalid(problems) if problems[0].location == "state"), "{target:?}");
    }

    #[test]
    fn each_escape_from_the_hardened_pod_is_refused() {
        let annotate = |key: &'static str| move |w: &mut Workload| drop(w.pod_annotations.insert(key.into(), "unconfined".into()));
        for key in
            ["container.apparmor.security.beta.kubernetes.io/worker", "seccomp.security.alpha.kubernetes.io/pod", "millrace.dev/revision"]
        {
            assert!(first_problem(annotate(key)).starts_with("workload.podAnnotations"), "{key}");
        }
        assert!(
            first_problem(|w| drop(w.pod_labels.insert("millrace.dev/pipeline".into(), "other".into()))).starts_with("workload.podLabels")
        );
        assert!(
            first_problem(|w| drop(w.pod_labels.insert("app.kubernetes.io/part-of".into(), "x".into()))).starts_with("workload.podLabels")
        );
        let env = serde_json::from_value(serde_json::json!({"name": "MILLRACE_OPERATOR_URL", "value": "http://evil"})).unwrap();
        assert!(first_problem(|w| w.env.push(env)).starts_with("workload.env"));
        for path in [
            "/",
            "/etc",
            "/etc/millrace",
            "/etc/millrace/secrets",
            "/var/run/secrets/millrace",
            "/tmp",
            "/proc",
            "/usr/local/bin",
            "data",
            "/data/../etc/ssl",
        ] {
            let volume = serde_json::from_value(serde_json::json!({"name": "v", "mountPath": path, "configMap": {"name": "c"}})).unwrap();
            assert!(first_problem(|w| w.volumes.push(volume)).starts_with("workload.volumes"), "{path}");
        }
        assert!(!hides_ours("/data") && !hides_ours("/etcetera") && !hides_ours("/var/data") && !hides_ours("/tmp/x"));
    }
}
