//! `spec.workload`: how worker pods are scheduled and what they get. Pods are built by the operator, not here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements, Toleration};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::reference::ObjectRef;

/// How worker pods are scheduled and what they get.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// CPU and memory. Default: requests of 100m and 128Mi, limits of 1 CPU and 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// More labels of the pods, apart from those that the operator sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('millrace.dev/') && !(k in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/managed-by']))").message("labels millrace.dev/… and app.kubernetes.io/name, instance, component and managed-by are set by the operator: remove them"))]
    pub pod_labels: BTreeMap<String, String>,
    /// More annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('millrace.dev/'))").message("annotations millrace.dev/… are set by the operator: remove them"))]
    pub pod_annotations: BTreeMap<String, String>,
    /// More environment variables, for example `AWS_ENDPOINT_URL`. Names that start with `MILLRACE_` are the operator's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(e, !e.name.startsWith('MILLRACE_'))").message("names that start with MILLRACE_ are set by the operator: remove them"),
    )]
    pub env: Vec<EnvVar>,
    /// Volumes for `files` connectors and `file://` state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(v, self.exists_one(other, other.mountPath == v.mountPath))").message("two volumes have the same mountPath: give each its own"),
    )]
    pub volumes: Vec<VolumeMount>,
    /// Secrets of this namespace with registry credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ObjectRef>,
}

/// A volume and where it is mounted. Exactly one of the claims.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.persistentVolumeClaim) != has(self.configMap)").message("exactly one of persistentVolumeClaim and configMap must be set"))]
pub struct VolumeMount {
    /// Name of the volume.
    #[schemars(length(min = 1, max = 50), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Absolute path in the worker. Not `/etc`, `/var` or `/tmp` themselves, nor anything in `/etc/millrace`, `/etc/ssl`, `/var/run`, `/run`, `/proc`, `/sys`, `/dev`, `/usr`, `/bin`, `/sbin`, `/lib`.
    #[schemars(length(min = 2, max = 256), regex(pattern = "^(/[A-Za-z0-9_.-]+)+$"))]
    #[x_kube(
        validation = Rule::new("!self.matches('^/(bin|dev|lib|lib64|proc|run|sbin|sys|usr|etc/millrace|etc/ssl|var/run)(/|$)|^/(etc|tmp|var)$')").message("mountPath would hide a directory that the worker or the system needs: mount it elsewhere, for example below /data"),
        validation = Rule::new("!self.matches('/[.]{1,2}(/|$)')").message("mountPath must not hold . or .. as a folder"),
    )]
    pub mount_path: String,
    /// A PersistentVolumeClaim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ObjectRef>,
    /// A ConfigMap of this namespace, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ObjectRef>,
}
