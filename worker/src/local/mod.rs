//! `millrace run`: the Pipelines of manifests in this one process. Every split is this process's; nothing is asked of a cluster.

mod progress;
mod run;
mod secrets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use millrace_crds::job::{Job, StateLocation};
use millrace_crds::manifest::Manifests;
use millrace_crds::pipeline::DesiredState;

pub(crate) use run::run;

use crate::exit;

/// Arguments of `millrace run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Manifest files and directories: Sources, Sinks, Pipelines, Secrets. Other kinds are ignored.
    #[arg(required = true, value_name = "FILE|DIR")]
    manifests: Vec<PathBuf>,
    /// Directory for checkpoints of Pipelines that have no `state.location`. Remove it to start anew.
    #[arg(long, value_name = "DIR", default_value = ".millrace/state")]
    state_dir: PathBuf,
    /// Directory of Secrets (`<dir>/<name>/<key>`), besides those in the manifests.
    #[arg(long, value_name = "DIR")]
    secrets_dir: Option<PathBuf>,
    /// Serve /healthz, /readyz and /metrics on this address.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// No progress lines on standard error.
    #[arg(long, short)]
    quiet: bool,
    /// Show logs of level info and above (`RUST_LOG` has the last word).
    #[arg(long, short)]
    verbose: bool,
}

/// The Jobs of all Pipelines in the manifests that are to run. Fails with exit code 64 and everything that is wrong.
pub(crate) fn load_jobs(paths: &[PathBuf], state_dir: &Path) -> anyhow::Result<(Vec<Job>, Manifests)> {
    let manifests = Manifests::load(paths).map_err(|errors| list("the manifests cannot be used", &errors))?;
    let state_dir = std::path::absolute(state_dir)?;
    let default_state = StateLocation { location: format!("file://{}", state_dir.display()), aws: None };
    let mut jobs = Vec::new();
    for pipeline in &manifests.pipelines {
        let job = manifests
            .job(&pipeline.object, &default_state)
            .map_err(|errors| list(&format!("{}: the Pipeline cannot be resolved", pipeline.origin), &errors))?;
        match pipeline.object.spec.desired_state {
            DesiredState::Running => jobs.push(job),
            wanted => tracing::warn!(pipeline = %job.pipeline.name, "not run: desiredState is {wanted:?}"),
        }
    }
    if jobs.is_empty() {
        return Err(exit::bad_config("the manifests hold no Pipeline that is to run"));
    }
    Ok((jobs, manifests))
}

fn list(what: &str, errors: &[impl std::fmt::Display]) -> anyhow::Error {
    let lines: String = errors.iter().map(|error| format!("\n  {error}")).collect();
    exit::bad_config(format!("{what}:{lines}"))
}
