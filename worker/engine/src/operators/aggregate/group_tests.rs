//! What the state of an aggregate without a window takes. What it says is tested with whole plans.

use std::time::Duration;

use millrace_crds::pipeline::Step;

use super::*;
use crate::operators::Executor;
use crate::plan::{InputChangelog, InputTable, Policy, compile};

fn executor(sql: &str) -> Executor {
    let fields = ["k", "v"].map(|name| Field::new(name, DataType::Int64, true));
    let inputs = [InputTable {
        name: "t".to_owned(),
        schema: Arc::new(Schema::new(fields.to_vec())),
        event_time: None,
        changelog: InputChangelog::Append,
    }];
    let steps = [Step { name: "result".to_owned(), sql: sql.to_owned() }];
    let policy = Policy { state_ttl: Some(Duration::from_hours(24)), ..Policy::default() };
    compile(&steps, &inputs, &[("result".to_owned(), "result".to_owned())], &policy).unwrap().executor(&["t"])
}

fn rows(first: i64, count: i64) -> Message {
    let column = |factor: i64| Arc::new((first..first + count).map(|n| n * factor).collect::<Int64Array>()) as ArrayRef;
    let records = RecordBatch::try_from_iter_with_nullable([("k", column(7_919), true), ("v", column(1), true)]).unwrap();
    let ordinals = UInt64Array::from_iter_values((first..first + count).map(i64::unsigned_abs));
    Message::Batch(Batch::new(records, Origin::new("t", "t"), ordinals))
}

/// 32 bytes would be key, minimum, maximum and sum alone. The table of keys doubles when it is full to seven eighths: this is in the middle of that.
#[test]
fn a_key_with_four_aggregates_takes_48_bytes() {
    const KEYS: i64 = 86_000;
    let mut executor = executor("SELECT k, count(*) AS n, min(v) AS low, max(v) AS high, sum(v) AS total FROM t GROUP BY k");
    for first in (0..KEYS).step_by(4300) {
        executor.push(0, rows(first, 4300), &mut |_, _| {}).unwrap();
    }
    let bytes = executor.state_bytes() as f64 / KEYS as f64;
    assert!((32.0..=48.5).contains(&bytes), "{bytes} bytes for each key");
}
