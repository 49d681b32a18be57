//! Credentials: those of a Secret for the SDK, and any of the SDK's for object_store. They are asked for again as they rotate and never logged.

#![expect(clippy::disallowed_methods, reason = "credentials expire by the wall clock")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result as CredentialsResult, SharedCredentialsProvider, future};
use millrace_crds::reference::SecretRef;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use crate::context::Context;

/// For how long the keys of a Secret, or any that do not say when they expire, are used before they are asked for again.
const REREAD: Duration = Duration::from_secs(60);
/// Temporary credentials are renewed this long before they expire.
const AHEAD: Duration = Duration::from_secs(120);

/// The keys of a Secret.
#[derive(Debug)]
pub(super) struct SecretIdentity {
    secret: SecretRef,
    context: Context,
}

impl SecretIdentity {
    pub(super) fn new(secret: SecretRef, context: Context) -> Self {
        Self { secret, context }
    }

    fn read(&self) -> CredentialsResult {
        let key = |name| self.context.secret(&self.secret, name).map_err(CredentialsError::invalid_configuration);
        let token = self.context.optional_secret(&self.secret, "AWS_SESSION_TOKEN").map_err(CredentialsError::invalid_configuration)?;
        let expiry = SystemTime::now() + REREAD;
        let (id, secret) = (key("AWS_ACCESS_KEY_ID")?, key("AWS_SECRET_ACCESS_KEY")?);
        Ok(Credentials::new(id, secret, token, Some(expiry), "Secret"))
    }
}

impl ProvideCredentials for SecretIdentity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read())
    }
}

/// Any provider of the SDK, for object_store.
#[derive(Debug)]
pub(super) struct StoreIdentity {
    provider: SharedCredentialsProvider,
    cached: Mutex<Option<Cached>>,
}

#[derive(Debug)]
struct Cached {
    credential: Arc<AwsCredential>,
    until: SystemTime,
}

impl StoreIdentity {
    pub(super) fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, cached: Mutex::new(None) }
    }
}

#[async_trait]
impl CredentialProvider for StoreIdentity {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        let now = SystemTime::now();
        if let Some(known) = cached.as_ref().filter(|known| now < known.until) {
            return Ok(Arc::clone(&known.credential));
        }
        let fresh = self
            .provider
            .provide_credentials()
            .await
            .map_err(|error| object_store::Error::Unauthenticated { path: String::new(), source: Box::new(error) })?;
        let until = match fresh.expiry() {
            // Short-lived ones (of a Secret) are used until they expire.
            Some(expiry) => expiry.checked_sub(AHEAD).filter(|early| *early > now).unwrap_or(expiry),
            None => now + REREAD,
        };
        let credential = Arc::new(AwsCredential {
            key_id: fresh.access_key_id().to_owned(),
            secret_key: fresh.secret_access_key().to_owned(),
            token: fresh.session_token().map(str::to_owned),
        });
        *cached = Some(Cached { credential: Arc::clone(&credential), until });
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ResolvedLimits;
    use millrace_crds::pipeline::Limits;

    #[tokio::test]
    async fn a_rotated_secret_takes_effect_and_a_missing_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("aws");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("AWS_ACCESS_KEY_ID"), "first\n").unwrap();
        let context = Context { secrets_dir: dir.path().to_owned(), limits: ResolvedLimits::from(&Limits::default()) };
        let identity = SecretIdentity::new(SecretRef { name: "aws".to_owned() }, context);

        let error = identity.provide_credentials().await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("AWS_SECRET_ACCESS_KEY") && cause.contains("\"aws\""), "{cause}");

        std::fs::write(folder.join("AWS_SECRET_ACCESS_KEY"), "s3cret").unwrap();
        assert_eq!(identity.provide_credentials().await.unwrap().access_key_id(), "first");
        std::fs::write(folder.join("AWS_ACCESS_KEY_ID"), "second").unwrap();
        assert_eq!(identity.provide_credentials().await.unwrap().access_key_id(), "second");
    }
}
