//! Runs one operator in tests: feeds it rows, restores it in the middle, and adds up what its changelog says. Never used outside tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt16Array, UInt64Array};
use arrow::compute::{concat, concat_batches, filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, UInt16Type};
use arrow::json::LineDelimitedWriter;

use super::{Blueprint, Message, Operator, OperatorState, Output, RejectedRow, StateTable};
use crate::batch::{Batch, Origin};
use crate::row_kind::{RowKind, RowKinds};

/// A row of the tables that tests use: key, value, time, and a text that follows from them.
pub(super) type Row = (Option<i64>, i64, i64);

/// Columns `k`, `v`, `t` (a timestamp) and `s`.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("s", DataType::Utf8, true),
    ]))
}

/// Rows as a batch; `start` is the ordinal of the first.
pub(super) fn batch(origin: &str, start: usize, rows: &[(Row, RowKind)]) -> Batch {
    let text = |row: &Row| format!("{}-{}", row.0.unwrap_or(-1), row.1);
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(rows.iter().map(|(row, _)| row.0).collect::<Int64Array>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(row, _)| row.1))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(row, _)| row.2))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(row, _)| text(row)))),
    ];
    let ordinals = UInt64Array::from_iter_values(start as u64..(start + rows.len()) as u64);
    let kinds = rows.iter().any(|(_, kind)| *kind != RowKind::Insert).then(|| RowKinds::new(rows.iter().map(|(_, kind)| *kind)));
    Batch { kinds, ..Batch::new(RecordBatch::try_new(schema(), columns).unwrap(), Origin::new(origin, origin), ordinals) }
}

/// The id of the one operator.
pub(super) fn id() -> Arc<str> {
    Arc::from("s/operator/0")
}

/// An operator and what it has said so far.
pub(super) struct Harness<'a> {
    blueprint: &'a dyn Blueprint,
    ports: Vec<usize>,
    operator: Box<dyn Operator>,
    watermarks: BTreeMap<usize, i64>,
    pub(super) said: Said,
}

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Rows that are there after all changes, and how often.
    pub(super) table: BTreeMap<String, i64>,
    /// Every change: kind and row.
    pub(super) log: Vec<String>,
    pub(super) watermarks: Vec<i64>,
    pub(super) filtered: u64,
    pub(super) rejected: Vec<RejectedRow>,
    ids: BTreeSet<(u64, String)>,
}

impl Output for Said {
    fn emit(&mut self, message: Message) {
        match message {
            Message::Batch(batch) => {
                assert!(batch.num_rows() > 0, "an empty batch");
                for (row, line) in lines(&batch.records).into_iter().enumerate() {
                    let kind = batch.kind(row);
                    self.log.push(format!("{} {line}", kind.as_str()));
                    if batch.kinds.is_none() {
                        assert!(
                            self.ids.insert((batch.ordinals.value(row), batch.origin.name().to_owned())),
                            "two rows of one name: {line}"
                        );
                    }
                    let count = self.table.entry(line.clone()).or_default();
                    *count += if kind.is_addition() { 1 } else { -1 };
                    assert!(*count >= 0, "{line} is taken back before it is there: {:#?}", self.log);
                    if *count == 0 {
                        self.table.remove(&line);
                    }
                }
            }
            Message::Watermark(watermark) => self.watermarks.push(watermark),
            _ => {}
        }
    }

    fn filtered(&mut self, rows: u64) {
        self.filtered += rows;
    }

    fn reject(&mut self, row: RejectedRow) {
        self.rejected.push(row);
    }
}

impl<'a> Harness<'a> {
    pub(super) fn new(blueprint: &'a dyn Blueprint, ports: &[usize]) -> Self {
        let operator = blueprint.operator(&id(), ports);
        Self { blueprint, ports: ports.to_vec(), operator, watermarks: BTreeMap::new(), said: Said::default() }
    }

    pub(super) fn push(&mut self, port: usize, message: Message) {
        if let Message::Watermark(watermark) = message {
            self.watermarks.insert(port, watermark);
        }
        self.operator.push(port, message, &mut self.said).unwrap();
    }

    pub(super) fn watermark(&mut self, watermark: i64) {
        self.ports.clone().into_iter().for_each(|port| self.push(port, Message::Watermark(watermark)));
    }

    /// Goes on with a new operator that has been given the state, in parts by key group, in another order of key groups.
    pub(super) fn restore(&mut self) {
        let state = self.operator.snapshot().unwrap().unwrap().finish().unwrap();
        assert_eq!(Some(&state.signature), self.blueprint.state_signature().as_ref());
        self.operator = self.blueprint.operator(&id(), &self.ports);
        self.operator.restore(shuffled(state)).unwrap();
        let mut replayed = Said::default();
        for (port, watermark) in &self.watermarks {
            self.operator.push(*port, Message::Watermark(*watermark), &mut replayed).unwrap();
        }
        assert_eq!(replayed.log, [""; 0], "said again after a restore");
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.operator.state_bytes()
    }

    /// Rows in the tables of the state.
    pub(super) fn state_rows(&mut self) -> usize {
        self.operator.snapshot().unwrap().unwrap().finish().unwrap().tables.values().map(|table| table.records.num_rows()).sum()
    }

    /// The rows that are there, each as often as it is.
    pub(super) fn table(&self) -> Vec<String> {
        self.said.table.iter().flat_map(|(line, count)| vec![line.clone(); *count as usize]).collect()
    }
}

/// The key groups of the upper half before those of the lower.
fn shuffled(state: OperatorState) -> OperatorState {
    let tables = state.tables.into_iter().map(|(name, table)| {
        let StateTable { groups, records } = table;
        assert_eq!(groups.len(), records.num_rows());
        assert!(groups.values().iter().all(|group| *group < super::KEY_GROUPS));
        let upper: BooleanArray = groups.values().iter().map(|group| Some(*group >= 64)).collect();
        let lower: BooleanArray = upper.values().iter().map(|upper| Some(!upper)).collect();
        let [high, low] = [&upper, &lower].map(|mask| filter_record_batch(&records, mask).unwrap());
        let parts = [&upper, &lower].map(|mask| filter(&groups, mask).unwrap());
        let groups: UInt16Array = concat(&[&*parts[0], &*parts[1]]).unwrap().as_primitive::<UInt16Type>().clone();
        (name, StateTable { groups, records: concat_batches(&records.schema(), [&high, &low]).unwrap() })
    });
    OperatorState { signature: state.signature, tables: tables.collect() }
}

/// Each row as JSON.
pub(super) fn lines(records: &RecordBatch) -> Vec<String> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    writer.write(records).unwrap();
    writer.finish().unwrap();
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}
