//! `spec.tests`: a Pipeline's own tests, run on its plan in a time of their own. Nothing is connected to, and no clock is read.
//!
//! ```text
//!  given rows ─▶ feed (the JSON decoder, watermarks) ─▶ Executor ─▶ collect (rows as JSON, row kinds) ─▶ compare ─▶ what differs
//! ```

mod cell;
mod collect;
mod command;
mod compare;
mod feed;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use millrace_crds::pipeline::Test;
use millrace_crds::report::TestsReport;
use millrace_engine::operators::Message;

pub(crate) use command::{TestArgs, run};

use crate::assemble::Assembled;
use collect::Collected;
use feed::Feed;

/// Longest text of a first failure, in characters: what a status takes.
const FIRST_FAILURE: usize = 1024;

/// What became of one test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// What is wrong, each in one or more lines; empty if it passed.
    pub(crate) failures: Vec<String>,
}

/// Runs all tests of a Job, in their order.
pub(crate) fn run_all(assembled: &Assembled) -> Vec<Outcome> {
    let outcome = |test: &Test| Outcome { name: test.name.clone(), failures: run_one(assembled, test).unwrap_or_else(|error| vec![error]) };
    assembled.job.tests.iter().map(outcome).collect()
}

/// The outcomes in brief; `None` if there are no tests.
pub(crate) fn report(outcomes: &[Outcome]) -> Option<TestsReport> {
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let first_failure = failed.first().map(|first| {
        let text = format!("{}: {}", first.name, first.failures.join("\n"));
        if text.chars().nth(FIRST_FAILURE).is_none() { text } else { text.chars().take(FIRST_FAILURE - 1).chain(['…']).collect() }
    });
    let report = TestsReport { passed: count(outcomes.len() - failed.len()), failed: count(failed.len()), first_failure };
    (!outcomes.is_empty()).then_some(report)
}

/// What is wrong with what comes out; an error if the test itself cannot be run.
fn run_one(assembled: &Assembled, test: &Test) -> Result<Vec<String>, String> {
    let plan = &assembled.plan;
    let names: Vec<&str> = assembled.inputs.iter().map(|input| input.name.as_str()).collect();
    let mut executor = plan.executor(&names);
    let mut feeds = assembled.inputs.iter().map(|input| Feed::new(assembled, input)).collect::<Result<Vec<_>, _>>()?;
    let mut collected = Collected::new(plan)?;
    let mut push = |input: usize, message: Message| {
        let mut failed = None;
        let pushed = executor.push(input, message, &mut |output, message| {
            if let Err(error) = collected.take(output, message) {
                failed.get_or_insert(error);
            }
        });
        pushed.map_err(|error| format!("the Pipeline fails: {}", chain(&error))).and(failed.map_or(Ok(()), Err))
    };
    let mut now = 0;
    // A table that rows look things up in is what has been given of it so far: nobody waits for more.
    for (input, _) in names.iter().enumerate().filter(|(_, name)| plan.is_table(name)) {
        push(input, Message::Idle)?;
    }
    for (position, given) in test.given.iter().enumerate() {
        let in_given = |error: String| format!("given[{position}]: {error}");
        if let Some(name) = &given.input {
            let input = names.iter().position(|known| known == name).ok_or_else(|| in_given(format!("there is no input {name}")))?;
            for batch in feeds[input].rows(&given.rows).map_err(in_given)? {
                push(input, Message::Batch(batch))?;
            }
            if let Some(watermark) = feeds[input].watermark() {
                push(input, Message::Watermark(watermark))?;
            }
        }
        if let Some(time) = given.advance_to_micros().map_err(in_given)? {
            // Processing time: it stands still but for this, and never goes back.
            if plan.reads_clock() && time > now {
                now = time;
                push(0, Message::Clock(now))?;
            }
            for (input, feed) in feeds.iter_mut().enumerate() {
                if let Some(watermark) = feed.advance(time) {
                    push(input, Message::Watermark(watermark))?;
                }
            }
        }
    }
    for last in [Message::Watermark(i64::MAX), Message::End] {
        for input in 0..names.len() {
            push(input, last.clone())?;
        }
    }
    Ok(test.expect.iter().filter_map(|expect| compare::compare(&mut collected, expect)).collect())
}

/// An error with those below it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let _ = write!(text, ": {error}");
        below = error.source();
    }
    text
}
