//! What OpenSearch said to a bulk request, and what follows for each document. Pure: nothing is retried here.

use millrace_crds::report::ErrorReason;
use serde::Deserialize;

/// Query of a bulk request: an answer that holds what is read here and no more.
pub(super) const FILTER: &[(&str, &str)] = &[(
    "filter_path",
    "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.type,items.*.error.caused_by.reason",
)];
/// Text of an answer that is not OpenSearch's is cut to this many characters in messages.
const EXCERPT: usize = 300;

/// What became of one document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It is in the index, or a newer one is.
    Accepted,
    /// Not now.
    Again {
        /// Whose problem.
        reason: ErrorReason,
        /// OpenSearch's words.
        said: String,
    },
    /// Never.
    Refused {
        /// OpenSearch's words.
        said: String,
    },
}

/// What became of a whole request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// It was taken; this is what became of each document, in order.
    Items(Vec<Outcome>),
    /// None of it was taken, for now.
    Again {
        /// Whose problem.
        reason: ErrorReason,
        /// What was said.
        said: String,
    },
    /// None of it was taken because of its size or one of its documents: smaller requests tell which.
    Split {
        /// What was said.
        said: String,
    },
}

/// Reads the answer to a request of `sent` documents.
pub(crate) fn read(status: u16, body: &[u8], sent: usize) -> Answer {
    if (200..300).contains(&status) {
        return items(body, sent);
    }
    let error = serde_json::from_slice::<Failure>(body).ok().map(|failure| failure.error);
    let said = match &error {
        Some(error) => format!("status {status}: {}", error.text()),
        None => format!("status {status}: {}", excerpt(body)),
    };
    let reason = match status {
        400 | 413 => return Answer::Split { said },
        403 if error.is_some_and(|error| error.is_block()) => ErrorReason::ServerError,
        401 | 403 | 407 => ErrorReason::AccessDenied,
        408 => ErrorReason::Unreachable,
        429 => ErrorReason::Throttled,
        500.. => ErrorReason::ServerError,
        // No bulk API there: not OpenSearch, or a wrong path.
        _ => ErrorReason::NotFound,
    };
    Answer::Again { reason, said }
}

fn items(body: &[u8], sent: usize) -> Answer {
    let bulk: Bulk = match serde_json::from_slice(body) {
        Ok(bulk) => bulk,
        Err(error) => {
            let said = format!("the answer is not that of a bulk request ({error}): {}", excerpt(body));
            return Answer::Again { reason: ErrorReason::ServerError, said };
        }
    };
    if bulk.items.len() != sent {
        let said = format!("{} documents were sent and the answer speaks of {}", sent, bulk.items.len());
        return Answer::Again { reason: ErrorReason::ServerError, said };
    }
    let outcomes = bulk.items.into_iter().map(|operation| match operation {
        Operation::Index(item) => outcome(item),
        // What is not there need not be deleted.
        Operation::Delete(item) if item.status == 404 => Outcome::Accepted,
        Operation::Delete(item) => outcome(item),
    });
    Answer::Items(outcomes.collect())
}

fn outcome(item: Item) -> Outcome {
    let Item { status, error } = item;
    if (200..300).contains(&status) || status == 409 {
        return Outcome::Accepted;
    }
    let error = error.unwrap_or_default();
    let said = format!("status {status}: {}", error.text());
    let reason = match status {
        429 => ErrorReason::Throttled,
        500.. => ErrorReason::ServerError,
        _ if error.is_block() => ErrorReason::ServerError,
        401 | 403 => ErrorReason::AccessDenied,
        _ => return Outcome::Refused { said },
    };
    Outcome::Again { reason, said }
}

#[derive(Deserialize)]
struct Bulk {
    #[serde(default)]
    items: Vec<Operation>,
}

/// One item.
#[derive(Deserialize)]
enum Operation {
    #[serde(rename = "index")]
    Index(Item),
    #[serde(rename = "delete")]
    Delete(Item),
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    #[serde(default)]
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Failure {
    error: Error,
}

/// OpenSearch's errors; some proxies in front of it send a text instead.
#[derive(Default, Deserialize)]
#[serde(from = "ErrorForm")]
struct Error {
    kind: String,
    reason: String,
    cause: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorForm {
    Text(String),
    Object {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        caused_by: Option<Box<ErrorForm>>,
    },
}

impl From<ErrorForm> for Error {
    fn from(form: ErrorForm) -> Self {
        match form {
            ErrorForm::Text(reason) => Self { reason, ..Self::default() },
            ErrorForm::Object { kind, reason, caused_by } => {
                let cause = caused_by.map(|cause| Self::from(*cause).text());
                Self { kind, reason: reason.unwrap_or_default(), cause }
            }
        }
    }
}

impl Error {
    fn text(&self) -> String {
        let mut text =
            [self.kind.as_str(), self.reason.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        if let Some(cause) = &self.cause {
            text.push_str(": ");
            text.push_str(cause);
        }
        if text.is_empty() { "no reason given".to_owned() } else { text }
    }

    /// Whether the index or cluster takes no writes for now, whatever the document: read-only, closed, no shards left.
    fn is_block(&self) -> bool {
        match self.kind.as_str() {
            "cluster_block_exception" | "index_closed_exception" => true,
            "validation_exception" => self.reason.contains("shards"),
            _ => false,
        }
    }
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() { "no body".to_owned() } else { text.chars().take(EXCERPT).collect() }
}
