//! Checks of plans that keep state: that every state has an end, and that nothing is asked to take back what it cannot. Changes no plan.

use arrow::array::new_empty_array;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::Result;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::logical_plan::{Aggregate, Join, Window};
use datafusion_expr::{ExprSchemable, LogicalPlan};
use millrace_crds::report::Problem;

use super::Policy;
use super::join::{JoinEnd, JoinPlan};
use super::over::OverPlan;
use super::parse::Parsed;
use super::problem::{Reason, in_step, of_datafusion, problem};
use super::rank::{Finality, RankPlan, row_number};
use super::temporal::{self, Temporal};
use super::text::Place;
use super::traits;
use super::window::{self, Grouping, WindowNode};
use crate::operators::Windows;
use crate::state::hash_rows;

const NO_LATENESS: &str = "aggregate the windows first: results of TUMBLE, HOP and CUMULATE are revised; or leave allowedSeconds out, and give the Source the delay that is to be waited for";

/// Everything about the state of a step that cannot be.
pub(super) fn check(step: &Parsed, plan: &LogicalPlan, policy: &Policy) -> std::result::Result<(), Vec<Problem>> {
    let problems = find(step, plan, policy).map_err(|error| of_datafusion(&step.name, &step.text, &error, None))?;
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn find(step: &Parsed, plan: &LogicalPlan, policy: &Policy) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut fused: Vec<*const WindowNode> = Vec::new();
    let mut ranked: Vec<*const Window> = Vec::new();
    plan.apply(|node| {
        match node {
            LogicalPlan::Aggregate(aggregate) => {
                problems.extend(of_aggregate(step, aggregate, policy, &mut fused)?);
            }
            LogicalPlan::Join(join) => problems.extend(of_join(step, join, policy)?),
            LogicalPlan::Filter(filter) => {
                if let Some(rank) = RankPlan::of(filter)? {
                    ranked.push(std::ptr::from_ref(rank.window));
                    problems.extend(of_rank(step, &rank, policy)?);
                }
            }
            LogicalPlan::Window(window) if !ranked.contains(&std::ptr::from_ref(window)) => {
                problems.extend(of_functions(step, window, policy)?);
            }
            LogicalPlan::Extension(extension) if temporal::of_extension(extension).is_some() => {
                problems.extend(temporal::of_extension(extension).map(|node| of_temporal(step, node)).transpose()?.flatten());
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
            if window.clock.lateness() > 0
                && let Some(node) = window.fused
                && matches!(node.windows, Windows::Session { .. })
            {
                return Ok(Some(refused(
                    step,
                    place,
                    "SESSION that is revised for late rows (an allowed lateness above zero) is not supported",
                    NO_LATENESS,
                )));
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

fn of_join(step: &Parsed, join: &Join, policy: &Policy) -> Result<Option<Problem>> {
    let place = step.text.keyword_after(None, "JOIN").or_else(|| step.text.keyword_after(None, "FROM"));
    if join.on.is_empty() {
        let hint = "join on equal columns of both tables: ON a.key = b.key";
        return Ok(Some(refused(step, place, "a join without equal columns (a cross join) is not supported", hint)));
    }
    for (key, _) in &join.on {
        let data_type = key.get_type(join.left.schema())?;
        if !is_key(&data_type) {
            let message = format!("a join on a column of type {data_type} is not supported");
            return Ok(Some(refused(step, place, &message, "join on parts of it")));
        }
    }
    let plan = JoinPlan::of(join)?;
    if matches!(plan.end, JoinEnd::Window { .. }) && plan.clock().lateness() > 0 {
        let message = "a join of windows that still take late rows (an allowed lateness above zero) is not supported";
        return Ok(Some(refused(step, place, message, NO_LATENESS)));
    }
    Ok((plan.end == JoinEnd::Nothing && policy.state_ttl.is_none()).then(|| {
        let hint = "set spec.state.ttlSeconds, or bound it by event time: a.time BETWEEN b.time - INTERVAL '1' HOUR AND b.time, or \
                    equal window_start and window_end on both sides";
        refused(step, place, "the state of this join would grow without end, which is not supported", hint)
    }))
}

fn of_temporal(step: &Parsed, node: &Temporal) -> Result<Option<Problem>> {
    let place = step.text.keyword_after(None, "JOIN");
    for (key, _) in &node.on {
        let data_type = key.get_type(node.left.schema())?;
        if !is_key(&data_type) {
            let message = format!("a join on a column of type {data_type} is not supported");
            return Ok(Some(refused(step, place, &message, "join on parts of it")));
        }
    }
    Ok(None)
}

fn of_rank(step: &Parsed, rank: &RankPlan<'_>, policy: &Policy) -> Result<Option<Problem>> {
    let place = step.text.call("ROW_NUMBER");
    let schema = rank.window.input.schema();
    if matches!(rank.finality, Finality::Window(_)) && rank.clock().lateness() > 0 {
        let message = "a top-N of windows that still take late rows (an allowed lateness above zero) is not supported";
        return Ok(Some(refused(step, place, message, NO_LATENESS)));
    }
    if rank.order_by.is_empty() {
        return Ok(Some(refused(step, place, "ROW_NUMBER() without ORDER BY is not supported", "say in which order rows are numbered")));
    }
    if rank.range.1 < rank.range.0.max(1) {
        return Ok(Some(refused(step, place, "a condition that no row number fulfils is not supported", "numbers start at 1")));
    }
    for key in rank.partition_by {
        let data_type = key.get_type(schema)?;
        if !is_key(&data_type) {
            let message = format!("PARTITION BY a column of type {data_type} is not supported");
            return Ok(Some(refused(step, place, &message, "partition by parts of it")));
        }
    }
    for order in rank.order_by {
        let data_type = order.expr.get_type(schema)?;
        if !RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
            let message = format!("ORDER BY a column of type {data_type} is not supported");
            return Ok(Some(refused(step, place, &message, "order by parts of it")));
        }
    }
    Ok((!matches!(rank.finality, Finality::Window(_)) && policy.state_ttl.is_none()).then(|| {
        let hint = "set spec.state.ttlSeconds, or partition by window_start and window_end of a window";
        refused(step, place, "the state of this ROW_NUMBER() would grow without end, which is not supported", hint)
    }))
}

fn of_functions(step: &Parsed, window: &Window, policy: &Policy) -> Result<Option<Problem>> {
    if row_number(window).is_some() {
        let hint = "write SELECT … FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY … ORDER BY …) AS n FROM …) WHERE n <= 10";
        return Ok(Some(refused(step, step.text.call("ROW_NUMBER"), "ROW_NUMBER() without a highest number is not supported", hint)));
    }
    let place = step.text.keyword_after(None, "OVER");
    let over = match OverPlan::of(window)? {
        Ok(over) => over,
        Err((message, hint)) => return Ok(Some(refused(step, place, message, hint))),
    };
    for key in over.partition_by {
        let data_type = key.get_type(window.input.schema())?;
        if !is_key(&data_type) {
            let message = format!("PARTITION BY a column of type {data_type} is not supported");
            return Ok(Some(refused(step, place, &message, "partition by parts of it")));
        }
    }
    Ok((over.needs_ttl() && policy.state_ttl.is_none()).then(|| {
        let hint = "set spec.state.ttlSeconds, or write RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW";
        refused(step, place, "the state of this OVER would grow without end, which is not supported", hint)
    }))
}

/// Whether rows can be told apart by a column of this type.
fn is_key(data_type: &DataType) -> bool {
    hash_rows(&[new_empty_array(data_type)], 0).is_ok() && RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

fn refused(step: &Parsed, place: Option<Place>, message: &str, hint: &str) -> Problem {
    problem(Reason::NotSupported, in_step(&step.name, place), message, Some(hint.to_owned()))
}
