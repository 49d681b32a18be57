//! State in the checkpoint store: a chain of files for each operator, the first whole, the others what has changed since; or, where state is in buckets, a file
//! for each bucket of an operator. It decides nothing about epochs, and what is in a row is the operators'.
//!
//! ```text
//!  snapshot ─▶ increments ─┬─ nothing changed ─▶ the files of the last epoch
//!                          ├─ little changed ──▶ those, and a file of changes (rows kept by place, rows added)
//!                          └─ much changed ────▶ one whole file
//!  buckets ─▶ parts ───────┬─ a bucket has not changed ─▶ its files of the last epoch
//!                          └─ it has ──────────────────▶ files of their own
//!  files ─▶ restore: the whole one, then change by change ─▶ operators; or, part by part, put aside for buckets, as they are if the same plan has stored them
//! ```

mod changes;
mod file;
mod increments;
mod parts;
mod restore;

pub(super) use file::{Content, decode, encode};
pub(super) use increments::{Increments, Written};
pub(super) use parts::Parts;
pub(super) use restore::{Opened, check_kind, check_state, open};
