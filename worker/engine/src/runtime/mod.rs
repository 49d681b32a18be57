//! Drives tasks: the only place where source, plan, sinks and checkpoint meet. It decides nothing about the epoch protocol; that is [`crate::checkpoint`].
//!
//! ```text
//!            ┌────────────── driver (one per task) ──────────────┐
//!  reader ──▶│ executor ──▶ output channel ──▶ writer  (a tokio  │
//!            │           └▶ output channel ──▶ writer   task each)│
//!            │   every interval: position, Prepare(e) ───▶ …      │
//!            │   closing(e): prepared → dead letters → record     │
//!            │               → commit → mark   (beside reading)   │
//!            │   then: reader.acknowledge(position of e)          │
//!            └────────────────────────────────────────────────────┘
//! ```
//!
//! Reading goes on while an epoch closes; at most one epoch is closing. Bytes between reader and writers are bounded by one semaphore.
//! Whatever fails closes the task; [`supervise`](fn@supervise) opens it again at its last epoch.

mod closing;
mod config;
mod counters;
mod dead_letters;
mod driver;
mod observed;
mod opening;
mod output;
mod supervise;

pub use closing::store_error;
pub use config::{Control, DeadLetterBinding, Envelopes, OnPoison, OutputBinding, TaskConfig};
pub use driver::TaskEnd;
pub use observed::{Observed, Part, Snapshot};
pub use supervise::supervise;
