//! `PROCTIME()`: the time at which the task took a row in, as a column. It may stand in a SELECT list only; what it is, is said by the runtime, never by a clock here.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DataFusionError, Result};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

const NAME: &str = "proctime";
/// Name of the column that holds it on the way; no table can have it.
const COLUMN: &str = "PROCTIME()";

/// A timestamp to the millisecond in UTC, as in Flink.
fn data_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The column that the time is in.
pub(super) fn column() -> FieldRef {
    Arc::new(Field::new(COLUMN, data_type(), false))
}

/// The function, as far as it is planned with.
pub(super) fn function() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::from(ProcTime { signature: Signature::nullary(Volatility::Volatile) })));
    Arc::clone(&FUNCTION)
}

/// Whether an expression is `PROCTIME()` itself.
pub(super) fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == NAME)
}

/// The same under any name.
pub(super) fn is_clock(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_clock(&alias.expr),
        expr => is_call(expr),
    }
}

/// Whether an expression asks for the time anywhere.
pub(super) fn reads_clock(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_call(part))).unwrap_or(true)
}

/// An expression with the time as a column.
pub(super) fn as_column(expr: &Expr) -> Result<Expr> {
    let replaced = |part: Expr| {
        Ok(if is_call(&part) { Transformed::yes(Expr::Column(Column::new_unqualified(COLUMN))) } else { Transformed::no(part) })
    };
    Ok(expr.clone().transform_up(replaced)?.data)
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct ProcTime {
    signature: Signature,
}

impl ScalarUDFImpl for ProcTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("the time is a column that the runtime gives".to_owned()))
    }
}
