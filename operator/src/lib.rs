//! CONTROL PLANE: turns Pipelines into running workers. It is never in the path of data, reads no Secret and opens no connection to a user's system.
//!
//! ```text
//!            watch                                 reconcile                                    write
//!  Pipeline ──────┐        ┌─ pipeline: dereference ▶ validate ▶ rollout ▶ build ▶ ─┐
//!  Source, Sink ──┼▶ scope ┤                                                       ├▶ apply ─▶ Deployment, ConfigMap (Job), Service, …
//!  what we own ───┘        └─ probe:    observe ▶ decide ▶ build ▶ ─────────────────┘        └▶ status, Events
//!                                 ▲ facts       ▲ what was reported
//!  workers ──HTTP──▶ report ──▶ registry ──▶ assignment::decide ──▶ the answer: which tasks to hold
//! ```
//!
//! * Deciding is pure: [`rollout`](pipeline::rollout), [`status`](pipeline::status), [`assignment`], [`probe::decide`] know neither client nor clock.
//! * `apply` is the only module that writes objects, and only while the [`lease`] is held.
//! * Nothing is remembered that cannot be found out again from the API server and the workers' reports.

mod apply;
mod assignment;
mod clock;
mod events;
mod health;
mod lease;
mod metrics;
mod names;
mod pipeline;
mod pods;
mod probe;
mod quantity;
mod report;
mod run;
mod scope;
mod settings;
mod tls;

pub use run::{Error, run};
pub use settings::Settings;
