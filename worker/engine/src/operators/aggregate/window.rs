//! One row for each key and window, when the window ends: over TUMBLE, HOP and CUMULATE, and over rows that have their windows already. SESSION has an operator
//! of its own.
//!
//! Rows are put into the slice of their time; a window that ends is made of its slices, which are dropped with the last window that they are in.
//! Windows leave in the order of their ends, keys in the order in which they came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt16Array, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};

use super::call::Call;
use super::column::{MILLISECOND, OutputColumn, described, key_columns, key_types, microseconds, moment, row_numbers};
use super::pane::{Finished, Frozen, Pane, Rows, Selection, Slice};
use super::partial::{Layout, Parted, Wanted, Windowed};
use crate::batch::{Batch, Origin};
use crate::operators::columns::place;
use crate::operators::windows::Windows;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, RejectedRow, StateTable, TakenState};
use crate::plan::Late;
use crate::state::{hash_rows, key_group, owned};

/// Name of the table of the state.
const TABLE: &str = "slices";
/// Its first column of keys.
const KEYS_FROM: usize = 3;

/// Rows of one result batch at most.
const RESULT_ROWS: usize = 16 * 1024;

/// How rows get their windows.
#[derive(Clone, Debug)]
pub(crate) enum Assignment {
    /// By the time in this column.
    Time { column: usize, windows: Windows },
    /// They have them: the columns of start and end.
    Attached { start: Option<usize>, end: usize },
}

/// A window aggregate as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct WindowAggregateBlueprint {
    pub(crate) assignment: Assignment,
    /// The column that says when a row's window ends, or its event time; for messages.
    pub(crate) time_name: String,
    /// Columns that are grouped by, beside those of the window.
    pub(crate) keys: Vec<usize>,
    pub(crate) key_types: Vec<DataType>,
    pub(crate) calls: Vec<Call>,
    /// One for each column of the schema.
    pub(crate) output: Vec<OutputColumn>,
    /// What happens to rows that no window takes any more.
    pub(crate) late: Late,
    /// For how long after they have ended windows still take rows, in microseconds. Above zero results are revised.
    pub(crate) lateness: i64,
    /// How what arrives is laid out, if that is partial aggregates. Then the keys are columns of that, and those of the assignment and the calls are not there.
    pub(crate) merges: Option<Layout>,
    pub(crate) schema: SchemaRef,
}

impl WindowAggregateBlueprint {
    fn windows(&self) -> String {
        match &self.assignment {
            Assignment::Time { windows, .. } => windows.to_string(),
            Assignment::Attached { start: Some(_), .. } => "window_start, window_end".to_owned(),
            Assignment::Attached { start: None, .. } => "window_end".to_owned(),
        }
    }

    /// Where the window that ends at `end` starts.
    pub(super) fn start(&self, (end, start): Window) -> i64 {
        match self.assignment {
            Assignment::Time { windows, .. } => windows.start(end),
            Assignment::Attached { .. } => start,
        }
    }

    fn last_window(&self, (end, _): Window) -> i64 {
        match self.assignment {
            Assignment::Time { windows, .. } => windows.last_window(end),
            Assignment::Attached { .. } => end,
        }
    }
}

impl Blueprint for WindowAggregateBlueprint {
    fn kind(&self) -> &'static str {
        "window_aggregate"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let calls: Vec<&str> = self.calls.iter().map(|call| call.identity.as_str()).collect();
        let fields: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        let lateness = if self.lateness > 0 { format!(" within {}", self.lateness) } else { String::new() };
        format!("{:?} by {:?} {calls:?} as {:?} {fields:?} late {:?}{lateness}", self.assignment, self.keys, self.output, self.late)
    }

    fn explain(&self) -> String {
        let late = if self.lateness > 0 { format!("; revised for {} s", self.lateness / 1_000_000) } else { String::new() };
        format!("{}: {}{late}", self.windows(), described(&self.output, &self.calls, &self.schema))
    }

    fn state_signature(&self) -> Option<String> {
        let calls: Vec<String> = self.calls.iter().map(Call::signature).collect();
        Some(format!("window_aggregate 1: {}; keys {:?}; {}", self.windows(), self.key_types, calls.join("; ")))
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
        if self.late == Late::DeadLetter {
            return Err("each late row is a dead letter".to_owned());
        }
        let windowed = Windowed { assignment: &self.assignment, name: self.windows(), time_name: &self.time_name };
        let wanted = Wanted { rows, windowed: Some(windowed), keys: &self.keys, key_types: &self.key_types, calls: &self.calls };
        Parted::of(wanted, |layout| Arc::new(Self { keys: layout.keys(), merges: Some(layout), ..self.clone() }))
    }

    fn reads(&self, _port: usize) -> Option<Vec<usize>> {
        let times = match self.assignment {
            Assignment::Time { column, .. } => vec![column],
            Assignment::Attached { start, end } => start.into_iter().chain([end]).collect(),
        };
        let calls = self.calls.iter().flat_map(Call::columns);
        (self.late == Late::Drop).then(|| self.keys.iter().copied().chain(calls).chain(times).collect())
    }

    fn narrowed(&self, _port: usize, kept: &[usize]) -> Option<Arc<dyn Blueprint>> {
        let assignment = match self.assignment {
            Assignment::Time { column, windows } => Assignment::Time { column: place(kept, column), windows },
            Assignment::Attached { start, end } => {
                Assignment::Attached { start: start.map(|start| place(kept, start)), end: place(kept, end) }
            }
        };
        let keys = self.keys.iter().map(|key| place(kept, *key)).collect();
        let calls = self.calls.iter().map(|call| call.narrowed(kept)).collect();
        Some(Arc::new(Self { assignment, keys, calls, ..self.clone() }))
    }

    fn operator(&self, id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        let mut read: Vec<usize> = self.calls.iter().flat_map(Call::columns).collect();
        read.sort_unstable();
        read.dedup();
        Box::new(WindowAggregate {
            origin: Origin::new(&format!("operator/{id}"), id.as_ref()),
            key_types: key_types(&self.key_types),
            blueprint: self.clone(),
            read,
            slices: BTreeMap::new(),
            pending: BTreeSet::new(),
            closed: i64::MIN,
        })
    }
}

/// A window or slice: its end, and its start where rows say it.
pub(super) type Window = (i64, i64);

pub(super) struct WindowAggregate {
    pub(super) blueprint: WindowAggregateBlueprint,
    pub(super) origin: Origin,
    pub(super) key_types: Vec<DataType>,
    /// Columns that the calls read.
    read: Vec<usize>,
    pub(super) slices: BTreeMap<Window, Slice>,
    /// Windows that have rows and have not ended.
    pending: BTreeSet<Window>,
    /// Windows that end here or before have left.
    pub(super) closed: i64,
}

impl Operator for WindowAggregate {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.add(batch, output),
            Message::Watermark(time) => {
                self.close(time, output)?;
                // Results are as old as the last millisecond of their window.
                let passed = if time == i64::MAX { time } else { time.saturating_sub(time.rem_euclid(MILLISECOND)) };
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
        self.pending.first().map(|(end, _)| *end)
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let signature = self.blueprint.state_signature().unwrap_or_default();
        let table = self.table()?;
        Ok(Some(TakenState::new(signature, move || Ok(table()?.map(|table| (TABLE.to_owned(), table)).into_iter().collect()))))
    }

    fn state_bytes(&self) -> usize {
        self.slices.values().map(Slice::memory_bytes).sum()
    }

    fn restore(&mut self, mut state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        match state.tables.remove(TABLE) {
            Some(table) => self.restore_slices(&table.records),
            None => Ok(()),
        }
    }
}

impl WindowAggregate {
    fn add(&mut self, batch: Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let column = match self.blueprint.assignment {
            Assignment::Time { column, .. } => column,
            Assignment::Attached { end, .. } => end,
        };
        let timed = match self.blueprint.merges {
            Some(_) => Some(batch),
            None => with_times(batch, column, &self.blueprint.time_name, output)?,
        };
        let Some(batch) = timed else { return Ok(()) };
        let rows = batch.num_rows();
        let columns = batch.records.columns();
        let keys = key_columns(&self.blueprint.keys, columns, rows);
        let hashes = hash_rows(&keys, rows)?;
        let read = std::mem::take(&mut self.read);
        let all = Rows { columns, read: &read, keys: &keys, hashes: &hashes };
        let done = self.assign(&batch, &all, output);
        self.read = read;
        done
    }

    /// Puts rows into their slices.
    fn assign(&mut self, batch: &Batch, rows: &Rows<'_>, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let slices: Vec<Window> = match (&self.blueprint.merges, &self.blueprint.assignment) {
            (Some(layout), _) => layout.slices(rows.columns),
            (None, Assignment::Time { column, windows }) => {
                let times = microseconds(batch.records.column(*column))?;
                let (first, last) = (arrow::compute::min(&times), arrow::compute::max(&times));
                if let (Some(first), Some(last)) = (first, last)
                    && windows.slice_end(first) == windows.slice_end(last)
                {
                    let slice = (windows.slice_end(first), 0);
                    if self.is_late(slice) {
                        self.late(batch, &[slice], output);
                        return Ok(());
                    }
                    return self.put_all(&[(slice, Selection::All)], rows, output);
                }
                // Times come nearly in order, so the slice is mostly that of the row before.
                let mut current = (0, 0);
                let ends = times.values().iter().map(|time| {
                    if *time < current.0 || *time >= current.1 {
                        let end = windows.slice_end(*time);
                        current = (end.saturating_sub(windows.slice()), end);
                    }
                    (current.1, 0)
                });
                ends.collect()
            }
            (None, Assignment::Attached { start, end }) => {
                let ends = microseconds(batch.records.column(*end))?;
                let starts = start.map(|start| microseconds(batch.records.column(start))).transpose()?;
                let start = |row: usize| starts.as_ref().map_or(0, |starts| starts.value(row));
                (0..ends.len()).map(|row| (ends.value(row), start(row))).collect()
            }
        };
        if let [first, others @ ..] = slices.as_slice()
            && others.iter().all(|other| other == first)
        {
            if self.is_late(*first) {
                self.late(batch, &slices, output);
                return Ok(());
            }
            return self.put_all(&[(*first, Selection::All)], rows, output);
        }
        self.late(batch, &slices, output);
        let parts: Vec<(Window, UInt32Array)> = parts(&slices)
            .into_iter()
            .filter(|(slice, _)| !self.is_late(*slice))
            .map(|(slice, picked)| (slice, UInt32Array::from(picked)))
            .collect();
        let selections = parts.iter().map(|(slice, picked)| {
            let selection = match contiguous(picked.values()) {
                Some((start, length)) => Selection::Range(start, length),
                None => Selection::Rows(picked),
            };
            (*slice, selection)
        });
        self.put_all(&selections.collect::<Vec<_>>(), rows, output)
    }

    /// Puts rows into their slices, and says what that changes in windows that have given their result.
    fn put_all(&mut self, parts: &[(Window, Selection<'_>)], rows: &Rows<'_>, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let revised = self.revised(parts, rows);
        let mut before = Vec::with_capacity(revised.len());
        for (window, keys) in &revised {
            before.push(self.results(*window, Some(keys))?);
        }
        for (slice, selection) in parts {
            self.put(*slice, rows, *selection)?;
        }
        for ((window, keys), before) in revised.iter().zip(&before) {
            let after = self.results(*window, Some(keys))?;
            self.revise(*window, before, &after, output)?;
        }
        Ok(())
    }

    fn is_late(&self, slice: Window) -> bool {
        self.blueprint.last_window(slice).saturating_add(self.blueprint.lateness) <= self.closed
    }

    /// Does away with rows of which all windows have ended; `slices` has one for each row, or one for all.
    fn late(&self, batch: &Batch, slices: &[Window], output: &mut dyn Output) {
        let slice = |row: usize| *slices.get(row).unwrap_or(&slices[0]);
        let late = (0..batch.num_rows()).filter(|row| self.is_late(slice(*row)));
        match self.blueprint.late {
            Late::Drop => match &self.blueprint.merges {
                None => output.filtered(late.count() as u64),
                Some(layout) => {
                    let rows = layout.rows(batch.records.columns());
                    output.filtered(late.map(|row| rows[row].unsigned_abs()).sum());
                }
            },
            Late::DeadLetter => {
                for row in late {
                    let (origin, ordinal) = (batch.origin.clone(), batch.ordinals.value(row));
                    let error = format!("the row is late: by `{}`, its window has ended and given its result", self.blueprint.time_name);
                    output.reject(RejectedRow { origin, ordinal, error });
                }
            }
        }
    }

    fn put(&mut self, slice: Window, rows: &Rows<'_>, selection: Selection<'_>) -> Result<(), ExecuteError> {
        let WindowAggregateBlueprint { calls, merges, .. } = &self.blueprint;
        let pane = self.slices.entry(slice).or_default().live(&self.key_types, calls)?;
        match merges {
            None => pane.update(calls, rows, selection)?,
            Some(layout) => pane.merge(calls, &layout.frozen(rows, selection)?)?,
        }
        self.expect(slice);
        Ok(())
    }

    /// Notes the first window of a slice that has not ended.
    fn expect(&mut self, slice: Window) {
        match self.blueprint.assignment {
            Assignment::Time { windows, .. } => {
                let open = windows.windows_of(slice.0).find(|end| *end > self.closed);
                self.pending.extend(open.map(|end| (end, 0)));
            }
            Assignment::Attached { .. } => self.pending.extend(Some(slice).filter(|(end, _)| *end > self.closed)),
        }
    }

    /// Lets all windows go that end at or before `time`.
    fn close(&mut self, time: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        while let Some(window) = self.pending.first().copied().filter(|(end, _)| *end <= time) {
            self.pending.remove(&window);
            self.emit(window, output)?;
        }
        self.closed = self.closed.max(time);
        // What was kept for late rows goes with the last moment at which they are taken.
        while self.blueprint.lateness > 0
            && let Some(slice) = self.slices.first_key_value().map(|(slice, _)| *slice).filter(|slice| self.is_late(*slice))
        {
            self.slices.remove(&slice);
        }
        Ok(())
    }

    fn emit(&mut self, window: Window, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let finished =
            if self.blueprint.lateness > 0 { self.results(window, None)? } else { self.take(window)?.finish(&self.blueprint.calls)? };
        let (end, start) = (window.0, self.blueprint.start(window));
        if let Assignment::Time { windows, .. } = self.blueprint.assignment
            && let Some(next) = windows.next(end)
            && self.slices.range((windows.start(next).saturating_add(1), i64::MIN)..=(next, i64::MAX)).next().is_some()
        {
            self.pending.insert((next, 0));
        }
        let Finished { keys, hashes, results } = finished;
        let rows = hashes.len();
        let columns = self.blueprint.output.iter().zip(self.blueprint.schema.fields()).map(|(column, field)| match column {
            OutputColumn::Key(key) => Ok(Arc::clone(&keys[*key])),
            OutputColumn::WindowStart => moment(start, field.data_type(), rows),
            OutputColumn::WindowEnd => moment(end, field.data_type(), rows),
            OutputColumn::WindowTime => moment(end.saturating_sub(MILLISECOND), field.data_type(), rows),
            OutputColumn::Call(call) => Ok(Arc::clone(&results[*call])),
        });
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = columns.collect::<Result<_, _>>()?;
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?;
        let ordinals = row_numbers(&hashes, start, end)?;
        for from in (0..rows).step_by(RESULT_ROWS) {
            let length = RESULT_ROWS.min(rows - from);
            let batch = Batch::new(records.slice(from, length), self.origin.clone(), ordinals.slice(from, length));
            output.emit(Message::Batch(batch));
        }
        Ok(())
    }

    /// The slices of a window.
    pub(super) fn inside(&self, window: Window) -> Vec<Window> {
        let first = match self.blueprint.assignment {
            Assignment::Time { windows, .. } => (windows.start(window.0).saturating_add(1), i64::MIN),
            Assignment::Attached { .. } => window,
        };
        self.slices.range(first..=window).map(|(slice, _)| *slice).collect()
    }

    /// All of a window. Slices that are in no later window are dropped.
    fn take(&mut self, window: Window) -> Result<Pane, ExecuteError> {
        let calls = &self.blueprint.calls;
        let inside = self.inside(window);
        if let [only] = inside[..]
            && self.blueprint.last_window(only) <= window.0
            && let Some(pane) = self.slices.get_mut(&only).and_then(Slice::take_live)
        {
            self.slices.remove(&only);
            return Ok(pane);
        }
        let mut merged = Pane::new(&self.key_types, calls)?;
        for slice in inside {
            let Some(parts) = self.slices.get_mut(&slice) else { continue };
            for part in parts.frozen(calls)? {
                merged.merge(calls, part)?;
            }
            if self.blueprint.last_window(slice) <= window.0 {
                self.slices.remove(&slice);
            }
        }
        Ok(merged)
    }

    /// All slices as one table.
    fn table(&mut self) -> Result<impl FnOnce() -> Result<Option<StateTable>, ExecuteError> + Send + use<>, ExecuteError> {
        let mut all: Vec<(Window, Arc<Frozen>)> = Vec::new();
        for (slice, parts) in &mut self.slices {
            let parts = parts.tidied(&self.key_types, &self.blueprint.calls)?;
            all.extend(parts.iter().map(|part| (*slice, Arc::clone(part))));
        }
        let closed = self.closed;
        Ok(move || stored(&all, closed))
    }

    fn restore_slices(&mut self, records: &RecordBatch) -> Result<(), ExecuteError> {
        let wrong = || ExecuteError::State { message: "its columns are not those of the plan".to_owned() };
        let (first, rest) = records.columns().split_at_checked(KEYS_FROM + self.key_types.len()).ok_or_else(wrong)?;
        let numbers = |column: usize| first[column].as_primitive_opt::<Int64Type>().ok_or_else(wrong);
        let (ends, starts, closed) = (numbers(0)?, numbers(1)?, numbers(2)?);
        let keys = &first[KEYS_FROM..];
        let mut widths = Vec::with_capacity(self.blueprint.calls.len());
        for call in &self.blueprint.calls {
            widths.push(call.function.state_fields().map_err(|error| call.failed(error))?.len());
        }
        if widths.iter().sum::<usize>() != rest.len() {
            return Err(wrong());
        }
        let hashes = hash_rows(keys, records.num_rows())?;
        self.closed = arrow::compute::max(closed).unwrap_or(i64::MIN);
        let mut row = 0;
        while row < records.num_rows() {
            let slice = (ends.value(row), starts.value(row));
            let length = (row..records.num_rows()).take_while(|row| (ends.value(*row), starts.value(*row)) == slice).count();
            // Each slice goes when its last window has ended, and takes along what is its own.
            let mut states = rest.iter().map(|column| owned(&column.slice(row, length)));
            let part = Frozen {
                keys: keys.iter().map(|key| owned(&key.slice(row, length))).collect(),
                hashes: hashes[row..row + length].to_vec(),
                states: widths.iter().map(|width| states.by_ref().take(*width).collect()).collect(),
            };
            self.slices.entry(slice).or_default().add(part);
            self.expect(slice);
            row += length;
        }
        Ok(())
    }
}

/// Parts of slices as one table: end, start, how far windows have left, keys, accumulators. A key may be there several times.
fn stored(all: &[(Window, Arc<Frozen>)], closed: i64) -> Result<Option<StateTable>, ExecuteError> {
    let (mut ends, mut starts, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut columns: Vec<Vec<&dyn Array>> = Vec::new();
    for ((end, start), part) in all {
        let rows = part.hashes.len();
        ends.resize(ends.len() + rows, *end);
        starts.resize(starts.len() + rows, *start);
        groups.extend(part.hashes.iter().map(|hash| key_group(*hash)));
        for (position, array) in part.keys.iter().chain(part.states.iter().flatten()).enumerate() {
            if position == columns.len() {
                columns.push(Vec::new());
            }
            columns[position].push(array.as_ref());
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    let closed = Int64Array::from_value(closed, groups.len());
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ends)), Arc::new(Int64Array::from(starts)), Arc::new(closed)];
    for parts in columns {
        arrays.push(arrow::compute::concat(&parts)?);
    }
    let names = ["end", "start", "closed"].map(str::to_owned).into_iter().chain((0..).map(|column| format!("c{column}")));
    let fields: Vec<Field> = names.zip(&arrays).map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    Ok(Some(StateTable { groups: UInt16Array::from(groups), records }))
}

/// The batch without rows that have no time in `column`, which is called `name`.
pub(super) fn with_times(batch: Batch, column: usize, name: &str, output: &mut dyn Output) -> Result<Option<Batch>, ExecuteError> {
    let times = batch.records.column(column);
    if times.null_count() == 0 {
        return Ok(Some(batch));
    }
    let mask: BooleanArray = arrow::compute::is_not_null(times)?;
    let error = format!("`{name}` is NULL, so there is no telling which window the row is in");
    for row in (0..batch.num_rows()).filter(|row| !mask.value(*row)) {
        output.reject(RejectedRow { origin: batch.origin.clone(), ordinal: batch.ordinals.value(row), error: error.clone() });
    }
    if mask.true_count() == 0 {
        return Ok(None);
    }
    let records = arrow::compute::filter_record_batch(&batch.records, &mask)?;
    let ordinals = arrow::compute::filter(&batch.ordinals, &mask)?.as_primitive::<UInt64Type>().clone();
    Ok(Some(Batch { records, ordinals, kinds: None, origin: batch.origin, branch: batch.branch }))
}

/// The rows of each slice, in order; slices in the order of their first rows.
fn parts(slices: &[Window]) -> Vec<(Window, Vec<u32>)> {
    let mut parts: Vec<(Window, Vec<u32>)> = Vec::new();
    let mut known: HashMap<Window, usize> = HashMap::new();
    let mut current: Option<(Window, usize)> = None;
    for (row, slice) in (0_u32..).zip(slices) {
        let part = match current {
            Some((same, part)) if same == *slice => part,
            _ => *known.entry(*slice).or_insert_with(|| {
                parts.push((*slice, Vec::new()));
                parts.len() - 1
            }),
        };
        current = Some((*slice, part));
        parts[part].1.push(row);
    }
    parts
}

/// First row and number of rows, if no row is left out.
fn contiguous(rows: &[u32]) -> Option<(usize, usize)> {
    let (first, last) = (*rows.first()? as usize, *rows.last()? as usize);
    (last - first + 1 == rows.len()).then_some((first, rows.len()))
}
