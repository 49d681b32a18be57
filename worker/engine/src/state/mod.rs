//! What stateful operators keep their keys in. Knows neither time nor SQL; what belongs to a key is the operator's.
//!
//! ```text
//!  key columns ─hash─▶ one u64 a row ─┬─▶ key group (which lane, which part of a snapshot)
//!                                     └─▶ KeyTable: a dense number for each key ─▶ accumulators, rows, times: plain vectors by that number
//! ```
//!
//! * [`hash`]: a hash of rows that is the same in every process and release, because state is stored by it.
//! * [`keys`]: the table from keys to dense numbers.
//! * [`shared`]: vectors by that number, of which a snapshot costs next to nothing.
//! * [`rows`]: rows in columns, at positions that stay; [`lists`]: the positions that belong to each key; [`ends`]: when they are over.
//! * [`owned()`]: columns that hold on to nothing but their own values.

mod ends;
mod hash;
mod keys;
mod lists;
mod owned;
mod rows;
mod shared;

pub(crate) use ends::Ends;
pub(crate) use hash::{hash_rows, key_group, mix, row_ids};
pub(crate) use keys::{KeyPart, KeyTable, fits_a_word, from_words, words};
pub(crate) use lists::Lists;
pub(crate) use owned::owned;
pub(crate) use rows::{NO_ROW, RowStore};
pub(crate) use shared::{Part, SharedBits, SharedVec};
