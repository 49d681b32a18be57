//! From a join with a marked table to the join at one moment: which moment, which versions, which key. What cannot be is refused by name.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, JoinType, Result, TableReference};
use datafusion_expr::expr::BinaryExpr;
use datafusion_expr::logical_plan::{Extension, Join, SubqueryAlias};
use datafusion_expr::utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction_owned};
use datafusion_expr::{Expr, LogicalPlan, Operator};

use super::node::{AsOf, Temporal};
use super::versions::Versions;
use crate::plan::catalog::Catalog;
use crate::plan::problem::{Reason, Refusal, quoted};
use crate::plan::time::{Clock, TimeAttribute};
use crate::plan::traits::{self, renamed};

/// Joins with tables as of a time, in place of joins with marked tables.
pub(in crate::plan) fn rewrite(catalog: &Catalog, plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| match &node {
        LogicalPlan::Join(join) => match marked(&join.right) {
            Some(as_of) => Ok(Transformed::yes(temporal(catalog, join, as_of)?)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    let plan = rewritten.data;
    let mut found = None;
    plan.apply(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(as_of) = extension.node.as_any().downcast_ref::<AsOf>()
        {
            found = Some(as_of.place);
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match found {
        None => Ok(plan),
        Some(place) => {
            let message = "FOR SYSTEM_TIME AS OF anywhere but right after JOIN or LEFT JOIN is not supported";
            Err(Refusal::at(place, Reason::NotSupported, message, "write FROM s JOIN t FOR SYSTEM_TIME AS OF s.time ON t.key = s.key")
                .into())
        }
    }
}

/// The mark of a table, which may have another name.
fn marked(plan: &LogicalPlan) -> Option<&AsOf> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        LogicalPlan::SubqueryAlias(alias) => marked(&alias.input),
        _ => None,
    }
}

/// The table without its mark.
fn unmarked(plan: &LogicalPlan, input: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let below = unmarked(&alias.input, input)?;
            Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(below), alias.alias.clone())?))
        }
        _ => Ok(input),
    }
}

fn temporal(catalog: &Catalog, join: &Join, as_of: &AsOf) -> Result<LogicalPlan> {
    let refuse = |message: &str, hint: &str| Err(Refusal::at(as_of.place, Reason::NotSupported, message, hint).into());
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => {
            return refuse(
                "a temporal join other than JOIN and LEFT JOIN is not supported",
                "turn the sides round, or write JOIN or LEFT JOIN",
            );
        }
    };
    let left = join.left.as_ref().clone();
    let left_traits = traits::of(&left)?;
    if left_traits.is_updating() {
        let hint = "join the rows before they are aggregated or numbered";
        return refuse("a temporal join of rows that are revised is not supported", hint);
    }
    let time = time_of(&left, as_of)?;
    let attribute = left_traits.times[left.schema().index_of_column(&time)?].filter(|attribute| attribute.is_time());
    let Some(attribute) = attribute else {
        let message =
            format!("{} is no event time and no processing time, so there is no telling which version is meant", quoted(&time.name));
        let hint = "name the event time of the left table as spec.eventTime of its Source says, or a column that is PROCTIME()";
        return Err(Refusal::at(as_of.place, Reason::PlanInvalid, message, hint).into());
    };
    let versions = matches!(attribute.clock(), Clock::Event { .. });
    let (right, key, since) = if versions {
        let (versions, key) = versions_of(catalog, as_of)?;
        let right = unmarked(&join.right, versions.plan)?;
        let since = Column::from(right.schema().qualified_field(versions.since));
        (right, key, Some(since))
    } else {
        (unmarked(&join.right, as_of.input.clone())?, None, None)
    };
    let (pairs, mut rest) = pairs(join, &left, &right)?;
    let (mut on, mut others) = (pairs, Vec::new());
    if let Some(key) = key {
        let column = |expr: &Expr| renamed(expr).map(|column| right.schema().index_of_column(column)).transpose();
        let mut of_key = Vec::new();
        for (left_key, right_key) in on {
            match column(&right_key)? {
                Some(column) if key.contains(&column) && !of_key.iter().any(|(known, _)| *known == column) => {
                    of_key.push((column, (left_key, right_key)));
                }
                _ => others.push(Expr::BinaryExpr(BinaryExpr::new(Box::new(left_key), Operator::Eq, Box::new(right_key)))),
            }
        }
        if of_key.len() < key.len() {
            let names: Vec<String> = key.iter().map(|column| quoted(right.schema().field(*column).name())).collect();
            let message = "a temporal join that does not compare the whole key of the versioned table is not supported";
            return refuse(message, &format!("compare {} with columns of the left table, as PARTITION BY names them", names.join(", ")));
        }
        on = of_key.into_iter().map(|(_, pair)| pair).collect();
    }
    if on.is_empty() {
        return refuse("a temporal join without equal columns is not supported", "join on equal columns of both tables: ON t.key = s.key");
    }
    others.append(&mut rest);
    let node = Temporal::new(left, right, time, since, on, conjunction(others), outer)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The column of the left that is meant.
fn time_of(left: &LogicalPlan, as_of: &AsOf) -> Result<Column> {
    let found = match as_of.time.as_slice() {
        [name] => left.schema().qualified_field_with_unqualified_name(name),
        [table, name] => left.schema().qualified_field_with_name(Some(&TableReference::bare(table.as_str())), name),
        _ => left.schema().qualified_field_with_unqualified_name(&as_of.time.join(".")),
    };
    found.map(Column::from).map_err(|_| {
        let message = format!("there is no column {} on the left of the join", as_of.time.join("."));
        let hint = "FOR SYSTEM_TIME AS OF takes a time of the table that is joined, not of the table that is looked up";
        Refusal::at(as_of.place, Reason::UnknownColumn, message, hint).into()
    })
}

/// The versions of a table and, if it keeps the last row of each key, that key. Of a table that is only appended to every row is a version of the key that is joined on.
fn versions_of(catalog: &Catalog, as_of: &AsOf) -> Result<(Versions, Option<Vec<usize>>)> {
    let table = &as_of.input;
    let found = match table {
        LogicalPlan::TableScan(scan) => match catalog.table(scan.table_name.table()).and_then(|table| table.versions.clone()) {
            Some(versions) => {
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(versions.plan), scan.table_name.clone())?);
                Some(Versions { plan, ..versions })
            }
            None => None,
        },
        other => Versions::of(other)?,
    };
    if let Some(versions) = found {
        let key = versions.key.clone();
        return Ok((versions, Some(key)));
    }
    let traits = traits::of(table)?;
    let times: Vec<usize> = traits.times.iter().enumerate().filter(|(_, time)| is_since(**time)).map(|(column, _)| column).collect();
    let hint = "look up an input with an event time, or a step that keeps the last row of each key: SELECT … FROM (SELECT *, ROW_NUMBER() OVER \
                (PARTITION BY key ORDER BY time DESC) AS n FROM t) WHERE n = 1, with key and time among its columns; or join as of PROCTIME() AS a column";
    if traits.is_updating() {
        let message = "a temporal join by event time with this table is not supported: it is revised, and does not say from when on its rows are in force";
        return Err(Refusal::at(as_of.place, Reason::NotSupported, message, hint).into());
    }
    let [since] = times[..] else {
        let message = "a temporal join by event time with a table that has no event time is not supported";
        return Err(Refusal::at(as_of.place, Reason::NotSupported, message, hint).into());
    };
    Ok((Versions { plan: table.clone(), key: Vec::new(), since }, None))
}

fn is_since(time: Option<TimeAttribute>) -> bool {
    matches!(time, Some(TimeAttribute::Time(Clock::Event { .. })))
}

/// Equal expressions of both sides.
type Pairs = Vec<(Expr, Expr)>;

/// Equal expressions of both sides, and what else the condition says.
fn pairs(join: &Join, left: &LogicalPlan, right: &LogicalPlan) -> Result<(Pairs, Vec<Expr>)> {
    let (mut on, mut rest) = (join.on.clone(), Vec::new());
    for condition in join.filter.iter().cloned().flat_map(split_conjunction_owned) {
        if let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::Eq, right: other }) = &condition
            && let Some(pair) = find_valid_equijoin_key_pair(one, other, left.schema(), right.schema())?
        {
            on.push(pair);
        } else {
            rest.push(condition);
        }
    }
    Ok((on, rest))
}
