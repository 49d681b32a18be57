//! The operator: gives rows their numbers and says which rows have which, when it is time. Holds rows only in its table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::table::Table;
use super::{Emission, RankBlueprint};
use crate::batch::{Batch, Origin};
use crate::operators::micros::micros;
use crate::operators::revision::Comparators;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, RejectedRow, StateTable, TakenState};
use crate::plan::Late;
use crate::row_kind::{RowKind, RowKinds};
use crate::state::{Ends, mix, row_ids};

/// Rows of a batch that comes out.
const BLOCK: usize = 8192;
/// The part of a TTL by which keys may be kept longer than they must.
const GRANULES: i64 = 64;
/// Of a key that has not been touched.
const UNTOUCHED: i64 = i64::MAX;
/// Names of the tables of the state.
pub(super) const ROWS: &str = "rows";
pub(super) const KEYS: &str = "keys";

/// A top-N of one lane.
pub(super) struct Rank {
    blueprint: Arc<RankBlueprint>,
    origin: Origin,
    watermark: i64,
    table: Table,
    /// [`Emission::First`]: when the row at a position is final. [`Emission::Window`]: when the window of a key ends.
    ends: Ends,
    /// With a TTL: when a key may be forgotten.
    aging: Ends,
    /// By key. [`Emission::Revised`]: the watermark when it was last touched. [`Emission::First`]: that when its first row came out.
    touched: Vec<i64>,
    /// Keys that have rows or have been touched.
    live: usize,
    /// By key, the last batch that had rows of it.
    marks: Vec<u64>,
    batches: u64,
}

/// A row that comes out.
struct Change {
    position: u32,
    number: u64,
    kind: RowKind,
}

impl Rank {
    pub(super) fn new(blueprint: Arc<RankBlueprint>, origin: Origin, _ports: &[usize]) -> Self {
        let ttl = match blueprint.emission {
            Emission::Revised { ttl } | Emission::First { ttl, .. } => ttl,
            Emission::Window { .. } => 1,
        };
        Self {
            table: Table::new(&blueprint),
            blueprint,
            origin,
            watermark: i64::MIN,
            ends: Ends::new(1),
            aging: Ends::new(ttl / GRANULES),
            touched: Vec::new(),
            live: 0,
            marks: Vec::new(),
            batches: 0,
        }
    }

    fn batch(&mut self, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let columns: Vec<ArrayRef> = self.blueprint.take.iter().map(|column| Arc::clone(batch.records.column(*column))).collect();
        let (first, keys) = self.table.push(&columns, row_ids(batch))?;
        self.grow();
        match self.blueprint.emission {
            Emission::Revised { .. } => self.revise(batch, first, &keys, output)?,
            Emission::First { time, .. } => {
                let times = micros(&columns[time])?;
                self.wait(batch, (first, &keys), &times, self.watermark, output);
            }
            Emission::Window { end } => {
                let times = micros(&columns[end])?;
                self.wait(batch, (first, &keys), &times, self.watermark.saturating_add(1), output);
            }
        }
        self.compact()
    }

    fn grow(&mut self) {
        self.touched.resize(self.table.keys.len(), UNTOUCHED);
        self.marks.resize(self.table.keys.len(), 0);
    }

    /// Takes the rows of a batch in, and says what is different after them: one change for each number of a key at most.
    fn revise(&mut self, batch: &Batch, first: u32, keys: &[u32], output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.batches += 1;
        let mut comparators = Comparators::default();
        // Keys in the order in which they are touched, with the rows that have come out of each so far.
        let mut touched = Vec::new();
        let mut before = Vec::new();
        for (row, (position, key)) in (first..).zip(keys.iter().copied()).enumerate() {
            if std::mem::replace(&mut self.marks[key as usize], self.batches) != self.batches {
                before.extend_from_slice(self.out_of(key));
                touched.push((key, before.len()));
                self.touch(key, self.watermark);
            }
            if batch.kind(row).is_addition() {
                self.table.insert(key, position);
            } else {
                self.table.take_back(key, position, &mut comparators)?;
            }
        }
        let mut changes = Vec::new();
        let mut start = 0;
        for (key, end) in touched {
            self.compare(&before[start..end], self.out_of(key), &mut changes);
            start = end;
        }
        self.emit(&changes, output)
    }

    fn touch(&mut self, key: u32, watermark: i64) {
        let (Emission::Revised { ttl } | Emission::First { ttl, .. }) = self.blueprint.emission else { return };
        if std::mem::replace(&mut self.touched[key as usize], watermark) == UNTOUCHED {
            self.aging.push(watermark.saturating_add(ttl), key);
            if matches!(self.blueprint.emission, Emission::Revised { .. }) {
                self.live += 1;
            }
        }
    }

    /// The rows of a key that have a number that comes out.
    fn out_of(&self, key: u32) -> &[u32] {
        let rows = self.table.of(key);
        let bound = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(rows.len());
        &rows[bound(self.blueprint.first - 1)..bound(self.blueprint.last)]
    }

    /// What has changed for a key.
    fn compare(&self, before: &[u32], after: &[u32], changes: &mut Vec<Change>) {
        let mut change = |position: u32, number: u64, kind: RowKind| changes.push(Change { position, number, kind });
        let by_number = self.blueprint.output.contains(&None) || self.blueprint.first == self.blueprint.last;
        if by_number {
            for at in 0..before.len().max(after.len()) {
                let number = self.blueprint.first + at as u64;
                match (before.get(at), after.get(at)) {
                    (Some(one), Some(other)) if one == other => {}
                    (Some(one), Some(other)) => {
                        change(*one, number, RowKind::UpdateBefore);
                        change(*other, number, RowKind::UpdateAfter);
                    }
                    (Some(one), None) => change(*one, number, RowKind::Delete),
                    (None, Some(other)) => change(*other, number, RowKind::Insert),
                    (None, None) => {}
                }
            }
            return;
        }
        // Without the number only who is there counts.
        let sorted = |rows: &[u32]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows
        };
        let (was, is) = (sorted(before), sorted(after));
        before.iter().filter(|row| is.binary_search(row).is_err()).for_each(|row| change(*row, 0, RowKind::Delete));
        after.iter().filter(|row| was.binary_search(row).is_err()).for_each(|row| change(*row, 0, RowKind::Insert));
    }

    /// Takes in rows that come out later, unless their time is below `late`.
    fn wait(&mut self, batch: &Batch, (first, keys): (u32, &[u32]), times: &Int64Array, late: i64, output: &mut dyn Output) {
        let is_first = matches!(self.blueprint.emission, Emission::First { .. });
        let mut dropped = 0;
        for (row, (position, key)) in (first..).zip(keys.iter().copied()).enumerate() {
            if times.is_null(row) || times.value(row) < late {
                match self.blueprint.late {
                    Late::Drop => dropped += 1,
                    Late::DeadLetter => {
                        let what = if is_first { "the first row of this time has been given out" } else { "its window has ended" };
                        let error = format!("the row is late, or has no time: {what}");
                        output.reject(RejectedRow { origin: batch.origin.clone(), ordinal: batch.ordinals.value(row), error });
                    }
                }
                continue;
            }
            if is_first && self.touched[key as usize] != UNTOUCHED {
                continue;
            }
            let is_new = self.table.of(key).is_empty();
            self.live += usize::from(is_new);
            self.table.insert(key, position);
            let time = times.value(row);
            if is_first && self.table.of(key) == [position] {
                self.ends.push(time, position);
            } else if !is_first && is_new {
                self.ends.push(time.saturating_sub(1), key);
            }
        }
        if dropped > 0 {
            output.filtered(dropped);
        }
    }

    fn advance(&mut self, watermark: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.watermark = watermark;
        let mut changes = Vec::new();
        for over in self.ends.pass(watermark) {
            match self.blueprint.emission {
                Emission::Revised { .. } => {}
                Emission::First { .. } => {
                    let Some(key) = self.table.key(over) else { continue };
                    changes.push(Change { position: over, number: 1, kind: RowKind::Insert });
                    self.table.clear(key);
                    self.touch(key, watermark);
                }
                Emission::Window { .. } => {
                    let numbered = (self.blueprint.first..).zip(self.out_of(over));
                    changes.extend(numbered.map(|(number, position)| Change { position: *position, number, kind: RowKind::Insert }));
                    self.table.clear(over);
                    self.live -= 1;
                }
            }
        }
        self.emit(&changes, output)?;
        self.forget(watermark);
        self.compact()
    }

    /// Forgets keys whose time to live is over.
    fn forget(&mut self, watermark: i64) {
        let (Emission::Revised { ttl } | Emission::First { ttl, .. }) = self.blueprint.emission else { return };
        for key in self.aging.pass(watermark) {
            let touched = &mut self.touched[key as usize];
            // What came before the first watermark counts from it.
            *touched = if *touched == i64::MIN { watermark } else { *touched };
            let end = touched.saturating_add(ttl);
            if end >= watermark {
                self.aging.push(end, key);
            } else {
                *touched = UNTOUCHED;
                self.table.clear(key);
                self.live -= 1;
            }
        }
    }

    fn compact(&mut self) -> Result<(), ExecuteError> {
        let is_first = matches!(self.blueprint.emission, Emission::First { .. });
        if let Some(kept) = self.table.compact()?
            && is_first
        {
            self.ends.retain(&kept);
        }
        let touched = &self.touched;
        let keep = |key: u32| touched[key as usize] != UNTOUCHED;
        if let Some(kept) = self.table.compact_keys(self.table.keys.len() - self.live, keep)? {
            self.aging.retain(&kept);
            if !is_first {
                self.ends.retain(&kept);
            }
            self.touched = kept.iter().map(|key| self.touched[*key as usize]).collect();
            self.marks = vec![0; kept.len()];
        }
        Ok(())
    }

    fn emit(&self, changes: &[Change], output: &mut dyn Output) -> Result<(), ExecuteError> {
        let revises = self.blueprint.revises();
        let has_number = self.blueprint.output.contains(&None);
        for block in changes.chunks(BLOCK) {
            let positions: Vec<u32> = block.iter().map(|change| change.position).collect();
            let mut taken = self.table.take(&positions, self.blueprint.output.iter().flatten().copied())?.into_iter();
            let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(block.iter().map(|change| change.number)));
            let columns = self.blueprint.output.iter().map(|column| match column {
                Some(_) => taken.next().expect("one for each column"),
                None => Arc::clone(&numbers),
            });
            let id = |change: &Change| {
                let id = self.table.ids[change.position as usize];
                if has_number && revises { mix(id, change.number) } else { id }
            };
            let options = RecordBatchOptions::new().with_row_count(Some(block.len()));
            output.emit(Message::Batch(Batch {
                records: RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns.collect(), &options)?,
                origin: self.origin.clone(),
                ordinals: UInt64Array::from_iter_values(block.iter().map(id)),
                branch: 0,
                kinds: revises.then(|| RowKinds::new(block.iter().map(|change| change.kind))),
            }));
        }
        Ok(())
    }

    /// The keys that have been touched, and when.
    fn keys(&self) -> Result<StateTable, ExecuteError> {
        let keys: Vec<u32> = (0..).zip(&self.touched).filter(|(_, touched)| **touched != UNTOUCHED).map(|(key, _)| key).collect();
        let mut columns = self.table.keys.columns(&keys)?;
        columns.push(Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| self.touched[*key as usize]))));
        let input = self.blueprint.input.fields();
        let fields = self.blueprint.partition_by.iter().map(|column| input[*column].as_ref().clone().with_nullable(true));
        let fields: Vec<Field> = fields.chain([Field::new("\u{0}touched", DataType::Int64, false)]).collect();
        Ok(StateTable { groups: self.table.groups(&keys), records: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)? })
    }
}

impl Operator for Rank {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.batch(&batch, output),
            Message::Watermark(watermark) => {
                self.advance(watermark, output)?;
                output.emit(Message::Watermark(watermark));
                Ok(())
            }
            other => {
                output.emit(other);
                Ok(())
            }
        }
    }

    fn due(&self) -> Option<i64> {
        self.ends.first()
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let (rows, keys) = (self.table.snapshot(), self.keys()?);
        let tables = move || Ok(BTreeMap::from([(ROWS.to_owned(), rows()?), (KEYS.to_owned(), keys)]));
        Ok(Some(TakenState::new(self.blueprint.state_signature().unwrap_or_default(), tables)))
    }

    fn state_bytes(&self) -> usize {
        self.table.memory_bytes()
            + self.ends.memory_bytes()
            + self.aging.memory_bytes()
            + (self.touched.capacity() + self.marks.capacity()) * 8
    }

    fn restore(&mut self, state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        if let Some(StateTable { records, .. }) = state.tables.get(KEYS) {
            let (key_columns, touched) = records.columns().split_at(self.blueprint.partition_by.len());
            let Some(touched) = touched.first() else {
                return Err(ExecuteError::State { message: "a top-N's keys have no times".to_owned() });
            };
            let keys = self.table.intern(key_columns, records.num_rows())?;
            self.grow();
            for (key, touched) in keys.into_iter().zip(touched.as_primitive::<Int64Type>().values()) {
                self.touch(key, *touched);
                if matches!(self.blueprint.emission, Emission::First { .. }) {
                    self.live += 1;
                }
            }
        }
        if let Some(StateTable { records, .. }) = state.tables.get(ROWS) {
            let (first, keys) = self.table.restore(records)?;
            self.grow();
            match self.blueprint.emission {
                Emission::Revised { .. } => {}
                Emission::First { time, .. } => {
                    let times = micros(records.column(time))?;
                    (first..).zip(times.values()).for_each(|(position, time)| self.ends.push(*time, position));
                    self.live += keys.len();
                }
                Emission::Window { end } => {
                    let times = micros(records.column(end))?;
                    for (key, time) in keys.iter().zip(times.values()) {
                        // Once for each key.
                        if std::mem::replace(&mut self.marks[*key as usize], 1) == 0 {
                            self.ends.push(time.saturating_sub(1), *key);
                            self.live += 1;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
