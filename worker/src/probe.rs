//! `millrace probe`: connects to one Source or Sink and says what was seen; and the same for a running worker's own. It changes nothing there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use millrace_connectors::context::{Context, ResolvedLimits};
use millrace_connectors::registry;
use millrace_crds::pipeline::Limits;
use millrace_crds::report::{ErrorReason, ProbeReport, ProbeResult, TroublePart};
use millrace_crds::{SinkSpec, SourceSpec};
use millrace_engine::checkpoint::Clock as _;
use millrace_engine::connector::ConnectorError;
use serde::Deserialize;

use crate::clock::SystemClock;
use crate::{check, exit, logging};

/// A probe that takes longer has failed.
const TIME_OUT: Duration = Duration::from_secs(20);

/// Arguments of `millrace probe`.
#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// JSON document `{"kind": "Source"|"Sink", "name": …, "spec": …}`.
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    /// Directory of mounted Secrets.
    #[arg(long, value_name = "DIR", default_value = "/etc/millrace/secrets")]
    secrets_dir: PathBuf,
    /// Also write the result to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    termination_message: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(tag = "kind")]
enum Document {
    Source { name: String, spec: Box<SourceSpec> },
    Sink { name: String, spec: Box<SinkSpec> },
}

/// Runs the probe. Exit code 0 also if the system refuses us: the answer is the result.
pub(crate) async fn run(args: ProbeArgs) -> anyhow::Result<u8> {
    logging::init(logging::LogFormat::Json, "warn");
    let text = std::fs::read(&args.document).with_context(|| format!("cannot read {}", args.document.display()))?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| exit::bad_config(format!("not a probe document: {error}")))?;
    let context = Context { secrets_dir: args.secrets_dir, limits: ResolvedLimits::from(&Limits::default()) };
    let (kind, name, result) = match document {
        Document::Source { name, spec } => {
            let result = match registry::source(&spec, &context) {
                Ok(source) => within(source.probe()).await,
                Err(error) => failed(&error),
            };
            (TroublePart::Source, name, result)
        }
        Document::Sink { name, spec } => {
            let result = match registry::sink(&spec, &context) {
                Ok(sink) => within(sink.probe()).await,
                Err(error) => failed(&error),
            };
            (TroublePart::Sink, name, result)
        }
    };
    let report = ProbeReport { kind, name, result, at_millis: SystemClock.now_millis() };
    let json = serde_json::to_string(&report)?;
    exit::print_line(&json);
    if let Some(path) = &args.termination_message {
        check::write_file(path, json.as_bytes())?;
    }
    Ok(exit::DRAINED)
}

/// A probe's result, or that it did not answer in time.
pub(crate) async fn within(probe: impl Future<Output = ProbeResult>) -> ProbeResult {
    tokio::time::timeout(TIME_OUT, probe).await.unwrap_or_else(|_| ProbeResult::Failed {
        reason: ErrorReason::Unreachable,
        message: format!("no answer within {} seconds", TIME_OUT.as_secs()),
    })
}

fn failed(error: &ConnectorError) -> ProbeResult {
    ProbeResult::Failed { reason: error.reason, message: error.message.clone() }
}
