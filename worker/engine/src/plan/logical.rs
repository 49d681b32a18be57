//! From a syntax tree to an optimised logical plan, by DataFusion. Each step alone: how a step is planned does not depend on who reads it.

use std::sync::Arc;

use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::ContextProvider;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion_optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion_optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::optimize_unions::OptimizeUnions;
use datafusion_optimizer::optimizer::OptimizerRule;
use datafusion_optimizer::push_down_filter::PushDownFilter;
use datafusion_optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion_physical_expr::create_physical_expr;
use datafusion_sql::planner::SqlToRel;
use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr as SqlExpr, Query, SelectItem, SetExpr, Spanned, Statement, Value};
use millrace_crds::report::Problem;

use super::catalog::Catalog;
use super::parse::Parsed;
use super::problem::{Reason, in_step, of_datafusion, problem};
use super::refuse::NO_STATE;
use super::text::Place;
use super::{Policy, processing, stateful, temporal, whitelist};

/// Plans one step. Everything it reads is in the catalog.
pub(super) fn plan(catalog: &Catalog, step: &Parsed, policy: &Policy) -> std::result::Result<LogicalPlan, Vec<Problem>> {
    let unplaced = |error: DataFusionError| of_datafusion(&step.name, &step.text, &error, None);
    let analyzed = analyze(catalog, step.statement.clone()).map_err(|error| all_problems(catalog, step, &error))?;
    refuse_unknown(step, &analyzed)?;
    let optimized = optimize(catalog, analyzed).map_err(unplaced)?;
    refuse_unknown(step, &optimized)?;
    stateful::check(step, &optimized, policy)?;
    let problems = always_failing(step, &optimized).map_err(unplaced)?;
    if problems.is_empty() { Ok(optimized) } else { Err(problems) }
}

fn analyze(catalog: &Catalog, statement: Statement) -> Result<LogicalPlan> {
    let plan = SqlToRel::new(catalog).sql_statement_to_plan(statement)?;
    let analyzed = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]).execute_and_check(plan, catalog.options(), |_, _| {})?;
    temporal::rewrite(catalog, analyzed)
}

/// The rules that make sense for single rows. Rules that make plans without input (`WHERE false`) or need all rows are left out.
fn optimize(catalog: &Catalog, plan: LogicalPlan) -> Result<LogicalPlan> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    let options = Arc::new(catalog.options().clone());
    let context = OptimizerContext::new_with_config_options(options).without_query_execution_start_time();
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})
}

fn refuse_unknown(step: &Parsed, plan: &LogicalPlan) -> std::result::Result<(), Vec<Problem>> {
    match whitelist::outside(plan) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => {
            let hint = if what == whitelist::OUTSIDE_SELECT {
                "select PROCTIME() AS a column in a step or subquery below, and use that"
            } else {
                NO_STATE
            };
            let hint = Some(hint.to_owned());
            Err(vec![problem(Reason::NotSupported, in_step(&step.name, None), format!("{what} is not supported"), hint)])
        }
        Err(error) => Err(of_datafusion(&step.name, &step.text, &error, None)),
    }
}

/// The planner stops at the first error. To find the others, each column and each part of the condition of the outermost SELECT is planned alone.
fn all_problems(catalog: &Catalog, step: &Parsed, error: &DataFusionError) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for (place, part) in parts(&step.statement) {
        if let Err(error) = analyze(catalog, part) {
            problems.extend(of_datafusion(&step.name, &step.text, &error, place));
        }
    }
    let whole = of_datafusion(&step.name, &step.text, error, None);
    let found = |problem: &Problem| problems.iter().any(|other| other.reason == problem.reason && other.message == problem.message);
    let mut different: Vec<Problem> = whole.into_iter().filter(|problem| !found(problem)).collect();
    for problem in problems {
        if !different.contains(&problem) {
            different.push(problem);
        }
    }
    different
}

/// The query with one column and no condition, for each column; and with a part of the condition and a column that cannot fail. Each with the place of what it is about.
fn parts(statement: &Statement) -> Vec<(Option<Place>, Statement)> {
    let Statement::Query(query) = statement else { return Vec::new() };
    let SetExpr::Select(select) = query.body.as_ref() else { return Vec::new() };
    let with = |item: SelectItem, condition: Option<SqlExpr>| {
        let mut select = select.clone();
        select.projection = vec![item];
        select.selection = condition;
        Statement::Query(Box::new(Query { body: Box::new(SetExpr::Select(select)), ..query.as_ref().clone() }))
    };
    let mut conditions = Vec::new();
    let mut open: Vec<&SqlExpr> = select.selection.iter().collect();
    while let Some(condition) = open.pop() {
        match condition {
            SqlExpr::BinaryOp { left, op: BinaryOperator::And, right } => open.extend([right.as_ref(), left.as_ref()]),
            part => conditions.push(part),
        }
    }
    let null = || SelectItem::UnnamedExpr(SqlExpr::value(Value::Null));
    let columns = select.projection.iter().map(|item| (Place::new(item.span().start), with(item.clone(), None)));
    let conditions = conditions.into_iter().map(|condition| (Place::new(condition.span().start), with(null(), Some(condition.clone()))));
    columns.chain(conditions).collect()
}

/// Expressions without columns that the optimiser could not compute: they fail for every row, so they are refused now. Branches of CASE may never be reached and are left alone.
fn always_failing(step: &Parsed, plan: &LogicalPlan) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    plan.apply(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if matches!(part, Expr::Case(_) | Expr::HigherOrderFunction(_) | Expr::Lambda(_)) {
                    return Ok(TreeNodeRecursion::Jump);
                }
                if matches!(
                    part,
                    Expr::Alias(_) | Expr::Literal(..) | Expr::Column(_) | Expr::AggregateFunction(_) | Expr::WindowFunction(_)
                ) || !part.column_refs().is_empty()
                    || processing::reads_clock(part)
                {
                    return Ok(TreeNodeRecursion::Continue);
                }
                if let Err(error) = evaluate_constant(part) {
                    problems.extend(of_datafusion(&step.name, &step.text, &error, first_literal(step, part)?));
                }
                Ok(TreeNodeRecursion::Jump)
            })
        })
    })?;
    Ok(problems)
}

/// Where the first literal of an expression stands, as far as it can be recognised.
fn first_literal(step: &Parsed, expression: &Expr) -> Result<Option<Place>> {
    let mut found = None;
    expression.apply(|part| {
        if let Expr::Literal(value, _) = part {
            found = step.text.literal(&value.to_string());
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn evaluate_constant(expression: &Expr) -> Result<ScalarValue> {
    let schema = DFSchema::empty();
    let physical = create_physical_expr(expression, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let one_row = arrow::array::RecordBatch::try_new_with_options(Arc::clone(schema.inner()), Vec::new(), &options)?;
    let value = physical.evaluate(&one_row)?.into_array(1)?;
    ScalarValue::try_from_array(&value, 0)
}
