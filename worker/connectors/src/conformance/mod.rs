//! What every connector must do, as checks that tests run against it: in memory, in a directory, or against a real server. No product code uses it.
//!
//! A connector's tests make a [`SourceFixture`] or a [`SinkFixture`] and call the functions of [`source`] and [`sink`]. Each returns what was violated.
//!
//! All checks use records of one column: `n`, a BigInt, required; in bytes `{"n":42}`.

pub mod bytes;
pub mod sink;
pub mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millrace_crds::format::{Column, ColumnType, Json, Presence, Schema as Columns, SourceFormat};
use millrace_crds::pipeline::Limits;

use crate::context::{Context, ResolvedLimits};

pub use sink::{SinkFixture, TableFixture};
pub use source::SourceFixture;

/// For how long a check waits for something that must happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a connector did that it must not, or did not that it must.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// The outcome of a check.
pub type Checked = Result<(), Violation>;

pub(crate) fn ensure(holds: bool, violation: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(violation())) }
}

/// The record `n` as bytes, without an end of line.
#[must_use]
pub fn record(n: i64) -> String {
    format!("{{\"n\":{n}}}")
}

/// The format and columns of the records.
#[must_use]
pub fn format() -> (SourceFormat, Columns) {
    let column = Column { name: "n".to_owned(), type_: ColumnType::BigInt, presence: Presence::Required, precision: None, scale: None };
    (SourceFormat { json: Some(Json {}), ..SourceFormat::default() }, Columns { columns: vec![column] })
}

/// The columns in Arrow.
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

/// Defaults, with Secrets in `secrets`.
#[must_use]
pub fn context(secrets: &Path) -> Context {
    Context { secrets_dir: secrets.to_owned(), limits: ResolvedLimits::from(&Limits::default()) }
}

/// A batch of records.
///
/// # Panics
/// Never: one column of a known type makes a batch.
#[must_use]
pub fn batch(values: &[i64]) -> RecordBatch {
    let column = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_new(schema(), vec![column]).expect("one column of the schema's type")
}

/// The values of a batch.
pub(crate) fn values(records: &RecordBatch) -> Vec<i64> {
    records.column(0).as_primitive::<Int64Type>().values().to_vec()
}
