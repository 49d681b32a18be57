//! The last row of each key against a map that is read at once: random changes, batches and restores. What SQL makes of them is in `tests/sql`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::NormalizeBlueprint;
use crate::operators::harness::{Harness, Row, batch, schema};
use crate::operators::{Blueprint, Message};
use crate::row_kind::RowKind::{self, Delete, Insert, UpdateAfter, UpdateBefore};

fn blueprint(key: &[usize]) -> NormalizeBlueprint {
    NormalizeBlueprint { key: key.to_vec(), schema: schema() }
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<(Row, RowKind)>),
    Restore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (prop::option::weighted(0.9, 0_i64..5), 0_i64..3, 0_i64..2);
    let kind = prop_oneof![6 => Just(Insert), 1 => Just(UpdateAfter), 1 => Just(UpdateBefore), 2 => Just(Delete)];
    let rows = prop::collection::vec((row, kind), 1..9).prop_map(Step::Rows);
    prop::collection::vec(prop_oneof![4 => rows, 1 => Just(Step::Restore)], 0..25)
}

/// What a row is, as the harness writes it.
fn line((key, value, time): &Row) -> String {
    let time = format!("1970-01-01T00:00:00.{time:06}").replace(".000000", "");
    let mut parts: Vec<String> = key.iter().map(|key| format!("\"k\":{key}")).collect();
    parts.push(format!("\"v\":{value},\"t\":\"{time}\",\"s\":\"{}-{value}\"", key.unwrap_or(-1)));
    format!("{{{}}}", parts.join(","))
}

fn run<'a>(blueprint: &'a NormalizeBlueprint, steps: &[Step], together: usize) -> (Harness<'a>, Vec<String>) {
    let mut harness = Harness::new(blueprint, &[0]);
    let mut table: BTreeMap<(Option<i64>, Option<i64>), Row> = BTreeMap::new();
    let mut ordinal = 0;
    for step in steps {
        match step {
            Step::Rows(rows) => {
                for (row, kind) in rows {
                    let key = (row.0, blueprint.key.contains(&1).then_some(row.1));
                    if kind.is_addition() {
                        table.insert(key, *row);
                    } else {
                        table.remove(&key);
                    }
                }
                for rows in rows.chunks(together) {
                    harness.push(0, Message::Batch(batch("t", ordinal, rows)));
                    ordinal += rows.len();
                }
            }
            Step::Restore => harness.restore(),
        }
    }
    let mut expected: Vec<String> = table.values().map(line).collect();
    expected.sort();
    (harness, expected)
}

proptest! {
    #[test]
    fn what_is_said_adds_up_to_the_last_rows(steps in steps(), by_both in any::<bool>(), together in 1_usize..10) {
        let blueprint = blueprint(if by_both { &[0, 1] } else { &[0] });
        let (mut harness, expected) = run(&blueprint, &steps, together);
        prop_assert_eq!(harness.table(), expected.clone());
        prop_assert_eq!(harness.state_rows(), expected.len());
        // Every replacement is whole, and says something.
        for pair in harness.said.log.windows(2) {
            if let Some(before) = pair[0].strip_prefix("-U ") {
                prop_assert!(pair[1].strip_prefix("+U ").is_some_and(|after| after != before), "{pair:?}");
            }
        }
        let halves = |kind: &str| harness.said.log.iter().filter(|line| line.starts_with(kind)).count();
        prop_assert_eq!(halves("-U"), halves("+U"));
    }
}

#[test]
fn each_change_is_said_once() {
    let blueprint = blueprint(&[0]);
    let mut harness = Harness::new(&blueprint, &[0]);
    let row = |key: i64, value: i64| (Some(key), value, 0);
    let mut said = |rows: &[(Row, RowKind)]| {
        let before = harness.said.log.len();
        harness.push(0, Message::Batch(batch("t", before, rows)));
        harness.said.log[before..].iter().map(|line| line.replace("\"t\":\"1970-01-01T00:00:00\",", "")).collect::<Vec<_>>()
    };
    assert_eq!(said(&[(row(1, 1), Insert), (row(2, 1), Insert)]), [r#"+I {"k":1,"v":1,"s":"1-1"}"#, r#"+I {"k":2,"v":1,"s":"2-1"}"#]);
    assert_eq!(said(&[(row(1, 1), Insert)]), [""; 0], "nothing is new");
    assert_eq!(said(&[(row(3, 9), Delete)]), [""; 0], "it was not there");
    assert_eq!(said(&[(row(1, 2), UpdateAfter)]), [r#"-U {"k":1,"v":1,"s":"1-1"}"#, r#"+U {"k":1,"v":2,"s":"1-2"}"#]);
    assert_eq!(said(&[(row(2, 7), Delete)]), [r#"-D {"k":2,"v":1,"s":"2-1"}"#], "only the key of a deletion counts");
    assert_eq!(said(&[(row(2, 7), Delete)]), [""; 0]);
    assert_eq!(said(&[(row(4, 1), Insert), (row(4, 1), Delete)]), [""; 0], "what comes and goes at once is never seen");
    assert_eq!(said(&[(row(1, 2), Delete), (row(1, 2), Insert)]), [""; 0], "as it was");
    assert_eq!(harness.state_rows(), 1);
    harness.push(0, Message::Watermark(i64::MAX));
    assert_eq!((harness.state_rows(), harness.said.watermarks.len()), (1, 1), "no time ends it");
}

/// Keys and rows that are not used any more do not pile up, and those that are stay where they belong.
#[test]
fn what_is_gone_takes_no_memory_for_long() {
    let blueprint = blueprint(&[0]);
    let mut harness = Harness::new(&blueprint, &[0]);
    let mut most = 0;
    for round in 0..40 {
        let rows: Vec<_> = (0..2_000).map(|key| ((Some(round * 1_000 + key), round, 0), Insert)).collect();
        harness.push(0, Message::Batch(batch("t", round as usize * 10_000, &rows)));
        let gone: Vec<_> = (0..1_000).map(|key| ((Some(round * 1_000 + key), 0, 0), Delete)).collect();
        harness.push(0, Message::Batch(batch("t", round as usize * 10_000 + 5_000, &gone)));
        if round == 10 {
            most = harness.state_bytes();
        }
        if round % 7 == 6 {
            harness.restore();
        }
    }
    assert_eq!(harness.state_rows(), 1_000);
    assert!(harness.state_bytes() < 3 * most, "{} bytes, {most} before", harness.state_bytes());
    let rows = harness.table();
    assert!(rows.len() == 1_000 && rows.iter().all(|row| row.contains("\"v\":39")), "{:?}", rows.first());
}

#[test]
fn state_of_another_table_is_refused() {
    let (one, other) = (blueprint(&[0]), blueprint(&[0, 1]));
    let state = one.operator(&"a".into(), &[0]).snapshot().unwrap().unwrap().finish().unwrap();
    assert!(other.operator(&"a".into(), &[0]).restore(state).unwrap_err().to_string().contains("normalize by (k)"));
}
