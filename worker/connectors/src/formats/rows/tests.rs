//! Every Arrow type as JSON. Round trips of the types that sources have are in `formats/tests/round_trip.rs`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryViewArray, Date64Array, Decimal128Array, Decimal256Array, DictionaryArray, DurationSecondArray,
    FixedSizeBinaryArray, Float16Array, Float32Array, Float64Array, Int32Array, LargeBinaryArray, LargeStringArray, ListArray, MapBuilder,
    NullArray, RecordBatch, StringArray, StringBuilder, StructArray, Time32MillisecondArray, Time32SecondArray, Time64MicrosecondArray,
    Time64NanosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float16Type, Int8Type, Int32Type, i256};

use super::RowEncoder;

/// The documents of a batch with the one column `c`.
fn documents(column: ArrayRef) -> Vec<String> {
    let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
    let mut encoder = RowEncoder::new(&batch.schema()).unwrap();
    let (mut out, mut ends) = (b"before".to_vec(), vec![6]);
    encoder.encode(&batch, &mut out, &mut ends).unwrap();
    ends.windows(2).map(|pair| String::from_utf8(out[pair[0]..pair[1]].to_vec()).unwrap()).collect()
}

#[test]
fn every_type_has_its_form() {
    let halves = Float16Array::from_iter([Some(<Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native::from_f32(0.5)), None]);
    let wide = Decimal256Array::from(vec![Some(i256::from_i128(-1_234)), None]).with_precision_and_scale(50, 2).unwrap();
    let cases: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])), "18446744073709551615"),
        (Arc::new(halves), "0.5"),
        (Arc::new(Float32Array::from(vec![Some(0.1), None])), "0.1"),
        (Arc::new(Float64Array::from(vec![Some(f64::NAN), None])), "null"),
        (Arc::new(wide), "-12.34"),
        (Arc::new(StringArray::from(vec![Some("x"), None])), "\"x\""),
        (Arc::new(LargeStringArray::from(vec![Some(""), None])), "\"\""),
        (Arc::new(LargeBinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), None])), "\"AP8=\""),
        (Arc::new(BinaryViewArray::from(vec![Some(&b""[..]), None])), "\"\""),
        (Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([1, 2, 3]), None].into_iter(), 3).unwrap()), "\"AQID\""),
        (Arc::new(Date64Array::from(vec![Some(86_400_000 * 2 - 1), None])), "\"1970-01-02\""),
        (Arc::new(Time32SecondArray::from(vec![Some(86_399), None])), "\"23:59:59\""),
        (Arc::new(Time32MillisecondArray::from(vec![Some(1), None])), "\"00:00:00.001\""),
        (Arc::new(Time64MicrosecondArray::from(vec![Some(1), None])), "\"00:00:00.000001\""),
        (Arc::new(Time64NanosecondArray::from(vec![Some(1), None])), "\"00:00:00.000000001\""),
        (Arc::new(TimestampSecondArray::from(vec![Some(-1), None])), "\"1969-12-31T23:59:59Z\""),
        (Arc::new(TimestampMillisecondArray::from(vec![Some(1), None])), "\"1970-01-01T00:00:00.001Z\""),
        (Arc::new(TimestampNanosecondArray::from(vec![Some(1), None])), "\"1970-01-01T00:00:00.000000001Z\""),
    ];
    for (column, expected) in cases {
        let name = column.data_type().clone();
        assert_eq!(documents(column), [format!("{{\"c\":{expected}}}"), "{}".to_owned()], "{name}");
    }
    assert_eq!(documents(Arc::new(NullArray::new(2))), ["{}", "{}"]);
}

#[test]
fn decimals_have_all_their_digits() {
    let cases: [(i128, i8, &str); 8] = [
        (12_345, 2, "123.45"),
        (-5, 2, "-0.05"),
        (0, 2, "0.00"),
        (7, 0, "7"),
        (7, -2, "700"),
        (0, -2, "0"),
        (99_999_999_999_999_999_999_999_999_999_999_999_999, 38, "0.99999999999999999999999999999999999999"),
        (-1, 38, "-0.00000000000000000000000000000000000001"),
    ];
    for (value, scale, expected) in cases {
        let column = Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap();
        assert_eq!(documents(Arc::new(column)), [format!("{{\"c\":{expected}}}")]);
    }
}

#[test]
fn nested_values_are_arrays_and_objects() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None, Some(3)]), None, Some(vec![])]);
    assert_eq!(documents(Arc::new(list.clone())), ["{\"c\":[1,null,3]}", "{}", "{\"c\":[]}"]);
    let sliced: ArrayRef = Arc::new(list.slice(1, 2));
    assert_eq!(documents(sliced), ["{}", "{\"c\":[]}"]);
    let view = arrow::compute::cast(&list, &DataType::ListView(Field::new_list_field(DataType::Int32, true).into())).unwrap();
    assert_eq!(documents(view), ["{\"c\":[1,null,3]}", "{}", "{\"c\":[]}"]);
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let nested = StructArray::from(vec![(Arc::new(Field::new("a\"b", DataType::Int32, true)), inner)]);
    assert_eq!(documents(Arc::new(nested)), ["{\"c\":{\"a\\\"b\":1}}", "{\"c\":{}}"]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(false).unwrap();
    assert_eq!(documents(Arc::new(map.finish())), ["{\"c\":{\"k\":null}}", "{}"]);
}

#[test]
fn dictionaries_are_their_values() {
    let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let keys = arrow::array::PrimitiveArray::<Int8Type>::from(vec![Some(0), Some(1), None]);
    let column = DictionaryArray::try_new(keys, values).unwrap();
    assert_eq!(documents(Arc::new(column)), ["{\"c\":\"a\"}", "{}", "{}"]);
}

#[test]
fn types_without_a_form_are_refused_by_name() {
    let batch = RecordBatch::try_from_iter([("took", Arc::new(DurationSecondArray::from(vec![1])) as ArrayRef)]).unwrap();
    let error = RowEncoder::new(&batch.schema()).unwrap_err();
    assert!(error.message.contains("\"took\""), "{}", error.message);
}

#[test]
fn a_batch_of_other_columns_is_refused() {
    let batch = |column: ArrayRef| RecordBatch::try_from_iter([("c", column)]).unwrap();
    let numbers = batch(Arc::new(Int32Array::from(vec![1])));
    let mut encoder = RowEncoder::new(&numbers.schema()).unwrap();
    let mut out = Vec::new();
    assert!(encoder.encode(&batch(Arc::new(StringArray::from(vec!["1"]))), &mut out, &mut Vec::new()).is_err());
    assert!(out.is_empty());
    assert_eq!(numbers.column(0).as_primitive::<Int32Type>().value(0), 1);
}
