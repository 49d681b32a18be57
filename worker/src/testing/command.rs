//! `millrace test`: runs the tests of manifests and prints what became of them. It runs no Pipeline.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Outcome, run_all};
use crate::{check, exit, local};

/// Arguments of `millrace test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Manifest files and directories.
    #[arg(required = true, value_name = "FILE|DIR")]
    manifests: Vec<PathBuf>,
    /// How results are printed.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Form,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Runs them. Exit code 1 if one fails, 64 if there are none or the manifests cannot run.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<u8> {
    let (jobs, _) = local::resolve(&args.manifests, &std::env::temp_dir())?;
    let mut pipelines = Vec::new();
    for (_, job) in jobs {
        let name = format!("{}/{}", job.pipeline.namespace, job.pipeline.name);
        pipelines.push((name, run_all(&check::assembled(job)?)));
    }
    let outcomes = || pipelines.iter().flat_map(|(_, outcomes)| outcomes);
    if outcomes().next().is_none() {
        return Err(exit::bad_config("the Pipelines of the manifests have no spec.tests"));
    }
    let failed = outcomes().filter(|outcome| !outcome.failures.is_empty()).count();
    let passed = outcomes().count() - failed;
    match args.output {
        Form::Text => {
            pipelines.iter().for_each(|(name, outcomes)| exit::print_line(&text(name, outcomes)));
            exit::print_line(&format!("{passed} passed, {failed} failed"));
        }
        Form::Json => {
            let tests = pipelines.iter().flat_map(|(pipeline, outcomes)| {
                let test = move |outcome: &Outcome| json!({"pipeline": pipeline, "name": outcome.name, "failures": outcome.failures});
                outcomes.iter().map(test)
            });
            exit::print_line(&json!({"passed": passed, "failed": failed, "tests": tests.collect::<Vec<_>>()}).to_string());
        }
    }
    Ok(if failed == 0 { exit::DRAINED } else { exit::TESTS_FAILED })
}

/// The outcomes of one Pipeline for people.
pub(super) fn text(pipeline: &str, outcomes: &[Outcome]) -> String {
    let mut lines = vec![format!("pipeline {pipeline}{}", if outcomes.is_empty() { ": no tests" } else { "" })];
    for outcome in outcomes {
        let verdict = if outcome.failures.is_empty() { "ok    " } else { "FAILED" };
        lines.push(format!("  {verdict}  {}", outcome.name));
        lines.extend(outcome.failures.iter().flat_map(|failure| failure.lines()).map(|line| format!("    {line}")));
    }
    lines.join("\n")
}
