//! A row as JSON, for dead letters. Never fails: what JSON has no form for is written as text.

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use serde_json::{Map, Value};

/// Row `row` of `records` as one JSON object.
pub(crate) fn json(records: &RecordBatch, row: usize) -> Bytes {
    let record = records.slice(row, 1);
    let mut line = Vec::new();
    let written = {
        let mut writer = LineDelimitedWriter::new(&mut line);
        writer.write(&record).and_then(|()| writer.finish())
    };
    if written.is_err() {
        return text(&record);
    }
    while line.last() == Some(&b'\n') {
        line.pop();
    }
    Bytes::from(line)
}

/// The same with every value as text, for types that have no JSON form.
fn text(record: &RecordBatch) -> Bytes {
    let options = FormatOptions::default();
    let mut object = Map::new();
    for (field, column) in record.schema_ref().fields().iter().zip(record.columns()) {
        let value = ArrayFormatter::try_new(column, &options).map(|formatter| formatter.value(0).to_string());
        object.insert(field.name().clone(), value.map_or(Value::Null, Value::String));
    }
    Bytes::from(Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, IntervalDayTimeArray, StringArray};
    use arrow::datatypes::IntervalDayTime;

    use super::*;

    #[test]
    fn one_object_for_the_row() {
        let columns: [(&str, ArrayRef); 2] =
            [("n", Arc::new(Int64Array::from(vec![1, 2]))), ("s", Arc::new(StringArray::from(vec![Some("a"), Some("\"b\"")])))];
        let records = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(json(&records, 1), r#"{"n":2,"s":"\"b\""}"#);
    }

    #[test]
    fn values_without_a_json_form_become_text() {
        let interval: ArrayRef = Arc::new(IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, 0)]));
        let records = RecordBatch::try_from_iter([("i", interval)]).unwrap();
        let value: Value = serde_json::from_slice(&json(&records, 0)).unwrap();
        assert!(value["i"].is_string(), "{value}");
    }
}
