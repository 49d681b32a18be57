//! Templates of folders and index names: `edge/dt={yyyy-MM-dd}/`, `tenant-{tenant}`. What is in the data never reaches beyond its own segment of a path.
//!
//! | placeholder | stands for |
//! |---|---|
//! | `{column}` | the column's value |
//! | `{column:yyyy-MM-dd}` | a Timestamp or Date column, formatted |
//! | `{yyyy-MM-dd}` | the event time, formatted |
//!
//! Patterns are Java's: `yyyy MM dd HH mm ss`, text in single quotes, and anything that is no letter, in UTC. A placeholder that is a pattern is one, even if
//! a column has that name. NULL is `__null__`, the empty text `__empty__`. Long values are cut and end in a hash, so that they stay different.

mod partition;
mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;

use arrow::datatypes::{DataType, SchemaRef};
use millrace_engine::connector::ConnectorError;
use sha2::{Digest, Sha256};

use super::schema::invalid;
use pattern::Pattern;

/// Bytes of one folder name, and of an index name.
const SEGMENT_BYTES: usize = 255;
/// Of them, in the last segment of a path that does not end in `/`, for the file name that follows.
const FILE_NAME_BYTES: usize = 128;
/// Bytes of a whole path; S3 allows 1,024 with the file name.
const PATH_BYTES: usize = 880;
/// A value needs this many bytes at least, for its hash and a few characters of it.
const LEAST_VALUE_BYTES: usize = 24;
/// Longer values are cut anyway.
const MOST_VALUE_BYTES: usize = 200;
/// What formatting an instant may add to the length of its pattern.
const PATTERN_SLACK: usize = 8;

const NULL: &str = "__null__";
const EMPTY: &str = "__empty__";

/// How column values are made harmless.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Escape {
    /// As a part of one segment of a path: percent-encoded except for `A-Z a-z 0-9 - _ . ~`, and never `.` or `..`.
    PathSegment,
    /// As a part of the name of an OpenSearch index: in lower case, what may not be in a name replaced by `_`.
    IndexName,
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
    escape: Escape,
    /// Bytes of a value, so that no segment gets too long.
    value_bytes: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Literal(String),
    Value { column: String },
    Instant { column: Option<String>, pattern: Pattern },
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// `Invalid`, saying what is wrong with it.
    pub fn parse(template: &str, escape: Escape) -> Result<Self, ConnectorError> {
        let wrong = |why: String| invalid(format!("the template {template:?} {why}"));
        let pieces = parse_pieces(template).map_err(wrong)?;
        match escape {
            Escape::PathSegment => check_path(template, &pieces),
            Escape::IndexName => check_index(&pieces),
        }
        .map_err(wrong)?;
        let value_bytes = value_bytes(&pieces, escape).ok_or_else(|| wrong("is too long, or has too many placeholders".to_owned()))?;
        Ok(Self { pieces, escape, value_bytes })
    }

    /// Whether the columns that the template names are there, and of types that can be used.
    ///
    /// # Errors
    /// `Invalid` naming the placeholder and the columns there are.
    pub fn check(&self, schema: &SchemaRef, event_time: Option<&str>) -> Result<(), ConnectorError> {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(_) => {}
                Piece::Value { column } => {
                    let data_type = column_type(schema, column)?;
                    if !partition::is_text_like(data_type) {
                        return Err(invalid(format!(
                            "the placeholder {{{column}}}: a column of type {data_type} cannot be part of a name; cast it to VARCHAR in the last step"
                        )));
                    }
                }
                Piece::Instant { column, pattern } => {
                    let Some(column) = column.as_deref().or(event_time) else {
                        return Err(invalid(format!(
                            "the placeholder {{{pattern}}} needs the event time, which the rows do not have: select the event-time column, or name a column as {{column:{pattern}}}"
                        )));
                    };
                    let data_type = column_type(schema, column)?;
                    if !matches!(data_type, DataType::Timestamp(..) | DataType::Date32) {
                        return Err(invalid(format!(
                            "the placeholder {{{column}:{pattern}}}: the column is {data_type}, a Timestamp or Date is needed"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// The name, if the template has no placeholders.
    #[must_use]
    pub fn constant(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// A value as it stands in a name.
    fn escape<'a>(&self, value: Option<&'a str>) -> Cow<'a, str> {
        let escaped = match (value, self.escape) {
            (None, _) => Cow::Borrowed(NULL),
            (Some(""), _) => Cow::Borrowed(EMPTY),
            (Some(value), Escape::PathSegment) => path_segment(value),
            (Some(value), Escape::IndexName) => index_name(value),
        };
        match value {
            Some(value) if escaped.len() > self.value_bytes => Cow::Owned(cut(&escaped, value, self.value_bytes)),
            _ => escaped,
        }
    }
}

fn parse_pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let (literal, after) = rest.split_once('{').map_or((rest, None), |(literal, after)| (literal, Some(after)));
        if literal.contains('}') {
            return Err("has a } without a {".to_owned());
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        let Some(after) = after else { break };
        let (placeholder, after) = after.split_once('}').ok_or_else(|| "has a { without a }".to_owned())?;
        pieces.push(parse_placeholder(placeholder)?);
        rest = after;
    }
    Ok(pieces)
}

fn parse_placeholder(text: &str) -> Result<Piece, String> {
    if text.is_empty() || text.contains('{') {
        return Err("has an empty or nested placeholder".to_owned());
    }
    if let Some(pattern) = Pattern::parse(text) {
        return Ok(Piece::Instant { column: None, pattern });
    }
    let Some((column, pattern)) = text.split_once(':') else {
        return Ok(Piece::Value { column: text.to_owned() });
    };
    let pattern = Pattern::parse(pattern).ok_or_else(|| {
        format!("has the pattern {pattern:?}, which is none: use yyyy, MM, dd, HH, mm, ss and what is no letter, for example yyyy-MM-dd")
    })?;
    Ok(Piece::Instant { column: Some(column.to_owned()), pattern })
}

fn check_path(template: &str, pieces: &[Piece]) -> Result<(), String> {
    if template.starts_with('/') {
        return Err("must not start with /".to_owned());
    }
    if template.split('/').any(|segment| matches!(segment, "." | "..")) || template.contains("//") {
        return Err("must not have . or .. or nothing as a folder".to_owned());
    }
    match literals(pieces).flat_map(str::chars).find(|c| c.is_control() || *c == '\\') {
        Some(c) => Err(format!("must not have {c:?}")),
        None => Ok(()),
    }
}

fn check_index(pieces: &[Piece]) -> Result<(), String> {
    if let Some(c) = literals(pieces).flat_map(str::chars).find(|c| !is_index_char(*c)) {
        return Err(format!("must not have {c:?}: index names are of lower-case letters, digits, - _ and ."));
    }
    match pieces.first() {
        Some(Piece::Literal(text)) if text.starts_with(|c: char| c.is_alphanumeric()) => Ok(()),
        _ => Err("must start with a letter or digit: put a fixed text in front, for example edge-".to_owned()),
    }
}

/// All text of the template that is not data.
fn literals(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().flat_map(|piece| match piece {
        Piece::Literal(text) => vec![text.as_str()],
        Piece::Instant { pattern, .. } => pattern.literals().collect(),
        Piece::Value { .. } => Vec::new(),
    })
}

/// Bytes that each value may have so that no segment, and no path, gets too long. `None` if that is too little.
fn value_bytes(pieces: &[Piece], escape: Escape) -> Option<usize> {
    let (total, segment) = match escape {
        Escape::PathSegment => (PATH_BYTES, SEGMENT_BYTES),
        Escape::IndexName => (SEGMENT_BYTES, SEGMENT_BYTES),
    };
    let share = |limit: usize, fixed: usize, values: usize| Some(limit.checked_sub(fixed)?.checked_div(values).unwrap_or(usize::MAX));
    // Fixed bytes and values, of the path and of each segment.
    let mut all = (0, 0);
    let mut segments = vec![(0, 0)];
    for piece in pieces {
        let (fixed, values) = match piece {
            Piece::Literal(text) => (text.len(), 0),
            Piece::Instant { pattern, .. } => (pattern.to_string().len() + PATTERN_SLACK, 0),
            Piece::Value { .. } => (0, 1),
        };
        all = (all.0 + fixed, all.1 + values);
        match piece {
            Piece::Literal(text) => {
                for (index, part) in text.split('/').enumerate() {
                    if index > 0 {
                        segments.push((0, 0));
                    }
                    segments.last_mut()?.0 += part.len();
                }
            }
            _ => *segments.last_mut()? = (segments.last()?.0 + fixed, segments.last()?.1 + values),
        }
    }
    if let (Escape::PathSegment, Some(last)) = (escape, segments.last_mut())
        && *last != (0, 0)
    {
        last.0 += FILE_NAME_BYTES;
    }
    let shares = segments.iter().map(|(fixed, values)| share(segment, *fixed, *values));
    let least = shares.chain([share(total, all.0, all.1)]).try_fold(MOST_VALUE_BYTES, |least, share| Some(least.min(share?)))?;
    (all.1 == 0 || least >= LEAST_VALUE_BYTES).then_some(least)
}

fn column_type<'a>(schema: &'a SchemaRef, column: &str) -> Result<&'a DataType, ConnectorError> {
    schema.column_with_name(column).map(|(_, field)| field.data_type()).ok_or_else(|| {
        let names = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        invalid(format!("the placeholder {{{column}}} names no column; there are: {names:.512}"))
    })
}

fn path_segment(value: &str) -> Cow<'_, str> {
    // A value that is what NULL is rendered as, or what would be a folder of its own, gets its first character encoded.
    let encode_first = value == NULL || value == EMPTY || value.bytes().all(|byte| byte == b'.');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    if !encode_first && value.bytes().all(is_plain) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 16);
    for (index, byte) in value.bytes().enumerate() {
        if is_plain(byte) && !(index == 0 && encode_first) && !(byte == b'.' && encode_first) {
            out.push(char::from(byte));
        } else {
            push_hex(&mut out, "%", byte);
        }
    }
    Cow::Owned(out)
}

fn push_hex(out: &mut String, prefix: &str, byte: u8) {
    write!(out, "{prefix}{byte:02X}").expect("memory can always be written to");
}

fn index_name(value: &str) -> Cow<'_, str> {
    if value.chars().all(is_index_char) {
        return Cow::Borrowed(value);
    }
    let lower = value.chars().flat_map(char::to_lowercase);
    Cow::Owned(lower.map(|c| if is_index_char(c) { c } else { '_' }).collect())
}

/// Lower-case letters, digits, and what else is safe in the name of an index.
fn is_index_char(c: char) -> bool {
    matches!(c, '-' | '_' | '.') || c.is_alphanumeric() && !c.is_uppercase()
}

/// The beginning of `escaped`, and a hash of the whole `value`.
fn cut(escaped: &str, value: &str, bytes: usize) -> String {
    const HASH_BYTES: usize = 8;
    let mut end = bytes - 2 * HASH_BYTES - 1;
    while !escaped.is_char_boundary(end) {
        end -= 1;
    }
    // Not in the middle of an encoded byte.
    if let Some(percent) = escaped[..end].rfind('%').filter(|percent| percent + 3 > end) {
        end = percent;
    }
    let mut out = escaped[..end].to_owned();
    out.push('-');
    for byte in &Sha256::digest(value.as_bytes())[..HASH_BYTES] {
        write!(out, "{byte:02x}").expect("memory can always be written to");
    }
    out
}
