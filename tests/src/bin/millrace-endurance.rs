//! Ten minutes of a shared Pipeline in the cluster at a steady rate while workers are killed, its query changes and replicas come and go. Prints what happened when and
//! the gap in output after it; fails if a window is missing, there twice, or wrong. `make endurance` runs it.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use anyhow::{Result, ensure};
use clap::Parser;
use millrace_tests::endurance::{self, Sizes};
use millrace_tests::image::Profile;
use millrace_tests::measure::circumstances;

/// Keeps a shared Pipeline in the cluster while workers are killed, its query changes and replicas come and go.
///
/// MILLRACE_TEST_RATE records a second (50000), for MILLRACE_TEST_SECONDS (600), one worker killed every MILLRACE_TEST_KILL_EVERY seconds (30);
/// MILLRACE_TEST_PROFILE=release takes release builds.
#[derive(Parser)]
struct Arguments {}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments {} = Arguments::parse();
    let sizes = Sizes { rate: 50_000, seconds: 600, kill_every: 30, keys: 2000 }.or_from_environment()?;
    println!("workers and operator are {:?} builds; Kafka 4.1, one broker; all on {}\n", Profile::for_tests(), circumstances()?);
    let outcome = endurance::run("endurance", sizes).await?;
    print!("{outcome}");
    ensure!(outcome.verdict.is_clean(), "not every window was there once and right");
    Ok(())
}
