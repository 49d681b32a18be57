//! CPU-nanoseconds for each Nexmark bid: JSON lines to columns and columns to JSON lines, beside arrow-json with the same bytes and batches. Asserts nothing of speed.
//!
//! `make bench`, or `cargo bench -p millrace-connectors --bench json`. With names behind `--` only those are run, each round after round: what `perf stat` needs
//! to count instructions. CPU time of this thread from the kernel's scheduler statistics; rounds alternate, the median is printed with minimum and maximum.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its result and may fail loudly")]

mod measure;

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use bytes::Bytes;
use millrace_connectors::context::ResolvedLimits;
use millrace_connectors::formats::{self, rows::RowEncoder};
use millrace_crds::format::{Schema, SourceFormat};
use millrace_crds::pipeline::Limits;
use serde_json::json;

use measure::{cpu, spread};

/// Records of the input.
const RECORDS: usize = 200_000;
/// Bytes of one chunk, as the source hands them over.
const CHUNK: usize = 256 * 1024;
/// Rounds of which the median counts.
const ROUNDS: usize = 7;
/// All columns.
const SEVEN: &[&str] = &["auction", "bidder", "price", "channel", "url", "dateTime", "extra"];
/// What a filter on the auction reads.
const TWO: &[&str] = &["auction", "price"];

fn main() {
    let text = Bytes::from(input());
    let mut batches = Vec::new();
    decode(&text, SEVEN, |batch| batches.push(batch));
    let works: [(&str, &dyn Fn()); 6] = [
        ("decode-7", &|| decode(&text, SEVEN, drop)),
        ("arrow-decode-7", &|| arrow_decode(&text, SEVEN)),
        ("decode-2", &|| decode(&text, TWO, drop)),
        ("arrow-decode-2", &|| arrow_decode(&text, TWO)),
        ("encode-7", &|| encode(&batches)),
        ("arrow-encode-7", &|| arrow_encode(&batches)),
    ];
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let works: Vec<_> = works.into_iter().filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name)).collect();
    println!("Nexmark bids: {RECORDS} records, {} MB, 7 fields; {ROUNDS} rounds, median (min-max)", text.len() / 1_000_000);
    let mut seconds = vec![Vec::new(); works.len()];
    for _ in 0..ROUNDS {
        for ((_, work), seconds) in works.iter().zip(&mut seconds) {
            seconds.push(cpu(work));
        }
    }
    for ((name, _), seconds) in works.iter().zip(seconds) {
        let (median, min, max) = spread(seconds);
        let each = |seconds: f64| seconds * 1e9 / RECORDS as f64;
        println!(
            "  {name:16} {:6.1} ns/record ({:.1}-{:.1}), {:6.0} MB/s/core",
            each(median),
            each(min),
            each(max),
            text.len() as f64 / median / 1e6
        );
    }
}

fn format() -> SourceFormat {
    serde_json::from_value(json!({"json": {}})).unwrap()
}

fn table() -> SchemaRef {
    let column = |name: &&str| match *name {
        "auction" | "bidder" | "price" => json!({"name": name, "type": "BigInt"}),
        "dateTime" => json!({"name": name, "type": "Timestamp"}),
        _ => json!({"name": name, "type": "Varchar"}),
    };
    let schema: Schema = serde_json::from_value(json!({"columns": SEVEN.iter().map(column).collect::<Vec<_>>()})).unwrap();
    formats::table_schema(&format(), Some(&schema)).unwrap()
}

fn decode(text: &Bytes, columns: &[&str], mut take: impl FnMut(RecordBatch)) {
    let projection: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let limits = ResolvedLimits::from(&Limits::default());
    let mut decoder = formats::stream_decoder(&format(), &table(), &projection, &limits, None).unwrap();
    let mut rows = 0;
    for start in (0..text.len()).step_by(CHUNK) {
        decoder.push(text.slice(start..text.len().min(start + CHUNK)));
        if start + CHUNK >= text.len() {
            decoder.finish();
        }
        while let Some(decoded) = decoder.next() {
            rows += decoded.records.num_rows();
            take(std::hint::black_box(decoded.records));
        }
    }
    assert_eq!(rows, RECORDS, "every record decodes");
}

fn arrow_decode(text: &[u8], columns: &[&str]) {
    let table = table();
    let places: Vec<usize> = columns.iter().map(|name| table.index_of(name).unwrap()).collect();
    let reader = ReaderBuilder::new(Arc::new(table.project(&places).unwrap())).with_batch_size(8192).build(text).unwrap();
    let rows: usize = reader.map(|batch| std::hint::black_box(batch.unwrap()).num_rows()).sum();
    assert_eq!(rows, RECORDS, "arrow-json reads every record");
}

fn encode(batches: &[RecordBatch]) {
    let mut encoder = RowEncoder::new(&batches[0].schema()).unwrap();
    let mut out = Vec::new();
    for batch in batches {
        out.clear();
        encoder.encode_lines(batch, &mut out).unwrap();
        std::hint::black_box(&out);
    }
}

fn arrow_encode(batches: &[RecordBatch]) {
    let mut out = Vec::new();
    for batch in batches {
        out.clear();
        let mut writer = LineDelimitedWriter::new(&mut out);
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
        std::hint::black_box(&out);
    }
}

/// Bids as Nexmark has them: about 195 bytes each. The same at every run.
fn input() -> Vec<u8> {
    let mut text = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for record in 0..RECORDS as u64 {
        let (channel, query) = match random(8) {
            0 => ("Google".to_owned(), String::new()),
            1 => ("Facebook".to_owned(), String::new()),
            2 => ("Baidu".to_owned(), String::new()),
            3 => ("Apple".to_owned(), String::new()),
            _ => (format!("channel-{}", random(10_000)), format!("&channel_id={}", random(1 << 30))),
        };
        let price = 10_u64.pow(random(7) as u32 + 2) + random(100);
        let mut letters = |count: u64| (0..count).map(|_| char::from(b'a' + random(26) as u8)).collect::<String>();
        let path = format!("{}/{}/{}", letters(5), letters(5), letters(5));
        let extra = letters(record % 24);
        writeln!(
            text,
            "{{\"auction\":{},\"bidder\":{},\"price\":{price},\"channel\":\"{channel}\",\"url\":\"https://www.nexmark.com/{path}/item.htm?query=1{query}\",\"dateTime\":\"2026-03-01 {:02}:{:02}:{:02}.{:03}\",\"extra\":\"{extra}\"}}",
            1000 + record * 3 / 46,
            1000 + record / 46,
            record / 36_000_000 % 24,
            record / 600_000 % 60,
            record / 10_000 % 60,
            record / 10 % 1000,
        )
        .unwrap();
    }
    text
}
