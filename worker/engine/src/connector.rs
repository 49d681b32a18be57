//! What sources and sinks share: errors that say whose problem they are, and the handle through which a connector reports trouble while it retries.

use std::sync::{Arc, Mutex, PoisonError};

use millrace_crds::report::ErrorReason;

/// An error of a connector, after it has retried what can be retried.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConnectorError {
    /// Whose problem it is: metric label, Event and condition reason.
    pub reason: ErrorReason,
    /// What we were doing, with what, what happened, and what to do. Never a secret.
    pub message: String,
    /// The error below, if there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectorError {
    /// An error without one below it.
    #[must_use]
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), source: None }
    }

    /// Adds the error below.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        is_transient(self.reason)
    }
}

/// Whether an error of this kind may go away by itself.
///
/// A refused login counts as transient for a connector that is already running, because credentials rotate; it is reported at once all the same.
#[must_use]
pub fn is_transient(reason: ErrorReason) -> bool {
    matches!(
        reason,
        ErrorReason::Unreachable
            | ErrorReason::Throttled
            | ErrorReason::ServerError
            | ErrorReason::AccessDenied
            | ErrorReason::NotFound
            | ErrorReason::SecretMissing
    )
}

/// What one part of a task says of itself right now: well, or in trouble since when. Cheap to clone; the runtime reads it for reports.
///
/// A connector that retries MUST call [`Health::trouble`] at each failed attempt and [`Health::clear`] at the next success.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Option<HealthTrouble>>>);

/// Trouble of one part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthTrouble {
    /// Whose problem.
    pub reason: ErrorReason,
    /// What happened at the last attempt.
    pub message: String,
    /// Attempts that failed in a row.
    pub attempts: u32,
}

impl Health {
    /// Reports a failed attempt.
    pub fn trouble(&self, reason: ErrorReason, message: impl Into<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = state.as_ref().map_or(0, |t| t.attempts).saturating_add(1);
        *state = Some(HealthTrouble { reason, message: message.into(), attempts });
    }

    /// Reports a success.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What was reported last.
    #[must_use]
    pub fn current(&self) -> Option<HealthTrouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Delays between attempts: doubling from `first` to `max`, each cut by up to a half at random so that workers do not retry in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: std::time::Duration,
    max: std::time::Duration,
}

impl Backoff {
    /// Starts at `first`, never above `max`.
    #[must_use]
    pub fn new(first: std::time::Duration, max: std::time::Duration) -> Self {
        Self { next: first, max }
    }

    /// The next delay. `jitter` is a random number; only its value modulo 512 matters.
    pub fn delay(&mut self, jitter: u32) -> std::time::Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        full.mul_f64(1.0 - f64::from(jitter % 512) / 1024.0)
    }
}
