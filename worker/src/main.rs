//! DATA PLANE: the binary `millrace`. Commands only; what they do is in the modules. It has no Kubernetes client.
//!
//! ```text
//!  run      manifests ─▶ Job ─┐                       ┌─▶ local   every split is this process's
//!  worker   job.json ─────────┼─▶ assemble ─▶ tasks ──┤
//!  check, explain, probe ─────┤   (plan, connectors)  └─▶ pod     the operator says which
//!  test, plan ────────────────┘
//! ```

mod assemble;
mod change;
mod check;
mod clock;
mod envelopes;
mod exchanged;
mod exit;
mod http;
mod local;
mod logging;
mod metrics;
mod pod;
mod probe;
mod tasks;
mod testing;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streaming pipelines from Kubernetes manifests: the engine.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the Pipelines of manifests in this process, without a cluster.
    Run(local::RunArgs),
    /// Check manifests without connecting to anything; of a Job the tests are run too. Exit code 64 if they cannot run.
    Check(JobSource),
    /// Print how Pipelines are executed: the plan, readable.
    Explain(JobSource),
    /// Run the tests of Pipelines (`spec.tests`) without connecting to anything. Exit code 1 if one fails.
    Test(testing::TestArgs),
    /// Print what applying changed manifests would do, field by field, and what becomes of state. Exit code 64 if it is refused.
    Plan(change::PlanArgs),
    /// Run as a worker pod: the Job from a file, tasks from the operator.
    Worker(pod::WorkerArgs),
    /// Connect to one Source or Sink and say what was seen.
    Probe(probe::ProbeArgs),
}

/// What to check or explain.
#[derive(Args, Debug)]
struct JobSource {
    /// Manifest files and directories.
    #[arg(value_name = "FILE|DIR", required_unless_present = "job", conflicts_with = "job")]
    manifests: Vec<PathBuf>,
    /// A Job document instead of manifests.
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,
    /// Also write the result to this file, as JSON of at most 4,096 bytes.
    #[arg(long, value_name = "FILE", requires = "job")]
    termination_message: Option<PathBuf>,
    /// What the state of the revision that runs is made of, as a JSON object of operators and digests: says which of it is lost.
    #[arg(long, value_name = "JSON", requires = "job")]
    running_state: Option<String>,
}

fn main() -> ExitCode {
    // Several TLS backends are compiled in; an error means that one has been chosen already, which is as good.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Check(source) => check::check(&source),
        Command::Explain(source) => check::explain(&source),
        Command::Test(args) => testing::run(&args),
        Command::Plan(args) => change::run(&args),
        Command::Run(args) => on_runtime(local::run(args)),
        Command::Worker(args) => on_runtime(pod::run(args)),
        Command::Probe(args) => on_runtime(probe::run(args)),
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        exit::print_error(&format!("{error:#}"));
        error.downcast_ref::<exit::Failed>().map_or(exit::INTERNAL, |failed| failed.code)
    }))
}

/// Runs `work` on a runtime with one thread for each core that this process may use.
fn on_runtime(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("millrace").build()?;
    let result = runtime.block_on(work);
    // Blocking reads (files, name resolution) may still be under way; nothing depends on them any more.
    runtime.shutdown_background();
    result
}
