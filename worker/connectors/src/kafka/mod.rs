//! Kafka: topics in by manual assignment, rows out by the idempotent producer. No consumer group decides here who reads what.
//!
//! Maturity: beta.
//!
//! Reading
//! * Each partition is a split. Its position (topic id, next offset) lives in Millrace's checkpoint; the offset committed to
//!   `groupId` is for other tools to look at and is never read back.
//! * A record without a value (a tombstone) has no row: it is skipped.
//! * A position that is gone (retention, a topic deleted and created again, a truncated log) is [`OnPositionLost`](millrace_crds::connectors::kafka::OnPositionLost)'s
//!   case: the range is named in the error, the log and the status, whatever the policy.
//!
//! Writing
//! * At least once. Every record has the header `millrace-coordinate`: the same in every replay, so that readers can drop duplicates.
//! * Order is kept for each key (partitions are chosen as the Java client does, by murmur2 of the key).
//!
//! Known limits
//! * Each split has a client of its own, with its threads and connections: some tens of partitions for each worker, not thousands.
//! * The bindings do not offer the id of a topic; it is read from a debug line of the client (see [`events`]). A broker before 2.8 has
//!   none: then a re-created topic is noticed only if it is shorter than the old position.
//! * A log that was truncated by an unclean leader election and has grown past the position again while no worker was
//!   running is not noticed.
//! * Where a topic takes batches of less than 256 KiB only, records of one key may change places when a batch was refused.

mod client;
mod deliveries;
mod drain;
mod events;
mod failure;
mod position;
mod reader;
mod sink;
mod source;
mod start;
mod writer;

#[cfg(test)]
mod tests;

pub use sink::KafkaSink;
pub use source::KafkaSource;
