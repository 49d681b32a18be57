//! Windows and revised aggregates against a naive computation over all rows: random times, disorder within the bound, batches and restores anywhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use millrace_crds::pipeline::Step;
use proptest::prelude::*;

use crate::batch::{Batch, Origin};
use crate::operators::Message;
use crate::plan::{InputChangelog, InputTable, Plan, Policy, compile};

const DELAY: i64 = 5;

#[derive(Clone, Copy, Debug)]
struct Row {
    time: i64,
    key: Option<i64>,
    value: Option<i64>,
}

/// Rows of which none is more than [`DELAY`] older than one before it.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0_i64..4, 0..=DELAY, prop::option::weighted(0.9, 0_i64..3), prop::option::weighted(0.9, -5_i64..5));
    prop::collection::vec(row, 1..60).prop_map(|rows| {
        let mut latest = 0;
        let row = |(step, behind, key, value)| {
            latest += step;
            Row { time: latest - behind, key, value }
        };
        rows.into_iter().map(row).collect()
    })
}

/// The plan of a step over `t`; each is compiled once.
fn plan(sql: &str) -> Plan {
    plan_within(sql, 0)
}

/// The same with windows that take rows for so many seconds after they have ended.
fn plan_within(sql: &str, lateness: i64) -> Plan {
    static PLANS: Mutex<BTreeMap<(String, i64), Plan>> = Mutex::new(BTreeMap::new());
    PLANS.lock().unwrap().entry((sql.to_owned(), lateness)).or_insert_with(|| compiled(sql, lateness)).clone()
}

fn compiled(sql: &str, lateness: i64) -> Plan {
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]));
    let steps = [Step { name: "s".to_owned(), sql: sql.to_owned() }];
    let allowed_lateness = Duration::from_secs(lateness.unsigned_abs());
    let policy = Policy { state_ttl: Some(Duration::from_secs(1_000_000)), allowed_lateness, ..Policy::default() };
    let input = InputTable { name: "t".to_owned(), schema, event_time: Some("ts".to_owned()), changelog: InputChangelog::Append };
    compile(&steps, &[input], &[("out".to_owned(), "s".to_owned())], &policy).unwrap()
}

type Lines = Vec<Vec<Option<i64>>>;

/// What comes out, as numbers; rows that are taken back are taken away. Times are in seconds.
fn run(plan: &Plan, rows: &[Row], cuts: &[usize], restore: bool) -> Lines {
    run_behind(plan, rows, cuts, restore, DELAY)
}

/// The same with watermarks so many seconds behind the latest row.
fn run_behind(plan: &Plan, rows: &[Row], cuts: &[usize], restore: bool, delay: i64) -> Lines {
    let mut executor = plan.executor(&["t"]);
    let mut lines = Lines::new();
    let mut emit = |_: usize, message: Message| {
        if let Message::Batch(batch) = message {
            let columns: Vec<ArrayRef> = batch.records.columns().iter().map(seconds).collect();
            for row in 0..batch.num_rows() {
                let value = |column: &ArrayRef| column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row));
                let line: Vec<Option<i64>> = columns.iter().map(value).collect();
                if batch.kind(row).is_addition() {
                    lines.push(line);
                } else {
                    let known = lines.iter().position(|known| *known == line).expect("what is taken back was there");
                    lines.remove(known);
                }
            }
        }
    };
    let (mut start, mut latest) = (0, i64::MIN);
    for end in cuts.iter().copied().chain([rows.len()]) {
        let part = &rows[start..end];
        executor.push(0, Message::Batch(batch(plan, part, start)), &mut emit).unwrap();
        latest = part.iter().map(|row| row.time).fold(latest, i64::max);
        let watermark = Message::Watermark(latest.saturating_sub(delay).saturating_mul(1_000_000));
        executor.push(0, watermark.clone(), &mut emit).unwrap();
        if restore {
            let snapshot = executor.snapshot().unwrap().finish().unwrap();
            executor = plan.executor(&["t"]);
            executor.restore(snapshot).unwrap();
            executor.push(0, watermark, &mut emit).unwrap();
        }
        start = end;
    }
    executor.push(0, Message::Watermark(i64::MAX), &mut emit).unwrap();
    let counters = executor.counters();
    let mut others = counters.operators.iter().filter(|operator| !operator.operator.contains("/filter/"));
    assert!(others.all(|operator| operator.rows_filtered + operator.rows_rejected == 0), "rows are late: {counters:?}");
    lines
}

fn seconds(column: &ArrayRef) -> ArrayRef {
    if let DataType::Timestamp(..) = column.data_type() {
        let micros = cast(&cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap(), &DataType::Int64).unwrap();
        return Arc::new(micros.as_primitive::<Int64Type>().unary::<_, Int64Type>(|micros| micros / 1_000_000));
    }
    cast(column, &DataType::Int64).unwrap()
}

fn batch(plan: &Plan, rows: &[Row], start: usize) -> Batch {
    let columns = plan.projection("t").into_iter().map(|name| {
        let values: ArrayRef = match name.as_str() {
            "ts" => Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time * 1_000_000))),
            "k" => Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
            _ => Arc::new(rows.iter().map(|row| row.value).collect::<Int64Array>()),
        };
        (name, values, true)
    });
    let records = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let ordinals: UInt64Array = (start as u64..(start + rows.len()) as u64).collect::<Vec<_>>().into();
    Batch::new(records, Origin::new("t", "t"), ordinals)
}

/// Start, end, key, rows, sum, smallest value, of each window and key.
fn aggregated<'a>(rows: impl Iterator<Item = (i64, i64, &'a Row)>) -> Lines {
    let mut groups: BTreeMap<(i64, i64, Option<i64>), Vec<Option<i64>>> = BTreeMap::new();
    for (start, end, row) in rows {
        groups.entry((end, start, row.key)).or_default().push(row.value);
    }
    let line = |((end, start, key), values): ((i64, i64, Option<i64>), Vec<Option<i64>>)| {
        let known: Vec<i64> = values.iter().flatten().copied().collect();
        let sum = (!known.is_empty()).then(|| known.iter().sum());
        vec![Some(start), Some(end), key, Some(values.len() as i64), sum, known.iter().min().copied()]
    };
    groups.into_iter().map(line).collect()
}

fn sorted(mut lines: Lines) -> Lines {
    lines.sort();
    lines
}

fn sessions(rows: &[Row], gap: i64) -> Lines {
    let mut by_key: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_key.entry(row.key).or_default().push(*row));
    let mut windowed = Vec::new();
    for rows in by_key.values_mut() {
        rows.sort_by_key(|row| row.time);
        for session in rows.chunk_by(|one, next| next.time - one.time <= gap) {
            let (start, end) = (session[0].time, session[session.len() - 1].time + gap);
            windowed.extend(session.iter().map(|row| (start, end, *row)));
        }
    }
    aggregated(windowed.iter().map(|(start, end, row)| (*start, *end, row)))
}

fn select(relation: &str) -> String {
    format!(
        "SELECT window_start, window_end, k, count(*) AS n, sum(v) AS total, min(v) AS lo FROM {relation} GROUP BY window_start, window_end, k"
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn windows_hold_the_rows_of_their_time(rows in rows(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6), restore: bool) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).filter(|cut| *cut > 0).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let windows = |step: i64, count: i64| {
            move |row: &Row| (0..count).map(move |window| row.time.div_euclid(step) * step + step * (window + 1)).collect::<Vec<i64>>()
        };
        let of = |ends: &dyn Fn(&Row) -> Vec<i64>, start: &dyn Fn(i64) -> i64| {
            let all: Vec<(i64, i64, Row)> =
                rows.iter().flat_map(|row| ends(row).into_iter().map(|end| (start(end), end, *row)).collect::<Vec<_>>()).collect();
            sorted(aggregated(all.iter().map(|(start, end, row)| (*start, *end, row))))
        };
        let base = |end: i64| (end - 1).div_euclid(6) * 6;
        let cases = [
            ("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '7' SECOND)", of(&windows(7, 1), &|end| end - 7)),
            ("HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)", of(&windows(2, 3), &|end| end - 6)),
            (
                "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)",
                of(&|row| windows(2, 3)(row).into_iter().filter(|end| base(*end) == base(row.time + 1)).collect(), &base),
            ),
            ("SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '2' SECOND)", sorted(sessions(&rows, 2))),
        ];
        for (relation, expected) in cases {
            let plan = plan(&select(relation));
            let whole = run(&plan, &rows, &[], false);
            prop_assert_eq!(&sorted(whole.clone()), &expected, "{}", relation);
            let split = run(&plan, &rows, &cuts, restore);
            prop_assert_eq!(&sorted(split.clone()), &expected, "{}", relation);
            // In the order of their ends, and of keys as they came: the same for the same rows.
            prop_assert!(split.iter().map(|line| line[1]).is_sorted(), "{}", relation);
            if !relation.starts_with("SESSION") {
                // Rows that come after their windows have ended change what these have given.
                let late = run_behind(&plan_within(&select(relation), DELAY), &rows, &cuts, restore, 0);
                prop_assert_eq!(sorted(late), expected, "{} with late rows", relation);
            }
        }
        // Rows that have their windows already.
        let attached_sql =
            "SELECT s, e, k, count(*) AS n, sum(v) AS total, min(v) AS lo FROM (SELECT window_start AS s, window_end AS e, k, v, window_end > ts AS x \
             FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)) AS q WHERE x GROUP BY s, e, k";
        let expected = of(&windows(2, 3), &|end| end - 6);
        prop_assert_eq!(sorted(run(&plan(attached_sql), &rows, &cuts, restore)), expected.clone());
        prop_assert_eq!(sorted(run_behind(&plan_within(attached_sql, DELAY), &rows, &cuts, restore, 0)), expected);
    }

    #[test]
    fn revised_rows_add_up_to_the_aggregate(rows in rows(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), restore: bool) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).filter(|cut| *cut > 0).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut keys: BTreeMap<Option<i64>, Vec<i64>> = BTreeMap::new();
        let mut counts: BTreeMap<Option<i64>, i64> = BTreeMap::new();
        for row in &rows {
            keys.entry(row.key).or_default().extend(row.value);
            *counts.entry(row.key).or_default() += 1;
        }
        let sum = |values: &[i64]| (!values.is_empty()).then(|| values.iter().sum::<i64>());
        let once = plan("SELECT k, count(*) AS n, sum(v) AS total, max(v) AS hi, count(DISTINCT v) AS d FROM t GROUP BY k HAVING count(*) <> 2");
        let distinct = |values: &[i64]| values.iter().collect::<std::collections::BTreeSet<_>>().len() as i64;
        let expected: Lines = keys
            .iter()
            .filter(|(key, _)| counts[*key] != 2)
            .map(|(key, values)| vec![*key, Some(counts[key]), sum(values), values.iter().max().copied(), Some(distinct(values))])
            .collect();
        prop_assert_eq!(sorted(run(&once, &rows, &cuts, restore)), sorted(expected));
        // Aggregates over the sums: what was counted is taken back.
        let twice = plan(
            "SELECT n, count(*) AS c, min(total) AS lo, max(total) AS hi, sum(total) AS s, count(DISTINCT total) AS d \
             FROM (SELECT k, count(*) AS n, sum(v) AS total FROM t GROUP BY k) AS q GROUP BY n",
        );
        let mut by_count: BTreeMap<i64, Vec<Option<i64>>> = BTreeMap::new();
        keys.iter().for_each(|(key, values)| by_count.entry(counts[key]).or_default().push(sum(values)));
        let expected: Lines = by_count
            .iter()
            .map(|(n, totals)| {
                let known: Vec<i64> = totals.iter().flatten().copied().collect();
                vec![
                    Some(*n),
                    Some(totals.len() as i64),
                    known.iter().min().copied(),
                    known.iter().max().copied(),
                    sum(&known),
                    Some(distinct(&known)),
                ]
            })
            .collect();
        prop_assert_eq!(sorted(run(&twice, &rows, &cuts, restore)), sorted(expected));
    }
}
