//! Kafka: topics in by manual assignment, rows out by the idempotent producer, or in transactions. No consumer group decides here who reads what.
//!
//! Maturity: beta.
//!
//! Reading
//! * Each partition is a split. Its position (topic id, next offset, leader epoch of the record before) lives in Millrace's checkpoint; the offset committed to
//!   `groupId` is for other tools to look at and is never read back.
//! * A record without a value (a tombstone) has no row: it is skipped, unless the Source has a [`changelog`](millrace_crds::changelog): then it may be the deletion of its key.
//! * An update of Debezium is two rows: offsets are doubled in the ordinals of its rows, in all of them so that each is the same in every replay.
//! * Brokers are asked by Millrace's own protocol code ([`wire`]): one question is under way while the last answer is decoded where it lies. A batch with a
//!   wrong checksum is an error, never skipped.
//! * A position that is gone (retention, a topic deleted and created again, a truncated log) is [`OnPositionLost`](millrace_crds::connectors::kafka::OnPositionLost)'s
//!   case: the range is named in the error, the log and the status, whatever the policy. A topic counts as created again when no broker knows the position's id any
//!   more: one that is behind says what was so before. Where a log was cut, `Earliest` goes on at the cut: what stands before it has been read.
//!
//! Writing
//! * At least once, with `transactional: Off`. Every record has the header `millrace-coordinate`: the same in every replay, so that readers can drop
//!   duplicates.
//! * Exactly once for readers with `read_committed`, with `transactional: Auto`: see below.
//! * Order is kept for each key (partitions are chosen as the Java client does, by murmur2 of the key), also where brokers refuse what is too large, or move.
//! * [`produce`] writes: rows go straight into the bytes of batches, and nothing is held back to fill them.
//!
//! # Transactions
//! Each epoch of a task is one transaction. Its last record is an *entry* `{pipeline, output, task, generation, epoch}` in the compacted topic
//! `millrace-ledger`; the place of that entry, acknowledged, is what the epoch record keeps. `transactional.id` is `millrace/<uid>/<output>/<task>`.
//! ```text
//!   write      begin, once the epoch before is committed; rows
//!   prepare    the entry; wait for all acknowledgements     → {transactionalId, partition, offset} into the epoch record
//!   commit     EndTxn, by the producer that wrote, while it lives; after any doubt the task is opened again
//!   seal       a new producer of the same id: InitProducerId; then: is the entry at its place, for read_committed?
//! ```
//! A transaction cannot be committed by anybody but its producer, and brokers abort it when a newer producer of its id comes or its time is
//! up. So an epoch whose record is durable may still lose its rows, and the engine must be able to go back: this sink is the task's *anchor*
//! ([`Sink::anchor`](millrace_engine::sink::Sink::anchor); the protocol is proven in the engine's `checkpoint` module under "Anchors"). What is argued here
//! is that `seal` gives the answer which that needs: final, the same for everybody, never a guess.
//! * *Final.* `InitProducerId` is answered after the coordinator has bumped the producer epoch and completed what was open: committed if the end
//!   was written to its log before, else aborted. The old producer's requests are refused from then on, a delayed `EndTxn` included. So after
//!   it, the transaction is one or the other for good.
//! * *The same for everybody.* The entry was acknowledged at its offset before the epoch record was written. `read_committed` shows it there
//!   exactly if the transaction was committed. The end of what is decided (LSO) may lie before the place, while another task's transaction is open
//!   in that partition: then the look waits, and says so.
//! * *Compaction* removes the entry only after a later one of the same id was committed. That belongs to a later epoch, which is only written once
//!   this one is settled. Who looks so late is told "aborted", and cannot do harm: its claim meets the later epochs and is overtaken.
//! * *Never a guess.* A place that is gone (a topic deleted, truncated or with retention) or holds another entry is an error for people.
//! * *Zombies.* One that still has a permit commits with a fenced producer: refused. One that seals late fences the present owner by the way:
//!   that one fails, opens the task again, seals its own epoch, and goes on after or before it. Time is lost, nothing else.
//! * *Lost within a transaction.* Any record that is not acknowledged, out-of-order sequences included, fails the writer before it prepares. One that a broker
//!   refuses for what it is (its size) was not written, nor was anything behind it: it is a dead letter of the epoch, and what is behind it follows.
//! * *An end that is not answered* is a doubt, even if it could be sent again: the first may be carried out later, when the next transaction is open. So it is
//!   sent again only where a broker has said that it is not done.
//! * *Versions.* Partitions are made part of a transaction (AddPartitionsToTxn) before anything is sent to them, and the epoch of a producer lasts as long
//!   as its writer: the form that brokers from 2.8 to 4.x take, and mean the same by. In the newer form (KIP-890, `transaction.version` 2) the leader adds partitions
//!   and each transaction has an epoch of its own. That is against delayed requests of the producer itself, of which there are none here: what is not answered
//!   ends the writer, or is written again under its number. What brokers from 4.0 on check by themselves, that a partition is part of an open transaction, they check
//!   in both forms.
//! * *Two outputs* in transactions cannot be committed together: a second one is refused when the Pipeline is assembled. All other sinks commit
//!   after this one, or are at least once or idempotent anyway.
//!
//! # Changelogs
//! Rows that are revised are written as a compacted topic wants them: what is there as a value under its key, what is gone as a record
//! without a value (a tombstone). What is replaced under the same key needs nothing of its own. The key is `keyFrom`, or the columns that the plan
//! knows to tell rows apart; NULL in it is `\N`. A reader that keeps the last value of each key has the table, with `transactional: Auto`
//! as it was at the end of an epoch.
//!
//! Writing waits between prepare and commit (one write to the checkpoint store, one to the coordinator); the engine's buffer bridges that.
//!
//! Known limits
//! * Each split has a connection of its own, and holds up to two answers: of 1 MiB, of less where many splits share `limits.maxInFlightBytes`, of one batch if that is larger.
//! * Topics have ids since Kafka 2.8. With an older broker a re-created topic is noticed only if it is shorter than the old position.
//! * A log that was truncated by an unclean leader election is noticed by brokers from 2.7 on, also if it has grown past the position again. Older ones notice only that
//!   it is shorter.
//! * Records in the formats of before Kafka 0.11 (magic 0 and 1) are refused.
//! * Logins are by PLAIN and SCRAM. Certificates must name hosts in subjectAltName.
//! * Records are written uncompressed. Each writer has a connection to each broker that leads a partition it writes to.
//! * A deleted Pipeline leaves one entry for each task in `millrace-ledger`.

mod aborted;
mod changes;
mod commits;
mod fetched;
pub(crate) mod flight;
pub(crate) mod ledger;
pub(crate) mod position;
pub(crate) mod produce;
pub(crate) mod producing;
pub(crate) mod reader;
pub(crate) mod records;
pub(crate) mod session;
mod sink;
mod source;
mod start;
pub(crate) mod transaction;
pub(crate) mod wire;
mod writer;

#[cfg(test)]
mod tests;

pub use sink::KafkaSink;
pub use source::KafkaSource;
