//! The SDK's configuration: the standard chain, loaded once for the process, and what a spec changes of it. It makes no request of its own.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls;
use millrace_crds::connectors::aws::AwsAccess;
use tokio::sync::OnceCell;

use super::identity::SecretIdentity;
use crate::context::Context;

/// Region that is signed for when nobody names one and the endpoint is not AWS's, which then does not care.
pub(super) const ANY_REGION: &str = "us-east-1";

/// The standard chain: environment, web identity, container credentials, profile, instance metadata. One for the process, so that
/// credentials are fetched and cached once.
static STANDARD: OnceCell<SdkConfig> = OnceCell::const_new();

/// The configuration for `access`; `region` is used if the spec names none.
pub(super) async fn sdk_config(access: &AwsAccess, region: Option<String>, context: &Context) -> SdkConfig {
    let standard = STANDARD.get_or_init(load_standard).await;
    let mut config = standard.to_builder();
    if let Some(region) = access.region.clone().or(region) {
        config = config.region(Region::new(region));
    }
    if let Some(secret) = &access.secret_ref {
        let identity = SecretIdentity::new(secret.clone(), context.clone());
        config = config.credentials_provider(SharedCredentialsProvider::new(identity));
    }
    config.build()
}

async fn load_standard() -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await
}

/// The endpoint that the environment (or a profile) sets for `service` (`S3`, `SQS`), if any.
pub(super) fn configured_endpoint(service: &str, config: &SdkConfig) -> Option<String> {
    std::env::var(format!("AWS_ENDPOINT_URL_{service}"))
        .ok()
        .filter(|url| !url.is_empty())
        .or_else(|| config.endpoint_url().map(str::to_owned))
}
