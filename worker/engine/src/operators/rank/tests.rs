//! Top-N against the same numbers computed at once over all rows: random rows, batches, watermarks and restores. What SQL makes of them is in `tests/sql`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use super::{Emission, OrderBy, RankBlueprint, Ties};
use crate::operators::harness::{Harness, Row, batch, schema};
use crate::operators::{Blueprint, Message};
use crate::plan::Late;
use crate::row_kind::RowKind;

const WEEK: i64 = 604_800_000_000;

fn order(column: usize, descending: bool) -> OrderBy {
    OrderBy { column, descending, nulls_first: !descending }
}

fn blueprint(order_by: OrderBy, ties: Ties, range: (u64, u64), number: bool, revised: bool, emission: Emission) -> RankBlueprint {
    let mut output = vec![Some(0), Some(1), Some(2)];
    let mut fields: Vec<Field> = schema().fields()[..3].iter().map(|field| field.as_ref().clone()).collect();
    if number {
        output.push(None);
        fields.push(Field::new("rn", DataType::UInt64, false));
    }
    RankBlueprint {
        take: vec![0, 1, 2, 3],
        input: schema(),
        partition_by: if matches!(emission, Emission::Window { .. }) { vec![0, 2] } else { vec![0] },
        order_by: vec![order_by],
        ties,
        first: range.0,
        last: range.1,
        revised_by: revised.then(|| vec![0, 1, 2, 3]),
        emission,
        late: Late::Drop,
        output,
        schema: Arc::new(Schema::new(fields)),
    }
}

fn line((key, value, time): &Row, number: Option<usize>) -> String {
    let time = format!("1970-01-01T00:00:00.{time:06}").replace(".000000", "");
    let mut parts: Vec<String> = key.iter().map(|key| format!("\"k\":{key}")).collect();
    parts.push(format!("\"v\":{value},\"t\":\"{time}\""));
    parts.extend(number.map(|number| format!("\"rn\":{number}")));
    format!("{{{}}}", parts.join(","))
}

/// The numbers of all rows at once.
fn naive(blueprint: &RankBlueprint, rows: &[Row]) -> Vec<String> {
    let window = matches!(blueprint.emission, Emission::Window { .. });
    let mut keys: BTreeMap<(Option<i64>, i64), Vec<Row>> = BTreeMap::new();
    for row in rows {
        keys.entry((row.0, if window { row.2 } else { 0 })).or_default().push(*row);
    }
    let OrderBy { column, descending, .. } = blueprint.order_by[0];
    let mut lines = Vec::new();
    for mut rows in keys.into_values() {
        if blueprint.ties == Ties::Latest {
            rows.reverse();
        }
        let value = |row: &Row| if column == 1 { row.1 } else { row.2 };
        rows.sort_by_key(|row| if descending { -value(row) } else { value(row) });
        let numbered = rows.iter().enumerate().map(|(at, row)| (at + 1, row));
        let out = numbered.filter(|(number, _)| (blueprint.first..=blueprint.last).contains(&(*number as u64)));
        lines.extend(out.map(|(number, row)| line(row, blueprint.output.contains(&None).then_some(number))));
    }
    lines.sort();
    lines
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Row>),
    Retract(Vec<prop::sample::Index>),
    Watermark(i64),
    Restore,
}

fn row(times: std::ops::Range<i64>) -> impl Strategy<Value = Row> {
    (prop::option::weighted(0.9, 0_i64..4), 0_i64..6, times)
}

fn steps(revised: bool) -> impl Strategy<Value = Vec<Step>> {
    let rows = prop::collection::vec(row(0..5), 1..8).prop_map(Step::Rows);
    let retract = prop::collection::vec(any::<prop::sample::Index>(), 1..5).prop_map(Step::Retract);
    prop::collection::vec(prop_oneof![4 => rows, u32::from(revised) * 3 => retract, 1 => Just(Step::Restore)], 0..25)
}

/// Rows at or after the watermark, moved by `later`.
fn timed_steps(later: i64) -> impl Strategy<Value = Vec<Step>> {
    let rows = prop::collection::vec(row(0..12), 1..6).prop_map(Step::Rows);
    let step = prop_oneof![5 => rows, 2 => (1_i64..8).prop_map(Step::Watermark), 1 => Just(Step::Restore)];
    prop::collection::vec(step, 0..40).prop_map(move |mut steps| {
        let mut watermark = 0;
        for step in &mut steps {
            match step {
                Step::Watermark(by) => {
                    watermark += *by;
                    *by = watermark;
                }
                Step::Rows(rows) => rows.iter_mut().for_each(|row| row.2 += watermark + later),
                _ => {}
            }
        }
        steps
    })
}

fn run<'a>(blueprint: &'a RankBlueprint, steps: &[Step], split: bool) -> (Harness<'a>, Vec<Row>) {
    let mut harness = Harness::new(blueprint, &[0]);
    let mut there: Vec<Row> = Vec::new();
    let mut ordinal = 0;
    for step in steps {
        match step {
            Step::Rows(rows) => {
                there.extend(rows);
                let rows: Vec<_> = rows.iter().map(|row| (*row, RowKind::Insert)).collect();
                for rows in rows.chunks(if split { 1 } else { rows.len() }) {
                    harness.push(0, Message::Batch(batch("t", ordinal, rows)));
                    ordinal += rows.len();
                }
            }
            Step::Retract(indices) => {
                let mut rows = Vec::new();
                for index in indices {
                    if !there.is_empty() {
                        let row = there[index.index(there.len())];
                        // The first of equal rows goes.
                        there.remove(there.iter().position(|other| *other == row).unwrap());
                        rows.push((row, RowKind::Delete));
                    }
                }
                if !rows.is_empty() {
                    harness.push(0, Message::Batch(batch("t", ordinal, &rows)));
                    ordinal += rows.len();
                }
            }
            Step::Watermark(watermark) => harness.watermark(*watermark),
            Step::Restore => harness.restore(),
        }
    }
    (harness, there)
}

fn ranges() -> impl Strategy<Value = (u64, u64)> {
    prop::sample::select(vec![(1, 1), (1, 3), (2, 2), (2, 4)])
}

fn ties() -> impl Strategy<Value = Ties> {
    prop::sample::select(vec![Ties::Earliest, Ties::Latest])
}

proptest! {
    #[test]
    fn revised_numbers_equal_those_of_all_rows(
        steps in steps(true), ties in ties(), range in ranges(), number in any::<bool>(), descending in any::<bool>(), split in any::<bool>(),
    ) {
        let blueprint = blueprint(order(1, descending), ties, range, number, true, Emission::Revised { ttl: WEEK });
        let (harness, rows) = run(&blueprint, &steps, split);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
    }

    #[test]
    fn of_rows_that_are_only_appended_no_more_than_n_are_kept(
        steps in steps(false), ties in ties(), range in ranges(), number in any::<bool>(), descending in any::<bool>(), split in any::<bool>(),
    ) {
        let blueprint = blueprint(order(1, descending), ties, range, number, false, Emission::Revised { ttl: WEEK });
        let (mut harness, rows) = run(&blueprint, &steps, split);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
        let keys: std::collections::BTreeSet<_> = rows.iter().map(|row| row.0).collect();
        prop_assert!(harness.state_rows() <= keys.len() * (range.1 as usize + 1));
    }

    #[test]
    fn the_first_row_by_time_comes_out_once(steps in timed_steps(0), number in any::<bool>(), split in any::<bool>()) {
        let blueprint = blueprint(order(2, false), Ties::Earliest, (1, 1), number, false, Emission::First { time: 2, ttl: WEEK });
        let (mut harness, rows) = run(&blueprint, &steps, split);
        harness.watermark(WEEK);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
        prop_assert!(harness.said.log.iter().all(|line| line.starts_with("+I")));
    }

    #[test]
    fn rows_of_windows_are_numbered_when_they_end(
        steps in timed_steps(1), ties in ties(), range in ranges(), number in any::<bool>(), descending in any::<bool>(), split in any::<bool>(),
    ) {
        let blueprint = blueprint(order(1, descending), ties, range, number, false, Emission::Window { end: 2 });
        let (mut harness, rows) = run(&blueprint, &steps, split);
        harness.watermark(i64::MAX);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
        prop_assert!(harness.said.log.iter().all(|line| line.starts_with("+I")));
        prop_assert_eq!(harness.state_rows(), 0);
    }
}

fn insert(harness: &mut Harness<'_>, ordinal: usize, rows: &[Row]) {
    let rows: Vec<_> = rows.iter().map(|row| (*row, RowKind::Insert)).collect();
    harness.push(0, Message::Batch(batch("t", ordinal, &rows)));
}

fn kinds(harness: &Harness<'_>) -> Vec<String> {
    harness.said.log.iter().map(|line| line[..2].to_owned()).collect()
}

#[test]
fn one_batch_revises_each_key_once() {
    let blueprint = blueprint(order(2, true), Ties::Latest, (1, 1), false, false, Emission::Revised { ttl: WEEK });
    let mut harness = Harness::new(&blueprint, &[0]);
    insert(&mut harness, 0, &[(Some(1), 1, 5), (Some(2), 2, 5), (Some(1), 3, 6), (Some(1), 4, 6)]);
    assert_eq!(harness.said.log, [format!("+I {}", line(&(Some(1), 4, 6), None)), format!("+I {}", line(&(Some(2), 2, 5), None))]);
    insert(&mut harness, 4, &[(Some(1), 5, 1), (Some(2), 6, 5)]);
    assert_eq!(kinds(&harness), ["+I", "+I", "-U", "+U"]);
    assert_eq!(harness.said.log[3], format!("+U {}", line(&(Some(2), 6, 5), None)));
}

#[test]
fn without_the_number_fewer_rows_are_revised() {
    for (number, changes) in [(true, vec!["+I", "+I", "-U", "+U", "-U", "+U"]), (false, vec!["+I", "+I", "-D", "+I"])] {
        let blueprint = blueprint(order(1, true), Ties::Earliest, (1, 2), number, false, Emission::Revised { ttl: WEEK });
        let mut harness = Harness::new(&blueprint, &[0]);
        insert(&mut harness, 0, &[(Some(1), 1, 0), (Some(1), 2, 0)]);
        insert(&mut harness, 2, &[(Some(1), 3, 0)]);
        assert_eq!(kinds(&harness), changes);
    }
}

#[test]
fn null_is_where_the_plan_says() {
    for (descending, first) in [(false, "{\"v\":1"), (true, "{\"k\":7")] {
        let mut blueprint = blueprint(order(0, descending), Ties::Earliest, (1, 1), false, false, Emission::Revised { ttl: WEEK });
        blueprint.partition_by = vec![];
        let mut harness = Harness::new(&blueprint, &[0]);
        insert(&mut harness, 0, &[(Some(3), 1, 0), (None, 1, 0), (Some(7), 1, 0)]);
        harness.restore();
        insert(&mut harness, 3, &[(Some(3), 1, 0)]);
        assert!(harness.table().len() == 1 && harness.table()[0].starts_with(first), "{:?}", harness.table());
    }
}

#[test]
fn late_rows_are_dropped_and_counted() {
    let first = blueprint(order(2, false), Ties::Earliest, (1, 1), false, false, Emission::First { time: 2, ttl: WEEK });
    let mut harness = Harness::new(&first, &[0]);
    harness.watermark(10);
    insert(&mut harness, 0, &[(Some(1), 1, 9), (Some(1), 2, 10)]);
    harness.watermark(10);
    assert!(harness.table().is_empty(), "another of this time may still come, though no earlier one");
    harness.watermark(11);
    assert_eq!((harness.said.filtered, harness.table()), (1, vec![line(&(Some(1), 2, 10), None)]));
    let window = blueprint(order(1, false), Ties::Earliest, (1, 1), false, false, Emission::Window { end: 2 });
    let mut harness = Harness::new(&window, &[0]);
    harness.watermark(10);
    insert(&mut harness, 0, &[(Some(1), 1, 10), (Some(1), 2, 11)]);
    harness.watermark(11);
    assert_eq!((harness.said.filtered, harness.table()), (1, vec![line(&(Some(1), 2, 11), None)]));
}

#[test]
fn keys_are_forgotten_after_their_time_to_live() {
    for emission in [Emission::Revised { ttl: 640 }, Emission::First { time: 2, ttl: 640 }] {
        let blueprint = blueprint(order(2, false), Ties::Earliest, (1, 1), false, false, emission);
        let mut harness = Harness::new(&blueprint, &[0]);
        insert(&mut harness, 0, &[(Some(1), 1, 999)]);
        harness.watermark(1000);
        harness.restore();
        harness.watermark(1640);
        assert_eq!(harness.said.log.len(), 1);
        assert!(harness.state_rows() > 0);
        harness.watermark(1660);
        assert_eq!(harness.state_rows(), 0);
        insert(&mut harness, 1, &[(Some(1), 2, 1700)]);
        harness.watermark(1701);
        assert_eq!(kinds(&harness), ["+I", "+I"], "a key that was forgotten is new");
    }
}

#[test]
fn memory_does_not_grow_with_rows_and_keys_that_are_over() {
    for emission in [Emission::Revised { ttl: 100 }, Emission::First { time: 2, ttl: 100 }, Emission::Window { end: 2 }] {
        let blueprint = blueprint(order(1, true), Ties::Earliest, (1, 1), false, false, emission);
        let mut harness = Harness::new(&blueprint, &[0]);
        let mut most = [0, 0];
        for round in 0..80_i64 {
            let rows: Vec<Row> = (0..1000).map(|n| (Some(round * 500 + n), n, round * 50 + 1)).collect();
            insert(&mut harness, round as usize * 1000, &rows);
            harness.watermark(round * 50);
            let half = &mut most[usize::from(round >= 40)];
            *half = harness.state_bytes().max(*half);
        }
        assert!(most[1] <= most[0] * 3 / 2, "{emission:?} {most:?}");
    }
}

#[test]
fn state_of_more_rows_is_other_state() {
    let one = blueprint(order(1, true), Ties::Earliest, (1, 1), false, false, Emission::Revised { ttl: 1 });
    let other = RankBlueprint { last: 2, ..one.clone() };
    assert_ne!(one.state_signature(), other.state_signature());
}
