//! Nowhere: takes rows and drops them, updating results too. It keeps nothing, so nothing can be read back.
//!
//! Maturity: stable. Known limits: none. What it takes is counted by the runtime, as for every sink.

mod sink;

#[cfg(test)]
mod tests;

pub use sink::BlackholeSink;
