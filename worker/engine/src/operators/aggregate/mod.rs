//! Aggregates: one row out of many, for each key. Evaluates no expression: what is grouped by and aggregated are columns of what arrives.
//!
//! * [`window`]: for each window of TUMBLE, HOP and CUMULATE, and for rows that have their windows already. Results leave when the window ends.
//!   [`late`]: and are revised for as long after as late rows are taken.
//! * [`session`]: for each session. Results leave when the session ends.
//! * [`group`]: for each key alone. Results are revised whenever they change; [`cells`] hold them.
//! * [`call`]: the aggregate functions, for many groups at once.
//! * [`partial`]: what comes before an exchange, so that less goes through it.
//! * [`pane`]: keys and accumulators of one slice of time, dropped as a whole.
//! * [`column`]: what the columns of a result are, and times as columns.

mod call;
mod cells;
mod column;
mod group;
mod late;
mod pane;
mod partial;
mod session;
mod touched;
mod window;

pub(crate) use call::{Argument, Call, check as check_calls};
pub(crate) use column::OutputColumn;
pub(super) use column::{MILLISECOND, microseconds, moment, timestamps};
pub(crate) use group::{GroupBlueprint, check as check_groups};
pub(crate) use partial::Parted;
pub(crate) use session::SessionBlueprint;
pub(crate) use window::{Assignment, WindowAggregateBlueprint};
