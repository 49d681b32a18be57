//! What a task in front of an exchange and those behind it agree on, so that each row goes through once without a transaction. Pure: it sends and reads nothing.
//!
//! ```text
//!  front task, generation g                     one partition                               back task
//!  opening marker (g, 0) ──────────────▶ … (f, 7) (f, 8) │ (g, 0) (f, 9) (g, 1) … ─────▶ Acceptance: (f, 9) is a zombie's
//!  reads back up to its marker ◀──────── Acceptance: (f, 8) is the last of f
//!     └▶ Coverage ─▶ Replay: rows up to there are left out, by partition
//! ```
//!
//! * A *producer* is a front task. Its *generation* grows with every owner of the task, and its messages to a partition are numbered from 0, the *opening marker*,
//!   without a gap. [`Acceptance`] says which of them count: those of the newest generation that has opened there, as long as none is missing. It is the same
//!   function of the log for the task behind and for the next owner in front, so both mean the same messages.
//! * A message says *up to where* ([`UpTo`]) its partition has been given everything: for each origin of the input, an ordinal. Sources deliver the rows of an
//!   origin in one order, those of one record in one batch, and name them alike in every replay; so this holds whatever the batches are the next time.
//! * After its marker, a new owner knows what counts before it, and nothing more will: what older owners still write lies behind the marker. It goes on from its
//!   last epoch, and a [`Replay`] leaves out what a partition has been given already, before rows are put together in aggregates. Epochs
//!   that end before it has caught up keep the place from which the exchange was read back: what lies before a later place would be found by nobody any more.

mod acceptance;
mod coverage;
#[cfg(test)]
mod model_tests;

pub use acceptance::{Acceptance, Verdict};
pub use coverage::{Coverage, Replay, UpTo, advance};
