//! CloudFront standard (access) logs: tab-separated, with `#Version` and `#Fields` lines. Fields that are not used are never looked at.
//!
//! <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html>

use arrow::datatypes::{DataType, SchemaRef};
use memchr::memchr;

use super::columns::{Columns, Fit};
use super::fields::{Layout, utf8};
use super::instants::{SECOND, parse_date, parse_time_of_day};
use super::records::{Refusal, Row, RowFormat};
use super::schema::timestamp;

/// The documented fields, in the order of files without a `#Fields` line.
static FIELDS: [(&str, DataType); 33] = [
    ("date", DataType::Date32),
    ("time", DataType::Null), // of date and time together, see `columns`
    ("x-edge-location", DataType::Utf8View),
    ("sc-bytes", DataType::Int64),
    ("c-ip", DataType::Utf8View),
    ("cs-method", DataType::Utf8View),
    ("cs(Host)", DataType::Utf8View),
    ("cs-uri-stem", DataType::Utf8View),
    ("sc-status", DataType::Int32),
    ("cs(Referer)", DataType::Utf8View),
    ("cs(User-Agent)", DataType::Utf8View),
    ("cs-uri-query", DataType::Utf8View),
    ("cs(Cookie)", DataType::Utf8View),
    ("x-edge-result-type", DataType::Utf8View),
    ("x-edge-request-id", DataType::Utf8View),
    ("x-host-header", DataType::Utf8View),
    ("cs-protocol", DataType::Utf8View),
    ("cs-bytes", DataType::Int64),
    ("time-taken", DataType::Float64),
    ("x-forwarded-for", DataType::Utf8View),
    ("ssl-protocol", DataType::Utf8View),
    ("ssl-cipher", DataType::Utf8View),
    ("x-edge-response-result-type", DataType::Utf8View),
    ("cs-protocol-version", DataType::Utf8View),
    ("fle-status", DataType::Utf8View),
    ("fle-encrypted-fields", DataType::Int32),
    ("c-port", DataType::Int32),
    ("time-to-first-byte", DataType::Float64),
    ("x-edge-detailed-result-type", DataType::Utf8View),
    ("sc-content-type", DataType::Utf8View),
    ("sc-content-len", DataType::Int64),
    ("sc-range-start", DataType::Int64),
    ("sc-range-end", DataType::Int64),
];

const SEPARATOR: u8 = b'\t';

/// Columns of the table: name and type.
pub(super) fn columns() -> impl Iterator<Item = (String, DataType)> {
    FIELDS.iter().map(|(field, data_type)| {
        let data_type = if *data_type == DataType::Null { timestamp() } else { data_type.clone() };
        (column_name(field), data_type)
    })
}

/// `cs(User-Agent)` is `cs_user_agent`.
fn column_name(field: &str) -> String {
    let name: String = field.chars().map(|c| if matches!(c, '-' | '(' | ')') { '_' } else { c.to_ascii_lowercase() }).collect();
    name.trim_end_matches('_').to_owned()
}

/// Where the value of a column comes from; the numbers are slots of the layout.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Not in this file.
    Nowhere,
    Number(usize),
    /// URL-decoded.
    Text(usize),
    /// Date and time of day.
    Instant(usize, usize),
}

/// Decodes lines.
#[derive(Debug)]
pub(super) struct CloudFront {
    projected: SchemaRef,
    layout: Layout,
    /// One for each projected column.
    places: Vec<Place>,
    /// The layout is from a `#Fields` line.
    has_header: bool,
    decoded: Vec<u8>,
}

impl CloudFront {
    /// `header` is what [`RowFormat::header`] said, when the stream is gone on with.
    pub(super) fn new(projected: &SchemaRef, header: Option<&str>) -> Result<Self, Refusal> {
        let documented = || FIELDS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        let names = header.map_or_else(documented, str::to_owned);
        let (layout, places) = plan(projected, &names)?;
        Ok(Self { projected: SchemaRef::clone(projected), layout, places, has_header: header.is_some(), decoded: Vec::new() })
    }

    /// A line that starts with `#`.
    fn directive(&mut self, line: &[u8]) -> Result<Row, Refusal> {
        if let Some(names) = line.strip_prefix(b"#Fields:") {
            (self.layout, self.places) = plan(&self.projected, utf8(names)?)?;
            self.has_header = true;
        }
        Ok(Row::None)
    }
}

/// Which fields of a file whose header says `names` make the projected columns.
fn plan(projected: &SchemaRef, names: &str) -> Result<(Layout, Vec<Place>), Refusal> {
    let is_projected = |column: &str| projected.column_with_name(column).is_some();
    let layout = Layout::new(SEPARATOR, names, |field| {
        let column = column_name(field);
        is_projected(&column) || column == "date" && is_projected("time")
    })?;
    let slot = |column: &str| layout.slot(|field| column_name(field) == column);
    let places = projected.fields().iter().map(|column| match column.data_type() {
        DataType::Timestamp(..) => slot("date").zip(slot("time")).map(|(date, time)| Place::Instant(date, time)),
        DataType::Utf8View => slot(column.name()).map(Place::Text),
        _ => slot(column.name()).map(Place::Number),
    });
    let places = places.map(|place| place.unwrap_or(Place::Nowhere)).collect();
    Ok((layout, places))
}

impl RowFormat for CloudFront {
    #[inline]
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
        match record.first() {
            None => return Ok(Row::None),
            Some(b'#') => return self.directive(record),
            Some(_) => {}
        }
        let line = utf8(record)?;
        self.layout.split(record)?;
        for (index, place) in self.places.iter().enumerate() {
            let column = columns.column(index);
            let slot = match *place {
                Place::Nowhere => {
                    column.push_null();
                    continue;
                }
                Place::Number(slot) | Place::Text(slot) | Place::Instant(_, slot) => slot,
            };
            let text = self.layout.field(line, slot);
            if text == "-" {
                column.push_null();
                continue;
            }
            let fit = match *place {
                Place::Instant(date, _) => match instant(self.layout.field(line, date), text) {
                    Some(micros) => column.push_instant(micros),
                    None => Fit::No,
                },
                Place::Text(_) => column.push_text(url_decoded(text, &mut self.decoded)),
                Place::Nowhere | Place::Number(_) => column.push_text(text),
            };
            if fit == Fit::No {
                return Err(match *place {
                    Place::Instant(date, _) => columns.mismatch(index, &format!("{} {text}", self.layout.field(line, date))),
                    _ => columns.mismatch(index, text),
                });
            }
        }
        Ok(Row::Added)
    }

    fn header(&self) -> Option<String> {
        self.has_header.then(|| self.layout.names().to_owned())
    }
}

#[inline]
fn instant(date: &str, time: &str) -> Option<i64> {
    let days = parse_date(date.as_bytes())?;
    Some((i64::from(days) * 86_400 + parse_time_of_day(time.as_bytes())?) * SECOND)
}

/// `text` with `%xx` decoded once. A `%` that starts no such triple stays, and so does everything if the result would not be UTF-8.
#[inline]
fn url_decoded<'a>(text: &'a str, scratch: &'a mut Vec<u8>) -> &'a str {
    match memchr(b'%', text.as_bytes()) {
        None => text,
        Some(first) => url_decode_from(first, text, scratch),
    }
}

fn url_decode_from<'a>(first: usize, text: &'a str, scratch: &'a mut Vec<u8>) -> &'a str {
    scratch.clear();
    let mut rest = text.as_bytes();
    let mut percent = Some(first);
    while let Some(at) = percent {
        scratch.extend_from_slice(&rest[..at]);
        let triple = rest.get(at + 1..at + 3).and_then(|hex| Some((hex_digit(hex[0])?, hex_digit(hex[1])?)));
        let (byte, length) = triple.map_or((b'%', 1), |(high, low)| (high << 4 | low, 3));
        scratch.push(byte);
        rest = &rest[at + length..];
        percent = memchr(b'%', rest);
    }
    scratch.extend_from_slice(rest);
    std::str::from_utf8(scratch).unwrap_or(text)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}
