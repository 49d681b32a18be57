//! Delimited text (RFC 4180): quoted fields may hold delimiters, newlines and doubled quotes. A quote elsewhere than around a whole field is
//! text. It never guesses: a file whose header cannot be read delivers no rows.

use std::borrow::Cow;
use std::ops::Range;

use arrow::datatypes::{DataType, SchemaRef};
use memchr::memchr;
use millrace_crds::format::CsvHeader;
use millrace_engine::batch::RejectCode;

use super::columns::{Columns, Fit};
use super::fields::utf8;
use super::records::{Refusal, Row, RowFormat};

/// Names of a header take this many bytes at most.
const HEADER_CAP: usize = 256 * 1024;

/// Where the columns of the table are in a record.
#[derive(Debug)]
enum Layout {
    /// The header has not been seen.
    Unread,
    /// There was one, but it cannot be used.
    Unusable,
    Known(Known),
}

#[derive(Debug)]
struct Known {
    /// Names in the header, in its order. Empty without a header.
    names: Vec<String>,
    /// Fields of a record.
    count: usize,
    /// For each projected column the index of its field, `None` if the file has none.
    projected: Vec<Option<usize>>,
    /// The required columns that are not projected, with the index of their field.
    required: Vec<(String, Option<usize>)>,
}

/// Decodes records.
#[derive(Debug)]
pub(super) struct Csv {
    table: SchemaRef,
    projected: SchemaRef,
    delimiter: u8,
    null: String,
    layout: Layout,
    fields: Vec<Field>,
}

/// One field of a record.
#[derive(Clone, Debug)]
struct Field {
    /// Without quotes.
    text: Range<usize>,
    quoted: bool,
    /// It holds doubled quotes.
    doubled: bool,
}

impl Csv {
    /// `header` is what [`RowFormat::header`] said; `resumed` if the stream is gone on with behind a record.
    pub(super) fn new(table: &SchemaRef, projected: &SchemaRef, options: Options, resumed: bool, header: Option<&str>) -> Self {
        let mut csv = Self {
            table: SchemaRef::clone(table),
            projected: SchemaRef::clone(projected),
            delimiter: options.delimiter,
            null: options.null,
            layout: Layout::Unread,
            fields: Vec::new(),
        };
        csv.layout = match (options.header, header.map(serde_json::from_str::<Vec<String>>)) {
            (CsvHeader::Absent, _) => {
                let names: Vec<String> = table.fields().iter().map(|f| f.name().clone()).collect();
                Layout::Known(Known { names: Vec::new(), ..csv.known(names) })
            }
            (CsvHeader::Present, Some(Ok(names))) => Layout::Known(csv.known(names)),
            (CsvHeader::Present, _) if resumed => Layout::Unusable,
            (CsvHeader::Present, _) => Layout::Unread,
        };
        csv
    }

    fn known(&self, names: Vec<String>) -> Known {
        let place = |column: &str| names.iter().position(|name| name == column);
        let unread_required =
            self.table.fields().iter().filter(|f| !f.is_nullable() && self.projected.column_with_name(f.name()).is_none());
        Known {
            count: names.len(),
            projected: self.projected.fields().iter().map(|f| place(f.name())).collect(),
            required: unread_required.map(|f| (f.name().clone(), place(f.name()))).collect(),
            names,
        }
    }

    /// Takes the header line.
    fn read_header(&mut self, record: &[u8]) -> Result<Row, Refusal> {
        self.layout = Layout::Unusable;
        if record.len() > HEADER_CAP {
            return Err(Refusal::malformed(format!("the header line has {} bytes, {HEADER_CAP} are allowed", record.len())));
        }
        let text = utf8(record)?;
        split(record, self.delimiter, &mut self.fields)?;
        let names: Vec<String> = self.fields.iter().map(|field| field.value(text).trim().to_owned()).collect();
        if !names.iter().any(|name| self.table.column_with_name(name).is_some()) {
            return Err(Refusal::malformed(
                "the first line names none of the columns of the schema: correct schema.columns, or set format.csv.header to Absent if the file has no header",
            ));
        }
        self.layout = Layout::Known(self.known(names));
        Ok(Row::None)
    }
}

/// Options, checked.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) delimiter: u8,
    pub(super) header: CsvHeader,
    pub(super) null: String,
}

impl Field {
    fn value<'a>(&self, record: &'a str) -> Cow<'a, str> {
        let text = &record[self.text.clone()];
        if self.doubled { Cow::Owned(text.replace("\"\"", "\"")) } else { Cow::Borrowed(text) }
    }
}

impl RowFormat for Csv {
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
        // A message may have a line end of its own.
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if record.is_empty() {
            return Ok(Row::None);
        }
        let known = match &self.layout {
            Layout::Known(known) => known,
            Layout::Unread => return self.read_header(record),
            Layout::Unusable => {
                return Err(Refusal::malformed("the header line of this file cannot be used, so its records cannot be read"));
            }
        };
        let text = utf8(record)?;
        split(record, self.delimiter, &mut self.fields)?;
        if self.fields.len() != known.count {
            return Err(Refusal::malformed(format!("the record has {} fields, {} are expected", self.fields.len(), known.count)));
        }
        let is_null = |field: &Field, is_text: bool| {
            // A quoted field is text, even where it looks like NULL; in columns of other types it cannot be.
            !(field.quoted && is_text) && text[field.text.clone()] == *self.null
        };
        for (name, place) in &known.required {
            if place.is_none_or(|place| is_null(&self.fields[place], false)) {
                return Err(missing(name));
            }
        }
        for (index, place) in known.projected.iter().enumerate() {
            let column = self.projected.field(index);
            let field = place.map(|place| &self.fields[place]);
            match field.filter(|field| !is_null(field, *column.data_type() == DataType::Utf8View)) {
                Some(field) => {
                    let value = field.value(text);
                    if columns.column(index).push_text(&value) == Fit::No {
                        return Err(columns.mismatch(index, &value));
                    }
                }
                None if column.is_nullable() => columns.column(index).push_null(),
                None => return Err(missing(column.name())),
            }
        }
        Ok(Row::Added)
    }

    fn missed(&mut self) {
        if matches!(self.layout, Layout::Unread) {
            self.layout = Layout::Unusable;
        }
    }

    fn header(&self) -> Option<String> {
        match &self.layout {
            Layout::Known(known) if !known.names.is_empty() => serde_json::to_string(&known.names).ok(),
            _ => None,
        }
    }
}

fn missing(column: &str) -> Refusal {
    Refusal::new(RejectCode::MissingField, format!("column \"{column}\" is required, and missing or NULL"))
}

/// Cuts a record into its fields.
fn split(record: &[u8], delimiter: u8, fields: &mut Vec<Field>) -> Result<(), Refusal> {
    fields.clear();
    let mut at = 0;
    loop {
        let rest = &record[at..];
        let (field, next) = if rest.first() == Some(&b'"') {
            let (length, doubled) = quoted(&rest[1..])
                .ok_or_else(|| Refusal::malformed(format!("the quote that opens field {} is never closed", fields.len() + 1)))?;
            let end = at + 1 + length;
            if record.get(end + 1).is_some_and(|byte| *byte != delimiter) {
                return Err(Refusal::malformed(format!("field {} goes on after its closing quote", fields.len() + 1)));
            }
            (Field { text: at + 1..end, quoted: true, doubled }, end + 1)
        } else {
            let end = at + memchr(delimiter, rest).unwrap_or(rest.len());
            (Field { text: at..end, quoted: false, doubled: false }, end)
        };
        fields.push(field);
        if next >= record.len() {
            return Ok(());
        }
        at = next + 1;
    }
}

/// Length of the text before the closing quote, and whether it holds doubled quotes.
fn quoted(text: &[u8]) -> Option<(usize, bool)> {
    let mut doubled = false;
    let mut at = 0;
    loop {
        at += memchr(b'"', &text[at..])?;
        if text.get(at + 1) != Some(&b'"') {
            return Some((at, doubled));
        }
        doubled = true;
        at += 2;
    }
}
