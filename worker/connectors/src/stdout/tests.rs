//! What is printed, as text.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::row_kind::{RowKind, RowKinds};

use super::sink::Printer;
use super::table;
use crate::formats::rows::RowEncoder;

fn batch() -> Batch {
    let name: ArrayRef = Arc::new(StringArray::from(vec![Some("ann"), None, Some("a\nb\u{1b}[31m")]));
    let amount: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), Some(-1200), None]));
    let records = RecordBatch::try_from_iter([("name", name), ("amount", amount)]).unwrap();
    Batch::new(records, Origin::new("o", "o"), UInt64Array::from(vec![0, 1, 2]))
}

#[test]
fn a_table_is_aligned_and_harmless() {
    let expected = "\
name      amount
--------  ------
ann            5
           -1200
a\u{fffd}b\u{fffd}[31m
";
    assert_eq!(table::format(&batch().records, None).unwrap(), expected);
}

#[test]
fn json_lines_are_one_object_a_line() {
    let batch = batch();
    let encoder = RowEncoder::new(&batch.records.schema()).unwrap();
    let text = String::from_utf8(Printer::Lines(Box::new(encoder)).print(&batch).unwrap()).unwrap();
    let expected = ["{\"name\":\"ann\",\"amount\":5}", "{\"amount\":-1200}", "{\"name\":\"a\\nb\\u001b[31m\"}"];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert!(text.ends_with('\n'));
}

#[test]
fn rows_that_are_revised_say_how() {
    let mut batch = batch();
    batch.kinds = Some(RowKinds::new([RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete]));
    let expected = "    name      amount
--  --------  ------
-U  ann            5
+U             -1200
-D  a\u{fffd}b\u{fffd}[31m
";
    assert_eq!(table::format(&batch.records, batch.kinds.as_ref()).unwrap(), expected);
    let encoder = RowEncoder::new(&batch.records.schema()).unwrap();
    let text = String::from_utf8(Printer::Lines(Box::new(encoder)).print(&batch).unwrap()).unwrap();
    let expected = ["-U {\"name\":\"ann\",\"amount\":5}", "+U {\"amount\":-1200}", "-D {\"name\":\"a\\nb\\u001b[31m\"}"];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}
