//! Nexmark: a known set of queries over an auction house, run on Millrace and on Flink from the very same files, and the results compared.
//! It says nothing of an engine that it has not run.
//!
//! ```text
//!  tests/nexmark/q*.sql ── queries ─┬─▶ flink: a script, one JVM ──────────────┐
//!                                   ├─▶ millrace: a manifest, `millrace run` ──┼─▶ results: what is left of the changelog ─▶ equal?
//!  generator ──▶ three files ───────┴─▶ in_process: the plan alone ────────────┘          report: costs beside goals
//! ```
//!
//! `tests/nexmark/golden` holds what Flink answered for [`golden`]; the test of that name compares Millrace with it where there is no Flink.

pub mod flink;
pub mod generator;
pub mod in_process;
pub mod millrace;
pub mod queries;
mod random;
pub mod report;
pub mod results;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result};

use self::generator::Events;
use crate::installed;

/// State of joins and unbounded aggregates is kept for this long by both engines: longer than any run, shorter than for ever.
pub const STATE_TTL_SECONDS: u64 = 86_400;
/// Both engines take a checkpoint this often.
pub const CHECKPOINT_SECONDS: u64 = 10;

/// The events that the golden results were made from: 100 s around midnight, so that ten-second windows close and the day changes.
#[must_use]
pub fn golden(disorder: u64) -> Events {
    Events { count: 2000, rate: 20, start: 1_772_323_150_000, disorder, seed: 20, sizes: None }
}

/// Events out of order by up to two and a half seconds.
pub const GOLDEN_DISORDER: u64 = 50;

/// Rows of the table that query 13 looks up.
const SIDE_INPUT_ROWS: u64 = 10_000;

/// Where the golden result of a query is. Out of order has a file of its own only where that changes the result: the order of rows decides between equals.
#[must_use]
pub fn golden_path(query: &str, disorder: u64) -> PathBuf {
    let folder = installed::checkout().join("tests/nexmark/golden");
    let own = folder.join("disorder").join(format!("{query}.jsonl"));
    if disorder > 1 && own.exists() { own } else { folder.join(format!("{query}.jsonl")) }
}

/// The folder of the recorded events, which are written unless they are there.
///
/// # Errors
/// They cannot be written.
pub fn record(events: &Events) -> Result<PathBuf> {
    let name = match events.sizes {
        Some([person, auction, bid]) => format!("{person}-{auction}-{bid}"),
        None => "short".to_owned(),
    };
    let name = format!(
        "{}-events-{}-a-second-from-{}-disorder-{}-seed-{}-{name}",
        events.count, events.rate, events.start, events.disorder, events.seed
    );
    let folder = installed::cache()?.join("nexmark").join(name);
    if !folder.exists() {
        // Moved into place when whole: an interrupted run leaves nothing that looks like a recording.
        let unfinished = folder.with_extension("unfinished");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
        }
        std::fs::create_dir_all(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
        events.write_files(&unfinished)?;
        let rows: String = (0..SIDE_INPUT_ROWS).map(|key| format!("{key},value {key}\n")).collect();
        std::fs::write(unfinished.join("side_input.csv"), rows).context("write the table that is looked up")?;
        std::fs::rename(&unfinished, &folder).with_context(|| format!("move {} into place", unfinished.display()))?;
    }
    Ok(folder)
}
