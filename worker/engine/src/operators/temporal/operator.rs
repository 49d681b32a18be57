//! The operator: keeps rows of the left until it is their turn, lets them find what the table has for them, and lets them go. Holds the table's rows only in its table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt16Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use super::table::Table;
use super::{Moment, TemporalBlueprint};
use crate::batch::{Batch, Origin};
use crate::operators::alignment::Alignment;
use crate::operators::evaluate::{Piece, evaluate};
use crate::operators::micros::micros;
use crate::operators::revision::Comparators;
use crate::operators::state::table_of;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, RejectedRow, StateTable, TakenState};
use crate::plan::Late;
use crate::state::{Ends, KeyTable, NO_ROW, RowStore, hash_rows, key_group, mix, row_ids};

/// Rows that leave together, and rows of a batch that comes out.
const BLOCK: usize = 8192;
/// Fewer free positions or keys than this are not worth a compaction.
const COMPACTED: usize = 4096;
/// Mixed into the name of a row that is padded: it names no pair.
const PADDED: u64 = 0x70ad_ded0_70ad_ded0;
/// Names of the tables of the state, by side.
pub(super) const TABLES: [&str; 2] = [ROWS, TABLE];
const ROWS: &str = "rows";
const TABLE: &str = "table";
/// The key of a row that finds nothing, because it has a NULL in its key.
const NO_KEY: u32 = NO_ROW;

/// A temporal join of one lane.
pub(super) struct Temporal {
    blueprint: Arc<TemporalBlueprint>,
    origin: Origin,
    alignment: Alignment,
    watermark: i64,
    /// Keys of both sides.
    keys: KeyTable,
    table: Table,
    /// Rows of the left that wait.
    rows: RowStore,
    /// By position.
    ids: Vec<u64>,
    times: Vec<i64>,
    key_of: Vec<u32>,
    /// Which positions still wait.
    here: Vec<bool>,
    live: usize,
    waiting: Ends,
    /// Whether the table has been read once.
    loaded: bool,
    /// Keys are looked through once there are more than this.
    most_keys: usize,
}

impl Temporal {
    pub(super) fn new(blueprint: Arc<TemporalBlueprint>, origin: Origin, ports: &[usize]) -> Self {
        let side = &blueprint.sides[0];
        let types: Vec<DataType> = side.keys.iter().map(|key| side.schema.field(*key).data_type().clone()).collect();
        let versions = matches!(blueprint.moment, Moment::Versions { .. });
        Self {
            origin,
            alignment: Alignment::new(ports),
            watermark: i64::MIN,
            keys: KeyTable::new(&types).expect("the planner lets only keys through that have a hash"),
            table: Table::new(&blueprint.sides[1], &blueprint.moment),
            rows: RowStore::new(&side.schema),
            ids: Vec::new(),
            times: Vec::new(),
            key_of: Vec::new(),
            here: Vec::new(),
            live: 0,
            waiting: Ends::new(1),
            loaded: versions || !ports.contains(&1),
            most_keys: COMPACTED,
            blueprint,
        }
    }

    /// The columns of a side, the key of each row, and which rows have no NULL in theirs.
    fn arrive(&mut self, own: usize, batch: &Batch) -> Result<(Vec<ArrayRef>, Vec<u32>), ExecuteError> {
        let side = &self.blueprint.sides[own];
        let columns: Vec<ArrayRef> = side.take.iter().map(|column| Arc::clone(batch.records.column(*column))).collect();
        let keys = self.intern(own, &columns, batch.num_rows())?;
        Ok((columns, keys))
    }

    fn intern(&mut self, own: usize, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>, ExecuteError> {
        let key_columns: Vec<ArrayRef> = self.blueprint.sides[own].keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let mut keys = self.keys.intern(&key_columns, &hash_rows(&key_columns, rows)?)?;
        self.table.grow(self.keys.len());
        let mut valid: Option<NullBuffer> = None;
        for column in &key_columns {
            valid = NullBuffer::union(valid.as_ref(), column.logical_nulls().as_ref());
        }
        if let Some(valid) = valid {
            keys.iter_mut().enumerate().filter(|(row, _)| valid.is_null(*row)).for_each(|(_, key)| *key = NO_KEY);
        }
        Ok(keys)
    }

    /// Rows of the left.
    fn left(&mut self, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let (columns, keys) = self.arrive(0, batch)?;
        let rows = batch.num_rows();
        let (times, slack) = match &self.blueprint.moment {
            Moment::Versions { times, slack } => (micros(&columns[times[0]])?, *slack),
            Moment::Current { .. } => (Int64Array::from_value(i64::MAX, rows), 0),
        };
        let first = self.add(&columns, row_ids(batch), times.values(), keys)?;
        let mut late = 0;
        for (row, position) in (first..).take(rows).enumerate() {
            let timeless = times.is_null(row);
            if timeless || times.value(row).saturating_add(slack) < self.watermark {
                late += 1;
                if self.blueprint.late == Late::DeadLetter {
                    let name = self.blueprint.sides[0].schema.field(self.time_column()).name();
                    let error = if timeless {
                        format!("`{name}` is NULL, so there is no telling which version the row finds")
                    } else {
                        format!("the row is late: by `{name}`, the watermark has passed it")
                    };
                    output.reject(RejectedRow { origin: batch.origin.clone(), ordinal: batch.ordinals.value(row), error });
                }
            } else {
                self.wait(position, slack);
            }
        }
        if late > 0 && self.blueprint.late == Late::Drop {
            output.filtered(late);
        }
        if self.loaded && matches!(self.blueprint.moment, Moment::Current { .. }) {
            self.release(output)?;
        }
        self.compact()
    }

    fn time_column(&self) -> usize {
        if let Moment::Versions { times, .. } = &self.blueprint.moment { times[0] } else { 0 }
    }

    fn add(&mut self, columns: &[ArrayRef], ids: Vec<u64>, times: &[i64], keys: Vec<u32>) -> Result<u32, ExecuteError> {
        let first = self.rows.push(columns, ids.len())?;
        self.ids.extend(ids);
        self.times.extend_from_slice(times);
        self.key_of.extend(keys);
        self.here.resize(self.ids.len(), false);
        Ok(first)
    }

    fn wait(&mut self, position: u32, slack: i64) {
        self.here[position as usize] = true;
        self.live += 1;
        self.waiting.push(self.times[position as usize].saturating_add(slack).min(i64::MAX - 1), position);
    }

    /// Rows of the table.
    fn right(&mut self, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let (columns, keys) = self.arrive(1, batch)?;
        let rows = batch.num_rows();
        let times = match &self.blueprint.moment {
            Moment::Versions { times, .. } => micros(&columns[times[1]])?,
            Moment::Current { .. } => Int64Array::from_value(0, rows),
        };
        let first = self.table.push(&columns, row_ids(batch), times.values(), self.keys.len())?;
        let mut comparators = Comparators::default();
        let mut useless = 0;
        for (row, (position, key)) in (first..).zip(keys).enumerate() {
            if key == NO_KEY || times.is_null(row) {
                useless += 1;
            } else if batch.kind(row).is_addition() {
                if let Moment::Current { unique: true, .. } = self.blueprint.moment {
                    self.table.take_back(key, position, &mut comparators)?;
                }
                self.table.insert(key, position, self.reach());
            } else {
                self.table.take_back(key, position, &mut comparators)?;
            }
        }
        if useless > 0 {
            output.filtered(useless);
        }
        self.compact()
    }

    /// The earliest time that a row can still have.
    fn reach(&self) -> i64 {
        if let Moment::Versions { slack, .. } = self.blueprint.moment { self.watermark.saturating_sub(slack) } else { i64::MIN }
    }

    fn advance(&mut self, watermark: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.watermark = watermark;
        if let Moment::Versions { .. } = self.blueprint.moment {
            let leaving = self.waiting.pass(watermark);
            self.leave(&leaving, output)?;
            self.table.advance(self.reach());
            self.compact()?;
        }
        Ok(())
    }

    /// Lets everything go that waits.
    fn release(&mut self, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let leaving = self.waiting.pass(i64::MAX);
        self.leave(&leaving, output)
    }

    fn leave(&mut self, leaving: &[u32], output: &mut dyn Output) -> Result<(), ExecuteError> {
        let mut pairs: Vec<[u32; 2]> = Vec::new();
        // For each row where its pairs end.
        let mut ends: Vec<usize> = Vec::new();
        let mut from = 0;
        for (at, position) in leaving.iter().enumerate() {
            let (key, time) = (self.key_of[*position as usize], self.times[*position as usize]);
            match self.blueprint.moment {
                _ if key == NO_KEY => {}
                Moment::Versions { .. } => pairs.extend(self.table.at(key, time).map(|found| [*position, found])),
                Moment::Current { .. } => pairs.extend(self.table.of(key).iter().map(|found| [*position, *found])),
            }
            ends.push(pairs.len());
            if pairs.len() >= BLOCK || ends.len() >= BLOCK || at + 1 == leaving.len() {
                self.meet(&leaving[from..=at], &pairs, &ends, output)?;
                from = at + 1;
                pairs.clear();
                ends.clear();
            }
        }
        for position in leaving {
            self.here[*position as usize] = false;
            self.live -= 1;
        }
        Ok(())
    }

    /// Sends on what follows from rows whose pairs are known.
    fn meet(&self, rows: &[u32], pairs: &[[u32; 2]], ends: &[usize], output: &mut dyn Output) -> Result<(), ExecuteError> {
        let mask = self.check(pairs, output)?;
        let (mut left, mut right, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for (row, end) in rows.iter().zip(ends) {
            let before = left.len();
            for at in (start..*end).filter(|at| mask.as_ref().is_none_or(|mask| mask[*at] != Verdict::No)) {
                if mask.as_ref().is_some_and(|mask| mask[at] == Verdict::Bad) {
                    continue;
                }
                left.push(*row);
                right.push(pairs[at][1]);
                ids.push(mix(self.ids[*row as usize], self.table.ids[pairs[at][1] as usize]));
            }
            let bad = mask.as_ref().is_some_and(|mask| mask[start..*end].contains(&Verdict::Bad));
            if before == left.len() && self.blueprint.outer && !bad {
                left.push(*row);
                right.push(NO_ROW);
                ids.push(mix(self.ids[*row as usize], PADDED));
            }
            start = *end;
        }
        if left.is_empty() {
            return Ok(());
        }
        let count = left.len();
        let columns = self.take(&[left, right], &self.blueprint.output)?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?;
        for from in (0..count).step_by(BLOCK) {
            let length = BLOCK.min(count - from);
            let ordinals = UInt64Array::from(ids[from..from + length].to_vec());
            output.emit(Message::Batch(Batch::new(records.slice(from, length), self.origin.clone(), ordinals)));
        }
        Ok(())
    }

    /// For which pairs the residual condition is true; `None` if there is none. A row whose condition cannot be evaluated is taken out.
    fn check(&self, pairs: &[[u32; 2]], output: &mut dyn Output) -> Result<Option<Vec<Verdict>>, ExecuteError> {
        let Some(residual) = &self.blueprint.residual else { return Ok(None) };
        let mut mask = Vec::with_capacity(pairs.len());
        for block in pairs.chunks(BLOCK) {
            let (left, right) = block.iter().map(|[left, right]| (*left, *right)).unzip();
            let columns = self.take(&[left, right], &residual.columns)?;
            let options = RecordBatchOptions::new().with_row_count(Some(block.len()));
            let records = RecordBatch::try_new_with_options(Arc::clone(&residual.schema), columns, &options)?;
            for piece in evaluate(&records, |records| residual.predicate.evaluate(records))? {
                match piece {
                    Piece::Values(values) => {
                        mask.extend(values.as_boolean().iter().map(|value| if value == Some(true) { Verdict::Yes } else { Verdict::No }))
                    }
                    Piece::Bad(error) => {
                        let row = pairs[mask.len()][0] as usize;
                        // The row may have come long ago: it is named by what is left of it.
                        output.reject(RejectedRow { origin: self.origin.clone(), ordinal: self.ids[row], error });
                        mask.push(Verdict::Bad);
                    }
                }
            }
        }
        Ok(Some(mask))
    }

    /// Columns of rows of both sides.
    fn take(&self, rows: &[Vec<u32>; 2], columns: &[(usize, usize)]) -> Result<Vec<ArrayRef>, ExecuteError> {
        let of = |side: usize| columns.iter().filter(move |(from, _)| *from == side).map(|(_, column)| *column);
        let mut taken = [self.rows.take(&rows[0], of(0))?.into_iter(), self.table.take(&rows[1], of(1))?.into_iter()];
        Ok(columns.iter().map(|(side, _)| taken[*side].next().expect("one for each column")).collect())
    }

    /// Frees the memory of rows and keys that are gone, if there are enough of them.
    fn compact(&mut self) -> Result<(), ExecuteError> {
        self.table.compact()?;
        if self.ids.len() - self.live >= COMPACTED.max(self.live) {
            let kept = self.positions();
            self.rows.retain(&kept)?;
            self.waiting.retain(&kept);
            self.ids = kept.iter().map(|position| self.ids[*position as usize]).collect();
            self.times = kept.iter().map(|position| self.times[*position as usize]).collect();
            self.key_of = kept.iter().map(|position| self.key_of[*position as usize]).collect();
            self.here = vec![true; kept.len()];
        }
        if self.keys.len() > self.most_keys {
            let mut used: Vec<bool> = (0..self.keys.len()).map(|key| !self.table.is_empty(key)).collect();
            self.key_of.iter().filter(|key| **key != NO_KEY).for_each(|key| used[*key as usize] = true);
            let kept: Vec<u32> = (0..).zip(&used).filter(|(_, used)| **used).map(|(key, _)| key).collect();
            let mut numbers = vec![NO_KEY; used.len()];
            (0..).zip(&kept).for_each(|(number, key)| numbers[*key as usize] = number);
            self.table.renumber(&kept, &numbers);
            self.key_of.iter_mut().filter(|key| **key != NO_KEY).for_each(|key| *key = numbers[*key as usize]);
            self.keys.retain(&used.into())?;
            self.most_keys = COMPACTED.max(2 * kept.len());
        }
        Ok(())
    }

    fn positions(&self) -> Vec<u32> {
        (0..).zip(&self.here).filter(|(_, here)| **here).map(|(position, _)| position).collect()
    }

    /// The rows that wait, in the order in which they came.
    fn stored_rows(&self) -> impl FnOnce() -> Result<StateTable, ArrowError> + Send + use<> {
        let positions = self.positions();
        let ids = UInt64Array::from_iter_values(positions.iter().map(|position| self.ids[*position as usize]));
        let group = |position: &u32| match self.key_of[*position as usize] {
            NO_KEY => 0,
            key => key_group(self.keys.hash(key)),
        };
        let groups = UInt16Array::from_iter_values(positions.iter().map(group));
        table_of(&self.rows, positions, groups, &[("\u{0}id", DataType::UInt64)], vec![Arc::new(ids)])
    }

    fn restore_rows(&mut self, records: &RecordBatch) -> Result<(), ExecuteError> {
        let width = self.blueprint.sides[0].schema.fields().len();
        if records.num_columns() != width + 1 {
            return Err(ExecuteError::State { message: format!("{} columns of rows", records.num_columns()) });
        }
        let columns = records.columns()[..width].to_vec();
        let keys = self.intern(0, &columns, records.num_rows())?;
        let (times, slack) = match &self.blueprint.moment {
            Moment::Versions { times, slack } => (micros(&columns[times[0]])?, *slack),
            Moment::Current { .. } => (Int64Array::from_value(i64::MAX, records.num_rows()), 0),
        };
        let ids = records.column(width).as_primitive::<UInt64Type>().values().to_vec();
        let first = self.add(&columns, ids, times.values(), keys)?;
        (first..).take(records.num_rows()).for_each(|position| self.wait(position, slack));
        Ok(())
    }

    fn restore_table(&mut self, records: &RecordBatch) -> Result<(), ExecuteError> {
        let width = self.blueprint.sides[1].schema.fields().len();
        if records.num_columns() != width + 3 {
            return Err(ExecuteError::State { message: format!("{} columns of a table", records.num_columns()) });
        }
        let columns = records.columns()[..width].to_vec();
        let keys = self.intern(1, &columns, records.num_rows())?;
        let ids = records.column(width).as_primitive::<UInt64Type>().values().to_vec();
        let times = records.column(width + 1).as_primitive::<Int64Type>().values();
        self.loaded |= records.column(width + 2).as_boolean().iter().any(|loaded| loaded == Some(true));
        let first = self.table.push(&columns, ids, times, self.keys.len())?;
        (first..).zip(keys).filter(|(_, key)| *key != NO_KEY).for_each(|(position, key)| self.table.insert(key, position, i64::MIN));
        Ok(())
    }

    /// What is said about a table of which only the present counts: only that it has been read once.
    fn current(&mut self, port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let read = port == 1 && matches!(message, Message::Idle | Message::End | Message::Watermark(i64::MAX));
        if read && !self.loaded {
            self.loaded = true;
            self.release(output)?;
            self.compact()?;
            if self.watermark > i64::MIN {
                output.emit(Message::Watermark(self.watermark));
            }
        }
        match (port, message) {
            (0, Message::Watermark(watermark)) => {
                self.watermark = watermark;
                // What waits must not be late.
                if self.loaded {
                    output.emit(Message::Watermark(watermark));
                }
            }
            (0, Message::Idle) => output.emit(Message::Idle),
            (_, Message::Watermark(_) | Message::Idle) => {}
            (port, message) => {
                if let Some(message) = self.alignment.admit(port, message) {
                    output.emit(message);
                }
            }
        }
        Ok(())
    }
}

/// What the residual condition says of a pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Yes,
    No,
    Bad,
}

impl Operator for Temporal {
    fn push(&mut self, port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        if let Message::Batch(batch) = &message {
            if let Moment::Versions { .. } = self.blueprint.moment {
                // It wakes its port.
                let _ = self.alignment.admit(port, message.clone());
            }
            return if port == 0 { self.left(batch, output) } else { self.right(batch, output) };
        }
        if let Moment::Current { .. } = self.blueprint.moment {
            return self.current(port, message, output);
        }
        match self.alignment.admit(port, message) {
            Some(Message::Watermark(watermark)) => {
                self.advance(watermark, output)?;
                let slack = if let Moment::Versions { slack, .. } = self.blueprint.moment { slack } else { 0 };
                output.emit(Message::Watermark(if watermark == i64::MAX { watermark } else { watermark.saturating_sub(slack) }));
                Ok(())
            }
            Some(other) => {
                output.emit(other);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn due(&self) -> Option<i64> {
        if let Moment::Versions { .. } = self.blueprint.moment { self.waiting.first() } else { None }
    }

    fn waits_for_pause(&self) -> bool {
        !self.loaded
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let (table, rows) = (self.table.snapshot(&self.keys, self.loaded), self.stored_rows());
        let tables = move || Ok(BTreeMap::from([(ROWS.to_owned(), rows()?), (TABLE.to_owned(), table()?)]));
        Ok(Some(TakenState::new(self.blueprint.state_signature().unwrap_or_default(), tables)))
    }

    fn state_bytes(&self) -> usize {
        let vectors = (self.ids.capacity() + self.times.capacity()) * 8 + self.key_of.capacity() * 4 + self.here.capacity();
        self.keys.memory_bytes() + self.table.memory_bytes() + self.rows.memory_bytes() + vectors + self.waiting.memory_bytes()
    }

    fn restore(&mut self, state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        if let Some(table) = state.tables.get(TABLE) {
            self.restore_table(&table.records)?;
        }
        if let Some(table) = state.tables.get(ROWS) {
            self.restore_rows(&table.records)?;
        }
        Ok(())
    }
}
