//! Window functions of the FROM clause (`TUMBLE`, `HOP`, `CUMULATE`, `SESSION`) in the logical plan, and which GROUP BY is bounded by a window.
//! Computes no window; that is the operators' work.

mod call;
mod grouping;
mod node;
mod planner;
#[cfg(test)]
mod tests;

pub(super) use call::{Call, is_window};
pub(super) use grouping::{Grouping, WindowGrouping};
pub(super) use node::{WindowNode, of_extension};
pub(super) use planner::WindowPlanner;
