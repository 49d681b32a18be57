//! One row for each key and session, when the session ends. Knows no other windows.
//!
//! A row begins a session from its time to its time plus the gap, and sessions of a key that overlap or touch are one: rows that are exactly the gap apart
//! belong together, as in Flink. Sessions leave in the order of their ends, then in the order in which they began to arrive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::call::Call;
use super::cells::{Cells, Change, cells};
use super::column::{MILLISECOND, OutputColumn, described, key_columns, key_types, microseconds, timestamps};
use super::group::width;
use super::window::with_times;
use crate::batch::{Batch, Origin};
use crate::operators::columns::place;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, RejectedRow, StateTable, TakenState};
use crate::plan::Late;
use crate::state::{KeyTable, hash_rows, key_group};

/// Name of the table of the state.
const TABLE: &str = "sessions";
/// Its first column of keys.
const KEYS_FROM: usize = 3;

/// A session aggregate as it stands in the plan.
#[derive(Clone, Debug)]
pub(crate) struct SessionBlueprint {
    /// The column that tells time.
    pub(crate) time: usize,
    pub(crate) time_name: String,
    /// Microseconds.
    pub(crate) gap: i64,
    /// Columns that have sessions of their own.
    pub(crate) keys: Vec<usize>,
    pub(crate) key_types: Vec<DataType>,
    pub(crate) calls: Vec<Call>,
    /// One for each column of the schema.
    pub(crate) output: Vec<OutputColumn>,
    pub(crate) late: Late,
    pub(crate) schema: SchemaRef,
}

impl Blueprint for SessionBlueprint {
    fn kind(&self) -> &'static str {
        "session_aggregate"
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn identity(&self) -> String {
        let calls: Vec<&str> = self.calls.iter().map(|call| call.identity.as_str()).collect();
        let fields: Vec<String> = self.schema.fields().iter().map(|field| format!("{:?} {}", field.name(), field.data_type())).collect();
        format!("{} gap {} by {:?} {calls:?} as {:?} {fields:?} late {:?}", self.time, self.gap, self.keys, self.output, self.late)
    }

    fn explain(&self) -> String {
        let gap = std::time::Duration::from_micros(self.gap.unsigned_abs());
        format!("SESSION(gap {gap:?}): {}", described(&self.output, &self.calls, &self.schema))
    }

    fn state_signature(&self) -> Option<String> {
        let calls: Vec<String> = self.calls.iter().map(Call::signature).collect();
        Some(format!("session_aggregate 1: gap {}; keys {:?}; {}", self.gap, self.key_types, calls.join("; ")))
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

    fn reads(&self, _port: usize) -> Option<Vec<usize>> {
        let calls = self.calls.iter().flat_map(Call::columns);
        (self.late == Late::Drop).then(|| self.keys.iter().copied().chain(calls).chain([self.time]).collect())
    }

    fn narrowed(&self, _port: usize, kept: &[usize]) -> Option<Arc<dyn Blueprint>> {
        let keys = self.keys.iter().map(|key| place(kept, *key)).collect();
        let calls = self.calls.iter().map(|call| call.narrowed(kept)).collect();
        Some(Arc::new(Self { time: place(kept, self.time), keys, calls, ..self.clone() }))
    }

    fn operator(&self, id: &Arc<str>, _ports: &[usize]) -> Box<dyn Operator> {
        Box::new(SessionAggregate {
            origin: Origin::new(&format!("operator/{id}"), id.as_ref()),
            blueprint: self.clone(),
            sessions: None,
            closed: i64::MIN,
        })
    }
}

struct SessionAggregate {
    blueprint: SessionBlueprint,
    origin: Origin,
    sessions: Option<Sessions>,
    /// Sessions that end here or before have left.
    closed: i64,
}

/// A session that has not ended. Its number is that of its cells.
#[derive(Clone, Copy)]
struct Session {
    key: u32,
    /// Time of the first row.
    start: i64,
    /// The gap after the last row.
    end: i64,
    /// Grows with every session: the order in which they began to arrive.
    sequence: i64,
}

struct Sessions {
    keys: KeyTable,
    /// Numbers of the sessions of each key, by start.
    by_key: Vec<Vec<u32>>,
    /// By number; `None` for numbers that are free.
    sessions: Vec<Option<Session>>,
    free: Vec<u32>,
    cells: Vec<Box<dyn Cells>>,
    /// When to look at which session: not after its end.
    due: BinaryHeap<Reverse<(i64, u32)>>,
    sequence: i64,
}

impl Sessions {
    fn new(blueprint: &SessionBlueprint) -> Result<Self, ExecuteError> {
        let cells = blueprint.calls.iter().map(|call| cells(call, false).map_err(|error| call.failed(error)));
        Ok(Self {
            keys: KeyTable::new(&key_types(&blueprint.key_types))?,
            by_key: Vec::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            cells: cells.collect::<Result<_, _>>()?,
            due: BinaryHeap::new(),
            sequence: 0,
        })
    }

    fn get(&self, number: u32) -> Option<&Session> {
        self.sessions.get(number as usize)?.as_ref()
    }

    /// Adds a session and returns its number.
    fn add(&mut self, session: Session) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            u32::try_from(self.sessions.len() - 1).expect("state is bounded far below 2^32 sessions")
        });
        self.sessions[number as usize] = Some(session);
        self.due.push(Reverse((session.end, number)));
        number
    }

    /// Takes a session out; its cells are as if nothing had been added.
    fn remove(&mut self, numbers: &[u32], calls: &[Call]) -> Result<(), ExecuteError> {
        for number in numbers {
            if let Some(session) = self.sessions[*number as usize].take() {
                self.by_key[session.key as usize].retain(|other| other != number);
                self.free.push(*number);
            }
        }
        for (cells, call) in self.cells.iter_mut().zip(calls) {
            cells.reset(numbers).map_err(|error| call.failed(error))?;
        }
        Ok(())
    }

    /// The sessions of a key that a row's own session, from `start` to `end`, overlaps or touches.
    fn touching(&self, key: u32, start: i64, end: i64) -> Vec<u32> {
        let touches = |number: &&u32| self.get(**number).is_some_and(|session| session.start <= end && session.end >= start);
        self.by_key[key as usize].iter().filter(touches).copied().collect()
    }

    /// The only session of a key, if a row's own session touches it.
    fn only(&mut self, key: u32, start: i64, end: i64) -> Option<(u32, &mut Session)> {
        let [number] = self.by_key[key as usize][..] else { return None };
        let session = self.sessions[number as usize].as_mut()?;
        (session.start <= end && session.end >= start).then_some((number, session))
    }

    /// Forgets keys without sessions, once they are most.
    fn tidy(&mut self) -> Result<(), ExecuteError> {
        let open = self.sessions.len() - self.free.len();
        if self.by_key.len() < 1024 || self.by_key.len() < 4 * open {
            return Ok(());
        }
        let keep: arrow::array::BooleanArray = self.by_key.iter().map(|numbers| Some(!numbers.is_empty())).collect();
        self.keys.retain(&keep)?;
        self.by_key.retain(|numbers| !numbers.is_empty());
        for (key, numbers) in (0..).zip(&self.by_key) {
            for number in numbers {
                if let Some(session) = &mut self.sessions[*number as usize] {
                    session.key = key;
                }
            }
        }
        Ok(())
    }
}

impl Operator for SessionAggregate {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => self.add(batch, output),
            Message::Watermark(time) => {
                self.close(time, output)?;
                // Sessions that are open end now or later, and their results are a millisecond older than their end.
                let passed = if time == i64::MAX { time } else { time.saturating_sub(MILLISECOND) };
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
        let Reverse((end, _)) = self.sessions.as_ref()?.due.peek()?;
        Some(end.saturating_add(1))
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let signature = self.blueprint.state_signature().unwrap_or_default();
        let calls = &self.blueprint.calls;
        let table = self.sessions.as_mut().map(|sessions| table(sessions, calls)).transpose()?.flatten();
        let tables = move || table.into_iter().map(|table| Ok((TABLE.to_owned(), table()?))).collect();
        Ok(Some(TakenState::new(signature, tables)))
    }

    fn state_bytes(&self) -> usize {
        self.sessions.as_ref().map_or(0, |sessions| {
            let vectors = sessions.sessions.capacity() * size_of::<Option<Session>>()
                + sessions.by_key.capacity() * (size_of::<Vec<u32>>() + size_of::<u32>())
                + sessions.due.capacity() * size_of::<(i64, u32)>();
            sessions.keys.memory_bytes() + vectors + sessions.cells.iter().map(|cells| cells.memory_bytes()).sum::<usize>()
        })
    }

    fn restore(&mut self, mut state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        if let Some(table) = state.tables.remove(TABLE) {
            self.sessions = Some(self.restored(&table.records)?);
        }
        Ok(())
    }
}

impl SessionAggregate {
    fn add(&mut self, batch: Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let Some(batch) = with_times(batch, self.blueprint.time, &self.blueprint.time_name, output)? else { return Ok(()) };
        let rows = batch.num_rows();
        let columns = batch.records.columns();
        let keys = key_columns(&self.blueprint.keys, columns, rows);
        let hashes = hash_rows(&keys, rows)?;
        let times = microseconds(&columns[self.blueprint.time])?;
        let Self { blueprint, sessions, closed, .. } = self;
        let sessions = match sessions {
            Some(sessions) => sessions,
            None => sessions.insert(Sessions::new(blueprint)?),
        };
        let numbers = sessions.keys.intern(&keys, &hashes)?;
        sessions.by_key.resize_with(sessions.keys.len(), Vec::new);
        let (mut picked, mut groups) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut late = 0;
        for (row, key) in numbers.into_iter().enumerate() {
            let (start, end) = (times.value(row), times.value(row).saturating_add(blueprint.gap));
            let number = if let Some((number, session)) = sessions.only(key, start, end) {
                (session.start, session.end) = (session.start.min(start), session.end.max(end));
                number
            } else {
                match sessions.touching(key, start, end)[..] {
                    [] if is_over(end, *closed) => {
                        late += 1;
                        if blueprint.late == Late::DeadLetter {
                            let (origin, ordinal) = (batch.origin.clone(), batch.ordinals.value(row));
                            let error = format!("the row is late: by `{}`, its session has ended", blueprint.time_name);
                            output.reject(RejectedRow { origin, ordinal, error });
                        }
                        continue;
                    }
                    [] => {
                        sessions.sequence += 1;
                        let number = sessions.add(Session { key, start, end, sequence: sessions.sequence });
                        sessions.by_key[key as usize].push(number);
                        number
                    }
                    [first, ref others @ ..] => {
                        // What came before goes into the cells before they are merged, so that merging sees the same in every batch.
                        update(sessions, &blueprint.calls, columns, &mut picked, &mut groups)?;
                        merge(sessions, &blueprint.calls, first, others, (start, end))?;
                        first
                    }
                }
            };
            picked.push(row as u32);
            groups.push(number);
        }
        update(sessions, &blueprint.calls, columns, &mut picked, &mut groups)?;
        if blueprint.late == Late::Drop {
            output.filtered(late);
        }
        Ok(())
    }

    fn close(&mut self, time: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        self.closed = self.closed.max(time);
        let Self { blueprint, sessions, .. } = self;
        let Some(sessions) = sessions else { return Ok(()) };
        let mut ended: Vec<(i64, i64, u32)> = Vec::new();
        let mut later = Vec::new();
        while let Some(Reverse((due, number))) = sessions.due.peek().copied()
            && is_over(due, time)
        {
            sessions.due.pop();
            match sessions.get(number) {
                Some(session) if is_over(session.end, time) => ended.push((session.end, session.sequence, number)),
                Some(session) => later.push(Reverse((session.end, number))),
                None => {}
            }
        }
        sessions.due.extend(later);
        ended.sort_unstable();
        // A number that was given away and taken again may be due twice.
        ended.dedup();
        if ended.is_empty() {
            return Ok(());
        }
        let numbers: Vec<u32> = ended.iter().map(|(.., number)| *number).collect();
        let batch = result(sessions, blueprint, &numbers, &self.origin)?;
        sessions.remove(&numbers, &blueprint.calls)?;
        sessions.tidy()?;
        output.emit(Message::Batch(batch));
        Ok(())
    }

    fn restored(&self, records: &RecordBatch) -> Result<Sessions, ExecuteError> {
        let wrong = || ExecuteError::State { message: "its columns are not those of the plan".to_owned() };
        let mut sessions = Sessions::new(&self.blueprint)?;
        let (first, mut rest) = records.columns().split_at_checked(KEYS_FROM + self.blueprint.keys.len().max(1)).ok_or_else(wrong)?;
        let numbers = |column: usize| first[column].as_primitive_opt::<Int64Type>().ok_or_else(wrong);
        let (sequences, starts, ends) = (numbers(0)?, numbers(1)?, numbers(2)?);
        let keys = sessions.keys.intern(&first[KEYS_FROM..], &hash_rows(&first[KEYS_FROM..], records.num_rows())?)?;
        sessions.by_key.resize_with(sessions.keys.len(), Vec::new);
        for (row, key) in keys.into_iter().enumerate() {
            let session = Session { key, start: starts.value(row), end: ends.value(row), sequence: sequences.value(row) };
            let number = sessions.add(session);
            sessions.by_key[key as usize].push(number);
            sessions.sequence = sessions.sequence.max(session.sequence);
        }
        for (cells, call) in sessions.cells.iter_mut().zip(&self.blueprint.calls) {
            let width = width(call, false).map_err(|error| call.failed(error))?;
            let (state, others) = rest.split_at_checked(width).ok_or_else(wrong)?;
            cells.restore(state).map_err(|error| call.failed(error))?;
            rest = others;
        }
        if rest.is_empty() { Ok(sessions) } else { Err(wrong()) }
    }
}

/// Puts the rows that have been assigned into their cells.
fn update(
    sessions: &mut Sessions,
    calls: &[Call],
    columns: &[ArrayRef],
    rows: &mut Vec<u32>,
    groups: &mut Vec<u32>,
) -> Result<(), ExecuteError> {
    let total = sessions.sessions.len();
    let all = columns.first().is_some_and(|column| column.len() == rows.len());
    let picked = UInt32Array::from(std::mem::take(rows));
    for (cells, call) in sessions.cells.iter_mut().zip(calls) {
        cells.grow(total).map_err(|error| call.failed(error))?;
        if groups.is_empty() {
            continue;
        }
        let pick = |column: &ArrayRef| if all { Ok(Arc::clone(column)) } else { take(column, &picked, None) };
        let mut of_call = columns.to_vec();
        for column in call.columns() {
            of_call[column] = pick(&columns[column])?;
        }
        let values = call.values(&of_call, groups.len())?;
        let mask = call.mask(&of_call);
        let change = Change { values: &values, mask: mask.as_ref(), groups, additions: None };
        cells.update(&change).map_err(|error| call.failed(error))?;
    }
    groups.clear();
    Ok(())
}

/// Makes one session of several and of a row's own.
fn merge(sessions: &mut Sessions, calls: &[Call], into: u32, others: &[u32], (start, end): (i64, i64)) -> Result<(), ExecuteError> {
    let mut merged = *sessions.get(into).expect("it has just been found");
    (merged.start, merged.end) = (merged.start.min(start), merged.end.max(end));
    for other in others {
        let other_session = *sessions.get(*other).expect("it has just been found");
        merged.start = merged.start.min(other_session.start);
        merged.end = merged.end.max(other_session.end);
        merged.sequence = merged.sequence.min(other_session.sequence);
        for (cells, call) in sessions.cells.iter_mut().zip(calls) {
            cells.merge(into, *other).map_err(|error| call.failed(error))?;
        }
    }
    sessions.remove(others, calls)?;
    sessions.sessions[into as usize] = Some(merged);
    Ok(())
}

fn result(sessions: &mut Sessions, blueprint: &SessionBlueprint, numbers: &[u32], origin: &Origin) -> Result<Batch, ExecuteError> {
    let ended: Vec<Session> = numbers.iter().filter_map(|number| sessions.get(*number).copied()).collect();
    let key_numbers: Vec<u32> = ended.iter().map(|session| session.key).collect();
    let keys = sessions.keys.columns(&key_numbers)?;
    let starts = Int64Array::from_iter_values(ended.iter().map(|session| session.start));
    let ends = Int64Array::from_iter_values(ended.iter().map(|session| session.end));
    let calls = sessions.cells.iter_mut().zip(&blueprint.calls);
    let calls: Vec<ArrayRef> =
        calls.map(|(cells, call)| cells.evaluate(numbers).map_err(|error| call.failed(error))).collect::<Result<_, _>>()?;
    let columns = blueprint.output.iter().zip(blueprint.schema.fields()).map(|(column, field)| match column {
        OutputColumn::Key(key) => Ok(Arc::clone(&keys[*key])),
        OutputColumn::WindowStart => timestamps(starts.clone(), field.data_type()),
        OutputColumn::WindowEnd => timestamps(ends.clone(), field.data_type()),
        OutputColumn::WindowTime => timestamps(ends.unary(|end| end.saturating_sub(MILLISECOND)), field.data_type()),
        OutputColumn::Call(call) => Ok(Arc::clone(&calls[*call])),
    });
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(ended.len()));
    let columns = columns.collect::<Result<_, _>>()?;
    let records = RecordBatch::try_new_with_options(Arc::clone(&blueprint.schema), columns, &options)?;
    let hashes = UInt64Array::from_iter_values(key_numbers.iter().map(|key| sessions.keys.hash(*key)));
    let named: [ArrayRef; 3] = [Arc::new(hashes), Arc::new(starts), Arc::new(ends)];
    Ok(Batch::new(records, origin.clone(), hash_rows(&named, ended.len())?.into()))
}

/// All sessions in the order in which they began: sequence, start, end, keys, cells.
fn table(
    sessions: &mut Sessions,
    calls: &[Call],
) -> Result<Option<impl FnOnce() -> Result<StateTable, ExecuteError> + Send + use<>>, ExecuteError> {
    let mut open: Vec<(u32, Session)> = (0..).zip(&sessions.sessions).filter_map(|(number, session)| Some((number, (*session)?))).collect();
    if open.is_empty() {
        return Ok(None);
    }
    open.sort_unstable_by_key(|(_, session)| session.sequence);
    let numbers = UInt32Array::from_iter_values(open.iter().map(|(number, _)| *number));
    let key_numbers: Vec<u32> = open.iter().map(|(_, session)| session.key).collect();
    let column =
        |value: fn(&Session) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(open.iter().map(|(_, session)| value(session)))) };
    let mut arrays = vec![column(|session| session.sequence), column(|session| session.start), column(|session| session.end)];
    arrays.extend(sessions.keys.columns(&key_numbers)?);
    let cells = sessions.cells.iter_mut().zip(calls);
    let cells = cells.map(|(cells, call)| Ok((call.clone(), cells.share().map_err(|error| call.failed(error))?)));
    let cells = cells.collect::<Result<Vec<_>, ExecuteError>>()?;
    let groups = UInt16Array::from_iter_values(key_numbers.iter().map(|key| key_group(sessions.keys.hash(*key))));
    Ok(Some(move || {
        for (call, cells) in cells {
            for state in cells().map_err(|error| call.failed(error))? {
                arrays.push(take(&state, &numbers, None)?);
            }
        }
        let names = ["sequence", "start", "end"].map(str::to_owned).into_iter().chain((0..).map(|column| format!("c{column}")));
        let fields: Vec<Field> = names.zip(&arrays).map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
        Ok(StateTable { groups, records: RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)? })
    }))
}
/// Whether no row that the watermark still lets come can belong to a session with this end. The gap is inclusive: a row at the very end would.
fn is_over(end: i64, watermark: i64) -> bool {
    end < watermark || watermark == i64::MAX
}
