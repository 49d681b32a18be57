//! Why an object could not be written, as a closed set. It says nothing of what is in the object.

use millrace_crds::condition::PipelineReason;

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The Lease is not held any more.
    #[error("not leading: another operator may write now")]
    NotLeading,
    /// A defect: an object without a name or namespace.
    #[error("a {kind} without name or namespace cannot be written")]
    Nameless {
        /// Kind of the object.
        kind: String,
    },
    /// The name is taken.
    #[error(
        "a {kind} named {name:?} exists that this Pipeline, Source or Sink did not make; it is left alone: rename one of them, or delete the {kind}"
    )]
    NameConflict {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The namespace is going away: nothing can be created.
    #[error("the namespace is being deleted, {kind} {name:?} is not created")]
    NamespaceTerminating {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A quota does not allow it.
    #[error("a quota of the namespace does not allow the {kind} {name:?}: {message}")]
    QuotaExceeded {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        message: String,
    },
    /// The API server refuses it for good.
    #[error("the API server refuses to {action} the {kind} {name:?}: {message}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        message: String,
    },
    /// Anything that may go away by itself.
    #[error("cannot {action} the {kind} {name:?}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The error below.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// The reason as metric label: a closed set.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::NotLeading => "NotLeading",
            Self::Nameless { .. } => "Internal",
            Self::NameConflict { .. } => "NameConflict",
            Self::NamespaceTerminating { .. } => "NamespaceTerminating",
            Self::QuotaExceeded { .. } => "QuotaExceeded",
            Self::Refused { .. } => "Refused",
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) if status.code == 409 => "Conflict",
                kube::Error::Api(status) if status.code == 429 => "Throttled",
                kube::Error::Api(_) => "ServerError",
                _ => "Unreachable",
            },
        }
    }

    /// The condition reason, if only a human can help; `None` if trying again may.
    pub(crate) fn needs_a_human(&self) -> Option<PipelineReason> {
        match self {
            Self::NameConflict { .. } => Some(PipelineReason::NameConflict),
            Self::QuotaExceeded { .. } => Some(PipelineReason::QuotaExceeded),
            Self::Refused { .. } => Some(PipelineReason::Forbidden),
            Self::NotLeading | Self::Nameless { .. } | Self::NamespaceTerminating { .. } | Self::Api { .. } => None,
        }
    }
}

/// What an error of the API server means.
pub(super) fn classify(action: &'static str, kind: &str, name: &str, source: kube::Error) -> Error {
    let (kind, name) = (kind.to_owned(), name.to_owned());
    let kube::Error::Api(status) = &source else { return Error::Api { action, kind, name, source: Box::new(source) } };
    let message = status.message.clone();
    let terminating = status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating");
    match status.code {
        403 if terminating => Error::NamespaceTerminating { kind, name },
        // The namespace itself is gone already.
        404 if message.contains("namespaces ") => Error::NamespaceTerminating { kind, name },
        403 if message.contains("exceeded quota") => Error::QuotaExceeded { kind, name, message },
        400 | 403 | 413 | 422 => Error::Refused { action, kind, name, message },
        _ => Error::Api { action, kind, name, source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn label(code: u16, message: &str, cause: &str) -> &'static str {
        let status: Status = serde_json::from_value(json!({
            "code": code, "message": message, "reason": "x", "details": {"causes": [{"reason": cause, "message": "", "field": ""}]},
        }))
        .unwrap();
        classify("apply", "Pod", "p", kube::Error::Api(status.boxed())).label()
    }

    #[test]
    fn each_answer_of_the_api_server_has_one_meaning() {
        assert_eq!(label(403, "forbidden: being terminated", "NamespaceTerminating"), "NamespaceTerminating");
        assert_eq!(label(404, "namespaces \"a\" not found", ""), "NamespaceTerminating");
        assert_eq!(label(403, "pods \"p\" is forbidden: exceeded quota: q", ""), "QuotaExceeded");
        assert_eq!(label(403, "violates PodSecurity", ""), "Refused");
        assert_eq!(label(422, "spec is invalid", ""), "Refused");
        assert_eq!(label(409, "uid", ""), "Conflict");
        assert_eq!(label(429, "slow down", ""), "Throttled");
        assert_eq!(label(500, "etcd", ""), "ServerError");
        assert_eq!(classify("apply", "Pod", "p", kube::Error::TlsRequired).label(), "Unreachable");
    }
}
