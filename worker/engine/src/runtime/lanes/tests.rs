//! That lanes give what one executor gives, wherever they are stopped and with however many they go on; that the order of a key stays; that nothing is lost when one fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::batch::Origin;
use crate::operators::{OperatorState, TakenState};
use crate::plan::stages::tests::{INPUTS, Runs, batch, plan, run, scripts, shared};

use crate::runtime::buckets::{Known, Piece};
use crate::runtime::stored::{Content, decode};
use crate::runtime::tier::tests::Memory;

/// More than any test pushes.
const ROOM: usize = 1 << 30;

/// Has operators go on in buckets, which are told these watermarks again.
type Now = Box<dyn Fn(&mut Operators, Vec<(usize, Message)>)>;

/// Operators of a task, run to and fro: what comes out is taken before every push, as far as it is there.
struct Driven {
    runtime: Arc<Runtime>,
    operators: Operators,
    /// State of each bucket as an epoch has stored it.
    stored: BTreeMap<u16, Snapshot>,
    /// To go on in buckets after so many pushes.
    spill: Option<(usize, Now)>,
    told: BTreeMap<usize, Message>,
    known: LastKnown,
}

/// What the last epoch knows of each bucket; nothing if it has none.
type LastKnown = Arc<Mutex<BTreeMap<u16, Known>>>;

impl Runs for Driven {
    fn push(&mut self, input: usize, message: Message, out: &mut Vec<(usize, Message)>) {
        let Self { runtime, operators, spill, told, .. } = self;
        if let Message::Watermark(_) = &message {
            told.insert(input, message.clone());
        }
        let _runtime = runtime.enter();
        if let Some((pushes, now)) = spill {
            if *pushes == 0 {
                now(operators, told.clone().into_iter().collect());
                *spill = None;
            } else {
                *pushes -= 1;
            }
        }
        runtime.block_on(async {
            operators.push(input, message, &mut |output, message| out.push((output, message))).unwrap();
            while let Some(came_out) = futures::FutureExt::now_or_never(operators.next()) {
                out.extend(came_out.unwrap().emitted);
            }
        });
    }

    fn settle(&mut self, out: &mut Vec<(usize, Message)>) {
        let Self { runtime, operators, .. } = self;
        runtime.block_on(async {
            loop {
                operators.flush();
                if operators.is_idle() {
                    break;
                }
                out.extend(operators.next().await.unwrap().emitted);
            }
        });
        if let Operators::Lanes(lanes) = operators {
            assert_eq!(lanes.held, 0, "what has come out is not held any more");
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let Self { runtime, operators, stored, told, known: last_known, .. } = self;
        let mut last_known = last_known.lock().unwrap();
        last_known.clear();
        match runtime.block_on(operators.snapshot()).unwrap() {
            Taken::Whole(taken) => taken.finish().unwrap(),
            Taken::Buckets(_, buckets) => {
                for TakenBucket { number, pieces, known } in buckets {
                    last_known.extend(known.map(|known| (number, known)));
                    if let Some(pieces) = pieces {
                        stored.insert(number, pieces.into_iter().map(finish).collect());
                    }
                }
                check_known(operators, stored, &last_known, told);
                let buckets = stored.values().map(|state| TakenSnapshot(state.clone().into_iter().map(taken).collect()));
                Exchange::merge(buckets.collect()).finish().unwrap()
            }
        }
    }
}

/// What is known of a bucket is never too late: nothing would come out of its state before, but what these watermarks have not made come out.
fn check_known(operators: &Operators, stored: &BTreeMap<u16, Snapshot>, known: &BTreeMap<u16, Known>, told: &BTreeMap<usize, Message>) {
    let Operators::Lanes(lanes) = operators else { panic!("buckets without lanes") };
    let watermarks = told.values().map(|message| if let Message::Watermark(watermark) = message { *watermark } else { i64::MIN });
    let later = watermarks.max().unwrap_or(i64::MIN).saturating_add(1);
    for (bucket, Known { dues, .. }) in known {
        let mut executor = lanes.exchange.back();
        executor.restore(stored[bucket].clone()).unwrap();
        for due in executor.dues() {
            let known = dues.iter().find(|known| known.operator == due.operator).map_or(i64::MAX, |known| known.at);
            assert!(known <= due.at.max(later), "bucket {bucket}: {due:?} comes before {dues:?}");
        }
    }
}

fn finish((operator, piece): (Arc<str>, Piece)) -> (Arc<str>, OperatorState) {
    let state = match piece {
        Piece::Taken(state) => state.finish().unwrap(),
        Piece::Tiered(signature, file) => {
            let Content::Whole(state) = decode(&operator, &file.get().unwrap()).unwrap() else { panic!("changes") };
            assert_eq!(state.signature, signature);
            state
        }
    };
    (operator, state)
}

fn taken((operator, state): (Arc<str>, OperatorState)) -> (Arc<str>, TakenState) {
    (operator, TakenState::new(state.signature, move || Ok(state.tables)))
}

fn runtime() -> Arc<Runtime> {
    Arc::new(Builder::new_current_thread().build().unwrap())
}

fn open(runtime: &Arc<Runtime>, plan: &Plan, lanes: u16, state: &Snapshot) -> Box<dyn Runs> {
    // Two lanes do nothing at once, four some, three all.
    let at_once = [usize::MAX, 2, 0][usize::from(lanes) % 3];
    let operators = Operators::open(plan, &INPUTS, lanes, ROOM, at_once, state.clone()).unwrap();
    assert_eq!(matches!(operators, Operators::Lanes(_)), lanes > 1);
    Box::new(driven(runtime, operators, None, &LastKnown::default()))
}

fn driven(runtime: &Arc<Runtime>, operators: Operators, spill: Option<(usize, Now)>, known: &LastKnown) -> Driven {
    let (runtime, known) = (Arc::clone(runtime), Arc::clone(known));
    Driven { runtime, operators, stored: BTreeMap::new(), spill, told: BTreeMap::new(), known }
}

fn cut(plan: &Plan) -> Cut {
    let exchange = plan.exchange().unwrap();
    Cut { front: Some(exchange.front(&INPUTS)), exchange, outputs: plan.outputs().len() }
}

fn spilling(limit: usize) -> Spilling {
    Spilling { space: Arc::new(SpillSpace::new(Box::new(Memory::default()), u64::MAX)), limit }
}

/// In buckets of which few or none have room, in several ways; 0 for one piece.
fn open_spilled(runtime: &Arc<Runtime>, known: &LastKnown, plan: &Plan, way: u16, state: &Snapshot) -> Box<dyn Runs> {
    let _runtime = runtime.enter();
    let limit = [1, 20_000, 60_000][usize::from(way) % 3];
    let spilling = spilling(limit);
    let mut spill: Option<(usize, Now)> = None;
    let operators = match way {
        1..=3 => {
            let mut aside = Aside::new(plan.exchange().unwrap(), Arc::clone(&spilling.space), true);
            for (operator, state) in state {
                aside.add(operator, state).unwrap();
            }
            let back = plan.exchange().unwrap().back();
            for (bucket, Known { dues, state_bytes }) in std::mem::take(&mut *known.lock().unwrap()) {
                let stored = dues.iter().map(|due| (due.operator.to_string(), due.at)).collect();
                aside.is_known(bucket, Known { dues: back.stored_dues(&stored).unwrap(), state_bytes });
            }
            Operators::spilled(cut(plan), way, ROOM, aside, limit)
        }
        4..=9 => {
            let operators = Operators::open(plan, &INPUTS, way % 2 + 1, ROOM, usize::from(way) % 3, state.clone()).unwrap();
            let plan = plan.clone();
            let now = move |operators: &mut Operators, again| operators.spill(cut(&plan), &spilling, ROOM, again, false).unwrap();
            spill = Some((usize::from(way - 4), Box::new(now)));
            operators
        }
        _ => Operators::open(plan, &INPUTS, 1, ROOM, 0, state.clone()).unwrap(),
    };
    Box::new(driven(runtime, operators, spill, known))
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
            prop_assert_eq!(&run(&plan, &in_lanes(3), &mut open), &one, "three lanes: {}", what);
            prop_assert_eq!(&run(&plan, &in_lanes(4), &mut open), &one, "four lanes: {}", what);
            prop_assert_eq!(&run(&plan, &script, &mut open), &one, "going on with other lanes: {}", what);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn buckets_give_what_one_executor_gives(script in scripts(9), way in 1..=9_u16) {
        let runtime = runtime();
        let known = LastKnown::default();
        let mut open = |plan: &Plan, way: u16, state: &Snapshot| open_spilled(&runtime, &known, plan, way, state);
        for (what, steps, outputs, _) in shared() {
            let plan = plan(&steps, &outputs);
            let run_in = |way: u16| script.iter().cloned().map(|(input, rows, _)| (input, rows, way)).collect();
            let one = run(&plan, &run_in(0), &mut open);
            prop_assert_eq!(&run(&plan, &run_in(way), &mut open), &one, "in buckets, way {}: {}", way, what);
            prop_assert_eq!(&run(&plan, &script, &mut open), &one, "going on in other ways: {}", what);
            let handed_over = script.iter().cloned().map(|(input, rows, way)| (input, rows, way % 3 + 1)).collect();
            prop_assert_eq!(&run(&plan, &handed_over, &mut open), &one, "going on from buckets: {}", what);
        }
    }
}

/// State of many keys, far beyond what may be in memory.
#[tokio::test]
async fn state_ten_times_the_memory_goes_through() {
    const LIMIT: usize = 64_000;
    let plan = plan(&[("s", "SELECT k, count(*) AS n, max(v) AS m FROM a GROUP BY k")], &["s"]);
    let keys = |batch: i64| (0..500).map(|key| (Some(batch * 500 + key), 1, 0)).collect::<Vec<_>>();
    let message = |number: i64| Message::Batch(batch(&plan, "a", &keys(number % 40), number as usize * 500, &mut 0));
    let mut whole = Operators::open(&plan, &["a"], 1, ROOM, 0, Snapshot::new()).unwrap();
    (0..40).for_each(|number| whole.push(0, message(number), &mut |_, _| {}).unwrap());
    assert!(whole.state_bytes() > 10 * LIMIT, "{}", whole.state_bytes());

    let spilling = spilling(LIMIT);
    let mut operators = Operators::open(&plan, &["a"], 1, ROOM, 0, Snapshot::new()).unwrap();
    let exchange = plan.exchange().unwrap();
    let cut = Cut { front: Some(exchange.front(&["a"])), exchange, outputs: 1 };
    operators.spill(cut, &spilling, ROOM, Vec::new(), false).unwrap();
    let (mut peak, mut counts) = (0, BTreeMap::new());
    for number in 0..80 {
        operators.push(0, message(number), &mut |_, _| panic!("nothing is known at once")).unwrap();
        if number % 20 == 19 {
            operators.flush();
        }
        while !operators.is_idle() {
            for (_, message) in operators.next().await.unwrap().emitted {
                let Message::Batch(batch) = message else { panic!("{message:?}") };
                let value = |column: usize, row: usize| batch.records.column(column).as_primitive::<Int64Type>().value(row);
                for row in (0..batch.num_rows()).filter(|row| batch.kind(*row).is_addition()) {
                    counts.insert(value(0, row), value(1, row));
                }
            }
            peak = peak.max(operators.state_bytes());
            if operators.is_idle() && (number % 20 == 19 || number == 79) {
                operators.flush();
            }
        }
    }
    assert_eq!(counts.len(), 20_000);
    assert!(counts.values().all(|count| *count == 2), "each key was there twice");
    assert!(peak <= LIMIT + LIMIT / 2, "{peak} bytes of memory were taken");
    assert!(spilling.space.used() > 0);
    assert_eq!(operators.spilled_bytes(), spilling.space.used());
    drop(operators);
}

/// Of buckets whose time is known only an end lets something come out; without knowing it all have to be loaded.
#[tokio::test]
async fn a_pause_loads_no_bucket_whose_time_is_known() {
    let plan = plan(&[("s", "SELECT k, count(*) AS n FROM a GROUP BY k")], &["s"]);
    let mut whole = Operators::open(&plan, &["a"], 1, ROOM, 0, Snapshot::new()).unwrap();
    (0..50).for_each(|key| whole.push(0, row(&plan, key, 1, key), &mut |_, _| {}).unwrap());
    let Taken::Whole(state) = whole.snapshot().await.unwrap() else { panic!("in buckets") };
    let state = state.finish().unwrap();
    for is_known in [true, false] {
        let mut aside = Aside::new(plan.exchange().unwrap(), spilling(ROOM).space, true);
        for (operator, state) in &state {
            for bucket in aside.add(operator, state).unwrap() {
                if is_known {
                    aside.is_known(bucket, Known { dues: Vec::new(), state_bytes: 1 });
                }
            }
        }
        let exchange = plan.exchange().unwrap();
        let cut = Cut { front: Some(exchange.front(&["a"])), exchange, outputs: 1 };
        let mut operators = Operators::spilled(cut, 2, ROOM, aside, ROOM);
        for (message, is_loaded) in [(Message::Watermark(5), !is_known), (Message::Idle, !is_known), (Message::End, true)] {
            operators.push(0, message.clone(), &mut |_, _| {}).unwrap();
            while !operators.is_idle() {
                operators.next().await.unwrap();
            }
            assert_eq!(operators.state_bytes() > 0, is_loaded, "{message:?}, known: {is_known}");
        }
    }
}

#[tokio::test]
async fn a_tier_that_fails_is_heard() {
    let plan = plan(&[("s", "SELECT k, max(v) AS v FROM a GROUP BY k")], &["s"]);
    let memory = Memory::default();
    *memory.broken.lock().unwrap() = true;
    let spilling = Spilling { space: Arc::new(SpillSpace::new(Box::new(memory), u64::MAX)), limit: 1 };
    let mut operators = Operators::open(&plan, &INPUTS, 1, ROOM, 0, Snapshot::new()).unwrap();
    (0..50).for_each(|key| operators.push(0, row(&plan, key, 1, key), &mut |_, _| {}).unwrap());
    operators.spill(cut(&plan), &spilling, ROOM, Vec::new(), false).unwrap();
    let error = operators.next().await.unwrap_err();
    assert!(matches!(&error, Broken::Tier(_)), "{error}");
}

/// One row of input `a`: the key, and a value.
fn row(plan: &Plan, key: i64, value: i64, ordinal: i64) -> Message {
    Message::Batch(batch(plan, "a", &[(Some(key), value, 0)], usize::try_from(ordinal).unwrap(), &mut 0))
}

#[tokio::test]
async fn rows_of_a_key_come_out_in_order() {
    let plan = plan(&[("s", "SELECT k, max(v) AS v FROM a GROUP BY k")], &["s"]);
    for at_once in [0, 1] {
        let mut operators = Operators::open(&plan, &["a"], 4, ROOM, at_once, Snapshot::new()).unwrap();
        for value in 0..200 {
            // Now and then two rows, which are never taken at once.
            let rows = [(Some(value % 7), value, 0), (Some(value % 7), value, 1)];
            let rows = &rows[..=usize::from(value % 9 == 0)];
            let message = Message::Batch(batch(&plan, "a", rows, 2 * usize::try_from(value).unwrap(), &mut 0));
            operators.push(0, message, &mut |_, _| panic!("nothing is known at once")).unwrap();
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
}

#[tokio::test]
async fn a_time_at_which_much_comes_out_is_taken_by_threads() {
    let plan = plan(&[("s", "SELECT k, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end, k")], &["s"]);
    let mut operators = Operators::open(&plan, &["a"], 2, ROOM, usize::MAX, Snapshot::new()).unwrap();
    let rows: Vec<_> = (0..20_000).map(|key| (Some(key), 1, 0)).collect();
    let messages = [Message::Batch(batch(&plan, "a", &rows, 0, &mut 0)), Message::Watermark(5_000_000), Message::Watermark(10_000_000)];
    for (message, resting) in messages.into_iter().zip([2, 2, 0]) {
        operators.push(0, message.clone(), &mut |_, _| {}).unwrap();
        let Operators::Lanes(lanes) = &operators else { panic!("in lanes") };
        assert_eq!(lanes.lanes.iter().filter(|lane| lane.is_resting()).count(), resting, "{}", lanes.lanes[0].now.state_bytes);
        while !operators.is_idle() {
            operators.next().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_few_rows_and_times_without_results_are_taken_at_once_and_others_by_a_thread() {
    let plan = plan(&[("s", "SELECT k, max(v) AS v FROM a GROUP BY k")], &["s"]);
    let push = |operators: &mut Operators, message| operators.push(0, message, &mut |_, _| {}).unwrap();
    let resting = |operators: &Operators| {
        let Operators::Lanes(lanes) = operators else { panic!("in lanes") };
        lanes.lanes.iter().filter(|lane| lane.is_resting()).count()
    };
    for (at_once, resting_then) in [(1, 2), (0, 1)] {
        let mut operators = Operators::open(&plan, &["a"], 2, ROOM, at_once, Snapshot::new()).unwrap();
        push(&mut operators, row(&plan, 1, 1, 0));
        assert_eq!(resting(&operators), resting_then, "rows, {at_once} at once");
        let came_out = operators.next().await.unwrap();
        assert_eq!(came_out.emitted.len(), 1);
        while resting(&operators) < 2 {
            let _nothing_else = futures::FutureExt::now_or_never(operators.next());
            tokio::task::yield_now().await;
        }
        push(&mut operators, Message::Watermark(5));
        assert_eq!(resting(&operators), 2 * at_once, "a time, {at_once} at once");
        while !operators.is_idle() {
            operators.next().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_the_lanes_hold_is_bounded_by_bytes() {
    let plan = plan(&[("s", "SELECT k, max(v) AS v FROM a GROUP BY k")], &["s"]);
    let mut operators = Operators::open(&plan, &["a"], 2, 1, 0, Snapshot::new()).unwrap();
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
    assert!(matches!(Operators::open(&plan, &["a"], 4, ROOM, 0, Snapshot::new()).unwrap(), Operators::Whole(_)));
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
        let mut operators = Operators::open(&plan, &["a"], lanes, ROOM, 0, Snapshot::new()).unwrap();
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
    for at_once in [0, 1] {
        let mut operators = Operators::open(&plan, &["a"], 2, ROOM, at_once, Snapshot::new()).unwrap();
        let Operators::Lanes(lanes) = &mut operators else { panic!("in lanes") };
        let nothing = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let batch = Batch::new(nothing, Origin::new("a", "a"), UInt64Array::from(vec![0]));
        lanes.deal(0, 0, batch.clone(), &batch).unwrap();
        let error = operators.next().await.unwrap_err();
        assert!(matches!(&error, Broken::Operators(ExecuteError::Defect { message }) if message.contains("panicked")), "{error}");
    }
}
