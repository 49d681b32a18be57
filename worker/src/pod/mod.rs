//! `millrace worker`: in a pod. The Job comes from a mounted file, tasks come from the operator; without it, everything that runs keeps running.

mod edges;
mod listener;
mod operator;
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

pub(crate) use run::run;

/// Arguments of `millrace worker`.
#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    /// The Job document.
    #[arg(long, value_name = "FILE", default_value = "/etc/millrace/job/job.json")]
    job: PathBuf,
    /// Directory of mounted Secrets.
    #[arg(long, value_name = "DIR", default_value = "/etc/millrace/secrets")]
    secrets_dir: PathBuf,
    /// Directory for state that has no room in memory. Emptied at the start.
    #[arg(long, value_name = "DIR", default_value = "/run/millrace/spill")]
    spill_dir: PathBuf,
    /// URL of the operator's report endpoint, without path.
    #[arg(long, env = "MILLRACE_OPERATOR_URL", value_name = "URL")]
    operator_url: String,
    /// Name under which this worker reports: the name of its pod.
    #[arg(long, env = "MILLRACE_WORKER_NAME", value_name = "NAME")]
    name: String,
    /// The service-account token that proves it; read again for each report.
    #[arg(long, env = "MILLRACE_TOKEN_FILE", value_name = "FILE", default_value = "/var/run/secrets/millrace/token")]
    token_file: PathBuf,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
}
