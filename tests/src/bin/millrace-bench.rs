//! What a process and an image cost: size, idle memory, time from exec to the first row, and in the cluster from `kubectl apply`. Prints goal beside measured;
//! asserts nothing. `make bench` runs it.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Parser;
use k8s_openapi::jiff::Timestamp;
use millrace_crds::pipeline::Step;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::operators::Message;
use millrace_engine::plan::{self, InputChangelog, InputTable, Policy};
use millrace_tests::access_logs::{Endpoints, Workload, manifests};
use millrace_tests::cluster::Cluster;
use millrace_tests::image::{self, Image, Profile};
use millrace_tests::install::{Namespace, install_operator};
use millrace_tests::measure;
use millrace_tests::poll;
use millrace_tests::servers::{LOOPBACK, Moto, OpenSearch, ports};
use serde_json::Value;

/// Starts of which the median counts.
const STARTS: usize = 21;
/// Keys whose state is measured, and rows that come together.
const KEYS: i64 = BATCH * 400;
const BATCH: i64 = 8192;
/// Pipelines that are applied, one after the other.
const APPLIES: usize = 5;
/// For an idle process to have opened everything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures what processes and images cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these, as in `M3,C1`; C2 stands for everything in the cluster.
    #[arg(long, value_delimiter = ',', value_parser = ["M3", "M4", "C1", "M1", "C2"])]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("release builds; goal beside measured");
    if measure::wants(&arguments.only, "M3") {
        let (bytes, counted) = state_per_key()?;
        println!(
            "M3  state for each BIGINT key, count/min/max/sum  goal <= 48 B  measured {bytes:6.1} B ({counted:.1} B by its own count; {KEYS} keys)"
        );
    }
    if measure::wants(&arguments.only, "M4") {
        images()?;
    }
    if measure::wants(&arguments.only, "C1") || measure::wants(&arguments.only, "M1") {
        process(&arguments).await?;
    }
    if measure::wants(&arguments.only, "C2")
        && let Err(error) = in_the_cluster().await
    {
        println!("C2, C3 and the operator's memory are NOT MEASURED: {error:#}");
    }
    Ok(())
}

/// How large the images are.
fn images() -> Result<()> {
    for (image, goal) in [(Image::Worker, 20), (Image::Operator, 8)] {
        image::build(image, Profile::Release)?;
        let archive = image::pack(image, Profile::Release, None)?;
        println!(
            "M4  image of the {:8} compressed      goal <= {goal:3} MB   measured {:6.1} MB",
            image.name(),
            megabytes(archive.compressed_size()?)
        );
    }
    Ok(())
}

/// How fast a worker starts, and what it takes while it does nothing.
async fn process(arguments: &Arguments) -> Result<()> {
    let worker = image::build(Image::Worker, Profile::Release)?;
    if measure::wants(&arguments.only, "C1") {
        let (median, min, max) = first_row(&worker)?;
        println!(
            "C1  exec to first row (CSV, warm cache)   goal <= 100 ms   measured {median:6.0} ms ({min:.0}-{max:.0}, {STARTS} starts)"
        );
    }
    if measure::wants(&arguments.only, "M1") {
        let (rss, anonymous) = idle(&worker).await?;
        println!("M1  idle worker, resident                 goal <=  25 MB   measured {:6.1} MB", rss / 1000.0);
        println!("M1  idle worker, anonymous                goal <=   8 MB   measured {:6.1} MB", anonymous / 1000.0);
    }
    Ok(())
}

/// The operator's memory, and how long Pipelines take to start.
async fn in_the_cluster() -> Result<()> {
    ensure!(Profile::for_tests() == Profile::Release, "set MILLRACE_TEST_PROFILE=release, so that the cluster runs what users get");
    let cluster = Cluster::start().await?;
    install_operator(&cluster).await?;
    let (rss, anonymous) = memory(operator()?)?;
    println!(
        "O1  idle operator, resident               goal <=  60 MB with 10,000 Pipelines   measured with none {:6.1} MB (anonymous {:.1} MB)",
        rss / 1000.0,
        anonymous / 1000.0
    );

    let host = cluster.host()?;
    let (moto, opensearch) = (Moto::start_at(host).await?, OpenSearch::start_at(host).await?);
    for bucket in ["logs", "lake", "state"] {
        moto.create_bucket(bucket).await?;
    }
    let workload = Workload { objects: 1, lines: 100, one_malformed_in: 1000 };
    workload.upload(&moto).await?;
    let (mut pods, mut records) = (Vec::new(), Vec::new());
    for number in 0..APPLIES {
        let run = format!("bench-{number}");
        let namespace = Namespace::make(&cluster, &run).await?;
        let queue = moto.create_queue(&run).await?;
        workload.announcements().send(&moto, &queue, 0.0, 1.0).await?;
        let endpoints = Endpoints { aws: moto.url(), opensearch: opensearch.url(), queue };
        let manifests = manifests(&endpoints, &run)?.replace("index: \"edge-", &format!("index: \"{run}-"));
        #[expect(clippy::disallowed_methods, reason = "this measures time")]
        let applied = Instant::now();
        namespace.apply(&manifests).await?;
        let arrived = async || {
            ensure!(opensearch.count(&format!("{run}-*")).await? > 0, "nothing is there");
            Ok::<_, anyhow::Error>(())
        };
        poll::until("the first record", PATIENCE * 4, arrived).await?;
        records.push(applied.elapsed().as_secs_f64());
        pods.extend(apply_to_pod(&cluster, &run)?);
        namespace.delete().await?;
    }
    let (median, min, max) = measure::spread(&pods).context("nothing was measured")?;
    println!(
        "C2  apply accepted to Pod object          goal <=  50 ms   measured {median:6.0} ms ({min:.0}-{max:.0}, {APPLIES} Pipelines)"
    );
    let (median, min, max) = measure::spread(&records).context("nothing was measured")?;
    println!("C3  apply to first record in OpenSearch   goal <= 5.15 s   measured {median:6.1} s ({min:.1}-{max:.1}, {APPLIES} Pipelines)");
    Ok(())
}

/// Bytes of memory that a key takes in a GROUP BY: what the process has grown by, and what the operator says.
fn state_per_key() -> Result<(f64, f64)> {
    let numbers = |name: &str| Field::new(name, DataType::Int64, true);
    let schema = Arc::new(Schema::new(vec![numbers("k"), numbers("v")]));
    let sql = "SELECT k, count(*) AS n, min(v) AS low, max(v) AS high, sum(v) AS total FROM t GROUP BY k";
    let steps = [Step { name: "result".to_owned(), sql: sql.to_owned() }];
    let inputs = [InputTable { name: "t".to_owned(), schema: Arc::clone(&schema), event_time: None, changelog: InputChangelog::Append }];
    let policy = Policy { state_ttl: Some(Duration::from_secs(86_400)), ..Policy::default() };
    let plan = plan::compile(&steps, &inputs, &[("result".to_owned(), "result".to_owned())], &policy);
    let plan = plan.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let mut executor = plan.executor(&["t"]);
    let origin = Origin::new("bench", "bench");
    let mut push = |first: i64| -> Result<()> {
        let keys = first..first + BATCH;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(keys.clone().map(|key| key.wrapping_mul(7_919)))),
            Arc::new(Int64Array::from_iter_values(keys.clone())),
        ];
        let records = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let ordinals = UInt64Array::from_iter_values(keys.map(i64::unsigned_abs));
        executor.push(0, Message::Batch(Batch::new(records, origin.clone(), ordinals)), &mut |_, _| {})?;
        Ok(())
    };
    // What the first batch allocates and gives back is not state.
    push(0)?;
    let (_, before) = memory(std::process::id())?;
    for first in (BATCH..KEYS).step_by(usize::try_from(BATCH)?) {
        push(first)?;
    }
    let (_, after) = memory(std::process::id())?;
    let keys = (KEYS - BATCH) as f64;
    Ok(((after - before) * 1000.0 / keys, executor.state_bytes() as f64 / KEYS as f64))
}

/// The process of the operator, which this machine's cluster runs in view of everybody.
fn operator() -> Result<u32> {
    for entry in std::fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).next().is_some_and(|program| program.ends_with(b"/millrace-operator")) {
            return Ok(id);
        }
    }
    anyhow::bail!("the operator does not run on this machine")
}

/// Milliseconds from the answer to the request that made the Pipeline of a namespace to the answer to the one that made its first pod, as the API server has written down.
fn apply_to_pod(cluster: &Cluster, namespace: &str) -> Result<Option<f64>> {
    let Some(log) = cluster.audit_log()? else { return Ok(None) };
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let made = |resource: &str| -> Result<Timestamp> {
        let of = |event: &&Value| {
            let reference = &event["objectRef"];
            reference["namespace"] == namespace && reference["resource"] == resource && event["responseStatus"]["code"] == 201
        };
        let event = events.iter().find(of).with_context(|| format!("the audit log knows of no {resource} in {namespace}"))?;
        Ok(event["stageTimestamp"].as_str().context("no time")?.parse()?)
    };
    let between = made("pods")?.duration_since(made("pipelines")?);
    Ok(Some(between.as_secs_f64() * 1000.0))
}

/// Median, minimum, maximum.
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
    measure::spread(&times).context("nothing was measured")
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
    let used = memory(child.id());
    child.kill()?;
    child.wait()?;
    waited?;
    used
}

/// Kilobytes resident and anonymous of a process.
fn memory(process: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<f64>().ok()).with_context(|| format!("{name} in {line:?}"))
    };
    // The kernel counts in KiB.
    Ok((field("VmRSS:")? * 1.024, field("RssAnon:")? * 1.024))
}
