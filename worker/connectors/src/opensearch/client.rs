//! The connection to OpenSearch: address, TLS, login. It sends each request once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millrace_crds::connectors::opensearch::OpenSearchSink as Options;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use opensearch::auth::Credentials;
use opensearch::cert::{Certificate, CertificateValidation};
use opensearch::http::Method;
use opensearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use opensearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use url::Url;

use super::response::FILTER;
use crate::context::Context;

/// A bulk request without an answer for so long is sent again.
const BULK_TIMEOUT: Duration = Duration::from_mins(1);
/// For everything else.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection with the secrets as they were when it was made.
pub(super) struct Client {
    options: Options,
    context: Context,
    endpoint: Url,
    current: Mutex<Arc<Connection>>,
}

struct Connection {
    secrets: Secrets,
    transport: Transport,
}

#[derive(Eq, PartialEq)]
struct Secrets {
    ca: Option<String>,
    login: Option<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// How long the server asks us to wait.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Client {
    /// Reads the secrets. Connects to nothing.
    pub(super) fn new(options: &Options, context: &Context) -> Result<Self, ConnectorError> {
        let endpoint = endpoint(options)?;
        let connection = Connection::new(&endpoint, Secrets::read(options, context)?)?;
        Ok(Self { options: options.clone(), context: context.clone(), endpoint, current: Mutex::new(Arc::new(connection)) })
    }

    /// Reads the secrets again and, if they have changed, connects with them from now on.
    pub(super) fn renew(&self) -> Result<(), ConnectorError> {
        let secrets = Secrets::read(&self.options, &self.context)?;
        if self.current().secrets != secrets {
            let connection = Arc::new(Connection::new(&self.endpoint, secrets)?);
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = connection;
            tracing::info!(endpoint = %self.endpoint, "the secrets for OpenSearch have changed: connecting with the new ones");
        }
        Ok(())
    }

    /// Sends a bulk request.
    pub(super) async fn bulk(&self, body: Bytes) -> Result<Reply, ConnectorError> {
        self.send(Method::Post, "_bulk", Some(FILTER), Some(body), BULK_TIMEOUT).await
    }

    /// Asks who is there.
    pub(super) async fn hello(&self) -> Result<Reply, ConnectorError> {
        let reply = self.send(Method::Get, "", None, None, ASK_TIMEOUT).await;
        reply.map_err(|error| {
            ConnectorError::new(error.reason, format!("OpenSearch at {}: {}", self.endpoint, error.message)).caused_by(error)
        })
    }

    /// Where, for messages.
    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// As whom.
    pub(super) fn user(&self) -> Option<String> {
        self.current().secrets.login.as_ref().map(|(user, _)| user.clone())
    }

    fn current(&self) -> Arc<Connection> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: Option<&[(&str, &str)]>,
        body: Option<Bytes>,
        timeout: Duration,
    ) -> Result<Reply, ConnectorError> {
        let mut headers = HeaderMap::new();
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        }
        let connection = self.current();
        let sent = connection.transport.send(method, path, headers, query, body, Some(timeout)).await;
        let response = sent.map_err(unreachable)?;
        let status = response.status_code().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.bytes().await.map_err(unreachable)?;
        Ok(Reply { status, retry_after: retry_after.map(Duration::from_secs), body })
    }
}

/// No answer. The cause (refused, name, certificate, time-out) is at the bottom of the chain; the URL, which the top repeats, is said by who asks.
fn unreachable(error: opensearch::Error) -> ConnectorError {
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        let text = error.to_string();
        let text = text.split_once(" for url (").map_or(text.as_str(), |(before, _)| before).to_owned();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        cause = error.source();
    }
    ConnectorError::new(ErrorReason::Unreachable, format!("no answer: {}", causes.join(": "))).caused_by(error)
}

/// The URL of the cluster.
pub(super) fn endpoint(options: &Options) -> Result<Url, ConnectorError> {
    let invalid = |why: String| ConnectorError::new(ErrorReason::Invalid, format!("endpoint \"{}\" {why}", options.endpoint));
    let endpoint = Url::parse(&options.endpoint).map_err(|error| invalid(format!("is not a URL: {error}")))?;
    if !matches!(endpoint.scheme(), "http" | "https") {
        return Err(invalid("must start with http:// or https://".to_owned()));
    }
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        let message = "the endpoint holds credentials: put them into a Secret and use basicAuth.secretRef";
        return Err(ConnectorError::new(ErrorReason::Invalid, message));
    }
    Ok(endpoint)
}

impl Connection {
    fn new(endpoint: &Url, secrets: Secrets) -> Result<Self, ConnectorError> {
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(endpoint.clone()));
        if let Some(ca) = &secrets.ca {
            let certificates = Certificate::from_pem(ca.as_bytes()).map_err(|error| {
                ConnectorError::new(ErrorReason::Invalid, "ca.crt of tls.secretRef holds no PEM certificate that can be read")
                    .caused_by(error)
            })?;
            builder = builder.cert_validation(CertificateValidation::Full(certificates));
        }
        if let Some((user, password)) = &secrets.login {
            builder = builder.auth(Credentials::Basic(user.clone(), password.clone()));
        }
        let transport = builder
            .build()
            .map_err(|error| ConnectorError::new(ErrorReason::Invalid, "the HTTP client cannot be set up").caused_by(error))?;
        Ok(Self { secrets, transport })
    }
}

impl Secrets {
    fn read(options: &Options, context: &Context) -> Result<Self, ConnectorError> {
        let ca = options.tls.as_ref().map(|tls| context.secret(&tls.secret_ref, "ca.crt")).transpose()?;
        let login = options.basic_auth.as_ref().map(|login| {
            let secret = |key| context.secret(&login.secret_ref, key);
            Ok::<_, ConnectorError>((secret("username")?, secret("password")?))
        });
        Ok(Self { ca, login: login.transpose()? })
    }
}
