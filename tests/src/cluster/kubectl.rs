//! Running `kubectl` and `helm` against a cluster. They never read the user's own configuration.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::installed;

/// Runs one of the installed programs, with `input` on its standard input, and returns what it printed.
///
/// # Errors
/// It cannot be started, or fails: the error holds the arguments and what it printed as errors.
pub(super) async fn run<S: AsRef<OsStr>>(program: &str, kubeconfig: &Path, arguments: &[S], input: &str) -> Result<String> {
    let helm = installed::cache()?.join("helm");
    let mut command = Command::new(installed::program(program)?);
    command.args(arguments).env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    command
        .env("HELM_CACHE_HOME", helm.join("cache"))
        .env("HELM_CONFIG_HOME", helm.join("config"))
        .env("HELM_DATA_HOME", helm.join("data"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = || arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");

    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let mut stdin = child.stdin.take().context("its input was asked for")?;
    let write = async {
        // It may end without reading its input: what it says then counts, not that the pipe is closed.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.with_context(|| format!("run {program} {}", shown()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {} failed ({}): {}", shown(), output.status, errors.trim());
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed something that is not text"))
}
