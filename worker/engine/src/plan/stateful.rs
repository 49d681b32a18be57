//! Checks of plans that keep state: that every state has an end, and that nothing is asked to take back what it cannot. Changes no plan.

use datafusion_common::Result;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::LogicalPlan;
use datafusion_expr::logical_plan::Aggregate;
use millrace_crds::report::Problem;

use super::Policy;
use super::parse::Parsed;
use super::problem::{Reason, in_step, of_datafusion, problem};
use super::text::Place;
use super::traits;
use super::window::{self, Grouping, WindowNode};
use crate::operators::Windows;

/// Everything about the state of a step that cannot be.
pub(super) fn check(step: &Parsed, plan: &LogicalPlan, policy: &Policy) -> std::result::Result<(), Vec<Problem>> {
    let problems = find(step, plan, policy).map_err(|error| of_datafusion(&step.name, &step.text, &error, None))?;
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn find(step: &Parsed, plan: &LogicalPlan, policy: &Policy) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut fused: Vec<*const WindowNode> = Vec::new();
    plan.apply(|node| {
        match node {
            LogicalPlan::Aggregate(aggregate) => {
                problems.extend(of_aggregate(step, aggregate, policy, &mut fused)?);
            }
            LogicalPlan::Extension(extension) => {
                let session = window::of_extension(extension).filter(|node| matches!(node.windows, Windows::Session { .. }));
                if let Some(node) = session
                    && !fused.contains(&std::ptr::from_ref(node))
                {
                    problems.push(refused(
                        step,
                        step.text.call("SESSION"),
                        "SESSION without GROUP BY window_start, window_end and what it is partitioned by, right above it, is not supported",
                        "group in the same step, and filter in a step or subquery below: a session is known only when it has ended",
                    ));
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(problems)
}

fn of_aggregate(step: &Parsed, aggregate: &Aggregate, policy: &Policy, fused: &mut Vec<*const WindowNode>) -> Result<Option<Problem>> {
    let input = traits::of(&aggregate.input)?;
    let place = step.text.keyword_after(None, "GROUP").or_else(|| step.text.keyword_after(None, "DISTINCT"));
    let place = place.or_else(|| step.text.keyword_after(None, "UNION"));
    match Grouping::of(aggregate)? {
        Grouping::Window(window) => {
            if let Some(node) = window.fused
                && (!matches!(node.windows, Windows::Session { .. }) || window.groups_by_session(aggregate, node)?)
            {
                fused.push(std::ptr::from_ref(node));
            }
            if !policy.allowed_lateness.is_zero() {
                let hint = "leave it out, and give the Source the delay that is to be waited for";
                let message = "a window that is revised for late rows (an allowed lateness above zero) is not supported";
                return Ok(Some(refused(step, place, message, hint)));
            }
            Ok(input.is_updating().then(|| {
                let hint = "group without the window, or window the rows before they are aggregated or joined";
                refused(step, place, "GROUP BY of a window over rows that are revised is not supported", hint)
            }))
        }
        Grouping::Unbounded if policy.state_ttl.is_none() => Ok(Some(refused(
            step,
            place,
            "the state of this GROUP BY or DISTINCT would grow without end, which is not supported",
            "set spec.state.ttlSeconds, or group by window_start and window_end of a window",
        ))),
        Grouping::Unbounded => Ok(None),
    }
}

fn refused(step: &Parsed, place: Option<Place>, message: &str, hint: &str) -> Problem {
    problem(Reason::NotSupported, in_step(&step.name, place), message, Some(hint.to_owned()))
}
