//! What one side of a join keeps: its rows, by key, with what is known of each. Decides nothing about what comes out.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

use super::{JoinSide, Lifetime};
use crate::operators::micros::micros;
use crate::operators::revision::{Comparators, RevisedBy};
use crate::operators::state::table_of;
use crate::operators::{ExecuteError, StateTable};
use crate::state::{Ends, KeyTable, Lists, NO_ROW, RowStore, hash_rows, key_group};

/// Fewer free positions than this are not worth a compaction.
const COMPACTED: usize = 4096;
/// The part of an interval by which rows may be kept longer than they must, so that they can be dropped together.
const GRANULES: i64 = 64;

/// Rows of one side. What is known of the row at a position stands in plain vectors; only rows that can still meet others are in a list.
pub(super) struct Side {
    number: usize,
    rows: RowStore,
    pub(super) lists: Lists,
    /// A name for each row that is the same in every replay.
    pub(super) ids: Vec<u64>,
    /// TTL: the watermark when the row came. Interval: the row's time. Window: its end.
    pub(super) times: Vec<i64>,
    /// How many rows of the other side it meets; kept for outer sides only.
    pub(super) matches: Vec<u32>,
    /// Hashes of the columns that tell which row is taken back; empty for sides that are not revised.
    hashes: Vec<u64>,
    revised_by: Option<RevisedBy>,
    lifetime: Lifetime,
    ends: Ends,
    /// With a TTL: positions below have been forgotten.
    oldest: u32,
}

impl Side {
    pub(super) fn new(number: usize, side: &JoinSide, lifetime: Lifetime, exact: bool) -> Self {
        let granule = match lifetime {
            Lifetime::Interval { lower, upper, .. } if !exact => upper.saturating_sub(lower) / GRANULES,
            _ => 1,
        };
        let revised_by = side.revised_by.as_ref().map(|columns| RevisedBy::new(&side.schema, columns));
        Self {
            number,
            rows: RowStore::new(&side.schema),
            lists: Lists::default(),
            ids: Vec::new(),
            times: Vec::new(),
            matches: Vec::new(),
            hashes: Vec::new(),
            revised_by,
            lifetime,
            ends: Ends::new(granule),
            oldest: 0,
        }
    }

    /// Adds rows, which can meet none until they are [linked](Side::link); returns the position of the first.
    pub(super) fn push(&mut self, columns: &[ArrayRef], times: Vec<i64>, ids: Vec<u64>, keys: usize) -> Result<u32, ArrowError> {
        let count = ids.len();
        if let Some(revised) = &self.revised_by {
            self.hashes.extend(revised.hashes(columns, count)?);
        }
        let first = self.rows.push(columns, count)?;
        self.ids.extend(ids);
        self.times.extend(times);
        self.matches.resize(self.ids.len(), 0);
        self.lists.grow(keys, self.rows.len());
        Ok(first)
    }

    /// From now on the row meets those with its key.
    pub(super) fn link(&mut self, key: u32, position: u32) {
        self.lists.push(key, position);
        if let Some(end) = self.end(position) {
            self.ends.push(end, position);
        }
    }

    /// The watermark beyond which a row can meet none; `None` if only its age counts.
    pub(super) fn end(&self, position: u32) -> Option<i64> {
        let time = self.times[position as usize];
        match self.lifetime {
            Lifetime::Ttl(_) => None,
            Lifetime::Window { .. } => Some(time.saturating_sub(1)),
            Lifetime::Interval { lower, slack, .. } if self.number == 0 => Some(time.saturating_sub(lower).saturating_add(slack)),
            Lifetime::Interval { upper, slack, .. } => Some(time.saturating_add(upper).saturating_add(slack)),
        }
    }

    /// Whether a row can meet none any more.
    pub(super) fn is_over(&self, position: u32, watermark: i64) -> bool {
        self.end(position).is_some_and(|end| end < watermark)
    }

    /// The last row of a key that equals the row at `position`, in the columns that tell.
    pub(super) fn find(&self, key: u32, position: u32, comparators: &mut Comparators) -> Result<Option<u32>, ArrowError> {
        let Some(revised) = &self.revised_by else { return Ok(None) };
        let hash = self.hashes[position as usize];
        for candidate in self.lists.iter_back(key) {
            if self.hashes[candidate as usize] == hash && comparators.equal(&self.rows, revised, candidate, position)? {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// The lowest watermark at which a row may be over.
    pub(super) fn first_end(&self) -> Option<i64> {
        match self.lifetime {
            Lifetime::Ttl(ttl) => self.times.get(self.oldest as usize).map(|time| time.saturating_add(ttl).saturating_add(1)),
            _ => self.ends.first(),
        }
    }

    /// Unlinks the rows that are over at this watermark; returns them in the order in which they are over. The rows themselves stay until [`Side::compact`].
    pub(super) fn expire(&mut self, watermark: i64) -> Vec<u32> {
        let over = match self.lifetime {
            Lifetime::Ttl(ttl) => {
                let first = self.oldest;
                let is_old = |position: &u32| self.times[*position as usize].saturating_add(ttl) < watermark;
                self.oldest += (first..self.rows.len()).take_while(is_old).count() as u32;
                (first..self.oldest).filter(|position| self.lists.key(*position).is_some()).collect()
            }
            _ => self.ends.pass(watermark),
        };
        // A row that was taken back stays among the ends.
        let over: Vec<u32> = over.into_iter().filter(|position| self.lists.key(*position).is_some()).collect();
        over.iter().for_each(|position| self.lists.remove(*position));
        over
    }

    /// Rows that came before the first watermark count from it.
    pub(super) fn start_aging(&mut self, watermark: i64) {
        if matches!(self.lifetime, Lifetime::Ttl(_)) {
            self.times.iter_mut().filter(|time| **time == i64::MIN).for_each(|time| *time = watermark);
        }
    }

    /// Frees the memory of rows that are not linked, if there are enough of them. Positions change.
    pub(super) fn compact(&mut self) -> Result<(), ArrowError> {
        let free = self.rows.len() as usize - self.lists.linked();
        if free < COMPACTED.max(self.lists.linked()) {
            return Ok(());
        }
        let kept = self.lists.positions();
        self.rows.retain(&kept)?;
        self.lists.retain(&kept);
        self.ends.retain(&kept);
        pick(&mut self.ids, &kept);
        pick(&mut self.times, &kept);
        pick(&mut self.matches, &kept);
        if self.revised_by.is_some() {
            pick(&mut self.hashes, &kept);
        }
        self.oldest = 0;
        Ok(())
    }

    /// Values of columns at positions; NULL for [`NO_ROW`].
    pub(super) fn take(&self, positions: &[u32], columns: impl IntoIterator<Item = usize>) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows.take(positions, columns)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let vectors = (self.ids.capacity() + self.times.capacity() + self.hashes.capacity()) * 8 + self.matches.capacity() * 4;
        self.rows.memory_bytes() + self.lists.memory_bytes() + self.ends.memory_bytes() + vectors
    }

    /// The rows that are linked, with what is known of them.
    pub(super) fn snapshot(&self, keys: &KeyTable) -> impl FnOnce() -> Result<StateTable, ArrowError> + Send + use<> {
        let positions = self.lists.positions();
        let each = || positions.iter().map(|position| *position as usize);
        let known: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(each().map(|position| self.ids[position]))),
            Arc::new(Int64Array::from_iter_values(each().map(|position| self.times[position]))),
            Arc::new(UInt32Array::from_iter_values(each().map(|position| self.matches[position]))),
        ];
        let key = |position: &u32| self.lists.key(*position).expect("only linked rows are stored");
        let groups = UInt16Array::from_iter_values(positions.iter().map(|position| key_group(keys.hash(key(position)))));
        let fields = [("\u{0}id", DataType::UInt64), ("\u{0}time", DataType::Int64), ("\u{0}matches", DataType::UInt32)];
        table_of(&self.rows, positions, groups, &fields, known)
    }

    /// Takes back what [`Side::snapshot`] gave, in the order of the key's arrivals.
    pub(super) fn restore(&mut self, records: &RecordBatch, side: &JoinSide, keys: &mut KeyTable) -> Result<(), ExecuteError> {
        let width = side.schema.fields().len();
        if records.num_columns() != width + 3 {
            return Err(ExecuteError::State { message: format!("{} columns of a join's rows", records.num_columns()) });
        }
        let mut columns = records.columns().to_vec();
        if matches!(self.lifetime, Lifetime::Ttl(_)) {
            // State of several lanes: the oldest rows stand first again.
            let times = columns[width + 1].as_primitive::<Int64Type>();
            if !times.values().is_sorted() {
                let mut order: Vec<u32> = (0..times.len() as u32).collect();
                order.sort_by_key(|row| times.value(*row as usize));
                let order = UInt32Array::from(order);
                columns = columns.iter().map(|column| take(column, &order, None)).collect::<Result<_, _>>()?;
            }
        }
        let key_columns: Vec<ArrayRef> = side.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let hashes = hash_rows(&key_columns, records.num_rows())?;
        let numbers = keys.intern(&key_columns, &hashes)?;
        let ids = columns[width].as_primitive::<UInt64Type>().values().to_vec();
        let times = columns[width + 1].as_primitive::<Int64Type>().values().to_vec();
        let first = self.push(&columns[..width], times, ids, keys.len())?;
        self.matches.truncate(first as usize);
        self.matches.extend(columns[width + 2].as_primitive::<UInt32Type>().values());
        (first..).zip(numbers).for_each(|(position, key)| self.link(key, position));
        Ok(())
    }

    /// The time of each row of a batch: the watermark when it came, its event time or its window's end. NULL where it has none.
    pub(super) fn times_of(&self, columns: &[ArrayRef], rows: usize, watermark: i64) -> Result<Int64Array, ArrowError> {
        match self.lifetime {
            Lifetime::Ttl(_) => Ok(Int64Array::from_value(watermark, rows)),
            Lifetime::Interval { times, .. } => micros(&columns[times[self.number]]),
            Lifetime::Window { ends } => micros(&columns[ends[self.number]]),
        }
    }
}

fn pick<T: Copy>(values: &mut Vec<T>, kept: &[u32]) {
    kept.iter().enumerate().for_each(|(to, from)| values[to] = values[*from as usize]);
    values.truncate(kept.len());
    values.shrink_to(2 * kept.len());
}

/// Forgets keys that have no rows on either side, if there are enough of them.
pub(super) fn compact_keys(keys: &mut KeyTable, sides: &mut [Side; 2]) -> Result<(), ArrowError> {
    let is_used = |key: usize| sides.iter().any(|side| !side.lists.is_empty(key));
    let linked = sides.iter().map(|side| side.lists.linked()).sum::<usize>();
    // Keys are no more than rows; counting them is only worth while if many may be free.
    if keys.len() < COMPACTED.max(linked * 2) {
        return Ok(());
    }
    let keep: Vec<bool> = (0..keys.len()).map(is_used).collect();
    let mut numbers = vec![NO_ROW; keep.len()];
    numbers.iter_mut().zip(&keep).filter(|(_, keep)| **keep).zip(0..).for_each(|((number, _), next)| *number = next);
    keys.retain(&keep.into())?;
    sides.iter_mut().for_each(|side| side.lists.renumber(&numbers));
    Ok(())
}
