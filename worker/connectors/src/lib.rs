//! How bytes get in and out: formats, and one folder for each system. Nothing here plans, decides on epochs or talks to Kubernetes.
//!
//! A connector is one folder with always the same files: `mod.rs` (what it is, maturity, known limits), `source.rs`, `sink.rs`, `tests.rs`.
//! Its options are typed in `millrace-crds`. [`registry`] is the one list of all of them.

pub mod aws;
pub mod blackhole;
pub mod conformance;
pub mod context;
pub mod exchange;
pub mod files;
pub mod formats;
pub mod kafka;
mod keys;
mod local_store;
mod objects;
pub mod opensearch;
pub mod registry;
pub mod retry;
pub mod s3;
pub mod spill_folder;
pub mod stdout;
