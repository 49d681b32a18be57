//! Partial aggregates: what the rows of one key and slice come to, before they are brought to where the state of the key is. Keeps nothing beyond a barrier, and
//! says no result.
//!
//! ```text
//!  rows ─▶ Partial (in front of an exchange) ═▶ (slice, key, number of rows, states of the calls) ═▶ the aggregate, which merges them
//! ```
//!
//! **Why no result comes later.** A window ends with the watermark that ends its last slice: what is held is said in front of the watermark that ends a slice of it,
//! and in front of a pause. A result without a window waits for every row, so those are held [briefly](Holding::Briefly), and time behind them: whoever drives this sends
//! a barrier soon. So it does when they take much memory. All is said at once, never the rows of some keys or slices alone: then everything that was pushed has come out.
//!
//! **Why this gives what the rows would give.** Nothing is held at the barrier of an epoch: there is no state to store. A task that crashes reads its rows again and
//! puts them together anew, in other parts perhaps; rows that a partition has been given are left out in front of this ([`Gate`](crate::operators::Gate)).
//!
//! * *Windows* are made of whole slices, and a partial aggregate is of one slice: no row is counted twice in windows that overlap, and whether a row is late is a
//!   matter of its slice, so a partial aggregate is late as a whole, and counts for as many rows as it is made of. Where each late row is to be told by itself (dead
//!   letters), rows stay as they are.
//! * *Results* are named after key and window, never after what they were made of: their coordinates do not depend on how rows were put together.
//! * *Functions* are those whose state has one size and does not depend on the order of rows, but for the last digit of sums of doubles. DISTINCT, `array_agg`,
//!   `first_value` and the like would send what they have to see anyway, in rows without bound.
//!
//! **Where it does not pay** it is not done: if most of the rows that are held are keys of their own, the next ones go on as partial aggregates of one row each, for a
//! while. It is the same layout, and costs no table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array, new_empty_array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::call::{Accumulators, Call};
use super::cells::{Cells, Change, cells};
use super::column::{MILLISECOND, microseconds};
use super::pane::{Frozen, Rows, Selection};
use super::window::{Assignment, Window, with_times};
use crate::batch::{Batch, Origin};
use crate::operators::{Blueprint, ExecuteError, Holding, Message, Operator, Output};
use crate::state::{KeyTable, hash_rows};

/// Rows after which it is looked at whether keys repeat.
const SAMPLE_ROWS: u64 = 4096;
/// Rows that go on one by one, once keys do not repeat, before it is looked at again.
const PASSED_ROWS: u64 = 64 * SAMPLE_ROWS;
/// Rows of one batch at most.
const BATCH_ROWS: usize = 16 * 1024;

/// Functions whose states have one size, and can be merged in any order.
const FUNCTIONS: [&str; 17] = [
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "max",
    "min",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

/// The columns of partial aggregates: the slice (its end; its start too, where rows say it), the keys, the number of rows, the states of each call.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    slices: usize,
    keys: usize,
    /// Columns of the state of each call.
    widths: Vec<usize>,
}

impl Layout {
    /// Positions of the keys.
    pub(super) fn keys(&self) -> Vec<usize> {
        (self.slices..self.slices + self.keys).collect()
    }

    /// The slice of each row.
    pub(super) fn slices(&self, columns: &[ArrayRef]) -> Vec<Window> {
        let ends = columns[0].as_primitive::<Int64Type>();
        let starts = (self.slices > 1).then(|| columns[1].as_primitive::<Int64Type>());
        (0..ends.len()).map(|row| (ends.value(row), starts.map_or(0, |starts| starts.value(row)))).collect()
    }

    /// Of how many rows each is made.
    pub(super) fn rows<'a>(&self, columns: &'a [ArrayRef]) -> &'a [i64] {
        columns[self.slices + self.keys].as_primitive::<Int64Type>().values()
    }

    /// The states of each call.
    pub(super) fn states<'a>(&self, columns: &'a [ArrayRef]) -> Vec<&'a [ArrayRef]> {
        let mut rest = &columns[self.slices + self.keys + 1..];
        let mut next = |width: &usize| {
            let (states, others) = rest.split_at(*width);
            rest = others;
            states
        };
        self.widths.iter().map(&mut next).collect()
    }

    /// Some of the rows, as a part of a slice.
    pub(super) fn frozen(&self, rows: &Rows<'_>, selection: Selection<'_>) -> Result<Frozen, ExecuteError> {
        let pick = |arrays: &[ArrayRef]| arrays.iter().map(|array| selection.column(array)).collect::<Result<Vec<_>, _>>();
        Ok(Frozen {
            keys: pick(rows.keys)?,
            hashes: selection.hashes(rows.hashes).into_owned(),
            states: self.states(rows.columns).into_iter().map(pick).collect::<Result<_, _>>()?,
        })
    }
}

/// How an aggregate is done in two parts.
#[derive(Clone, Debug)]
pub(crate) struct Parted {
    /// In front: from rows to partial aggregates.
    pub(crate) front: Arc<dyn Blueprint>,
    /// The aggregate itself, over partial aggregates.
    pub(crate) back: Arc<dyn Blueprint>,
}

impl Parted {
    /// What is in front as `wanted` says, and what `back` makes for the layout of what that gives; or why it cannot be done in two parts.
    pub(super) fn of(wanted: Wanted<'_>, back: impl FnOnce(Layout) -> Arc<dyn Blueprint>) -> Result<Self, String> {
        let (front, layout) = of(wanted)?;
        Ok(Self { front: Arc::new(front), back: back(layout) })
    }
}

/// What is needed to put rows together.
pub(super) struct Wanted<'a> {
    /// The columns that arrive.
    pub(super) rows: &'a SchemaRef,
    /// `None` without windows.
    pub(super) windowed: Option<Windowed<'a>>,
    pub(super) keys: &'a [usize],
    pub(super) key_types: &'a [DataType],
    pub(super) calls: &'a [Call],
}

/// How rows get their windows.
pub(super) struct Windowed<'a> {
    pub(super) assignment: &'a Assignment,
    /// What the windows are called.
    pub(super) name: String,
    /// What the column is called that tells time.
    pub(super) time_name: &'a str,
}

/// The operator in front, and the layout of what it gives; or why there is none.
fn of(wanted: Wanted<'_>) -> Result<(PartialBlueprint, Layout), String> {
    if wanted.keys.is_empty() {
        return Err("there is no key".to_owned());
    }
    for call in wanted.calls {
        let function = &call.function;
        let known = FUNCTIONS.contains(&function.fun().name()) || function.fun().name().starts_with("regr_");
        if !known || function.is_distinct() || !function.order_bys().is_empty() {
            return Err(format!("{} needs every row", call.sql));
        }
    }
    let mut slices = Vec::new();
    if let Some(Windowed { assignment, name, .. }) = &wanted.windowed {
        slices.push(Field::new(format!("end of {name}"), DataType::Int64, true));
        if let Assignment::Attached { start: Some(_), .. } = assignment {
            slices.push(Field::new(format!("start of {name}"), DataType::Int64, true));
        }
    }
    let key = |(key, data_type): (&usize, &DataType)| Field::new(wanted.rows.field(*key).name(), data_type.clone(), true);
    let keys: Vec<Field> = wanted.keys.iter().zip(wanted.key_types).map(key).collect();
    let states = states_of_nothing(&wanted).map_err(|error| error.to_string())?;
    let layout = Layout { slices: slices.len(), keys: keys.len(), widths: states.iter().map(Vec::len).collect() };
    let mut fields: Vec<Field> = slices.into_iter().chain(keys).collect();
    fields.push(Field::new("rows", DataType::Int64, false));
    for (call, states) in wanted.calls.iter().zip(&states) {
        let field =
            |(number, state): (usize, &ArrayRef)| Field::new(format!("{} {number}", call.signature()), state.data_type().clone(), true);
        fields.extend(states.iter().enumerate().map(field));
    }
    let assignment = wanted.windowed.as_ref().map(|windowed| windowed.assignment.clone());
    let (windows, time_name) = wanted.windowed.map(|windowed| (windowed.name, windowed.time_name.to_owned())).unwrap_or_default();
    let blueprint = PartialBlueprint {
        assignment,
        windows,
        time_name,
        keys: wanted.keys.to_vec(),
        key_types: wanted.key_types.to_vec(),
        calls: wanted.calls.to_vec(),
        layout: layout.clone(),
        schema: Arc::new(Schema::new(fields)),
    };
    Ok((blueprint, layout))
}

/// The states of each call for a group without rows: what tells of which columns they are.
fn states_of_nothing(wanted: &Wanted<'_>) -> Result<Vec<Vec<ArrayRef>>, ExecuteError> {
    let nothing: Vec<ArrayRef> = wanted.rows.fields().iter().map(|field| new_empty_array(field.data_type())).collect();
    let mut sums = Sums::new(wanted.windowed.is_some(), wanted.calls)?;
    sums.update(wanted.calls, &nothing, &[], 1)?;
    sums.states(wanted.calls)
}

/// What puts rows together, as it stands in front of an exchange.
#[derive(Clone, Debug)]
pub(super) struct PartialBlueprint {
    assignment: Option<Assignment>,
    windows: String,
    time_name: String,
    keys: Vec<usize>,
    key_types: Vec<DataType>,
    calls: Vec<Call>,
    layout: Layout,
    schema: SchemaRef,
}

impl PartialBlueprint {
    /// The column that tells of a row in which slices it is.
    fn time(&self) -> Option<usize> {
        self.assignment.as_ref().map(|assignment| match assignment {
            Assignment::Time { column, .. } => *column,
            Assignment::Attached { end, .. } => *end,
        })
    }
}

impl Blueprint for PartialBlueprint {
    fn kind(&self) -> &'static str {
        "partial_aggregate"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let calls: Vec<&str> = self.calls.iter().map(|call| call.identity.as_str()).collect();
        format!("partial {:?} by {:?} {calls:?}", self.assignment, self.keys)
    }

    fn explain(&self) -> String {
        let calls: Vec<&str> = self.calls.iter().map(|call| call.sql.as_str()).collect();
        let each = if self.assignment.is_some() { format!("key and slice of {}", self.windows) } else { "key".to_owned() };
        format!("one row for each {each}: {}", if calls.is_empty() { "the key alone".to_owned() } else { calls.join(", ") })
    }

    fn lineage(&self, column: usize) -> Option<Vec<usize>> {
        Some(vec![*self.keys.get(column.checked_sub(self.layout.slices)?)?])
    }

    fn needs(&self) -> Option<usize> {
        self.time()
    }

    fn operator(&self, id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(Partial {
            origin: Origin::new(&format!("operator/{id}/partial"), id.as_ref()),
            blueprint: self.clone(),
            held: None,
            pays: true,
            passed: 0,
            watermark: None,
        })
    }
}

struct Partial {
    blueprint: PartialBlueprint,
    origin: Origin,
    held: Option<Held>,
    /// Whether keys have repeated.
    pays: bool,
    /// Rows that have gone on one by one since they did not.
    passed: u64,
    /// Time that waits for the rows before it: without windows any of them may be of an earlier time.
    watermark: Option<i64>,
}

/// Rows that have been put together.
struct Held {
    keys: KeyTable,
    /// Of how many rows each is made.
    rows: Vec<i64>,
    sums: Sums,
    /// Rows that have come.
    seen: u64,
    /// The end of the first slice; `None` without windows.
    first_end: Option<i64>,
}

impl Operator for Partial {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => return self.add(batch, output),
            Message::Watermark(time) => {
                let first = self.held.as_ref().and_then(|held| held.first_end);
                if first.is_some_and(|end| end <= time.saturating_add(MILLISECOND)) {
                    self.say(output)?;
                }
                self.look_again();
                if self.blueprint.assignment.is_none() && self.holding() != Holding::Nothing {
                    self.watermark = self.watermark.max(Some(time));
                    return Ok(());
                }
            }
            // Those behind no longer wait for this way: what is held would be late.
            Message::Idle | Message::Barrier(_) | Message::End => {
                self.say(output)?;
                self.look_again();
                self.watermark.take().into_iter().for_each(|time| output.emit(Message::Watermark(time)));
            }
            Message::Clock(_) | Message::Rejected(_) => {}
        }
        output.emit(message);
        Ok(())
    }

    fn holding(&self) -> Holding {
        match &self.held {
            None if self.watermark.is_none() => Holding::Nothing,
            Some(_) if self.blueprint.assignment.is_some() => Holding::UntilTime,
            _ => Holding::Briefly,
        }
    }

    fn state_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Held::memory_bytes)
    }
}

impl Partial {
    fn add(&mut self, batch: Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let timed = match self.blueprint.time() {
            Some(time) => with_times(batch, time, &self.blueprint.time_name, output)?,
            None => Some(batch),
        };
        let Some(batch) = timed else { return Ok(()) };
        let keys = self.keys(&batch)?;
        if !self.pays {
            self.passed += batch.num_rows() as u64;
            return self.pass(batch, keys, output);
        }
        let blueprint = &self.blueprint;
        let rows = batch.num_rows();
        let held = match &mut self.held {
            Some(held) => held,
            None => self.held.insert(Held::new(blueprint)?),
        };
        let numbers = held.keys.intern(&keys, &hash_rows(&keys, rows)?)?;
        let total = held.keys.len();
        held.rows.resize(total, 0);
        numbers.iter().for_each(|key| held.rows[*key as usize] += 1);
        held.sums.update(&blueprint.calls, batch.records.columns(), &numbers, total)?;
        held.seen += rows as u64;
        if self.blueprint.assignment.is_some() {
            let first = arrow::compute::min(keys[0].as_primitive::<Int64Type>());
            held.first_end = held.first_end.into_iter().chain(first).min();
        }
        self.pays = held.seen < SAMPLE_ROWS || total as u64 * 2 <= held.seen;
        if !self.pays {
            self.passed = 0;
            self.say(output)?;
        }
        Ok(())
    }

    /// Whether keys repeat is looked at again now and then, between messages that tell of something else than rows.
    fn look_again(&mut self) {
        self.pays |= self.passed >= PASSED_ROWS;
    }

    /// Slice and keys of each row.
    fn keys(&self, batch: &Batch) -> Result<Vec<ArrayRef>, ExecuteError> {
        let columns = batch.records.columns();
        let mut keys: Vec<ArrayRef> = Vec::with_capacity(self.blueprint.layout.slices + self.blueprint.keys.len());
        match self.blueprint.assignment {
            Some(Assignment::Time { column, windows }) => {
                let ends: Int64Array = microseconds(&columns[column])?.unary(|time| windows.slice_end(time));
                keys.push(Arc::new(ends));
            }
            Some(Assignment::Attached { start, end }) => {
                for bound in std::iter::once(end).chain(start) {
                    keys.push(Arc::new(microseconds(&columns[bound])?));
                }
            }
            None => {}
        }
        keys.extend(self.blueprint.keys.iter().map(|key| Arc::clone(&columns[*key])));
        Ok(keys)
    }

    /// Each row by itself.
    fn pass(&self, batch: Batch, mut columns: Vec<ArrayRef>, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let rows = batch.num_rows();
        let calls = &self.blueprint.calls;
        let mut sums = Sums::new(self.blueprint.assignment.is_some(), calls)?;
        let numbers: Vec<u32> = (0..).take(rows).collect();
        sums.update(calls, batch.records.columns(), &numbers, rows)?;
        columns.push(Arc::new(Int64Array::from_value(1, rows)));
        columns.extend(sums.states(calls)?.into_iter().flatten());
        let records = RecordBatch::try_new(Arc::clone(&self.blueprint.schema), columns)?;
        output.emit(Message::Batch(Batch { records, kinds: None, ..batch }));
        Ok(())
    }

    /// Says what is held.
    fn say(&mut self, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let Some(mut held) = self.held.take() else { return Ok(()) };
        let (keys, total) = (held.keys.share(), held.keys.len());
        let mut columns = keys.columns()?;
        columns.push(Arc::new(Int64Array::from(held.rows)));
        columns.extend(held.sums.states(&self.blueprint.calls)?.into_iter().flatten());
        let records = RecordBatch::try_new(Arc::clone(&self.blueprint.schema), columns)?;
        let ordinals = UInt64Array::from(keys.hashes());
        for from in (0..total).step_by(BATCH_ROWS) {
            let length = BATCH_ROWS.min(total - from);
            output.emit(Message::Batch(Batch::new(records.slice(from, length), self.origin.clone(), ordinals.slice(from, length))));
        }
        Ok(())
    }
}

impl Held {
    fn new(blueprint: &PartialBlueprint) -> Result<Self, ExecuteError> {
        let slices = std::iter::repeat_n(&DataType::Int64, blueprint.layout.slices);
        let types: Vec<DataType> = slices.chain(&blueprint.key_types).cloned().collect();
        let sums = Sums::new(blueprint.assignment.is_some(), &blueprint.calls)?;
        Ok(Self { keys: KeyTable::new(&types)?, rows: Vec::new(), sums, seen: 0, first_end: None })
    }

    fn memory_bytes(&self) -> usize {
        self.keys.memory_bytes() + self.rows.capacity() * size_of::<i64>() + self.sums.memory_bytes()
    }
}

/// What the aggregate behind keeps for each key, so that it can merge it.
enum Sums {
    /// In slices.
    Accumulators(Accumulators),
    /// Without windows.
    Cells(Vec<Box<dyn Cells>>),
}

impl Sums {
    fn new(by_slice: bool, calls: &[Call]) -> Result<Self, ExecuteError> {
        if by_slice {
            return Ok(Self::Accumulators(Accumulators::new(calls)?));
        }
        let cells = calls.iter().map(|call| cells(call, false).map_err(|error| call.failed(error)));
        Ok(Self::Cells(cells.collect::<Result<_, _>>()?))
    }

    /// Takes rows in: row `n` belongs to group `groups[n]`, all of which are below `total`.
    fn update(&mut self, calls: &[Call], columns: &[ArrayRef], groups: &[u32], total: usize) -> Result<(), ExecuteError> {
        match self {
            Self::Accumulators(accumulators) => {
                let groups: Vec<usize> = groups.iter().map(|group| *group as usize).collect();
                accumulators.update(calls, columns, &groups, total)
            }
            Self::Cells(all) => all.iter_mut().zip(calls).try_for_each(|(cells, call)| {
                let values = call.values(columns, groups.len())?;
                let mask = call.mask(columns);
                let change = Change { values: &values, mask: mask.as_ref(), groups, additions: None };
                cells.grow(total).and_then(|()| cells.update(&change)).map_err(|error| call.failed(error))
            }),
        }
    }

    /// The states of all groups, for each call.
    fn states(self, calls: &[Call]) -> Result<Vec<Vec<ArrayRef>>, ExecuteError> {
        match self {
            Self::Accumulators(accumulators) => accumulators.state(calls),
            Self::Cells(all) => {
                let states = all.into_iter().zip(calls);
                states.map(|(mut cells, call)| cells.share().and_then(|state| state()).map_err(|error| call.failed(error))).collect()
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Accumulators(accumulators) => accumulators.memory_bytes(),
            Self::Cells(all) => all.iter().map(|cells| cells.memory_bytes()).sum(),
        }
    }
}

#[cfg(test)]
#[path = "partial_tests.rs"]
mod tests;
