//! Writing to Kafka: rows go straight into the bytes of batches, and a task of its own sends them. No record has an object, a lock or a callback of its own.
//!
//! ```text
//!  writer ── Appender ──▶ open and full batches, by partition ──▶ Sender ── lanes: order, numbers, retries ──▶ leaders of the partitions
//!    ▲  waits while too much is on its way                           │
//!    └── refused records, the place of the ledger's entry, failure ◀─┘
//! ```
//! * [`partition`] is where a key belongs; [`appender`] fills batches; [`parcel`] is a batch with what its records are known by.
//! * [`lane`] decides what is sent in which order, and is the one place that argues about loss and duplicates; [`answers`] reads what brokers say.
//! * [`sender`] carries it out. Nothing is held back to fill a batch: what is there is sent as soon as its leader has room, which is five requests.
//! * After a failure nothing more is sent: the writer hears of it wherever it waits, and its task is opened again.

pub(crate) mod answers;
pub(crate) mod appender;
pub(crate) mod brokers;
pub(crate) mod lane;
pub(crate) mod parcel;
pub(crate) mod partition;
mod sender;
mod shared;
#[cfg(test)]
mod tests;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use millrace_engine::batch::Origin;
use millrace_engine::connector::{ConnectorError, Health};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::appender::{Appender, Target};
use self::brokers::Brokers;
pub(crate) use self::brokers::Reached;
pub(crate) use self::lane::ProducerIdentity;
pub(crate) use self::parcel::Refused;
use self::sender::Sender;
use self::shared::{Shared, Topic};
use self::trouble::Trouble;
use super::ledger::Place;

/// Bytes of a batch of several records; a single larger record goes alone.
pub(crate) const BATCH_BYTES: usize = 256 << 10;
/// Bytes of batches in one request, before the last of them.
const REQUEST_BYTES: usize = 1 << 20;
/// A broker that has not answered after so long is given up. It says by itself, earlier, when its followers are slow.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// In transactions: as whom.
#[derive(Clone, Debug)]
pub(crate) struct Transacting {
    pub(crate) id: String,
    pub(crate) who: ProducerIdentity,
    /// How long a transaction may be open.
    pub(crate) timeout: Duration,
}

/// What a producer is told.
pub(crate) struct Start<'a> {
    /// Topics that are written to.
    pub(crate) topics: Vec<&'a str>,
    /// That of them whose places are wanted.
    pub(crate) placed: Option<&'a str>,
    /// What is written to, for people.
    pub(crate) target: String,
    /// Bytes that may be on their way.
    pub(crate) in_flight_bytes: usize,
    pub(crate) transacting: Option<Transacting>,
    pub(crate) health: Health,
}

/// Writes to the topics of one writer.
#[derive(Debug)]
pub(crate) struct Producer {
    shared: Arc<Shared>,
    in_flight_bytes: usize,
    _sending: AbortOnDropHandle<()>,
}

impl Producer {
    /// Starts to write. It returns at once; trouble is told to `health`.
    pub(crate) fn start(reached: Reached, start: Start<'_>) -> Self {
        Self::start_with(Arc::new(reached), start)
    }

    #[expect(clippy::disallowed_methods, reason = "the task ends with the producer, which owns it")]
    fn start_with(brokers: Arc<dyn Brokers>, start: Start<'_>) -> Self {
        let Start { topics, placed, target, in_flight_bytes, transacting, health } = start;
        let topics = topics.into_iter().map(|name| Topic::new(name, placed == Some(name))).collect();
        let shared = Arc::new(Shared::new(topics, BATCH_BYTES));
        let sender = Sender::new(Arc::clone(&shared), brokers, target, Trouble::new(health), transacting);
        Self { shared, in_flight_bytes, _sending: AbortOnDropHandle::new(tokio::spawn(sender.run())) }
    }

    /// Waits until the partitions of a topic are known: their number.
    pub(crate) async fn partitions(&self, topic: usize) -> Result<usize, ConnectorError> {
        let known = self.shared.wait_for(|shared, state| {
            let topic = &mut state.topics[topic];
            if !topic.is_wanted {
                topic.is_wanted = true;
                shared.work.notify_one();
            }
            Some(topic.ready.len()).filter(|count| *count > 0)
        });
        known.await
    }

    /// Appends records of one origin to a topic whose partitions are known. To be dropped before anything is waited for.
    pub(crate) fn append<'a>(&'a self, topic: usize, origin: &'a Origin) -> Appender<'a> {
        Appender::new(&self.shared, topic, origin, self.in_flight_bytes)
    }

    /// Waits while more is on its way than may be: until it is half of that, because waking for every answer would cost more than it gives.
    pub(crate) async fn room(&self) -> Result<(), ConnectorError> {
        if self.shared.bytes() <= self.in_flight_bytes {
            // Whether it has failed is looked at all the same.
            return self.shared.failure().map_or(Ok(()), Err);
        }
        self.settle(self.in_flight_bytes / 2).await
    }

    /// Waits until at most `most` bytes are on their way.
    pub(crate) async fn settle(&self, most: usize) -> Result<(), ConnectorError> {
        self.shared.wait_for(|shared, _| (shared.bytes() <= most).then_some(())).await
    }

    /// Of each partition of a topic, the offset of the batch that was acknowledged last; -1 if that is not known.
    pub(crate) fn offsets(&self, topic: usize) -> Vec<i64> {
        self.shared.lock().topics[topic].written.clone()
    }

    /// What was refused.
    pub(crate) fn take_refused(&self) -> Vec<Refused> {
        std::mem::take(&mut self.shared.lock().refused)
    }

    /// Where the record lies that was acknowledged last in the topic whose places are wanted.
    pub(crate) fn take_place(&self) -> Option<Place> {
        self.shared.lock().place.take()
    }

    /// From here on, records belong to another transaction. Nothing is on its way.
    pub(crate) fn begin(&self) {
        let mut state = self.shared.lock();
        (state.transaction, state.is_adrift) = (state.transaction + 1, false);
    }

    /// Sends nothing more. What is on its way is not called back.
    pub(crate) fn end(&self) {
        self.shared.lock().is_ending = true;
    }

    /// Waits until nothing is on its way any more; after a failure nobody hears of that, and it is not waited for. Whether it is certain that no broker
    /// will write anything of it later.
    pub(crate) async fn grounded(&self) -> bool {
        let _failed = self.shared.wait_for(|_, state| (state.aloft == 0).then_some(())).await;
        let state = self.shared.lock();
        state.aloft == 0 && !state.is_adrift
    }
}
