//! One row for each key, revised whenever it changes: GROUP BY and DISTINCT without a window. Knows no window; state ends by its time to live.
//!
//! For every batch there is at most one change for each key, in the order in which the batch touches them: what came and went within the batch is never seen.
//! A key that is not touched for the time to live, by the watermark, is forgotten without a word; if it comes again, it begins anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DynComparator, Int64Array, PrimitiveArray, RecordBatch, UInt16Array, UInt64Array,
    make_comparator,
};
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::call::Call;
use super::cells::{Cells, Change, SharedState, cells};
use super::column::{OutputColumn, described, key_columns, key_types};
use super::partial::{Layout, Parted, Wanted};
use super::touched::{Touched, TouchedPart};
use crate::batch::{Batch, Origin};
use crate::operators::columns::place;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, StateTable, TakenState};
use crate::row_kind::{RowKind, RowKinds};
use crate::state::{KeyPart, KeyTable, Part, SharedVec, hash_rows, key_group, mix};

/// Name of the table of the state.
const TABLE: &str = "groups";
/// Its first column of keys.
const KEYS_FROM: usize = 2;

/// An aggregate without a window as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct GroupBlueprint {
    /// Columns that are grouped by.
    pub(crate) keys: Vec<usize>,
    pub(crate) key_types: Vec<DataType>,
    pub(crate) calls: Vec<Call>,
    /// One for each column of the schema: keys and calls.
    pub(crate) output: Vec<OutputColumn>,
    /// Whether rows that arrive may be taken back.
    pub(crate) retracts: bool,
    /// Time to live of a key that is not touched, in microseconds.
    pub(crate) ttl: i64,
    /// How what arrives is laid out, if that is partial aggregates. Then the keys are columns of that, and those of the calls are not there.
    pub(crate) merges: Option<Layout>,
    pub(crate) schema: SchemaRef,
}

impl Blueprint for GroupBlueprint {
    fn kind(&self) -> &'static str {
        "aggregate"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let calls: Vec<&str> = self.calls.iter().map(|call| call.identity.as_str()).collect();
        let fields: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        format!("by {:?} {calls:?} as {:?} {fields:?} retracts {} ttl {}", self.keys, self.output, self.retracts, self.ttl)
    }

    fn explain(&self) -> String {
        let columns = described(&self.output, &self.calls, &self.schema);
        let retracts = if self.retracts { ", takes rows back" } else { "" };
        format!("{columns} (kept for {:?}{retracts})", std::time::Duration::from_micros(self.ttl.unsigned_abs()))
    }

    fn state_signature(&self) -> Option<String> {
        let calls: Vec<String> = self.calls.iter().map(Call::signature).collect();
        Some(format!("aggregate 1: keys {:?}; {}; retracts {}", self.key_types, calls.join("; "), self.retracts))
    }

    fn keys(&self) -> Option<Vec<Vec<usize>>> {
        Some(vec![self.keys.clone()])
    }

    fn stored_keys(&self, table: &str) -> Option<Vec<usize>> {
        (table == TABLE).then(|| (KEYS_FROM..KEYS_FROM + self.keys.len()).collect())
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        self.output.get(column)?.lineage(&self.keys)
    }

    fn parted(&self, rows: &SchemaRef) -> Result<Parted, String> {
        if self.retracts {
            return Err("rows are taken back".to_owned());
        }
        let wanted = Wanted { rows, windowed: None, keys: &self.keys, key_types: &self.key_types, calls: &self.calls };
        Parted::of(wanted, |layout| Arc::new(Self { keys: layout.keys(), merges: Some(layout), ..self.clone() }))
    }

    fn reads(&self, _port: usize) -> Option<Vec<usize>> {
        Some(self.keys.iter().copied().chain(self.calls.iter().flat_map(Call::columns)).collect())
    }

    fn narrowed(&self, _port: usize, kept: &[usize]) -> Option<Arc<dyn Blueprint>> {
        let keys = self.keys.iter().map(|key| place(kept, *key)).collect();
        let calls = self.calls.iter().map(|call| call.narrowed(kept)).collect();
        Some(Arc::new(Self { keys, calls, ..self.clone() }))
    }

    fn operator(&self, id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(Group {
            origin: Origin::new(&format!("operator/{id}"), id.as_ref()),
            blueprint: self.clone(),
            groups: None,
            watermark: None,
            tidied: i64::MIN,
            oldest: i64::MAX,
        })
    }
}

/// Whether the calls can be computed at all.
pub(crate) fn check(calls: &[Call], retracts: bool) -> Result<(), ExecuteError> {
    for call in calls {
        cells(call, retracts).and_then(|mut cells| cells.grow(1)).map_err(|error| call.failed(error))?;
    }
    Ok(())
}

struct Group {
    blueprint: GroupBlueprint,
    origin: Origin,
    groups: Option<Groups>,
    watermark: Option<i64>,
    /// The watermark at which keys were last forgotten.
    tidied: i64,
    /// No key was last touched before this watermark.
    oldest: i64,
}

/// What is known of each key, by number.
struct Groups {
    keys: KeyTable,
    /// Rows that it has, where they can be taken back; with 0 it is gone.
    rows: Option<SharedVec<i64>>,
    /// Keys that are gone.
    gone: usize,
    /// The watermark when it was last touched; the lowest number before the first watermark.
    touched: Touched,
    cells: Vec<Box<dyn Cells>>,
}

impl Groups {
    fn new(blueprint: &GroupBlueprint) -> Result<Self, ExecuteError> {
        let cells = blueprint.calls.iter().map(|call| cells(call, blueprint.retracts).map_err(|error| call.failed(error)));
        Ok(Self {
            keys: KeyTable::new(&key_types(&blueprint.key_types))?,
            rows: blueprint.retracts.then(SharedVec::default),
            gone: 0,
            touched: Touched::new(blueprint.ttl),
            cells: cells.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a key has rows.
    fn is_there(&self, group: u32) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.get(group as usize) > 0)
    }

    fn retain(&mut self, keep: &BooleanArray) -> Result<(), ExecuteError> {
        if keep.false_count() == 0 {
            return Ok(());
        }
        self.keys.retain(keep)?;
        self.cells.iter_mut().for_each(|cells| cells.retain(keep));
        self.touched.retain(keep);
        if let Some(rows) = &mut self.rows {
            rows.retain(keep);
            self.gone = rows.iter().filter(|rows| *rows == 0).count();
        }
        Ok(())
    }

    /// Takes rows in, or partial aggregates; each belongs to the key with its number.
    fn take(&mut self, blueprint: &GroupBlueprint, batch: &Batch, numbers: &[u32]) -> Result<(), ExecuteError> {
        let columns = batch.records.columns();
        if let Some(layout) = &blueprint.merges {
            for ((cells, call), states) in self.cells.iter_mut().zip(&blueprint.calls).zip(layout.states(columns)) {
                cells.merge_states(numbers, states).map_err(|error| call.failed(error))?;
            }
            if let Some(known) = &mut self.rows {
                numbers.iter().zip(layout.rows(columns)).for_each(|(group, rows)| *known.at(*group as usize) += rows);
            }
            return Ok(());
        }
        let additions: Option<BooleanArray> = batch.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| Some(kind.is_addition())).collect());
        for (cells, call) in self.cells.iter_mut().zip(&blueprint.calls) {
            let values = call.values(columns, numbers.len())?;
            let mask = call.mask(columns);
            let change = Change { values: &values, mask: mask.as_ref(), groups: numbers, additions: additions.as_ref() };
            cells.update(&change).map_err(|error| call.failed(error))?;
        }
        if let Some(rows) = &mut self.rows {
            for (row, group) in numbers.iter().enumerate() {
                *rows.at(*group as usize) += if additions.as_ref().is_none_or(|additions| additions.value(row)) { 1 } else { -1 };
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, calls: &[Call], groups: &[u32]) -> Result<Vec<ArrayRef>, ExecuteError> {
        let results = self.cells.iter_mut().zip(calls);
        results.map(|(cells, call)| cells.evaluate(groups).map_err(|error| call.failed(error))).collect()
    }
}

impl Operator for Group {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.add(&batch, output),
            Message::Watermark(time) => {
                self.advance(time)?;
                output.emit(Message::Watermark(time));
                Ok(())
            }
            other => {
                output.emit(other);
                Ok(())
            }
        }
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let signature = self.blueprint.state_signature().unwrap_or_default();
        let Some(groups) = &mut self.groups else { return Ok(Some(TakenState::new(signature, || Ok(BTreeMap::new())))) };
        if groups.gone > 0
            && let Some(rows) = &groups.rows
        {
            let there: BooleanArray = rows.iter().map(|rows| Some(rows > 0)).collect();
            groups.retain(&there)?;
        }
        let shared = SharedGroups::of(groups, &self.blueprint.calls)?;
        Ok(Some(TakenState::new(signature, move || Ok(shared.table()?.map(|table| (TABLE.to_owned(), table)).into_iter().collect()))))
    }

    fn state_bytes(&self) -> usize {
        self.groups.as_ref().map_or(0, |groups| {
            let vectors = groups.rows.as_ref().map_or(0, SharedVec::memory_bytes) + groups.touched.memory_bytes();
            groups.keys.memory_bytes() + vectors + groups.cells.iter().map(|cells| cells.memory_bytes()).sum::<usize>()
        })
    }

    fn restore(&mut self, mut state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        if let Some(table) = state.tables.remove(TABLE) {
            let groups = self.restored(&table.records)?;
            self.oldest = groups.touched.iter().min().unwrap_or(i64::MAX);
            self.groups = Some(groups);
        }
        Ok(())
    }
}

impl Group {
    fn add(&mut self, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let rows = batch.num_rows();
        let columns = batch.records.columns();
        let keys = key_columns(&self.blueprint.keys, columns, rows);
        let hashes = hash_rows(&keys, rows)?;
        self.forget_touched(&keys, &hashes)?;
        self.oldest = self.oldest.min(self.watermark.unwrap_or(i64::MIN));
        let Self { blueprint, groups, watermark, .. } = self;
        let groups = match groups {
            Some(groups) => groups,
            None => groups.insert(Groups::new(blueprint)?),
        };
        let numbers = groups.keys.intern(&keys, &hashes)?;
        let total = groups.keys.len();
        let known = groups.touched.len();
        if let Some(rows) = &mut groups.rows {
            rows.grow(total, 0);
        }
        groups.touched.grow(total);
        for (cells, call) in groups.cells.iter_mut().zip(&blueprint.calls) {
            cells.grow(total).map_err(|error| call.failed(error))?;
        }
        let touched = in_order(&numbers, total);
        let old_ones = touched.iter().copied().filter(|group| (*group as usize) < known);
        let (before, come_again): (Vec<u32>, Vec<u32>) = old_ones.partition(|group| groups.is_there(*group));
        let old = groups.evaluate(&blueprint.calls, &before)?;
        groups.take(blueprint, batch, &numbers)?;
        let time = watermark.unwrap_or(i64::MIN);
        let (after, gone): (Vec<u32>, Vec<u32>) = touched.iter().partition(|group| groups.is_there(**group));
        groups.touched.touch(&touched, time);
        if let Some(rows) = &mut groups.rows {
            gone.iter().for_each(|group| *rows.at(*group as usize) = 0);
            groups.gone = groups.gone + gone.len() - come_again.len();
        }
        let new = groups.evaluate(&blueprint.calls, &after)?;
        for (cells, call) in groups.cells.iter_mut().zip(&blueprint.calls) {
            cells.reset(&gone).map_err(|error| call.failed(error))?;
        }
        let changes = changes(&touched, &before, &after, &old, &new)?;
        self.emit(&changes, &old, &new, output)
    }

    fn emit(&self, changes: &Changes, old: &[ArrayRef], new: &[ArrayRef], output: &mut dyn Output) -> Result<(), ExecuteError> {
        let Some(groups) = self.groups.as_ref().filter(|_| !changes.groups.is_empty()) else { return Ok(()) };
        let keys = groups.keys.columns(&changes.groups)?;
        let columns = self.blueprint.output.iter().map(|column| match column {
            OutputColumn::Key(key) => Ok(Arc::clone(&keys[*key])),
            OutputColumn::Call(call) => interleave(&[old[*call].as_ref(), new[*call].as_ref()], &changes.values),
            other => Err(arrow::error::ArrowError::SchemaError(format!("{other:?} outside of a window"))),
        });
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(changes.groups.len()));
        let columns = columns.collect::<Result<_, _>>()?;
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?;
        let ordinals = UInt64Array::from_iter_values(changes.groups.iter().map(|group| groups.keys.hash(*group)));
        let kinds = Some(RowKinds::new(changes.kinds.iter().copied()));
        output.emit(Message::Batch(Batch { kinds, ..Batch::new(records, self.origin.clone(), ordinals) }));
        Ok(())
    }

    /// Forgets what has outlived its time, if this batch would touch any of it.
    fn forget_touched(&mut self, keys: &[ArrayRef], hashes: &[u64]) -> Result<(), ExecuteError> {
        let (Some(groups), Some(watermark)) = (&self.groups, self.watermark) else { return Ok(()) };
        if self.oldest.saturating_add(self.blueprint.ttl) > watermark {
            return Ok(());
        }
        let found = groups.keys.find(keys, hashes)?;
        let expired = |group: u32| groups.touched.get(group).saturating_add(self.blueprint.ttl) <= watermark;
        if found.into_iter().flatten().any(expired) { self.forget(watermark) } else { Ok(()) }
    }

    fn forget(&mut self, watermark: i64) -> Result<(), ExecuteError> {
        let ttl = self.blueprint.ttl;
        if let Some(groups) = &mut self.groups {
            let touched = (0_u32..).zip(groups.touched.iter());
            let alive: BooleanArray =
                touched.map(|(group, touched)| Some(groups.is_there(group) && touched.saturating_add(ttl) > watermark)).collect();
            groups.retain(&alive)?;
            self.oldest = groups.touched.iter().min().unwrap_or(i64::MAX);
        }
        Ok(())
    }

    fn advance(&mut self, time: i64) -> Result<(), ExecuteError> {
        if self.watermark.is_none()
            && let Some(groups) = &mut self.groups
        {
            // Time begins now for what came before the first watermark.
            groups.touched.begin(time);
            self.oldest = groups.touched.iter().min().unwrap_or(i64::MAX);
        }
        self.watermark = self.watermark.max(Some(time));
        // Now and then is enough: what is too old is forgotten before it is touched. At the end, nothing comes that could touch it.
        let expired = self.oldest.saturating_add(self.blueprint.ttl) <= time;
        if expired && time < i64::MAX && time >= self.tidied.saturating_add(self.blueprint.ttl / 8) {
            self.tidied = time;
            self.forget(time)?;
        }
        Ok(())
    }

    fn restored(&self, records: &RecordBatch) -> Result<Groups, ExecuteError> {
        let wrong = || ExecuteError::State { message: "its columns are not those of the plan".to_owned() };
        let mut groups = Groups::new(&self.blueprint)?;
        let key_count = self.blueprint.keys.len().max(1);
        let (first, mut rest) = records.columns().split_at_checked(KEYS_FROM + key_count).ok_or_else(wrong)?;
        let numbers = |column: usize| first[column].as_primitive_opt::<Int64Type>().map(PrimitiveArray::values).ok_or_else(wrong);
        groups.touched = Touched::restored(self.blueprint.ttl, numbers(0)?);
        if let Some(rows) = &mut groups.rows {
            *rows = numbers(1)?.iter().copied().collect();
        }
        groups.keys.intern(&first[KEYS_FROM..], &hash_rows(&first[KEYS_FROM..], records.num_rows())?)?;
        for (cells, call) in groups.cells.iter_mut().zip(&self.blueprint.calls) {
            let width = width(call, self.blueprint.retracts).map_err(|error| call.failed(error))?;
            let (state, others) = rest.split_at_checked(width).ok_or_else(wrong)?;
            cells.restore(state).map_err(|error| call.failed(error))?;
            rest = others;
        }
        if rest.is_empty() && groups.keys.len() == records.num_rows() { Ok(groups) } else { Err(wrong()) }
    }
}

/// Columns of the state of a call.
pub(super) fn width(call: &Call, retracts: bool) -> datafusion_common::Result<usize> {
    let mut one = cells(call, retracts)?;
    one.grow(1)?;
    Ok(one.share()?()?.len())
}

/// All groups as they were when they were shared.
struct SharedGroups {
    keys: KeyPart,
    rows: Option<Part<i64>>,
    touched: TouchedPart,
    cells: Vec<(Call, SharedState)>,
}

impl SharedGroups {
    fn of(groups: &mut Groups, calls: &[Call]) -> Result<Self, ExecuteError> {
        let cells = groups.cells.iter_mut().zip(calls);
        let cells = cells.map(|(cells, call)| Ok((call.clone(), cells.share().map_err(|error| call.failed(error))?)));
        Ok(Self {
            keys: groups.keys.share(),
            rows: groups.rows.as_mut().map(SharedVec::share),
            touched: groups.touched.share(),
            cells: cells.collect::<Result<_, ExecuteError>>()?,
        })
    }

    /// Times, rows, keys, cells; nothing if there are none.
    fn table(self) -> Result<Option<StateTable>, ExecuteError> {
        let touched = self.touched.to_vec();
        if touched.is_empty() {
            return Ok(None);
        }
        // Where no row is taken back, how many there are is not known, nor needed.
        let rows = self.rows.map_or_else(|| vec![1; touched.len()], |rows| rows.to_vec());
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(touched)), Arc::new(Int64Array::from(rows))];
        arrays.extend(self.keys.columns()?);
        for (call, cells) in self.cells {
            arrays.extend(cells().map_err(|error| call.failed(error))?);
        }
        let names = ["touched", "rows"].map(str::to_owned).into_iter().chain((0..).map(|column| format!("c{column}")));
        let fields: Vec<Field> = names.zip(&arrays).map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
        let key_groups = self.keys.hashes().into_iter().map(key_group);
        let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        Ok(Some(StateTable { groups: UInt16Array::from_iter_values(key_groups), records }))
    }
}

/// Each group once, in the order in which they come.
fn in_order(numbers: &[u32], total: usize) -> Vec<u32> {
    // A mark for each group there is must not cost more than the batch.
    if total <= 64 * numbers.len() {
        let mut seen = vec![false; total];
        return numbers.iter().copied().filter(|group| !std::mem::replace(&mut seen[*group as usize], true)).collect();
    }
    let mut seen = HashTable::with_capacity(numbers.len());
    let hash = |group: &u32| mix(0, u64::from(*group));
    let mut is_new = |group: &u32| match seen.entry(hash(group), |other| other == group, hash) {
        Entry::Occupied(_) => false,
        Entry::Vacant(vacant) => {
            vacant.insert(*group);
            true
        }
    };
    numbers.iter().copied().filter(|group| is_new(group)).collect()
}

/// Rows that go out: the group of each, which version of its values (0 old, 1 new) at which position, and what it says.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) groups: Vec<u32>,
    pub(super) values: Vec<(usize, usize)>,
    pub(super) kinds: Vec<RowKind>,
}

/// The net change of each group. `before` and `after` are those of `touched` that were and are there, with their `old` and `new` values.
pub(super) fn changes(touched: &[u32], before: &[u32], after: &[u32], old: &[ArrayRef], new: &[ArrayRef]) -> Result<Changes, ExecuteError> {
    let comparators = old.iter().zip(new).map(|(old, new)| make_comparator(old.as_ref(), new.as_ref(), SortOptions::default()));
    let comparators: Vec<DynComparator> = comparators.collect::<Result<_, _>>()?;
    let mut changes = Changes::default();
    let mut push = |group: u32, version: (usize, usize), kind: RowKind| {
        changes.groups.push(group);
        changes.values.push(version);
        changes.kinds.push(kind);
    };
    let (mut old_row, mut new_row) = (0, 0);
    for group in touched {
        let was = before.get(old_row) == Some(group);
        let is = after.get(new_row) == Some(group);
        match (was, is) {
            (false, true) => push(*group, (1, new_row), RowKind::Insert),
            (true, false) => push(*group, (0, old_row), RowKind::Delete),
            (true, true) if comparators.iter().all(|compare| compare(old_row, new_row).is_eq()) => {}
            (true, true) => {
                push(*group, (0, old_row), RowKind::UpdateBefore);
                push(*group, (1, new_row), RowKind::UpdateAfter);
            }
            (false, false) => {}
        }
        old_row += usize::from(was);
        new_row += usize::from(is);
    }
    Ok(changes)
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
