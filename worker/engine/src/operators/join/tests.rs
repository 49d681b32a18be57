//! Joins against the same joins computed at once over all rows: random rows, batches, watermarks and restores. What SQL makes of them is in `tests/sql`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;

use super::{JoinBlueprint, JoinSide, Lifetime, Residual};
use crate::operators::harness::{Harness, Row, batch, id, schema};
use crate::operators::{Blueprint, Expression, Message};
use crate::plan::Late;
use crate::row_kind::RowKind;

fn blueprint(outer: [bool; 2], revised: [bool; 2], lifetime: Lifetime, residual: bool) -> JoinBlueprint {
    let side = |number: usize| JoinSide {
        take: vec![0, 1, 2, 3],
        schema: schema(),
        keys: if matches!(lifetime, Lifetime::Window { .. }) { vec![0, 2] } else { vec![0] },
        outer: outer[number],
        revised_by: revised[number].then(|| vec![0, 1, 2, 3]),
    };
    let output: Vec<(usize, usize)> = vec![(0, 1), (1, 0), (1, 1), (0, 3), (0, 2), (1, 2)];
    let names = ["lv", "rk", "rv", "ls", "lt", "rt"];
    let fields = output.iter().zip(names).map(|((_, column), name)| schema().field(*column).clone().with_name(name));
    JoinBlueprint {
        sides: [side(0), side(1)],
        nulls_are_equal: false,
        residual: residual.then(|| Residual {
            predicate: Expression {
                physical: Arc::new(BinaryExpr::new(Arc::new(Column::new("l", 0)), Operator::LtEq, Arc::new(Column::new("r", 1)))),
                sql: "l <= r".to_owned(),
                identity: "l <= r".to_owned(),
            },
            columns: vec![(0, 1), (1, 1)],
            schema: Arc::new(Schema::new(vec![Field::new("l", DataType::Int64, true), Field::new("r", DataType::Int64, true)])),
        }),
        lifetime,
        late: Late::Drop,
        output: output.clone(),
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
    }
}

fn line(left: Option<&Row>, right: Option<&Row>) -> String {
    let time = |time: i64| format!("1970-01-01T00:00:00.{time:06}");
    let mut parts = Vec::new();
    if let Some((_, value, _)) = left {
        parts.push(format!("\"lv\":{value}"));
    }
    if let Some((key, value, _)) = right {
        parts.extend(key.map(|key| format!("\"rk\":{key}")));
        parts.push(format!("\"rv\":{value}"));
    }
    if let Some((key, value, at)) = left {
        parts.push(format!("\"ls\":\"{}-{value}\"", key.unwrap_or(-1)));
        parts.push(format!("\"lt\":\"{}\"", time(*at)));
    }
    if let Some((.., at)) = right {
        parts.push(format!("\"rt\":\"{}\"", time(*at)));
    }
    // Fractions of seconds are written in as many digits as they need.
    format!("{{{}}}", parts.join(",")).replace(".000000", "")
}

/// The join of all rows at once.
fn naive(blueprint: &JoinBlueprint, rows: &[Vec<Row>; 2]) -> Vec<String> {
    let meets = |left: &Row, right: &Row| {
        let near = match blueprint.lifetime {
            Lifetime::Ttl(_) => true,
            Lifetime::Interval { lower, upper, .. } => (lower..=upper).contains(&(left.2 - right.2)),
            Lifetime::Window { .. } => left.2 == right.2,
        };
        left.0.is_some() && left.0 == right.0 && near && (blueprint.residual.is_none() || left.1 <= right.1)
    };
    let mut lines = Vec::new();
    for left in &rows[0] {
        let met: Vec<&Row> = rows[1].iter().filter(|right| meets(left, right)).collect();
        lines.extend(met.iter().map(|right| line(Some(left), Some(right))));
        if met.is_empty() && blueprint.sides[0].outer {
            lines.push(line(Some(left), None));
        }
    }
    if blueprint.sides[1].outer {
        let alone = rows[1].iter().filter(|right| !rows[0].iter().any(|left| meets(left, right)));
        lines.extend(alone.map(|right| line(None, Some(right))));
    }
    lines.sort();
    lines
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Rows arrive at a side.
    Rows(usize, Vec<Row>),
    /// Rows that are there are taken back.
    Retract(usize, Vec<prop::sample::Index>),
    Watermark(i64),
    Restore,
}

fn row(times: std::ops::Range<i64>) -> impl Strategy<Value = Row> {
    (prop::option::weighted(0.9, 0_i64..4), 0_i64..4, times)
}

fn steps(revised: bool) -> impl Strategy<Value = Vec<Step>> {
    let rows = (0_usize..2, prop::collection::vec(row(0..1), 1..6)).prop_map(|(side, rows)| Step::Rows(side, rows));
    let retract =
        (0_usize..2, prop::collection::vec(any::<prop::sample::Index>(), 1..4)).prop_map(|(side, rows)| Step::Retract(side, rows));
    let retracts = if revised { 2 } else { 0 };
    prop::collection::vec(prop_oneof![4 => rows, retracts => retract, 1 => Just(Step::Restore)], 0..30)
}

/// Rows near the watermark, none late.
fn timed_steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = (0_usize..2, prop::collection::vec(row(0..12), 1..6)).prop_map(|(side, rows)| Step::Rows(side, rows));
    let step = prop_oneof![5 => rows, 2 => (1_i64..8).prop_map(Step::Watermark), 1 => Just(Step::Restore)];
    prop::collection::vec(step, 0..40).prop_map(|mut steps| {
        let mut watermark = 0;
        for step in &mut steps {
            match step {
                Step::Watermark(by) => {
                    watermark += *by;
                    *by = watermark;
                }
                Step::Rows(_, rows) => rows.iter_mut().for_each(|row| row.2 += watermark),
                _ => {}
            }
        }
        steps
    })
}

/// Runs the steps; `split` feeds each row alone. Returns what is there at the end and the rows that went in.
fn run<'a>(blueprint: &'a JoinBlueprint, steps: &[Step], split: bool) -> (Harness<'a>, [Vec<Row>; 2]) {
    let mut harness = Harness::new(blueprint, &[0, 1]);
    let mut there = [Vec::new(), Vec::new()];
    let mut ordinal = 0;
    for step in steps {
        match step {
            Step::Rows(side, rows) => {
                there[*side].extend(rows.iter().copied());
                let rows: Vec<_> = rows.iter().map(|row| (*row, RowKind::Insert)).collect();
                let size = if split { 1 } else { rows.len() };
                for rows in rows.chunks(size) {
                    harness.push(*side, Message::Batch(batch(["left", "right"][*side], ordinal, rows)));
                    ordinal += rows.len();
                }
            }
            Step::Retract(side, indices) => {
                let mut rows = Vec::new();
                for index in indices {
                    if !there[*side].is_empty() {
                        let at = index.index(there[*side].len());
                        rows.push((there[*side].swap_remove(at), RowKind::Delete));
                    }
                }
                if !rows.is_empty() {
                    harness.push(*side, Message::Batch(batch(["left", "right"][*side], ordinal, &rows)));
                    ordinal += rows.len();
                }
            }
            Step::Watermark(watermark) => harness.watermark(*watermark),
            Step::Restore => harness.restore(),
        }
    }
    (harness, there)
}

const WEEK: Lifetime = Lifetime::Ttl(604_800_000_000);

proptest! {
    #[test]
    fn regular_joins_equal_the_join_of_all_rows(
        steps in steps(true), outer in any::<[bool; 2]>(), residual in any::<bool>(), split in any::<bool>(),
    ) {
        let blueprint = blueprint(outer, [true, true], WEEK, residual);
        let (harness, rows) = run(&blueprint, &steps, split);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
    }

    #[test]
    fn joins_of_rows_that_are_only_appended_need_no_hashes(steps in steps(false), outer in any::<[bool; 2]>(), residual in any::<bool>()) {
        let blueprint = blueprint(outer, [false, false], WEEK, residual);
        let (harness, rows) = run(&blueprint, &steps, false);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
        prop_assert!(blueprint.revises() || harness.said.log.iter().all(|line| line.starts_with("+I")));
    }

    #[test]
    fn interval_joins_equal_the_join_of_all_rows(
        steps in timed_steps(), outer in any::<[bool; 2]>(), residual in any::<bool>(), split in any::<bool>(),
        lower in -6_i64..4, length in 0_i64..9,
    ) {
        let blueprint = blueprint(outer, [false, false], Lifetime::Interval { times: [2, 2], lower, upper: lower + length, slack: 0 }, residual);
        let (mut harness, rows) = run(&blueprint, &steps, split);
        harness.watermark(i64::MAX);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
        prop_assert!(harness.said.log.iter().all(|line| line.starts_with("+I")), "the result is never revised");
        prop_assert_eq!(harness.state_rows(), 0);
        prop_assert_eq!(harness.said.watermarks.last(), Some(&i64::MAX));
    }

    #[test]
    fn window_joins_equal_the_join_of_all_rows(steps in timed_steps(), outer in any::<[bool; 2]>(), split in any::<bool>()) {
        // The times are the ends of windows, so none may be at the watermark.
        let later = |step: &Step| match step {
            Step::Rows(side, rows) => Step::Rows(*side, rows.iter().map(|row| (row.0, row.1, row.2 + 1)).collect()),
            other => other.clone(),
        };
        let blueprint = blueprint(outer, [false, false], Lifetime::Window { ends: [2, 2] }, false);
        let (mut harness, rows) = run(&blueprint, &steps.iter().map(later).collect::<Vec<_>>(), split);
        harness.watermark(i64::MAX);
        prop_assert_eq!(harness.table(), naive(&blueprint, &rows));
        prop_assert_eq!(harness.state_rows(), 0);
    }
}

fn insert(harness: &mut Harness<'_>, side: usize, ordinal: usize, row: Row) {
    harness.push(side, Message::Batch(batch(["left", "right"][side], ordinal, &[(row, RowKind::Insert)])));
}

#[test]
fn an_outer_row_is_padded_until_it_meets_another() {
    let blueprint = blueprint([true, false], [false, false], WEEK, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    insert(&mut harness, 0, 0, (Some(1), 5, 0));
    insert(&mut harness, 1, 0, (Some(1), 7, 0));
    insert(&mut harness, 1, 1, (Some(1), 8, 0));
    let kinds: Vec<&str> = harness.said.log.iter().map(|line| &line[..2]).collect();
    assert_eq!(kinds, ["+I", "-D", "+I", "+I"]);
    assert!(!harness.said.log[1].contains("rv"), "{:?}", harness.said.log);
}

#[test]
fn what_one_batch_does_and_undoes_is_not_said() {
    let blueprint = blueprint([true, true], [true, true], WEEK, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    insert(&mut harness, 1, 0, (Some(1), 7, 0));
    let before = harness.said.log.len();
    let rows = [((Some(1), 5, 0), RowKind::Insert), ((Some(1), 5, 0), RowKind::UpdateBefore), ((Some(1), 6, 0), RowKind::UpdateAfter)];
    harness.push(0, Message::Batch(batch("left", 0, &rows)));
    let kinds: Vec<&str> = harness.said.log[before..].iter().map(|line| &line[..2]).collect();
    assert_eq!(kinds, ["-D", "+I"], "{:?}", harness.said.log);
}

#[test]
fn rows_are_forgotten_after_their_time_to_live() {
    let blueprint = blueprint([false, false], [false, false], Lifetime::Ttl(100), false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    insert(&mut harness, 0, 0, (Some(1), 1, 0));
    harness.watermark(1000);
    insert(&mut harness, 0, 1, (Some(1), 2, 0));
    harness.watermark(1050);
    insert(&mut harness, 0, 2, (Some(1), 3, 0));
    harness.restore();
    harness.watermark(1100);
    assert_eq!(harness.state_rows(), 3, "rows that came before the first watermark count from it");
    harness.watermark(1101);
    insert(&mut harness, 1, 0, (Some(1), 9, 0));
    let met: Vec<&String> = harness.said.log.iter().collect();
    assert!(met.len() == 1 && met[0].contains("\"lv\":3"), "{met:?}");
    harness.watermark(1202);
    assert_eq!(harness.state_rows(), 0);
}

#[test]
fn memory_does_not_grow_with_rows_that_are_over() {
    let blueprint = blueprint([false, true], [false, false], Lifetime::Interval { times: [2, 2], lower: -10, upper: 10, slack: 0 }, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    let mut most = [0, 0];
    for round in 0..60_i64 {
        let rows: Vec<_> = (0..1000).map(|n| ((Some(round * 1000 + n), n, round * 100), RowKind::Insert)).collect();
        harness.push((round % 2) as usize, Message::Batch(batch(["left", "right"][(round % 2) as usize], round as usize * 1000, &rows)));
        harness.watermark(round * 100);
        let half = &mut most[usize::from(round >= 30)];
        *half = harness.state_bytes().max(*half);
    }
    assert!(most[1] <= most[0] * 3 / 2, "{most:?}");
}

#[test]
fn times_at_the_end_of_all_time_meet_nobody_and_do_no_harm() {
    let blueprint = blueprint([false; 2], [false; 2], Lifetime::Interval { times: [2, 2], lower: -5, upper: 5, slack: 0 }, false);
    for (one, other) in [(1, i64::MIN), (i64::MIN, 1), (i64::MAX, -2), (-2, i64::MAX)] {
        let mut harness = Harness::new(&blueprint, &[0, 1]);
        insert(&mut harness, 0, 0, (Some(1), 1, one));
        insert(&mut harness, 1, 0, (Some(1), 2, other));
        assert_eq!(harness.said.log, Vec::<String>::new());
    }
}

#[test]
fn watermarks_are_held_back_by_the_interval() {
    for (lower, upper, delay) in [(-5, 3, 5), (1, 7, 7), (-9, -2, 9), (0, 0, 0)] {
        let blueprint = blueprint([false; 2], [false; 2], Lifetime::Interval { times: [2, 2], lower, upper, slack: 0 }, false);
        let mut harness = Harness::new(&blueprint, &[0, 1]);
        harness.watermark(100);
        assert_eq!(harness.said.watermarks, [100 - delay]);
    }
}

#[test]
fn rows_of_a_window_that_is_over_are_late() {
    let blueprint = blueprint([true, true], [false; 2], Lifetime::Window { ends: [2, 2] }, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    harness.watermark(10);
    insert(&mut harness, 0, 0, (Some(1), 1, 10));
    insert(&mut harness, 0, 1, (Some(1), 1, 11));
    assert_eq!((harness.said.filtered, harness.state_rows()), (1, 1));
}

#[test]
fn a_late_row_meets_what_is_still_there_and_is_padded_at_once_otherwise() {
    let blueprint = blueprint([true, false], [false; 2], Lifetime::Interval { times: [2, 2], lower: 0, upper: 5, slack: 0 }, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    insert(&mut harness, 1, 0, (Some(1), 1, 8));
    harness.watermark(10);
    insert(&mut harness, 0, 0, (Some(1), 1, 9));
    insert(&mut harness, 0, 1, (Some(2), 1, 9));
    assert_eq!(harness.table().len(), 2, "{:?}", harness.said.log);
    assert_eq!(harness.state_rows(), 1);
}

#[test]
fn pairs_that_cannot_be_evaluated_are_rejected_and_others_go_on() {
    let mut blueprint = blueprint([false; 2], [false; 2], WEEK, true);
    let physical = BinaryExpr::new(Arc::new(Column::new("l", 0)), Operator::Divide, Arc::new(Column::new("r", 1)));
    let positive = BinaryExpr::new(
        Arc::new(physical),
        Operator::Gt,
        Arc::new(datafusion_physical_expr::expressions::Literal::new(datafusion_common::ScalarValue::Int64(Some(0)))),
    );
    blueprint.residual.as_mut().unwrap().predicate.physical = Arc::new(positive);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    for (ordinal, value) in [1, 0, 2].into_iter().enumerate() {
        insert(&mut harness, 1, ordinal, (Some(1), value, 0));
    }
    insert(&mut harness, 0, 7, (Some(1), 2, 0));
    assert_eq!((harness.table().len(), harness.said.rejected.len()), (2, 1));
    assert_eq!(harness.said.rejected[0].ordinal, 7);
}

#[test]
fn state_of_another_join_is_refused() {
    let one = blueprint([false; 2], [false; 2], WEEK, false);
    let other = blueprint([true, false], [false; 2], WEEK, false);
    let state = one.operator(&id(), &[0, 1]).snapshot().unwrap().unwrap().finish().unwrap();
    assert!(other.operator(&id(), &[0, 1]).restore(state).is_err());
}
