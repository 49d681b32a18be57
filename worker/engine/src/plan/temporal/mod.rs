//! `JOIN t FOR SYSTEM_TIME AS OF s.time`: a join with a table as it is at one moment, in the logical plan. Computes nothing.
//!
//! ```text
//!  t FOR SYSTEM_TIME AS OF s.time ─ planner ─▶ AsOf(t)      a mark, because s is not known there
//!  Join(s, AsOf(t))               ─ rewrite ─▶ Temporal(s, t)   before anything is moved through it by the optimiser
//! ```

mod node;
mod planner;
mod rewrite;
mod versions;

pub(super) use node::{Temporal, of_extension};
pub(super) use planner::AsOfPlanner;
pub(super) use rewrite::rewrite;
pub(super) use versions::Versions;
