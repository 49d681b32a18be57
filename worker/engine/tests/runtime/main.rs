//! The task runtime against a world that keeps books: every record once, whatever crashes, sleeps or blocks. Uses the public API only, and never real time.
//!
//! ```text
//!   World (survives): script of records, ledgers of the sinks, checkpoint store, what was acknowledged, violations
//!     ▲ every effect passes
//!   Process (may crash or freeze at any step): supervise(TaskConfig) with the source, sinks and store of the world
//! ```
//! * [`process`]: where a process can be stopped. [`source`], [`sink`], [`store`]: what it touches.
//! * [`world`]: what must hold in the end, and what is checked at each acknowledgement and commit.
//! * [`stateful`]: tasks that keep state.
//! * [`crashes`]: every single crash point, many crashes in a row, zombies. [`flow`]: back-pressure and endings. [`poison`]: bad records.
//!   [`trouble`]: failing parts and what is reported of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod crashes;
mod flow;
mod poison;
mod process;
mod sink;
mod source;
mod stateful;
mod store;
mod trouble;
mod world;
