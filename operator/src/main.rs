//! CONTROL PLANE: the binary `millrace-operator`. Arguments and logs only; what it does is in the library.

use clap::{Parser, Subcommand};
use millrace_operator::Settings;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns Pipelines into running workers.
#[derive(Debug, Parser)]
#[command(name = "millrace-operator", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reconcile Pipelines, Sources and Sinks until told to stop.
    Run(Settings),
}

fn main() -> anyhow::Result<()> {
    let Command::Run(settings) = Cli::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_span_list(false).flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).thread_name("operator").build()?;
    let result = runtime.block_on(millrace_operator::run(settings));
    // A connection to the API server may still be closing; nothing depends on it any more.
    runtime.shutdown_background();
    Ok(result?)
}
