//! From `t FOR SYSTEM_TIME AS OF s.time` in FROM to a mark on the table. Knows nothing of `s`.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::LogicalPlan;
use datafusion_expr::logical_plan::Extension;
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_sql::sqlparser::ast::{Expr as SqlExpr, Spanned, TableFactor, TableVersion};

use super::node::AsOf;
use crate::plan::problem::{Reason, Refusal};
use crate::plan::text::Place;

/// Plans a table with a version.
#[derive(Debug)]
pub(in crate::plan) struct AsOfPlanner;

impl RelationPlanner for AsOfPlanner {
    fn plan_relation(&self, mut relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let TableFactor::Table { version, alias, .. } = &mut relation else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let Some(TableVersion::ForSystemTimeAsOf(time)) = version.take() else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let alias = alias.take();
        let place = Place::new(time.span().start);
        let idents = match &time {
            SqlExpr::Identifier(ident) => vec![ident.clone()],
            SqlExpr::CompoundIdentifier(idents) => idents.clone(),
            other => {
                let message = format!("FOR SYSTEM_TIME AS OF {other} is not supported");
                let hint =
                    "write the name of a column of the other table: its event time, or PROCTIME() AS a column of a step or subquery below";
                return Err(Refusal::at(place, Reason::NotSupported, message, hint).into());
            }
        };
        let time = idents.into_iter().map(|ident| context.normalize_ident(ident)).collect();
        let input = context.plan(relation)?;
        let node = LogicalPlan::Extension(Extension { node: Arc::new(AsOf { input, time, place }) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(node, alias))))
    }
}
