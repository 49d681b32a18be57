//! The exchange through Kafka: rows go from the tasks that read the inputs to the tasks that keep state, by key. Nothing but Millrace reads or writes its topics.
//!
//! Maturity: beta.
//!
//! ```text
//!  front task, one for each split of an input             topic of a channel              back task, one for each partition
//!  input ▶ stateless part of the plan ▶ partition ──┬──▶ 0 ▒▒▒▒▒▒▒▒▒▒▒▒▒ ──────────────▶ state of the keys of 0 ▶ outputs
//!                      messages with numbers of its own └──▶ 1 ▒▒▒▒▒▒▒▒▒▒▒▒▒ ──────────────▶ state of the keys of 1 ▶ outputs
//! ```
//!
//! * A *channel* is one way into the part of the plan that keeps state: one topic, with as many partitions as the Pipeline says. All partitions `p` of all
//!   channels belong to one task, which holds the state of a fixed range of key groups.
//! * A *message* ([`codec`]) is rows, in batches of one origin each, or how far time has come with the task that wrote it, the *producer*. What a row is known by (origin,
//!   ordinal, branch, row kind) goes with it, so that results have the same coordinates as without an exchange.
//! * *Partial aggregates*: where a channel feeds one aggregate (a window of TUMBLE, HOP or CUMULATE, or a GROUP BY over rows that are never taken back), what goes
//!   through is what rows of one key and slice come to, as far as its functions can be put together again; else rows. They are held until the watermark that ends a
//!   slice, or for a moment where there is no window, so that no result waits for them; and no longer than an epoch, or 8 MiB of them. It is decided when the plan is
//!   cut (`plan::stages`), and to a topic one is as good as the other. `millrace explain` says which it is. Their columns carry the functions and windows in their
//!   names, so that what was written for another aggregate has another fingerprint and is refused, and a change of it is one of state (`StateCompatible`).
//! * *Nothing waits for an epoch*: what is written is visible at once. There are no transactions; the producer is idempotent, and everything is acknowledged before
//!   an epoch of the front task is written. So a front task has nothing to commit to the exchange, and a back task reads what comes.
//! * *Exactly once* is a matter of numbers ([`millrace_engine::exchange`]). A producer numbers its messages to each partition without a gap, under the generation of its
//!   task, from the opening marker on. A message holds up to where in the input its partition has been given everything: what came of rows that were pushed together
//!   is one message for each partition, or none.
//!     1. *A front task opens*: it writes its marker into every partition, and reads each back up to there ([`place`]), from where its last epoch ended. What counts
//!        in between says, for each partition, what it has been given since. The task goes on from its epoch and leaves that out, before rows are put together.
//!     2. *A back task reads*: messages of the newest generation of which it has seen the marker, in the order of their numbers. A zombie's are dropped, as is what was
//!        taken before; its positions hold generation and number of each producer. Where one is missing, because a broker refused it or lost it, nothing counts
//!        until the next generation; the front task fails in the first case, and its next owner writes again. Both sides ask the same function, so they agree.
//! * *Time*: a producer writes into every partition how far its own time has come, a moment after it has changed, behind all rows that it speaks of. The reader of a
//!   partition takes the minimum over the producers that there are ([`producers`]): those of which the inputs say that they have such a split. One that has not
//!   spoken, or is being restarted, holds time back, however long that takes: its rows are yet to come. One that is idle says so, as does one that has ended. After
//!   its marker it is awake again, and what it says again of earlier times turns nothing back. It cannot be ahead of rows that it has yet to write: it goes on with
//!   the time of its epoch, and says a later one only behind the rows that it follows from, or that were left out because they are there.
//! * *The same in every replay*: which partition a row goes to must not depend on when it is read. SQL has no function of the clock or of chance (`now`, `random` and the
//!   like are refused), and PROCTIME is refused with an exchange. Whether a row is late is judged behind the exchange, by the order of its partition.
//!
//! Known limits
//! * A back task that writes its results in Kafka transactions shows them at the end of its own epochs (`checkpoint.intervalSeconds`); other sinks at once.
//! * A front task is opened for the price of reading back what was written since its last epoch, all of it by all front tasks.
//! * A plan that is changed in front of the exchange has to start from an epoch, as it does when workers are told to end. After a crash, where rows are in the exchange that
//!   the plan before has sent since, its front tasks refuse to start, and say so.
//! * Of a topic that the brokers have lost messages of, a producer's messages behind the loss wait until its task is opened again. The back task says so.
//! * Each partition of each channel has a connection of its own, as each split of a Kafka source has.
//! * Plans that go by processing time, look rows up in a table, or read a queue are refused when the Pipeline is assembled.
//! * Rows go through as they are, with the columns that are read behind, before joins, sessions, top-N, deduplication and OVER, before aggregates that have to see every
//!   row (DISTINCT, ORDER BY, `array_agg`, `median` and the like), where several operators read one channel, and where late rows are dead letters.
//! * Where late rows are dead letters, all columns go through; else a row that cannot be evaluated behind the exchange is told with those that do.
//! * What rows of one record come to in one partition is one message, and takes 16 MiB at most. Sums of doubles may differ in their last digits from those of one task.
//! * A split that appears later (partitions added to a topic) is known within ten seconds; until then it holds no time back.
//! * What earlier versions wrote, in transactions and without numbers, is read; a transaction that one left open holds readers back until it times out.
//! * Topics keep what was read until their retention (7 days) is over. A task that did not run for longer stops and says which range is lost.
//! * They outlive their Pipeline: delete them by their prefix. A changed column, key or aggregate of a channel can be taken on once what was written before has been read.

mod codec;
mod place;
mod producers;
mod reader;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod topics;
mod writer;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use millrace_crds::pipeline;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use millrace_engine::sink::Sink;
use millrace_engine::source::{Shared, Source};

use self::codec::Layout;
use self::producers::Directory;
use self::sink::ExchangeSink;
use self::source::ExchangeSource;
use self::topics::Topics;
use crate::context::{Context, ResolvedLimits};
use crate::kafka::producing::Producing;
use crate::kafka::session::Readers;
use crate::kafka::transaction;

/// The largest message. Topics are made to take it; one record of an input can be 10 MiB.
const MESSAGE_BYTES: usize = 16 << 20;

/// One way into the part of a plan that keeps state.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its name: the same for the same place in the plan.
    pub name: String,
    /// Columns of its rows, or of what they come to.
    pub schema: SchemaRef,
    /// Columns by which rows are brought together.
    pub key: Vec<usize>,
    /// Whether its rows have event times, and producers say how far they have come.
    pub timed: bool,
    /// A hash of what decides which rows come to it, and with which keys.
    pub front: u64,
}

/// An input that reaches a channel: its splits are the producers to expect.
#[derive(Clone)]
pub struct Upstream {
    /// Its name.
    pub input: String,
    /// Its source.
    pub source: Arc<dyn Source>,
    /// What its readers share.
    pub shared: Shared,
}

/// The exchange of one Pipeline. Making it opens no connection.
#[derive(Clone, Debug)]
pub struct KafkaExchange {
    topics: Topics,
    channels: Vec<Arc<ExchangeChannel>>,
    producing: Producing,
    limits: ResolvedLimits,
    readers: Readers,
    directory: Arc<Directory>,
}

/// A channel and its topic.
#[derive(Debug)]
struct ExchangeChannel {
    channel: Channel,
    topic: String,
    layout: Layout,
}

impl KafkaExchange {
    /// The exchange with `options` of the Pipeline with this UID.
    ///
    /// # Errors
    /// `Invalid` if a channel cannot be sent: a column type that has no form in a message, a name that makes no topic.
    pub fn new(options: &pipeline::KafkaExchange, uid: &str, channels: &[Channel], context: &Context) -> Result<Self, ConnectorError> {
        let partitions = u16::try_from(options.partitions).ok().filter(|count| *count > 0).ok_or_else(|| {
            ConnectorError::new(ErrorReason::Invalid, format!("exchange.kafka.partitions is {}: it must be 1 to 128", options.partitions))
        })?;
        let target = format!("the exchange {}", topics::stem(options.prefix(), uid));
        let producing = Producing::new(&options.access, context, target, transaction::TIMEOUT_SECONDS);
        let channels = channels.iter().map(|channel| {
            check_types(channel)?;
            let topic = topics::name(options.prefix(), uid, &channel.name)?;
            let layout = Layout::new(&channel.schema, &channel.key);
            Ok(Arc::new(ExchangeChannel { channel: channel.clone(), topic, layout }))
        });
        Ok(Self {
            topics: Topics { partitions },
            channels: channels.collect::<Result<_, ConnectorError>>()?,
            producing,
            limits: context.limits,
            readers: Readers::default(),
            directory: Arc::default(),
        })
    }

    /// Number of partitions: as many tasks keep state.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.topics.partitions
    }

    /// Names of the topics, in the order of the channels.
    pub fn topic_names(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| channel.topic.as_str())
    }

    /// What front tasks write to: all channels, by number.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(ExchangeSink::new(self.clone()))
    }

    /// What back tasks read of a channel: its partitions are its splits. `upstreams` are the inputs that reach it.
    ///
    /// # Panics
    /// If there is no such channel.
    #[must_use]
    pub fn source(&self, channel: usize, upstreams: Vec<Upstream>) -> Arc<dyn Source> {
        Arc::new(ExchangeSource::new(self.clone(), Arc::clone(&self.channels[channel]), upstreams))
    }
}

/// Whether a field of a position need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Refuses columns that a message without dictionaries cannot hold.
fn check_types(channel: &Channel) -> Result<(), ConnectorError> {
    fn has_dictionary(data_type: &DataType) -> bool {
        match data_type {
            DataType::Dictionary(..) | DataType::Union(..) | DataType::RunEndEncoded(..) => true,
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) | DataType::Map(field, _) => {
                has_dictionary(field.data_type())
            }
            DataType::Struct(fields) => fields.iter().any(|field| has_dictionary(field.data_type())),
            _ => false,
        }
    }
    match channel.schema.fields().iter().find(|field| has_dictionary(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(ConnectorError::new(
            ErrorReason::Invalid,
            format!("column \"{}\" is {}, which cannot go through the exchange: cast it", field.name(), field.data_type()),
        )),
    }
}
