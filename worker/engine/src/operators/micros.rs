//! Timestamp columns as microseconds since 1970, the unit of watermarks. Never looks at time zones: they do not change the instant.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

/// A timestamp column in microseconds, NULL where it is; nanoseconds are rounded down.
///
/// # Errors
/// If the column holds no timestamps.
pub(super) fn micros(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            Ok(column.as_primitive::<TimestampSecondType>().unary(|time| time.saturating_mul(1_000_000)))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Ok(column.as_primitive::<TimestampMillisecondType>().unary(|time| time.saturating_mul(1_000)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let column = column.as_primitive::<TimestampMicrosecondType>();
            Ok(Int64Array::new(column.values().clone(), column.nulls().cloned()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Ok(column.as_primitive::<TimestampNanosecondType>().unary(|time| time.div_euclid(1_000)))
        }
        other => Err(ArrowError::InvalidArgumentError(format!("a time column of type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray};

    use super::*;

    #[test]
    fn every_unit() {
        let columns: [ArrayRef; 4] = [
            Arc::new(TimestampSecondArray::from(vec![Some(-1), None])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(-1000), None])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1_000_000), None]).with_timezone("UTC")),
            Arc::new(TimestampNanosecondArray::from(vec![Some(-999_999_001), None])),
        ];
        for column in columns {
            assert_eq!(micros(&column).unwrap().iter().collect::<Vec<_>>(), [Some(-1_000_000), None]);
        }
    }
}
