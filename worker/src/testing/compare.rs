//! Whether an output holds what a test expects, and if not, what differs, for people. It changes nothing and prints nothing.

use std::fmt::Write as _;

use arrow::datatypes::SchemaRef;
use millrace_crds::pipeline::{Expect, ExpectForm, ExpectOrder, Row};
use serde_json::Value;

use super::cell;
use super::collect::{Change, Collected, Output};

/// Column of changelogs that holds the kind of a row.
const OP: &str = "_op";
/// Differing rows that are shown.
const SHOWN: usize = 16;

/// A row to be compared: as it is shown, and a value for each column.
struct Line {
    text: String,
    /// As in [`cell`]; `None` for NULL.
    cells: Vec<Option<String>>,
    /// As they are shown.
    shown: Vec<String>,
}

/// What differs between an output and what is expected of it; `None` if nothing does.
pub(super) fn compare(collected: &mut Collected, expect: &Expect) -> Option<String> {
    let Some(output) = collected.outputs.iter().find(|output| output.plan.name == expect.output) else {
        return Some(format!("there is no output {}", expect.output));
    };
    let differences = rows(output, expect).unwrap_or_else(Some);
    let parts: Vec<String> = differences.into_iter().chain(rejected(output, expect)).collect();
    (!parts.is_empty()).then(|| format!("output {}: {}", expect.output, parts.join("\n")))
}

fn rows(output: &Output, expect: &Expect) -> Result<Option<String>, String> {
    let changelog = expect.form == ExpectForm::Changelog;
    let columns = columns(&output.plan.schema, changelog)?;
    let expected =
        expect.rows.iter().enumerate().map(|(position, row)| expected(row, position, &columns)).collect::<Result<Vec<_>, _>>()?;
    let changes = if changelog { output.changes.iter().collect() } else { output.table()? };
    let actual: Vec<Line> = changes.into_iter().map(|change| actual(change, &columns, changelog)).collect();
    let ordered = expect.order == ExpectOrder::InOrder && (changelog || !output.is_updating());
    Ok(difference(&expected, &actual, &columns, ordered))
}

/// Names, and whether they hold numbers.
fn columns(schema: &SchemaRef, changelog: bool) -> Result<Vec<(String, bool)>, String> {
    let columns = schema.fields().iter().map(|field| (field.name().clone(), field.data_type().is_numeric()));
    if !changelog {
        return Ok(columns.collect());
    }
    if schema.field_with_name(OP).is_ok() {
        return Err(format!(
            "it has a column {OP} of its own, so its changelog cannot be expected: rename the column, or expect the form Table"
        ));
    }
    Ok([(OP.to_owned(), false)].into_iter().chain(columns).collect())
}

fn expected(row: &Row, position: usize, columns: &[(String, bool)]) -> Result<Line, String> {
    if let Some(name) = row.0.keys().find(|name| columns.iter().all(|(column, _)| column != *name)) {
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!("row {} expects \"{name}\", which is no column of it: there are {}", position + 1, names.join(", ")));
    }
    let values = || columns.iter().map(|(name, numeric)| (name, row.0.get(name).filter(|value| !value.is_null()), *numeric));
    let shown = |value: Option<&Value>| value.map_or_else(|| "NULL".to_owned(), Value::to_string);
    // In the order of the columns, as the actual rows are.
    let fields: Vec<String> = values().filter_map(|(name, value, _)| Some(format!("{}:{}", Value::from(name.as_str()), value?))).collect();
    Ok(Line {
        text: format!("{{{}}}", fields.join(",")),
        cells: values().map(|(_, value, numeric)| cell::expected(value?, numeric)).collect(),
        shown: values().map(|(_, value, _)| shown(value)).collect(),
    })
}

fn actual(change: &Change, columns: &[(String, bool)], changelog: bool) -> Line {
    let op = format!("\"{}\"", change.kind.as_str());
    let value = |name: &String| if changelog && name == OP { Some(op.as_str()) } else { Some(change.values.get(name)?.get()) };
    let text = match change.text.strip_prefix('{') {
        Some("}") if changelog => format!("{{\"{OP}\":{op}}}"),
        Some(rest) if changelog => format!("{{\"{OP}\":{op},{rest}"),
        _ => change.text.clone(),
    };
    Line {
        text,
        cells: columns.iter().map(|(name, _)| cell::actual(value(name)?)).collect(),
        shown: columns.iter().map(|(name, _)| value(name).unwrap_or("NULL").to_owned()).collect(),
    }
}

fn difference(expected: &[Line], actual: &[Line], columns: &[(String, bool)], ordered: bool) -> Option<String> {
    let mut unexpected: Vec<&Line> = actual.iter().collect();
    let mut missing = Vec::new();
    for line in expected {
        match unexpected.iter().position(|other| other.cells == line.cells) {
            Some(found) => drop(unexpected.remove(found)),
            None => missing.push(line),
        }
    }
    if missing.is_empty() && unexpected.is_empty() {
        let wrong = expected.iter().zip(actual).position(|(expected, actual)| expected.cells != actual.cells).filter(|_| ordered)?;
        return Some(format!(
            "the rows are right, but in another order (set `order: Any` if it does not matter); row {} is\n    - {}\n    + {}",
            wrong + 1,
            expected[wrong].text,
            actual[wrong].text
        ));
    }
    let right = expected.len() - missing.len();
    let mut text = format!("{} missing (-), {} unexpected (+), {right} as expected", missing.len(), unexpected.len());
    let mut left = missing.len() + unexpected.len();
    let mut shown = 0;
    for line in missing {
        if shown >= SHOWN {
            break;
        }
        let _ = write!(text, "\n    - {}", line.text);
        (shown, left) = (shown + 1, left - 1);
        if let Some(near) = nearest(line, &unexpected) {
            let near = unexpected.remove(near);
            let _ = write!(text, "\n    + {}", near.text);
            (shown, left) = (shown + 1, left - 1);
            for (column, (name, _)) in columns.iter().enumerate().filter(|(column, _)| line.cells[*column] != near.cells[*column]) {
                let _ = write!(text, "\n        {name}: expected {}, got {}", line.shown[column], near.shown[column]);
            }
        }
    }
    for line in unexpected.iter().take(SHOWN.saturating_sub(shown)) {
        let _ = write!(text, "\n    + {}", line.text);
        left -= 1;
    }
    if left > 0 {
        let _ = write!(text, "\n    … and {left} more rows");
    }
    Some(text)
}

/// The row that was most probably meant: it has more than half of the values.
fn nearest(line: &Line, others: &[&Line]) -> Option<usize> {
    let alike = |other: &Line| line.cells.iter().zip(&other.cells).filter(|(one, other)| one == other).count();
    let (position, best) =
        others.iter().map(|other| alike(other)).enumerate().max_by_key(|(position, alike)| (*alike, std::cmp::Reverse(*position)))?;
    // A row of one or two columns is compared with whatever there is.
    (best * 2 >= line.cells.len() || line.cells.len() <= 2).then_some(position)
}

fn rejected(output: &Output, expect: &Expect) -> Option<String> {
    let wanted = expect.rejected.unwrap_or(0) as usize;
    if output.rejected.len() == wanted {
        return None;
    }
    let mut text = format!("{} rows are rejected, {wanted} expected", output.rejected.len());
    for rejected in output.rejected.iter().take(3) {
        let _ = write!(text, "\n    row {} of {}: {}", rejected.ordinal + 1, rejected.origin.name(), rejected.error);
    }
    Some(text)
}
