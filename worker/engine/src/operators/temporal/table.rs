//! The table of a temporal join: its rows by key, in the order of the times from which they are in force. Pairs nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt16Array, UInt64Array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::{Moment, TemporalSide};
use crate::operators::StateTable;
use crate::operators::revision::{Comparators, RevisedBy};
use crate::operators::state::table_of;
use crate::state::{Ends, KeyTable, NO_ROW, RowStore, key_group};

/// Fewer free positions than this are not worth a compaction.
const COMPACTED: usize = 4096;
/// Versions are looked through for those that nothing finds any more once in so many microseconds.
const GRANULE: i64 = 1_000_000;

/// Rows by key.
pub(super) struct Table {
    rows: RowStore,
    pub(super) ids: Vec<u64>,
    /// From when on each is in force; the same for all where only what is there now counts.
    times: Vec<i64>,
    /// The key of each position; [`NO_ROW`] for rows that are gone.
    key_of: Vec<u32>,
    live: usize,
    /// By key: positions by time, those of one time by arrival.
    by_key: Vec<Vec<u32>>,
    /// Keys, by times at which an older version may be gone.
    stale: Ends,
    revised_by: Option<RevisedBy>,
    hashes: Vec<u64>,
    versions: bool,
}

impl Table {
    pub(super) fn new(side: &TemporalSide, moment: &Moment) -> Self {
        let revised_by = match moment {
            Moment::Current { revised_by: Some(columns), .. } => Some(RevisedBy::new(&side.schema, columns)),
            _ => None,
        };
        Self {
            rows: RowStore::new(&side.schema),
            ids: Vec::new(),
            times: Vec::new(),
            key_of: Vec::new(),
            live: 0,
            by_key: Vec::new(),
            stale: Ends::new(GRANULE),
            revised_by,
            hashes: Vec::new(),
            versions: matches!(moment, Moment::Versions { .. }),
        }
    }

    /// Adds rows, which are not in the table yet; returns the position of the first.
    pub(super) fn push(&mut self, columns: &[ArrayRef], ids: Vec<u64>, times: &[i64], keys: usize) -> Result<u32, ArrowError> {
        if let Some(revised) = &self.revised_by {
            self.hashes.extend(revised.hashes(columns, ids.len())?);
        }
        let first = self.rows.push(columns, ids.len())?;
        self.ids.extend(ids);
        self.times.extend_from_slice(times);
        self.key_of.resize(self.ids.len(), NO_ROW);
        self.grow(keys);
        Ok(first)
    }

    pub(super) fn grow(&mut self, keys: usize) {
        self.by_key.resize_with(keys.max(self.by_key.len()), Vec::new);
    }

    /// From now on the row is in the table. Of versions of one time the last that came counts.
    pub(super) fn insert(&mut self, key: u32, position: u32, watermark: i64) {
        let time = self.times[position as usize];
        let of_key = &mut self.by_key[key as usize];
        let at = of_key.partition_point(|other| self.times[*other as usize] <= time);
        of_key.insert(at, position);
        self.key_of[position as usize] = key;
        self.live += 1;
        if self.versions {
            if time < watermark {
                self.prune(key, watermark);
            } else {
                self.stale.push(time, key);
            }
        }
    }

    /// Takes out the last row that equals the one at `position`.
    pub(super) fn take_back(&mut self, key: u32, position: u32, comparators: &mut Comparators) -> Result<(), ArrowError> {
        let Some(revised) = &self.revised_by else { return Ok(()) };
        let hash = self.hashes[position as usize];
        for at in (0..self.by_key[key as usize].len()).rev() {
            let candidate = self.by_key[key as usize][at];
            if self.hashes[candidate as usize] == hash && comparators.equal(&self.rows, revised, candidate, position)? {
                self.by_key[key as usize].remove(at);
                self.free(candidate);
                return Ok(());
            }
        }
        Ok(())
    }

    fn free(&mut self, position: u32) {
        self.key_of[position as usize] = NO_ROW;
        self.live -= 1;
    }

    /// The version of a key that is in force at a time.
    pub(super) fn at(&self, key: u32, time: i64) -> Option<u32> {
        let of_key = &self.by_key[key as usize];
        of_key.partition_point(|position| self.times[*position as usize] <= time).checked_sub(1).map(|at| of_key[at])
    }

    /// All rows of a key.
    pub(super) fn of(&self, key: u32) -> &[u32] {
        &self.by_key[key as usize]
    }

    /// Forgets versions that no row finds any more: those before the one that is in force at the watermark.
    pub(super) fn advance(&mut self, watermark: i64) {
        for key in self.stale.pass(watermark) {
            self.prune(key, watermark);
        }
    }

    fn prune(&mut self, key: u32, watermark: i64) {
        let of_key = &self.by_key[key as usize];
        let over = of_key.partition_point(|position| self.times[*position as usize] <= watermark).saturating_sub(1);
        let over: Vec<u32> = self.by_key[key as usize].drain(..over).collect();
        over.into_iter().for_each(|position| self.free(position));
    }

    pub(super) fn is_empty(&self, key: usize) -> bool {
        self.by_key.get(key).is_none_or(Vec::is_empty)
    }

    /// Keeps the keys at `kept`, which ascend; `numbers` has the new number of each, of those that are gone [`NO_ROW`].
    pub(super) fn renumber(&mut self, kept: &[u32], numbers: &[u32]) {
        self.by_key = kept.iter().map(|key| std::mem::take(&mut self.by_key[*key as usize])).collect();
        self.stale.retain(kept);
        self.key_of.iter_mut().filter(|key| **key != NO_ROW).for_each(|key| *key = numbers[*key as usize]);
    }

    /// Frees the memory of rows that are gone, if there are enough of them. Positions change.
    pub(super) fn compact(&mut self) -> Result<(), ArrowError> {
        if self.ids.len() - self.live < COMPACTED.max(self.live) {
            return Ok(());
        }
        let kept = self.positions();
        let mut moved = vec![NO_ROW; self.ids.len()];
        (0..).zip(&kept).for_each(|(position, kept)| moved[*kept as usize] = position);
        self.rows.retain(&kept)?;
        self.ids = kept.iter().map(|position| self.ids[*position as usize]).collect();
        self.times = kept.iter().map(|position| self.times[*position as usize]).collect();
        self.key_of = kept.iter().map(|position| self.key_of[*position as usize]).collect();
        if self.revised_by.is_some() {
            self.hashes = kept.iter().map(|position| self.hashes[*position as usize]).collect();
        }
        self.by_key.iter_mut().flatten().for_each(|position| *position = moved[*position as usize]);
        Ok(())
    }

    fn positions(&self) -> Vec<u32> {
        (0..).zip(&self.key_of).filter(|(_, key)| **key != NO_ROW).map(|(position, _)| position).collect()
    }

    pub(super) fn take(&self, positions: &[u32], columns: impl IntoIterator<Item = usize>) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows.take(positions, columns)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let vectors = (self.ids.capacity() + self.times.capacity() + self.hashes.capacity()) * 8 + self.key_of.capacity() * 4;
        let by_key = self.by_key.capacity() * size_of::<Vec<u32>>() + self.live * 8;
        self.rows.memory_bytes() + vectors + by_key + self.stale.memory_bytes()
    }

    /// The rows in the order in which they came, with their names and times, and whether the table has been read once.
    pub(super) fn snapshot(&self, keys: &KeyTable, loaded: bool) -> impl FnOnce() -> Result<StateTable, ArrowError> + Send + use<> {
        let positions = self.positions();
        let each = || positions.iter().map(|position| *position as usize);
        let known: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(each().map(|position| self.ids[position]))),
            Arc::new(Int64Array::from_iter_values(each().map(|position| self.times[position]))),
            Arc::new(BooleanArray::from(vec![loaded; positions.len()])),
        ];
        let groups = UInt16Array::from_iter_values(each().map(|position| key_group(keys.hash(self.key_of[position]))));
        let fields = [("\u{0}id", DataType::UInt64), ("\u{0}time", DataType::Int64), ("\u{0}loaded", DataType::Boolean)];
        table_of(&self.rows, positions, groups, &fields, known)
    }
}
