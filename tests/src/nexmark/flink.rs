//! Flink 2.2.1: a script around a query, run in one JVM with a mini cluster. It keeps nothing running.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::generator::{MAX_DELAY_MS, Table};
use super::queries::Query;
use super::results::Rows;
use super::tables::{SIDE_INPUT, TIME, columns, declaration};
use super::{CHECKPOINT_SECONDS, STATE_TTL_SECONDS};
use crate::{installed, measure};

/// The folder that `tests/setup/install.sh flink` makes.
const FOLDER: &str = "flink-2.2.1";
/// What Flink's network and serialisers need to look into.
const OPENED: [&str; 6] = [
    "java.base/java.lang",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/sun.nio.ch",
];

/// An installed Flink.
#[derive(Clone, Debug)]
pub struct Flink {
    folder: PathBuf,
    heap: String,
}

/// Where the rows of a script go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sink {
    /// Into a file, with their kinds.
    Collect,
    /// Nowhere.
    Blackhole,
}

impl Flink {
    /// The installed one, with a heap such as `1g`.
    ///
    /// # Errors
    /// It is not installed.
    pub fn installed(heap: &str) -> Result<Self> {
        let folder = installed::cache()?.join(FOLDER);
        ensure!(folder.join("classes").exists(), "{} is missing: run tests/setup/install.sh flink", folder.display());
        Ok(Self { folder, heap: heap.to_owned() })
    }

    /// The script of a query over the files in `events`; checkpoints go to `work`.
    #[must_use]
    pub fn script(query: &Query, events: &Path, work: &Path, sink: Sink) -> String {
        let mut script = format!("-- {}: {}\n", query.name, query.title);
        let settings = [
            ("parallelism.default", "1".to_owned()),
            ("table.local-time-zone", "UTC".to_owned()),
            ("pipeline.object-reuse", "true".to_owned()),
            ("table.exec.mini-batch.enabled", "true".to_owned()),
            ("table.exec.mini-batch.allow-latency", "2 s".to_owned()),
            ("table.exec.mini-batch.size", "50000".to_owned()),
            ("table.optimizer.distinct-agg.split.enabled", "true".to_owned()),
            ("table.exec.state.ttl", format!("{STATE_TTL_SECONDS} s")),
            ("execution.checkpointing.interval", format!("{CHECKPOINT_SECONDS} s")),
            ("execution.checkpointing.dir", format!("file://{}", work.join("checkpoints").display())),
        ];
        for (key, value) in settings {
            let _ = writeln!(script, "SET '{key}' = '{value}';");
        }
        for table in &query.inputs {
            let _ = writeln!(
                script,
                "CREATE TEMPORARY TABLE {} ({}, WATERMARK FOR `{TIME}` AS `{TIME}` - INTERVAL '{}' SECOND)\n  \
                 WITH ('connector' = 'filesystem', 'path' = 'file://{}', 'format' = 'json');",
                table.name(),
                declaration(columns(*table)),
                MAX_DELAY_MS / 1000,
                file(events, *table).display()
            );
        }
        if query.side_input {
            let path = events.join("side_input.csv");
            let _ = writeln!(
                script,
                "CREATE TEMPORARY TABLE side_input ({}) WITH ('connector' = 'lookup-csv', 'path' = '{}');",
                declaration(&SIDE_INPUT),
                path.display()
            );
        }
        for (name, sql) in &query.views {
            let _ = writeln!(script, "CREATE TEMPORARY VIEW {name} AS {sql};");
        }
        let _ = writeln!(script, "CREATE TEMPORARY FUNCTION count_char AS 'CountChar';");
        let head = match sink {
            Sink::Collect => "",
            Sink::Blackhole => "CREATE TABLE measured WITH ('connector' = 'blackhole') AS\n",
        };
        let _ = writeln!(script, "{head}{};", query.compared_sql().trim_end());
        script
    }

    /// Runs queries one after the other in one JVM, and returns for each its rows or why Flink refused it.
    ///
    /// # Errors
    /// The JVM cannot be started, or a result cannot be read.
    pub fn results(&self, queries: &[&Query], events: &Path) -> Result<Vec<Result<Rows, String>>> {
        let work = tempfile::tempdir().context("make a folder")?;
        let mut command = self.java(work.path())?;
        for query in queries {
            let script = work.path().join(format!("{}.sql", query.name));
            std::fs::write(&script, Self::script(query, events, work.path(), Sink::Collect)).context("write a script")?;
            command.arg(&script).arg(work.path().join(&query.name));
        }
        command.status().context("run java")?;
        let result = |query: &&Query| {
            let path = work.path().join(&query.name);
            if let Ok(error) = std::fs::read_to_string(path.with_extension("error")) {
                return Ok(Err(root_cause(&error)));
            }
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("Flink left no result of {}: {}", query.name, log(work.path())))?;
            Rows::of_changelog(&text).with_context(|| format!("read what Flink answered to {}", query.name)).map(Ok)
        };
        queries.iter().map(result).collect()
    }

    /// A JVM that a query is run in again and again, into nowhere.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn session(&self) -> Result<Session> {
        let work = tempfile::tempdir().context("make a folder")?;
        let mut command = self.java(work.path())?;
        let mut jvm = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("run java")?;
        let scripts = jvm.stdin.take().context("standard input is a pipe")?;
        let answers = BufReader::new(jvm.stdout.take().context("standard output is a pipe")?);
        Ok(Session { jvm, scripts, answers, work })
    }

    fn java(&self, work: &Path) -> Result<Command> {
        let errors = std::fs::File::create(work.join("errors")).context("create a log")?;
        let mut command = Command::new("java");
        command.arg(format!("-Xmx{}", self.heap)).args(OPENED.map(|module| format!("--add-opens={module}=ALL-UNNAMED")));
        command.arg(format!("-Djava.io.tmpdir={}", work.display()));
        command.arg("-cp").arg(format!("{0}/classes:{0}/lib/*:{0}/kafka/*", self.folder.display())).arg("RunSql");
        command.current_dir(work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        Ok(command)
    }
}

/// A JVM that stays, so that what it has compiled for one run serves the next one. Ends with its value.
#[derive(Debug)]
pub struct Session {
    jvm: Child,
    scripts: ChildStdin,
    answers: BufReader<ChildStdout>,
    work: tempfile::TempDir,
}

impl Session {
    /// Runs a query into nowhere. Returns the seconds of CPU that the JVM took meanwhile, all its threads included: planning, JobManager, TaskManager, collector.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&mut self, query: &Query, events: &Path) -> Result<f64> {
        let script = Flink::script(query, events, self.work.path(), Sink::Blackhole);
        self.run_script(&script).with_context(|| format!("run {}", query.name))
    }

    /// The same for any script, whose last statement ends.
    ///
    /// # Errors
    /// It fails.
    pub fn run_script(&mut self, text: &str) -> Result<f64> {
        let script = self.work.path().join("script.sql");
        std::fs::write(&script, text).context("write a script")?;
        let before = measure::cpu_seconds(self.jvm.id())?;
        writeln!(self.scripts, "{}", script.display()).context("ask Flink")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("wait for Flink")?;
        ensure!(answer.trim_end() == "done", "Flink failed: {}", root_cause(&log(self.work.path())));
        Ok(measure::cpu_seconds(self.jvm.id())? - before)
    }

    /// The most memory that it has had, bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        measure::peak_memory(self.jvm.id())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.jvm.kill();
        let _ = self.jvm.wait();
    }
}

fn file(events: &Path, table: Table) -> PathBuf {
    events.join(format!("{}.jsonl", table.name()))
}

fn log(work: &Path) -> String {
    std::fs::read_to_string(work.join("errors")).unwrap_or_default()
}

/// The last cause of a stack trace, or the end of a text that is none.
fn root_cause(trace: &str) -> String {
    let causes = trace.lines().filter(|line| line.starts_with("Caused by: ") || !line.starts_with([' ', '\t']));
    let last = causes.rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let last = last.strip_prefix("Caused by: ").unwrap_or(last);
    last.rsplit_once("Exception: ").map_or(last, |(_, message)| message).to_owned()
}
