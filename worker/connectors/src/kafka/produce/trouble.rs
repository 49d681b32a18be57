//! Trouble on the way to the brokers, told as it is now. It stops nothing.

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::Health;

use super::super::wire::error::Error;

/// What is known of the way to the brokers.
#[derive(Debug)]
pub(super) struct Trouble {
    health: Health,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    reason: ErrorReason,
    message: String,
    /// Whether a broker that answers means that it is over.
    ends_with_answer: bool,
}

impl Trouble {
    pub(super) fn new(health: Health) -> Self {
        Self { health, current: None }
    }

    /// Whose problem it is, if there is one.
    pub(super) fn reason(&self) -> Option<ErrorReason> {
        self.current.as_ref().map(|current| current.reason)
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, error: &Error) {
        self.tell(error.reason(), error.to_string(), error.code().is_none());
    }

    /// A leader cannot be reached. That other brokers answer does not mean that it is over.
    pub(super) fn unreached(&mut self, error: &Error) {
        self.tell(error.reason(), error.to_string(), false);
    }

    /// Nothing is heard. Why, if that was said before, stays.
    pub(super) fn stalled(&mut self, reason: ErrorReason, message: String) {
        match &self.current {
            Some(known) => self.health.trouble(known.reason, known.message.clone()),
            None => self.tell(reason, message, true),
        }
    }

    fn tell(&mut self, reason: ErrorReason, message: String, ends_with_answer: bool) {
        tracing::info!(?reason, "kafka: {message}");
        self.health.trouble(reason, message.clone());
        self.current = Some(Current { reason, message, ends_with_answer });
    }

    /// Brokers answer.
    pub(super) fn answered(&mut self) {
        if self.current.as_ref().is_some_and(|current| current.ends_with_answer) {
            self.over();
        }
    }

    /// All is well.
    pub(super) fn over(&mut self) {
        if self.current.take().is_some() {
            self.health.clear();
        }
    }
}
