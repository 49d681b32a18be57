//! The operator: keeps rows, compares what comes with what is there, and says what has changed. Forgets a row only when it is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt16Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::error::ArrowError;

use super::NormalizeBlueprint;
use crate::batch::{Batch, Origin};
use crate::operators::revision::{Comparators, RevisedBy};
use crate::operators::state::table_of;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, TakenState};
use crate::row_kind::{RowKind, RowKinds};
use crate::state::{KeyTable, NO_ROW, RowStore, hash_rows, key_group, mix, row_ids};

/// Rows of a batch that comes out. Even: both rows of a replacement are in one.
const BLOCK: usize = 8192;
/// Rows and keys that are not used any more are kept until there are so many of them, and as many as are used.
const COMPACTED: usize = 4096;
/// Name of the table of the state.
pub(super) const ROWS: &str = "rows";
/// Mixed into the name of a row that replaces another, for the one that is replaced.
const BEFORE: u64 = 1;

/// The last rows of the keys of one lane.
pub(super) struct Normalize {
    blueprint: Arc<NormalizeBlueprint>,
    origin: Origin,
    keys: KeyTable,
    rows: RowStore,
    /// By position, the key of the row.
    key_of: Vec<u32>,
    /// By key, the position of its row; [`NO_ROW`] if it has none.
    row_of: Vec<u32>,
    /// By key, the last batch that had rows of it, and which of the keys that the batch touches it is.
    marks: Vec<(u64, u32)>,
    batches: u64,
    /// Keys that have a row.
    live: usize,
    /// Two rows are the same if all columns are.
    same: RevisedBy,
}

/// A row that comes out.
struct Change {
    position: u32,
    kind: RowKind,
    name: u64,
}

impl Normalize {
    pub(super) fn new(blueprint: Arc<NormalizeBlueprint>, origin: Origin) -> Self {
        let types: Vec<_> = blueprint.key.iter().map(|column| blueprint.schema.field(*column).data_type().clone()).collect();
        let all: Vec<usize> = (0..blueprint.schema.fields().len()).collect();
        Self {
            keys: KeyTable::new(&types).expect("the planner lets only keys through that have a hash"),
            rows: RowStore::new(&blueprint.schema),
            key_of: Vec::new(),
            row_of: Vec::new(),
            marks: Vec::new(),
            batches: 0,
            live: 0,
            same: RevisedBy::new(&blueprint.schema, &all),
            blueprint,
            origin,
        }
    }

    fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>, ArrowError> {
        let key: Vec<ArrayRef> = self.blueprint.key.iter().map(|column| Arc::clone(&columns[*column])).collect();
        let keys = self.keys.intern(&key, &hash_rows(&key, rows)?)?;
        self.row_of.resize(self.keys.len(), NO_ROW);
        self.marks.resize(self.keys.len(), (0, 0));
        Ok(keys)
    }

    fn batch(&mut self, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let columns = batch.records.columns();
        let keys = self.intern(columns, batch.num_rows())?;
        self.batches += 1;
        // Keys in the order in which they are touched, each with its last row.
        let mut touched: Vec<(u32, u32)> = Vec::new();
        for (row, key) in (0_u32..).zip(&keys) {
            let mark = &mut self.marks[*key as usize];
            if mark.0 == self.batches {
                touched[mark.1 as usize].1 = row;
            } else {
                *mark = (self.batches, u32::try_from(touched.len()).unwrap_or(NO_ROW));
                touched.push((*key, row));
            }
        }
        let added: Vec<(u32, u32)> = touched.iter().copied().filter(|(_, row)| batch.kind(*row as usize).is_addition()).collect();
        let mut position = self.push(columns, &added)?;
        let names = row_ids(batch);
        let mut changes = Vec::new();
        let mut comparators = Comparators::default();
        for (key, row) in touched {
            let (before, name) = (self.row_of[key as usize], names[row as usize]);
            if batch.kind(row as usize).is_addition() {
                let after = position;
                position += 1;
                if before == NO_ROW {
                    self.live += 1;
                    changes.push(Change { position: after, kind: RowKind::Insert, name });
                } else if comparators.equal(&self.rows, &self.same, before, after)? {
                    // What was there stays: the other one is forgotten with the next compaction.
                    continue;
                } else {
                    changes.push(Change { position: before, kind: RowKind::UpdateBefore, name: mix(name, BEFORE) });
                    changes.push(Change { position: after, kind: RowKind::UpdateAfter, name });
                }
                self.row_of[key as usize] = after;
            } else if before != NO_ROW {
                changes.push(Change { position: before, kind: RowKind::Delete, name });
                self.row_of[key as usize] = NO_ROW;
                self.live -= 1;
            }
        }
        self.emit(&changes, output)?;
        Ok(self.compact()?)
    }

    /// Keeps rows of a batch, given with their keys; returns the position of the first.
    fn push(&mut self, columns: &[ArrayRef], added: &[(u32, u32)]) -> Result<u32, ArrowError> {
        self.key_of.extend(added.iter().map(|(key, _)| key));
        let rows = UInt32Array::from_iter_values(added.iter().map(|(_, row)| *row));
        let columns = columns.iter().map(|column| take(column, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.rows.push(&columns, added.len())
    }

    fn emit(&self, changes: &[Change], output: &mut dyn Output) -> Result<(), ExecuteError> {
        let mut rest = changes;
        while !rest.is_empty() {
            // What is replaced and what replaces it stay together.
            let is_cut = |end: usize| rest.get(end).is_some_and(|next| next.kind == RowKind::UpdateAfter);
            let end = rest.len().min(BLOCK);
            let (block, later) = rest.split_at(if is_cut(end) { end - 1 } else { end });
            rest = later;
            let positions: Vec<u32> = block.iter().map(|change| change.position).collect();
            let columns = self.rows.take(&positions, 0..self.blueprint.schema.fields().len())?;
            let options = RecordBatchOptions::new().with_row_count(Some(block.len()));
            output.emit(Message::Batch(Batch {
                records: RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?,
                origin: self.origin.clone(),
                ordinals: UInt64Array::from_iter_values(block.iter().map(|change| change.name)),
                branch: 0,
                kinds: Some(RowKinds::new(block.iter().map(|change| change.kind))),
            }));
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), ArrowError> {
        if self.key_of.len() - self.live >= COMPACTED.max(self.live) {
            let kept = self.positions();
            self.rows.retain(&kept)?;
            self.key_of = kept.iter().map(|position| self.key_of[*position as usize]).collect();
            (0..).zip(&self.key_of).for_each(|(position, key)| self.row_of[*key as usize] = position);
        }
        if self.keys.len() - self.live >= COMPACTED.max(self.live) {
            let keep: Vec<bool> = self.row_of.iter().map(|row| *row != NO_ROW).collect();
            let mut numbers = vec![NO_ROW; self.keys.len()];
            let kept = (0_usize..).zip(&keep).filter(|(_, keep)| **keep).map(|(key, _)| key);
            (0..).zip(kept).for_each(|(number, key)| numbers[key] = number);
            self.keys.retain(&keep.into())?;
            self.row_of.retain(|row| *row != NO_ROW);
            // Rows that are not used any more belong to no key.
            self.key_of.iter_mut().for_each(|key| *key = numbers.get(*key as usize).copied().unwrap_or(NO_ROW));
            self.marks = vec![(0, 0); self.live];
        }
        Ok(())
    }

    /// Positions of rows that are there, ascending.
    fn positions(&self) -> Vec<u32> {
        let is_there = |(position, key): &(u32, &u32)| self.row_of.get(**key as usize) == Some(position);
        (0..).zip(&self.key_of).filter(is_there).map(|(position, _)| position).collect()
    }
}

impl Operator for Normalize {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.batch(&batch, output),
            other => {
                output.emit(other);
                Ok(())
            }
        }
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let positions = self.positions();
        let group = |position: &u32| key_group(self.keys.hash(self.key_of[*position as usize]));
        let groups = UInt16Array::from_iter_values(positions.iter().map(group));
        let rows = table_of(&self.rows, positions, groups, &[], Vec::new());
        let tables = move || Ok(BTreeMap::from([(ROWS.to_owned(), rows()?)]));
        Ok(Some(TakenState::new(self.blueprint.state_signature().unwrap_or_default(), tables)))
    }

    fn state_bytes(&self) -> usize {
        let vectors =
            (self.key_of.capacity() + self.row_of.capacity()) * size_of::<u32>() + self.marks.capacity() * size_of::<(u64, u32)>();
        self.keys.memory_bytes() + self.rows.memory_bytes() + vectors
    }

    fn restore(&mut self, state: OperatorState) -> Result<(), ExecuteError> {
        let wrong = |message: String| Err(ExecuteError::State { message });
        state.check(self.blueprint.state_signature())?;
        for (name, table) in state.tables {
            let records = table.records;
            if name != ROWS || records.num_columns() != self.blueprint.schema.fields().len() {
                return wrong(format!("a table {name} of {} columns", records.num_columns()));
            }
            let keys = self.intern(records.columns(), records.num_rows())?;
            let first = self.rows.push(records.columns(), records.num_rows())?;
            for (position, key) in (first..).zip(&keys) {
                if std::mem::replace(&mut self.row_of[*key as usize], position) != NO_ROW {
                    return wrong("two rows of one key".to_owned());
                }
            }
            self.live += keys.len();
            self.key_of.extend(keys);
        }
        Ok(())
    }
}
