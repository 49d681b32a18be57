//! The event times in a batch: the latest one, and the rows that have none or one that cannot be. Decides nothing about watermarks.

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

/// How far ahead of the clock on the wall an event time may be, in microseconds, beyond the delay of its input: a day. Clocks are wrong by hours (time zones);
/// what is further in the future is a unit mistaken or a field misread, and one such row would end every window until then.
pub(super) const AHEAD: i64 = 24 * 60 * 60 * 1_000_000;

/// Takes the rows out that have no event time: no window could ever hold them.
pub(super) fn reject_timeless(batch: Batch, column: usize) -> Result<(Batch, Vec<Rejected>), ArrowError> {
    let times = batch.records.column(column);
    if times.null_count() == 0 {
        return Ok((batch, Vec::new()));
    }
    let timed: BooleanArray = is_not_null(times)?;
    let name = batch.records.schema_ref().field(column).name();
    let error = format!("the event time is NULL (column \"{name}\"): a row without a time belongs to no window");
    keep(batch, &timed, RejectCode::MissingField, &error)
}

/// Takes the rows out whose event time is later than `limit`, in microseconds; the latest time of the others. Which rows these are depends on when they are read: one that is read again after
/// a failure may have become plausible.
pub(super) fn reject_implausible(batch: Batch, column: usize, limit: i64) -> Result<(Batch, Vec<Rejected>, Option<i64>), ArrowError> {
    let times = batch.records.column(column);
    let last = latest(times)?;
    if last.is_none_or(|last| last <= limit) {
        return Ok((batch, Vec::new(), last));
    }
    let plausible = (0..batch.num_rows()).map(|row| latest(&times.slice(row, 1)).map(|time| Some(time.is_none_or(|time| time <= limit))));
    let plausible: BooleanArray = plausible.collect::<Result<Vec<_>, _>>()?.into();
    let name = batch.records.schema_ref().field(column).name();
    let error = format!(
        "the event time (column \"{name}\") is more than a day ahead of the clock: taken for true, it would end all windows until then. Is it in another unit, or no event time?"
    );
    let (batch, rejected) = keep(batch, &plausible, RejectCode::ImplausibleTime, &error)?;
    let last = latest(batch.records.column(column))?;
    Ok((batch, rejected, last))
}

/// The rows for which `good` is true; the others are rejected.
fn keep(batch: Batch, good: &BooleanArray, code: RejectCode, error: &str) -> Result<(Batch, Vec<Rejected>), ArrowError> {
    let rejected = (0..batch.num_rows()).filter(|row| !good.value(*row)).map(|row| {
        let payload = row_as_json(&batch.records, row);
        Rejected {
            origin: batch.origin.clone(),
            ordinal: batch.ordinals.value(row),
            stage: RejectStage::Transform,
            code,
            error: error.to_owned(),
            payload_bytes: payload.len() as u64,
            payload,
            attempts: 1,
        }
    });
    let rejected = rejected.collect();
    let kinds = batch.kinds.as_ref().map(|kinds| kinds.filter(good));
    let ordinals = filter(&batch.ordinals, good)?.as_primitive().clone();
    Ok((Batch { records: filter_record_batch(&batch.records, good)?, ordinals, kinds, ..batch }, rejected))
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
    fn rows_of_the_far_future_are_taken_out_and_say_why() {
        let far = 253_402_300_799_000_000;
        for unit in [1, 1_000_000] {
            let times = [5, far, 20, 21, i64::MAX].map(|time| if unit == 1 { time } else { time / unit });
            let column: ArrayRef = match unit {
                1 => Arc::new(TimestampMicrosecondArray::from(times.to_vec())),
                _ => Arc::new(TimestampSecondArray::from(times.to_vec())),
            };
            let records = RecordBatch::try_from_iter([("at", column)]).unwrap();
            let batch = Batch::new(records, Origin::new("o", "o"), UInt64Array::from(vec![0, 1, 2, 3, 4]));
            let (kept, rejected, last) = reject_implausible(batch, 0, 20).unwrap();
            assert_eq!(last, Some(if unit == 1 { 20 } else { 0 }));
            let (kept_rows, gone): (&[u64], Vec<u64>) = if unit == 1 { (&[0, 2], vec![1, 3, 4]) } else { (&[0, 2, 3], vec![1, 4]) };
            assert_eq!(kept.ordinals.values(), kept_rows);
            assert_eq!(rejected.iter().map(|row| row.ordinal).collect::<Vec<_>>(), gone);
            assert!(rejected.iter().all(|row| row.code == RejectCode::ImplausibleTime && row.error.contains("\"at\"")));
        }
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
