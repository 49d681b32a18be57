//! The judge: the shape as one query after the other over finished tables. Windows are tables of their own here, made by their definition.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_ipc::writer::StreamWriter;
use datafusion_common::Result;

use crate::batch;
use crate::inputs::Inputs;
use crate::shapes::{Shape, Window};

/// Tables by name.
pub(crate) type Tables = HashMap<String, RecordBatch>;

/// What the shape gives for finished inputs, sorted.
pub(crate) fn answer(shape: &Shape, inputs: &Inputs) -> Result<Vec<String>> {
    let mut tables = Tables::from([("a".to_owned(), inputs.a.clone()), ("b".to_owned(), inputs.b.clone())]);
    let mut last = inputs.a.clone();
    for (name, sql) in shape.steps(Shape::batch) {
        for (window, table) in Shape::windows(&sql) {
            let source = &tables[&table];
            tables.insert(window.table(&table), windowed(source, window)?);
        }
        last = batch::query(&sql, &tables)?;
        tables.insert(name, last.clone());
    }
    if let Some(folder) = std::env::var_os("MILLRACE_ORACLE_DUMP") {
        dump(Path::new(&folder), shape, &tables, &last);
    }
    let mut rows = lines(&last)?;
    rows.sort();
    Ok(rows)
}

/// Leaves the case for DataFusion itself: `ask_datafusion.py`.
fn dump(folder: &Path, shape: &Shape, tables: &Tables, answer: &RecordBatch) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let folder = folder.join(format!("{}-{}", shape.name, NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, records: &RecordBatch| {
        let mut writer = StreamWriter::try_new(File::create(folder.join(name)).unwrap(), &records.schema()).unwrap();
        writer.write(records).unwrap();
        writer.finish().unwrap();
    };
    let steps = shape.steps(Shape::batch);
    // What a step gives DataFusion computes by itself.
    let given = tables.iter().filter(|(name, _)| steps.iter().all(|(step, _)| step != *name));
    given.for_each(|(name, records)| write(&format!("{name}.arrow"), records));
    write("answer", answer);
    let steps: Vec<String> = steps.iter().map(|(name, sql)| format!("{name}\t{sql}")).collect();
    std::fs::write(folder.join("steps"), steps.join("\0")).unwrap();
}

/// Rows as texts that are equal exactly if the rows are, their types included; a number with a fraction bit by bit.
pub(crate) fn lines(records: &RecordBatch) -> Result<Vec<String>, ArrowError> {
    let options = FormatOptions::new().with_null("NULL");
    let mut lines = vec![String::new(); records.num_rows()];
    for (column, field) in records.columns().iter().zip(records.schema().fields()) {
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let floats = column.as_primitive_opt::<Float64Type>();
        for (row, line) in lines.iter_mut().enumerate() {
            let bits = floats.filter(|floats| floats.is_valid(row)).map(|floats| format!(" ({:x})", floats.value(row).to_bits()));
            let quotes = if matches!(field.data_type(), DataType::Utf8) && column.is_valid(row) { "'" } else { "" };
            line.push_str(&format!("{}={quotes}{}{quotes}{} ", field.name(), formatter.value(row), bits.unwrap_or_default()));
        }
    }
    let types: Vec<_> = records.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    lines.iter_mut().for_each(|line| line.push_str(&format!("({})", types.join(", "))));
    Ok(lines)
}

/// The rows of a table, each once for every window that it is in.
fn windowed(records: &RecordBatch, window: Window) -> Result<RecordBatch> {
    let times = records.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec();
    let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |row: usize, start: i64, end: i64| {
        rows.push(row as u32);
        starts.push(start);
        ends.push(end);
    };
    match window {
        Window::Slices { slide, size, offset, grows } => {
            for (row, time) in times.iter().enumerate() {
                if grows {
                    let start = (time - offset).div_euclid(size) * size + offset;
                    (1..=size / slide).map(|part| start + part * slide).filter(|end| time < end).for_each(|end| add(row, start, end));
                } else {
                    let last = (time - offset).div_euclid(slide) * slide + offset;
                    (0..size / slide).map(|back| last - back * slide).for_each(|start| add(row, start, start + size));
                }
            }
        }
        Window::Sessions { gap, keyed } => {
            let keys = if keyed { lines(&records.project(&[1])?)? } else { vec![String::new(); times.len()] };
            let mut order: Vec<usize> = (0..times.len()).collect();
            order.sort_by_key(|row| (&keys[*row], times[*row]));
            let mut sessions: Vec<Vec<usize>> = Vec::new();
            for row in order {
                let last = sessions.last().map(|session| session[session.len() - 1]);
                match (sessions.last_mut(), last) {
                    (Some(session), Some(last)) if keys[last] == keys[row] && times[row] - times[last] <= gap => session.push(row),
                    _ => sessions.push(vec![row]),
                }
            }
            for session in sessions {
                let (first, last) = (times[session[0]], times[session[session.len() - 1]]);
                session.iter().for_each(|row| add(*row, first, last + gap));
            }
        }
    }
    let taken = take_record_batch(records, &UInt32Array::from(rows))?;
    let schema = records.schema();
    let data_type = schema.field_with_name("ts")?.data_type();
    let mut fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(["window_start", "window_end", "window_time"].map(|name| Field::new(name, data_type.clone(), true)));
    let window_times: Vec<i64> = ends.iter().map(|end| end - 1000).collect();
    let mut columns = taken.columns().to_vec();
    columns.extend([starts, ends, window_times].map(|times| Arc::new(TimestampMicrosecondArray::from(times)) as _));
    let schema = Arc::new(Schema::new(fields));
    Ok(concat_batches(&schema, &[RecordBatch::try_new(Arc::clone(&schema), columns)?])?)
}
