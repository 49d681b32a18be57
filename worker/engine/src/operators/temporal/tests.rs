//! Temporal joins against the same joins computed row by row over all rows: random rows, batches, watermarks and restores. What SQL makes of them is in `tests/sql`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use proptest::prelude::*;

use super::{Moment, TemporalBlueprint, TemporalSide};
use crate::operators::harness::{Harness, Row, batch, schema};
use crate::operators::{Expression, Message, Residual};
use crate::plan::Late;
use crate::row_kind::RowKind;

fn blueprint(outer: bool, moment: Moment, residual: bool) -> TemporalBlueprint {
    let side = || TemporalSide { take: vec![0, 1, 2, 3], schema: schema(), keys: vec![0] };
    let output: Vec<(usize, usize)> = vec![(0, 0), (0, 1), (0, 2), (1, 1), (1, 3)];
    let names = ["k", "lv", "lt", "rv", "rs"];
    let fields = output.iter().zip(names).map(|((_, column), name)| schema().field(*column).clone().with_name(name));
    TemporalBlueprint {
        sides: [side(), side()],
        residual: residual.then(|| Residual {
            predicate: Expression {
                physical: Arc::new(BinaryExpr::new(Arc::new(Column::new("l", 0)), Operator::LtEq, Arc::new(Column::new("r", 1)))),
                sql: "l <= r".to_owned(),
                identity: "l <= r".to_owned(),
            },
            columns: vec![(0, 1), (1, 1)],
            schema: Arc::new(Schema::new(vec![Field::new("l", DataType::Int64, true), Field::new("r", DataType::Int64, true)])),
        }),
        outer,
        moment,
        late: Late::Drop,
        output: output.clone(),
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
    }
}

const VERSIONS: Moment = Moment::Versions { times: [2, 2], slack: 0 };

fn line(left: &Row, right: Option<&Row>) -> String {
    let mut parts: Vec<String> = left.0.iter().map(|key| format!("\"k\":{key}")).collect();
    parts.push(format!("\"lv\":{},\"lt\":\"1970-01-01T00:00:00.{:06}\"", left.1, left.2));
    parts.extend(right.map(|right| format!("\"rv\":{},\"rs\":\"{}-{}\"", right.1, right.0.unwrap_or(-1), right.1)));
    format!("{{{}}}", parts.join(",")).replace(".000000", "")
}

/// What a row finds among versions in the order in which they came.
fn found<'a>(left: &Row, versions: &'a [Row], residual: bool) -> Option<&'a Row> {
    let mut best: Option<&Row> = None;
    for version in versions.iter().filter(|version| left.0.is_some() && version.0 == left.0 && version.2 <= left.2) {
        if best.is_none_or(|best| best.2 <= version.2) {
            best = Some(version);
        }
    }
    best.filter(|version| !residual || left.1 <= version.1)
}

#[derive(Clone, Debug)]
enum Step {
    Rows(usize, Vec<Row>),
    Watermark(i64),
    Restore,
}

/// Rows near the watermark, none late.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (prop::option::weighted(0.9, 0_i64..3), 0_i64..4, 0_i64..12);
    let rows = (0_usize..2, prop::collection::vec(row, 1..6)).prop_map(|(side, rows)| Step::Rows(side, rows));
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
                Step::Restore => {}
            }
        }
        steps
    })
}

fn push(harness: &mut Harness<'_>, side: usize, ordinal: &mut usize, rows: &[Row], split: bool) {
    let rows: Vec<_> = rows.iter().map(|row| (*row, RowKind::Insert)).collect();
    for rows in rows.chunks(if split { 1 } else { rows.len() }) {
        harness.push(side, Message::Batch(batch(["left", "right"][side], *ordinal, rows)));
        *ordinal += rows.len();
    }
}

proptest! {
    #[test]
    fn each_row_finds_the_version_of_its_time(
        steps in steps(), outer in any::<bool>(), residual in any::<bool>(), split in any::<bool>(),
    ) {
        let blueprint = blueprint(outer, VERSIONS, residual);
        let mut harness = Harness::new(&blueprint, &[0, 1]);
        let (mut rows, mut ordinal) = ([Vec::new(), Vec::new()], 0);
        for step in &steps {
            match step {
                Step::Rows(side, more) => {
                    rows[*side].extend(more.iter().copied());
                    push(&mut harness, *side, &mut ordinal, more, split);
                }
                Step::Watermark(watermark) => harness.watermark(*watermark),
                Step::Restore => harness.restore(),
            }
        }
        harness.watermark(i64::MAX);
        let mut expected: Vec<String> = rows[0]
            .iter()
            .filter_map(|left| match found(left, &rows[1], residual) {
                None if !outer => None,
                found => Some(line(left, found)),
            })
            .collect();
        expected.sort();
        prop_assert_eq!(harness.table(), expected);
        prop_assert!(harness.said.log.iter().all(|line| line.starts_with("+I")), "the result is never revised");
        let keys: std::collections::BTreeSet<_> = rows[1].iter().filter_map(|row| row.0).collect();
        prop_assert_eq!(harness.state_rows(), keys.len(), "one version of each key is left");
    }
}

#[test]
fn late_rows_are_dropped_and_versions_that_come_late_count_for_what_follows() {
    let blueprint = blueprint(true, VERSIONS, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    let mut ordinal = 0;
    push(&mut harness, 1, &mut ordinal, &[(Some(1), 10, 5)], false);
    harness.watermark(20);
    push(&mut harness, 0, &mut ordinal, &[(Some(1), 1, 19), (Some(1), 2, 20)], false);
    push(&mut harness, 1, &mut ordinal, &[(Some(1), 11, 8), (Some(1), 9, 3)], false);
    harness.watermark(21);
    assert_eq!(harness.table(), [line(&(Some(1), 2, 20), Some(&(Some(1), 11, 8)))]);
    assert_eq!((harness.said.filtered, harness.state_rows()), (1, 1));
}

#[test]
fn what_is_there_now_is_found_once_the_table_has_been_read() {
    let blueprint = blueprint(true, Moment::Current { revised_by: Some(vec![0, 1, 2, 3]), unique: false }, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    let mut ordinal = 0;
    push(&mut harness, 0, &mut ordinal, &[(Some(1), 1, 0), (Some(2), 2, 0)], false);
    harness.push(0, Message::Watermark(7));
    push(&mut harness, 1, &mut ordinal, &[(Some(1), 10, 0)], false);
    harness.restore();
    assert!(harness.said.log.is_empty() && harness.said.watermarks.is_empty(), "rows wait, and time with them");
    harness.push(1, Message::Idle);
    let (one, two) = (line(&(Some(1), 1, 0), Some(&(Some(1), 10, 0))), line(&(Some(2), 2, 0), None));
    // Restored from other key groups first, rows of different keys may have changed places.
    let mut said = harness.said.log.clone();
    said.sort();
    assert_eq!(said, [format!("+I {one}"), format!("+I {two}")]);
    assert_eq!(harness.said.watermarks, [7]);
    harness.restore();
    // Both rows of a key are found; one that is taken back is not, and what has come out stays.
    push(&mut harness, 1, &mut ordinal, &[(Some(1), 11, 0)], false);
    push(&mut harness, 0, &mut ordinal, &[(Some(1), 3, 0)], false);
    harness.push(1, Message::Batch(batch("right", 90, &[((Some(1), 10, 0), RowKind::Delete)])));
    push(&mut harness, 0, &mut ordinal, &[(Some(1), 4, 0)], false);
    let pairs = [(3, 10), (3, 11), (4, 11)].map(|(left, right)| format!("+I {}", line(&(Some(1), left, 0), Some(&(Some(1), right, 0)))));
    assert_eq!(harness.said.log[2..], pairs);
}

#[test]
fn a_new_row_replaces_the_one_of_its_key() {
    let blueprint = blueprint(false, Moment::Current { revised_by: Some(vec![0]), unique: true }, false);
    let mut harness = Harness::new(&blueprint, &[0, 1]);
    let mut ordinal = 0;
    harness.push(1, Message::Idle);
    // The second comes without a word about the first, as from a top-N whose time to live is over.
    push(&mut harness, 1, &mut ordinal, &[(Some(1), 10, 0)], false);
    push(&mut harness, 1, &mut ordinal, &[(Some(1), 11, 0)], false);
    push(&mut harness, 0, &mut ordinal, &[(Some(1), 3, 0)], false);
    assert_eq!(harness.table(), [line(&(Some(1), 3, 0), Some(&(Some(1), 11, 0)))]);
    assert_eq!(harness.state_rows(), 1);
}
