//! What became of records on their way to the brokers. It counts and keeps, and decides nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Origin;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use tokio::sync::Notify;

use super::events::Events;
use super::failure;
use super::ledger::{self, Place};

/// One record on its way.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) origin: Origin,
    pub(crate) branch: u64,
    pub(crate) ordinal: u64,
    pub(crate) bytes: usize,
}

/// A record that came back.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) sent: Sent,
    pub(crate) key: Option<Vec<u8>>,
    /// `None` of a tombstone.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) code: Code,
}

/// What the client reports of records on their way.
pub(crate) struct Deliveries {
    events: Events,
    /// Bytes on their way.
    bytes: AtomicUsize,
    progress: Notify,
    outcome: Mutex<Outcome>,
}

#[derive(Default)]
struct Outcome {
    refused: Vec<Refused>,
    failed: Option<KafkaError>,
    /// Where the entry of the ledger lies that was acknowledged last.
    entry: Option<Place>,
}

impl Deliveries {
    pub(crate) fn new(events: Events) -> Self {
        Self { events, bytes: AtomicUsize::new(0), progress: Notify::new(), outcome: Mutex::default() }
    }

    /// Bytes on their way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// A record of so many bytes is handed to the client.
    pub(crate) fn started(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A record of so many bytes is no longer on its way.
    pub(crate) fn ended(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Release);
        self.progress.notify_one();
    }

    /// A record that will not be taken.
    pub(crate) fn refuse(&self, refused: Refused) {
        self.outcome().refused.push(refused);
    }

    pub(crate) fn has_refused(&self) -> bool {
        !self.outcome().refused.is_empty()
    }

    /// Records that were refused, in the order in which they came back.
    pub(crate) fn take_refused(&self) -> Vec<Refused> {
        std::mem::take(&mut self.outcome().refused)
    }

    /// What went wrong with a record that is not the record's fault.
    pub(crate) fn take_failure(&self) -> Option<KafkaError> {
        self.outcome().failed.take()
    }

    /// Where the entry of the ledger lies that was acknowledged.
    pub(crate) fn take_entry(&self) -> Option<Place> {
        self.outcome().entry.take()
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `patience` at most, until at most `most` bytes are on their way or a record has failed.
    pub(crate) async fn settle(&self, most: usize, patience: Duration) -> Settled {
        let mut before = None;
        let settling = async {
            loop {
                let progress = self.progress.notified();
                let bytes = self.bytes();
                if bytes <= most || self.outcome().failed.is_some() {
                    return Settled::Done;
                }
                before.get_or_insert(bytes);
                progress.await;
            }
        };
        match tokio::time::timeout(patience, settling).await {
            Ok(settled) => settled,
            Err(_elapsed) if before.is_some_and(|before| self.bytes() < before) => Settled::Progress,
            Err(_elapsed) => Settled::Nothing,
        }
    }

    /// Whose problem the trouble is that the client is in, if it is in any.
    pub(crate) fn trouble(&self) -> Option<ErrorReason> {
        self.events.trouble().map(|trouble| trouble.reason)
    }

    /// Reports what the client itself may not have noticed.
    pub(crate) fn stalled(&self, message: &str) {
        self.events.stalled(message);
    }
}

/// What became of waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Settled {
    /// There is room, or a failure to look at.
    Done,
    /// Not yet, but some were acknowledged.
    Progress,
    /// Nothing was acknowledged.
    Nothing,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.events.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let bytes = sent.bytes;
        match result {
            Ok(message) => {
                if message.topic() == ledger::TOPIC {
                    self.outcome().entry = Some(Place { partition: message.partition(), offset: message.offset() });
                }
                self.events.succeeded();
            }
            Err((error, message)) => match error.rdkafka_error_code() {
                Some(code) if failure::is_refusal(code) => {
                    let (key, value) = (message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec));
                    self.refuse(Refused { sent: *sent, key, value, code });
                }
                // The client is ending and gives back what it still had.
                Some(Code::PurgeQueue | Code::PurgeInflight) => {}
                _ => {
                    self.outcome().failed.get_or_insert_with(|| error.clone());
                }
            },
        }
        self.ended(bytes);
    }
}
