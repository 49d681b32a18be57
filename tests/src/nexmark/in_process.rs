//! A query's plan alone, without the runtime around it: rows in, rows out, in any interleaving of its inputs, restored from snapshots on the way.
//! It measures nothing, and there are no sinks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::AsArray as _;
use arrow::compute::max;
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use millrace_connectors::context::ResolvedLimits;
use millrace_connectors::formats::rows::RowEncoder;
use millrace_connectors::formats::{stream_decoder, table_schema};
use millrace_crds::format::{Json, SourceFormat};
use millrace_crds::pipeline::{Limits, Step};
use millrace_crds::report::Problem;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::operators::Message;
use millrace_engine::plan::{self, Executor, InputChangelog, InputTable, Plan, Policy};

use super::generator::{Events, MAX_DELAY_MS, Table};
use super::queries::Query;
use super::results::Rows;
use super::tables::{SIDE_INPUT, TIME, Type, columns, schema};
use super::{SIDE_INPUT_ROWS, STATE_TTL_SECONDS};

/// How the rows of several inputs come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// As they happened, about: in every round one person, three auctions and 46 bids, each times this number.
    Together(usize),
    /// One input after the other, in batches of this many rows, the last one first.
    OneByOne(usize),
    /// As [`Arrival::Together`], and after every so many rounds all is thrown away but a snapshot, which is gone on from.
    Restored(usize, usize),
}

/// The lines of each table.
#[must_use]
pub fn tables(events: &Events) -> BTreeMap<Table, Vec<u8>> {
    let (mut tables, mut line): (BTreeMap<Table, Vec<u8>>, Vec<u8>) = (BTreeMap::new(), Vec::new());
    for n in events.order() {
        line.clear();
        let table = events.write(n, &mut line);
        line.push(b'\n');
        tables.entry(table).or_default().extend_from_slice(&line);
    }
    tables
}

/// The plan of a query, or why it is refused.
///
/// # Errors
/// A schema cannot be made.
pub fn plan(query: &Query) -> Result<Result<Plan, Vec<Problem>>> {
    let steps = query.views.iter().map(|(name, sql)| Step { name: name.clone(), sql: sql.clone() });
    let steps: Vec<Step> = steps.chain([Step { name: "result".to_owned(), sql: query.sql.clone() }]).collect();
    let input = |table: &Table| {
        let schema = table_schema(&format(), Some(&schema(columns(*table))))?;
        Ok(InputTable { name: table.name().to_owned(), schema, event_time: Some(TIME.to_owned()), changelog: InputChangelog::Append })
    };
    let mut inputs = query.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    if query.side_input {
        inputs.push(InputTable {
            name: SIDE.to_owned(),
            schema: table_schema(&format(), Some(&schema(&SIDE_INPUT)))?,
            event_time: None,
            changelog: InputChangelog::Append,
        });
    }
    let policy = Policy { state_ttl: Some(std::time::Duration::from_secs(STATE_TTL_SECONDS)), ..Policy::default() };
    Ok(plan::compile(&steps, &inputs, &[("result".to_owned(), "result".to_owned())], &policy))
}

/// The rows that a plan gives in the end.
///
/// # Errors
/// A row is rejected, the plan fails, or takes back what is not there.
pub fn run(plan: &Plan, query: &Query, tables: &BTreeMap<Table, Vec<u8>>, arrival: Arrival) -> Result<Rows> {
    let mut names: Vec<&str> = query.inputs.iter().map(|table| table.name()).collect();
    let side = query.side_input.then_some(names.len());
    names.extend(side.map(|_| SIDE));
    let mut inputs = query.inputs.iter().map(|table| Input::new(plan, *table, tables)).collect::<Result<Vec<_>>>()?;
    let mut answer =
        Answer { rows: Rows::default(), encoder: RowEncoder::new(&plan.outputs()[0].schema)?, clock: 0, reads_clock: plan.reads_clock() };
    let mut executor = plan.executor(&names);
    if let Some(side) = side {
        let lines: String = (0..SIDE_INPUT_ROWS).map(|key| format!("{{\"key\":{key},\"value\":\"value {key}\"}}\n")).collect();
        for batch in decoded(plan, SIDE, &SIDE_INPUT, lines.into())? {
            answer.push(&mut executor, side, Message::Batch(batch))?;
        }
        answer.push(&mut executor, side, Message::Idle)?;
    }
    match arrival {
        Arrival::OneByOne(rows) => {
            for (index, input) in inputs.iter_mut().enumerate().rev() {
                while input.push(&mut executor, index, rows, &mut answer)? {}
            }
        }
        Arrival::Together(times) | Arrival::Restored(times, _) => {
            for round in 1.. {
                let mut more = false;
                for (index, input) in inputs.iter_mut().enumerate() {
                    more |= input.push(&mut executor, index, share(input.table) * times, &mut answer)?;
                }
                if !more {
                    break;
                }
                if let Arrival::Restored(_, rounds) = arrival
                    && round % rounds == 0
                {
                    let snapshot = executor.snapshot()?.finish()?;
                    executor = plan.executor(&names);
                    executor.restore(snapshot)?;
                    let before = answer.rows.clone();
                    for (index, input) in inputs.iter().enumerate() {
                        if let Some(watermark) = input.watermark {
                            answer.push(&mut executor, index, Message::Watermark(watermark))?;
                        }
                    }
                    ensure!(answer.rows == before, "rows come out again when a snapshot is restored");
                }
            }
        }
    }
    // As the runtime ends: inputs that have ended are idle, wake together, and then all of them have the last watermark.
    let all = |executor: &mut Executor, answer: &mut Answer, message: &dyn Fn(&Input) -> Option<Message>| -> Result<()> {
        for (index, input) in inputs.iter().enumerate() {
            if let Some(message) = message(input) {
                answer.push(executor, index, message)?;
            }
        }
        Ok(())
    };
    all(&mut executor, &mut answer, &|_| Some(Message::Idle))?;
    all(&mut executor, &mut answer, &|input| input.watermark.map(Message::Watermark))?;
    all(&mut executor, &mut answer, &|_| Some(Message::Watermark(i64::MAX)))?;
    all(&mut executor, &mut answer, &|_| Some(Message::End))?;
    if let Some(side) = side {
        answer.push(&mut executor, side, Message::End)?;
    }
    query.compared(answer.rows)
}

/// Name of the table that is looked up.
const SIDE: &str = "side_input";

/// The columns of lines that a plan reads, in batches.
fn decoded(plan: &Plan, name: &str, columns: &[(&str, Type)], lines: Bytes) -> Result<Vec<Batch>> {
    let limits = ResolvedLimits::from(&Limits::default());
    let declared = table_schema(&format(), Some(&schema(columns)))?;
    let mut decoder = stream_decoder(&format(), &declared, &plan.projection(name), &limits, None)?;
    decoder.push(lines);
    decoder.finish();
    let origin = Origin::new(name, name);
    let mut batches = Vec::new();
    while let Some(decoded) = decoder.next() {
        ensure!(decoded.rejected.is_empty(), "a record cannot be decoded: {:?}", decoded.rejected);
        batches.push(Batch::new(decoded.records, origin.clone(), decoded.ordinals));
    }
    Ok(batches)
}

fn format() -> SourceFormat {
    SourceFormat { json: Some(Json {}), ..SourceFormat::default() }
}

fn share(table: Table) -> usize {
    match table {
        Table::Person => 1,
        Table::Auction => 3,
        Table::Bid => 46,
    }
}

/// What has come out.
struct Answer {
    rows: Rows,
    encoder: RowEncoder,
    /// Processing time: it goes on by itself.
    clock: i64,
    reads_clock: bool,
}

/// Microseconds between two batches.
const TICK: i64 = 200_000;

impl Answer {
    /// What time it is, as the runtime says before each batch.
    fn tick(&mut self, executor: &mut Executor) -> Result<()> {
        self.clock += TICK;
        if self.reads_clock { self.push(executor, 0, Message::Clock(self.clock)) } else { Ok(()) }
    }

    fn push(&mut self, executor: &mut Executor, input: usize, message: Message) -> Result<()> {
        let mut out = Vec::new();
        executor.push(input, message, &mut |_, message| out.push(message)).map_err(|error| anyhow!(error))?;
        for message in out {
            match message {
                Message::Batch(batch) => self.take(&batch)?,
                Message::Rejected(rejected) => bail!("a row is rejected: {}", rejected.error),
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: &Batch) -> Result<()> {
        let mut text = Vec::new();
        self.encoder.encode_lines(&batch.records, &mut text)?;
        for (row, line) in std::str::from_utf8(&text).context("rows are no text")?.lines().enumerate() {
            self.rows.change(&format!("{} {line}", batch.kind(row).as_str()))?;
        }
        Ok(())
    }
}

/// One input, decoded.
struct Input {
    table: Table,
    batches: Vec<Batch>,
    /// First batch and row that have not been pushed.
    next: (usize, usize),
    time: Option<usize>,
    watermark: Option<i64>,
}

impl Input {
    fn new(plan: &Plan, table: Table, tables: &BTreeMap<Table, Vec<u8>>) -> Result<Self> {
        let lines = Bytes::from(tables.get(&table).cloned().unwrap_or_default());
        let batches = decoded(plan, table.name(), columns(table), lines)?;
        Ok(Self { table, batches, next: (0, 0), time: plan.event_time(table.name()), watermark: None })
    }

    /// Pushes the next rows, `count` at most, and the watermark that follows; false if there are none left.
    fn push(&mut self, executor: &mut Executor, index: usize, count: usize, answer: &mut Answer) -> Result<bool> {
        let Some(batch) = self.batches.get(self.next.0) else { return Ok(false) };
        let (start, rows) = (self.next.1, count.min(batch.num_rows() - self.next.1));
        let part = Batch::new(batch.records.slice(start, rows), batch.origin.clone(), batch.ordinals.slice(start, rows));
        self.next = if start + rows == batch.num_rows() { (self.next.0 + 1, 0) } else { (self.next.0, start + rows) };
        let latest = self.time.and_then(|time| max(part.records.column(time).as_primitive::<TimestampMicrosecondType>()));
        answer.tick(executor)?;
        answer.push(executor, index, Message::Batch(part))?;
        if self.time.is_some() {
            let delay = i64::try_from(MAX_DELAY_MS * 1000).unwrap_or(i64::MAX);
            let reached = latest.map(|latest| latest - delay);
            if reached > self.watermark
                && let Some(watermark) = reached
            {
                self.watermark = reached;
                answer.push(executor, index, Message::Watermark(watermark))?;
            }
        }
        Ok(true)
    }
}
