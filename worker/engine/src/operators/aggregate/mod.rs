//! Aggregates: one row out of many, for each key. Evaluates no expression: what is grouped by and aggregated are columns of what arrives.
//!
//! * [`window`]: for each window of TUMBLE, HOP and CUMULATE, and for rows that have their windows already. Results leave when the window ends.
//! * [`call`]: the aggregate functions, for many groups at once.
//! * [`pane`]: keys and accumulators of one slice of time, dropped as a whole.
//! * [`column`]: what the columns of a result are, and times as columns.

mod call;
mod column;
mod pane;
mod window;

pub(crate) use call::{Argument, Call, check as check_calls};
pub(crate) use column::OutputColumn;
pub(super) use column::{MILLISECOND, microseconds, timestamps};
pub(crate) use window::{Assignment, WindowAggregateBlueprint};
