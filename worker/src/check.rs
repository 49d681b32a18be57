//! `millrace check` and `millrace explain`: what a Job would do, found out without connecting to anything.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use millrace_crds::job::Job;
use millrace_crds::report::{CheckOutcome, LostState, Problem, StateReport};
use millrace_engine::plan::compatibility::{self, StateFate};

use crate::assemble::{Assembled, assemble};
use crate::exchanged::Exchanged;
use crate::{JobSource, exit, local, testing};

/// A termination message is cut by the kubelet at this many bytes.
const TERMINATION_MESSAGE_BYTES: usize = 4096;
/// Operators that lose their state and are named.
const FIRST_LOST: usize = 8;

/// Reads a Job document.
pub(crate) fn read_job(path: &Path) -> anyhow::Result<Job> {
    let text = std::fs::read(path).with_context(|| format!("cannot read the Job {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| exit::bad_config(format!("{} is not a Job document: {error}", path.display())))
}

/// `millrace check`.
pub(crate) fn check(source: &JobSource) -> anyhow::Result<u8> {
    let running: Option<BTreeMap<Arc<str>, String>> = match &source.running_state {
        Some(text) => {
            Some(serde_json::from_str(text).map_err(|error| exit::bad_config(format!("--running-state is not as it should be: {error}")))?)
        }
        None => None,
    };
    let mut code = exit::DRAINED;
    for job in jobs(source)? {
        let name = format!("pipeline {}/{}", job.pipeline.namespace, job.pipeline.name);
        let revision = job.revision();
        let outcome = match assemble(job, PathBuf::new()) {
            Ok(assembled) => {
                let outcomes = if source.job.is_some() { testing::run_all(&assembled) } else { Vec::new() };
                let state = running.as_ref().map(|running| state_report(running, &assembled));
                CheckOutcome { tests: testing::report(&outcomes), state, ..assembled.outcome() }
            }
            Err(problems) => CheckOutcome { revision, problems, ..CheckOutcome::default() },
        };
        if let Some(failure) = outcome.tests.as_ref().and_then(|tests| tests.first_failure.as_ref()) {
            exit::print_error(&format!("{name}: a test fails: {failure}"));
            code = exit::BAD_CONFIG;
        }
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
        let exchanged: String = assembled.exchanged.iter().map(Exchanged::explain).collect();
        exit::print_line(&format!("{}{exchanged}", assembled.plan.explain()));
        match assembled.why_whole() {
            Some(why) => exit::print_line(&format!("one task for all splits, because it keeps state and cannot have one for each: {why}")),
            None if assembled.is_per_split() => exit::print_line("a task for each split, with the state of its keys"),
            None => {}
        }
    }
    Ok(exit::DRAINED)
}

/// What becomes of the state of the revision that runs.
fn state_report(running: &BTreeMap<Arc<str>, String>, assembled: &Assembled) -> StateReport {
    let wanted = compatibility::digests(&assembled.signatures());
    let wanted = wanted.into_iter().map(|(id, digest)| (Arc::from(id), digest)).collect();
    let diff = compatibility::compare(running, &wanted);
    let count = |wanted: fn(&StateFate) -> bool| diff.operators.values().filter(|fate| wanted(fate)).count().try_into().unwrap_or(u32::MAX);
    StateReport {
        kept: count(|fate| matches!(fate, StateFate::Kept { .. })),
        started: count(|fate| matches!(fate, StateFate::Started { .. })),
        lost: count(|fate| fate.lost().is_some()),
        first_lost: diff.lost().take(FIRST_LOST).map(|(id, why)| LostState { operator: id.to_string(), reason: why.to_owned() }).collect(),
        positions_lost: diff.positions_lost,
    }
}

/// Assembles, or fails with exit code 64 and all problems.
pub(crate) fn assembled(job: Job) -> anyhow::Result<Assembled> {
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
        if !shorten(&mut outcome) {
            anyhow::bail!("the plan report has {} bytes, a termination message holds {TERMINATION_MESSAGE_BYTES}", bytes.len());
        }
    };
    write_file(path, &bytes)
}

/// Leaves out what can best be done without; `false` if nothing is left to leave out.
fn shorten(outcome: &mut CheckOutcome) -> bool {
    let half = |text: &mut String| text.truncate(text.floor_char_boundary(text.len() / 2));
    // Workers report the state again once they run.
    if outcome.plan.as_mut().and_then(|plan| plan.state.take()).is_some() {
        return true;
    }
    if let Some(lost) = outcome.state.as_mut().map(|state| &mut state.first_lost).filter(|lost| lost.len() > 1) {
        return lost.pop().is_some();
    }
    if let Some(failure) = outcome.tests.as_mut().and_then(|tests| tests.first_failure.as_mut()).filter(|failure| failure.len() > 64) {
        half(failure);
        return true;
    }
    if outcome.problems.len() > 1 {
        return outcome.problems.pop().is_some();
    }
    let message = outcome.problems.first_mut().map(|problem| &mut problem.message).filter(|message| !message.is_empty());
    message.map(half).is_some()
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

#[cfg(test)]
mod tests {
    use millrace_crds::report::{PlanReport, TestsReport};

    use super::*;

    #[test]
    fn an_outcome_fits_into_a_termination_message() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("message");
        let state = (0..200).map(|n| (format!("step_{n}/aggregate/0"), "0123456789abcdef".to_owned())).collect();
        let lost = (0..8).map(|n| LostState { operator: format!("{}/{n}", "x".repeat(600)), reason: "KeyChanged".into() }).collect();
        let mut outcome = CheckOutcome {
            revision: "r".into(),
            plan: Some(PlanReport {
                hash: "h".into(),
                operators: 200,
                inputs: Vec::new(),
                outputs: Vec::new(),
                state: Some(state),
                whole: None,
            }),
            tests: Some(TestsReport { passed: 1, failed: 1, first_failure: Some("ü".repeat(1000)) }),
            state: Some(StateReport { kept: 0, started: 0, lost: 8, first_lost: lost, positions_lost: false }),
            ..CheckOutcome::default()
        };
        write_termination_message(&file, &outcome).unwrap();
        let written = std::fs::read(&file).unwrap();
        assert!(written.len() <= TERMINATION_MESSAGE_BYTES);
        let read: CheckOutcome = serde_json::from_slice(&written).unwrap();
        assert_eq!(read.plan.unwrap().state, None);
        assert_eq!(read.tests, outcome.tests, "what differs is cut last");
        let lost = read.state.unwrap();
        assert!(lost.lost == 8 && (1..8).contains(&lost.first_lost.len()));

        let problem = Problem { reason: "PlanInvalid".into(), location: "l".into(), message: "ü".repeat(5000), hint: None };
        outcome = CheckOutcome { revision: "r".into(), problems: vec![problem; 3], ..CheckOutcome::default() };
        write_termination_message(&file, &outcome).unwrap();
        let read: CheckOutcome = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(read.problems.len(), 1);
    }
}
