//! Which columns are read: from the outputs back to the inputs. Decides nothing about how they are computed.

use std::collections::{BTreeMap, BTreeSet};

use datafusion_common::{DFSchema, DataFusionError, Result};
use datafusion_expr::{Expr, LogicalPlan};

/// Positions in a schema.
pub(super) type Columns = BTreeSet<usize>;

/// Columns of `schema` that an expression reads.
pub(super) fn read_by(expression: &Expr, schema: &DFSchema) -> Result<Columns> {
    expression.column_refs().into_iter().map(|column| schema.index_of_column(column)).collect()
}

/// Adds what `plan` reads of each table, if only `needed` of its own columns are read.
pub(super) fn of_tables(plan: &LogicalPlan, needed: &Columns, tables: &mut BTreeMap<String, Columns>) -> Result<()> {
    if let LogicalPlan::TableScan(scan) = plan {
        let read = needed.iter().map(|column| scan.projection.as_ref().map_or(*column, |projection| projection[*column]));
        tables.entry(scan.table_name.table().to_owned()).or_default().extend(read);
        return Ok(());
    }
    for (input, needed) in plan.inputs().into_iter().zip(of_inputs(plan, needed)?) {
        of_tables(input, &needed, tables)?;
    }
    Ok(())
}

/// What `plan` reads of each of its inputs, if only `needed` of its own columns are read.
pub(super) fn of_inputs(plan: &LogicalPlan, needed: &Columns) -> Result<Vec<Columns>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let mut below = Columns::new();
            for column in needed {
                below.extend(read_by(&projection.expr[*column], projection.input.schema())?);
            }
            Ok(vec![below])
        }
        LogicalPlan::Filter(filter) => Ok(vec![needed.union(&read_by(&filter.predicate, filter.input.schema())?).copied().collect()]),
        LogicalPlan::SubqueryAlias(_) => Ok(vec![needed.clone()]),
        LogicalPlan::Union(union) => Ok(vec![needed.clone(); union.inputs.len()]),
        LogicalPlan::TableScan(_) => Ok(Vec::new()),
        other => Err(outside(other)),
    }
}

/// A node that the whitelist should have stopped.
pub(super) fn outside(node: &LogicalPlan) -> DataFusionError {
    DataFusionError::NotImplemented(format!("{} is not supported", node.display()))
}
