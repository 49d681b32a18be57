//! What a Kafka client says beside its data: errors, statistics, log lines. It reports trouble and its end, and never stops anything.
//!
//! The client retries by itself and says so only here. An error becomes trouble at once; it ends with the next success, or when the
//! statistics show the broker answering again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::Health;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use serde::Deserialize;

use super::failure;

/// The context of every client of this connector.
#[derive(Debug, Default)]
pub(crate) struct Events {
    health: Health,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    trouble: Option<Trouble>,
}

/// Trouble that is not over.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// Whose problem.
    pub(crate) reason: ErrorReason,
    /// What the client said.
    pub(crate) message: String,
    /// Whether a broker that answers means that it is over.
    ends_with_connection: bool,
    /// Responses of the broker when the statistics came after the trouble first.
    responses: Option<u64>,
}

impl Events {
    /// For a client that writes, or asks.
    pub(crate) fn of(health: Health) -> Self {
        Self { health, ..Self::default() }
    }

    /// Something has worked that only works when all is well.
    pub(crate) fn succeeded(&self) {
        if self.seen().trouble.take().is_some() {
            self.health.clear();
        }
    }

    /// Reports what the client itself did not notice yet.
    pub(crate) fn stalled(&self, message: &str) {
        self.still_troubled(message);
    }

    /// Trouble that is not over.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.seen().trouble.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn troubled(&self, reason: ErrorReason, message: &str, ends_with_connection: bool) {
        let mut seen = self.seen();
        self.health.trouble(reason, message);
        seen.trouble = Some(Trouble { reason, message: message.to_owned(), ends_with_connection, responses: None });
    }

    /// As `troubled`, for what does not say why: the error that came before it, if any, stays.
    fn still_troubled(&self, message: &str) {
        let mut seen = self.seen();
        if let Some(known) = &mut seen.trouble {
            known.responses = None;
            self.health.trouble(known.reason, known.message.clone());
        } else {
            drop(seen);
            self.troubled(ErrorReason::Unreachable, message, true);
        }
    }

    /// Ends trouble with the connection when the broker has answered since.
    fn end_trouble(&self, seen: &mut Seen, responses: Option<u64>) {
        let Some(trouble) = seen.trouble.as_mut().filter(|trouble| trouble.ends_with_connection) else { return };
        match (trouble.responses, responses) {
            (_, None) => trouble.responses = None,
            (Some(before), Some(now)) if now > before => {
                seen.trouble = None;
                self.health.clear();
            }
            (Some(_), Some(_)) => {}
            (None, now) => trouble.responses = now,
        }
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "kafka: {message}"),
            RDKafkaLogLevel::Debug => tracing::trace!(facility, "kafka: {message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else {
            tracing::debug!("the statistics of the Kafka client cannot be read");
            return;
        };
        let mut seen = self.seen();
        let responses = statistics.brokers.values().filter(|broker| broker.is_up()).map(|broker| broker.rx).max();
        self.end_trouble(&mut seen, responses);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        match code {
            // No client here is in a group.
            Code::GroupAuthorizationFailed | Code::PartitionEOF | Code::AutoOffsetReset => {}
            Code::AllBrokersDown => self.still_troubled(reason),
            code => {
                let by_topic = matches!(failure::reason(code), ErrorReason::NotFound) || code == Code::TopicAuthorizationFailed;
                self.troubled(failure::reason(code), reason, !by_topic);
            }
        }
    }
}

impl ConsumerContext for Events {}

/// The part of the client's statistics that is used.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
    /// Responses received.
    rx: u64,
}

impl Broker {
    fn is_up(&self) -> bool {
        self.state == "UP"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(state: &str, responses: u64) -> Vec<u8> {
        let broker = serde_json::json!({"nodeid": 1, "state": state, "rx": responses});
        serde_json::to_vec(&serde_json::json!({"brokers": {"one": broker}, "topics": {}})).unwrap()
    }

    #[test]
    fn trouble_ends_when_a_broker_answers_again() {
        let events = Events::default();
        events.error(KafkaError::Global(Code::BrokerTransportFailure), "kafka:9092/1: Connect failed: Connection refused");
        let trouble = || events.health.current();
        assert_eq!(trouble().unwrap().reason, ErrorReason::Unreachable);
        for (state, responses) in [("UP", 7), ("DOWN", 7), ("UP", 9)] {
            events.stats_raw(&statistics(state, responses));
            assert!(trouble().is_some(), "{state} {responses}");
        }
        events.stats_raw(&statistics("UP", 10));
        assert_eq!(trouble(), None);
    }

    #[test]
    fn a_missing_right_on_the_topic_does_not_end_with_the_connection() {
        let events = Events::default();
        events.error(KafkaError::Global(Code::TopicAuthorizationFailed), "Fetch from broker 1 failed");
        for responses in 1..5 {
            events.stats_raw(&statistics("UP", responses));
        }
        assert_eq!(events.health.current().unwrap().reason, ErrorReason::AccessDenied);
        events.succeeded();
        assert_eq!(events.health.current(), None);
    }

    #[test]
    fn why_is_not_hidden_by_all_brokers_down() {
        let events = Events::default();
        events.error(KafkaError::Global(Code::Authentication), "SASL authentication error: invalid credentials");
        events.error(KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let trouble = events.health.current().unwrap();
        assert_eq!((trouble.reason, trouble.attempts), (ErrorReason::AccessDenied, 2));
        assert!(trouble.message.contains("invalid credentials"));
    }

    #[test]
    fn what_is_not_trouble_is_not_reported() {
        let events = Events::default();
        for code in [Code::PartitionEOF, Code::AutoOffsetReset, Code::GroupAuthorizationFailed] {
            events.error(KafkaError::Global(code), "said");
        }
        assert_eq!(events.health.current(), None);
    }
}
