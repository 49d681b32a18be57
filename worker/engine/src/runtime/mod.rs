//! Drives tasks: the only place where source, plan, sinks and checkpoint meet. It decides nothing about the epoch protocol; that is [`crate::checkpoint`].
//!
//! ```text
//!              ┌────────────── driver (one per task) ──────────────┐
//!  readers ───▶│ executor ──▶ output channel ──▶ writer  (a tokio  │
//!  (a tokio    │ (or lanes)└▶ output channel ──▶ writer   task each)│
//!   task each  │   every interval: positions, state, Prepare(e) ─▶ …│
//!   split)     │   closing(e): state files, prepared → dead letters │
//!              │               → record → commit → mark             │
//!              │   then: acknowledge(positions of e) ─▶ readers     │
//!              └────────────────────────────────────────────────────┘
//! ```
//!
//! State is stored by what has changed in it ([`stored`]). Reading goes on while an epoch closes; at most one epoch is closing. Bytes between readers and writers
//! are bounded, a quarter before the driver, another in its lanes if there are any, and the rest behind it. A plan that keeps state runs as one task over all splits
//! of all inputs ([`TaskRef::whole`](millrace_crds::report::TaskRef::whole)), in [lanes] if it can be shared by key; or as a task for each split, if the inputs are
//! partitioned by its keys; or in two [stages](Stage) with an exchange between them: what is in front by split, what is behind by partition.
//! State that outgrows its memory goes on in [buckets], which are parked in a [tier](Tier) and loaded when they are needed.
//! Whatever fails closes the task; [`supervise`](fn@supervise) opens it again at its last epoch.

mod buckets;
mod closing;
mod config;
mod counters;
mod dead_letters;
mod driver;
mod event_time;
mod front;
mod lanes;
mod observed;
mod opening;
mod output;
mod processing;
mod reading;
mod stage;
mod stored;
mod supervise;
mod tier;
mod watermarks;

pub use closing::store_error;
pub use config::{Control, DeadLetterBinding, Envelopes, InputBinding, OnPoison, OutputBinding, Splits, TaskConfig};
pub use driver::TaskEnd;
pub use observed::{Observed, Part, Snapshot};
pub use stage::{BackStage, EXCHANGE_WRITER, FrontStage, Stage};
pub use supervise::supervise;
pub use tier::{SpillSpace, Tier};
