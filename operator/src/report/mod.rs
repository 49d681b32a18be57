//! What workers report: who may, what is known from it, and the answer. It talks to no worker by itself.

pub(crate) mod auth;
pub(crate) mod registry;
pub(crate) mod server;
pub(crate) mod trouble;
mod view;

#[cfg(test)]
pub(crate) use registry::WorkerFact;
pub(crate) use registry::{Facts, PodLife, Registry, Snapshot, TaskFact, TroubleFact};
