//! Exit codes, and errors that carry one. Nothing exits here.

use std::io::Write as _;

/// Everything was closed in order.
pub(crate) const DRAINED: u8 = 0;
/// A test of a Pipeline failed.
pub(crate) const TESTS_FAILED: u8 = 1;
/// The manifests or the Job cannot run; restarting will not help.
pub(crate) const BAD_CONFIG: u8 = 64;
/// The policy says to stop rather than lose data or skip a bad record.
pub(crate) const DATA_LOSS_POLICY: u8 = 65;
/// Another process has claimed the task.
pub(crate) const FENCED: u8 = 66;
/// A defect, or the surroundings failed.
pub(crate) const INTERNAL: u8 = 70;

/// An error that decides the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    /// The exit code.
    pub(crate) code: u8,
    /// What is wrong, where, what to do; may have several lines.
    pub(crate) message: String,
}

/// An error with exit code 64.
pub(crate) fn bad_config(message: impl Into<String>) -> anyhow::Error {
    Failed { code: BAD_CONFIG, message: message.into() }.into()
}

/// Writes an error for people to standard error.
pub(crate) fn print_error(message: &str) {
    // If standard error is closed there is nobody to tell.
    let _closed = writeln!(std::io::stderr(), "error: {message}");
}

/// Writes a line for people to standard output.
pub(crate) fn print_line(line: &str) {
    // A reader that has gone away (`millrace explain | head`) has seen enough.
    let _closed = writeln!(std::io::stdout(), "{line}");
}
