//! Who we are to a cluster, and which brokers to start from: options and what Secrets hold now. It connects to nothing and shows no secret.

use std::fmt;
use std::sync::Arc;

use millrace_crds::connectors::kafka::{KafkaAccess, SaslMechanism};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::context::Context;

/// All that is needed to connect. Two that are equal make the same connections.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Identity {
    /// `host:port`, comma-separated.
    pub(crate) bootstrap: String,
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Option<Login>,
}

/// TLS; names of hosts are always verified.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Tls {
    /// Certificates of the authorities, PEM; `None` for the system's.
    pub(crate) authorities: Option<String>,
    /// Our certificate and its key, PEM.
    pub(crate) certificate: Option<(String, String)>,
}

/// SASL.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Login {
    pub(crate) mechanism: SaslMechanism,
    pub(crate) username: String,
    pub(crate) password: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tls, mechanism) = (self.tls.is_some(), self.login.as_ref().map(|login| login.mechanism));
        formatter.debug_struct("Identity").field("bootstrap", &self.bootstrap).field("tls", &tls).field("login", &mechanism).finish()
    }
}

impl Identity {
    /// Reads the Secrets as they are now.
    ///
    /// # Errors
    /// `SecretMissing` if one is not there.
    pub(crate) fn read(access: &KafkaAccess, context: &Context) -> Result<Self, ConnectorError> {
        let tls = match &access.tls {
            None => None,
            Some(options) => Some(match &options.secret_ref {
                None => Tls::default(),
                Some(secret) => {
                    let certificate = match context.optional_secret(secret, "tls.crt")? {
                        None => None,
                        Some(certificate) => Some((certificate, context.secret(secret, "tls.key")?)),
                    };
                    Tls { authorities: Some(context.secret(secret, "ca.crt")?), certificate }
                }
            }),
        };
        let login = match &access.sasl {
            None => None,
            Some(sasl) => Some(Login {
                mechanism: sasl.mechanism,
                username: context.secret(&sasl.secret_ref, "username")?,
                password: context.secret(&sasl.secret_ref, "password")?,
            }),
        };
        Ok(Self { bootstrap: access.bootstrap_servers.clone(), tls, login })
    }
}

impl Tls {
    /// What the TLS library needs.
    ///
    /// # Errors
    /// `Invalid` if a certificate or key cannot be read.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, ConnectorError> {
        let invalid = |what: &str, error: String| ConnectorError::new(ErrorReason::Invalid, format!("TLS to Kafka: {what}: {error}"));
        let mut roots = RootCertStore::empty();
        if let Some(pem) = &self.authorities {
            for certificate in certificates(pem).map_err(|error| invalid("ca.crt of the Secret (PEM certificates)", error))? {
                roots.add(certificate).map_err(|error| invalid("ca.crt of the Secret", error.to_string()))?;
            }
        } else {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let error = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
                return Err(invalid("the system's certificate authorities (set tls.secretRef to name your own)", error));
            }
            // Systems have certificates of their own taste among them; those that cannot be read vouch for nobody.
            let _counts = roots.add_parsable_certificates(found.certs);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("its versions", error.to_string()))?
            .with_root_certificates(roots);
        let config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(chain).map_err(|error| invalid("tls.crt of the Secret (PEM certificates)", error))?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|error| invalid("tls.key of the Secret (an unencrypted key, PEM)", error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| invalid("tls.crt and tls.key of the Secret", error.to_string()))?
            }
        };
        Ok(Arc::new(config))
    }
}

/// The certificates in a text; at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(found)
}
