//! Planning and running together: coordinates, sharing, pruning, hashes, rejected rows, batches split anywhere. What single queries yield is in `tests/sql`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millrace_crds::pipeline::Step;
use proptest::prelude::*;

use super::{InputChangelog, InputTable, Plan, Policy, compile};
use crate::batch::{Batch, Origin, RejectStage, Rejected, branch};
use crate::operators::{ExecuteError, Message, OperatorState, OutputCounters, Snapshot};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("unused", DataType::Int64, true),
    ]))
}

fn plan(steps: &[(&str, &str)], outputs: &[(&str, &str)]) -> Plan {
    plan_of(steps, &[("t", schema())], outputs)
}

fn plan_of(steps: &[(&str, &str)], inputs: &[(&str, SchemaRef)], outputs: &[(&str, &str)]) -> Plan {
    let steps: Vec<Step> = steps.iter().map(|(name, sql)| Step { name: (*name).to_owned(), sql: (*sql).to_owned() }).collect();
    let inputs: Vec<_> = inputs
        .iter()
        .map(|(name, schema)| InputTable {
            name: (*name).to_owned(),
            schema: Arc::clone(schema),
            event_time: None,
            changelog: InputChangelog::Append,
        })
        .collect();
    let outputs: Vec<_> = outputs.iter().map(|(name, from)| ((*name).to_owned(), (*from).to_owned())).collect();
    compile(&steps, &inputs, &outputs, &Policy::default()).unwrap()
}

type Row = (Option<i64>, Option<String>);

/// The columns that `plan` reads of the rows, whose ordinals start at `start`.
fn batch(plan: &Plan, rows: &[Row], start: u64) -> Batch {
    let columns = plan.projection("t").into_iter().map(|column| {
        let values: ArrayRef = match column.as_str() {
            "text" => Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringArray>()),
            _ => Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        };
        (column, values)
    });
    let columns: Vec<_> = columns.collect();
    let fields: Vec<Field> = columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true)).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let values = columns.into_iter().map(|(_, values)| values).collect();
    let records = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), values, &options).unwrap();
    Batch::new(records, Origin::new("t", "t"), (start..start + rows.len() as u64).collect::<Vec<_>>().into())
}

fn numbers(values: &[i64]) -> Vec<Row> {
    values.iter().map(|n| (Some(*n), None)).collect()
}

/// What comes out for one batch.
fn push(plan: &Plan, rows: &[Row]) -> Vec<(usize, Message)> {
    let mut out = Vec::new();
    plan.executor(&["t"]).push(0, Message::Batch(batch(plan, rows, 0)), &mut |output, message| out.push((output, message))).unwrap();
    out
}

fn batches(out: &[(usize, Message)]) -> Vec<(usize, &Batch)> {
    out.iter().filter_map(|(output, message)| if let Message::Batch(batch) = message { Some((*output, batch)) } else { None }).collect()
}

fn rejects(out: &[(usize, Message)]) -> Vec<(usize, &Rejected)> {
    out.iter().filter_map(|(output, message)| if let Message::Rejected(row) = message { Some((*output, row)) } else { None }).collect()
}

fn ordinals(batch: &Batch) -> Vec<u64> {
    batch.ordinals.values().to_vec()
}

#[test]
fn rows_keep_their_ordinals_through_filter_and_projection() {
    let plan = plan(&[("s", "SELECT n * 2 AS m FROM t WHERE n > 1")], &[("out", "s")]);
    let out = push(&plan, &numbers(&[5, 0, 7, 1, 9]));
    let [(0, batch)] = batches(&out)[..] else { panic!("{out:?}") };
    assert_eq!(ordinals(batch), [0, 2, 4]);
    assert_eq!(batch.records.column(0).as_primitive::<Int64Type>().values(), &[10, 14, 18]);
    assert_eq!(batch.branch, 0);
}

#[test]
fn rows_of_the_two_ways_of_a_union_have_different_coordinates() {
    let plan = plan(&[("s", "SELECT n FROM t UNION ALL SELECT n FROM t WHERE n > 1")], &[("out", "s")]);
    let out = push(&plan, &numbers(&[1, 2]));
    let seen: Vec<(u64, Vec<u64>)> = batches(&out).iter().map(|(_, batch)| (batch.branch, ordinals(batch))).collect();
    assert_eq!(seen, [(0, vec![0, 1]), (branch(0, 1), vec![1])]);
}

#[test]
fn unions_of_unions_give_every_way_its_own_coordinate() {
    let steps =
        [("a", "SELECT n FROM t UNION ALL SELECT n FROM t"), ("b", "SELECT n FROM a UNION ALL SELECT n FROM t UNION ALL SELECT n FROM a")];
    let plan = plan(&steps, &[("out", "b")]);
    let out = push(&plan, &numbers(&[1]));
    let coordinates: std::collections::BTreeSet<String> = batches(&out).iter().map(|(_, batch)| batch.coordinate(0)).collect();
    assert_eq!(coordinates.len(), 5);
}

#[test]
fn what_several_outputs_read_is_evaluated_once() {
    let steps = [("big", "SELECT n, n + 1 AS m FROM t WHERE n > 1"), ("one", "SELECT m FROM big"), ("two", "SELECT n FROM big")];
    let plan = plan(&steps, &[("a", "one"), ("b", "two"), ("c", "big")]);
    let mut executor = plan.executor(&["t"]);
    let mut out = Vec::new();
    executor.push(0, Message::Batch(batch(&plan, &numbers(&[0, 1, 2, 3]), 0)), &mut |output, message| out.push((output, message))).unwrap();
    let counters = executor.counters();
    // The filter saw each row once, though all three outputs lose the rows that it drops.
    let [filter] = &counters.operators[..] else { panic!("{counters:?}") };
    assert_eq!((&*filter.operator, filter.rows_filtered), ("big/filter/0", 2));
    assert_eq!(counters.outputs.iter().map(|o| (o.rows_out, o.rows_filtered)).collect::<Vec<_>>(), [(2, 2), (2, 2), (2, 2)]);
    assert!(counters.outputs.iter().all(OutputCounters::balanced));
    assert_eq!(batches(&out).len(), 3);
}

#[test]
fn only_columns_that_are_read_are_decoded_or_computed() {
    let steps = [("wide", "SELECT *, upper(text) AS loud, n + 1 AS m FROM t"), ("slim", "SELECT m FROM wide")];
    assert_eq!(plan(&steps, &[("out", "slim")]).projection("t"), ["n"]);
    let both = plan(&steps, &[("out", "slim"), ("all", "wide")]);
    assert_eq!(both.projection("t"), ["n", "text", "unused"]);
    let slim = plan(&steps, &[("out", "slim")]);
    assert!(!slim.explain().contains("upper"), "{}", slim.explain());
    assert!(slim.projection("nobody").is_empty());
}

#[test]
fn steps_that_no_output_reads_are_checked_but_not_run() {
    let plan = plan(&[("s", "SELECT n FROM t"), ("idle", "SELECT upper(text) AS x FROM t")], &[("out", "s")]);
    assert_eq!((plan.operators(), plan.projection("t")), (0, vec!["n".to_owned()]));
}

#[test]
fn outputs_know_their_inputs() {
    let plan = plan_of(
        &[("u", "SELECT n FROM t UNION ALL SELECT n FROM other")],
        &[("t", schema()), ("other", schema())],
        &[("u", "u"), ("o", "other")],
    );
    let inputs: Vec<_> = plan.outputs().iter().map(|output| output.inputs.clone()).collect();
    assert_eq!(inputs, [vec!["t", "other"], vec!["other"]]);
    assert_eq!(plan.executor(&["nobody"]).counters().outputs, []);
}

#[test]
fn hashes_are_the_same_in_every_process() {
    let query = "SELECT n, upper(text) || 'x' AS a, array_transform([1, 2], v -> v + n) AS b FROM t WHERE n > 1 AND text LIKE 'a%' UNION ALL SELECT 1, 'b', [n] FROM t";
    let hash = plan(&[("s", query)], &[("out", "s")]).hash();
    // Written down, not computed: another value here means that plans are no longer comparable with those of the last release.
    assert_eq!(hash, "1ec39c2815fd1af8");
    assert_eq!(plan(&[("s", &query.replace(' ', "\n "))], &[("out", "s")]).hash(), hash);
}

#[test]
fn hashes_differ_with_what_comes_out() {
    let hash = |query: &str, output: &str| plan(&[("s", query)], &[(output, "s")]).hash();
    let queries = [
        "SELECT n FROM t",
        "SELECT n AS m FROM t",
        "SELECT unused AS n FROM t",
        "SELECT n FROM t WHERE n > 1",
        "SELECT n FROM t WHERE n > 2",
        "SELECT CAST(n AS INT) AS n FROM t",
        "SELECT TRY_CAST(n AS INT) AS n FROM t",
    ];
    let mut hashes: std::collections::BTreeSet<String> = queries.iter().map(|query| hash(query, "out")).collect();
    hashes.insert(hash("SELECT n FROM t", "other"));
    assert_eq!(hashes.len(), queries.len() + 1);
}

#[test]
fn rows_that_cannot_be_evaluated_are_rejected_and_the_others_go_on() {
    let plan = plan(&[("s", "SELECT CAST(text AS INT) AS i, n FROM t")], &[("a", "s"), ("b", "s")]);
    let rows: Vec<Row> = (0..100).map(|n| (Some(n), Some(if n == 42 || n == 99 { "x".to_owned() } else { n.to_string() }))).collect();
    let out = push(&plan, &rows);
    assert_eq!(batches(&out).iter().map(|(output, batch)| (*output, batch.num_rows())).collect::<Vec<_>>(), [(0, 98), (1, 98)]);
    assert_eq!(batches(&out)[0].1.ordinals.iter().flatten().filter(|n| *n == 42).count(), 0);
    let rejects = rejects(&out);
    assert_eq!(rejects.iter().map(|(output, row)| (*output, row.ordinal)).collect::<Vec<_>>(), [(0, 42), (1, 42), (0, 99), (1, 99)]);
    let row = rejects[0].1;
    assert_eq!((row.stage, &*row.payload, row.attempts), (RejectStage::Transform, &br#"{"n":42,"text":"x"}"#[..], 1));
    assert!(row.error.contains("s/project/0") && row.error.contains("CAST"), "{}", row.error);
}

#[test]
fn control_messages_come_out_once_for_each_output() {
    let plan = plan(&[("s", "SELECT n FROM t UNION ALL SELECT n FROM t WHERE n > 1")], &[("a", "s"), ("b", "t")]);
    let mut executor = plan.executor(&["t"]);
    for message in [Message::Watermark(5), Message::Barrier(1), Message::Idle, Message::End] {
        let wanted = format!("{message:?}");
        let mut seen = Vec::new();
        executor.push(0, message, &mut |output, message| seen.push((output, format!("{message:?}")))).unwrap();
        seen.sort();
        assert_eq!(seen, [(0, wanted.clone()), (1, wanted)]);
    }
}

#[test]
fn stateless_operators_have_no_state() {
    let plan = plan(&[("s", "SELECT n + 1 AS m FROM t")], &[("out", "s")]);
    let mut executor = plan.executor(&["t"]);
    assert_eq!(executor.snapshot().unwrap().finish().unwrap(), Snapshot::new());
    executor.restore(Snapshot::new()).unwrap();
    let state = OperatorState { signature: "sum".to_owned(), tables: std::collections::BTreeMap::new() };
    for id in ["s/project/0", "s/aggregate/0"] {
        let error = executor.restore(Snapshot::from([(Arc::from(id), state.clone())])).unwrap_err();
        let root = if let ExecuteError::Operator { source, .. } = error { *source } else { error };
        assert!(matches!(root, ExecuteError::State { .. }), "{root}");
    }
}

/// Everything that comes out, row by row, in an order that does not depend on batches.
fn rows_out(plan: &Plan, rows: &[Row], cuts: &[usize]) -> Vec<String> {
    let mut executor = plan.executor(&["t"]);
    let mut lines = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([rows.len()]) {
        let batch = batch(plan, &rows[start..end], start as u64);
        let mut emit = |output: usize, message: Message| match message {
            Message::Batch(batch) => {
                let ordinals: &UInt64Array = &batch.ordinals;
                assert!(ordinals.values().is_sorted());
                for row in 0..batch.num_rows() {
                    lines.push(format!("{output} {} {:?}", batch.coordinate(row), batch.records.slice(row, 1).columns()));
                }
            }
            Message::Rejected(row) => lines.push(format!("{output} rejected {} {} {:?}", row.ordinal, row.error, row.payload)),
            other => panic!("{other:?}"),
        };
        executor.push(0, Message::Batch(batch), &mut emit).unwrap();
        start = end;
    }
    let counters = executor.counters();
    assert!(counters.outputs.iter().all(OutputCounters::balanced), "{counters:?}");
    lines.sort();
    lines
}

proptest! {
    #[test]
    fn batches_may_be_split_anywhere(
        rows in prop::collection::vec((prop::option::of(-3_i64..4), prop::option::of("[0-9x]{0,2}")), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        query in prop::sample::select(vec![
            "SELECT n, text FROM t WHERE n > 0",
            "SELECT n / unused AS q, text FROM t",
            "SELECT CAST(text AS INT) AS i, n FROM t WHERE n IS NOT NULL",
            "SELECT n <> 0 AND 6 / n > 1 AS big, n = 0 OR 6 / n > 1 AS other FROM t",
            "SELECT 6 / n AS q FROM t WHERE n <> 0 AND 6 / n > 1 AND CAST(text AS INT) > 3",
            "SELECT CASE WHEN n <> 0 THEN 6 / n WHEN text <> '' THEN CAST(text AS BIGINT) END AS q FROM t",
            "SELECT 6 / n AS q, text FROM t UNION ALL SELECT CAST(text AS INT), upper(text) FROM t WHERE n < 2",
            "SELECT coalesce(TRY_CAST(text AS INT), 6 / n) AS q, nullif(n, 1) AS m FROM t",
        ]),
    ) {
        let plan = plan(&[("s", query)], &[("out", "s"), ("raw", "t")]);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).collect();
        cuts.sort_unstable();
        let single: Vec<usize> = (1..rows.len()).collect();
        let whole = rows_out(&plan, &rows, &[]);
        prop_assert_eq!(&whole, &rows_out(&plan, &rows, &cuts));
        prop_assert_eq!(&whole, &rows_out(&plan, &rows, &single));
    }
}
