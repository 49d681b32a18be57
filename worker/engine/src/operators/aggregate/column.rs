//! Columns of results, and times as columns: microseconds to timestamps of any unit and back. Keeps nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Int64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

use super::call::Call;
use crate::operators::micros::micros;
use crate::state::hash_rows;

/// What a column of a result is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutputColumn {
    /// A key, by position among the keys.
    Key(usize),
    /// Where the window starts.
    WindowStart,
    /// The first moment after the window.
    WindowEnd,
    /// The last millisecond of the window.
    WindowTime,
    /// The result of a call, by position among the calls.
    Call(usize),
}

impl OutputColumn {
    /// The column that arrives and is passed on in this one, if it is a key; `keys` are the positions of the keys among what arrives.
    pub(super) fn lineage(self, keys: &[usize]) -> Option<Vec<usize>> {
        if let Self::Key(key) = self { Some(vec![keys[key]]) } else { None }
    }
}

/// The columns of a result as they stand in the plan: keys by their names, calls as SQL.
pub(super) fn described(output: &[OutputColumn], calls: &[Call], schema: &Schema) -> String {
    let columns = output.iter().zip(schema.fields()).map(|(column, field)| match column {
        OutputColumn::Call(call) => calls[*call].sql.clone(),
        _ => field.name().clone(),
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// The columns that rows are grouped by, of those that arrive. Without any, all rows are of one key, which stands there as a number.
pub(super) fn key_columns(keys: &[usize], columns: &[ArrayRef], rows: usize) -> Vec<ArrayRef> {
    if keys.is_empty() {
        vec![Arc::new(Int64Array::from_value(0, rows))]
    } else {
        keys.iter().map(|key| Arc::clone(&columns[*key])).collect()
    }
}

/// The types of [`key_columns`].
pub(super) fn key_types(types: &[DataType]) -> Vec<DataType> {
    if types.is_empty() { vec![DataType::Int64] } else { types.to_vec() }
}

/// One millisecond.
pub(in crate::operators) const MILLISECOND: i64 = 1000;

/// A timestamp column in microseconds, rounded down; NULL stays NULL.
pub(in crate::operators) fn microseconds(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    match column.data_type() {
        DataType::Timestamp(..) => micros(column),
        _ => Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
    }
}

/// Microseconds as timestamps of a type.
pub(in crate::operators) fn timestamps(micros: Int64Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            Arc::new(micros.unary::<_, TimestampSecondType>(|value| value.div_euclid(1_000_000)).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            Arc::new(micros.unary::<_, TimestampMillisecondType>(|value| value.div_euclid(MILLISECOND)).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(micros.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Arc::new(micros.unary::<_, TimestampNanosecondType>(|value| value.saturating_mul(1000)).with_timezone_opt(zone.clone()))
        }
        other => return cast(&micros, other),
    })
}

/// The same moment for `rows` rows.
pub(in crate::operators) fn moment(micros: i64, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    timestamps(Int64Array::from_value(micros, rows), data_type)
}

/// Numbers that name rows made for a key in a window: the same in every replay.
pub(in crate::operators) fn row_numbers(hashes: &[u64], start: i64, end: i64) -> Result<UInt64Array, ArrowError> {
    let rows = hashes.len();
    let columns: [ArrayRef; 3] = [
        Arc::new(UInt64Array::from(hashes.to_vec())),
        Arc::new(Int64Array::from_value(start, rows)),
        Arc::new(Int64Array::from_value(end, rows)),
    ];
    Ok(hash_rows(&columns, rows)?.into())
}
