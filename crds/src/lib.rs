//! CONTRACTS: what users write, and what operator and worker agree on. This crate plans nothing, opens no connection, and reads no file but manifests.
//!
//! ```text
//!  users write                      operator ⇄ worker
//!  Source ─┐                        Job         what a worker runs (ConfigMap, versioned)
//!  Sink   ─┼─▶ resolved into ─────▶ Report      what a worker has seen (HTTP, pushed)
//!  Pipeline┘                        Assignment  which tasks a worker holds (HTTP, the reply)
//! ```
//!
//! The schema holds only fields that work. What is not built yet is absent, so the API server refuses it by name.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct, with its visibility, inside a function")]

pub mod changelog;
pub mod condition;
pub mod connectors;
pub mod crd;
pub mod delivery;
pub mod format;
pub mod generate;
pub mod job;
pub mod manifest;
pub mod pipeline;
pub mod reference;
pub mod report;
pub mod resolve;
pub mod secrets;
pub mod sink;
pub mod source;

pub use pipeline::{Pipeline, PipelineSpec, PipelineStatus};
pub use sink::{Sink, SinkSpec, SinkStatus};
pub use source::{Source, SourceSpec, SourceStatus};

/// API group of all kinds.
pub const GROUP: &str = "millrace.dev";
/// API version served and stored.
pub const VERSION: &str = "v1alpha1";
