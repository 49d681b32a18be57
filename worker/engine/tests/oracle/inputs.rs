//! Random inputs: two tables, and how they come. Times are out of order, never further behind than the watermark waits.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

/// How far behind the latest row one may be, in microseconds.
pub(crate) const MAX_DELAY: i64 = 4_000_000;
/// Times are multiples of this, so that many are equal.
const STEP: i64 = 500_000;

/// Everything a case is made of.
#[derive(Clone)]
pub(crate) struct Inputs {
    pub(crate) a: RecordBatch,
    pub(crate) b: RecordBatch,
    /// Which input comes next, with how many rows, and whether a new executor takes over afterwards.
    pub(crate) script: Vec<(bool, usize, bool)>,
    /// What befalls tasks that read it is drawn from this.
    pub(crate) seed: u64,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = |records: &RecordBatch| crate::tables::lines(records).unwrap().join("\n  ");
        write!(f, "a:\n  {}\nb:\n  {}\nscript: {:?}\nseed: {}", lines(&self.a), lines(&self.b), self.script, self.seed)
    }
}

#[derive(Clone, Debug)]
struct Row {
    k: Option<u8>,
    g: Option<i64>,
    n: Option<i64>,
    f: Option<i64>,
    ok: Option<bool>,
    ahead: i64,
    behind: i64,
}

fn row() -> impl Strategy<Value = Row> {
    let rows = (
        weighted(0.9, 0..4_u8),
        weighted(0.9, 0..3_i64),
        weighted(0.85, -3..6_i64),
        weighted(0.85, -8..8_i64),
        weighted(0.8, any::<bool>()),
    );
    (rows, 0..5_i64, 0..=MAX_DELAY / STEP).prop_map(|((k, g, n, f, ok), ahead, behind)| Row { k, g, n, f, ok, ahead, behind })
}

pub(crate) fn inputs() -> impl Strategy<Value = Inputs> {
    let script = vec((any::<bool>(), 1..7_usize, proptest::bool::weighted(0.3)), 0..40);
    (vec(row(), 1..36), vec(row(), 1..30), script, any::<u64>()).prop_map(|(a, b, script, seed)| Inputs {
        a: records(&a),
        b: records(&b),
        script,
        seed,
    })
}

/// Columns of both tables. `id` numbers the rows in the order in which they come.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("k", DataType::Utf8, true),
        Field::new("g", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

fn records(rows: &[Row]) -> RecordBatch {
    let mut latest = 1_700_000_000_000_000;
    let times = rows.iter().map(|row| {
        latest += row.ahead * STEP;
        latest - row.behind * STEP
    });
    let times = TimestampMicrosecondArray::from_iter_values(times.collect::<Vec<_>>());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
        Arc::new(rows.iter().map(|row| row.k.map(|k| ["", "a", "b", "c"][usize::from(k)])).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.g).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.n).collect::<Int64Array>()),
        // Quarters: their sums are exact in any order.
        Arc::new(rows.iter().map(|row| row.f.map(|f| f as f64 / 4.0)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.ok).collect::<BooleanArray>()),
        Arc::new(times),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}
