//! What all AWS connectors share: region, endpoint, identity. It never holds a secret, only references.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::reference::SecretRef;

/// How to reach an AWS service and as whom.
///
/// Empty means the standard chain of the AWS SDKs: environment, web identity (IRSA), container credentials
/// (Pod Identity), profile files, instance metadata; the region and `AWS_ENDPOINT_URL` likewise.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsAccess {
    /// Region, for example `eu-west-1`. Default: the standard chain (`AWS_REGION`, profile); for a queue, the one in its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// Endpoint instead of AWS's own, for example `http://localhost:5000`. Default: `AWS_ENDPOINT_URL_<SERVICE>`, `AWS_ENDPOINT_URL`, AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://.+"))]
    #[x_kube(validation = Rule::new("!self.matches('^https?://[^/]*@')").message("put no credentials into a URL: use secretRef"))]
    pub endpoint: Option<String>,
    /// Secret with the keys `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if temporary, `AWS_SESSION_TOKEN`.
    /// Default: the standard chain, which on a cluster is the identity of the service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}
