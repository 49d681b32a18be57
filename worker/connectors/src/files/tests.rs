//! The connector against directories: the conformance suite, and what only directories do.

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use millrace_crds::SourceSpec;
use millrace_crds::connectors::files::{FilesMode, FilesSink as SinkOptions, FilesSource as SourceOptions};
use millrace_crds::format::{JsonOut, SinkFormat};
use millrace_engine::batch::RejectCode;
use millrace_engine::connector::Health;
use millrace_engine::sink::Sink;
use millrace_engine::source::{OpenSplit, Records, Shared, Source, SourceEvent, SplitReader};
use serde_json::Value;
use tempfile::TempDir;

use super::{FilesSink, FilesSource};
use crate::conformance::{self, SinkFixture, SourceFixture, record, values};
use crate::objects::manifest::Manifest;

struct Directory {
    dir: TempDir,
    mode: FilesMode,
    next: AtomicU32,
    gzip: bool,
}

impl Directory {
    fn new(mode: FilesMode) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), mode, next: AtomicU32::new(0), gzip: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that has been quiet for a minute.
    fn write(&self, name: &str, text: &str) {
        let bytes = if self.gzip {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        } else {
            text.as_bytes().to_vec()
        };
        std::fs::write(self.path(name), bytes).unwrap();
        let file = std::fs::File::open(self.path(name)).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the file is to look old")]
        let now = SystemTime::now();
        file.set_modified(now - Duration::from_secs(60)).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = std::fs::File::options().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn name(&self) -> String {
        format!("{:04}.json", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn source_of(&self, include: Option<&str>) -> FilesSource {
        let (format, schema) = conformance::format();
        let options = SourceOptions {
            path: self.dir.path().to_str().unwrap().to_owned(),
            include: include.map(str::to_owned),
            mode: self.mode,
            compression: millrace_crds::format::Compression::Auto,
        };
        let spec = SourceSpec {
            files: Some(options.clone()),
            s3: None,
            kafka: None,
            format,
            schema: Some(schema),
            changelog: None,
            event_time: None,
            partitioned_by: Vec::new(),
            probe: None,
        };
        FilesSource::new(&options, &spec, &conformance::context(Path::new("/nowhere"))).unwrap()
    }

    async fn open(&self, position: Option<Value>) -> Box<dyn SplitReader> {
        let source = self.source_of(None);
        let shared = Shared::of(Arc::new(object_store::memory::InMemory::new()), &object_store::path::Path::ROOT, "uid", "in");
        let split = source.splits(&shared).await.unwrap().remove(0);
        let open = OpenSplit { split, position, projection: vec!["n".to_owned()], generation: 1, shared, health: Health::default() };
        source.open(open).await.unwrap()
    }
}

fn lines(range: Range<i64>) -> String {
    range.map(|n| format!("{}\n", record(n))).collect()
}

#[async_trait]
impl SourceFixture for Directory {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.source_of(None))
    }

    fn split(&self) -> String {
        "directory".to_owned()
    }

    async fn produce(&self, values: Range<i64>) {
        self.write(&self.name(), &lines(values));
    }

    async fn produce_bad(&self, good: i64) {
        self.write(&self.name(), &format!("{}\nno json\n{}", record(good), record(good + 1)));
    }

    async fn kept(&self) -> Option<u64> {
        None
    }
}

#[tokio::test]
async fn reading_resumes_exactly() {
    for seed in [3, 5] {
        let directory = Directory::new(FilesMode::Continuous);
        conformance::source::resumes_exactly(&directory, 5, 30_000, seed).await.unwrap();
    }
}

#[tokio::test]
async fn reading_compressed_files_resumes_exactly() {
    let directory = Directory { gzip: true, ..Directory::new(FilesMode::Continuous) };
    conformance::source::resumes_exactly(&directory, 5, 30_000, 7).await.unwrap();
}

#[tokio::test]
async fn reading_once_resumes_exactly() {
    conformance::source::resumes_exactly(&Directory::new(FilesMode::Once), 5, 30_000, 11).await.unwrap();
}

#[tokio::test]
async fn everything_is_there_for_the_next_owner() {
    conformance::source::acknowledges_only_when_told(&Directory::new(FilesMode::Continuous)).await.unwrap();
}

#[tokio::test]
async fn draining_ends() {
    conformance::source::drains(&Directory::new(FilesMode::Continuous)).await.unwrap();
}

#[tokio::test]
async fn a_directory_without_news_rests() {
    conformance::source::rests_when_all_is_read(&Directory::new(FilesMode::Continuous)).await.unwrap();
    conformance::source::rests_when_all_is_read(&Directory::new(FilesMode::Once)).await.unwrap();
}

#[tokio::test]
async fn rejected_records_come_back() {
    conformance::source::returns_rejected_records(&Directory::new(FilesMode::Continuous)).await.unwrap();
}

/// Records until `count` values were read.
async fn read(reader: &mut dyn SplitReader, count: usize) -> Vec<Records> {
    let mut all = Vec::new();
    let mut seen = 0;
    while seen < count {
        let event = tokio::time::timeout(conformance::DEADLINE, reader.next()).await.expect("records are there").unwrap();
        let SourceEvent::Records(records) = event else { panic!("ended after {seen} of {count}") };
        seen += records.batch.as_ref().map_or(0, millrace_engine::batch::Batch::num_rows) + records.rejected.len();
        all.push(records);
    }
    all
}

fn values_of(records: &[Records]) -> Vec<i64> {
    records.iter().filter_map(|records| records.batch.as_ref()).flat_map(|batch| values(&batch.records)).collect()
}

#[tokio::test]
async fn a_growing_file_is_read_line_by_line_and_its_ordinals_go_on() {
    let directory = Directory::new(FilesMode::Continuous);
    directory.append("a.log", &format!("{}{{\"n\":", lines(0..2)));
    let mut reader = directory.open(None).await;
    assert_eq!(values_of(&read(reader.as_mut(), 2).await), [0, 1]);
    directory.append("a.log", "2}\n");
    let more = read(reader.as_mut(), 1).await;
    assert_eq!(values_of(&more), [2], "a line that was half there is read whole");
    assert_eq!(more[0].batch.as_ref().unwrap().ordinals.value(0), 2);
    let position = reader.position();
    reader.close().await;

    directory.append("a.log", &lines(3..4));
    let mut reader = directory.open(Some(position)).await;
    assert_eq!(values_of(&read(reader.as_mut(), 1).await), [3]);
}

#[tokio::test]
async fn a_last_line_without_an_end_is_read_when_the_file_is_quiet() {
    let directory = Directory::new(FilesMode::Continuous);
    directory.append("a.log", &record(1));
    let mut reader = directory.open(None).await;
    assert_eq!(values_of(&read(reader.as_mut(), 1).await), [1]);
}

#[tokio::test]
async fn a_truncated_file_is_a_new_version_with_coordinates_of_its_own() {
    let directory = Directory::new(FilesMode::Continuous);
    directory.append("a.log", &lines(0..3));
    let mut reader = directory.open(None).await;
    let first = read(reader.as_mut(), 3).await;
    std::fs::write(directory.path("a.log"), lines(7..8)).unwrap();
    let second = read(reader.as_mut(), 1).await;
    assert_eq!(values_of(&second), [7]);
    let origin = |records: &[Records]| records[0].batch.as_ref().unwrap().origin.clone();
    assert_ne!(origin(&first).key(), origin(&second).key());
    assert_eq!(second[0].batch.as_ref().unwrap().ordinals.value(0), 0);
}

#[tokio::test]
async fn a_rotated_file_is_not_read_again() {
    let directory = Directory::new(FilesMode::Continuous);
    directory.append("app.log", &lines(0..2));
    let mut reader = directory.open(None).await;
    read(reader.as_mut(), 2).await;
    directory.append("app.log", &lines(2..3));
    std::fs::rename(directory.path("app.log"), directory.path("app.log.1")).unwrap();
    directory.append("app.log", &lines(3..5));
    let mut got = values_of(&read(reader.as_mut(), 3).await);
    got.sort_unstable();
    assert_eq!(got, [2, 3, 4]);
    directory.append("app.log", &lines(5..6));
    assert_eq!(values_of(&read(reader.as_mut(), 1).await), [5], "nothing else comes in between");
}

#[tokio::test]
async fn damage_of_a_compressed_file_is_one_rejected_record_after_what_could_be_read() {
    let directory = Directory { gzip: true, ..Directory::new(FilesMode::Once) };
    directory.write("a.gz", &lines(0..100_000));
    let mut bytes = std::fs::read(directory.path("a.gz")).unwrap();
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    std::fs::write(directory.path("a.gz"), bytes).unwrap();
    directory.write("b.gz", &lines(-1..0));
    let mut reader = directory.open(None).await;
    let mut all = Vec::new();
    while let SourceEvent::Records(records) = reader.next().await.unwrap() {
        all.push(records);
    }
    let rejected: Vec<_> = all.iter().flat_map(|records| &records.rejected).collect();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].code, RejectCode::BadCompression);
    let mut got = values_of(&all);
    assert!(got.contains(&-1), "the other file is read");
    got.retain(|n| *n >= 0);
    assert!(got.len() > 1000 && got.iter().copied().eq(0..got.len() as i64), "what was whole is read");
    assert_eq!(rejected[0].ordinal, got.len() as u64);
}

#[tokio::test]
async fn a_directory_that_is_not_there_yet_is_waited_for() {
    let directory = Directory::new(FilesMode::Continuous);
    std::fs::remove_dir(directory.dir.path()).unwrap();
    let source = directory.source_of(None);
    assert!(matches!(source.probe().await, millrace_crds::report::ProbeResult::Failed { .. }));
    let mut reader = directory.open(None).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), reader.next()).await.is_err());
    std::fs::create_dir(directory.dir.path()).unwrap();
    directory.append("a", &lines(1..2));
    assert_eq!(values_of(&read(reader.as_mut(), 1).await), [1]);
}

struct Written {
    dir: TempDir,
    prefix: Option<&'static str>,
}

impl Written {
    fn manifests(&self) -> Vec<Manifest> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "json") && path.iter().any(|part| part == "_millrace") {
                    found.push(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
                }
            }
        }
        found
    }
}

#[async_trait]
impl SinkFixture for Written {
    fn sink(&self) -> Arc<dyn Sink> {
        let options = SinkOptions {
            path: self.dir.path().to_str().unwrap().to_owned(),
            prefix: self.prefix.map(str::to_owned),
            format: SinkFormat { json: Some(JsonOut::default()), ..SinkFormat::default() },
            roll: None,
        };
        Arc::new(FilesSink::new(&options, &conformance::context(Path::new("/nowhere"))).unwrap())
    }

    async fn visible(&self) -> Vec<i64> {
        let mut rows = Vec::new();
        for manifest in self.manifests() {
            for file in manifest.files {
                let bytes = std::fs::read(self.dir.path().join(&file.path)).unwrap();
                assert_eq!(bytes.len() as u64, file.bytes);
                let text = String::from_utf8(bytes).unwrap();
                let before = rows.len();
                rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_i64().unwrap()));
                assert_eq!((rows.len() - before) as u64, file.rows);
            }
        }
        rows
    }

    fn is_transactional(&self) -> bool {
        true
    }
}

fn written(prefix: Option<&'static str>) -> Written {
    Written { dir: tempfile::tempdir().unwrap(), prefix }
}

#[tokio::test]
async fn a_directory_is_written_once() {
    for prefix in [None, Some("by/n={n}")] {
        conformance::sink::commits_once(&written(prefix)).await.unwrap();
        conformance::sink::takes_empty_epochs(&written(prefix)).await.unwrap();
        conformance::sink::closing_leaves_what_was_prepared(&written(prefix)).await.unwrap();
        conformance::sink::survives_replacement(&written(prefix)).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_left_in_the_staging_folder_of_a_replaced_owner() {
    let fixture = written(None);
    conformance::sink::survives_replacement(&fixture).await.unwrap();
    let mut folders = vec![fixture.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.is_dir() || !path.iter().any(|part| part == "staging"), "{} is left", path.display());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
}

#[tokio::test]
async fn partitions_have_folders_and_manifests_lie_at_the_root() {
    let fixture = written(Some("by/n={n}"));
    conformance::sink::commits_once(&fixture).await.unwrap();
    let mut paths: Vec<_> = fixture.manifests().into_iter().flat_map(|m| m.files).map(|f| f.path).collect();
    paths.sort();
    let folders: Vec<_> = paths.iter().map(|path| path.rsplit_once('/').unwrap().0).collect();
    assert_eq!(folders, ["by/n=1", "by/n=2", "by/n=3", "by/n=4"]);
    assert!(fixture.dir.path().join("by/_millrace").is_dir());
}
