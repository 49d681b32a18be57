//! The operator: keeps rows until it is their turn, and lets them leave with their results. Decides nothing about how results are computed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, NullArray, RecordBatch, RecordBatchOptions, UInt16Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use arrow::error::ArrowError;
use datafusion_common::ScalarValue;

use super::partition::{NEVER, Partition, Running, accumulator};
use super::{OverBlueprint, OverColumn};
use crate::batch::{Batch, Origin};
use crate::operators::micros::micros;
use crate::operators::state::table_of;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, RejectedRow, StateTable, TakenState};
use crate::plan::Late;
use crate::state::{Ends, KeyTable, NO_ROW, RowStore, hash_rows, key_group, row_ids};

/// Rows of a batch that comes out.
const BLOCK: usize = 8192;
/// Fewer free positions or keys than this are not worth a compaction.
const COMPACTED: usize = 4096;
/// The part of its time by which a key may be kept longer than it must.
const GRANULES: i64 = 64;
/// Names of the tables of the state.
pub(super) const ROWS: &str = "rows";
pub(super) const KEYS: &str = "keys";

/// Aggregates over frames of one lane.
pub(super) struct Over {
    blueprint: Arc<OverBlueprint>,
    origin: Origin,
    watermark: i64,
    keys: KeyTable,
    /// By key.
    partitions: Vec<Partition>,
    rows: RowStore,
    /// By position.
    ids: Vec<u64>,
    times: Vec<i64>,
    /// The key of each position; [`NO_ROW`] for a row that nothing reaches any more.
    key_of: Vec<u32>,
    live: usize,
    /// When a row may leave.
    waiting: Ends,
    /// When a key may be forgotten.
    aging: Ends,
    /// Keys are looked through once there are more than this.
    most_keys: usize,
}

impl Over {
    pub(super) fn new(blueprint: Arc<OverBlueprint>, origin: Origin) -> Self {
        let types: Vec<DataType> = blueprint.partition_by.iter().map(|column| blueprint.input.field(*column).data_type().clone()).collect();
        Self {
            keys: KeyTable::new(&types).expect("the planner lets only keys through that have a hash"),
            partitions: Vec::new(),
            rows: RowStore::new(&blueprint.input),
            ids: Vec::new(),
            times: Vec::new(),
            key_of: Vec::new(),
            live: 0,
            waiting: Ends::new(1),
            aging: Ends::new(blueprint.kept() / GRANULES),
            watermark: i64::MIN,
            most_keys: COMPACTED,
            blueprint,
            origin,
        }
    }

    fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>, ExecuteError> {
        let keys = self.keys.intern(columns, &hash_rows(columns, rows)?)?;
        self.partitions.resize_with(self.keys.len(), Partition::new);
        Ok(keys)
    }

    /// Adds rows, which belong to no key yet; returns the position of the first and the key of each.
    fn add(&mut self, columns: &[ArrayRef], ids: Vec<u64>, times: &[i64]) -> Result<(u32, Vec<u32>), ExecuteError> {
        let key_columns: Vec<ArrayRef> = self.blueprint.partition_by.iter().map(|column| Arc::clone(&columns[*column])).collect();
        let keys = self.intern(&key_columns, ids.len())?;
        let first = self.rows.push(columns, ids.len())?;
        self.times.extend_from_slice(times);
        self.ids.extend(ids);
        self.key_of.resize(self.ids.len(), NO_ROW);
        Ok((first, keys))
    }

    fn batch(&mut self, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let columns: Vec<ArrayRef> = self.blueprint.take.iter().map(|column| Arc::clone(batch.records.column(*column))).collect();
        let times = micros(&columns[self.blueprint.time])?;
        let (first, keys) = self.add(&columns, row_ids(batch), times.values())?;
        let mut late = 0;
        for (row, (position, key)) in (first..).zip(keys).enumerate() {
            if times.is_null(row) || times.value(row).saturating_add(self.blueprint.slack) < self.watermark {
                match self.blueprint.late {
                    Late::Drop => late += 1,
                    Late::DeadLetter => {
                        let name = self.blueprint.input.field(self.blueprint.time);
                        let error = format!("the row is late, or has no time: rows of its time by `{}` have left", name.name());
                        output.reject(RejectedRow { origin: batch.origin.clone(), ordinal: batch.ordinals.value(row), error });
                    }
                }
            } else {
                self.wait(key, position);
            }
        }
        if late > 0 {
            output.filtered(late);
        }
        self.compact()
    }

    fn wait(&mut self, key: u32, position: u32) {
        self.key_of[position as usize] = key;
        self.live += 1;
        self.partitions[key as usize].waiting += 1;
        self.waiting.push(self.times[position as usize].saturating_add(self.blueprint.slack), position);
    }

    fn advance(&mut self, watermark: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.watermark = watermark;
        let leaving = self.waiting.pass(watermark);
        for block in leaving.chunks(BLOCK) {
            self.leave(block, output)?;
        }
        for key in self.aging.pass(watermark) {
            let partition = &mut self.partitions[key as usize];
            let end = partition.last.saturating_add(self.blueprint.kept());
            if end >= watermark {
                self.aging.push(end, key);
                continue;
            }
            partition.last = NEVER;
            partition.running.clear();
            for position in partition.history.drain(..) {
                self.key_of[position as usize] = NO_ROW;
                self.live -= 1;
            }
        }
        self.compact()
    }

    /// Lets rows leave, which are in order.
    fn leave(&mut self, leaving: &[u32], output: &mut dyn Output) -> Result<(), ExecuteError> {
        // The rows of each key, keys in the order of their first row, and where each row stands among those that leave.
        let mut order: Vec<u32> = Vec::new();
        let mut by_key: HashMap<u32, Vec<usize>> = HashMap::new();
        for (at, position) in leaving.iter().enumerate() {
            let key = self.key_of[*position as usize];
            by_key.entry(key).or_insert_with(|| {
                order.push(key);
                Vec::new()
            });
            by_key.entry(key).or_default().push(at);
        }
        // One look into the rows for all of them.
        let mut reached: Vec<u32> = Vec::new();
        let mut ends = Vec::with_capacity(order.len());
        for key in &order {
            reached.extend(&self.partitions[*key as usize].history);
            reached.extend(by_key[key].iter().map(|at| leaving[*at]));
            ends.push(reached.len());
        }
        let times: Vec<i64> = reached.iter().map(|position| self.times[*position as usize]).collect();
        let values = self.values(&reached)?;
        let blueprint = Arc::clone(&self.blueprint);
        let mut results: Vec<Vec<Option<ScalarValue>>> = vec![vec![None; leaving.len()]; blueprint.calls.len()];
        let mut start = 0;
        for (key, end) in order.iter().zip(ends) {
            let of_key: Vec<Vec<ArrayRef>> =
                values.iter().map(|call| call.iter().map(|value| value.slice(start, end - start)).collect()).collect();
            let partition = &mut self.partitions[*key as usize];
            let is_new = partition.last == NEVER;
            for (results, of_call) in results.iter_mut().zip(partition.leave(&blueprint.calls, &times[start..end], &of_key)?) {
                by_key[key].iter().zip(of_call).for_each(|(at, result)| results[*at] = Some(result));
            }
            partition.waiting -= by_key[key].len();
            partition.history.extend(by_key[key].iter().map(|at| leaving[*at]));
            let over = partition.history.len() - partition.reached(&blueprint.calls);
            for position in partition.history.drain(..over) {
                self.key_of[position as usize] = NO_ROW;
                self.live -= 1;
            }
            if is_new {
                self.aging.push(partition.last.saturating_add(blueprint.kept()), *key);
            }
            start = end;
        }
        self.emit(leaving, results, output)
    }

    /// The arguments of each call for some rows.
    fn values(&self, positions: &[u32]) -> Result<Vec<Vec<ArrayRef>>, ExecuteError> {
        let mut read: Vec<usize> = self.blueprint.calls.iter().flat_map(|framed| framed.call.columns()).collect();
        read.sort_unstable();
        read.dedup();
        let unread: ArrayRef = Arc::new(NullArray::new(0));
        let mut columns = vec![unread; self.blueprint.input.fields().len()];
        for (column, values) in read.iter().zip(self.rows.take(positions, read.iter().copied())?) {
            columns[*column] = values;
        }
        self.blueprint.calls.iter().map(|framed| framed.call.values(&columns, positions.len())).collect()
    }

    fn emit(&self, leaving: &[u32], results: Vec<Vec<Option<ScalarValue>>>, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let mut computed = Vec::with_capacity(results.len());
        for (results, framed) in results.into_iter().zip(&self.blueprint.calls) {
            let results = results.into_iter().map(|result| result.expect("each row that leaves has a result"));
            computed.push(ScalarValue::iter_to_array(results).map_err(|error| framed.call.failed(error))?);
        }
        let kept =
            self.blueprint.output.iter().filter_map(|column| if let OverColumn::Input(column) = column { Some(*column) } else { None });
        let mut taken = self.rows.take(leaving, kept)?.into_iter();
        let columns = self.blueprint.output.iter().map(|column| match column {
            OverColumn::Input(_) => taken.next().expect("one for each column"),
            OverColumn::Call(call) => Arc::clone(&computed[*call]),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(leaving.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns.collect(), &options)?;
        let ordinals = UInt64Array::from_iter_values(leaving.iter().map(|position| self.ids[*position as usize]));
        output.emit(Message::Batch(Batch::new(records, self.origin.clone(), ordinals)));
        Ok(())
    }

    fn compact(&mut self) -> Result<(), ExecuteError> {
        if self.ids.len() - self.live >= COMPACTED.max(self.live) {
            let kept: Vec<u32> = (0..).zip(&self.key_of).filter(|(_, key)| **key != NO_ROW).map(|(position, _)| position).collect();
            let mut moved = vec![NO_ROW; self.ids.len()];
            (0..).zip(&kept).for_each(|(position, kept)| moved[*kept as usize] = position);
            self.rows.retain(&kept)?;
            self.waiting.retain(&kept);
            self.ids = kept.iter().map(|position| self.ids[*position as usize]).collect();
            self.times = kept.iter().map(|position| self.times[*position as usize]).collect();
            self.key_of = kept.iter().map(|position| self.key_of[*position as usize]).collect();
            self.partitions
                .iter_mut()
                .flat_map(|partition| &mut partition.history)
                .for_each(|position| *position = moved[*position as usize]);
        }
        if self.keys.len() > self.most_keys {
            let keep: BooleanArray = self.partitions.iter().map(|partition| Some(!partition.is_empty())).collect();
            let kept: Vec<u32> = (0..).zip(keep.values().iter()).filter(|(_, keep)| *keep).map(|(key, _)| key).collect();
            let mut numbers = vec![NO_ROW; self.keys.len()];
            (0..).zip(&kept).for_each(|(number, key)| numbers[*key as usize] = number);
            self.partitions.retain(|partition| !partition.is_empty());
            self.key_of.iter_mut().filter(|key| **key != NO_ROW).for_each(|key| *key = numbers[*key as usize]);
            self.aging.retain(&kept);
            self.keys.retain(&keep)?;
            self.most_keys = COMPACTED.max(2 * kept.len());
        }
        Ok(())
    }

    /// Rows that have left, by key and in order, then those that wait, in the order in which they came.
    fn stored_rows(&self) -> impl FnOnce() -> Result<StateTable, ArrowError> + Send + use<> {
        let mut left: Vec<bool> = vec![false; self.ids.len()];
        let mut positions: Vec<u32> = self.partitions.iter().flat_map(|partition| partition.history.iter().copied()).collect();
        positions.iter().for_each(|position| left[*position as usize] = true);
        let history = positions.len();
        let waits = |(position, key): (u32, &u32)| (*key != NO_ROW && !left[position as usize]).then_some(position);
        positions.extend((0..).zip(&self.key_of).filter_map(waits));
        let known: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(positions.iter().map(|position| self.ids[*position as usize]))),
            Arc::new((0..positions.len()).map(|row| Some(row < history)).collect::<BooleanArray>()),
        ];
        let groups = positions.iter().map(|position| key_group(self.keys.hash(self.key_of[*position as usize])));
        let groups = UInt16Array::from_iter_values(groups);
        table_of(&self.rows, positions, groups, &[("\u{0}id", DataType::UInt64), ("\u{0}left", DataType::Boolean)], known)
    }

    /// Keys with the time of their last row, and for each call how many rows are in it and what they add up to.
    fn stored_keys(&mut self) -> Result<StateTable, ExecuteError> {
        let keys: Vec<u32> = (0..).zip(&self.partitions).filter(|(_, partition)| !partition.is_empty()).map(|(key, _)| key).collect();
        let mut columns = self.keys.columns(&keys)?;
        let partition_by = self.blueprint.partition_by.iter();
        let mut fields: Vec<Field> = partition_by.map(|column| self.blueprint.input.field(*column).clone().with_nullable(true)).collect();
        columns.push(Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| self.partitions[*key as usize].last))));
        fields.push(Field::new("\u{0}last", DataType::Int64, false));
        for (number, framed) in self.blueprint.calls.iter().enumerate() {
            let failed = |error| framed.call.failed(error);
            let mut rows = Vec::with_capacity(keys.len());
            let mut states: Vec<Vec<ScalarValue>> = Vec::with_capacity(keys.len());
            for key in &keys {
                let running = self.partitions[*key as usize].running.get_mut(number);
                rows.push(running.as_ref().map_or(0, |running| running.rows as u64));
                states.push(match running {
                    Some(running) => running.accumulator.state().map_err(failed)?,
                    None => accumulator(framed)?.state().map_err(failed)?,
                });
            }
            columns.push(Arc::new(UInt64Array::from(rows)));
            fields.push(Field::new(format!("\u{0}rows {number}"), DataType::UInt64, false));
            for (part, empty) in accumulator(framed)?.state().map_err(failed)?.iter().enumerate() {
                let values = states.iter().map(|state| state[part].clone());
                columns.push(if keys.is_empty() {
                    arrow::array::new_empty_array(&empty.data_type())
                } else {
                    ScalarValue::iter_to_array(values).map_err(failed)?
                });
                fields.push(Field::new(format!("\u{0}state {number} {part}"), empty.data_type(), true));
            }
        }
        let groups = UInt16Array::from_iter_values(keys.iter().map(|key| key_group(self.keys.hash(*key))));
        Ok(StateTable { groups, records: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)? })
    }

    fn restore_rows(&mut self, records: &RecordBatch) -> Result<(), ExecuteError> {
        let width = self.blueprint.input.fields().len();
        if records.num_columns() != width + 2 {
            return Err(ExecuteError::State { message: format!("{} columns of rows", records.num_columns()) });
        }
        let columns = &records.columns()[..width];
        let times = micros(&columns[self.blueprint.time])?;
        let ids = records.column(width).as_primitive::<UInt64Type>().values().to_vec();
        let (first, keys) = self.add(columns, ids, times.values())?;
        let left = records.column(width + 1).as_boolean();
        for (row, (position, key)) in (first..).zip(keys).enumerate() {
            if left.value(row) {
                self.key_of[position as usize] = key;
                self.live += 1;
                self.partitions[key as usize].history.push_back(position);
            } else {
                self.wait(key, position);
            }
        }
        Ok(())
    }

    /// Once the rows are there: aggregates that cannot be put together from what they add up to are computed from them.
    fn restore_running(&mut self, records: &RecordBatch, keys: &[u32]) -> Result<(), ExecuteError> {
        let mut column = self.blueprint.partition_by.len();
        let last = records.column(column).as_primitive::<Int64Type>().clone();
        column += 1;
        let blueprint = Arc::clone(&self.blueprint);
        for framed in &blueprint.calls {
            let failed = |error| framed.call.failed(error);
            let parts = accumulator(framed)?.state().map_err(failed)?.len();
            let rows = records.column(column).as_primitive::<UInt64Type>().clone();
            let states = records.columns()[column + 1..=column + parts].to_vec();
            column += 1 + parts;
            let recomputed = framed.frame.is_bounded() && matches!(framed.call.function.fun().name(), "min" | "max");
            for (row, key) in keys.iter().enumerate().filter(|(row, _)| last.value(*row) != NEVER) {
                let mut made = accumulator(framed)?;
                let rows = rows.value(row) as usize;
                if recomputed {
                    let history = &self.partitions[*key as usize].history;
                    let positions: Vec<u32> = history.iter().skip(history.len().saturating_sub(rows)).copied().collect();
                    let number = blueprint.calls.iter().position(|other| std::ptr::eq(other, framed)).unwrap_or(0);
                    made.update_batch(&self.values(&positions)?[number]).map_err(failed)?;
                } else {
                    let state: Vec<ArrayRef> = states.iter().map(|state| state.slice(row, 1)).collect();
                    made.merge_batch(&state).map_err(failed)?;
                }
                self.partitions[*key as usize].running.push(Running { accumulator: made, rows });
            }
        }
        for (row, key) in keys.iter().enumerate().filter(|(row, _)| last.value(*row) != NEVER) {
            self.partitions[*key as usize].last = last.value(row);
            self.aging.push(last.value(row).saturating_add(self.blueprint.kept()), *key);
        }
        Ok(())
    }
}

impl Operator for Over {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.batch(&batch, output),
            Message::Watermark(watermark) => {
                self.advance(watermark, output)?;
                let passed = if watermark == i64::MAX { watermark } else { watermark.saturating_sub(self.blueprint.slack) };
                output.emit(Message::Watermark(passed));
                Ok(())
            }
            other => {
                output.emit(other);
                Ok(())
            }
        }
    }

    fn due(&self) -> Option<i64> {
        self.waiting.first()
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let (rows, keys) = (self.stored_rows(), self.stored_keys()?);
        let tables = move || Ok(BTreeMap::from([(ROWS.to_owned(), rows()?), (KEYS.to_owned(), keys)]));
        Ok(Some(TakenState::new(self.blueprint.state_signature().unwrap_or_default(), tables)))
    }

    fn state_bytes(&self) -> usize {
        let vectors = (self.ids.capacity() + self.times.capacity()) * 8 + self.key_of.capacity() * 4;
        // An accumulator of a number is about that large; histories grow by doubling.
        let partition = size_of::<Partition>() + self.blueprint.calls.len() * (size_of::<Running>() + 64);
        let partitions = self.partitions.capacity() * partition + self.live * 8;
        let ends = self.waiting.memory_bytes() + self.aging.memory_bytes();
        self.keys.memory_bytes() + self.rows.memory_bytes() + vectors + ends + partitions
    }

    fn restore(&mut self, state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        let keys = state.tables.get(KEYS).map(|table| &table.records);
        let columns = self.blueprint.partition_by.len();
        let numbers = keys.map_or(Ok(Vec::new()), |keys| self.intern(&keys.columns()[..columns], keys.num_rows()))?;
        if let Some(table) = state.tables.get(ROWS) {
            self.restore_rows(&table.records)?;
        }
        keys.map_or(Ok(()), |keys| self.restore_running(keys, &numbers))
    }
}
