//! State in the checkpoint store: a chain of files for each operator, the first whole, the others what has changed since. It decides nothing about epochs,
//! and what is in a row is the operators'.
//!
//! ```text
//!  snapshot ─▶ increments ─┬─ nothing changed ─▶ the files of the last epoch
//!                          ├─ little changed ──▶ those, and a file of changes (rows kept by place, rows added)
//!                          └─ much changed ────▶ one whole file
//!  files ─▶ restore: the whole one, then change by change ─▶ operators
//! ```

mod changes;
mod file;
mod increments;
mod restore;

pub(super) use increments::{Increments, Written};
pub(super) use restore::{check_kind, check_state, open};
