//! Hashes of rows, the same in every process, on every machine and in every release: state is stored by key group, and rows are named by hashes.
//! It is no defence against keys that are made to collide: tables compare keys, not hashes.
//!
//! A value is hashed by what it means, not by how Arrow stores it: a string hashes the same as `Utf8`, `LargeUtf8`, `Utf8View` or out of a dictionary, an integer
//! the same in every width, and -0.0 as 0.0.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use crate::batch::Batch;
use crate::operators::KEY_GROUPS;

/// Hash of a row without columns.
const START: u64 = 0x9e37_79b9_7f4a_7c15;
/// Stands for NULL.
const NULL: u64 = 0xd6e8_feb8_6659_fd93;

/// The key group of a row with this hash.
pub(crate) fn key_group(hash: u64) -> u16 {
    // The upper half: tables use the lower bits.
    (((hash >> 32) * u64::from(KEY_GROUPS)) >> 32) as u16
}

/// One hash for each of `rows` rows of `columns`.
///
/// # Errors
/// If a column has a type that cannot be a key: a list, a struct, a map.
pub(crate) fn hash_rows(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>, ArrowError> {
    let mut hashes = vec![START; rows];
    for column in columns {
        add(column, &mut hashes)?;
    }
    Ok(hashes)
}

/// What [`hash_rows`] gives for one column that fits a word, by [`words`](super::words).
pub(crate) fn hash_word(word: Option<i64>) -> u64 {
    match word {
        Some(word) => mix(START, word as u64),
        None => mix(START.rotate_left(32), NULL),
    }
}

/// One number for each row of a batch that names it, the same in every replay.
pub(crate) fn row_ids(batch: &Batch) -> Vec<u64> {
    let (high, low) = batch.origin.key().split_at(8);
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let origin = mix(mix(word(high), word(low)), batch.branch);
    batch.ordinals.values().iter().map(|ordinal| mix(origin, *ordinal)).collect()
}

/// Mixes a word into a hash. For a given hash no two words give the same: the finalizer is `SplitMix64`'s, <https://doi.org/10.1145/2714064.2660195>.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let mut mixed = hash.rotate_left(29) ^ word.wrapping_add(START);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn add(column: &ArrayRef, hashes: &mut [u64]) -> Result<(), ArrowError> {
    macro_rules! words {
        ($type:ty, $word:expr) => {{
            let array = column.as_primitive::<$type>();
            each(array, hashes, |row| $word(array.value(row)));
        }};
    }
    match column.data_type() {
        DataType::Null => hashes.iter_mut().for_each(|hash| *hash = mix(hash.rotate_left(32), NULL)),
        DataType::Boolean => {
            let array = column.as_boolean();
            each(array, hashes, |row| u64::from(array.value(row)));
        }
        DataType::Int8 => words!(Int8Type, |value| i64::from(value) as u64),
        DataType::Int16 => words!(Int16Type, |value| i64::from(value) as u64),
        DataType::Int32 => words!(Int32Type, |value| i64::from(value) as u64),
        DataType::Int64 => words!(Int64Type, |value: i64| value as u64),
        DataType::UInt8 => words!(UInt8Type, u64::from),
        DataType::UInt16 => words!(UInt16Type, u64::from),
        DataType::UInt32 => words!(UInt32Type, u64::from),
        DataType::UInt64 => words!(UInt64Type, |value| value),
        DataType::Float16 => {
            words!(Float16Type, |value: <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native| float(value.to_f64()))
        }
        DataType::Float32 => words!(Float32Type, |value| float(f64::from(value))),
        DataType::Float64 => words!(Float64Type, float),
        DataType::Date32 => words!(Date32Type, |value| i64::from(value) as u64),
        DataType::Date64 => words!(Date64Type, |value: i64| value as u64),
        DataType::Time32(TimeUnit::Second) => words!(Time32SecondType, |value| i64::from(value) as u64),
        DataType::Time32(_) => words!(Time32MillisecondType, |value| i64::from(value) as u64),
        DataType::Time64(TimeUnit::Microsecond) => words!(Time64MicrosecondType, |value: i64| value as u64),
        DataType::Time64(_) => words!(Time64NanosecondType, |value: i64| value as u64),
        DataType::Timestamp(TimeUnit::Second, _) => words!(TimestampSecondType, |value: i64| value as u64),
        DataType::Timestamp(TimeUnit::Millisecond, _) => words!(TimestampMillisecondType, |value: i64| value as u64),
        DataType::Timestamp(TimeUnit::Microsecond, _) => words!(TimestampMicrosecondType, |value: i64| value as u64),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => words!(TimestampNanosecondType, |value: i64| value as u64),
        DataType::Duration(TimeUnit::Second) => words!(DurationSecondType, |value: i64| value as u64),
        DataType::Duration(TimeUnit::Millisecond) => words!(DurationMillisecondType, |value: i64| value as u64),
        DataType::Duration(TimeUnit::Microsecond) => words!(DurationMicrosecondType, |value: i64| value as u64),
        DataType::Duration(TimeUnit::Nanosecond) => words!(DurationNanosecondType, |value: i64| value as u64),
        DataType::Interval(IntervalUnit::YearMonth) => words!(IntervalYearMonthType, |value| i64::from(value) as u64),
        DataType::Decimal32(..) => words!(Decimal32Type, |value| wide(i128::from(value))),
        DataType::Decimal64(..) => words!(Decimal64Type, |value| wide(i128::from(value))),
        DataType::Decimal128(..) => words!(Decimal128Type, wide),
        DataType::Decimal256(..) => {
            words!(Decimal256Type, |value: arrow::datatypes::i256| match value.to_i128() {
                Some(value) => wide(value),
                None => bytes(&value.to_le_bytes()),
            });
        }
        DataType::Utf8 => {
            let array = column.as_string::<i32>();
            each(array, hashes, |row| bytes(array.value(row).as_bytes()));
        }
        DataType::LargeUtf8 => {
            let array = column.as_string::<i64>();
            each(array, hashes, |row| bytes(array.value(row).as_bytes()));
        }
        DataType::Utf8View => {
            let array = column.as_string_view();
            each(array, hashes, |row| bytes(array.value(row).as_bytes()));
        }
        DataType::Binary => {
            let array = column.as_binary::<i32>();
            each(array, hashes, |row| bytes(array.value(row)));
        }
        DataType::LargeBinary => {
            let array = column.as_binary::<i64>();
            each(array, hashes, |row| bytes(array.value(row)));
        }
        DataType::BinaryView => {
            let array = column.as_binary_view();
            each(array, hashes, |row| bytes(array.value(row)));
        }
        DataType::FixedSizeBinary(_) => {
            let array = column.as_fixed_size_binary();
            each(array, hashes, |row| bytes(array.value(row)));
        }
        DataType::Dictionary(_, values) => add(&cast(column, values)?, hashes)?,
        other => return Err(ArrowError::NotYetImplemented(format!("a column of type {other} cannot be part of a key"))),
    }
    Ok(())
}

fn each(array: &dyn Array, hashes: &mut [u64], word: impl Fn(usize) -> u64) {
    if array.null_count() == 0 {
        hashes.iter_mut().enumerate().for_each(|(row, hash)| *hash = mix(*hash, word(row)));
    } else {
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = if array.is_null(row) { mix(hash.rotate_left(32), NULL) } else { mix(*hash, word(row)) };
        }
    }
}

fn float(value: f64) -> u64 {
    // All NaN are one key, as are both zeros.
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

fn wide(value: i128) -> u64 {
    match i64::try_from(value) {
        Ok(value) => value as u64,
        Err(_) => bytes(&value.to_le_bytes()),
    }
}

fn bytes(value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks::<8>();
    let hash = words.iter().fold(mix(START, value.len() as u64), |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, StringViewArray, UInt64Array};

    use super::*;
    use crate::batch::Origin;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        hash_rows(columns, columns[0].len()).unwrap()
    }

    /// State is stored by these: if this test fails, stored state is lost.
    #[test]
    fn hashes_are_those_of_every_release() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(-1), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), Some("edge"), None]));
        assert_eq!(hashes(&[Arc::clone(&numbers), texts]), GOLDEN);
        assert_eq!(hashes(&[numbers]).into_iter().map(key_group).collect::<Vec<_>>(), GOLDEN_GROUPS);
    }
    const GOLDEN: [u64; 3] = [6_719_422_091_805_409_441, 12_493_692_409_614_272_187, 7_618_796_702_640_763_763];
    const GOLDEN_GROUPS: [u16; 3] = [73, 64, 94];

    #[test]
    fn what_is_equal_hashes_alike() {
        let same: [[ArrayRef; 2]; 3] = [
            [Arc::new(Int32Array::from(vec![7, -3])), Arc::new(Int64Array::from(vec![7, -3]))],
            [Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(StringViewArray::from(vec!["a", "b"]))],
            [Arc::new(Float64Array::from(vec![0.0, f64::NAN])), Arc::new(Float64Array::from(vec![-0.0, -f64::NAN]))],
        ];
        for [one, other] in same {
            assert_eq!(hashes(&[one]), hashes(&[other]));
        }
    }

    #[test]
    fn rows_spread_over_hashes_and_key_groups() {
        let left: ArrayRef = Arc::new((0..100_i64).flat_map(|n| [Some(n), None]).flat_map(|n| [n; 100]).collect::<Int64Array>());
        let right: ArrayRef = Arc::new(Int64Array::from_iter_values((0..20_000).map(|n| n % 100)));
        let all = hashes(&[left, right]);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 100 * 100 + 100, "rows that differ have other hashes; NULL is one value");
        let mut sizes = [0; KEY_GROUPS as usize];
        all.into_iter().collect::<HashSet<_>>().into_iter().for_each(|hash| sizes[usize::from(key_group(hash))] += 1);
        assert!(sizes.iter().all(|size| (30..150).contains(size)), "{sizes:?}");
    }

    #[test]
    fn rows_of_other_origins_and_branches_have_other_names() {
        let records = arrow::array::RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
        let batch = |origin: &str, branch| Batch {
            branch,
            ..Batch::new(records.clone(), Origin::new(origin, origin), UInt64Array::from(vec![0, 1]))
        };
        let ids: HashSet<u64> = [batch("a", 0), batch("b", 0), batch("a", 1)].iter().flat_map(row_ids).collect();
        assert_eq!(ids.len(), 6);
        assert_eq!(row_ids(&batch("a", 0)), row_ids(&batch("a", 0)));
    }
}
