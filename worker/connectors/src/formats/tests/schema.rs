//! Which formats and schemas go together. No data is decoded here.

use arrow::datatypes::{DataType, TimeUnit};
use millrace_crds::report::ErrorReason;
use serde_json::json;

use super::super::{can_encode, file_encoder, file_extension, is_stream_seekable, record_decoder, stream_decoder, table_schema};
use super::{Input, LIMITS, schema, sink_format};

#[test]
fn column_types_become_arrow_types() {
    let input =
        Input::json("a Boolean, b Integer, c BigInt, d Real, e Double, f Decimal(10;3), g Varchar!, h Varbinary, i Date, j Timestamp");
    let types: Vec<&DataType> = input.table.fields().iter().map(|field| field.data_type()).collect();
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(
        types,
        [
            &DataType::Boolean,
            &DataType::Int32,
            &DataType::Int64,
            &DataType::Float32,
            &DataType::Float64,
            &DataType::Decimal128(10, 3),
            &DataType::Utf8View,
            &DataType::Binary,
            &DataType::Date32,
            &timestamp
        ]
    );
    assert!(input.table.field(0).is_nullable());
    assert!(!input.table.field(6).is_nullable());
}

#[test]
fn a_schema_must_fit_its_format() {
    let cases = [
        (json!({"json": {}}), None, "needs schema.columns"),
        (json!({"csv": {}}), None, "needs schema.columns"),
        (json!({"parquet": {}}), None, "needs schema.columns"),
        (json!({"raw": {}}), Some("a BigInt"), "remove schema"),
        (json!({"cloudFront": {}}), Some("a BigInt"), "remove schema"),
        (json!({"vpcFlow": {}}), Some("a BigInt"), "remove schema"),
        (json!({}), None, "exactly one of"),
        (json!({"json": {}, "raw": {}}), None, "exactly one of"),
        (json!({"json": {}}), Some("a BigInt, a Varchar"), "names \"a\" twice"),
        (json!({"json": {}}), Some("a Decimal"), "precision"),
        (json!({"json": {}}), Some("a Decimal(5;6)"), "scale"),
        (json!({"json": {}}), Some("a Decimal(39;0)"), "precision"),
    ];
    for (format, columns, hint) in cases {
        let parsed = serde_json::from_value(format.clone()).unwrap();
        let error = table_schema(&parsed, columns.map(schema).as_ref()).unwrap_err();
        assert_eq!(error.reason, ErrorReason::Invalid);
        assert!(error.message.contains(hint), "{format}: {}", error.message);
    }
}

#[test]
fn decoders_refuse_what_they_cannot_read() {
    let hint = |input: &Input, records: bool| {
        let (format, table, projection) = (&input.format, &input.table, &input.projection);
        let error = if records {
            record_decoder(format, table, projection, &LIMITS).err()
        } else {
            stream_decoder(format, table, projection, &LIMITS, None).err()
        };
        error.map(|error| error.message)
    };
    let parquet = Input::new(json!({"parquet": {}}), "a BigInt");
    assert!(!is_stream_seekable(&parquet.format));
    assert!(hint(&parquet, false).is_some() && hint(&parquet, true).is_some());
    for format in ["cloudFront", "vpcFlow"] {
        let input = Input::new(json!({format: {}}), "");
        assert!(is_stream_seekable(&input.format));
        assert!(hint(&input, true).unwrap().contains("use json, csv or raw"));
    }
    let csv = Input::new(json!({"csv": {}}), "a BigInt");
    assert!(hint(&csv, true).unwrap().contains("header to Absent"));
    assert!(hint(&csv.clone().reading(&["b"]), false).unwrap().contains('b'));
    for delimiter in ["\"", "ab", "é", "\n", ""] {
        let input = Input::new(json!({"csv": {"delimiter": delimiter}}), "a BigInt");
        assert!(hint(&input, false).unwrap().contains("delimiter"), "{delimiter:?}");
    }
}

#[test]
fn sinks_refuse_columns_that_they_cannot_write() {
    use arrow::datatypes::{Field, IntervalUnit, Schema};
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let nested = DataType::List(Field::new_list_field(interval.clone(), true).into());
    for format in [json!({"json": {}}), json!({"parquet": {}})] {
        let format = sink_format(format);
        for data_type in [&interval, &nested] {
            let columns = Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("took", data_type.clone(), true)]).into();
            let error = can_encode(&format, &columns).unwrap_err();
            assert!(error.message.contains("\"took\""), "{}", error.message);
            assert!(file_encoder(&format, &columns).is_err());
        }
        let fine = Schema::new(vec![Field::new("a", DataType::Int32, true)]).into();
        can_encode(&format, &fine).unwrap();
    }
    let nothing = Schema::empty().into();
    assert!(can_encode(&sink_format(json!({"parquet": {}})), &nothing).is_err());
    assert!(can_encode(&sink_format(json!({})), &nothing).is_err());
}

#[test]
fn extensions_say_what_is_inside() {
    let cases = [
        (json!({"json": {}}), "json"),
        (json!({"json": {"compression": "None"}}), "json"),
        (json!({"json": {"compression": "Gzip"}}), "json.gz"),
        (json!({"json": {"compression": "Zstd"}}), "json.zst"),
        (json!({"parquet": {}}), "parquet"),
    ];
    for (format, extension) in cases {
        assert_eq!(file_extension(&sink_format(format)), extension);
    }
}
