//! The stream operators, and the [`Executor`] that runs a plan's operators for one lane. Pure and synchronous: no I/O, no clock, no randomness, no tokio.
//!
//! ```text
//!             ┌─ port 0 ─┐
//!  Message ──▶│ Operator │──▶ Output: messages for what comes next, rows filtered, rows rejected
//!             └──────────┘
//! ```
//!
//! A [`Blueprint`] is the compiled form of an operator: shared by all lanes, immutable. It builds an [`Operator`], which belongs to one lane and
//! may hold state. The same operator is tested by a table, simulated with faults and run in production.
//!
//! **A row that an expression cannot evaluate** (a cast that fails, a division by zero) does not stop the batch: it is [rejected](RejectedRow) and
//! the other rows go on. What becomes of a row never depends on the rows around it, so the same rows in other batches give the same results.

mod aggregate;
mod alignment;
mod clock;
mod columns;
mod counters;
mod evaluate;
mod executor;
mod filter;
mod gate;
#[cfg(test)]
mod harness;
mod join;
mod micros;
mod normalize;
mod over;
mod payload;
mod project;
mod rank;
mod revision;
mod state;
mod temporal;
mod union;
mod window;
mod windows;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;

use crate::batch::{Batch, Origin, Rejected};

pub(crate) use aggregate::{
    Argument, Assignment, Call, GroupBlueprint, OutputColumn, Parted, SessionBlueprint, WindowAggregateBlueprint, check_calls, check_groups,
};
pub(crate) use clock::{ByClockBlueprint, ClockBlueprint};
pub(crate) use columns::ColumnsBlueprint;
pub use counters::{Counters, OperatorCounters, OutputCounters};
pub(crate) use evaluate::Expression;
pub use executor::Executor;
pub(crate) use executor::{Due, Target, Ways, Wired, Wiring};
pub(crate) use filter::FilterBlueprint;
pub(crate) use gate::Gate;
pub(crate) use join::{JoinBlueprint, JoinSide, Lifetime, Residual};
pub(crate) use normalize::NormalizeBlueprint;
pub(crate) use over::{Frame, FramedCall, OverBlueprint, OverColumn};
pub(crate) use payload::json as row_as_json;
pub(crate) use project::ProjectBlueprint;
pub(crate) use rank::{Emission, OrderBy, RankBlueprint, Ties};
pub use state::{KEY_GROUPS, OperatorState, Snapshot, StateTable, TakenSnapshot, TakenState};
pub(crate) use temporal::{Moment, TemporalBlueprint, TemporalSide};
pub(crate) use union::UnionBlueprint;
pub(crate) use window::{WindowBlueprint, WindowColumn};
pub(crate) use windows::Windows;

/// What flows between operators, and out of the [`Executor`].
#[derive(Clone, Debug)]
pub enum Message {
    /// Rows.
    Batch(Batch),
    /// No row with an earlier event time will follow. Microseconds since 1970.
    Watermark(i64),
    /// Processing time: rows that follow are taken in at this moment. Microseconds since 1970; never goes back. Of no single input: the [`Executor`] hands it
    /// to all its operators, whichever input it is pushed to; they do not see it as a message.
    Clock(i64),
    /// Everything before belongs to this epoch, everything after to the next.
    Barrier(u64),
    /// Nothing is coming for now; this way holds no watermark back until it speaks again.
    Idle,
    /// Nothing more will come.
    End,
    /// A row that could not be evaluated on its way to the output that it is emitted to. Only ever emitted by the [`Executor`]; operators do not see it.
    Rejected(Rejected),
}

/// For how long an operator in front of an exchange keeps rows to itself, before a barrier asks for them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Holding {
    /// It holds none.
    Nothing,
    /// Until nobody behind can be waiting any longer: it says them by itself, before the watermark that ends their windows.
    UntilTime,
    /// For a moment: results wait for them.
    Briefly,
}

/// Where an operator puts what it makes. The order of [`Output::emit`] calls is kept.
pub trait Output {
    /// Sends a message to whatever comes next. Batches MUST have rows.
    fn emit(&mut self, message: Message);
    /// Counts rows that were dropped because the query says so.
    fn filtered(&mut self, rows: u64);
    /// Takes a row out that could not be evaluated. It MUST NOT be emitted or counted as filtered as well.
    fn reject(&mut self, row: RejectedRow);
}

/// A row that an operator could not evaluate.
#[derive(Clone, Debug)]
pub struct RejectedRow {
    /// Where the row comes from.
    pub origin: Origin,
    /// Its number there.
    pub ordinal: u64,
    /// The expression and what happened.
    pub error: String,
}

/// One operator of one lane.
///
/// `push` MUST be a function of the state and the message alone. What becomes of a row MUST NOT depend on the rows that share its batch, except that
/// an operator whose results are revised may leave out versions that the same batch revises again.
/// Rows that one row turns into on different ways MUST differ in [`Batch::branch`]. Messages other than batches MUST be passed on, combined over
/// all ports; there is no data between the same barrier of two ports, because the executor carries one message through before it takes the next.
pub trait Operator: Send {
    /// Takes a message that arrived at `port`.
    fn push(&mut self, port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError>;

    /// The time that it is now, for operators that go by it. Called in the order of the plan, with what follows from it in between.
    fn clock(&mut self, _now: i64, _output: &mut dyn Output) -> Result<(), ExecuteError> {
        Ok(())
    }

    /// From which time on something would come out without another row: a watermark, or the time where it goes by that. It may be too early, never too late.
    /// `None` if no time makes anything come out, except that a way to it has been read once or has ended.
    fn due(&self) -> Option<i64> {
        None
    }

    /// Whether a pause that is the first of its way may make something come out, or lets time go on: of operators that wait until a table has been read once.
    fn waits_for_pause(&self) -> bool {
        false
    }

    /// Whether rows have come that it has not said yet, and will: of operators in front of an exchange, which say them at the next barrier at the latest.
    fn holding(&self) -> Holding {
        Holding::Nothing
    }

    /// The state to store with the epoch that has just ended; `None` if the operator keeps none. What it returns MUST NOT change with later messages. The
    /// stream waits for this call: what takes long is left to [`TakenState::finish`].
    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        Ok(None)
    }

    /// Bytes of memory that the state takes, about. Cheap.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Takes back what [`Operator::snapshot`] gave, possibly only some of its key groups. Called before the first message. Watermarks are no part of
    /// the state: those of the snapshot are pushed again before the first batch, and MUST make nothing come out that came out before.
    fn restore(&mut self, state: OperatorState) -> Result<(), ExecuteError> {
        Err(ExecuteError::State { message: format!("state with signature `{}` for an operator that keeps none", state.signature) })
    }
}

/// An operator as it stands in the plan.
pub(crate) trait Blueprint: Debug + Send + Sync {
    /// The middle part of the operator's id: `filter`, `project`.
    fn kind(&self) -> &'static str;
    /// Columns of the batches that come out.
    fn schema(&self) -> &SchemaRef;
    /// Everything that decides what comes out, exactly: two operators with the same identity and the same upstream do the same. Part of the plan's hash.
    fn identity(&self) -> String;
    /// What it does, for people.
    fn explain(&self) -> String;
    /// What its state is made of, as in [`OperatorState::signature`]; `None` if it keeps none.
    fn state_signature(&self) -> Option<String> {
        None
    }
    /// Whether what comes out depends on the time at which rows come.
    fn reads_clock(&self) -> bool {
        false
    }
    /// The port of a table that rows look things up in, and wait for until it has been read once.
    fn table_port(&self) -> Option<usize> {
        None
    }
    /// By port, the columns whose values rows have in common that it has to see together, in one order for all ports; empty if it has to see all rows.
    /// `None` if it keeps no state.
    fn keys(&self) -> Option<Vec<Vec<usize>>> {
        None
    }
    /// The columns of a table of its state that hold [`Blueprint::keys`], in their order; `None` if there is no such table.
    fn stored_keys(&self, _table: &str) -> Option<Vec<usize>> {
        None
    }
    /// How what it does can be begun in front of an exchange, where rows are `rows`, and done behind it; or why it cannot.
    fn parted(&self, _rows: &SchemaRef) -> Result<Parted, String> {
        Err("it is no aggregate of windows or keys".to_owned())
    }
    /// A column without which it refuses a row, where it stands in front of an exchange.
    fn needs(&self) -> Option<usize> {
        None
    }
    /// The columns that it reads of what arrives at a port, also for dead letters; `None` if it may be all.
    fn reads(&self, _port: usize) -> Option<Vec<usize>> {
        None
    }
    /// The same where only these columns arrive at a port. They hold all that it [reads](Blueprint::reads) there.
    fn narrowed(&self, _port: usize, _kept: &[usize]) -> Option<Arc<dyn Blueprint>> {
        None
    }
    /// By port, the column whose value is that of `column` in whatever comes out of a row, always. `None` if there is none at some port; an operator
    /// that keeps state knows it only of its keys.
    fn lineage(&self, column: usize) -> Option<Vec<usize>>;
    /// Builds the operator for one lane in which only `ports` are fed. `id` is its id (step, kind, ordinal): the origin of rows that it makes.
    fn operator(&self, id: &Arc<str>, ports: &[usize]) -> Box<dyn Operator>;
}

/// Why the operators cannot go on. What is wrong with single rows is no such error, see [`RejectedRow`].
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// An expression failed for a reason that lies in the engine, not in the row.
    #[error("cannot evaluate `{expression}`: the expression itself fails, whatever the row; rewrite it, and please report this")]
    Expression {
        /// The expression, as SQL.
        expression: String,
        /// What happened.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A batch did not have the columns that the plan says it has.
    #[error("a batch does not have the columns of the plan; a source delivered other columns than it declared, or this is a defect")]
    Shape(#[from] ArrowError),
    /// State that does not belong here.
    #[error("cannot restore the state: {message}; the plan has changed in a way that its state does not fit")]
    State {
        /// What does not fit.
        message: String,
    },
    /// An operator broke off. The text says where.
    #[error("{message}; this is a defect, please report it")]
    Defect {
        /// What happened.
        message: String,
    },
    /// One of the above, in this operator.
    #[error("operator {operator}: {source}")]
    Operator {
        /// Its id: step, kind, ordinal.
        operator: Arc<str>,
        /// What happened there.
        source: Box<ExecuteError>,
    },
}
