//! The rows of a top-N: for each key those that have a number, in order. Knows nothing of time.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt16Array, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use super::{RankBlueprint, Ties};
use crate::operators::revision::{Comparators, RevisedBy};
use crate::operators::state::table_of;
use crate::operators::{ExecuteError, StateTable};
use crate::state::{KeyTable, NO_ROW, RowStore, hash_rows, key_group};

/// Fewer free positions or keys than this are not worth a compaction.
const COMPACTED: usize = 4096;

/// Rows with their order. What is known of the row at a position stands in plain vectors.
pub(super) struct Table {
    partition_by: Vec<usize>,
    /// How many rows are kept for each key; `usize::MAX` if any may be taken back.
    limit: usize,
    ties: Ties,
    pub(super) keys: KeyTable,
    tops: Tops,
    rows: RowStore,
    converter: RowConverter,
    order_by: Vec<usize>,
    /// ORDER BY columns as bytes that compare like them, by position.
    orders: Bytes,
    /// A name for each row that is the same in every replay.
    pub(super) ids: Vec<u64>,
    /// Key of each position; [`NO_ROW`] if it has no number.
    key_of: Vec<u32>,
    hashes: Vec<u64>,
    revised_by: Option<RevisedBy>,
    numbered: usize,
}

/// The positions of each key in order.
enum Tops {
    /// One at most: the commonest case, without a vector for each key.
    One(Vec<u32>),
    Many(Vec<Vec<u32>>),
}

impl Tops {
    fn of(&self, key: u32) -> &[u32] {
        match self {
            Self::One(tops) => {
                let top = &tops[key as usize..=key as usize];
                if top[0] == NO_ROW { &[] } else { top }
            }
            Self::Many(tops) => &tops[key as usize],
        }
    }

    /// Inserts a position; returns the one that is too many then.
    fn insert(&mut self, key: u32, at: usize, position: u32, limit: usize) -> Option<u32> {
        match self {
            Self::One(tops) => Some(std::mem::replace(&mut tops[key as usize], position)).filter(|old| *old != NO_ROW),
            Self::Many(tops) => {
                let top = &mut tops[key as usize];
                top.insert(at, position);
                if top.len() > limit { top.pop() } else { None }
            }
        }
    }

    fn remove(&mut self, key: u32, at: usize) {
        match self {
            Self::One(tops) => tops[key as usize] = NO_ROW,
            Self::Many(tops) => {
                tops[key as usize].remove(at);
            }
        }
    }

    fn clear(&mut self, key: u32) {
        match self {
            Self::One(tops) => tops[key as usize] = NO_ROW,
            Self::Many(tops) => tops[key as usize] = Vec::new(),
        }
    }

    fn grow(&mut self, keys: usize) {
        match self {
            Self::One(tops) => tops.resize(keys, NO_ROW),
            Self::Many(tops) => tops.resize_with(keys, Vec::new),
        }
    }

    fn move_rows(&mut self, moved: &[u32]) {
        let one = |position: &mut u32| *position = if *position == NO_ROW { NO_ROW } else { moved[*position as usize] };
        match self {
            Self::One(tops) => tops.iter_mut().for_each(one),
            Self::Many(tops) => tops.iter_mut().flatten().for_each(one),
        }
    }

    fn retain_keys(&mut self, keep: &[bool]) {
        let mut keep = keep.iter().copied();
        let mut keep = move || keep.next().unwrap_or(true);
        match self {
            Self::One(tops) => tops.retain(|_| keep()),
            Self::Many(tops) => tops.retain(|_| keep()),
        }
    }
}

/// Strings of bytes, by position.
#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Bytes {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    fn get(&self, position: u32) -> &[u8] {
        let position = position as usize;
        let start = if position == 0 { 0 } else { self.ends[position - 1] };
        &self.bytes[start..self.ends[position]]
    }

    fn retain(&mut self, kept: &[u32]) {
        let mut other = Self::default();
        kept.iter().for_each(|position| other.push(self.get(*position)));
        *self = other;
    }
}

impl Table {
    pub(super) fn new(blueprint: &RankBlueprint) -> Self {
        let data_type = |column: usize| blueprint.input.field(column).data_type().clone();
        let field = |order: &super::OrderBy| {
            let options = SortOptions { descending: order.descending, nulls_first: order.nulls_first };
            SortField::new_with_options(data_type(order.column), options)
        };
        let limit = if blueprint.revised_by.is_some() { usize::MAX } else { usize::try_from(blueprint.last).unwrap_or(usize::MAX) };
        let types: Vec<DataType> = blueprint.partition_by.iter().map(|column| data_type(*column)).collect();
        Self {
            partition_by: blueprint.partition_by.clone(),
            limit,
            ties: blueprint.ties,
            keys: KeyTable::new(&types).expect("the planner lets only keys through that have a hash"),
            tops: if limit == 1 { Tops::One(Vec::new()) } else { Tops::Many(Vec::new()) },
            rows: RowStore::new(&blueprint.input),
            converter: RowConverter::new(blueprint.order_by.iter().map(field).collect())
                .expect("the planner lets only columns through that have an order"),
            order_by: blueprint.order_by.iter().map(|order| order.column).collect(),
            orders: Bytes::default(),
            ids: Vec::new(),
            key_of: Vec::new(),
            hashes: Vec::new(),
            revised_by: blueprint.revised_by.as_ref().map(|columns| RevisedBy::new(&blueprint.input, columns)),
            numbered: 0,
        }
    }

    /// Adds rows, which have no numbers yet; returns the position of the first, and the key of each.
    pub(super) fn push(&mut self, columns: &[ArrayRef], ids: Vec<u64>) -> Result<(u32, Vec<u32>), ArrowError> {
        let count = ids.len();
        let key_columns: Vec<ArrayRef> = self.partition_by.iter().map(|column| Arc::clone(&columns[*column])).collect();
        let keys = self.intern(&key_columns, count)?;
        let order_columns: Vec<ArrayRef> = self.order_by.iter().map(|column| Arc::clone(&columns[*column])).collect();
        self.converter.convert_columns(&order_columns)?.iter().for_each(|order| self.orders.push(order.data()));
        if let Some(revised_by) = &self.revised_by {
            self.hashes.extend(revised_by.hashes(columns, count)?);
        }
        let first = self.rows.push(columns, count)?;
        self.ids.extend(ids);
        self.key_of.resize(self.ids.len(), NO_ROW);
        Ok((first, keys))
    }

    /// The numbers of keys; new ones have no rows.
    pub(super) fn intern(&mut self, key_columns: &[ArrayRef], count: usize) -> Result<Vec<u32>, ArrowError> {
        let keys = self.keys.intern(key_columns, &hash_rows(key_columns, count)?)?;
        self.tops.grow(self.keys.len());
        Ok(keys)
    }

    /// The positions of a key in order.
    pub(super) fn of(&self, key: u32) -> &[u32] {
        self.tops.of(key)
    }

    /// The key of a row; `None` if it has no number.
    pub(super) fn key(&self, position: u32) -> Option<u32> {
        Some(self.key_of[position as usize]).filter(|key| *key != NO_ROW)
    }

    /// Gives a row its place, unless there are enough before it.
    pub(super) fn insert(&mut self, key: u32, position: u32) {
        let order = self.orders.get(position);
        let before = |other: &u32| match self.ties {
            Ties::Earliest => self.orders.get(*other) <= order,
            Ties::Latest => self.orders.get(*other) < order,
        };
        let at = self.tops.of(key).partition_point(before);
        if at >= self.limit {
            return;
        }
        self.key_of[position as usize] = key;
        self.numbered += 1;
        if let Some(evicted) = self.tops.insert(key, at, position, self.limit) {
            self.unnumber(evicted);
        }
    }

    /// Takes the row back that equals the one at `position`; of several, the one that came first, as Flink does.
    pub(super) fn take_back(&mut self, key: u32, position: u32, comparators: &mut Comparators) -> Result<(), ArrowError> {
        let Some(revised_by) = &self.revised_by else { return Ok(()) };
        let order = self.orders.get(position);
        let top = self.tops.of(key);
        let equal =
            top.partition_point(|other| self.orders.get(*other) < order)..top.partition_point(|other| self.orders.get(*other) <= order);
        let hash = self.hashes[position as usize];
        // What tells rows apart may leave ORDER BY out, so that a row may be found under another order than it is taken back with.
        for at in equal.clone().chain(0..top.len()) {
            let at = if self.ties == Ties::Latest && equal.contains(&at) { equal.end - 1 - (at - equal.start) } else { at };
            let candidate = top[at];
            if self.hashes[candidate as usize] == hash && comparators.equal(&self.rows, revised_by, candidate, position)? {
                self.tops.remove(key, at);
                self.unnumber(candidate);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Forgets the rows of a key.
    pub(super) fn clear(&mut self, key: u32) {
        for position in self.tops.of(key) {
            self.key_of[*position as usize] = NO_ROW;
            self.numbered -= 1;
        }
        self.tops.clear(key);
    }

    fn unnumber(&mut self, position: u32) {
        self.key_of[position as usize] = NO_ROW;
        self.numbered -= 1;
    }

    pub(super) fn take(&self, positions: &[u32], columns: impl IntoIterator<Item = usize>) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows.take(positions, columns)
    }

    /// Frees the memory of rows without a number, if there are enough of them; returns those that are kept if positions have changed.
    pub(super) fn compact(&mut self) -> Result<Option<Vec<u32>>, ArrowError> {
        let free = self.ids.len() - self.numbered;
        if free < COMPACTED.max(self.numbered) {
            return Ok(None);
        }
        let kept = self.positions();
        let mut moved = vec![NO_ROW; self.ids.len()];
        (0..).zip(&kept).for_each(|(position, kept)| moved[*kept as usize] = position);
        self.rows.retain(&kept)?;
        self.orders.retain(&kept);
        self.tops.move_rows(&moved);
        self.ids = kept.iter().map(|position| self.ids[*position as usize]).collect();
        self.key_of = kept.iter().map(|position| self.key_of[*position as usize]).collect();
        if self.revised_by.is_some() {
            self.hashes = kept.iter().map(|position| self.hashes[*position as usize]).collect();
        }
        Ok(Some(kept))
    }

    /// Forgets keys for which `keep` is false and which have no rows, if there are enough of them; returns the numbers of those that are kept.
    pub(super) fn compact_keys(&mut self, free: usize, keep: impl Fn(u32) -> bool) -> Result<Option<Vec<u32>>, ArrowError> {
        let keys = self.keys.len();
        if free < COMPACTED.max(keys - free) {
            return Ok(None);
        }
        let keep: Vec<bool> = (0..keys as u32).map(|key| !self.tops.of(key).is_empty() || keep(key)).collect();
        let kept: Vec<u32> = (0..).zip(&keep).filter(|(_, keep)| **keep).map(|(key, _)| key).collect();
        let mut numbers = vec![NO_ROW; keys];
        (0..).zip(&kept).for_each(|(number, key)| numbers[*key as usize] = number);
        self.tops.retain_keys(&keep);
        self.key_of.iter_mut().filter(|key| **key != NO_ROW).for_each(|key| *key = numbers[*key as usize]);
        self.keys.retain(&keep.into())?;
        Ok(Some(kept))
    }

    /// All positions with a number, ascending.
    fn positions(&self) -> Vec<u32> {
        (0..).zip(&self.key_of).filter(|(_, key)| **key != NO_ROW).map(|(position, _)| position).collect()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let tops = match &self.tops {
            Tops::One(tops) => tops.capacity() * 4,
            Tops::Many(tops) => tops.capacity() * size_of::<Vec<u32>>() + self.numbered * 8,
        };
        let vectors = (self.ids.capacity() + self.hashes.capacity() + self.orders.ends.capacity()) * 8 + self.key_of.capacity() * 4;
        self.keys.memory_bytes() + self.rows.memory_bytes() + self.orders.bytes.capacity() + vectors + tops
    }

    /// The rows that have a number, in the order in which they came.
    pub(super) fn snapshot(&self) -> impl FnOnce() -> Result<StateTable, ArrowError> + Send + use<> {
        let positions = self.positions();
        let ids = UInt64Array::from_iter_values(positions.iter().map(|position| self.ids[*position as usize]));
        let keys: Vec<u32> = positions.iter().map(|position| self.key_of[*position as usize]).collect();
        table_of(&self.rows, positions, self.groups(&keys), &[("\u{0}id", DataType::UInt64)], vec![Arc::new(ids)])
    }

    /// The key group of each of some keys.
    pub(super) fn groups(&self, keys: &[u32]) -> UInt16Array {
        UInt16Array::from_iter_values(keys.iter().map(|key| key_group(self.keys.hash(*key))))
    }

    /// Takes back what [`Table::snapshot`] gave; returns the key of each row and the position of the first.
    pub(super) fn restore(&mut self, records: &RecordBatch) -> Result<(u32, Vec<u32>), ExecuteError> {
        let width = self.rows.schema().fields().len();
        if records.num_columns() != width + 1 {
            return Err(ExecuteError::State { message: format!("{} columns of a top-N's rows", records.num_columns()) });
        }
        let ids = records.column(width).as_primitive::<UInt64Type>().values().to_vec();
        let (first, keys) = self.push(&records.columns()[..width], ids)?;
        (first..).zip(&keys).for_each(|(position, key)| self.insert(*key, position));
        Ok((first, keys))
    }
}
