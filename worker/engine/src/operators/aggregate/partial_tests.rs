//! What one operator holds, and when it says it. That merged parts give what the rows give is tested with whole plans.

use arrow::array::RecordBatchOptions;

use super::*;
use crate::operators::RejectedRow;
use crate::operators::harness;
use crate::operators::windows::Windows;
use crate::row_kind::RowKind;

/// What came out: rows as `key slice rows` and their ordinal, other messages as they are.
#[derive(Default)]
struct Said {
    log: Vec<String>,
    ordinals: Vec<u64>,
    rejected: usize,
}

impl Output for Said {
    fn emit(&mut self, message: Message) {
        let Message::Batch(batch) = message else { return self.log.push(format!("{message:?}")) };
        assert!(batch.kinds.is_none() && batch.num_rows() > 0);
        self.ordinals.extend(batch.ordinals.values());
        self.log.extend(harness::lines(&batch.records));
    }

    fn filtered(&mut self, _rows: u64) {
        panic!("nothing is dropped")
    }

    fn reject(&mut self, _row: RejectedRow) {
        self.rejected += 1;
    }
}

/// By `k`, and by slices of ten microseconds of `t` if there are windows.
fn blueprint(windows: bool) -> PartialBlueprint {
    let assignment = Assignment::Time { column: 2, windows: Windows::Hop { size: 20, slide: 10, offset: 0 } };
    let windowed = windows.then(|| Windowed { assignment: &assignment, name: "w".to_owned(), time_name: "t" });
    let (keys, key_types, rows) = (&[0], &[DataType::Int64], &harness::schema());
    of(Wanted { rows, windowed, keys, key_types, calls: &[] }).unwrap().0
}

fn operator(blueprint: &PartialBlueprint) -> Box<dyn Operator> {
    blueprint.operator(&harness::id(), &[0])
}

/// Rows with these keys and times.
fn rows(start: usize, rows: impl IntoIterator<Item = (i64, i64)>) -> Message {
    let rows: Vec<_> = rows.into_iter().map(|(k, t)| ((Some(k), 0, t), RowKind::Insert)).collect();
    Message::Batch(harness::batch("a", start, &rows))
}

#[test]
fn rows_wait_until_their_slice_ends() {
    const LATER: i64 = 10 * MILLISECOND;
    let mut operator = operator(&blueprint(true));
    let mut said = Said::default();
    let mut push = |message| operator.push(0, message, &mut said).unwrap();
    push(rows(0, [(1, LATER + 5), (2, LATER + 5), (1, LATER + 9)]));
    push(Message::Watermark(8));
    push(rows(3, [(1, LATER + 10), (1, LATER - 1), (1, LATER + 7)]));
    push(Message::Watermark(LATER));
    push(Message::Watermark(LATER + 1));
    push(rows(6, [(2, LATER + 3)]));
    push(Message::Idle);
    push(rows(7, [(2, 2 * LATER)]));
    push(Message::Watermark(LATER + 2));
    push(rows(8, [(2, 2 * LATER)]));
    push(Message::Barrier(1));
    push(Message::Barrier(2));
    push(rows(9, [(2, 2 * LATER)]));
    push(Message::End);
    assert_eq!(
        said.log,
        [
            "Watermark(8)",
            r#"{"end of w":10010,"k":1,"rows":3}"#,
            r#"{"end of w":10010,"k":2,"rows":1}"#,
            r#"{"end of w":10020,"k":1,"rows":1}"#,
            r#"{"end of w":10000,"k":1,"rows":1}"#,
            "Watermark(10000)",
            "Watermark(10001)",
            r#"{"end of w":10010,"k":2,"rows":1}"#,
            "Idle",
            "Watermark(10002)",
            r#"{"end of w":20010,"k":2,"rows":2}"#,
            "Barrier(1)",
            "Barrier(2)",
            r#"{"end of w":20010,"k":2,"rows":1}"#,
            "End",
        ]
    );
    assert_eq!(operator.state_bytes(), 0);
    assert!(operator.snapshot().unwrap().is_none(), "there is nothing to store");
}

#[test]
fn without_windows_time_waits_behind_the_rows() {
    let mut operator = operator(&blueprint(false));
    let mut said = Said::default();
    operator.push(0, Message::Watermark(1), &mut said).unwrap();
    operator.push(0, rows(0, [(1, 5)]), &mut said).unwrap();
    operator.push(0, Message::Watermark(3), &mut said).unwrap();
    operator.push(0, Message::Watermark(4), &mut said).unwrap();
    assert_eq!(operator.holding(), Holding::Briefly);
    operator.push(0, Message::Barrier(1), &mut said).unwrap();
    assert_eq!(operator.holding(), Holding::Nothing);
    operator.push(0, Message::Watermark(9), &mut said).unwrap();
    assert_eq!(said.log, ["Watermark(1)", r#"{"k":1,"rows":1}"#, "Watermark(4)", "Barrier(1)", "Watermark(9)"]);
}

#[test]
fn what_is_held_is_known_and_counted() {
    for (windows, holding) in [(true, Holding::UntilTime), (false, Holding::Briefly)] {
        let mut operator = operator(&blueprint(windows));
        let mut said = Said::default();
        assert_eq!((operator.holding(), operator.state_bytes()), (Holding::Nothing, 0));
        operator.push(0, rows(0, (0..1000).map(|k| (k, 0))), &mut said).unwrap();
        assert_eq!(operator.holding(), holding);
        assert!(operator.state_bytes() > 1000 * size_of::<i64>());
        operator.push(0, Message::Barrier(1), &mut said).unwrap();
        assert_eq!((operator.holding(), operator.state_bytes(), said.log.len()), (Holding::Nothing, 0, 1001));
    }
}

#[test]
fn where_keys_do_not_repeat_rows_are_passed_on_for_a_while() {
    let mut operator = operator(&blueprint(false));
    let mut said = Said::default();
    let sample = i64::try_from(SAMPLE_ROWS).unwrap();
    operator.push(0, rows(0, (0..sample - 1).map(|k| (k, 0))), &mut said).unwrap();
    assert!(said.log.is_empty(), "that may change");
    operator.push(0, rows(0, [(sample, 0)]), &mut said).unwrap();
    assert_eq!(said.log.len() as u64, SAMPLE_ROWS);
    said = Said::default();
    operator.push(0, rows(70, [(1, 0), (1, 0), (2, 0)]), &mut said).unwrap();
    let one = [r#"{"k":1,"rows":1}"#, r#"{"k":1,"rows":1}"#, r#"{"k":2,"rows":1}"#];
    assert_eq!(said.log, one, "the same layout");
    assert_eq!(said.ordinals, [70, 71, 72], "a row keeps its name");
    let passed = i64::try_from(PASSED_ROWS).unwrap();
    operator.push(0, Message::Barrier(1), &mut said).unwrap();
    operator.push(0, rows(73, (0..passed).map(|k| (k % 7, 0))), &mut said).unwrap();
    assert_eq!(operator.holding(), Holding::Nothing, "one by one, to the end of the batch");
    operator.push(0, Message::Barrier(2), &mut said).unwrap();
    said = Said::default();
    operator.push(0, rows(80, [(1, 0), (1, 0)]), &mut said).unwrap();
    operator.push(0, Message::Barrier(3), &mut said).unwrap();
    assert_eq!(said.log, [r#"{"k":1,"rows":2}"#, "Barrier(3)"]);
    // Keys that repeat are put together however many there are.
    said = Said::default();
    operator.push(0, rows(0, (0..4 * sample).map(|k| (k % sample, 0))), &mut said).unwrap();
    assert!(said.log.is_empty());
}

#[test]
fn a_row_without_a_time_is_in_no_slice() {
    let mut operator = operator(&blueprint(true));
    let mut said = Said::default();
    let Message::Batch(batch) = rows(0, [(1, 5), (1, 6)]) else { unreachable!() };
    let mut columns = batch.records.columns().to_vec();
    columns[2] = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![None, Some(6)]));
    let options = RecordBatchOptions::new().with_row_count(Some(2));
    let records = RecordBatch::try_new_with_options(harness::schema(), columns, &options).unwrap();
    operator.push(0, Message::Batch(Batch { records, ..batch }), &mut said).unwrap();
    operator.push(0, Message::Barrier(1), &mut said).unwrap();
    assert_eq!(said.rejected, 1);
    assert_eq!(said.log, [r#"{"end of w":10,"k":1,"rows":1}"#, "Barrier(1)"]);
}
