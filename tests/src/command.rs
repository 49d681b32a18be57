//! Short commands whose output matters. It never leaves one running.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// It cannot be started, or fails: the error holds the command and what it printed as errors.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, errors.trim());
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed something that is not text"))
}

/// [`output`] of a program with words as arguments.
///
/// # Errors
/// As [`output`].
pub(crate) fn run(program: impl AsRef<Path>, arguments: &str) -> Result<String> {
    output(Command::new(program.as_ref()).args(arguments.split_whitespace()))
}
