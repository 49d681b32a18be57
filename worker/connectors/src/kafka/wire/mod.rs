//! Kafka's protocol: connections, who leads what, and what brokers' errors mean. It knows no record and no transaction.
//!
//! ```text
//!  Access (options, Secrets) ──▶ Cluster ──▶ Connection ──▶ one TCP or TLS connection, requests in order, several under way
//!                                  │ brokers, leaders, topic ids, coordinators: kept until an error says that they are old
//! ```
//! * Messages are those of the crate `kafka-protocol`; [`requests`] says which are used, and in which version at most.
//! * A broker answers the requests of one connection in order, and starts with the next only when it has answered: a long poll needs a connection of its own
//!   ([`Cluster::dedicated`](cluster::Cluster::dedicated)), all else shares one for each broker ([`Cluster::broker`](cluster::Cluster::broker)).
//! * Nothing is retried here but questions that any broker can answer. Who asks retries, and tells [`Health`](millrace_engine::connector::Health).

pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod error;
mod frame;
pub(crate) mod identity;
mod login;
pub(crate) mod requests;
mod scram;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
