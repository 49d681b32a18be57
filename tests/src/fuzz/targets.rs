//! What is fuzzed: everything that reads bytes from outside. Each target takes any bytes, and fails only by a panic.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use millrace_connectors::conformance::bytes as private;
use millrace_connectors::context::ResolvedLimits;
use millrace_connectors::formats::decompress::Decompressor;
use millrace_connectors::formats::parquet_in::{ParquetReader, RangeReader};
use millrace_connectors::formats::template::{Escape, Template};
use millrace_connectors::formats::{Keyed, RecordTable, StreamPosition, record_decoder, stream_decoder, table_schema};
use millrace_crds::format::{Compression, Schema as Columns, SourceFormat};
use millrace_crds::pipeline::{Limits, Step};
use millrace_engine::checkpoint::EpochRecord;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::{self, InputChangelog, InputTable, Policy};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Random;
use crate::hex;

/// One thing that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name; also of the folder of its corpus.
    pub name: &'static str,
    /// What mutations are made of besides.
    pub words: &'static [&'static [u8]],
    /// What one input costs, beside that of a decoder of records: so many times fewer are tried.
    pub cost: u64,
    /// Reads any bytes.
    pub run: fn(&[u8]),
}

const JSON: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"\n",
    b"\"a\":",
    b"\"b\":",
    b"\"f\":[",
    b"{\"a\":",
    b"[[",
    b"\xff",
    b"\xef\xbb\xbf",
];
const EVENTS: &[&[u8]] = &[
    b"{",
    b"}",
    b",",
    b"\"",
    b"\\",
    b"null",
    b"\n",
    b"\t",
    b"\"a\":1",
    b"\"b\":\"x\"",
    b"{\"op\":\"u\",\"before\":{\"a\":1,\"b\":\"x\"},\"after\":{\"a\":2}}",
    b"\"op\":\"c\"",
    b"\"op\":\"d\"",
    b"\"before\":",
    b"\"after\":{",
    b"{\"schema\":{},\"payload\":",
    b"[[",
    b"\xff",
];
const TEXT: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b",",
    b"\t",
    b" ",
    b"\"",
    b"\"\"",
    b"-",
    b"%",
    b"%20",
    b"%FF",
    b"#Fields: ",
    b"#Version: 1.0\n",
    b"date time c-ip",
    b"version account-id",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
];
const SQL: &[&[u8]] = &[
    b"SELECT ",
    b" FROM t",
    b" WHERE ",
    b" GROUP BY ",
    b" HAVING ",
    b" ORDER BY ",
    b"(",
    b")",
    b"((",
    b"(SELECT ",
    b" JOIN u ON t.a = u.a",
    b" LEFT JOIN u USING (a)",
    b" UNION ALL SELECT a FROM u",
    b"TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
    b"SESSION(TABLE t PARTITION BY a, DESCRIPTOR(ts), INTERVAL '5' SECOND)",
    b"HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '10' SECOND)",
    b"window_start, window_end",
    b"ROW_NUMBER() OVER (PARTITION BY a ORDER BY ts)",
    b"count(*)",
    b"sum(DISTINCT a) FILTER (WHERE a > 1)",
    b"CASE WHEN a THEN ",
    b" END",
    b"CAST(a AS ",
    b"INTERVAL '",
    b"NOT ",
    b"- ",
    b" AND ",
    b" OR a = ",
    b"'",
    b"\"",
    b"/*",
    b"--",
    b";",
    b"WITH x AS (",
    b"a.b.c",
    b"f(",
    b" IN (",
    b"::",
    b" IS NOT DISTINCT FROM ",
    b"ARRAY[",
    b"{",
    b"repeat(b, 1000000000)",
    b"\0",
    b"\xf0\x9f\x8c\x8a",
];
const YAML: &[&[u8]] =
    &[b"\n  ", b": ", b"- ", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"|", b">", b"---\n", b"!!", b"null", b"\"", b"~", b"spec:", b"<<: *a"];

/// All of them.
#[must_use]
pub fn targets() -> Vec<Target> {
    let target = |name, words, run| Target { name, words, cost: 1, run };
    vec![
        target("json", JSON, |bytes| {
            stream(&json!({"json": {}}), "a BigInt, b Varchar, c Double, d Timestamp, e Boolean, g Decimal", bytes)
        }),
        target("json-records", JSON, records),
        target("debezium", EVENTS, |bytes| {
            changes(&json!({"debezium": {}}), &json!(null), bytes);
            changes(&json!({"debezium": {"timestamps": "Nanoseconds"}}), &json!({"primaryKey": ["a", "b"]}), bytes);
        }),
        target("upserts", EVENTS, |bytes| {
            changes(&json!({"json": {}}), &json!({"primaryKey": ["a"]}), bytes);
            changes(&json!({"json": {}}), &json!({"primaryKey": ["b"], "recordKey": "Text"}), bytes);
        }),
        target("csv", TEXT, |bytes| stream(&json!({"csv": {}}), "a BigInt, b Varchar, c Double, d Timestamp", bytes)),
        target("csv-without-header", TEXT, |bytes| {
            stream(
                &json!({"csv": {"header": "Absent", "delimiter": "\\t", "null": "-"}}),
                "a BigInt, b Varchar, c Double, d Timestamp",
                bytes,
            );
        }),
        target("raw", TEXT, |bytes| stream(&json!({"raw": {}}), "", bytes)),
        target("cloudfront", TEXT, |bytes| stream(&json!({"cloudFront": {}}), "", bytes)),
        target("vpc-flow", TEXT, |bytes| stream(&json!({"vpcFlow": {}}), "", bytes)),
        Target { cost: 4, ..target("parquet", &[b"PAR1", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x15\0"], parquet) },
        Target { cost: 2, ..target("gzip", &[b"\x1f\x8b\x08\0"], |bytes| decompress(Compression::Auto, bytes)) },
        Target { cost: 2, ..target("zstd", &[b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"], |bytes| decompress(Compression::Zstd, bytes)) },
        target("template", &[b"{", b"}", b"{a}", b"{ts:yyyy-MM-dd}", b"{event_time:HH", b"'", b"/", b".."], template),
        target("s3-announcement", JSON, private::announcement),
        target("opensearch-answer", JSON, private::opensearch_answer),
        target("kafka-position", JSON, private::kafka_position),
        target("kafka-ledger", JSON, private::kafka_ledger),
        Target {
            cost: 2,
            ..target("kafka-records", &[b"\0\0\0\0", b"\xff\xff\xff\xff\x0f", b"\x02", b"\x01", b"\x82SNAPPY\0"], private::kafka_records)
        },
        target("epoch-record", JSON, epoch_record),
        target("job", JSON, |bytes| drop(serde_json::from_slice::<millrace_crds::job::Job>(bytes))),
        target("assignment", JSON, |bytes| drop(serde_json::from_slice::<millrace_crds::report::Assignment>(bytes))),
        Target { cost: 4, ..target("manifest", YAML, manifest) },
        Target { cost: 6, ..target("sql", SQL, sql) },
    ]
}

/// Small limits, so that they are met.
fn limits() -> ResolvedLimits {
    ResolvedLimits { record_bytes: 4096, object_bytes: 64 << 20, ..ResolvedLimits::from(&Limits::default()) }
}

/// The columns of a source: names with their types, comma-separated; none where the format has its own.
fn table(format: &SourceFormat, columns: &str) -> Option<SchemaRef> {
    let column = |text: &str| {
        let (name, type_) = text.trim().split_once(' ')?;
        let mut column = json!({"name": name, "type": type_});
        if type_ == "Decimal" {
            column["precision"] = 20.into();
            column["scale"] = 3.into();
        }
        Some(column)
    };
    let columns: Option<Columns> = if columns.is_empty() {
        None
    } else {
        let columns: Vec<_> = columns.split(',').filter_map(column).collect();
        serde_json::from_value(json!({ "columns": columns })).ok()
    };
    table_schema(format, columns.as_ref()).ok()
}

/// Everything that a decoder was promised to be able to do: chunks of any size, and going on from where it stood.
fn stream(format: &serde_json::Value, columns: &str, bytes: &[u8]) {
    let format: SourceFormat = serde_json::from_value(format.clone()).expect("a format");
    let table = table(&format, columns).expect("a table");
    let names: Vec<String> = table.fields().iter().map(|field| field.name().clone()).collect();
    let decoder = |resume| stream_decoder(&format, &table, &names, &limits(), resume);
    let mut random = Random::new(1, bytes.len() as u64);
    let mut first = decoder(None).expect("a decoder");
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut places: Vec<StreamPosition> = Vec::new();
    while !rest.is_empty() {
        first.push(rest.split_to(1 + random.below(rest.len())));
        while let Some(decoded) = first.next() {
            assert_eq!(decoded.records.num_rows(), decoded.ordinals.len());
            places.push(first.position());
        }
    }
    first.finish();
    while first.next().is_some() {}
    let end = first.position();
    let Some(place) = places.pop() else { return };
    let from = usize::try_from(place.byte).expect("within the input");
    let mut again = decoder(Some(place)).expect("a decoder goes on from where another was");
    again.push(Bytes::copy_from_slice(&bytes[from..]));
    again.finish();
    while again.next().is_some() {}
    assert_eq!(again.position().record, end.record, "the rest has other records when it is read alone");
}

fn records(bytes: &[u8]) {
    let format: SourceFormat = serde_json::from_value(json!({"json": {}})).expect("a format");
    let table = table(&format, "a BigInt, b Varchar, c Double, d Timestamp, e Boolean, g Decimal").expect("a table");
    let mut decoder = record_decoder(&format, &table, &["b".to_owned(), "d".to_owned()], &limits()).expect("a decoder");
    let payloads: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let decoded = decoder.decode(&payloads);
    assert_eq!(decoded.records.num_rows() + decoded.rejected.len(), payloads.len(), "records are lost");
}

/// Records a line each, with their keys in front of a tab; a line without one has no key, and one that ends with it no value.
fn changes(format: &serde_json::Value, changelog: &serde_json::Value, bytes: &[u8]) {
    let columns = [("a", "BigInt"), ("b", "Varchar"), ("c", "Double"), ("d", "Timestamp"), ("e", "Date")];
    let columns = columns.map(|(name, type_)| json!({"name": name, "type": type_}));
    let spec = json!({
        "kafka": {"bootstrapServers": "k:1", "topics": ["t"]}, "format": format, "changelog": changelog, "schema": {"columns": columns},
    });
    let table = RecordTable::of(&serde_json::from_value(spec).expect("a source")).expect("a table");
    let mut decoder = table.decoder(&["a", "b", "d", "e"].map(str::to_owned), &limits()).expect("a decoder");
    let record = |line| {
        let cut = <[u8]>::iter(line).position(|byte| *byte == b'\t');
        let (key, value) = cut.map_or((None, line), |cut| (Some(&line[..cut]), &line[cut + 1..]));
        Keyed { key, value: (cut.is_none() || !value.is_empty()).then_some(value) }
    };
    let records: Vec<Keyed<'_>> = bytes.split(|byte| *byte == b'\n').map(record).collect();
    let decoded = decoder.decode_keyed(&records);
    let kinds = decoded.kinds.expect("changes have kinds");
    assert_eq!((decoded.records.num_rows(), decoded.ordinals.len()), (kinds.len(), kinds.len()));
    let good: std::collections::BTreeSet<u64> = decoded.ordinals.values().iter().copied().collect();
    assert!(decoded.rejected.iter().all(|refused| !good.contains(&refused.ordinal)), "a record is good and bad");
    let skipped = records.iter().filter(|record| record.value.is_none()).count();
    assert!(good.len() + decoded.rejected.len() + skipped >= records.len(), "records are lost");
}

struct InMemory(Bytes);

#[async_trait]
impl RangeReader for InMemory {
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {}", self.len());
        let place = |at: u64| usize::try_from(at).expect("within memory");
        Ok(self.0.slice(place(range.start)..place(range.end)))
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

fn parquet(bytes: &[u8]) {
    let fields = [
        ("a", DataType::Int64),
        ("b", DataType::Utf8),
        ("c", DataType::Float64),
        ("d", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ];
    let table = Arc::new(Schema::new(fields.map(|(name, type_)| Field::new(name, type_, true)).to_vec()));
    let names = ["a", "b", "c", "d"].map(str::to_owned);
    let reading = async {
        let reader = Box::new(InMemory(Bytes::copy_from_slice(bytes)));
        let Ok(mut reader) = ParquetReader::open(reader, &table, &names, &limits(), 0).await else { return };
        while let Ok(Some(_)) = reader.next().await {}
    };
    // What is in memory is never waited for.
    reading.now_or_never().expect("nothing waits");
}

fn decompress(compression: Compression, bytes: &[u8]) {
    let mut decompressor = Decompressor::new(compression, &limits());
    let drain = |decompressor: &mut Decompressor| {
        loop {
            match decompressor.next() {
                Ok(Some(plain)) => assert!(plain.len() <= 256 << 10, "{} bytes at once", plain.len()),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    };
    for chunk in bytes.chunks(1 + bytes.len() / 3) {
        if decompressor.push(Bytes::copy_from_slice(chunk)).is_err() || !drain(&mut decompressor) {
            return;
        }
    }
    if decompressor.finish().is_ok() {
        drain(&mut decompressor);
    }
}

fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let fields = [("a", DataType::Int64), ("b", DataType::Utf8), ("ts", DataType::Timestamp(TimeUnit::Microsecond, None))];
    let schema = Arc::new(Schema::new(fields.map(|(name, type_)| Field::new(name, type_, true)).to_vec()));
    for escape in [Escape::IndexName, Escape::PathSegment] {
        let Ok(template) = Template::parse(text, escape) else { continue };
        if template.check(&schema, Some("ts")).is_ok() {
            let records = arrow::array::RecordBatch::new_empty(Arc::clone(&schema));
            drop(template.partition(&records, Some("ts")));
        }
    }
}

/// As it is, and as the payload of an intact envelope: the checksum keeps everything else out.
fn epoch_record(bytes: &[u8]) {
    drop(EpochRecord::decode(bytes));
    let header = format!("millrace-epoch 1 {} {:020}\n", hex::encode(&Sha256::digest(bytes)), bytes.len());
    if let Ok(record) = EpochRecord::decode(&[header.as_bytes(), bytes].concat()) {
        let written = record.encode().expect("what was read can be written");
        assert_eq!(EpochRecord::decode(&written).as_ref(), Ok(&record));
    }
}

fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    drop(serde_yaml::from_str::<millrace_crds::Pipeline>(text));
    drop(serde_yaml::from_str::<millrace_crds::Source>(text));
    drop(serde_yaml::from_str::<millrace_crds::Sink>(text));
}

fn sql(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let fields =
        [("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Float64), ("ts", DataType::Timestamp(TimeUnit::Microsecond, None))];
    let schema = Arc::new(Schema::new(fields.map(|(name, type_)| Field::new(name, type_, true)).to_vec()));
    let input = |name: &str| InputTable {
        name: name.to_owned(),
        schema: Arc::clone(&schema),
        event_time: Some("ts".to_owned()),
        changelog: InputChangelog::Append,
    };
    let policy = Policy { state_ttl: Some(std::time::Duration::from_secs(60)), ..Policy::default() };
    let steps = [Step { name: "s".to_owned(), sql: text }];
    let outputs = [("out".to_owned(), "s".to_owned())];
    match plan::compile(&steps, &[input("t"), input("u")], &outputs, &policy) {
        Ok(plan) => drop((plan.explain(), plan.hash(), plan.executor(&["t", "u"]))),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            // The planner runs on a thread of its own, whose panic is a problem in words.
            assert!(!problems.iter().any(|problem| problem.message.contains("please report the query")), "{problems:?}");
        }
    }
}
