//! What is encoded is decoded to the same: JSON lines in all compressions and Parquet, over random batches of all column types. And the encoders' own promises.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use bytes::Bytes;
use millrace_crds::format::Compression;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::decompress::Decompressor;
use super::super::file_encoder;
use super::super::parquet_in::ParquetReader;
use super::{Input, LIMITS, rows, sink_format};
use crate::formats::parquet_in::tests::InMemory;

const COLUMNS: &str = "a Boolean, b Integer, c BigInt, d Real, e Double, f Decimal(20;4), g Varchar, h Varbinary, i Date, j Timestamp";

type Row = (
    (Option<bool>, Option<i32>, Option<i64>, Option<f32>, Option<f64>),
    (Option<i128>, Option<String>, Option<Vec<u8>>, Option<i32>, Option<i64>),
);

fn row() -> impl Strategy<Value = Row> {
    use prop::num::{f32, f64};
    let days = -719_162..=2_932_896_i32;
    let micros = -62_135_596_800_000_000..=253_402_300_799_999_999_i64;
    let decimal = -99_999_999_999_999_999_999_i128..=99_999_999_999_999_999_999;
    let float = f32::NORMAL | f32::SUBNORMAL | f32::ZERO;
    let double = f64::NORMAL | f64::SUBNORMAL | f64::ZERO;
    (
        (any::<Option<bool>>(), any::<Option<i32>>(), any::<Option<i64>>(), option::of(float), option::of(double)),
        (option::of(decimal), option::of(".{0,20}"), option::of(vec(any::<u8>(), 0..20)), option::of(days), option::of(micros)),
    )
}

fn batch(input: &Input, rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0.0).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|r| r.0.1).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.0.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.0.3).collect::<Float32Array>()),
        Arc::new(rows.iter().map(|r| r.0.4).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.1.0).collect::<Decimal128Array>().with_precision_and_scale(20, 4).unwrap()),
        Arc::new(rows.iter().map(|r| r.1.1.as_deref()).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|r| r.1.2.as_deref()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|r| r.1.3).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|r| r.1.4).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::clone(&input.table), columns).unwrap()
}

fn encode(format: Value, batches: &[RecordBatch]) -> Vec<u8> {
    let mut encoder = file_encoder(&sink_format(format), &batches[0].schema()).unwrap();
    let mut file = Vec::new();
    for batch in batches {
        encoder.write(batch).unwrap();
        file.extend(encoder.take().concat());
    }
    file.extend(encoder.finish().unwrap().concat());
    file
}

fn decompress(bytes: Vec<u8>) -> Vec<u8> {
    let mut decompressor = Decompressor::new(Compression::Auto, &LIMITS);
    let mut plain = Vec::new();
    decompressor.push(Bytes::from(bytes)).unwrap();
    while let Some(chunk) = decompressor.next().unwrap() {
        plain.extend_from_slice(&chunk);
    }
    decompressor.finish().unwrap();
    while let Some(chunk) = decompressor.next().unwrap() {
        plain.extend_from_slice(&chunk);
    }
    plain
}

/// All batches of a decoder in one.
fn read_json(input: &Input, text: Vec<u8>) -> RecordBatch {
    let mut decoder = input.decoder(None);
    decoder.push(Bytes::from(text));
    decoder.finish();
    let batches: Vec<RecordBatch> = std::iter::from_fn(|| decoder.next())
        .map(|decoded| {
            assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
            decoded.records
        })
        .collect();
    arrow::compute::concat_batches(&input.table, &batches).unwrap()
}

async fn read_parquet(input: &Input, file: Vec<u8>) -> RecordBatch {
    let mut reader = ParquetReader::open(InMemory::boxed(file), &input.table, &input.projection, &LIMITS, 0).await.unwrap();
    let mut batches = Vec::new();
    while let Some(decoded) = reader.next().await.unwrap() {
        assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        batches.push(decoded.records);
    }
    arrow::compute::concat_batches(&input.table, &batches).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_batches_survive(batches in vec(vec(row(), 1..20), 1..4)) {
        let input = Input::json(COLUMNS);
        let batches: Vec<RecordBatch> = batches.iter().map(|rows| batch(&input, rows)).collect();
        let whole = arrow::compute::concat_batches(&input.table, &batches).unwrap();
        for compression in ["None", "Gzip", "Zstd"] {
            let file = encode(json!({"json": {"compression": compression}}), &batches);
            prop_assert_eq!(&read_json(&input, decompress(file)), &whole);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for options in [json!({}), json!({"compression": "Snappy", "rowGroupRows": 7}), json!({"compression": "None", "rowGroupRows": 1})] {
            let file = encode(json!({"parquet": options}), &batches);
            prop_assert_eq!(&runtime.block_on(read_parquet(&input, file)), &whole);
        }
    }

    #[test]
    fn random_texts_survive_as_json(texts in vec(any::<String>(), 1..50)) {
        let input = Input::json("g Varchar");
        let column: ArrayRef = Arc::new(StringViewArray::from_iter_values(&texts));
        let batch = RecordBatch::try_new(Arc::clone(&input.table), vec![column]).unwrap();
        let file = encode(json!({"json": {}}), std::slice::from_ref(&batch));
        prop_assert_eq!(read_json(&input, file), batch);
    }
}

fn numbers(count: i64) -> RecordBatch {
    let input = Input::json("c BigInt, g Varchar");
    let texts = (0..count).map(|n| format!("text number {}", n.wrapping_mul(7_919) % 1_000_003));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..count)), Arc::new(StringViewArray::from_iter_values(texts))];
    RecordBatch::try_new(input.table, columns).unwrap()
}

#[test]
fn files_are_the_same_every_time() {
    for format in [json!({"json": {"compression": "Gzip"}}), json!({"json": {"compression": "Zstd"}}), json!({"parquet": {}})] {
        assert_eq!(encode(format.clone(), &[numbers(1000)]), encode(format, &[numbers(1000)]));
    }
}

#[test]
fn the_estimate_follows_the_file() {
    for format in
        [json!({"json": {}}), json!({"json": {"compression": "Gzip"}}), json!({"parquet": {"compression": "None", "rowGroupRows": 20_000}})]
    {
        let batch = numbers(50_000);
        let mut encoder = file_encoder(&sink_format(format.clone()), &batch.schema()).unwrap();
        encoder.write(&batch).unwrap();
        let estimated = encoder.estimated_bytes();
        let taken: usize = encoder.take().iter().map(Bytes::len).sum();
        assert!(taken > 0, "{format}: nothing can be uploaded before the end");
        assert!(encoder.estimated_bytes() >= taken as u64);
        let size = (taken + encoder.finish().unwrap().iter().map(Bytes::len).sum::<usize>()) as u64;
        assert!(estimated * 10 >= size * 7 && estimated * 10 <= size * 13, "{format}: {estimated} for {size}");
        assert!(encoder.finish().unwrap().is_empty());
    }
}

#[test]
fn a_batch_of_other_columns_is_refused_whole() {
    for format in [json!({"json": {}}), json!({"parquet": {}})] {
        let batch = numbers(3);
        let mut encoder = file_encoder(&sink_format(format.clone()), &batch.schema()).unwrap();
        encoder.write(&batch.project(&[1, 0]).unwrap()).unwrap_err();
        encoder.write(&batch).unwrap();
        let file = encoder.finish().unwrap().concat();
        assert_eq!(file, encode(format, &[batch]));
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let batch = numbers(0);
    let parquet = encode(json!({"parquet": {}}), std::slice::from_ref(&batch));
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    assert!(encode(json!({"json": {}}), std::slice::from_ref(&batch)).is_empty());
    let gzip = encode(json!({"json": {"compression": "Gzip"}}), &[batch]);
    assert!(decompress(gzip).is_empty());
}

#[test]
fn what_is_written_reads_like_this() {
    let input = Input::json(COLUMNS);
    let text = "{\"a\":true,\"b\":-1,\"c\":9007199254740993,\"d\":0.1,\"e\":1e300,\"f\":1234567890123456.8900,\"g\":\"\\\"\\\\\\n\\u0001é\",\"h\":\"AP8=\",\"i\":\"2024-02-29\",\"j\":\"2024-02-29T12:00:00.000001Z\"}\n{}\n";
    let batch = read_json(&input, text.as_bytes().to_vec());
    assert_eq!(String::from_utf8(encode(json!({"json": {}}), std::slice::from_ref(&batch))).unwrap(), text.replace("1e300", "1e+300"));
    assert_eq!(rows(&batch).len(), 2);
}
