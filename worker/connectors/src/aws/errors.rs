//! Errors of AWS and of object stores as errors of a connector: whose problem it is and what to do. It never retries.

use std::error::Error as StdError;
use std::fmt::Debug;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use object_store::Error as StoreError;

/// An error of an object store. `doing` says what was asked of what: `read s3://bucket/key`.
pub(crate) fn store_error(doing: &str, error: StoreError) -> ConnectorError {
    let said = chain(&error);
    let answer = Answer::find(&said);
    let reason = match &error {
        StoreError::NotFound { .. } => ErrorReason::NotFound,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => ErrorReason::AccessDenied,
        StoreError::Generic { .. } => generic_reason(&error, &answer),
        StoreError::JoinError { .. } => ErrorReason::Internal,
        _ => ErrorReason::Invalid,
    };
    let (reason, said) = credentials_problem(&error).unwrap_or_else(|| (reason, answer.text(&said)));
    ConnectorError::new(reason, format!("cannot {doing}: {said}{}", advice(reason, &said))).caused_by(error)
}

/// An error of the SDK. `doing` as for [`store_error`].
pub(crate) fn sdk_error<E>(doing: &str, error: SdkError<E, HttpResponse>) -> ConnectorError
where
    E: ProvideErrorMetadata + StdError + Debug + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default().to_owned();
    let message = service.and_then(ProvideErrorMetadata::message).unwrap_or_default().to_owned();
    let (reason, said) = credentials_problem(&error).unwrap_or_else(|| {
        if service.is_some() {
            (reason_of_answer(status, &code), format!("{code}: {message}"))
        } else {
            let reason = match &error {
                SdkError::ConstructionFailure(_) => ErrorReason::Invalid,
                _ => ErrorReason::Unreachable,
            };
            (reason, chain(&error))
        }
    });
    ConnectorError::new(reason, format!("cannot {doing}: {said}{}", advice(reason, &said))).caused_by(error)
}

/// Whether an object cannot be read because it lies in an archive (Glacier) and has not been restored.
pub(crate) fn object_is_archived(error: &StoreError) -> bool {
    chain(error).contains("InvalidObjectState")
}

fn generic_reason(error: &StoreError, answer: &Answer) -> ErrorReason {
    if answer.status.is_some() || !answer.code.is_empty() {
        return reason_of_answer(answer.status, &answer.code);
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<object_store::client::HttpError>() {
            return ErrorReason::Unreachable;
        }
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorReason::AccessDenied,
                std::io::ErrorKind::NotFound => ErrorReason::NotFound,
                _ => ErrorReason::Unreachable,
            };
        }
        cause = current.source();
    }
    if chain(error).contains("redirect") { ErrorReason::Invalid } else { ErrorReason::Unreachable }
}

/// The reason by HTTP status and AWS error code.
fn reason_of_answer(status: Option<u16>, code: &str) -> ErrorReason {
    const DENIED: [&str; 11] = [
        "AccessDenied",
        "AuthorizationError",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClient",
    ];
    const THROTTLED: [&str; 5] = ["Throttl", "SlowDown", "TooManyRequests", "OverLimit", "RequestLimitExceeded"];
    let is_of = |list: &[&str]| list.iter().any(|part| code.contains(part));
    if is_of(&THROTTLED) || status == Some(429) {
        ErrorReason::Throttled
    } else if is_of(&DENIED) || matches!(status, Some(401 | 403)) {
        ErrorReason::AccessDenied
    } else if code.contains("QueueDoesNotExist") || code.contains("NonExistentQueue") || code.starts_with("NoSuch") || status == Some(404) {
        ErrorReason::NotFound
    } else if status.is_some_and(|status| status >= 500) || matches!(code, "InternalError" | "ServiceUnavailable" | "RequestTimeout") {
        ErrorReason::ServerError
    } else {
        ErrorReason::Invalid
    }
}

/// What the credential chain said, if it is what failed. Its causes name files and variables, never keys.
fn credentials_problem(error: &(dyn StdError + 'static)) -> Option<(ErrorReason, String)> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(credentials) = current.downcast_ref::<CredentialsError>() {
            let said = chain(credentials);
            let of_secret = current.source().and_then(|cause| cause.downcast_ref::<ConnectorError>());
            let reason = of_secret.map_or(ErrorReason::AccessDenied, |error| error.reason);
            return Some((reason, format!("no usable AWS credentials: {said}")));
        }
        cause = current.source();
    }
    None
}

fn advice(reason: ErrorReason, said: &str) -> &'static str {
    match reason {
        _ if said.contains("redirect") || said.contains("PermanentRedirect") => "; the bucket is in another region: set `region`",
        ErrorReason::AccessDenied => "; check the identity of the service account or `secretRef`, and its policy",
        ErrorReason::NotFound => "; check the name and `region`",
        _ => "",
    }
}

/// What an HTTP server said, as far as it can be told from the text of an error: object_store keeps no more.
struct Answer {
    status: Option<u16>,
    code: String,
    message: String,
}

impl Answer {
    fn find(text: &str) -> Self {
        let between = |open: &str, close: &str| {
            let rest = text.split_once(open)?.1;
            Some(rest.split_once(close)?.0.to_owned())
        };
        let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        Self {
            status,
            code: between("<Code>", "</Code>").unwrap_or_default(),
            message: between("<Message>", "</Message>").unwrap_or_default(),
        }
    }

    /// The answer in short; `text` if there was none.
    fn text(&self, text: &str) -> String {
        match (self.status, self.code.as_str()) {
            (_, code) if !code.is_empty() => format!("{code}: {}", self.message),
            (Some(status), _) => format!("the server answers with status {status}"),
            _ => text.to_owned(),
        }
    }
}

/// The error and its causes, each once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let said = current.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = current.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn answers_become_reasons() {
        for (text, reason) in [
            (
                "Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code><Message>Reduce</Message></Error>",
                ErrorReason::Throttled,
            ),
            ("Server returned non-2xx status code: 500 Internal Server Error: ", ErrorReason::ServerError),
            ("Server returned non-2xx status code: 429 Too Many Requests: ", ErrorReason::Throttled),
            (
                "Server returned non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code><Message>old</Message>",
                ErrorReason::AccessDenied,
            ),
            ("Server returned non-2xx status code: 400 Bad Request: <Code>InvalidArgument</Code>", ErrorReason::Invalid),
            ("Received redirect without LOCATION, this normally indicates an incorrectly configured region", ErrorReason::Invalid),
            ("connection closed", ErrorReason::Unreachable),
        ] {
            assert_eq!(store_error("read s3://b/k", generic(text)).reason, reason, "{text}");
        }
    }

    #[test]
    fn the_message_says_what_was_done_what_happened_and_what_to_do() {
        let source = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        let error = StoreError::PermissionDenied { path: "k".to_owned(), source: source.into() };
        let error = store_error("read s3://b/k", error);
        assert_eq!(
            error.message,
            "cannot read s3://b/k: AccessDenied: no; check the identity of the service account or `secretRef`, and its policy"
        );
    }

    #[test]
    fn an_archived_object_is_not_a_matter_of_rights() {
        let source = "status code: 403 Forbidden: <Error><Code>InvalidObjectState</Code></Error>";
        assert!(object_is_archived(&StoreError::PermissionDenied { path: String::new(), source: source.into() }));
    }
}
