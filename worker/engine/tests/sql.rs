//! Runs the cases in `sql/` (rows in, rows out) and `refused/` (problems). Holds no case itself; `MILLRACE_BLESS=1` writes the answers into the files.
//!
//! A case is a file of sections, each headed by a line that starts with `---`:
//!
//! ```text
//! --- input logs            columns, one per line as `name type`; then rows as JSON
//! --- step errors           SQL
//! --- output out from errors
//! --- rejected              answers: columns and rows of each output, rejected rows, the plan, problems
//! --- explain
//! --- problems
//! ```
//!
//! A column may be the event time: `time Timestamp(µs) EVENT TIME maxDelay 4` (seconds). Then a watermark follows every batch; if there are lines `watermark`
//! among the rows, only there, so that it is the case that says which rows are late. A line `clock 5` among the rows says that it is five seconds past the
//! beginning of 1970 by processing time, where a plan goes by that, and a line `idle` that nothing more comes for now. A line `retract by k, l` or `upsert by k` among the columns
//! says that rows are revised, and each row is headed by its kind: `-U {"k":1}`. At the end all inputs end. A section `policy` has lines
//! `stateTtl 60` (seconds), `allowedLateness 5` and `late deadLetter`. Rows of an output that is revised are headed by their kinds.
//!
//! Every case is run with all rows in one batch, and again in batches of one, two and three rows: the rows that come out must be the same, or add up to the
//! same if they are revised. And it is run with a snapshot after every batch, which a new executor is restored from. A plan that can be shared is also run
//! in front of and behind its exchange, with another number of parts behind it after every snapshot; with partial aggregates going through it as well.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use millrace_crds::pipeline::Step;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::operators::{Message, OutputCounters, Snapshot};
use millrace_engine::plan::stages::{Exchange, partition_rows};
use millrace_engine::plan::{Changelog, Executor, InputChangelog, InputTable, Late, Plan, Policy, compile};
use millrace_engine::row_kind::{RowKind, RowKinds};

#[test]
fn sql() {
    run("sql");
}

#[test]
fn refused() {
    run("refused");
}

#[test]
fn what_the_documentation_says_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("SQL.md")).unwrap();
    let files: Vec<&str> = text.split('`').filter(|part| part.ends_with(".sql")).collect();
    assert!(files.len() > 30);
    for file in files {
        // From here, or from the top of the checkout.
        let there = root.join("tests").join(file).exists() || root.join("../..").join(file).exists();
        assert!(there, "SQL.md names {file}, which is not there");
    }
}

/// One section of a case.
struct Section {
    head: String,
    body: String,
}

fn run(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", folder.display());
    let bless = std::env::var_os("MILLRACE_BLESS").is_some();
    let mut wrong = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let Ok(answered) = std::panic::catch_unwind(|| answer(&text)) else {
            let _ = write!(wrong, "\n==== {}\nfails, see above\n", file.display());
            continue;
        };
        if bless {
            std::fs::write(&file, answered).unwrap();
        } else if answered != text {
            let _ = write!(wrong, "\n==== {}\n{}", file.display(), difference(&text, &answered));
        }
    }
    assert!(wrong.is_empty(), "answers differ (MILLRACE_BLESS=1 takes over what came out):\n{wrong}");
}

fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let missing = expected.iter().filter(|line| !actual.contains(line)).map(|line| format!("- {line}\n"));
    let added = actual.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}\n"));
    missing.chain(added).collect()
}

/// An input of a case.
struct Input {
    table: InputTable,
    records: RecordBatch,
    max_delay: i64,
    /// Numbers of rows before each line `watermark`.
    watermarks: Vec<usize>,
    /// Numbers of rows before each line `clock`, with the time.
    clocks: Vec<(usize, i64)>,
    /// Whether there is a line `idle`, after all rows.
    idle: bool,
    kinds: Option<RowKinds>,
}

/// The case with its answers as they come out now.
fn answer(text: &str) -> String {
    let (title, mut sections) = sections(text);
    let mut inputs = Vec::new();
    let mut steps = Vec::new();
    let mut outputs = Vec::new();
    let mut policy = Policy::default();
    for Section { head, body } in &sections {
        match head.split(' ').collect::<Vec<_>>().as_slice() {
            ["input", name] => inputs.push(input(name, body)),
            ["step", name] => steps.push(Step { name: (*name).to_owned(), sql: body.clone() }),
            ["output", name, "from", from] => outputs.push(((*name).to_owned(), (*from).to_owned())),
            ["policy"] => policy = read_policy(body),
            ["rejected" | "explain" | "problems"] => {}
            _ => panic!("unknown section {head}"),
        }
    }
    let tables: Vec<InputTable> = inputs.iter().map(|input| input.table.clone()).collect();
    let answers = match compile(&steps, &tables, &outputs, &policy) {
        Ok(plan) => results(&plan, &inputs),
        Err(problems) => {
            let lines =
                problems.iter().map(|p| format!("{} | {} | {} | {}\n", p.reason, p.location, p.message, p.hint.as_deref().unwrap_or("-")));
            BTreeMap::from([("problems".to_owned(), lines.collect())])
        }
    };
    for unexpected in ["problems", "rejected"] {
        if answers.get(unexpected).is_some_and(|answer| !answer.is_empty()) && !sections.iter().any(|section| section.head == unexpected) {
            sections.push(Section { head: unexpected.to_owned(), body: String::new() });
        }
    }
    sections.retain(|section| section.head != "problems" || answers.contains_key("problems"));
    let mut answered = title;
    for Section { head, body } in &sections {
        let is_answer = head.starts_with("output ") || ["rejected", "explain", "problems"].contains(&head.as_str());
        let key = head.split(" from ").next().unwrap();
        let body = if is_answer { answers.get(key).map_or("", String::as_str) } else { body };
        let _ = write!(answered, "--- {head}\n{body}");
    }
    answered
}

fn sections(text: &str) -> (String, Vec<Section>) {
    let mut title = String::new();
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("--- "), sections.last_mut()) {
            (Some(head), _) => sections.push(Section { head: head.trim().to_owned(), body: String::new() }),
            (None, Some(section)) => section.body.extend([line, "\n"]),
            (None, None) => title.extend([line, "\n"]),
        }
    }
    (title, sections)
}

fn read_policy(body: &str) -> Policy {
    let mut policy = Policy::default();
    for line in body.lines() {
        match line.split_once(' ') {
            Some(("stateTtl", seconds)) => policy.state_ttl = Some(Duration::from_secs(seconds.parse().unwrap())),
            Some(("allowedLateness", seconds)) => policy.allowed_lateness = Duration::from_secs(seconds.parse().unwrap()),
            Some(("late", "deadLetter")) => policy.late = Late::DeadLetter,
            _ => panic!("unknown policy {line}"),
        }
    }
    policy
}

fn input(name: &str, body: &str) -> Input {
    let (mut fields, mut rows, mut watermarks, mut clocks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut event_time, mut max_delay, mut idle) = (None, 0, false);
    let (mut changelog, mut kinds) = (InputChangelog::Append, Vec::new());
    let key = |columns: &str| columns.split(", ").filter(|column| !column.is_empty()).map(str::to_owned).collect();
    for line in body.lines().filter(|line| !line.is_empty()) {
        let kind = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete]
            .into_iter()
            .find(|kind| line.starts_with(kind.as_str()));
        if let Some(kind) = kind {
            kinds.push(kind);
            rows.push(&line[3..]);
        } else if line.starts_with('{') {
            rows.push(line);
        } else if let Some(columns) = line.strip_prefix("retract by") {
            changelog = InputChangelog::Retract { key: key(columns.trim()) };
        } else if let Some(columns) = line.strip_prefix("upsert by") {
            changelog = InputChangelog::Upsert { key: key(columns.trim()) };
        } else if line == "watermark" {
            watermarks.push(rows.len());
        } else if line == "idle" {
            idle = true;
        } else if let Some(seconds) = line.strip_prefix("clock ") {
            clocks.push((rows.len(), seconds.parse::<i64>().unwrap() * 1_000_000));
        } else {
            let (column, delay) = line.split_once(" EVENT TIME maxDelay ").map_or((line, None), |(column, delay)| (column, Some(delay)));
            let (name, data_type) = column.split_once(' ').unwrap_or((column, ""));
            let data_type: DataType = data_type.parse().unwrap_or_else(|error| panic!("column `{column}`: {error}"));
            fields.push(Field::new(name, data_type, true));
            if let Some(delay) = delay {
                event_time = Some(name.to_owned());
                max_delay = delay.parse::<i64>().unwrap() * 1_000_000;
            }
        }
    }
    let schema = Arc::new(Schema::new(fields));
    let reader = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(rows.len().max(1)).build(Cursor::new(rows.join("\n"))).unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let records = arrow::compute::concat_batches(&schema, &batches).unwrap();
    assert!(kinds.is_empty() || kinds.len() == rows.len(), "some rows have kinds, and some have none");
    let kinds = (!kinds.is_empty()).then(|| RowKinds::new(kinds));
    Input {
        table: InputTable { name: name.to_owned(), schema, event_time, changelog },
        records,
        max_delay,
        watermarks,
        clocks,
        idle,
        kinds,
    }
}

/// Rows of each output, rejected rows and the plan, by section.
fn results(plan: &Plan, inputs: &[Input]) -> BTreeMap<String, String> {
    let whole = execute(plan, inputs, usize::MAX, false, &[0], false);
    for (rows, restore) in [(1, false), (2, false), (3, false), (1, true), (2, true), (usize::MAX, true)] {
        let other = execute(plan, inputs, rows, restore, &[0], false);
        assert_eq!(sorted(plan, &other), sorted(plan, &whole), "batches of {rows} rows give other results; restored: {restore}");
    }
    if plan.exchange().is_ok() {
        let whole = without_payloads(sorted(plan, &whole));
        let runs: [(usize, bool, &[u16], bool); 7] = [
            (usize::MAX, false, &[2], false),
            (1, false, &[5], false),
            (1, true, &[3, 1, 4, 0], false),
            (usize::MAX, true, &[0, 2], false),
            (usize::MAX, false, &[2], true),
            (3, false, &[1], true),
            (2, true, &[3, 1, 4, 0], true),
        ];
        for (rows, restore, parts, partials) in runs {
            let other = execute(plan, inputs, rows, restore, parts, partials);
            let how = format!("batches of {rows} rows in {parts:?} parts, partial aggregates between them: {partials}");
            assert_eq!(without_payloads(sorted(plan, &other)), whole, "{how}: other results");
        }
    }
    let mut answers =
        BTreeMap::from([("explain".to_owned(), plan.explain()), ("rejected".to_owned(), whole[plan.outputs().len()].concat())]);
    for (output, rows) in plan.outputs().iter().zip(&whole) {
        let columns: Vec<String> = output.schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        let key = match &output.changelog {
            Changelog::Append => String::new(),
            Changelog::Updating { key } => format!(" (revised, key {})", key.join(", ")),
        };
        answers.insert(format!("output {}", output.name), format!("{}{key}\n{}", columns.join(", "), rows.concat()));
    }
    answers
}

/// Results in an order that does not depend on batches; what rows that are revised add up to.
fn sorted(plan: &Plan, results: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut results = results.to_vec();
    for (output, rows) in results.iter_mut().enumerate() {
        if plan.outputs().get(output).is_some_and(|output| output.changelog != Changelog::Append) {
            *rows = materialised(rows);
        }
        rows.sort();
    }
    results
}

/// Behind an exchange a row is known by the columns that went through it.
fn without_payloads(mut results: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for line in results.last_mut().into_iter().flatten() {
        *line = line.split(" {").next().unwrap().to_owned();
    }
    results
}

fn materialised(changes: &[String]) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for change in changes {
        match change.split_at(3) {
            ("+I " | "+U ", row) => rows.push(row.to_owned()),
            (_, row) => {
                let known = rows.iter().position(|known| known == row).unwrap_or_else(|| panic!("{row} is taken back and was not there"));
                rows.remove(known);
            }
        }
    }
    rows
}

/// A plan as it runs: whole, or in parts around its exchange.
enum Running {
    Whole(Executor),
    Parts { exchange: Exchange, front: Executor, backs: Vec<Executor>, inputs: usize },
}

impl Running {
    /// Whole if `parts` is 0.
    fn new(plan: &Plan, inputs: &[&str], parts: u16, partials: bool) -> Self {
        if parts == 0 {
            return Self::Whole(plan.executor(inputs));
        }
        let exchange = plan.exchange().unwrap();
        let exchange = if partials { exchange.condensed() } else { exchange };
        let (front, backs) = (exchange.front(inputs), (0..parts).map(|_| exchange.back()).collect());
        Self::Parts { exchange, front, backs, inputs: inputs.len() }
    }

    fn push(&mut self, plan: &Plan, input: usize, message: Message, emit: &mut dyn FnMut(usize, Message)) {
        let (exchange, front, backs, inputs) = match self {
            Self::Whole(executor) => return executor.push(input, message, emit).unwrap(),
            Self::Parts { exchange, front, backs, inputs } => (exchange, front, backs, *inputs),
        };
        let mut sent = Vec::new();
        front.push(input, message, &mut |target, message| sent.push((target, message))).unwrap();
        // Each message is an epoch, so that what is late is late.
        for input in 0..inputs {
            front.push(input, Message::Barrier(1), &mut |target, message| sent.push((target, message))).unwrap();
        }
        for (target, message) in sent.into_iter().filter(|(_, message)| !matches!(message, Message::Barrier(_))) {
            match (target.checked_sub(plan.outputs().len()), message) {
                (None, message) => emit(target, message),
                (Some(channel), Message::Batch(batch)) => {
                    let key = &exchange.channels()[channel].key;
                    for (part, rows) in partition_rows(&batch, key, u16::try_from(backs.len()).unwrap()).unwrap() {
                        backs[usize::from(part)].push(channel, Message::Batch(rows), emit).unwrap();
                    }
                }
                (Some(channel), message) => backs.iter_mut().for_each(|back| back.push(channel, message.clone(), emit).unwrap()),
            }
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        match self {
            Self::Whole(executor) => executor.snapshot().unwrap().finish().unwrap(),
            Self::Parts { backs, .. } => Exchange::merge(backs.iter_mut().map(|back| back.snapshot().unwrap()).collect()).finish().unwrap(),
        }
    }

    fn restore(&mut self, snapshot: Snapshot) {
        match self {
            Self::Whole(executor) => executor.restore(snapshot).unwrap(),
            Self::Parts { exchange, backs, .. } => {
                let parts = exchange.split(&snapshot, u16::try_from(backs.len()).unwrap()).unwrap();
                backs.iter_mut().zip(parts).for_each(|(back, part)| back.restore(part).unwrap());
            }
        }
    }
}

/// Lines of each output, and after them those of the rejected rows. The plan runs in so many `parts` after each restore, in turn; between them go partial
/// aggregates, if there are any and they are asked for.
fn execute(plan: &Plan, inputs: &[Input], batch_rows: usize, restore: bool, parts: &[u16], partials: bool) -> Vec<Vec<String>> {
    let mut parts = parts.iter().copied().cycle();
    let mut next_parts = || parts.next().unwrap();
    let mut was_whole = true;
    let names: Vec<&str> = inputs.iter().map(|input| input.table.name.as_str()).collect();
    let mut lines = vec![Vec::new(); plan.outputs().len() + 1];
    let mut executor = Running::new(plan, &names, next_parts(), partials);
    let mut watermarks: Vec<Option<i64>> = vec![None; inputs.len()];
    let mut now = None;
    for (number, input) in inputs.iter().enumerate() {
        let schema = &input.table.schema;
        let columns: Vec<usize> = plan.projection(names[number]).iter().map(|column| schema.index_of(column).unwrap()).collect();
        let time = plan.event_time(names[number]);
        let records = input.records.project(&columns).unwrap();
        let mut start = 0;
        let mut latest = i64::MIN;
        let mut clocks = input.clocks.iter().copied().filter(|_| plan.reads_clock()).peekable();
        let mut tick = |executor: &mut Running, lines: &mut Vec<Vec<String>>, start: usize| {
            while let Some((_, time)) = clocks.next_if(|(after, _)| *after <= start) {
                now = Some(time);
                push(plan, executor, 0, Message::Clock(time), lines);
            }
            now
        };
        while start < records.num_rows() {
            tick(&mut executor, &mut lines, start);
            let breaks = input.watermarks.iter().copied().chain(input.clocks.iter().map(|(after, _)| *after));
            let next = breaks.filter(|after| *after > start).min().unwrap_or(records.num_rows());
            let rows = batch_rows.min(next - start);
            let ordinals = UInt64Array::from_iter_values(start as u64..(start + rows) as u64);
            let kinds = input.kinds.as_ref().map(|kinds| kinds.slice(start, rows));
            let batch = Batch { kinds, ..Batch::new(records.slice(start, rows), Origin::new(names[number], names[number]), ordinals) };
            if let Some(time) = time {
                latest = latest.max(last_time(batch.records.column(time)));
            }
            push(plan, &mut executor, number, Message::Batch(batch), &mut lines);
            start += rows;
            if time.is_some() && latest > i64::MIN && (input.watermarks.is_empty() || input.watermarks.contains(&start)) {
                watermarks[number] = Some(latest - input.max_delay);
                push(plan, &mut executor, number, Message::Watermark(latest - input.max_delay), &mut lines);
            }
            if restore {
                let snapshot = executor.snapshot();
                executor = Running::new(plan, &names, next_parts(), partials);
                executor.restore(snapshot.clone());
                let before = lines.clone();
                if let Some(now) = tick(&mut executor, &mut lines, 0) {
                    push(plan, &mut executor, 0, Message::Clock(now), &mut lines);
                }
                for (number, watermark) in watermarks.iter().enumerate() {
                    if let Some(watermark) = watermark {
                        push(plan, &mut executor, number, Message::Watermark(*watermark), &mut lines);
                    }
                }
                assert_eq!(lines, before, "what has come out before comes out again");
                // In parts, rows of other keys come in another order.
                let is_whole = matches!(executor, Running::Whole(_));
                if std::mem::replace(&mut was_whole, is_whole) && is_whole {
                    assert_eq!(executor.snapshot(), snapshot, "a snapshot changes by being restored");
                }
            }
        }
        tick(&mut executor, &mut lines, records.num_rows());
        if input.idle {
            push(plan, &mut executor, number, Message::Idle, &mut lines);
        }
        // A window makes several rows of one.
        if let Running::Whole(executor) = &executor
            && !plan.is_stateful()
            && !restore
            && !plan.explain().contains("/window/")
        {
            let counters = executor.counters();
            assert!(counters.outputs.iter().all(OutputCounters::balanced), "rows are lost: {counters:?}");
        }
    }
    if plan.is_stateful() {
        for message in [Message::Watermark(i64::MAX), Message::End] {
            (0..inputs.len()).for_each(|number| push(plan, &mut executor, number, message.clone(), &mut lines));
        }
    }
    lines
}

fn push(plan: &Plan, executor: &mut Running, input: usize, message: Message, lines: &mut [Vec<String>]) {
    let mut emit = |output: usize, message: Message| match message {
        Message::Batch(batch) => {
            assert_eq!(batch.records.schema(), plan.outputs()[output].schema);
            assert_eq!(batch.ordinals.len(), batch.num_rows());
            assert!(batch.num_rows() > 0);
            let updating = plan.outputs()[output].changelog != Changelog::Append;
            assert!(updating || batch.kinds.is_none(), "rows of an output that is not revised have kinds");
            for (row, line) in json(&batch.records).into_iter().enumerate() {
                lines[output].push(if updating { format!("{} {line}", batch.kind(row).as_str()) } else { line });
            }
        }
        Message::Rejected(r) => {
            let line = format!("{} {}: {} {}\n", r.origin.name(), r.ordinal, r.error, String::from_utf8_lossy(&r.payload));
            lines[plan.outputs().len()].push(format!("{} <- {line}", plan.outputs()[output].name));
        }
        Message::Watermark(_) | Message::Clock(_) | Message::Idle | Message::End => {}
        Message::Barrier(epoch) => panic!("unexpected barrier {epoch}"),
    };
    executor.push(plan, input, message, &mut emit);
}

/// The latest time of a column, in microseconds.
fn last_time(column: &ArrayRef) -> i64 {
    let micros = arrow::compute::cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap();
    arrow::compute::max(micros.as_primitive::<TimestampMicrosecondType>()).unwrap_or(i64::MIN)
}

fn json(records: &RecordBatch) -> Vec<String> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    writer.write(records).unwrap();
    writer.finish().unwrap();
    String::from_utf8(text).unwrap().lines().map(|line| format!("{line}\n")).collect()
}
