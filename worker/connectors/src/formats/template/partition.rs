//! Rows by the name that a template gives them. A name is made once for each different value, not for each row.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewBuilder, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimeUnit};

use super::super::instants::write_timestamp;
use super::pattern::Pattern;
use super::{NULL, Piece, Template};

/// For each row the number of its value, and the values.
struct Groups {
    of_row: Vec<u32>,
    names: Vec<String>,
}

impl Template {
    /// The names of the rows of `records`, each with its rows in ascending order; names are in the order of their first row.
    ///
    /// Every row is in exactly one of them. Columns that [`Template::check`] would refuse count as NULL.
    #[must_use]
    pub fn partition(&self, records: &RecordBatch, event_time: Option<&str>) -> Vec<(String, UInt32Array)> {
        let rows = records.num_rows();
        if rows == 0 {
            return Vec::new();
        }
        let mut groups = Groups { of_row: Vec::new(), names: Vec::new() };
        let mut first = true;
        for piece in &self.pieces {
            let added = match piece {
                Piece::Literal(text) => {
                    groups.names.iter_mut().for_each(|name| name.push_str(text));
                    if groups.names.is_empty() {
                        groups.names.push(text.clone());
                    }
                    continue;
                }
                Piece::Value { column } => self.values(records.column_by_name(column), rows),
                Piece::Instant { column, pattern } => {
                    let column = column.as_deref().or(event_time).and_then(|name| records.column_by_name(name));
                    instants(column, pattern, rows)
                }
            };
            groups = if first { prefixed(groups.names.pop(), added) } else { groups.combined(&added) };
            first = false;
        }
        if first {
            let name = groups.names.pop().unwrap_or_default();
            return vec![(name, UInt32Array::from_iter_values(0..rows as u32))];
        }
        groups.by_name()
    }

    fn values(&self, column: Option<&ArrayRef>, rows: usize) -> Groups {
        let Some(texts) = column.and_then(as_text) else { return Groups::null(rows) };
        group(texts.as_string_view().iter(), |value| self.escape(value).into_owned())
    }
}

/// Whether values of this type can be part of a name.
pub(super) fn is_text_like(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text_like(values),
        DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Decimal128(..) => true,
        other => other.is_numeric() && !matches!(other, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..)),
    }
}

/// The values as Utf8View; `None` for types that cannot be part of a name.
fn as_text(column: &ArrayRef) -> Option<ArrayRef> {
    match column.data_type() {
        data_type if !is_text_like(data_type) => None,
        DataType::Timestamp(unit, _) => {
            let counts = cast(column, &DataType::Int64).ok()?;
            let mut texts = StringViewBuilder::with_capacity(column.len());
            let mut text = Vec::new();
            for value in counts.as_primitive::<Int64Type>() {
                text.clear();
                if let Some(value) = value {
                    write_timestamp(&mut text, value, per_second(*unit));
                }
                texts.append_option(value.and_then(|_| std::str::from_utf8(&text).ok()));
            }
            Some(Arc::new(texts.finish()))
        }
        _ => cast(column, &DataType::Utf8View).ok(),
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn instants(column: Option<&ArrayRef>, pattern: &Pattern, rows: usize) -> Groups {
    let unit = pattern.unit_seconds();
    let format = |value: Option<i64>| value.map_or_else(|| NULL.to_owned(), |bucket| pattern.format(bucket * unit));
    match column.map(|column| (column, column.data_type())) {
        Some((column, DataType::Timestamp(time_unit, _))) => {
            let per_bucket = per_second(*time_unit) * unit;
            let Ok(counts) = cast(column, &DataType::Int64) else { return Groups::null(rows) };
            group(counts.as_primitive::<Int64Type>().iter().map(|value| value.map(|v| v.div_euclid(per_bucket))), format)
        }
        Some((column, DataType::Date32)) => {
            let Ok(days) = cast(column, &DataType::Int32) else { return Groups::null(rows) };
            let per_day = 86_400 / unit;
            group(days.as_primitive::<Int32Type>().iter().map(|day| day.map(|day| i64::from(day) * per_day)), format)
        }
        _ => Groups::null(rows),
    }
}

/// Numbers the different values in order of appearance.
fn group<K: Copy + Eq + Hash>(values: impl Iterator<Item = K>, mut name: impl FnMut(K) -> String) -> Groups {
    let mut numbers: HashMap<K, u32> = HashMap::new();
    let mut groups = Groups { of_row: Vec::with_capacity(values.size_hint().0), names: Vec::new() };
    // Rows of one name usually come together.
    let mut last: Option<(K, u32)> = None;
    for value in values {
        let number = match last {
            Some((key, number)) if key == value => number,
            _ => *numbers.entry(value).or_insert_with(|| {
                groups.names.push(name(value));
                groups.names.len() as u32 - 1
            }),
        };
        last = Some((value, number));
        groups.of_row.push(number);
    }
    groups
}

/// `groups` with a literal in front.
fn prefixed(literal: Option<String>, mut groups: Groups) -> Groups {
    if let Some(literal) = literal {
        groups.names.iter_mut().for_each(|name| name.insert_str(0, &literal));
    }
    groups
}

impl Groups {
    fn null(rows: usize) -> Self {
        Self { of_row: vec![0; rows], names: vec![NULL.to_owned()] }
    }

    /// The groups of both, names joined.
    fn combined(&self, other: &Self) -> Self {
        let pairs = self.of_row.iter().copied().zip(other.of_row.iter().copied());
        group(pairs, |(ours, theirs)| format!("{}{}", self.names[ours as usize], other.names[theirs as usize]))
    }

    /// Rows by name. Different values may have made the same name.
    fn by_name(self) -> Vec<(String, UInt32Array)> {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let place_of: Vec<usize> = self
            .names
            .iter()
            .map(|name| {
                *places.entry(name).or_insert_with(|| {
                    rows.push(Vec::new());
                    rows.len() - 1
                })
            })
            .collect();
        for (row, number) in (0_u32..).zip(&self.of_row) {
            rows[place_of[*number as usize]].push(row);
        }
        let mut names: Vec<(&str, usize)> = places.into_iter().collect();
        names.sort_by_key(|(_, place)| *place);
        names.into_iter().zip(rows).map(|((name, _), rows)| (name.to_owned(), UInt32Array::from(rows))).collect()
    }
}
