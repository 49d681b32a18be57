//! That lanes give what one executor gives, wherever they are stopped and with however many they go on; that the order of a key stays; that nothing is lost when one fails.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::batch::Origin;
use crate::plan::stages::tests::{INPUTS, Runs, batch, plan, run, scripts, shared};

/// More than any test pushes.
const ROOM: usize = 1 << 30;

/// Operators of a task, run to and fro: what comes out is taken before every push, as far as it is there.
struct Driven {
    runtime: Arc<Runtime>,
    operators: Operators,
}

impl Runs for Driven {
    fn push(&mut self, input: usize, message: Message, out: &mut Vec<(usize, Message)>) {
        let Self { runtime, operators } = self;
        runtime.block_on(async {
            operators.push(input, message, &mut |output, message| out.push((output, message))).unwrap();
            while let Some(came_out) = futures::FutureExt::now_or_never(operators.next()) {
                out.extend(came_out.unwrap().emitted);
            }
        });
    }

    fn settle(&mut self, out: &mut Vec<(usize, Message)>) {
        let Self { runtime, operators } = self;
        runtime.block_on(async {
            while !operators.is_idle() {
                out.extend(operators.next().await.unwrap().emitted);
            }
        });
        if let Operators::Lanes(lanes) = operators {
            assert_eq!(lanes.held, 0, "what has come out is not held any more");
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let Self { runtime, operators } = self;
        runtime.block_on(operators.snapshot()).unwrap().finish().unwrap()
    }
}

fn runtime() -> Arc<Runtime> {
    Arc::new(Builder::new_current_thread().build().unwrap())
}

fn open(runtime: &Arc<Runtime>, plan: &Plan, lanes: u16, state: &Snapshot) -> Box<dyn Runs> {
    let operators = Operators::open(plan, &INPUTS, lanes, ROOM, state.clone()).unwrap();
    assert_eq!(matches!(operators, Operators::Lanes(_)), lanes > 1);
    Box::new(Driven { runtime: Arc::clone(runtime), operators })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn lanes_give_what_one_executor_gives(script in scripts(4)) {
        let runtime = runtime();
        let mut open = |plan: &Plan, lanes: u16, state: &Snapshot| open(&runtime, plan, lanes, state);
        for (what, steps, outputs, _) in shared() {
            let plan = plan(&steps, &outputs);
            let in_lanes = |lanes: u16| script.iter().cloned().map(|(input, rows, _)| (input, rows, lanes)).collect();
            let one = run(&plan, &in_lanes(1), &mut open);
            prop_assert_eq!(&run(&plan, &in_lanes(2), &mut open), &one, "two lanes: {}", what);
            prop_assert_eq!(&run(&plan, &in_lanes(4), &mut open), &one, "four lanes: {}", what);
            prop_assert_eq!(&run(&plan, &script, &mut open), &one, "going on with other lanes: {}", what);
        }
    }
}

/// One row of input `a`: the key, and a value.
fn row(plan: &Plan, key: i64, value: i64, ordinal: i64) -> Message {
    Message::Batch(batch(plan, "a", &[(Some(key), value, 0)], usize::try_from(ordinal).unwrap(), &mut 0))
}

#[tokio::test]
async fn rows_of_a_key_come_out_in_order() {
    let plan = plan(&[("s", "SELECT k, max(v) AS v FROM a GROUP BY k")], &["s"]);
    let mut operators = Operators::open(&plan, &["a"], 4, ROOM, Snapshot::new()).unwrap();
    for value in 0..200 {
        operators.push(0, row(&plan, value % 7, value, value), &mut |_, _| panic!("nothing is known at once")).unwrap();
    }
    let mut last = [-1; 7];
    while !operators.is_idle() {
        for (_, message) in operators.next().await.unwrap().emitted {
            let Message::Batch(batch) = message else { panic!("{message:?}") };
            for row in (0..batch.num_rows()).filter(|row| batch.kind(*row).is_addition()) {
                let value = |column: usize| batch.records.column(column).as_primitive::<Int64Type>().value(row);
                let last = &mut last[value(0) as usize];
                assert!(*last < value(1), "{} after {last}", value(1));
                *last = value(1);
            }
        }
    }
    assert_eq!(last.iter().sum::<i64>(), (193..200).sum::<i64>());
}

#[tokio::test]
async fn what_the_lanes_hold_is_bounded_by_bytes() {
    let plan = plan(&[("s", "SELECT k, max(v) AS v FROM a GROUP BY k")], &["s"]);
    let mut operators = Operators::open(&plan, &["a"], 2, 1, Snapshot::new()).unwrap();
    assert!(operators.has_room() && operators.is_idle());
    operators.push(0, row(&plan, 1, 1, 0), &mut |_, _| {}).unwrap();
    assert!(!operators.has_room() && !operators.is_idle());
    operators.next().await.unwrap();
    assert!(operators.has_room() && operators.is_idle());
    assert!(operators.state_bytes() > 0);
}

#[tokio::test]
async fn a_plan_that_cannot_be_shared_runs_in_one_piece() {
    let plan = plan(&[("s", "SELECT count(*) AS n FROM a")], &["s"]);
    assert!(matches!(Operators::open(&plan, &["a"], 4, ROOM, Snapshot::new()).unwrap(), Operators::Whole(_)));
}

/// Rows that the query drops are counted in front of the exchange and in the lanes.
#[tokio::test]
async fn dropped_rows_of_all_lanes_are_counted() {
    let plan = plan(
        &[
            ("big", "SELECT k, v FROM a WHERE v > 10"),
            ("s", "SELECT k, n FROM (SELECT k, count(*) AS n FROM big GROUP BY k) WHERE n > 100"),
        ],
        &["s"],
    );
    let mut counted = Vec::new();
    for lanes in [1, 3] {
        let mut operators = Operators::open(&plan, &["a"], lanes, ROOM, Snapshot::new()).unwrap();
        for value in 0..50 {
            operators.push(0, row(&plan, value % 9, value, value), &mut |_, _| {}).unwrap();
        }
        while !operators.is_idle() {
            operators.next().await.unwrap();
        }
        operators.snapshot().await.unwrap();
        counted.push(operators.filtered());
    }
    assert_eq!(counted[0], counted[1]);
    assert!(counted[0][&0] > 11, "{counted:?}");
}

/// A batch without the columns of the plan: the lane fails, and says so.
#[tokio::test]
async fn a_lane_that_fails_is_heard() {
    let plan = plan(&[("s", "SELECT k, max(v) AS v FROM a GROUP BY k")], &["s"]);
    let mut operators = Operators::open(&plan, &["a"], 2, ROOM, Snapshot::new()).unwrap();
    let Operators::Lanes(lanes) = &mut operators else { panic!("in lanes") };
    let nothing = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let batch = Batch::new(nothing, Origin::new("a", "a"), UInt64Array::from(vec![0]));
    lanes.deal(0, 0, batch.clone(), &batch).unwrap();
    let error = operators.next().await.unwrap_err();
    assert!(matches!(&error, ExecuteError::Defect { message } if message.contains("panicked")), "{error}");
}
