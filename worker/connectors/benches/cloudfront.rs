//! CPU-seconds per million CloudFront lines: our decoder to nothing and to Parquet, beside a plain arrow-csv read of the same bytes. Prints goal and measured; asserts nothing.
//!
//! `make bench`, or `cargo bench -p millrace-connectors --bench cloudfront`. CPU time of this thread from the kernel's scheduler statistics, so other load on the
//! machine matters less; rounds alternate, the median is printed with minimum and maximum.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its result and may fail loudly")]

mod measure;

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_csv::ReaderBuilder;
use bytes::Bytes;
use flate2::Compression as Level;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use millrace_connectors::context::ResolvedLimits;
use millrace_connectors::formats;
use millrace_crds::format::{CloudFront, ParquetOut, SinkFormat, SourceFormat};
use millrace_crds::pipeline::Limits;

use measure::{cpu, spread};

/// Lines of the input.
const LINES: usize = 200_000;
/// Bytes of one chunk, as the source hands them over.
const CHUNK: usize = 256 * 1024;
/// Rounds of which the median counts.
const ROUNDS: usize = 7;
/// The columns that a typical query uses.
const SEVEN: [&str; 7] = ["time", "c_ip", "cs_method", "cs_uri_stem", "sc_status", "sc_bytes", "time_taken"];
/// Their places among the 33 fields of a line, for arrow-csv (which reads `time` as text).
const PLACES: [usize; 7] = [1, 3, 4, 5, 7, 8, 18];

fn main() {
    let text = input();
    let data_bytes = text.len();
    let body = Bytes::from(text.clone());
    println!("CloudFront standard logs: {LINES} lines, {} MB, 33 fields; {ROUNDS} rounds, median (min-max)", data_bytes / 1_000_000);

    let seven = SEVEN.map(str::to_owned);
    let mut rows = Vec::new();
    let all: Vec<String> = table().fields().iter().map(|field| field.name().clone()).collect();
    for _ in 0..ROUNDS {
        rows.push([
            cpu(|| decode(&body, &seven, None)),
            cpu(|| arrow_csv(&text)),
            cpu(|| decode(&body, &all, None)),
            cpu(|| decode(&body, &seven, Some(()))),
            cpu(|| decode(&body, &all, Some(()))),
        ]);
    }
    let gz = gzip(&text);
    let unzipped: Vec<f64> = (0..ROUNDS).map(|_| cpu(|| gunzip(&gz))).collect();

    let names = [
        "decode 7 columns, null sink",
        "arrow-csv, the same 7 columns",
        "decode 33 columns, null sink",
        "7 columns to Parquet (zstd-1)",
        "33 columns to Parquet (zstd-1)",
    ];
    for (index, name) in names.iter().enumerate() {
        print(name, rows.iter().map(|row| row[index]).collect(), data_bytes);
    }
    print("gunzip (apart)", unzipped, data_bytes);
    let ratios: Vec<f64> = rows.iter().map(|row| row[1] / row[0]).collect();
    let (median, min, max) = spread(ratios);
    println!("T6   goal: >= 800 MB/s/core with 7 columns; arrow-csv / ours = {median:.2} ({min:.2}-{max:.2})");
}

fn table() -> SchemaRef {
    formats::table_schema(&source_format(), None).unwrap()
}

fn source_format() -> SourceFormat {
    SourceFormat { cloud_front: Some(CloudFront::default()), ..SourceFormat::default() }
}

fn decode(body: &Bytes, projection: &[String], parquet: Option<()>) {
    let table = table();
    let limits = ResolvedLimits::from(&Limits::default());
    let mut decoder = formats::stream_decoder(&source_format(), &table, projection, &limits, None).unwrap();
    let mut encoder = None;
    let mut rows = 0;
    let mut at = 0;
    while at < body.len() {
        let end = (at + CHUNK).min(body.len());
        decoder.push(body.slice(at..end));
        at = end;
        if at == body.len() {
            decoder.finish();
        }
        while let Some(decoded) = decoder.next() {
            rows += decoded.records.num_rows();
            if parquet.is_some() {
                let encoder = encoder.get_or_insert_with(|| {
                    let format = SinkFormat { parquet: Some(ParquetOut::default()), ..SinkFormat::default() };
                    formats::file_encoder(&format, &decoded.records.schema()).unwrap()
                });
                encoder.write(&decoded.records).unwrap();
                std::hint::black_box(encoder.take());
            }
            std::hint::black_box(decoded);
        }
    }
    if let Some(mut encoder) = encoder {
        std::hint::black_box(encoder.finish().unwrap());
    }
    assert_eq!(rows, LINES, "every line decodes");
}

fn arrow_csv(text: &[u8]) {
    let fields: Vec<Field> = (0..33)
        .map(|place| {
            let kind = match place {
                3 => DataType::Int64,
                8 => DataType::Int32,
                18 => DataType::Float64,
                _ => DataType::Utf8,
            };
            Field::new(format!("f{place}"), kind, true)
        })
        .collect();
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_delimiter(b'\t')
        .with_comment(b'#')
        .with_projection(PLACES.to_vec())
        .with_batch_size(8192)
        .build(text)
        .unwrap();
    let mut rows = 0;
    for batch in reader {
        rows += std::hint::black_box(batch.unwrap()).num_rows();
    }
    assert_eq!(rows, LINES, "arrow-csv reads every line");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::new(6));
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(gz: &[u8]) {
    let mut buffer = vec![0; CHUNK];
    let mut decoder = GzDecoder::new(gz);
    while decoder.read(&mut buffer).unwrap() > 0 {
        std::hint::black_box(&buffer);
    }
}

fn print(name: &str, seconds: Vec<f64>, data_bytes: usize) {
    let (median, min, max) = spread(seconds);
    let per_million = |s: f64| s * 1e6 / LINES as f64;
    println!(
        "  {name:34} {:6.3} CPU-s per million lines ({:.3}-{:.3}), {:6.0} MB/s/core",
        per_million(median),
        per_million(min),
        per_million(max),
        data_bytes as f64 / median / 1e6
    );
}

/// Lines that look like real ones: 33 fields, about 450 bytes, values that differ from line to line. The same at every run.
fn input() -> Vec<u8> {
    let mut text = b"#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end\n".to_vec();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for line in 0..LINES {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let second = line % 86_400;
        writeln!(
            text,
            "2026-11-23\t{:02}:{:02}:{:02}\tFRA56-P{}\t{}\t{}.{}.{}.{}\tGET\td111111abcdef8.cloudfront.net\t/assets/{:08x}/app-{}.js\t{}\thttps://www.example.com/products/{}\tMozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36%20(KHTML,%20like%20Gecko)%20Chrome/130.0.0.0%20Safari/537.36\tv={}\t-\t{}\t{:016x}{:016x}==\twww.example.com\thttps\t{}\t0.{:03}\t-\tTLSv1.3\tTLS_AES_128_GCM_SHA256\tHit\tHTTP/2.0\t-\t-\t{}\t0.{:03}\tHit\tapplication/javascript\t{}\t-\t-",
            second / 3600, second / 60 % 60, second % 60, seed % 10, seed % 100_000, seed % 223 + 1, seed / 7 % 256, seed / 11 % 256, seed / 13 % 256,
            seed as u32, seed % 50, [200, 200, 200, 304, 404, 500][(seed % 6) as usize], seed % 10_000, seed % 100,
            ["Hit", "Miss", "RefreshHit"][(seed % 3) as usize], seed, seed.rotate_left(17), seed % 900 + 100, seed % 1000,
            seed % 60_000 + 1024, seed % 500, seed % 1_000_000,
        )
        .unwrap();
    }
    text
}
