//! The stream engine: SQL over streams of Arrow batches, in epochs. It knows no external system and never opens a connection except to the checkpoint store it is handed.
//!
//! ```text
//!              one task
//!   SplitReader ──Batch──▶ Executor (operators of the plan) ──Batch──▶ SinkWriter, one for each output
//!        │ position              │ (state, later)                          │ prepare(epoch) → committables
//!        └───────────────────────┴──────────── epoch record ───────────────┘
//!                                        │ created if absent in the object store: the epoch is durable
//!                                        ▼
//!                              Committer.commit → SplitReader.acknowledge
//! ```
//!
//! * [`plan`]: SQL steps to a graph of operators; refuses what it cannot run, by name and place.
//! * [`operators`]: pure and synchronous; no I/O, no clock, no randomness.
//! * `functions`: what SQL can call beyond DataFusion's own functions.
//! * [`checkpoint`]: the epoch protocol; start there to understand exactly-once.
//! * `state`: what stateful operators keep their keys in.
//! * [`exchange`]: what tasks in front of an exchange and behind it agree on, so that each row goes through once.
//! * [`runtime`]: drives one task; the only place where the parts above meet.
//! * [`source`], [`sink`]: the contracts that connectors fulfil. [`time`]: what tasks tell each other of event time.

pub mod batch;
pub mod checkpoint;
pub mod connector;
pub mod exchange;
mod functions;
pub mod operators;
pub mod plan;
pub mod row_kind;
pub mod runtime;
pub mod sink;
pub mod source;
mod state;
pub mod time;
