//! What stateful operators keep their keys in. Knows neither time nor SQL; what belongs to a key is the operator's.
//!
//! ```text
//!  key columns ─hash─▶ one u64 a row ─┬─▶ key group (which lane, which part of a snapshot)
//!                                     └─▶ KeyTable: a dense number for each key ─▶ accumulators, rows, times: plain vectors by that number
//! ```
//!
//! * [`hash`]: a hash of rows that is the same in every process and release, because state is stored by it.
//! * [`keys`]: the table from keys to dense numbers.

mod hash;
mod keys;

pub(crate) use hash::{hash_rows, key_group, row_ids};
pub(crate) use keys::KeyTable;
