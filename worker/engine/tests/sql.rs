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
//! Every case is run with all rows in one batch, and again in batches of one, two and three rows: the rows that come out must be the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use millrace_crds::pipeline::Step;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::operators::Message;
use millrace_engine::plan::{InputTable, Plan, Policy, compile};

#[test]
fn sql() {
    run("sql");
}

#[test]
fn refused() {
    run("refused");
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
        let answered = answer(&text);
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

/// The case with its answers as they come out now.
fn answer(text: &str) -> String {
    let (title, mut sections) = sections(text);
    let mut inputs = Vec::new();
    let mut steps = Vec::new();
    let mut outputs = Vec::new();
    for Section { head, body } in &sections {
        match head.split(' ').collect::<Vec<_>>().as_slice() {
            ["input", name] => inputs.push(((*name).to_owned(), table(body))),
            ["step", name] => steps.push(Step { name: (*name).to_owned(), sql: body.clone() }),
            ["output", name, "from", from] => outputs.push(((*name).to_owned(), (*from).to_owned())),
            ["rejected" | "explain" | "problems"] => {}
            _ => panic!("unknown section {head}"),
        }
    }
    let tables: Vec<InputTable> =
        inputs.iter().map(|(name, (schema, _))| InputTable { name: name.clone(), schema: Arc::clone(schema), event_time: None }).collect();
    let answers = match compile(&steps, &tables, &outputs, &Policy::default()) {
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

fn table(body: &str) -> (SchemaRef, RecordBatch) {
    let (columns, rows): (Vec<&str>, Vec<&str>) = body.lines().filter(|line| !line.is_empty()).partition(|line| !line.starts_with('{'));
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| {
            let (name, data_type) = column.split_once(' ').unwrap_or((column, ""));
            let data_type: DataType = data_type.parse().unwrap_or_else(|error| panic!("column `{column}`: {error}"));
            Field::new(name, data_type, true)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let reader = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(rows.len().max(1)).build(Cursor::new(rows.join("\n"))).unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let records = arrow::compute::concat_batches(&schema, &batches).unwrap();
    (schema, records)
}

/// Rows of each output, rejected rows and the plan, by section.
fn results(plan: &Plan, inputs: &[(String, (SchemaRef, RecordBatch))]) -> BTreeMap<String, String> {
    let whole = execute(plan, inputs, usize::MAX);
    for rows in [1, 2, 3] {
        let split = execute(plan, inputs, rows);
        assert_eq!(sorted(&split), sorted(&whole), "batches of {rows} rows give other results");
    }
    let mut answers =
        BTreeMap::from([("explain".to_owned(), plan.explain()), ("rejected".to_owned(), whole[plan.outputs().len()].concat())]);
    for (output, rows) in plan.outputs().iter().zip(&whole) {
        let columns: Vec<String> = output.schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        answers.insert(format!("output {}", output.name), format!("{}\n{}", columns.join(", "), rows.concat()));
    }
    answers
}

fn sorted(results: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut results = results.to_vec();
    for rows in &mut results {
        rows.sort();
    }
    results
}

/// Lines of each output, and after them those of the rejected rows.
fn execute(plan: &Plan, inputs: &[(String, (SchemaRef, RecordBatch))], batch_rows: usize) -> Vec<Vec<String>> {
    let mut lines = vec![Vec::new(); plan.outputs().len() + 1];
    for (name, (schema, records)) in inputs {
        let columns: Vec<usize> = plan.projection(name).iter().map(|column| schema.index_of(column).unwrap()).collect();
        let records = records.project(&columns).unwrap();
        let mut executor = plan.executor(&[name]);
        let mut start = 0;
        while start < records.num_rows() {
            let rows = batch_rows.min(records.num_rows() - start);
            let ordinals = UInt64Array::from_iter_values(start as u64..(start + rows) as u64);
            let batch = Batch::new(records.slice(start, rows), Origin::new(name, name), ordinals);
            let mut emit = |output: usize, message: Message| match message {
                Message::Batch(batch) => {
                    assert_eq!(batch.records.schema(), plan.outputs()[output].schema);
                    assert_eq!(batch.ordinals.len(), batch.num_rows());
                    lines[output].extend(json(&batch.records));
                }
                Message::Rejected(r) => {
                    let line = format!("{} {}: {} {}\n", r.origin.name(), r.ordinal, r.error, String::from_utf8_lossy(&r.payload));
                    lines[plan.outputs().len()].push(format!("{} <- {line}", plan.outputs()[output].name));
                }
                other => panic!("unexpected {other:?}"),
            };
            executor.push(0, Message::Batch(batch), &mut emit).unwrap();
            start += rows;
        }
        let counters = executor.counters();
        assert_eq!(counters.rows_in, records.num_rows() as u64);
        assert!(counters.outputs.iter().all(|output| output.balanced()), "rows are lost: {counters:?}");
    }
    lines
}

fn json(records: &RecordBatch) -> Vec<String> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    writer.write(records).unwrap();
    writer.finish().unwrap();
    String::from_utf8(text).unwrap().lines().map(|line| format!("{line}\n")).collect()
}
