//! What a Kafka client says beside its data: errors, statistics, log lines. It reports trouble and its end, and never stops anything.
//!
//! The client retries by itself and says so only here. An error becomes trouble at once; it ends with the next success, or when the
//! statistics show the broker answering again.
//!
//! The id of a topic (which tells a topic from one of the same name that was deleted) is known to the client but not offered by
//! its bindings. It stands in a debug line of each metadata update that changes it, before any record of the topic is delivered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::Health;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde::Deserialize;

use super::failure;
use super::position::Partition;

/// Debug context of the client that the ids of topics come with.
pub(crate) const DEBUG_CONTEXT: &str = "metadata";

/// The context of every client of this connector.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The partition that a reader is at; a producer has none.
    partition: Option<Partition>,
    /// Whether errors of the consumer group matter.
    group: bool,
    health: Health,
    seen: Mutex<Seen>,
    /// Changes of the topic's id so far.
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    trouble: Option<Trouble>,
    ends: Ends,
    topic_id: Option<String>,
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

/// Ends of a partition as last seen; -1 before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ends {
    /// After the last record.
    pub(crate) high: i64,
    /// After the last record that is not part of an open transaction.
    pub(crate) stable: i64,
}

impl Default for Ends {
    fn default() -> Self {
        Self { high: -1, stable: -1 }
    }
}

impl Events {
    /// For a client that reads `partition`, with or without a group of the user's.
    pub(crate) fn reading(partition: Partition, group: bool, health: Health) -> Self {
        Self { partition: Some(partition), group, health, ..Self::default() }
    }

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

    pub(crate) fn ends(&self) -> Ends {
        self.seen().ends
    }

    /// The id of the topic, once the client has learnt it.
    pub(crate) fn topic_id(&self) -> Option<String> {
        self.seen().topic_id.clone()
    }

    /// Grows whenever the id of the topic changes. Records that a poll returns after a change belong to the new topic.
    pub(crate) fn topic_changes(&self) -> u64 {
        self.ids.load(Ordering::Acquire)
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
        if let Some((topic, id)) = changed_id(message)
            && self.partition.as_ref().is_some_and(|partition| partition.topic == topic)
        {
            self.seen().topic_id = Some(id.to_owned());
            self.ids.fetch_add(1, Ordering::Release);
        }
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
        let responses = match &self.partition {
            None => statistics.brokers.values().filter(|broker| broker.is_up()).map(|broker| broker.rx).max(),
            Some(partition) => {
                let state = statistics.partition(partition);
                if let Some(state) = state {
                    seen.ends = Ends { high: state.hi_offset, stable: state.ls_offset };
                }
                state.filter(|state| state.fetch_state == "active").and_then(|state| statistics.leader(state)).map(|broker| broker.rx)
            }
        };
        self.end_trouble(&mut seen, responses);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        match code {
            // The reader sees these in their place among the records.
            Code::PartitionEOF | Code::AutoOffsetReset | Code::LogTruncation => {}
            // Without a group of the user's, nobody needs its coordinator.
            Code::GroupAuthorizationFailed if !self.group => {}
            Code::GroupAuthorizationFailed => tracing::warn!("offsets cannot be committed for other tools to see: {reason}"),
            Code::AllBrokersDown => self.still_troubled(reason),
            code => {
                let by_topic = matches!(failure::reason(code), ErrorReason::NotFound) || code == Code::TopicAuthorizationFailed;
                self.troubled(failure::reason(code), reason, !by_topic);
            }
        }
    }
}

impl ConsumerContext for Events {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(%error, "the offset for other tools to see was not committed");
        }
    }
}

/// Topic and id of a line such as `[thrd:main]: Topic orders changed id from AAAAAAAAAAAAAAAAAAAAAA to 0w7M2xbnQ3GTTYlM9N6cHw`.
fn changed_id(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once("Topic ")?;
    let (topic, ids) = rest.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    let id = id.split_whitespace().next().filter(|id| !id.bytes().all(|byte| byte == b'A'))?;
    Some((topic, id))
}

/// The part of the client's statistics that is used.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
    /// Responses received.
    rx: u64,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: HashMap<String, PartitionState>,
}

#[derive(Deserialize)]
struct PartitionState {
    leader: i32,
    fetch_state: String,
    hi_offset: i64,
    ls_offset: i64,
}

impl Broker {
    fn is_up(&self) -> bool {
        self.state == "UP"
    }
}

impl Statistics {
    fn partition(&self, partition: &Partition) -> Option<&PartitionState> {
        self.topics.get(&partition.topic)?.partitions.get(&partition.number.to_string())
    }

    fn leader(&self, state: &PartitionState) -> Option<&Broker> {
        self.brokers.values().find(|broker| broker.nodeid == state.leader && broker.is_up())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Events {
        let partition = Partition { topic: "orders".to_owned(), number: 3 };
        Events::reading(partition, false, Health::default())
    }

    fn statistics(state: &str, responses: u64, fetch: &str) -> Vec<u8> {
        let broker = |id: i32, state: &str, rx: u64| serde_json::json!({"nodeid": id, "state": state, "rx": rx});
        let partition = serde_json::json!({"leader": 1, "fetch_state": fetch, "hi_offset": 12, "ls_offset": 10});
        let statistics = serde_json::json!({
            "brokers": {"bootstrap": broker(-1, "UP", 99), "one": broker(1, state, responses)},
            "topics": {"orders": {"partitions": {"3": partition}}},
        });
        serde_json::to_vec(&statistics).unwrap()
    }

    #[test]
    fn the_id_of_the_topic_is_read_from_the_log() {
        let events = reading();
        events.log(
            RDKafkaLogLevel::Debug,
            "METADATA",
            "[thrd:main]: Topic other changed id from AAAAAAAAAAAAAAAAAAAAAA to 0w7M2xbnQ3GTTYlM9N6cHw",
        );
        assert_eq!((events.topic_id(), events.topic_changes()), (None, 0));
        events.log(
            RDKafkaLogLevel::Debug,
            "METADATA",
            "[thrd:main]: Topic orders changed id from AAAAAAAAAAAAAAAAAAAAAA to 0w7M2xbnQ3GTTYlM9N6cHw",
        );
        assert_eq!((events.topic_id().as_deref(), events.topic_changes()), (Some("0w7M2xbnQ3GTTYlM9N6cHw"), 1));
        events.log(RDKafkaLogLevel::Debug, "METADATA", "[thrd:main]: Topic orders [0] Leader 1 Epoch 4");
        assert_eq!(events.topic_changes(), 1);
    }

    #[test]
    fn trouble_ends_when_the_leader_answers_again() {
        let events = reading();
        events.error(KafkaError::Global(Code::BrokerTransportFailure), "kafka:9092/1: Connect failed: Connection refused");
        let trouble = || events.health.current();
        assert_eq!(trouble().unwrap().reason, ErrorReason::Unreachable);
        for (state, responses, fetch) in [("UP", 7, "active"), ("DOWN", 7, "active"), ("UP", 9, "offset-query"), ("UP", 9, "active")] {
            events.stats_raw(&statistics(state, responses, fetch));
            assert!(trouble().is_some(), "{state} {responses} {fetch}");
        }
        events.stats_raw(&statistics("UP", 10, "active"));
        assert_eq!(trouble(), None);
        assert_eq!(events.ends(), Ends { high: 12, stable: 10 });
    }

    #[test]
    fn a_missing_right_on_the_topic_does_not_end_with_the_connection() {
        let events = reading();
        events.error(KafkaError::Global(Code::TopicAuthorizationFailed), "Fetch from broker 1 failed");
        for responses in 1..5 {
            events.stats_raw(&statistics("UP", responses, "active"));
        }
        assert_eq!(events.health.current().unwrap().reason, ErrorReason::AccessDenied);
        events.succeeded();
        assert_eq!(events.health.current(), None);
    }

    #[test]
    fn why_is_not_hidden_by_all_brokers_down() {
        let events = reading();
        events.error(KafkaError::Global(Code::Authentication), "SASL authentication error: invalid credentials");
        events.error(KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let trouble = events.health.current().unwrap();
        assert_eq!((trouble.reason, trouble.attempts), (ErrorReason::AccessDenied, 2));
        assert!(trouble.message.contains("invalid credentials"));
    }

    #[test]
    fn what_is_not_trouble_is_not_reported() {
        let events = reading();
        for code in [Code::PartitionEOF, Code::AutoOffsetReset, Code::GroupAuthorizationFailed] {
            events.error(KafkaError::Global(code), "said");
        }
        assert_eq!(events.health.current(), None);
    }
}
