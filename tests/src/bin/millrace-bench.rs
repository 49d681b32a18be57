//! What a process and an image cost: size, idle memory, time from exec to the first row. Prints goal beside measured; asserts nothing. `make bench` runs it.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_tests::image::{self, Image, Profile};
use millrace_tests::poll;
use millrace_tests::servers::{LOOPBACK, ports};

/// Starts of which the median counts.
const STARTS: usize = 21;
/// For an idle process to have opened everything.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    println!("release builds; goal beside measured");
    let worker = image::build(Image::Worker, Profile::Release)?;
    image::build(Image::Operator, Profile::Release)?;
    for (image, goal) in [(Image::Worker, 20), (Image::Operator, 8)] {
        let archive = image::pack(image, Profile::Release, None)?;
        println!(
            "M4  image of the {:8} compressed      goal <= {goal:3} MB   measured {:6.1} MB",
            image.name(),
            megabytes(archive.compressed_size()?)
        );
    }
    let (median, min, max) = first_row(&worker)?;
    println!("C1  exec to first row (CSV, warm cache)   goal <= 100 ms   measured {median:6.0} ms ({min:.0}-{max:.0}, {STARTS} starts)");
    let (rss, anonymous) = idle(&worker).await?;
    println!("M1  idle worker, resident                 goal <=  25 MB   measured {:6.1} MB", rss / 1000.0);
    println!("M1  idle worker, anonymous                goal <=   8 MB   measured {:6.1} MB", anonymous / 1000.0);
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A Pipeline from `files` to the terminal.
fn manifest(folder: &Path, mode: &str) -> Result<()> {
    std::fs::create_dir_all(folder.join("data"))?;
    let text = format!(
        "apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {{name: numbers}}
spec:
  files: {{path: data, mode: {mode}}}
  format: {{csv: {{}}}}
  schema: {{columns: [{{name: number, type: BigInt}}]}}
---
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {{name: terminal}}
spec: {{stdout: {{}}}}
---
apiVersion: millrace.dev/v1alpha1
kind: Pipeline
metadata: {{name: bench}}
spec:
  inputs: [{{name: numbers, sourceRef: {{name: numbers}}}}]
  steps: [{{name: doubled, sql: \"SELECT number * 2 AS number FROM numbers\"}}]
  outputs: [{{name: doubled, from: doubled, sinkRef: {{name: terminal}}}}]
"
    );
    Ok(std::fs::write(folder.join("bench.yaml"), text)?)
}

fn start(worker: &Path, folder: &Path, arguments: &[&str]) -> Result<Child> {
    Command::new(worker)
        .args(["run", "bench.yaml", "--quiet"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start millrace")
}

/// Milliseconds from exec to the first row on standard output: median, minimum, maximum.
fn first_row(worker: &Path) -> Result<(f64, f64, f64)> {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let folder = tempfile::tempdir()?;
        manifest(folder.path(), "Once")?;
        std::fs::write(folder.path().join("data/one.csv"), "number\n21\n")?;
        #[expect(clippy::disallowed_methods, reason = "this measures time")]
        let begun = Instant::now();
        let mut child = start(worker, folder.path(), &[])?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("standard output is a pipe")?).read_line(&mut line)?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(line.contains("42"), "the first row is {line:?}");
        child.wait()?;
    }
    times.sort_by(f64::total_cmp);
    Ok((times[STARTS / 2], times[0], times[STARTS - 1]))
}

/// Kilobytes resident and anonymous of a worker that has opened everything and has nothing to do.
async fn idle(worker: &Path) -> Result<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    manifest(folder.path(), "Continuous")?;
    let address = format!("{LOOPBACK}:{}", ports::free(LOOPBACK)?);
    let mut child = start(worker, folder.path(), &["--http", &address])?;
    let running = async || {
        let text = reqwest::get(format!("http://{address}/metrics")).await?.text().await?;
        ensure!(text.lines().any(|line| line.starts_with("millrace_task_running{") && line.ends_with(" 1")), "it does not run yet");
        Ok::<_, anyhow::Error>(())
    };
    let waited = poll::until("the worker runs", PATIENCE, running).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    child.kill()?;
    child.wait()?;
    waited?;
    let status = status?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<f64>().ok()).with_context(|| format!("{name} in {line:?}"))
    };
    // The kernel counts in KiB.
    Ok((field("VmRSS:")? * 1.024, field("RssAnon:")? * 1.024))
}
