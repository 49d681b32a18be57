//! Standard output: rows for people to look at, at least once. It reads nothing and keeps nothing.
//!
//! Maturity: stable. Known limits: after a failure rows are printed again; the outputs of one process share one standard output,
//! whole batches at a time; the widths of a table are those of its batch.

mod sink;
mod table;

#[cfg(test)]
mod tests;

pub use sink::StdoutSink;
