//! Parquet files, good, unfitting and hostile. Round trips are in `formats/tests/round_trip.rs`.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Int8Array, Int32Array, Int64Array,
    LargeStringArray, RecordBatch, StringArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{Int32Type, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use millrace_engine::batch::RejectCode;
use millrace_engine::connector::ConnectorError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use serde_json::json;

use super::super::tests::{Input, LIMITS, Output};
use super::guard::{check_footer, check_pages};
use super::{ParquetReader, RangeReader, ReadError};
use crate::context::ResolvedLimits;

/// An object in memory that remembers what was read of it.
pub(in crate::formats) struct InMemory {
    file: Bytes,
    read: Arc<Mutex<Vec<Range<u64>>>>,
}

impl InMemory {
    pub(in crate::formats) fn boxed(file: Vec<u8>) -> Box<dyn RangeReader> {
        Box::new(Self { file: Bytes::from(file), read: Arc::default() })
    }
}

#[async_trait]
impl RangeReader for InMemory {
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {}", self.len());
        self.read.lock().unwrap().push(range.clone());
        Ok(self.file.slice(range.start as usize..range.end as usize))
    }

    fn len(&self) -> u64 {
        self.file.len() as u64
    }
}

fn input(columns: &str) -> Input {
    Input::new(json!({"parquet": {}}), columns)
}

fn file_with(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    file_with(columns, WriterProperties::default())
}

/// 1,000 rows in row groups of 100.
fn numbers() -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let texts = (0..1000).map(|n| format!("text {n}"));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int64Array::from_iter_values(0..1000))),
        ("b", Arc::new(StringArray::from_iter_values(texts))),
        ("c", Arc::new(Int64Array::from_iter_values((0..1000).map(|n| n * 1_000_003)))),
    ];
    file_with(columns, properties)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

async fn read_from(input: &Input, file: Vec<u8>, row: u64) -> Result<Output, ReadError> {
    let mut reader = ParquetReader::open(InMemory::boxed(file), &input.table, &input.projection, &input.limits, row).await?;
    let mut output = Output::default();
    while let Some(decoded) = reader.next().await? {
        output.add(decoded);
    }
    Ok(output)
}

fn read(input: &Input, file: Vec<u8>) -> Result<Output, ReadError> {
    block_on(read_from(input, file, 0))
}

fn refusal(result: Result<Output, ReadError>) -> (RejectCode, String) {
    match result {
        Err(ReadError::Refused { code, error }) => (code, error),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn only_the_used_columns_are_read() {
    let input = input("a BigInt, b Varchar, c BigInt");
    let bytes_read = |projection: &[&str]| {
        let input = input.clone().reading(projection);
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let reader = Box::new(InMemory { file: Bytes::from(numbers()), read: Arc::clone(&ranges) });
        let rows = block_on(async {
            let mut reader = ParquetReader::open(reader, &input.table, &input.projection, &LIMITS, 0).await.unwrap();
            let mut rows = 0;
            while let Some(decoded) = reader.next().await.unwrap() {
                assert_eq!(decoded.records.num_columns(), projection.len());
                rows += decoded.records.num_rows();
            }
            rows
        });
        assert_eq!(rows, 1000);
        let ranges = ranges.lock().unwrap();
        (ranges.len(), ranges.iter().map(|range| range.end - range.start).sum::<u64>())
    };
    let (footer_reads, footer) = bytes_read(&[]);
    assert_eq!(footer_reads, 2);
    let (reads, all) = bytes_read(&["c", "a", "b"]);
    assert_eq!(reads, 12, "columns that touch each other are read in one go");
    let (reads, one) = bytes_read(&["b"]);
    assert_eq!(reads, 12);
    assert!(one - footer < (all - footer) / 2, "{one} of {all}");
}

#[test]
fn reading_goes_on_at_any_row() {
    let input = input("a BigInt, b Varchar");
    for row in [0, 1, 99, 100, 101, 550, 999, 1000, 5000] {
        let output = block_on(read_from(&input, numbers(), row)).unwrap();
        assert_eq!(output.ordinals, (row..1000).collect::<Vec<_>>(), "{row}");
        assert!(output.rows.iter().zip(&output.ordinals).all(|(r, n)| r["a"] == *n && r["b"] == format!("text {n}")));
    }
}

#[test]
fn positions_follow_the_batches() {
    let input = input("a BigInt");
    block_on(async {
        let mut reader = ParquetReader::open(InMemory::boxed(numbers()), &input.table, &input.projection, &LIMITS, 42).await.unwrap();
        assert_eq!(reader.position(), 42);
        while let Some(decoded) = reader.next().await.unwrap() {
            assert_eq!(reader.position(), decoded.ordinals.values().last().unwrap() + 1);
        }
        assert_eq!(reader.position(), 1000);
        assert!(reader.next().await.unwrap().is_none());
    });
}

#[test]
fn values_are_widened() {
    let dictionary: DictionaryArray<Int32Type> = ["x", "y", "x"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int8Array::from(vec![Some(-1), None, Some(2)]))),
        ("b", Arc::new(UInt32Array::from(vec![u32::MAX, 0, 1]))),
        ("c", Arc::new(Float32Array::from(vec![0.5, 1.0, 2.0]))),
        ("d", Arc::new(dictionary)),
        ("e", Arc::new(LargeStringArray::from(vec!["p", "q", "r"]))),
        ("f", Arc::new(TimestampNanosecondArray::from(vec![1_999, 0, -1]))),
        ("g", Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]).with_timezone("+02:00"))),
        ("h", Arc::new(Decimal128Array::from(vec![150, 1, 2]).with_precision_and_scale(5, 2).unwrap())),
        ("i", Arc::new(BinaryArray::from_vec(vec![b"text", b"", b"x"]))),
        ("j", Arc::new(Date32Array::from(vec![0, 1, 2]))),
        ("k", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ];
    let input = input(
        "k Boolean, a Integer, b BigInt, c Double, d Varchar, e Varchar, f Timestamp, g Timestamp, h Decimal(10;4), i Varchar, j Date, absent Varchar",
    );
    let output = read(&input, file(columns)).unwrap();
    let expected = json!({"k": true, "a": -1, "b": 4_294_967_295_i64, "c": 0.5, "d": "x", "e": "p", "f": "1970-01-01T00:00:00.000001Z",
        "g": "1970-01-01T00:00:00.001Z", "h": 1.5, "i": "text", "j": "1970-01-01"});
    assert_eq!(output.rows[0], expected);
    assert_eq!(output.rows.len(), 3);
}

#[test]
fn a_column_of_another_type_refuses_the_object() {
    let long = || -> Vec<(&str, ArrayRef)> { vec![("a", Arc::new(Int64Array::from(vec![1])))] };
    for kind in ["Integer", "Varchar", "Double", "Timestamp", "Boolean", "Decimal(10;0)"] {
        let (code, error) = refusal(read(&input(&format!("a {kind}")), file(long())));
        assert_eq!(code, RejectCode::TypeMismatch);
        assert!(error.contains("column \"a\" is Int64 in the file"), "{error}");
    }
    assert!(read(&input("a Integer, b BigInt").reading(&["b"]), file(long())).is_ok(), "nobody reads it");
    let bytes: Vec<(&str, ArrayRef)> = vec![("a", Arc::new(BinaryArray::from_vec(vec![b"\xFF"])))];
    assert_eq!(refusal(read(&input("a Varchar"), file(bytes))).0, RejectCode::TypeMismatch);
}

#[test]
fn required_columns_must_be_in_the_file_and_in_the_row() {
    let columns = || -> Vec<(&str, ArrayRef)> {
        let texts = StringArray::from(vec!["x", "y", "z"]);
        vec![("a", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]))), ("b", Arc::new(texts))]
    };
    let output = read(&input("b Varchar, a Integer!"), file(columns())).unwrap();
    assert_eq!((output.codes(), output.ordinals), (vec![(1, RejectCode::MissingField)], vec![0, 2]));
    assert_eq!(&output.rejected[0].payload[..], b"{\"b\":\"y\"}");
    let (code, error) = refusal(read(&input("b Varchar, c Integer!"), file(columns())));
    assert_eq!(code, RejectCode::MissingField);
    assert!(error.contains("which has: a, b"), "{error}");
}

#[test]
fn rows_above_the_limit_are_refused_one_by_one() {
    let texts: Vec<String> = [10, 2000, 20].map(|length| "x".repeat(length)).into();
    let columns: Vec<(&str, ArrayRef)> = vec![("a", Arc::new(StringArray::from(texts)))];
    let output = read(&input("a Varchar").with_record_bytes(1024), file(columns)).unwrap();
    assert_eq!((output.codes(), output.ordinals), (vec![(1, RejectCode::TooLarge)], vec![0, 2]));
    assert_eq!(output.rejected[0].payload_bytes, 2000);
}

/// One value of a dictionary, shared by all rows, must not become gigabytes at once.
#[test]
fn batches_of_shared_values_are_bounded() {
    let texts = StringArray::from_iter_values(std::iter::repeat_n("x".repeat(100_000), 1000));
    let output_bytes = |limits: ResolvedLimits| {
        let mut input = input("a Varbinary");
        input.limits = limits;
        let file = file(vec![("a", Arc::new(texts.clone()))]);
        block_on(async {
            let mut reader = ParquetReader::open(InMemory::boxed(file), &input.table, &input.projection, &input.limits, 0).await?;
            let mut rows = 0;
            while let Some(decoded) = reader.next().await? {
                assert!(decoded.records.get_array_memory_size() < 20 << 20);
                rows += decoded.records.num_rows();
            }
            Ok::<_, ReadError>(rows)
        })
    };
    assert_eq!(output_bytes(LIMITS).unwrap(), 1000);
    let tight = ResolvedLimits { object_bytes: 50_000_000, ..LIMITS };
    assert!(matches!(output_bytes(tight), Err(ReadError::Refused { code: RejectCode::BadCompression, .. })));
}

#[test]
fn what_is_no_parquet_file_is_malformed() {
    let good = numbers();
    let mut encrypted = good.clone();
    encrypted.truncate(good.len() - 4);
    encrypted.extend(b"PARE");
    let mut long_footer = good.clone();
    let at = good.len() - 8;
    long_footer[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    for file in [vec![], b"PAR1".to_vec(), b"PAR1\0\0\0\0PAR1".to_vec(), good[..good.len() - 1].to_vec(), encrypted, long_footer] {
        assert_eq!(refusal(read(&input("a BigInt"), file)).0, RejectCode::Malformed);
    }
}

/// A file whose footer is `footer`.
fn with_footer(footer: &[u8]) -> Vec<u8> {
    let mut file = b"PAR1".to_vec();
    file.extend_from_slice(footer);
    file.extend((footer.len() as u32).to_le_bytes());
    file.extend(b"PAR1");
    file
}

#[test]
fn footers_that_promise_too_much_are_refused_unread() {
    let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0x07];
    // version 1; then a schema, or row groups, of two billion elements.
    let schema = [&[0x15, 0x02, 0x19, 0xFC][..], &huge].concat();
    // A schema of one group with two billion children, closed properly.
    let children = [&[0x15, 0x02, 0x19, 0x1C, 0x48, 0x01, b'm', 0x15, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 0x00][..], &[0x00]].concat();
    let groups = [&[0x15, 0x02, 0x19, 0x1C, 0x48, 0x01, b'm', 0x15, 0x00, 0x00, 0x16, 0x00, 0x19, 0xFC][..], &huge].concat();
    // Groups in groups.
    let mut deep = vec![0x15, 0x02, 0x19, 0xFC, 0x90, 0x4E];
    for _ in 1..10_000 {
        deep.extend([0x48, 0x01, b'm', 0x15, 0x02, 0x00]);
    }
    deep.extend([0x48, 0x01, b'm', 0x00, 0x00]);
    // Structs in structs, in a field nobody knows.
    let nested = [0x1C].repeat(1_000_000);
    for footer in [schema, children, groups, deep, nested, vec![], vec![0x00], vec![0x19], vec![0xFF; 100]] {
        let harmless = footer == [0x00];
        assert_eq!(check_footer(&footer).is_ok(), harmless, "{:?}", &footer[..footer.len().min(20)]);
        assert_eq!(refusal(read(&input("a BigInt"), with_footer(&footer))).0, RejectCode::Malformed);
    }
    let good = numbers();
    let length = u32::from_le_bytes(good[good.len() - 8..good.len() - 4].try_into().unwrap()) as usize;
    check_footer(&good[good.len() - 8 - length..good.len() - 8]).unwrap();
}

#[test]
fn pages_that_promise_too_much_are_refused() {
    // type: data page; decompressed: 2 GiB - 1; compressed: 4; data page header with one value.
    let page = |decompressed: &[u8], values: &[u8]| {
        [&[0x15, 0x00, 0x15], decompressed, &[0x15, 0x08, 0x2C, 0x15], values, &[0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00], b"data"]
            .concat()
    };
    assert_eq!(check_pages(&page(&[0x08], &[0x02]), 1), Ok(4));
    assert!(check_pages(&page(&[0xFE, 0xFF, 0xFF, 0xFF, 0x0F], &[0x02]), 1).unwrap_err().contains("are allowed"));
    assert!(check_pages(&page(&[0x01], &[0x02]), 1).is_err(), "a negative size");
    assert!(check_pages(&page(&[0x08], &[0x02]), 2).is_err(), "a value is missing");
    assert!(check_pages(&page(&[0x08], &[0x00])[..10], 1).is_err());
    assert_eq!(check_pages(&[], 0), Ok(0));
}

#[test]
fn a_page_bomb_is_stopped() {
    let zeros = Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n(vec![0; 1 << 20], 200)));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::ZSTD(parquet::basic::ZstdLevel::default()))
        .build();
    let bomb = file_with(vec![("a", zeros)], properties);
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    assert_eq!(refusal(read(&input("a Varbinary").with_record_bytes(2 << 20), bomb)).0, RejectCode::BadCompression);
}

/// A small file with all kinds of pages.
fn small(compression: Compression) -> (SchemaRef, Vec<u8>) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]))),
        ("b", Arc::new(StringArray::from(vec![Some("x"), Some("y"), None, Some("x")]))),
        ("c", Arc::new(BooleanArray::from(vec![true, false, true, true]))),
    ];
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(2)).build();
    (input("a BigInt, b Varchar, c Boolean").table, file_with(columns, properties))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        zstd in any::<bool>(),
    ) {
        let compression = if zstd { Compression::ZSTD(parquet::basic::ZstdLevel::default()) } else { Compression::UNCOMPRESSED };
        let (_, mut file) = small(compression);
        for (index, byte) in changes {
            let at = index.index(file.len() - 8);
            file[at] = byte;
        }
        if let Some(cut) = cut {
            let at = cut.index(file.len() - 8);
            file.remove(at);
        }
        // Whatever comes out: no panic, no range outside the file (the reader asserts that), and an end.
        let _result = read(&input("a BigInt, b Varchar, c Boolean"), file);
    }

    #[test]
    fn random_footers_never_panic(footer in prop::collection::vec(any::<u8>(), 0..200)) {
        let _checked = check_footer(&footer);
        let _pages = check_pages(&footer, 10);
        let _result = read(&input("a BigInt"), with_footer(&footer));
    }
}
