//! The ServiceAccount of a Pipeline's workers. It has no rights and its token is not mounted: it is an identity for clouds and for reports.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::super::validate::Validated;
use crate::names::{self, Component};

/// Builds it.
pub(super) fn build(validated: &Validated) -> ServiceAccount {
    let pipeline = &validated.owner.key.name;
    ServiceAccount {
        metadata: names::meta(&validated.owner, pipeline.clone(), names::pipeline_labels(pipeline, Component::Worker)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Name of the service account that the workers use.
pub(super) fn name(validated: &Validated) -> String {
    validated.shell.service_account.clone().unwrap_or_else(|| validated.owner.key.name.clone())
}
