//! `millrace check` and `millrace explain`: what a Job would do, found out without connecting to anything.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use millrace_crds::job::Job;
use millrace_crds::report::{CheckOutcome, Problem};

use crate::assemble::{Assembled, assemble};
use crate::{JobSource, exit, local};

/// A termination message is cut by the kubelet at this many bytes.
const TERMINATION_MESSAGE_BYTES: usize = 4096;

/// Reads a Job document.
pub(crate) fn read_job(path: &Path) -> anyhow::Result<Job> {
    let text = std::fs::read(path).with_context(|| format!("cannot read the Job {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| exit::bad_config(format!("{} is not a Job document: {error}", path.display())))
}

/// `millrace check`.
pub(crate) fn check(source: &JobSource) -> anyhow::Result<u8> {
    let mut code = exit::DRAINED;
    for job in jobs(source)? {
        let name = format!("pipeline {}/{}", job.pipeline.namespace, job.pipeline.name);
        let revision = job.revision();
        let outcome = match assemble(job, PathBuf::new()) {
            Ok(assembled) => assembled.outcome(),
            Err(problems) => CheckOutcome { revision, problems, plan: None },
        };
        if let Some(plan) = &outcome.plan {
            exit::print_line(&format!("{name}: ok, {} operators, plan {}", plan.operators, plan.hash));
        } else {
            exit::print_error(&format!("{name} cannot run:{}", describe(&outcome.problems)));
            code = exit::BAD_CONFIG;
        }
        if let Some(path) = &source.termination_message {
            write_termination_message(path, &outcome)?;
        }
    }
    Ok(code)
}

/// `millrace explain`.
pub(crate) fn explain(source: &JobSource) -> anyhow::Result<u8> {
    for job in jobs(source)? {
        exit::print_line(&format!("Pipeline {}/{}", job.pipeline.namespace, job.pipeline.name));
        let assembled = assembled(job)?;
        exit::print_line(&assembled.plan.explain());
    }
    Ok(exit::DRAINED)
}

/// Assembles, or fails with exit code 64 and all problems.
fn assembled(job: Job) -> anyhow::Result<Assembled> {
    let name = job.pipeline.name.clone();
    assemble(job, PathBuf::new()).map_err(|problems| exit::bad_config(format!("pipeline {name} cannot run:{}", describe(&problems))))
}

fn jobs(source: &JobSource) -> anyhow::Result<Vec<Job>> {
    match &source.job {
        Some(path) => Ok(vec![read_job(path)?]),
        None => local::load_jobs(&source.manifests, &std::env::temp_dir()).map(|(jobs, _)| jobs),
    }
}

/// Problems as an indented list for people.
pub(crate) fn describe(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&format!("\n  {}: {} ({})", problem.location, problem.message, problem.reason));
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("\n    hint: {hint}"));
        }
    }
    text
}

/// Writes an outcome for the operator to read from the pod's status: whole problems only, as many as fit.
fn write_termination_message(path: &Path, outcome: &CheckOutcome) -> anyhow::Result<()> {
    let mut outcome = outcome.clone();
    let bytes = loop {
        let bytes = serde_json::to_vec(&outcome)?;
        if bytes.len() <= TERMINATION_MESSAGE_BYTES {
            break bytes;
        }
        if outcome.problems.len() > 1 {
            outcome.problems.pop();
        } else if let Some(problem) = outcome.problems.first_mut() {
            problem.message.truncate(problem.message.floor_char_boundary(problem.message.len() / 2));
        } else {
            anyhow::bail!("the plan report has {} bytes, a termination message holds {TERMINATION_MESSAGE_BYTES}", bytes.len());
        }
    };
    write_file(path, &bytes)
}

/// Writes a file that may be a device or a bind mount, so without a temporary file beside it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}
