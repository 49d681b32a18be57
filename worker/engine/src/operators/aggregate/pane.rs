//! Keys and accumulators of one slice of time. Knows no time itself.
//!
//! A slice is alive while rows come in, and **frozen** into columns when a window takes it or a snapshot is made: frozen parts can be merged into any
//! number of windows, and stored as they are. Rows that come later start a new part.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;

use super::call::{Accumulators, Call};
use crate::operators::ExecuteError;
use crate::state::KeyTable;

/// Keys and their accumulators.
pub(super) struct Pane {
    pub(super) keys: KeyTable,
    accumulators: Accumulators,
}

/// The same as columns: row `n` of each belongs to one key.
pub(super) struct Frozen {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) hashes: Vec<u64>,
    /// For each call, the columns of its state.
    pub(super) states: Vec<Vec<ArrayRef>>,
}

/// Keys and the results of each call: row `n` of each belongs to one key.
pub(super) struct Finished {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) hashes: Vec<u64>,
    pub(super) results: Vec<ArrayRef>,
}

/// Some of the rows of a batch.
#[derive(Clone, Copy)]
pub(super) enum Selection<'a> {
    /// All.
    All,
    /// So many from here.
    Range(usize, usize),
    /// These.
    Rows(&'a UInt32Array),
}

impl Selection<'_> {
    pub(super) fn column(self, column: &ArrayRef) -> Result<ArrayRef, ExecuteError> {
        Ok(match self {
            Self::All => ArrayRef::clone(column),
            Self::Range(start, rows) => column.slice(start, rows),
            Self::Rows(rows) => take(column, rows, None)?,
        })
    }

    pub(super) fn hashes(self, hashes: &[u64]) -> std::borrow::Cow<'_, [u64]> {
        match self {
            Self::All => hashes.into(),
            Self::Range(start, rows) => hashes[start..start + rows].into(),
            Self::Rows(rows) => rows.values().iter().map(|row| hashes[*row as usize]).collect::<Vec<_>>().into(),
        }
    }
}

/// Rows of a batch with what has been found out about all of them.
pub(super) struct Rows<'a> {
    /// The columns that arrived, by position.
    pub(super) columns: &'a [ArrayRef],
    /// Those of them that are read.
    pub(super) read: &'a [usize],
    pub(super) keys: &'a [ArrayRef],
    pub(super) hashes: &'a [u64],
}

impl Pane {
    pub(super) fn new(key_types: &[DataType], calls: &[Call]) -> Result<Self, ExecuteError> {
        Ok(Self { keys: KeyTable::new(key_types)?, accumulators: Accumulators::new(calls)? })
    }

    pub(super) fn update(&mut self, calls: &[Call], rows: &Rows<'_>, selection: Selection<'_>) -> Result<(), ExecuteError> {
        let keys = rows.keys.iter().map(|key| selection.column(key)).collect::<Result<Vec<_>, _>>()?;
        let numbers = self.keys.intern(&keys, &selection.hashes(rows.hashes))?;
        let groups: Vec<usize> = numbers.into_iter().map(|number| number as usize).collect();
        let total = self.keys.len();
        if matches!(selection, Selection::All) {
            return self.accumulators.update(calls, rows.columns, &groups, total);
        }
        // Columns that nothing reads keep their place, as they are.
        let mut columns = rows.columns.to_vec();
        for column in rows.read {
            columns[*column] = selection.column(&rows.columns[*column])?;
        }
        self.accumulators.update(calls, &columns, &groups, total)
    }

    pub(super) fn merge(&mut self, calls: &[Call], part: &Frozen) -> Result<(), ExecuteError> {
        let numbers = self.keys.intern(&part.keys, &part.hashes)?;
        let groups: Vec<usize> = numbers.into_iter().map(|number| number as usize).collect();
        self.accumulators.merge(calls, &part.states, &groups, self.keys.len())
    }

    /// Keys and results, in the order in which the keys came.
    pub(super) fn finish(mut self, calls: &[Call]) -> Result<Finished, ExecuteError> {
        let keys = self.keys.share();
        let (keys, hashes) = (keys.columns()?, keys.hashes());
        Ok(Finished { keys, hashes, results: self.accumulators.evaluate(calls)? })
    }

    pub(super) fn freeze(mut self, calls: &[Call]) -> Result<Frozen, ExecuteError> {
        let keys = self.keys.share();
        let (keys, hashes) = (keys.columns()?, keys.hashes());
        Ok(Frozen { keys, hashes, states: self.accumulators.state(calls)? })
    }
}

impl Frozen {
    /// Some of the keys.
    pub(super) fn pick(&self, rows: &UInt32Array) -> Result<Self, ExecuteError> {
        let pick = |arrays: &[ArrayRef]| arrays.iter().map(|array| take(array, rows, None)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            keys: pick(&self.keys)?,
            hashes: rows.values().iter().map(|row| self.hashes[*row as usize]).collect(),
            states: self.states.iter().map(|state| pick(state)).collect::<Result<_, _>>()?,
        })
    }
}

/// A slice of time.
#[derive(Default)]
pub(super) struct Slice {
    live: Option<Pane>,
    /// In the order in which their rows came.
    frozen: Vec<Arc<Frozen>>,
}

impl Slice {
    /// What rows are put into.
    pub(super) fn live(&mut self, key_types: &[DataType], calls: &[Call]) -> Result<&mut Pane, ExecuteError> {
        if self.live.is_none() {
            self.live = Some(Pane::new(key_types, calls)?);
        }
        Ok(self.live.as_mut().expect("it has just been made"))
    }

    /// Takes a part as it was stored.
    pub(super) fn add(&mut self, part: Frozen) {
        self.frozen.push(Arc::new(part));
    }

    /// The pane itself, if no part of it is frozen.
    pub(super) fn take_live(&mut self) -> Option<Pane> {
        if self.frozen.is_empty() { self.live.take() } else { None }
    }

    /// All parts.
    pub(super) fn frozen(&mut self, calls: &[Call]) -> Result<&[Arc<Frozen>], ExecuteError> {
        if let Some(live) = self.live.take() {
            self.frozen.push(Arc::new(live.freeze(calls)?));
        }
        Ok(&self.frozen)
    }

    /// All parts, of which each is more than twice as large as the next: what comes between two snapshots is merged with what is not much larger than it, so
    /// that each row is merged a few times, however often snapshots are made.
    pub(super) fn tidied(&mut self, key_types: &[DataType], calls: &[Call]) -> Result<&[Arc<Frozen>], ExecuteError> {
        self.frozen(calls)?;
        while let [.., one, other] = self.frozen.as_slice()
            && other.hashes.len() * 2 >= one.hashes.len()
        {
            let mut merged = Pane::new(key_types, calls)?;
            merged.merge(calls, one)?;
            merged.merge(calls, other)?;
            let merged = Arc::new(merged.freeze(calls)?);
            self.frozen.truncate(self.frozen.len() - 2);
            self.frozen.push(merged);
        }
        Ok(&self.frozen)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let live = self.live.as_ref().map_or(0, |pane| pane.keys.memory_bytes() + pane.accumulators.memory_bytes());
        let bytes = |arrays: &[ArrayRef]| arrays.iter().map(Array::get_array_memory_size).sum::<usize>();
        let part = |part: &Arc<Frozen>| {
            bytes(&part.keys) + size_of_val(&*part.hashes) + part.states.iter().map(|state| bytes(state)).sum::<usize>()
        };
        live + self.frozen.iter().map(part).sum::<usize>()
    }
}
