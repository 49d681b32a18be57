//! Every target of `millrace_tests::fuzz` for a short, bounded time with a fixed seed. `make fuzz SECONDS=60` tries each for so long, from another seed
//! each time; `TARGET=sql` only that one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use bytes::Bytes;
use millrace_tests::fuzz::{Effort, Fuzz, targets};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Inputs of a target that costs little.
const INPUTS: u64 = 600;

#[test]
#[expect(clippy::disallowed_methods, reason = "a seed that is another one each time")]
fn nothing_from_outside_makes_a_decoder_panic() -> Result<()> {
    let seconds = std::env::var("MILLRACE_FUZZ_SECONDS").ok().filter(|seconds| !seconds.is_empty());
    let seconds = seconds.map(|seconds| seconds.parse().context("MILLRACE_FUZZ_SECONDS is no number")).transpose()?;
    let seed = match (std::env::var("MILLRACE_FUZZ_SEED").ok().filter(|seed| !seed.is_empty()), seconds) {
        (Some(seed), _) => seed.parse().context("MILLRACE_FUZZ_SEED is no number")?,
        (None, Some(_)) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        (None, None) => 1,
    };
    let only = std::env::var("MILLRACE_FUZZ_TARGET").ok().filter(|target| !target.is_empty());
    let chosen: Vec<_> = targets().into_iter().filter(|target| only.as_ref().is_none_or(|only| target.name == only)).collect();
    ensure!(!chosen.is_empty(), "there is no target {only:?}");
    let mut failed = Vec::new();
    for target in chosen {
        let effort = seconds.map_or(Effort::Inputs(INPUTS / target.cost), |seconds| Effort::Time(Duration::from_secs(seconds)));
        let fuzz = Fuzz::new(target)?;
        println!("{}: the input being tried is in {}", target.name, fuzz.last().display());
        match fuzz.run(seed, effort) {
            Ok(done) => println!(
                "{}: {} inputs from seed {seed}, the slowest took {:?}, at most {} MiB",
                target.name,
                done.inputs,
                done.slowest,
                done.memory_bytes >> 20
            ),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    if !failed.is_empty() {
        bail!("seed {seed}:\n{}", failed.join("\n"));
    }
    Ok(())
}

/// The corpus of Parquet, which nobody can write by hand. `MILLRACE_BLESS=1` writes it.
#[test]
fn the_parquet_corpus_can_be_read() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/parquet");
    let rows = |compression: Compression, dictionary: bool| -> Result<Vec<u8>> {
        let columns: [(&str, ArrayRef); 4] = [
            ("a", Arc::new(Int64Array::from(vec![Some(1), None, Some(-3), Some(4)]))),
            ("b", Arc::new(StringArray::from(vec![Some("x"), Some("x"), None, Some("yy")]))),
            ("c", Arc::new(Float64Array::from(vec![0.5, -0.0, f64::NAN, 1e300]))),
            ("d", Arc::new(TimestampMicrosecondArray::from(vec![1_772_323_200_000_000; 4]).with_timezone("UTC"))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(dictionary)
            .set_max_row_group_row_count(Some(3));
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build()))?;
        writer.write(&batch)?;
        Ok(writer.into_inner()?)
    };
    let files = [
        ("plain", rows(Compression::UNCOMPRESSED, false)?),
        ("dictionary", rows(Compression::SNAPPY, true)?),
        ("zstd", rows(Compression::ZSTD(ZstdLevel::default()), true)?),
    ];
    for (name, file) in files {
        let path = folder.join(name);
        if std::env::var_os("MILLRACE_BLESS").is_some() {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(&path, &file)?;
        }
        // Another version of the library may write other bytes; what matters is that they are a file.
        let kept = Bytes::from(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        let read = ParquetRecordBatchReaderBuilder::try_new(kept)?.build()?.collect::<Result<Vec<_>, _>>()?;
        ensure!(read.iter().map(RecordBatch::num_rows).sum::<usize>() == 4, "{} has other rows", path.display());
    }
    Ok(())
}
