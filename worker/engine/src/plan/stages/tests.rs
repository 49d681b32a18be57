//! Which plans can be shared and by what, and that a shared plan gives what the whole one gives, wherever it is stopped and with however many backs it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::LineDelimitedWriter;
use millrace_crds::pipeline::Step;
use proptest::prelude::*;

use super::{Exchange, names, partition_rows};
use crate::batch::{Batch, Origin};
use crate::operators::{Executor, KEY_GROUPS, Message, Snapshot};
use crate::plan::{Changelog, InputChangelog, InputTable, Late, Plan, Policy, compile};
use crate::row_kind::{RowKind, RowKinds};

pub(crate) const INPUTS: [&str; 2] = ["a", "b"];
const TUMBLE: &str = "TUMBLE(TABLE a, DESCRIPTOR(time), INTERVAL '10' SECOND)";

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("l", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

/// Outputs are `name=step`, or the name of the step.
pub(crate) fn plan(steps: &[(&str, &str)], outputs: &[&str]) -> Plan {
    let steps: Vec<Step> = steps.iter().map(|(name, sql)| Step { name: (*name).to_owned(), sql: sql.replace("$TUMBLE", TUMBLE) }).collect();
    let input = |name: &str| InputTable {
        name: name.to_owned(),
        schema: schema(),
        event_time: Some("time".to_owned()),
        changelog: InputChangelog::Append,
    };
    let inputs = INPUTS.map(input);
    let outputs: Vec<_> = outputs.iter().map(|output| output.split_once('=').unwrap_or((output, output))).collect();
    let outputs: Vec<_> = outputs.into_iter().map(|(name, from)| (name.to_owned(), from.to_owned())).collect();
    let policy = Policy { state_ttl: Some(Duration::from_secs(1_000_000)), ..Policy::default() };
    compile(&steps, &inputs, &outputs, &policy).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Channels as `name ← inputs by key`, or the reason.
fn cut(plan: &Plan) -> Result<Vec<String>, String> {
    let exchange = plan.exchange()?;
    let channel =
        |channel: &super::Channel| format!("{} ← {} by {}", channel.name, channel.inputs.join(", "), names(&channel.schema, &channel.key));
    Ok(exchange.channels().iter().map(channel).collect())
}

/// Plans that can be shared: what it is, steps, outputs, channels.
pub(crate) type Case = (&'static str, Vec<(&'static str, &'static str)>, Vec<&'static str>, Vec<&'static str>);

pub(crate) fn shared() -> Vec<Case> {
    vec![
        (
            "a window aggregate",
            vec![("s", "SELECT k, l, count(*) AS n, sum(v) AS v FROM $TUMBLE GROUP BY window_start, window_end, k, l")],
            vec!["s"],
            vec!["s.window_aggregate.0.0 ← a by k, l"],
        ),
        (
            "windows that overlap",
            vec![(
                "s",
                "SELECT k, count(*) AS n, sum(v) AS v, min(l) AS l, avg(v) AS a, max(v) FILTER (WHERE v > 1) AS m, window_end \
                 FROM HOP(TABLE a, DESCRIPTOR(time), INTERVAL '2' SECOND, INTERVAL '6' SECOND) GROUP BY window_start, window_end, k",
            )],
            vec!["s"],
            vec!["s.window_aggregate.0.0 ← a by k"],
        ),
        (
            "windows that grow",
            vec![(
                "s",
                "SELECT l, count(l) AS n, bit_xor(v) AS v, bool_or(k > 2) AS b, window_start, window_end \
                 FROM CUMULATE(TABLE a, DESCRIPTOR(time), INTERVAL '2' SECOND, INTERVAL '6' SECOND) GROUP BY window_start, window_end, l",
            )],
            vec!["s"],
            vec!["s.window_aggregate.0.0 ← a by l"],
        ),
        (
            "rows that have their windows",
            vec![
                ("w", "SELECT * FROM HOP(TABLE a, DESCRIPTOR(time), INTERVAL '2' SECOND, INTERVAL '6' SECOND)"),
                ("s", "SELECT k, count(*) AS n, sum(v) AS v, window_start FROM w GROUP BY window_start, window_end, k"),
            ],
            vec!["s", "w"],
            vec!["s.window_aggregate.0.0 ← a by k"],
        ),
        (
            "a computed key",
            vec![("s", "SELECT k + 1 AS m, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end, k + 1")],
            vec!["s"],
            vec!["s.window_aggregate.0.0 ← a by a.k + Int64(1)"],
        ),
        (
            "a session",
            vec![(
                "s",
                "SELECT k, count(*) AS n FROM SESSION(TABLE a PARTITION BY k, DESCRIPTOR(time), INTERVAL '3' SECOND) GROUP BY window_start, window_end, k",
            )],
            vec!["s"],
            vec!["s.session_aggregate.0.0 ← a by k"],
        ),
        (
            "a GROUP BY",
            vec![("s", "SELECT l, count(*) AS n, max(v) AS v FROM a WHERE v > 0 GROUP BY l")],
            vec!["s"],
            vec!["s.aggregate.0.0 ← a by l"],
        ),
        (
            "a regular join",
            vec![("s", "SELECT a.k, a.v, b.v AS w FROM a LEFT JOIN b ON a.k = b.k AND a.l = b.l")],
            vec!["s"],
            vec!["s.join.0.0 ← a by k, l", "s.join.0.1 ← b by k, l"],
        ),
        (
            "an interval join",
            vec![(
                "s",
                "SELECT a.k, a.v, b.v AS w FROM a FULL JOIN b ON a.k = b.k AND a.time BETWEEN b.time - INTERVAL '5' SECOND AND b.time + INTERVAL '2' SECOND",
            )],
            vec!["s"],
            vec!["s.join.0.0 ← a by k", "s.join.0.1 ← b by k"],
        ),
        (
            "a join with itself, whose sides are one channel",
            vec![("s", "SELECT x.k, x.v, y.v AS w FROM a AS x JOIN a AS y ON x.k = y.k")],
            vec!["s"],
            vec!["s.join.0.0 ← a by k"],
        ),
        (
            "a join with itself by other columns, whose sides are two",
            vec![("s", "SELECT x.k, y.l FROM a AS x JOIN a AS y ON x.k = y.v")],
            vec!["s"],
            vec!["s.join.0.0 ← a by k", "s.join.0.1 ← a by v"],
        ),
        (
            "a window join of aggregates, whose columns come in another order",
            vec![
                ("x", "SELECT window_start, window_end, k, l, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end, l, k"),
                (
                    "y",
                    "SELECT window_start, window_end, k, l, max(v) AS v FROM TUMBLE(TABLE b, DESCRIPTOR(time), INTERVAL '10' SECOND) \
                     GROUP BY window_start, window_end, k, l",
                ),
                (
                    "s",
                    "SELECT x.k, x.l, n, v FROM x JOIN y ON x.window_start = y.window_start AND x.window_end = y.window_end AND x.k = y.k AND x.l = y.l",
                ),
            ],
            vec!["s"],
            vec!["x.window_aggregate.0.0 ← a by k, l", "y.window_aggregate.0.0 ← b by k, l"],
        ),
        (
            "deduplication",
            vec![("s", "SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY time) AS r FROM a) WHERE r = 1")],
            vec!["s"],
            vec!["s.rank.0.0 ← a by k"],
        ),
        (
            "a top-N",
            vec![(
                "s",
                "SELECT k, l, v, r FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC, l) AS r FROM a) WHERE r <= 2",
            )],
            vec!["s"],
            vec!["s.rank.0.0 ← a by k"],
        ),
        (
            "OVER",
            vec![(
                "s",
                "SELECT k, v, sum(v) OVER (PARTITION BY k ORDER BY time ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s FROM a WHERE time IS NOT NULL",
            )],
            vec!["s"],
            vec!["s.over.0.0 ← a by k"],
        ),
        (
            "UNION ALL before a key",
            vec![
                ("both", "SELECT k, v, time FROM a UNION ALL SELECT v, k, time FROM b WHERE k > 1"),
                ("s", "SELECT k, count(*) AS n FROM both GROUP BY k"),
            ],
            vec!["s", "both"],
            vec!["s.aggregate.0.0 ← a, b by k"],
        ),
        (
            "UNION ALL of what is kept and what is not",
            vec![
                ("sums", "SELECT k, sum(v) AS v FROM $TUMBLE GROUP BY window_start, window_end, k"),
                ("s", "SELECT k, v FROM sums UNION ALL SELECT k, v FROM b"),
            ],
            vec!["s"],
            vec!["sums.window_aggregate.0.0 ← a by k", "s.union.0.1 ← b by "],
        ),
        (
            "several outputs, by other keys, and some that bypass the exchange",
            vec![
                ("big", "SELECT k, l, v, time FROM a WHERE v > 1"),
                ("x", "SELECT k, count(*) AS n FROM big GROUP BY k"),
                ("y", "SELECT l, count(*) AS n FROM big GROUP BY l"),
                ("z", "SELECT l, max(v) AS n FROM big GROUP BY l"),
            ],
            vec!["x", "raw=a", "y", "big", "z", "other=b"],
            vec!["x.aggregate.0.0 ← a by k", "y.aggregate.0.0 ← a by l"],
        ),
        (
            "windows in windows, keyed by more",
            vec![
                ("x", "SELECT window_time AS t, k, l, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end, window_time, k, l"),
                (
                    "s",
                    "SELECT k, l, n, count(*) AS m FROM TUMBLE(TABLE x, DESCRIPTOR(t), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, n, l, k",
                ),
            ],
            vec!["s"],
            vec!["x.window_aggregate.0.0 ← a by k, l"],
        ),
        (
            "windows in windows, keyed by less: by what both have",
            vec![("x", "SELECT k, l, count(*) AS n FROM a GROUP BY k, l"), ("s", "SELECT l, sum(n) AS n, count(*) AS m FROM x GROUP BY l")],
            vec!["s", "x"],
            vec!["x.aggregate.0.0 ← a by l"],
        ),
        (
            "a top-N of windows",
            vec![
                ("x", "SELECT window_start, window_end, k, l, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end, k, l"),
                (
                    "s",
                    "SELECT k, l, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY n DESC, l) AS r FROM x) WHERE r <= 1",
                ),
            ],
            vec!["s"],
            vec!["x.window_aggregate.0.0 ← a by k"],
        ),
        (
            "a join on a key that the left side has, also if the right side is padded",
            vec![("x", "SELECT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k"), ("s", "SELECT k, count(v) AS n FROM x GROUP BY k")],
            vec!["s"],
            vec!["x.join.0.0 ← a by k", "x.join.0.1 ← b by k"],
        ),
    ]
}

#[test]
fn plans_are_cut_before_what_keeps_state() {
    for (what, steps, outputs, channels) in shared() {
        assert_eq!(cut(&plan(&steps, &outputs)).unwrap(), channels, "{what}");
    }
}

#[test]
fn plans_that_cannot_be_shared_say_why() {
    let refused: [(&[(&str, &str)], &str); 9] = [
        (&[("s", "SELECT k FROM a")], "no operator keeps state"),
        (&[("s", "SELECT count(*) AS n FROM a")], "operator s/aggregate/0 has to see all rows"),
        (&[("s", "SELECT window_end, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end")], "(a window alone is none)"),
        (
            &[("s", "SELECT sum(v) OVER (ORDER BY time ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS n FROM a")],
            "operator s/over/0 has to see all rows",
        ),
        (
            &[("x", "SELECT k, count(*) AS n FROM a GROUP BY k"), ("s", "SELECT n, count(*) AS m FROM x GROUP BY n")],
            "operator s/aggregate/0 brings rows together by count(*), which says nothing of where they are after operator x/aggregate/0 by k: they would have to be \
             exchanged a second time",
        ),
        (
            &[("x", "SELECT k, count(*) AS n FROM a GROUP BY k"), ("s", "SELECT k + 1 AS m, count(*) AS n FROM x GROUP BY k + 1")],
            "operator s/aggregate/0 brings rows together by x.k + Int64(1), which says nothing",
        ),
        (
            &[
                ("x", "SELECT k, l, count(*) AS n FROM a GROUP BY k, l"),
                ("y", "SELECT k, count(*) AS n FROM x GROUP BY k"),
                ("z", "SELECT l, count(*) AS n FROM x GROUP BY l"),
                ("s", "SELECT k FROM y UNION ALL SELECT n FROM z"),
            ],
            "and these have no column in common",
        ),
        (
            &[
                ("t", "SELECT k, PROCTIME() AS now FROM a"),
                (
                    "s",
                    "SELECT k, count(*) AS n FROM TUMBLE(TABLE t, DESCRIPTOR(now), INTERVAL '10' SECOND) GROUP BY window_start, window_end, k",
                ),
            ],
            "it goes by processing time",
        ),
        // Padded rows are where their left row was.
        (
            &[("x", "SELECT b.k, a.v FROM a LEFT JOIN b ON a.k = b.k"), ("s", "SELECT k, count(v) AS n FROM x GROUP BY k")],
            "operator s/aggregate/0 brings rows together by k, which says nothing",
        ),
    ];
    for (steps, reason) in refused {
        let refusal = cut(&plan(steps, &["s"])).unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
    }
}

/// What goes through each channel in partial aggregates, or why not.
fn parted(plan: &Plan) -> Vec<Result<String, String>> {
    let exchange = plan.exchange().unwrap().condensed();
    (0..exchange.channels().len()).map(|channel| exchange.partial(channel)).collect()
}

#[test]
fn aggregates_begin_in_front_of_the_exchange_where_that_changes_no_result() {
    let yes = |sql: &str| {
        let found = parted(&plan(&[("s", sql)], &["s"]));
        assert!(found.iter().all(Result::is_ok), "{sql}: {found:?}");
    };
    let no = |steps: &[(&str, &str)], outputs: &[&str], why: &str| {
        let found = parted(&plan(steps, outputs));
        assert!(found.iter().all(|partial| partial.as_ref().is_err_and(|found| found.contains(why))), "{steps:?}: {found:?}");
    };
    for windows in [
        "$TUMBLE",
        "HOP(TABLE a, DESCRIPTOR(time), INTERVAL '2' SECOND, INTERVAL '6' SECOND)",
        "CUMULATE(TABLE a, DESCRIPTOR(time), INTERVAL '2' SECOND, INTERVAL '6' SECOND)",
    ] {
        yes(&format!(
            "SELECT k, count(*) AS n, sum(v) AS s, avg(v) AS a, min(l) AS x, max(v) FILTER (WHERE v > 1) AS m, stddev(v) AS d, bool_or(v > 2) AS b \
             FROM {windows} GROUP BY window_start, window_end, k"
        ));
    }
    yes("SELECT l, count(*) AS n, max(v) AS v, stddev(v) AS d FROM a WHERE v > 0 GROUP BY l, k");
    yes("SELECT DISTINCT k, l FROM a");
    let windowed = "SELECT k, $ AS x FROM $TUMBLE GROUP BY window_start, window_end, k";
    for call in ["count(DISTINCT v)", "array_agg(v)", "first_value(v ORDER BY v)", "string_agg(l, ',')", "median(v)", "approx_distinct(v)"]
    {
        no(&[("s", &windowed.replacen('$', call, 1))], &["s"], "needs every row");
    }
    let session = "SELECT k, count(*) AS n FROM SESSION(TABLE a PARTITION BY k, DESCRIPTOR(time), INTERVAL '3' SECOND) GROUP BY window_start, window_end, k";
    no(&[("s", session)], &["s"], "no aggregate of windows or keys");
    no(&[("s", "SELECT x.k, y.v FROM a AS x JOIN a AS y ON x.k = y.k")], &["s"], "several operators");
    no(&[("s", "SELECT x.k, y.v FROM a AS x JOIN b AS y ON x.k = y.k")], &["s"], "no aggregate");
    let (x, z) = ("SELECT k, count(*) AS n FROM a GROUP BY k", "SELECT k, max(v) AS n FROM a GROUP BY k");
    no(&[("x", x), ("z", z)], &["x", "z"], "several operators");
}

/// Columns of each channel, of those that its upstream has.
fn columns(plan: &Plan) -> Vec<String> {
    let exchange = plan.exchange().unwrap().condensed();
    let columns = |channel: &super::Channel| {
        let all: Vec<usize> = (0..channel.schema.fields().len()).collect();
        format!("{} by {}", names(&channel.schema, &all), names(&channel.schema, &channel.key))
    };
    exchange.channels().iter().map(columns).collect()
}

#[test]
fn what_is_not_read_behind_does_not_go_through() {
    // Outputs of all columns, so that all are there.
    let found = |steps: &[(&str, &str)]| columns(&plan(steps, &["s", "raw=a", "other=b"]));
    let join = "SELECT y.v FROM a AS x JOIN b AS y ON x.l = y.l AND x.time BETWEEN y.time AND y.time + INTERVAL '2' SECOND";
    assert_eq!(found(&[("s", join)]), ["l, time by l", "l, v, time by l"]);
    assert_eq!(found(&[("s", "SELECT y.v FROM a AS x JOIN a AS y ON x.l = y.l")]), ["l, v by l"]);
    let rank = "SELECT v FROM (SELECT v, ROW_NUMBER() OVER (PARTITION BY k ORDER BY time) AS r FROM a) WHERE r = 1";
    assert_eq!(found(&[("s", rank)]), ["k, v, time by k"]);
    let over = "SELECT l, count(*) OVER (PARTITION BY l ORDER BY time ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS n FROM a";
    assert_eq!(found(&[("s", over)]), ["l, time by l"]);
    let session = "SELECT l, count(*) AS n FROM SESSION(TABLE a PARTITION BY l, DESCRIPTOR(time), INTERVAL '3' SECOND) GROUP BY window_start, window_end, l";
    assert_eq!(found(&[("s", session)]), ["l, time by l"]);
    let every = "SELECT v, array_agg(k) FILTER (WHERE k > 1) AS x FROM $TUMBLE GROUP BY window_start, window_end, v";
    assert_eq!(found(&[("s", every)]).len(), 1);
    assert!(!found(&[("s", every)])[0].contains('l'), "{:?}", found(&[("s", every)]));
    assert_eq!(found(&[("s", "SELECT l, array_agg(k) AS x FROM a GROUP BY l")]), ["k, l by l"]);
    let (one, other) = ("SELECT k, max(v) AS x FROM a GROUP BY k", "SELECT k, count(l) AS x FROM a GROUP BY k");
    let both = plan(&[("s", one), ("t", other)], &["s", "t", "raw=a"]);
    assert_eq!(columns(&both), ["k, l, v by k"], "what any of them reads");
}

#[test]
fn late_rows_are_counted_one_by_one_though_they_come_together() {
    let plan = plan(&[("s", "SELECT k, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end, k")], &["s"]);
    let exchange = plan.exchange().unwrap().condensed();
    let (mut front, mut back) = (exchange.front(&["a"]), exchange.back());
    let mut epoch = |rows: &[Row], start: usize, mut time: i64| {
        let rows = batch(&plan, "a", rows, start, &mut time);
        let mut sent = Vec::new();
        for message in [Message::Batch(rows), Message::Watermark(time), Message::Barrier(1)] {
            front.push(0, message, &mut |_, message| sent.push(message)).unwrap();
        }
        let batches = sent.iter().filter_map(|message| if let Message::Batch(batch) = message { Some(batch.num_rows()) } else { None });
        let count = batches.sum::<usize>();
        sent.into_iter().for_each(|message| back.push(0, message, &mut |_, _| {}).unwrap());
        let filtered = back.counters().operators.iter().map(|operator| operator.rows_filtered).sum::<u64>();
        (count, filtered)
    };
    assert_eq!(epoch(&[(Some(1), 0, 1), (Some(1), 0, 30)], 0, 0), (2, 0));
    // Of one key and window, which has ended, and two that are in time.
    assert_eq!(epoch(&[(Some(1), 0, 1), (Some(1), 0, 1), (Some(1), 0, 1), (Some(2), 0, 35), (Some(2), 0, 0)], 2, 0), (2, 3));
}

#[test]
fn late_rows_that_are_dead_letters_go_through_as_they_are() {
    let steps = [Step { name: "s".into(), sql: format!("SELECT k, count(*) AS n FROM {TUMBLE} GROUP BY window_start, window_end, k") }];
    let input = |name: &str| InputTable {
        name: name.to_owned(),
        schema: schema(),
        event_time: Some("time".to_owned()),
        changelog: InputChangelog::Append,
    };
    let outputs = [("s".to_owned(), "s".to_owned()), ("raw".to_owned(), "a".to_owned())];
    for (late, parts) in [(Late::Drop, true), (Late::DeadLetter, false)] {
        let policy = Policy { late, ..Policy::default() };
        let plan = compile(&steps, &INPUTS.map(input), &outputs, &policy).unwrap();
        assert_eq!(parted(&plan)[0].is_ok(), parts);
        if !parts {
            assert_eq!(columns(&plan), ["k, l, v, time by k"], "a dead letter is the whole row");
        }
    }
}

#[test]
fn another_aggregate_makes_another_channel() {
    let columns = |sql: &str| plan(&[("s", sql)], &["s"]).exchange().unwrap().condensed().channels()[0].clone();
    let of = |call: &str, seconds: u32| {
        format!(
            "SELECT k, {call} AS x FROM TUMBLE(TABLE a, DESCRIPTOR(time), INTERVAL '{seconds}' SECOND) GROUP BY window_start, window_end, k, l"
        )
    };
    let channel = columns(&of("sum(v)", 10));
    assert_eq!(names(&channel.schema, &channel.key), "k, l");
    assert_eq!(channel, columns(&of("sum(v)", 10)));
    for other in [of("max(v)", 10), of("sum(v)", 20), of("sum(v) FILTER (WHERE v > 1)", 10)] {
        assert_ne!(columns(&other).schema, channel.schema, "{other}");
    }
}

#[test]
fn a_plan_says_where_it_is_cut() {
    let explained = plan(&[("s", "SELECT k, count(*) AS n FROM a GROUP BY k")], &["s"]).explain();
    assert!(explained.ends_with("exchange s.aggregate.0.0 ← a\n    by k\n"), "{explained}");
    let explained = plan(&[("s", "SELECT count(*) AS n FROM a")], &["s"]).explain();
    assert!(explained.contains("no exchange\n    operator s/aggregate/0 has to see all rows"), "{explained}");
}

#[test]
fn a_plan_keyed_by_what_its_source_is_partitioned_by_needs_no_exchange() {
    let by = |columns: &[(&str, &str)]| -> BTreeMap<String, Vec<String>> {
        columns.iter().map(|(input, columns)| ((*input).to_owned(), columns.split(' ').map(str::to_owned).collect())).collect()
    };
    let windows = plan(&[("s", "SELECT k AS key, l, count(*) AS n FROM $TUMBLE GROUP BY window_start, window_end, k, l")], &["s", "raw=b"]);
    assert_eq!(windows.is_partitioned_by(&by(&[("a", "k")])), Ok(()));
    assert_eq!(windows.is_partitioned_by(&by(&[("a", "l k")])), Ok(()));
    let says = |plan: &Plan, columns: &[(&str, &str)], reason: &str| {
        let refusal = plan.is_partitioned_by(&by(columns)).unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
    };
    says(&windows, &[("b", "k")], "the Source of input a does not say what it is partitionedBy");
    says(&windows, &[("a", "k v")], "does not hold the column v");
    let nested =
        plan(&[("x", "SELECT k, l, count(*) AS n FROM a GROUP BY k, l"), ("s", "SELECT l AS m, count(*) AS n FROM x GROUP BY l")], &["s"]);
    assert_eq!(nested.is_partitioned_by(&by(&[("a", "l")])), Ok(()));
    says(&nested, &[("a", "k")], "operator s/aggregate/0 brings rows together by l, which does not hold the column k");
    let join = plan(&[("s", "SELECT a.k FROM a JOIN b ON a.k = b.k")], &["s"]);
    says(&join, &[("a", "k"), ("b", "k")], "gets rows of the inputs a, b");
    let itself = plan(&[("s", "SELECT x.k FROM a AS x JOIN a AS y ON x.k = y.k")], &["s"]);
    assert_eq!(itself.is_partitioned_by(&by(&[("a", "k")])), Ok(()));
    let twisted = plan(&[("s", "SELECT x.k FROM a AS x JOIN a AS y ON x.k = y.v")], &["s"]);
    says(&twisted, &[("a", "k")], "does not hold the column k");
    let computed = plan(&[("s", "SELECT count(*) AS n FROM a GROUP BY k + 1")], &["s"]);
    says(&computed, &[("a", "k")], "does not hold the column k");
    let all = plan(&[("s", "SELECT count(*) AS n FROM a")], &["s"]);
    says(&all, &[("a", "k")], "nothing but the window");
}

/// A row of an input: key, value, seconds since the row before.
pub(crate) type Row = (Option<i64>, i64, i64);

pub(crate) fn batch(plan: &Plan, input: &str, rows: &[Row], start: usize, clock: &mut i64) -> Batch {
    let times: Vec<i64> = rows
        .iter()
        .map(|(_, _, seconds)| {
            *clock += seconds * 1_000_000;
            *clock
        })
        .collect();
    let columns = plan.projection(input).into_iter().map(|column| {
        let values: ArrayRef = match column.as_str() {
            "k" => Arc::new(rows.iter().map(|(k, _, _)| *k).collect::<Int64Array>()),
            "l" => Arc::new(rows.iter().map(|(k, v, _)| (*v != 3).then(|| format!("l{}", k.unwrap_or(7) + v))).collect::<StringArray>()),
            "v" => Arc::new(rows.iter().map(|(_, v, _)| Some(*v)).collect::<Int64Array>()),
            _ => Arc::new(TimestampMicrosecondArray::from(times.clone())),
        };
        let field = Field::new(&column, values.data_type().clone(), true);
        (field, values)
    });
    let (fields, values): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let records = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), values, &options).unwrap();
    Batch::new(records, Origin::new(input, input), UInt64Array::from_iter_values((start..start + rows.len()).map(|row| row as u64)))
}

/// A plan as it runs.
pub(crate) trait Runs {
    /// Pushes a message; puts what is known to come out of it into `out`.
    fn push(&mut self, input: usize, message: Message, out: &mut Vec<(usize, Message)>);
    /// Ends an epoch.
    fn end_epoch(&mut self, _out: &mut Vec<(usize, Message)>) {}
    /// Waits until everything has come out.
    fn settle(&mut self, _out: &mut Vec<(usize, Message)>) {}
    /// The state, after [`Runs::settle`].
    fn snapshot(&mut self) -> Snapshot;
}

impl Runs for Executor {
    fn push(&mut self, input: usize, message: Message, out: &mut Vec<(usize, Message)>) {
        self.push(input, message, &mut |output, message| out.push((output, message))).unwrap();
    }

    fn snapshot(&mut self) -> Snapshot {
        self.snapshot().unwrap().finish().unwrap()
    }
}

/// In front of and behind an exchange.
struct Shared {
    exchange: Exchange,
    outputs: usize,
    front: Executor,
    backs: Vec<Executor>,
}

impl Runs for Shared {
    fn push(&mut self, input: usize, message: Message, out: &mut Vec<(usize, Message)>) {
        let mut sent = Vec::new();
        Runs::push(&mut self.front, input, message, &mut sent);
        for (target, message) in sent {
            let Some(channel) = target.checked_sub(self.outputs) else {
                out.push((target, message));
                continue;
            };
            let key = &self.exchange.channels()[channel].key;
            match message {
                Message::Batch(batch) => {
                    for (back, part) in partition_rows(&batch, key, u16::try_from(self.backs.len()).unwrap()).unwrap() {
                        Runs::push(&mut self.backs[usize::from(back)], channel, Message::Batch(part), out);
                    }
                }
                Message::Barrier(_) => {}
                other => self.backs.iter_mut().for_each(|back| Runs::push(back, channel, other.clone(), out)),
            }
        }
    }

    fn end_epoch(&mut self, out: &mut Vec<(usize, Message)>) {
        (0..INPUTS.len()).for_each(|input| Runs::push(self, input, Message::Barrier(1), out));
        assert_eq!(self.front.state_bytes(), 0, "the front holds something");
    }

    fn snapshot(&mut self) -> Snapshot {
        assert!(self.front.snapshot().unwrap().0.is_empty(), "the front keeps nothing");
        Exchange::merge(self.backs.iter_mut().map(|back| back.snapshot().unwrap()).collect()).finish().unwrap()
    }
}

/// Whole if there are no `backs`.
fn open(plan: &Plan, backs: u16, state: &Snapshot) -> Box<dyn Runs> {
    if backs == 0 {
        let mut executor = plan.executor(&INPUTS);
        executor.restore(state.clone()).unwrap();
        return Box::new(executor);
    }
    shared_by(plan, plan.exchange().unwrap(), backs, state)
}

/// The same with partial aggregates.
fn open_with_partials(plan: &Plan, backs: u16, state: &Snapshot) -> Box<dyn Runs> {
    if backs == 0 { open(plan, 0, state) } else { shared_by(plan, plan.exchange().unwrap().condensed(), backs, state) }
}

fn shared_by(plan: &Plan, exchange: Exchange, backs: u16, state: &Snapshot) -> Box<dyn Runs> {
    let backs = exchange.split(state, backs).unwrap().into_iter().map(|part| {
        let mut back = exchange.back();
        back.restore(part).unwrap();
        back
    });
    Box::new(Shared { outputs: plan.outputs().len(), front: exchange.front(&INPUTS), backs: backs.collect(), exchange })
}

/// Batches with the input that they come from, and what runs the plan from then on: if that is another number than before, it is opened anew, with the state.
pub(crate) type Script = Vec<(usize, Vec<Row>, u16)>;

/// Rows of each output, each with how often it is there in the end. Time is told after each batch.
pub(crate) fn run(
    plan: &Plan,
    script: &Script,
    open: &mut dyn FnMut(&Plan, u16, &Snapshot) -> Box<dyn Runs>,
) -> Vec<BTreeMap<String, i64>> {
    run_in_epochs(plan, script, 1, open)
}

/// The same, with epochs of so many batches, at the ends of which time is told; and one whenever it goes on in another way.
fn run_in_epochs(
    plan: &Plan,
    script: &Script,
    batches: usize,
    open: &mut dyn FnMut(&Plan, u16, &Snapshot) -> Box<dyn Runs>,
) -> Vec<BTreeMap<String, i64>> {
    let mut runs = open(plan, script[0].2, &Snapshot::new());
    let mut out = Vec::new();
    let (mut clocks, mut starts) = ([0, 0], [0, 0]);
    let (mut watermarks, mut known): ([Option<i64>; 2], [Option<i64>; 2]) = ([None; 2], [None; 2]);
    for (step, (input, rows, how)) in script.iter().enumerate() {
        if step > 0 && *how != script[step - 1].2 {
            runs.end_epoch(&mut out);
            runs.settle(&mut out);
            runs = open(plan, *how, &runs.snapshot());
            let before = out.len();
            for (input, watermark) in watermarks.iter().enumerate() {
                if let Some(watermark) = watermark {
                    runs.push(input, Message::Watermark(*watermark), &mut out);
                }
            }
            runs.end_epoch(&mut out);
            runs.settle(&mut out);
            let batches = out[before..].iter().filter(|(_, message)| matches!(message, Message::Batch(_)));
            assert_eq!(batches.count(), 0, "what has come out comes out again");
        }
        let batch = batch(plan, INPUTS[*input], rows, starts[*input], &mut clocks[*input]);
        starts[*input] += rows.len();
        runs.push(*input, Message::Batch(batch), &mut out);
        known[*input] = known[*input].max(Some(clocks[*input] - 2_000_000));
        if (step + 1).is_multiple_of(batches) {
            for input in 0..2 {
                if let Some(time) = known[input].filter(|time| watermarks[input] != Some(*time)) {
                    runs.push(input, Message::Watermark(time), &mut out);
                }
            }
            watermarks = known;
            runs.end_epoch(&mut out);
        }
    }
    for message in [Message::Watermark(i64::MAX), Message::End] {
        (0..2).for_each(|input| runs.push(input, message.clone(), &mut out));
    }
    runs.settle(&mut out);
    tables(plan, &out)
}

fn tables(plan: &Plan, out: &[(usize, Message)]) -> Vec<BTreeMap<String, i64>> {
    let mut tables = vec![BTreeMap::new(); plan.outputs().len()];
    let mut coordinates = BTreeSet::new();
    for (output, message) in out {
        let Message::Batch(batch) = message else { continue };
        assert_eq!(batch.records.schema(), plan.outputs()[*output].schema);
        let mut text = Vec::new();
        let mut writer = LineDelimitedWriter::new(&mut text);
        writer.write(&batch.records).unwrap();
        writer.finish().unwrap();
        for (row, line) in String::from_utf8(text).unwrap().lines().enumerate() {
            let count = tables[*output].entry(line.to_owned()).or_insert(0);
            *count += if batch.kind(row).is_addition() { 1 } else { -1 };
            assert!(*count >= 0, "{line} is taken back before it is there");
            if plan.outputs()[*output].changelog == Changelog::Append {
                assert!(coordinates.insert((*output, batch.coordinate(row))), "two rows of one name");
            }
        }
    }
    tables.iter_mut().for_each(|table| table.retain(|_, count| *count != 0));
    tables
}

/// Scripts with at most so many ways of running the plan.
pub(crate) fn scripts(ways: u16) -> impl Strategy<Value = Script> {
    let row = (prop::option::weighted(0.9, 0..6_i64), 0..4_i64, -1..4_i64);
    prop::collection::vec((0..2_usize, prop::collection::vec(row, 1..8), 0..=ways), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_shared_plan_gives_what_the_whole_one_gives(script in scripts(5)) {
        for (what, steps, outputs, _) in shared() {
            let plan = plan(&steps, &outputs);
            let whole = script.iter().cloned().map(|(input, rows, _)| (input, rows, 0)).collect();
            prop_assert_eq!(run(&plan, &script, &mut open), run(&plan, &whole, &mut open), "{}", what);
        }
    }

    #[test]
    fn it_does_so_with_partial_aggregates(script in scripts(5), batches in 1..6_usize) {
        for (what, steps, outputs, _) in shared() {
            let plan = plan(&steps, &outputs);
            let whole = script.iter().cloned().map(|(input, rows, _)| (input, rows, 0)).collect();
            let (parted, whole) = (run_in_epochs(&plan, &script, batches, &mut open_with_partials), run_in_epochs(&plan, &whole, batches, &mut open));
            prop_assert_eq!(parted, whole, "{}", what);
        }
    }

    #[test]
    fn rows_are_dealt_out_by_key_and_keep_their_order(keys in prop::collection::vec(prop::option::of(0..40_i64), 1..60), partitions in 1..=KEY_GROUPS) {
        let records = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(keys.clone())) as ArrayRef)]).unwrap();
        let batch = Batch::new(records, Origin::new("a", "a"), UInt64Array::from_iter_values(0..keys.len() as u64));
        let mut places = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (partition, part) in partition_rows(&batch, &[0], partitions).unwrap() {
            prop_assert!(partition < partitions);
            prop_assert!(part.ordinals.values().is_sorted());
            for ordinal in part.ordinals.values() {
                prop_assert!(seen.insert(*ordinal));
                prop_assert_eq!(*places.entry(keys[*ordinal as usize]).or_insert(partition), partition);
            }
        }
        prop_assert_eq!(seen.len(), keys.len());
    }
}

#[test]
fn a_row_that_changes_its_key_is_deleted_there_and_inserted_here() {
    let keys: Vec<i64> = (0..16).collect();
    let records = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(keys)) as ArrayRef)]).unwrap();
    let kinds = RowKinds::new((0..16).map(|row| if row % 2 == 0 { RowKind::UpdateBefore } else { RowKind::UpdateAfter }));
    let batch = Batch { kinds: Some(kinds), ..Batch::new(records, Origin::new("a", "a"), UInt64Array::from_iter_values(0..16)) };
    let of: BTreeMap<u64, u16> = partition_rows(&batch, &[0], 4)
        .unwrap()
        .iter()
        .flat_map(|(partition, part)| part.ordinals.values().iter().map(|ordinal| (*ordinal, *partition)).collect::<Vec<_>>())
        .collect();
    let mut moved = 0;
    for (partition, part) in partition_rows(&batch, &[0], 4).unwrap() {
        for (row, ordinal) in part.ordinals.values().iter().enumerate() {
            let stays = of[&(ordinal ^ 1)] == partition;
            moved += usize::from(!stays);
            let expected = match (ordinal % 2, stays) {
                (0, true) => RowKind::UpdateBefore,
                (0, false) => RowKind::Delete,
                (_, true) => RowKind::UpdateAfter,
                (_, false) => RowKind::Insert,
            };
            assert_eq!(part.kind(row), expected);
        }
    }
    assert!(moved > 0);
}

#[test]
fn rows_that_the_front_cannot_evaluate_are_said_to_the_outputs_behind_the_exchange() {
    let plan = plan(&[("s", "SELECT 10 / v AS w, count(*) AS n FROM a GROUP BY 10 / v")], &["s", "raw=a"]);
    let exchange = plan.exchange().unwrap();
    assert_eq!([exchange.is_direct(0), exchange.is_direct(1)], [false, true]);
    let mut front = exchange.front(&["a"]);
    let mut out = Vec::new();
    let rows = batch(&plan, "a", &[(Some(1), 0, 0), (Some(2), 2, 1)], 0, &mut 0);
    front.push(0, Message::Batch(rows), &mut |target, message| out.push((target, message))).unwrap();
    let rejected = out.iter().filter(|(_, message)| matches!(message, Message::Rejected(_))).map(|(target, _)| *target);
    assert_eq!(rejected.collect::<Vec<_>>(), [0]);
    let sent: Vec<usize> = out.iter().filter(|(_, message)| matches!(message, Message::Batch(_))).map(|(target, _)| *target).collect();
    assert_eq!(sent, [1, 2], "the rows as they are, and those of the channel");
    let counters = front.counters();
    let counted: Vec<_> = counters.outputs.iter().map(|o| (o.output, o.rows_due, o.rows_out, o.rows_rejected)).collect();
    assert_eq!(counted, [(0, 2, 0, 1), (1, 2, 2, 0)]);
}
