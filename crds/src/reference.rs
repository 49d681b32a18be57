//! References from one object to another, always by name within the namespace. Nothing is resolved here.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Reference to an object of this namespace by name.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Name of the object, in the namespace of the one that refers to it.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Reference to a Secret of this namespace; which keys it must hold stands at the field that refers to it.
///
/// Workers mount the Secret as files, so a rotated value is picked up without a restart. The operator never reads it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}
