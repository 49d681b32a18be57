//! Millrace: a manifest around a query, run by `millrace run`. It builds nothing: whoever calls brings the program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use millrace_crds::format::Schema;

use super::generator::MAX_DELAY_MS;
use super::queries::Query;
use super::results::Rows;
use super::tables::{SIDE_INPUT, TIME, columns, schema};
use super::{CHECKPOINT_SECONDS, SIDE_INPUT_ROWS, STATE_TTL_SECONDS};
use crate::measure;

/// What `millrace` ends with if a manifest cannot run.
const BAD_CONFIG: i32 = 64;

/// Enough for all: a task over its limit begins again, and would be measured twice.
const MAX_STATE_BYTES: u64 = 8 << 30;

/// A built `millrace`.
#[derive(Clone, Debug)]
pub struct Millrace {
    program: PathBuf,
}

/// Where rows go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sink {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Blackhole,
}

impl Millrace {
    /// This program.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Sources, a Sink and a Pipeline for a query over the files in `events`.
    ///
    /// # Errors
    /// A schema cannot be written as YAML.
    pub fn manifest(query: &Query, events: &Path, sink: Sink) -> Result<String> {
        let mut text = format!("# {}: {}\n", query.name, query.title);
        let mut source = |name: &str, file: &str, format: &str, schema: &Schema, time: &str| -> Result<()> {
            let schema = serde_json::to_string(schema).context("write a schema")?;
            let path = serde_json::to_string(&events.display().to_string()).context("write a path")?;
            let _ = writeln!(
                text,
                "apiVersion: millrace.dev/v1alpha1\nkind: Source\nmetadata: {{name: {name}}}\nspec:\n  files: {{path: {path}, include: {file}, mode: Once}}\n  \
                 format: {format}\n  schema: {schema}\n{time}---"
            );
            Ok(())
        };
        for table in &query.inputs {
            let time = format!("  eventTime: {{column: {TIME}, maxDelaySeconds: {}}}\n", MAX_DELAY_MS / 1000);
            source(table.name(), &format!("{}.jsonl", table.name()), "{json: {}}", &schema(columns(*table)), &time)?;
        }
        if query.side_input {
            source("side-input", "side_input.csv", "{csv: {header: Absent}}", &schema(&SIDE_INPUT), "")?;
        }
        let sink = match sink {
            Sink::Stdout => "stdout",
            Sink::Blackhole => "blackhole",
        };
        let mut inputs: Vec<String> =
            query.inputs.iter().map(|table| format!("{{name: {0}, sourceRef: {{name: {0}}}}}", table.name())).collect();
        if query.side_input {
            inputs.push("{name: side_input, sourceRef: {name: side-input}}".to_owned());
        }
        let _ = write!(
            text,
            "apiVersion: millrace.dev/v1alpha1\nkind: Sink\nmetadata: {{name: out}}\nspec: {{{sink}: {{}}}}\n---\n\
             apiVersion: millrace.dev/v1alpha1\nkind: Pipeline\nmetadata: {{name: {}}}\nspec:\n  inputs: [{}]\n  steps:\n",
            query.name,
            inputs.join(", ")
        );
        for (name, sql) in query.views.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).chain([("result", query.sql.as_str())]) {
            let _ = writeln!(text, "  - name: {name}\n    sql: |\n{}", indented(sql));
        }
        let _ = writeln!(
            text,
            "  outputs: [{{name: result, from: result, sinkRef: {{name: out}}}}]\n  \
             state: {{ttlSeconds: {STATE_TTL_SECONDS}}}\n  checkpoint: {{intervalSeconds: {CHECKPOINT_SECONDS}}}\n  \
             limits: {{maxStateBytes: {MAX_STATE_BYTES}}}\n  errorPolicy: {{onPoison: Fail}}"
        );
        Ok(text)
    }

    /// The rows that a query gives, or why Millrace refuses it.
    ///
    /// # Errors
    /// The program fails otherwise.
    pub fn results(&self, query: &Query, events: &Path) -> Result<Result<Rows, String>> {
        let work = tempfile::tempdir().context("make a folder")?;
        let answer = self.command(query, events, work.path(), Sink::Stdout)?.output().context("run millrace")?;
        let errors = String::from_utf8_lossy(&answer.stderr);
        if answer.status.code() == Some(BAD_CONFIG) {
            return Ok(Err(refusal(&errors)));
        }
        ensure!(answer.status.success(), "millrace ended with {} on {}: {errors}", answer.status, query.name);
        let text = String::from_utf8(answer.stdout).context("millrace printed something that is not text")?;
        Rows::of_changelog(&text).with_context(|| format!("read what Millrace answered to {}", query.name)).map(Ok)
    }

    /// Runs a query into nowhere, or says why Millrace refuses it. Its tables have so many `lines`.
    ///
    /// # Errors
    /// The program fails otherwise, or has not read each line once.
    pub fn measure(&self, query: &Query, events: &Path, lines: u64) -> Result<Result<measure::Used, String>> {
        let work = tempfile::tempdir().context("make a folder")?;
        let (used, errors) = measure::run(&self.command(query, events, work.path(), Sink::Blackhole)?)?;
        if used.status.code() == Some(BAD_CONFIG) {
            return Ok(Err(refusal(&errors)));
        }
        ensure!(used.status.success(), "millrace ended with {} on {}: {errors}", used.status, query.name);
        let lines = lines + if query.side_input { SIDE_INPUT_ROWS } else { 0 };
        ensure!(records_in(&errors) == Some(lines), "{} should have read {lines} records once: {errors}", query.name);
        Ok(Ok(used))
    }

    fn command(&self, query: &Query, events: &Path, work: &Path, sink: Sink) -> Result<Command> {
        let manifest = work.join("query.yaml");
        std::fs::write(&manifest, Self::manifest(query, events, sink)?).context("write a manifest")?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg(&manifest).arg("--quiet").arg("--state-dir").arg(work.join("state"));
        command.current_dir(work).stdin(Stdio::null());
        Ok(command)
    }
}

fn indented(sql: &str) -> String {
    sql.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}

/// How many records were read, from the last line that says so.
fn records_in(errors: &str) -> Option<u64> {
    let (before, _) = errors.rsplit_once(" records in")?;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

/// The first problem that `millrace` names.
fn refusal(errors: &str) -> String {
    let problem = errors.lines().find(|line| line.starts_with("  ")).or_else(|| errors.lines().last());
    problem.unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_count_is_taken() {
        assert_eq!(records_in("q0: 12 records in, 1 out\nq0: 552,000 records in, 552,000 out, epoch 2 durable\n"), Some(552_000));
        assert_eq!(records_in("nothing"), None);
    }
}
