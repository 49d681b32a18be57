//! Streaming equals batch: every shape of query over random inputs, in random batches and out of order, restored now and then, against a judge of finished
//! inputs. It never looks at when something came out, only at what is left in the end.
//!
//! The judge is DataFusion, as far as this workspace has it: its parser and planner, its coercions of types, its expressions and its accumulators. Relations it
//! takes by their definition ([`batch`]): a join is a filtered cross product, a frame is a list of rows. It shares no code with the operators.
//!
//! `make oracle` lets DataFusion itself, from PyPI, answer the same cases and compares: it judges the judge.
//!
//! Inputs have NULLs, duplicates and rows out of order, as far behind as the watermark allows. What the stream says is materialised change by change: nothing
//! may be taken back that is not there, and no two rows may have the key that the plan promises. `MILLRACE_ORACLE_CASES` is the number of inputs for each
//! shape (8 unless set).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod accumulate;
mod batch;
mod catalog;
mod inputs;
mod shapes;
mod stream;
mod tables;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use millrace_engine::plan::stages::Exchange;
use shapes::SHAPES;

#[test]
fn streaming_equals_batch() {
    let cases = std::env::var("MILLRACE_ORACLE_CASES").map_or(8, |cases| cases.parse().expect("a number"));
    let seed = std::env::var("MILLRACE_ORACLE_SEED").map_or(7, |seed| seed.parse().expect("a number"));
    let only = std::env::var("MILLRACE_ORACLE_SHAPE").ok();
    let shapes: Vec<_> = SHAPES.iter().filter(|shape| only.as_ref().is_none_or(|only| shape.name == only)).collect();
    assert!(only.is_some() || shapes.len() >= 36, "{} shapes", shapes.len());
    let different = std::thread::scope(|scope| {
        let half = |part: usize| shapes.iter().skip(part).step_by(2).filter_map(|shape| check(shape, cases, seed)).collect::<Vec<String>>();
        let other = scope.spawn(move || half(1));
        let mut different = half(0);
        different.extend(other.join().unwrap());
        different
    });
    assert!(different.is_empty(), "{} of {} shapes differ:\n{}", different.len(), shapes.len(), different.join("\n"));
    let tasks::Counts { kills, closes, rescales, spills, epochs } = &tasks::COUNTS;
    let [kills, closes, rescales, spills, epochs] = [kills, closes, rescales, spills, epochs].map(|count| count.load(Ordering::Relaxed));
    println!("{} shapes x {cases} inputs (seed {seed}): what the stream leaves is what the batch gives", shapes.len());
    println!(
        "as tasks: {kills} kills, {closes} hand-overs, {rescales} changes of lanes, {spills} cases on disk, {epochs} epochs with rows"
    );
}

/// What differs for a shape, if anything does, for the smallest input that shows it.
fn check(shape: &shapes::Shape, cases: u32, number: u64) -> Option<String> {
    let plan = match stream::compile(shape) {
        Ok(plan) => plan,
        Err(problems) => return Some(format!("== {}: the stream refuses it: {problems}", shape.name)),
    };
    // What can be shared gives the same in parts, and through an exchange with partial aggregates.
    let exchange = plan.exchange().ok();
    let ways = [None, exchange.clone(), exchange.map(Exchange::condensed)];
    let ways: Vec<_> = ["in one piece", "in parts", "through an exchange"]
        .into_iter()
        .zip(&ways)
        .filter(|(how, way)| *how == "in one piece" || way.is_some())
        .collect();
    let plan = Arc::new(plan);
    // Every shape has inputs of its own, the same in every run.
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.wrapping_mul(0x0101_0101_0101_0101).to_le_bytes());
    shape.name.bytes().enumerate().for_each(|(index, byte)| seed[index % 32] ^= byte);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let run = runner.run(&inputs::inputs(), |inputs| {
        let expected = tables::answer(shape, &inputs).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let same = |how: &str, streamed: Result<Vec<String>, String>| match streamed {
            Err(wrong) => Err(TestCaseError::fail(format!("{how}: {wrong}"))),
            Ok(streamed) if streamed != expected => Err(TestCaseError::fail(format!("{how}: {}", difference(&streamed, &expected)))),
            Ok(_) => Ok(()),
        };
        ways.iter().try_for_each(|(how, exchange)| same(how, stream::run(&plan, &inputs, exchange.as_ref())))?;
        same("as tasks", tasks::run(&plan, &inputs))
    });
    run.err().map(|error| format!("== {}\n{}\n{error}", shape.name, shape.text))
}

fn difference(streamed: &[String], expected: &[String]) -> String {
    let mut missing = expected.to_vec();
    let mut added = Vec::new();
    for row in streamed {
        match missing.iter().position(|known| known == row) {
            Some(index) => drop(missing.remove(index)),
            None => added.push(row.clone()),
        }
    }
    format!("only in the batch: {missing:#?}\nonly in the stream: {added:#?}")
}
