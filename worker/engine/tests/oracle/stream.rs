//! Runs a shape as a stream and keeps the table that its changes leave. It knows nothing of what is right.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch, UInt64Array};
use arrow::datatypes::TimestampMicrosecondType;
use millrace_crds::pipeline::Step;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::operators::{ExecuteError, Message, Snapshot, TakenSnapshot};
use millrace_engine::plan::stages::{Exchange, partition_rows};
use millrace_engine::plan::{self, Changelog, Executor, InputChangelog, InputTable, Plan, Policy};

use crate::inputs::{Inputs, MAX_DELAY, schema};
use crate::shapes::Shape;
use crate::tables::lines;

pub(crate) const INPUTS: [&str; 2] = ["a", "b"];

pub(crate) fn compile(shape: &Shape) -> Result<Plan, String> {
    let inputs: Vec<_> = INPUTS
        .iter()
        .map(|name| InputTable {
            name: (*name).to_owned(),
            schema: schema(),
            event_time: Some("ts".to_owned()),
            changelog: InputChangelog::Append,
        })
        .collect();
    let steps: Vec<_> = shape.steps(Shape::streamed).into_iter().map(|(name, sql)| Step { name, sql }).collect();
    let last = steps.last().unwrap().name.clone();
    // Long enough for nothing to be forgotten.
    let policy = Policy { state_ttl: Some(Duration::from_hours(24)), ..Policy::default() };
    plan::compile(&steps, &inputs, &[("out".to_owned(), last)], &policy)
        .map_err(|problems| problems.iter().map(|problem| format!("{}: {}\n", problem.location, problem.message)).collect())
}

/// What is left in the end, sorted; or what must not have come out. In one piece, or around the exchange that the plan has.
pub(crate) fn run(plan: &Plan, inputs: &Inputs, exchange: Option<&Exchange>) -> Result<Vec<String>, String> {
    let running = Running::new(plan, exchange, 0);
    let mut run = Run { plan, exchange, running, restored: 0, table: Table::of(plan), watermarks: [None; 2], latest: [i64::MIN; 2] };
    let records = [&inputs.a, &inputs.b].map(|records| (records, 0));
    let mut records = [0, 1].map(|index| {
        let names = plan.projection(INPUTS[index]);
        let columns: Vec<usize> = names.iter().map(|column| schema().index_of(column).unwrap()).collect();
        (records[index].0.clone(), records[index].0.project(&columns).unwrap(), 0)
    });
    let rest = (0..).flat_map(|_| [(true, 5, false), (false, 5, false)]);
    for (first, rows, restored) in inputs.script.iter().copied().chain(rest) {
        if records.iter().all(|(_, records, from)| *from == records.num_rows()) {
            break;
        }
        let input = usize::from(!first);
        let (whole, projected, from) = &mut records[input];
        let rows = rows.min(projected.num_rows() - *from);
        if rows > 0 {
            run.batch(input, &whole.slice(*from, rows), projected.slice(*from, rows), *from)?;
            *from += rows;
        }
        if restored {
            run.restore()?;
        }
    }
    for message in [Message::Watermark(i64::MAX), Message::End] {
        for input in 0..2 {
            run.push(input, message.clone())?;
        }
    }
    Ok(run.table.sorted())
}

/// Parts behind an exchange: so many at first, and another number after each restore.
const PARTS: [u16; 4] = [3, 1, 4, 2];

/// A plan as it runs.
enum Running {
    Whole(Executor),
    Parts { exchange: Exchange, front: Executor, backs: Vec<Executor> },
}

impl Running {
    fn new(plan: &Plan, exchange: Option<&Exchange>, restored: usize) -> Self {
        match exchange {
            None => Self::Whole(plan.executor(&INPUTS)),
            Some(exchange) => Self::Parts {
                front: exchange.front(&INPUTS),
                backs: (0..PARTS[restored % PARTS.len()]).map(|_| exchange.back()).collect(),
                exchange: exchange.clone(),
            },
        }
    }

    fn push(&mut self, input: usize, message: Message, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        let (exchange, front, backs) = match self {
            Self::Whole(executor) => return executor.push(input, message, emit),
            Self::Parts { exchange, front, backs } => (exchange, front, backs),
        };
        let mut sent = Vec::new();
        front.push(input, message, &mut |target, message| sent.push((target, message)))?;
        for (target, message) in sent {
            // There is one output.
            let Some(channel) = target.checked_sub(1) else {
                emit(target, message);
                continue;
            };
            match message {
                Message::Batch(batch) => {
                    let parts = backs.len() as u16;
                    for (part, rows) in partition_rows(&batch, &exchange.channels()[channel].key, parts)? {
                        backs[usize::from(part)].push(channel, Message::Batch(rows), emit)?;
                    }
                }
                Message::Barrier(_) => {}
                other => backs.iter_mut().try_for_each(|back| back.push(channel, other.clone(), emit))?,
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<TakenSnapshot, ExecuteError> {
        match self {
            Self::Whole(executor) => executor.snapshot(),
            Self::Parts { backs, .. } => Ok(Exchange::merge(backs.iter_mut().map(Executor::snapshot).collect::<Result<_, _>>()?)),
        }
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), ExecuteError> {
        match self {
            Self::Whole(executor) => executor.restore(snapshot),
            Self::Parts { exchange, backs, .. } => {
                let parts = backs.len() as u16;
                backs.iter_mut().zip(exchange.split(&snapshot, parts)?).try_for_each(|(back, part)| back.restore(part))
            }
        }
    }
}

struct Run<'a> {
    plan: &'a Plan,
    exchange: Option<&'a Exchange>,
    running: Running,
    /// How often it was restored.
    restored: usize,
    table: Table,
    watermarks: [Option<i64>; 2],
    latest: [i64; 2],
}

impl Run<'_> {
    fn batch(&mut self, input: usize, whole: &RecordBatch, projected: RecordBatch, from: usize) -> Result<(), String> {
        let ordinals = UInt64Array::from_iter_values(from as u64..(from + whole.num_rows()) as u64);
        self.push(input, Message::Batch(Batch::new(projected, Origin::new(INPUTS[input], INPUTS[input]), ordinals)))?;
        let times = whole.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
        self.latest[input] = self.latest[input].max(arrow::compute::max(times).unwrap());
        let watermark = self.latest[input] - MAX_DELAY;
        self.watermarks[input] = Some(watermark);
        self.push(input, Message::Watermark(watermark))
    }

    /// An epoch ends, and new executors go on where the last ones were. Those have gone on meanwhile, and let go of most that they held, when their snapshot is
    /// put into tables.
    fn restore(&mut self) -> Result<(), String> {
        (0..2).try_for_each(|input| self.push(input, Message::Barrier(1)))?;
        let taken = self.running.snapshot().map_err(|error| error.to_string())?;
        for input in 0..2 {
            let ended = self.running.push(input, Message::Watermark(i64::MAX), &mut |_, _| {});
            ended.map_err(|error| error.to_string())?;
        }
        let snapshot = taken.finish().map_err(|error| error.to_string())?;
        self.restored += 1;
        self.running = Running::new(self.plan, self.exchange, self.restored);
        self.running.restore(snapshot).map_err(|error| error.to_string())?;
        for input in 0..2 {
            if let Some(watermark) = self.watermarks[input] {
                self.push(input, Message::Watermark(watermark))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, input: usize, message: Message) -> Result<(), String> {
        let mut wrong = None;
        let table = &mut self.table;
        let mut emit = |_: usize, message: Message| {
            let kept = match message {
                Message::Batch(batch) => table.change(&batch),
                Message::Rejected(rejected) => Err(format!("a row is rejected: {}", rejected.error)),
                _ => Ok(()),
            };
            wrong = wrong.take().or(kept.err());
        };
        self.running.push(input, message, &mut emit).map_err(|error| error.to_string())?;
        wrong.map_or(Ok(()), Err)
    }
}

/// What is there.
pub(crate) struct Table {
    rows: Vec<String>,
    /// Columns of which no two rows have the same values; how many rows have which.
    key: Vec<usize>,
    keys: BTreeMap<String, u32>,
    is_updating: bool,
}

impl Table {
    pub(crate) fn of(plan: &Plan) -> Self {
        let output = &plan.outputs()[0];
        let (key, is_updating) = match &output.changelog {
            Changelog::Append => (Vec::new(), false),
            Changelog::Updating { key } => (key.iter().map(|column| output.schema.index_of(column).unwrap()).collect(), true),
        };
        Self { rows: Vec::new(), key, keys: BTreeMap::new(), is_updating }
    }

    /// Its rows, sorted.
    pub(crate) fn sorted(mut self) -> Vec<String> {
        self.rows.sort();
        self.rows
    }

    pub(crate) fn change(&mut self, batch: &Batch) -> Result<(), String> {
        let rows = lines(&batch.records).map_err(|error| error.to_string())?;
        let keys = if self.key.is_empty() { None } else { lines(&batch.records.project(&self.key).unwrap()).ok() };
        for (row, line) in rows.into_iter().enumerate() {
            let is_addition = batch.kind(row).is_addition();
            if !self.is_updating && !is_addition {
                return Err(format!("a row of a result that is never revised is taken back: {line}"));
            }
            if is_addition {
                self.rows.push(line);
            } else {
                let known = self.rows.iter().position(|known| *known == line);
                self.rows.swap_remove(known.ok_or_else(|| format!("a row is taken back that is not there: {line}"))?);
            }
            let Some(keys) = &keys else { continue };
            let count = self.keys.entry(keys[row].clone()).or_default();
            *count = if is_addition { *count + 1 } else { *count - 1 };
            if *count > 1 {
                return Err(format!("two rows have the key {}", keys[row]));
            }
        }
        Ok(())
    }
}
