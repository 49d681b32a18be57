//! A windowed, keyed Pipeline from Kafka to Kafka, shared by workers through an exchange: they are killed, the query changes, replicas come and go, and a reader of what
//! is committed finds every window once and right. A short run of what `make endurance` does; `MILLRACE_TEST_RATE`, `…_SECONDS` and `…_KILL_EVERY` set the size.

use anyhow::{Result, ensure};
use millrace_tests::endurance::{self, Sizes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_window_is_seen_once_whatever_happens() -> Result<()> {
    let sizes = Sizes { rate: 400, seconds: 75, kill_every: 15, keys: 40 }.or_from_environment()?;
    let outcome = endurance::run("exchange", sizes).await?;
    eprintln!("{outcome}");
    ensure!(outcome.verdict.is_clean(), "not every window was there once and right: {:?}", outcome.verdict);
    Ok(())
}
