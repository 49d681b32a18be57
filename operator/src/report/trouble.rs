//! What counts as trouble. One failed attempt does not: it may be over before anybody reads of it. Nothing is decided here about any object.

use std::time::Duration;

use millrace_crds::report::ErrorReason;

use super::TroubleFact;

/// What may be over in a moment counts after so long.
const LASTING: Duration = Duration::from_secs(5);

/// Whether a trouble counts: at once if it will not go away by itself, else once it lasts.
pub(crate) fn counts(fact: &TroubleFact) -> bool {
    match fact.trouble.reason {
        ErrorReason::Unreachable | ErrorReason::Throttled | ErrorReason::ServerError | ErrorReason::Internal => fact.lasts >= LASTING,
        ErrorReason::AccessDenied
        | ErrorReason::NotFound
        | ErrorReason::Invalid
        | ErrorReason::SecretMissing
        | ErrorReason::DataLost
        | ErrorReason::PoisonRecord
        | ErrorReason::Corrupt => true,
    }
}

/// Whether an error says something of the Source or Sink itself, not of the records.
pub(crate) fn is_of_the_system(reason: ErrorReason) -> bool {
    match reason {
        ErrorReason::Unreachable
        | ErrorReason::ServerError
        | ErrorReason::AccessDenied
        | ErrorReason::NotFound
        | ErrorReason::Invalid
        | ErrorReason::SecretMissing => true,
        ErrorReason::Throttled | ErrorReason::DataLost | ErrorReason::PoisonRecord | ErrorReason::Corrupt | ErrorReason::Internal => false,
    }
}
