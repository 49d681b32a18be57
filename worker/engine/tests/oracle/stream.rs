//! Runs a shape as a stream and keeps the table that its changes leave. It knows nothing of what is right.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch, UInt64Array};
use arrow::datatypes::TimestampMicrosecondType;
use millrace_crds::pipeline::Step;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::operators::{Message, TakenSnapshot};
use millrace_engine::plan::{self, Changelog, Executor, InputTable, Plan, Policy};

use crate::inputs::{Inputs, MAX_DELAY, schema};
use crate::shapes::Shape;
use crate::tables::lines;

const INPUTS: [&str; 2] = ["a", "b"];

pub(crate) fn compile(shape: &Shape) -> Result<Plan, String> {
    let inputs: Vec<_> =
        INPUTS.iter().map(|name| InputTable { name: (*name).to_owned(), schema: schema(), event_time: Some("ts".to_owned()) }).collect();
    let steps: Vec<_> = shape.steps(Shape::streamed).into_iter().map(|(name, sql)| Step { name, sql }).collect();
    let last = steps.last().unwrap().name.clone();
    // Long enough for nothing to be forgotten.
    let policy = Policy { state_ttl: Some(Duration::from_hours(24)), ..Policy::default() };
    plan::compile(&steps, &inputs, &[("out".to_owned(), last)], &policy)
        .map_err(|problems| problems.iter().map(|problem| format!("{}: {}\n", problem.location, problem.message)).collect())
}

/// What is left in the end, sorted; or what must not have come out.
pub(crate) fn run(plan: &Plan, inputs: &Inputs) -> Result<Vec<String>, String> {
    let mut run = Run { plan, executor: plan.executor(&INPUTS), table: Table::of(plan), watermarks: [None; 2], latest: [i64::MIN; 2] };
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
    run.table.rows.sort();
    Ok(run.table.rows)
}

struct Run<'a> {
    plan: &'a Plan,
    executor: Executor,
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

    /// A new executor goes on where the last one was.
    fn restore(&mut self) -> Result<(), String> {
        let snapshot = self.executor.snapshot().and_then(TakenSnapshot::finish).map_err(|error| error.to_string())?;
        self.executor = self.plan.executor(&INPUTS);
        self.executor.restore(snapshot).map_err(|error| error.to_string())?;
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
        self.executor.push(input, message, &mut emit).map_err(|error| error.to_string())?;
        wrong.map_or(Ok(()), Err)
    }
}

/// What is there.
struct Table {
    rows: Vec<String>,
    /// Columns of which no two rows have the same values; how many rows have which.
    key: Vec<usize>,
    keys: BTreeMap<String, u32>,
    is_updating: bool,
}

impl Table {
    fn of(plan: &Plan) -> Self {
        let output = &plan.outputs()[0];
        let (key, is_updating) = match &output.changelog {
            Changelog::Append => (Vec::new(), false),
            Changelog::Updating { key } => (key.iter().map(|column| output.schema.index_of(column).unwrap()).collect(), true),
        };
        Self { rows: Vec::new(), key, keys: BTreeMap::new(), is_updating }
    }

    fn change(&mut self, batch: &Batch) -> Result<(), String> {
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
