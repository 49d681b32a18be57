//! `millrace run` killed at random moments, and stopped as a zombie that wakes after its successor has taken over: Kafka in, windows and revised totals in
//! transactions out. A reader of what is committed must find every window once and right, and totals that only ever grow. No cluster here.
//!
//! `MILLRACE_TEST_KILLS` is the number of kills and zombies (10 unless set), `MILLRACE_TEST_SEED` what they are drawn from (1 unless set). The test prints
//! how many there were of each.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_tests::dice::Dice;
use millrace_tests::image::{self, Image};
use millrace_tests::poll;
use millrace_tests::sales::{Input, manifests, totals, windows};
use millrace_tests::servers::Kafka;
use serde_json::json;
use tokio::process::{Child, Command};

/// For everything to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// Records that are written between two kills.
const RECORDS: usize = 200;
/// The worker's code when another has taken over.
const FENCED: i32 = 66;

struct Run {
    program: PathBuf,
    manifest: PathBuf,
}

impl Run {
    fn start(&self) -> Result<Child> {
        let folder = self.manifest.parent().context("the manifest has a directory")?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--quiet").arg(&self.manifest).current_dir(folder).stdin(Stdio::null());
        command.kill_on_drop(true).spawn().context("start millrace")
    }
}

fn signal(process: &Child, name: &str) -> Result<()> {
    let id = process.id().context("it has ended")?;
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status()?;
    ensure!(sent.success(), "cannot send SIG{name}");
    Ok(())
}

/// The newest epoch of any Pipeline in the state.
fn newest_epoch(state: &Path) -> Result<usize> {
    let mut records = 0;
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "record") {
                records = records.max(path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(0));
            }
        }
    }
    Ok(records)
}

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number")))
}

#[tokio::test]
async fn windows_and_totals_are_exact_through_kills_and_zombies() -> Result<()> {
    let (kills, seed) = (setting("MILLRACE_TEST_KILLS", 10)?, setting("MILLRACE_TEST_SEED", 1)?);
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let manifest = folder.path().join("sales.yaml");
    std::fs::write(&manifest, manifests(&kafka, &["windows", "totals"], &json!({}))?)?;
    let program = tokio::task::spawn_blocking(|| image::build(Image::Worker, image::Profile::for_tests())).await??;
    let run = Run { program, manifest };
    let state = folder.path().join(".millrace/state");

    let mut dice = Dice::new(seed);
    let mut input = Input::new(&kafka).await?;
    input.write(&mut dice, RECORDS).await?;
    let mut millrace = run.start()?;
    let (mut killed, mut zombies) = (0, 0);
    for _ in 0..kills {
        input.write(&mut dice, RECORDS).await?;
        // The moment is what is random here; nothing is expected to have happened by then.
        tokio::time::sleep(Duration::from_millis(dice.below(2500))).await;
        if let Some(status) = millrace.try_wait()? {
            // Of two that took one Pipeline each from the other, none is left.
            ensure!(status.code() == Some(FENCED), "it ended by itself: {status}");
            millrace = run.start()?;
        }
        if dice.below(5) > 1 {
            millrace.kill().await.context("kill millrace")?;
            millrace = run.start()?;
            killed += 1;
            continue;
        }
        signal(&millrace, "STOP")?;
        let before = if state.exists() { newest_epoch(&state)? } else { 0 };
        let mut successor = run.start()?;
        input.write(&mut dice, RECORDS).await?;
        poll::until("the successor has written epochs", PATIENCE, async || {
            let now = newest_epoch(&state)?;
            ensure!(now > before + 1, "epoch {now} after {before}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        signal(&millrace, "CONT")?;
        // Only one of the two goes on: mostly the successor, but a zombie whose transaction was fenced may claim its task again, and one that was
        // stopped before it had claimed its tasks claims them now. Who has nothing to write notices nothing, so there is always something.
        let ended = async {
            tokio::select! {
                status = millrace.wait() => (status, true),
                status = successor.wait() => (status, false),
            }
        };
        let (status, is_zombie) = tokio::select! {
            ended = tokio::time::timeout(PATIENCE, ended) => ended.context("both live on")?,
            failed = input.go_on(&mut dice) => return failed,
        };
        let status = status?;
        ensure!(status.code() == Some(FENCED), "one of them ended with {status}");
        if is_zombie {
            millrace = successor;
        }
        zombies += 1;
    }
    input.finish().await?;
    let (expected_windows, expected_totals) = (input.windows(), input.totals());
    poll::until("all windows and totals are committed", PATIENCE, async || {
        let (windows, totals) = (windows(&kafka), totals(&kafka));
        for wrong in [windows.as_ref().err(), totals.as_ref().err()].into_iter().flatten() {
            // Waiting does not mend what is committed twice or torn.
            assert!(
                !wrong.to_string().contains("TWICE") && !wrong.to_string().contains("TORN") && !wrong.to_string().contains("BACK"),
                "{wrong}"
            );
        }
        let (windows, totals) = (windows?, totals?);
        ensure!(windows.len() >= expected_windows.len(), "{} of {} windows", windows.len(), expected_windows.len());
        ensure!(totals == expected_totals, "{totals:?}, not {expected_totals:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    signal(&millrace, "TERM")?;
    let status = tokio::time::timeout(PATIENCE, millrace.wait()).await.context("millrace does not drain")??;
    ensure!(status.code() == Some(0), "millrace ended with {status}");
    assert_eq!(windows(&kafka)?, expected_windows);
    assert_eq!(totals(&kafka)?, expected_totals);
    println!(
        "n = {killed} kills and {zombies} zombies (seed {seed}): {} records, {} windows and {} totals, each exactly once",
        input.records(),
        expected_windows.len(),
        expected_totals.len()
    );
    Ok(())
}
