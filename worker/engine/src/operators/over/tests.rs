//! OVER aggregates against the same aggregates computed row by row over all rows: random rows, batches, watermarks and restores.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::AggregateUDF;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::Column;
use proptest::prelude::*;

use super::{Frame, FramedCall, OverBlueprint, OverColumn};
use crate::operators::harness::{Harness, Row, batch, schema};
use crate::operators::{Argument, Call, Message};
use crate::plan::Late;
use crate::row_kind::RowKind;

fn call(function: Arc<AggregateUDF>, frame: Frame) -> FramedCall {
    let name = function.name().to_owned();
    let function =
        AggregateExprBuilder::new(function, vec![Arc::new(Column::new("v", 1))]).schema(schema()).alias(name.clone()).build().unwrap();
    FramedCall {
        call: Call {
            function: Arc::new(function),
            arguments: vec![Argument::Column(1)],
            filter: None,
            input: vec![DataType::Int64],
            sql: format!("{name}(v)"),
            identity: format!("{name}(v)"),
        },
        frame,
    }
}

fn blueprint(frame: Frame, ttl: Option<i64>) -> OverBlueprint {
    let functions = [
        datafusion_functions_aggregate::sum::sum_udaf(),
        datafusion_functions_aggregate::count::count_udaf(),
        datafusion_functions_aggregate::min_max::max_udaf(),
    ];
    let mut fields: Vec<Field> = schema().fields()[..3].iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(["sum", "count", "max"].map(|name| Field::new(name, DataType::Int64, true)));
    OverBlueprint {
        take: vec![0, 1, 2, 3],
        input: schema(),
        partition_by: vec![0],
        time: 2,
        slack: 0,
        calls: functions.into_iter().map(|function| call(function, frame)).collect(),
        ttl,
        late: Late::Drop,
        output: (0..3).map(OverColumn::Input).chain((0..3).map(OverColumn::Call)).collect(),
        schema: Arc::new(Schema::new(fields)),
    }
}

fn naive(frame: Frame, rows: &[Row]) -> Vec<String> {
    // Rows of one time keep the order in which they came.
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.2);
    let result = |(at, row): (usize, &Row)| {
        let before: Vec<&Row> = rows[..=at].iter().filter(|other| other.0 == row.0).collect();
        let all: Vec<&Row> = rows.iter().filter(|other| other.0 == row.0).collect();
        let values: Vec<i64> = match frame {
            Frame::Rows(None) => before.iter().map(|other| other.1).collect(),
            Frame::Rows(Some(n)) => before.iter().rev().take(n as usize + 1).map(|other| other.1).collect(),
            Frame::Range(preceding) => {
                let from = preceding.map_or(i64::MIN, |preceding| row.2 - preceding);
                all.iter().filter(|other| (from..=row.2).contains(&other.2)).map(|other| other.1).collect()
            }
        };
        let key = row.0.map(|key| format!("\"k\":{key},")).unwrap_or_default();
        let time = format!("1970-01-01T00:00:00.{:06}", row.2).replace(".000000", "");
        let (sum, count, max) = (values.iter().sum::<i64>(), values.len(), values.iter().max().unwrap());
        format!("{{{key}\"v\":{},\"t\":\"{time}\",\"sum\":{sum},\"count\":{count},\"max\":{max}}}", row.1)
    };
    let mut lines: Vec<String> = rows.iter().enumerate().map(result).collect();
    lines.sort();
    lines
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Row>),
    Watermark(i64),
    Restore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (prop::option::weighted(0.9, 0_i64..3), -4_i64..6, 0_i64..10);
    let rows = prop::collection::vec(row, 1..6).prop_map(Step::Rows);
    let step = prop_oneof![5 => rows, 3 => (1_i64..9).prop_map(Step::Watermark), 1 => Just(Step::Restore)];
    prop::collection::vec(step, 0..30).prop_map(|mut steps| {
        let mut watermark = 0;
        for step in &mut steps {
            match step {
                Step::Watermark(by) => {
                    watermark += *by;
                    *by = watermark;
                }
                Step::Rows(rows) => rows.iter_mut().for_each(|row| row.2 += watermark),
                Step::Restore => {}
            }
        }
        steps
    })
}

fn frames() -> impl Strategy<Value = Frame> {
    prop::sample::select(vec![
        Frame::Rows(None),
        Frame::Rows(Some(0)),
        Frame::Rows(Some(2)),
        Frame::Range(None),
        Frame::Range(Some(0)),
        Frame::Range(Some(3)),
        Frame::Range(Some(20)),
    ])
}

proptest! {
    #[test]
    fn results_equal_those_over_all_rows(steps in steps(), frame in frames(), split in any::<bool>()) {
        let blueprint = blueprint(frame, Some(604_800_000_000));
        let mut harness = Harness::new(&blueprint, &[0]);
        let (mut all, mut ordinal) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Rows(rows) => {
                    all.extend(rows.iter().copied());
                    let rows: Vec<_> = rows.into_iter().map(|row| (row, RowKind::Insert)).collect();
                    for rows in rows.chunks(if split { 1 } else { rows.len() }) {
                        harness.push(0, Message::Batch(batch("t", ordinal, rows)));
                        ordinal += rows.len();
                    }
                }
                Step::Watermark(watermark) => harness.watermark(watermark),
                Step::Restore => harness.restore(),
            }
        }
        harness.watermark(1_000_000);
        prop_assert_eq!(harness.table(), naive(frame, &all));
        let times: Vec<&str> = harness.said.log.iter().map(|line| line.split("\"t\":\"").nth(1).unwrap().split('"').next().unwrap()).collect();
        prop_assert!(times.is_sorted_by_key(|time| time.split_once('.').map_or(0, |(_, fraction)| fraction.parse().unwrap_or(0))));
    }
}

fn insert(harness: &mut Harness<'_>, ordinal: usize, rows: &[Row]) {
    let rows: Vec<_> = rows.iter().map(|row| (*row, RowKind::Insert)).collect();
    harness.push(0, Message::Batch(batch("t", ordinal, &rows)));
}

#[test]
fn late_rows_are_dropped_and_counted() {
    let blueprint = blueprint(Frame::Range(Some(5)), None);
    let mut harness = Harness::new(&blueprint, &[0]);
    harness.watermark(10);
    insert(&mut harness, 0, &[(Some(1), 1, 9), (Some(1), 1, 10)]);
    harness.watermark(10);
    assert_eq!((harness.said.filtered, harness.said.log.len()), (1, 0), "another of this time may still come");
    harness.watermark(11);
    assert_eq!(harness.said.log.len(), 1);
}

#[test]
fn keys_are_forgotten_when_no_frame_reaches_them() {
    for (frame, ttl, last) in
        [(Frame::Range(Some(100)), None, 100), (Frame::Rows(Some(3)), Some(200), 200), (Frame::Range(None), Some(50), 50)]
    {
        let blueprint = blueprint(frame, ttl);
        let mut harness = Harness::new(&blueprint, &[0]);
        insert(&mut harness, 0, &[(Some(1), 1, 1000)]);
        harness.watermark(1001);
        harness.restore();
        harness.watermark(1000 + last);
        assert!(harness.state_rows() > 0);
        harness.watermark(1000 + last + last / 32 + 1);
        assert_eq!(harness.state_rows(), 0);
        insert(&mut harness, 1, &[(Some(1), 7, 2000)]);
        harness.watermark(2001);
        assert!(harness.said.log[1].contains("\"sum\":7"), "{:?}", harness.said.log);
    }
}

#[test]
fn memory_does_not_grow_with_rows_and_keys_that_are_over() {
    let blueprint = blueprint(Frame::Range(Some(100)), None);
    let mut harness = Harness::new(&blueprint, &[0]);
    let mut most = [0, 0];
    for round in 0..80_i64 {
        let rows: Vec<Row> = (0..1000).map(|n| (Some(round * 500 + n), n, round * 50)).collect();
        insert(&mut harness, round as usize * 1000, &rows);
        harness.watermark(round * 50);
        let half = &mut most[usize::from(round >= 40)];
        *half = harness.state_bytes().max(*half);
    }
    assert!(most[1] <= most[0] * 3 / 2, "{most:?}");
}
