//! Binds logical expressions to the columns of batches. Never optimises them; that has been done.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, Result, ScalarValue, TableReference};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, ExprSchemable, Operator};
use datafusion_physical_expr::create_physical_expr;
use datafusion_physical_expr::expressions::{Column as PhysicalColumn, cast};

use super::build::Bound;
use super::problem::quoted;
use crate::operators::Expression;

/// Binds an expression over the columns of `schema` to batches of `physical` columns; `bound` says where they are. Casts it to `wanted` if it yields another type.
pub(super) fn bind(expr: &Expr, schema: &DFSchema, bound: &Bound, physical: &SchemaRef, wanted: Option<&DataType>) -> Result<Expression> {
    let expr = expr.clone().unalias();
    let (mut places, mut read) = (BTreeSet::new(), BTreeSet::new());
    for column in expr.column_refs() {
        let column_index = schema.index_of_column(column)?;
        read.insert(column_index);
        places.insert(format!("{}@{:?}", column.flat_name(), bound.columns[column_index]));
    }
    let renamed = by_position(schema, &read, bound, physical)?;
    let mut evaluated = create_physical_expr(&expr, &renamed, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    if let Some(wanted) = wanted
        && evaluated.data_type(physical)? != *wanted
    {
        evaluated = cast(evaluated, physical, wanted.clone())?;
    }
    Ok(Expression { physical: evaluated, sql: sql(&expr), identity: format!("{expr} {places:?}") })
}

/// An expression for people, close to how it was written: without the types of literals and the names of tables, with the casts that were added.
pub(super) fn sql(expr: &Expr) -> String {
    // A column is shown as its bare name, so that is what literals become.
    let shown = |part: Expr| {
        let text = match &part {
            Expr::Literal(value, _) => literal(value),
            Expr::Column(column) => Some(quoted(&column.name)),
            _ => None,
        };
        Ok(text.map_or_else(|| Transformed::no(part), |text| Transformed::yes(Expr::Column(Column::new_unqualified(text)))))
    };
    expr.clone().transform_up(shown).map_or_else(|_| expr.to_string(), |shown| shown.data.to_string())
}

/// A literal as it is written; `None` for types that have no plain form.
fn literal(value: &ScalarValue) -> Option<String> {
    if value.is_null() {
        return Some("NULL".to_owned());
    }
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            Some(format!("'{}'", text.replace('\'', "''")))
        }
        value if value.data_type().is_numeric() || value.data_type() == DataType::Boolean => Some(value.to_string()),
        _ => None,
    }
}

/// The column at a position.
pub(super) fn column(physical: &SchemaRef, position: usize) -> Expression {
    let name = physical.field(position).name();
    Expression { physical: Arc::new(PhysicalColumn::new(name, position)), sql: quoted(name), identity: format!("{name:?}@{position}") }
}

/// The batch's columns in their order, under the names that the expression uses for those that it reads.
fn by_position(schema: &DFSchema, read: &BTreeSet<usize>, bound: &Bound, physical: &SchemaRef) -> Result<DFSchema> {
    let mut fields: Vec<(Option<TableReference>, Arc<Field>)> = physical
        .fields()
        .iter()
        .enumerate()
        .map(|(position, field)| (None, Arc::new(field.as_ref().clone().with_name(format!("\u{0}{position}")))))
        .collect();
    for column in read {
        if let Some(position) = bound.columns[*column] {
            let (qualifier, field) = schema.qualified_field(*column);
            let named = physical.field(position).clone().with_name(field.name());
            fields[position] = (qualifier.cloned(), Arc::new(named));
        }
    }
    DFSchema::new_with_metadata(fields, HashMap::new())
}

/// Whether a part of a condition should see only the rows that passed the parts before it: because it may fail on some value, or because it costs much.
pub(super) fn is_guarded(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let mut guarded = false;
    expr.apply(|part| {
        guarded |= match part {
            Expr::ScalarFunction(_) | Expr::HigherOrderFunction(_) | Expr::SimilarTo(_) | Expr::Case(_) => true,
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::Divide | Operator::Modulo => !divides(&binary.right),
                Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => true,
                _ => false,
            },
            Expr::Cast(cast) => !cannot_fail(&cast.expr.get_type(schema)?, cast.field.data_type()),
            _ => false,
        };
        Ok(if guarded { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(guarded)
}

/// Whether an expression is a number that every number can be divided by; -1 is not, because of the lowest integer.
fn divides(divisor: &Expr) -> bool {
    let Expr::Literal(value, _) = divisor else { return false };
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(number))) => number >= 1.0 || number <= -2.0,
        _ => false,
    }
}

/// Whether every value of `from` fits `to`; false where it takes thinking to know.
fn cannot_fail(from: &DataType, to: &DataType) -> bool {
    let wider = match (from.primitive_width(), to.primitive_width()) {
        (Some(from), Some(to)) => to >= from,
        _ => false,
    };
    match (from, to) {
        (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => true,
        (from, DataType::Float64) => from.is_integer() || from.is_floating(),
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => wider,
        (from, to) if from.is_unsigned_integer() && to.is_unsigned_integer() => wider,
        (from, to) => from == to,
    }
}
