//! The last line of defence: a plan made of anything but the nodes and expressions that the stream operators implement is refused. Looks at no text.

use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{JoinType, Result};
use datafusion_expr::{Distinct, Expr, LogicalPlan, Volatility};

use super::{processing, temporal, window};

/// Where the time is asked for in a place in which it cannot be given.
pub(super) const OUTSIDE_SELECT: &str = "PROCTIME() outside of the list of SELECT";

/// What the plan has that cannot run: the name of the first such node or expression.
pub(super) fn outside(plan: &LogicalPlan) -> Result<Option<String>> {
    let mut found = None;
    plan.apply(|node| {
        if found.is_none() && !is_known_node(node) {
            found = Some(node.display().to_string());
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if processing::is_call(part) {
                    if found.is_none() && !matches!(node, LogicalPlan::Projection(_)) {
                        found = Some(OUTSIDE_SELECT.to_owned());
                    }
                } else if found.is_none() && !is_known_expression(part) {
                    found = Some(format!("the expression {}", part.human_display()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn is_known_node(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Union(_) | LogicalPlan::SubqueryAlias(_) => true,
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(Distinct::All(_)) | LogicalPlan::Window(_) => true,
        LogicalPlan::Join(join) => matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full),
        LogicalPlan::Extension(extension) => window::of_extension(extension).is_some() || temporal::of_extension(extension).is_some(),
        LogicalPlan::TableScan(scan) => scan.filters.is_empty() && scan.fetch.is_none(),
        _ => false,
    }
}

fn is_known_expression(expression: &Expr) -> bool {
    match expression {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Literal(..)
        | Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_)
        | Expr::HigherOrderFunction(_)
        | Expr::Lambda(_)
        | Expr::LambdaVariable(_) => true,
        Expr::WindowFunction(_) => true,
        Expr::AggregateFunction(call) => call.func.signature().volatility == Volatility::Immutable,
        Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
        _ => false,
    }
}
