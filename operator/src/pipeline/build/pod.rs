//! What all our pods share: they are PSS restricted, have no token of the API server, and mount Secrets by reference. No pod is hardened anywhere else.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, PodSecurityContext, PodSpec,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// User and group of every process: "nonroot" of distroless images.
const UID: i64 = 65532;
/// Folder with a folder for each Secret.
const SECRETS_DIR: &str = "/etc/millrace/secrets";
/// Read by the group only: octal 0440.
pub(crate) const READ_ONLY_MODE: i32 = 0o440;
/// Where a container leaves its last words.
pub(crate) const TERMINATION_MESSAGE: &str = "/dev/termination-log";

/// What a pod of ours runs.
pub(crate) struct Draft<'a> {
    /// Name of the container.
    pub(crate) container: &'a str,
    /// Image.
    pub(crate) image: &'a str,
    /// When it is pulled.
    pub(crate) pull_policy: &'a str,
    /// Arguments of `millrace`.
    pub(crate) args: Vec<String>,
    /// Environment.
    pub(crate) env: Vec<EnvVar>,
    /// CPU and memory.
    pub(crate) resources: ResourceRequirements,
    /// Service account; `None`: the namespace's default, whose token is not mounted either.
    pub(crate) service_account: Option<String>,
    /// Secrets with registry credentials.
    pub(crate) image_pull_secrets: Vec<String>,
    /// Volumes, each with where it is mounted.
    pub(crate) volumes: Vec<(Volume, VolumeMount)>,
}

/// A pod spec, hardened.
pub(crate) fn harden(draft: Draft<'_>) -> PodSpec {
    let tmp = (
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(Quantity("1Gi".to_owned())), medium: None }),
            ..Volume::default()
        },
        VolumeMount { name: "tmp".to_owned(), mount_path: "/tmp".to_owned(), ..VolumeMount::default() },
    );
    let (volumes, mounts): (Vec<_>, Vec<_>) = draft.volumes.into_iter().chain([tmp]).unzip();
    let pull_secrets: Vec<_> = draft.image_pull_secrets.into_iter().map(|name| LocalObjectReference { name }).collect();
    PodSpec {
        service_account_name: draft.service_account,
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            run_as_group: Some(UID),
            fs_group: Some(UID),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: draft.container.to_owned(),
            image: Some(draft.image.to_owned()),
            image_pull_policy: Some(draft.pull_policy.to_owned()),
            args: Some(draft.args),
            env: (!draft.env.is_empty()).then_some(draft.env),
            resources: Some(draft.resources),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
                privileged: Some(false),
                read_only_root_filesystem: Some(true),
                run_as_non_root: Some(true),
                ..SecurityContext::default()
            }),
            termination_message_path: Some(TERMINATION_MESSAGE.to_owned()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Secrets as folders of files. They are optional: the worker says which is missing, and the kubelet fills it in when it appears.
pub(crate) fn secret_volumes<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<(Volume, VolumeMount)> {
    let volume = |(index, name): (usize, &String)| {
        let volume = format!("secret-{index}");
        let source = SecretVolumeSource {
            secret_name: Some(name.clone()),
            optional: Some(true),
            default_mode: Some(READ_ONLY_MODE),
            ..SecretVolumeSource::default()
        };
        mounted(Volume { name: volume, secret: Some(source), ..Volume::default() }, format!("{SECRETS_DIR}/{name}"))
    };
    names.into_iter().enumerate().map(volume).collect()
}

/// A ConfigMap as folder.
pub(crate) fn config_map_volume(volume: &str, config_map: &str, path: &str) -> (Volume, VolumeMount) {
    let source =
        ConfigMapVolumeSource { name: config_map.to_owned(), default_mode: Some(READ_ONLY_MODE), ..ConfigMapVolumeSource::default() };
    mounted(Volume { name: volume.to_owned(), config_map: Some(source), ..Volume::default() }, path.to_owned())
}

/// A volume mounted read-only.
pub(crate) fn mounted(volume: Volume, path: String) -> (Volume, VolumeMount) {
    let mount = VolumeMount { name: volume.name.clone(), mount_path: path, read_only: Some(true), ..VolumeMount::default() };
    (volume, mount)
}

/// CPU and memory, requested and at most.
pub(crate) fn resources(requests: [(&str, &str); 2], limits: [(&str, &str); 2]) -> ResourceRequirements {
    let map = |pairs: [(&str, &str); 2]| -> BTreeMap<String, Quantity> {
        pairs.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).collect()
    };
    ResourceRequirements { requests: Some(map(requests)), limits: Some(map(limits)), claims: None }
}

/// What a pod that runs once gets.
pub(crate) fn one_shot_resources() -> ResourceRequirements {
    resources([("cpu", "50m"), ("memory", "64Mi")], [("cpu", "1"), ("memory", "256Mi")])
}
