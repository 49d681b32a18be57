//! The event times in a batch: the latest one, and the rows that have none. Decides nothing about watermarks.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray};
use arrow::compute::{filter, filter_record_batch, is_not_null, max};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

use crate::batch::{Batch, RejectCode, RejectStage, Rejected};
use crate::operators::row_as_json;

/// The latest time in a column of timestamps, microseconds since 1970, rounded down; `None` without rows.
pub(super) fn latest(column: &ArrayRef) -> Result<Option<i64>, ArrowError> {
    fn of<T: ArrowPrimitiveType<Native = i64>>(column: &ArrayRef) -> Option<i64> {
        max(column.as_primitive::<T>())
    }
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => Ok(of::<TimestampSecondType>(column).map(|time| time.saturating_mul(1_000_000))),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(of::<TimestampMillisecondType>(column).map(|time| time.saturating_mul(1000))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(of::<TimestampMicrosecondType>(column)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Ok(of::<TimestampNanosecondType>(column).map(|time| time.div_euclid(1000))),
        other => Err(ArrowError::SchemaError(format!("the event time is a {other}, not a timestamp"))),
    }
}

/// Takes the rows out that have no event time: no window could ever hold them.
pub(super) fn reject_timeless(batch: Batch, column: usize) -> Result<(Batch, Vec<Rejected>), ArrowError> {
    let times = batch.records.column(column);
    if times.null_count() == 0 {
        return Ok((batch, Vec::new()));
    }
    let name = batch.records.schema_ref().field(column).name();
    let timeless = (0..batch.num_rows()).filter(|row| times.is_null(*row)).map(|row| {
        let payload = row_as_json(&batch.records, row);
        Rejected {
            origin: batch.origin.clone(),
            ordinal: batch.ordinals.value(row),
            stage: RejectStage::Transform,
            code: RejectCode::MissingField,
            error: format!("the event time is NULL (column \"{name}\"): a row without a time belongs to no window"),
            payload_bytes: payload.len() as u64,
            payload,
            attempts: 1,
        }
    });
    let rejected = timeless.collect();
    let timed: BooleanArray = is_not_null(times)?;
    let kinds = batch.kinds.as_ref().map(|kinds| kinds.filter(&timed));
    let ordinals = filter(&batch.ordinals, &timed)?.as_primitive().clone();
    Ok((Batch { records: filter_record_batch(&batch.records, &timed)?, ordinals, kinds, ..batch }, rejected))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Int64Array, RecordBatch, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
        UInt64Array,
    };

    use super::*;
    use crate::batch::Origin;

    #[test]
    fn times_of_every_unit() {
        let columns: [(ArrayRef, Option<i64>); 6] = [
            (Arc::new(TimestampSecondArray::from(vec![2, 3, 1])), Some(3_000_000)),
            (Arc::new(TimestampMillisecondArray::from(vec![Some(2), None]).with_timezone("UTC")), Some(2000)),
            (Arc::new(TimestampMicrosecondArray::from(vec![-5, -7])), Some(-5)),
            (Arc::new(TimestampNanosecondArray::from(vec![-1, -1001])), Some(-1)),
            (Arc::new(TimestampSecondArray::from(vec![i64::MAX])), Some(i64::MAX)),
            (Arc::new(TimestampSecondArray::from(Vec::<i64>::new())), None),
        ];
        for (column, expected) in columns {
            assert_eq!(latest(&column).unwrap(), expected, "{column:?}");
        }
        assert!(latest(&(Arc::new(Int64Array::from(vec![1])) as ArrayRef)).is_err());
    }

    #[test]
    fn rows_without_a_time_are_taken_out_and_say_why() {
        let columns: [(&str, ArrayRef); 2] = [
            ("id", Arc::new(Int64Array::from(vec![10, 11, 12]))),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(1), None, Some(3)]))),
        ];
        let records = RecordBatch::try_from_iter(columns).unwrap();
        let batch = Batch::new(records, Origin::new("o", "o"), UInt64Array::from(vec![4, 5, 6]));
        let (batch, rejected) = reject_timeless(batch, 1).unwrap();
        assert_eq!(batch.ordinals.values(), &[4, 6]);
        assert_eq!(batch.records.column(0).as_primitive::<arrow::datatypes::Int64Type>().values(), &[10, 12]);
        assert_eq!((rejected.len(), rejected[0].ordinal, rejected[0].code), (1, 5, RejectCode::MissingField));
        assert!(rejected[0].error.contains("\"at\""));
        assert_eq!(rejected[0].payload, r#"{"id":11}"#);
    }
}
