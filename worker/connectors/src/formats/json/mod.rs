//! JSON: one object a line, or a message. Values go straight from the text into the columns; numbers are never rounded.
//!
//! * Of a name that occurs twice the last value counts. Names that are no columns are skipped, but must be JSON.
//! * A number in a Varchar is kept as its text, and so is a nested value. A Decimal may be a text, since many writers keep its digits that way.
//! * Whether a required column is there is checked even when nobody reads it; whether its type is right only when somebody does.

#[cfg(test)]
mod against_serde;
mod heads;
mod scan;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_crds::format::TimestampUnit;
use millrace_engine::batch::RejectCode;

use super::columns::{Column, Columns, Fit};
use super::fields::utf8;
use super::records::{Refusal, Row, RowFormat};
use super::values::{parse_decimal, parse_decimal_cut, parse_int};
use heads::Heads;
use scan::{Flaw, Kind, MAX_DEPTH, Scanner, Token, glance, unescape};
use words::Survey;
pub(super) use words::{is_plain, plain_prefix};

/// Decodes records.
#[derive(Debug)]
pub(super) struct Json {
    /// Slots of the names: first the projected columns, then the other required ones.
    slots: HashMap<String, usize>,
    columns: Vec<Target>,
    /// Slots that must have a value.
    required: Vec<usize>,
    /// The value of each slot in this record.
    values: Vec<Token>,
    heads: Heads,
    /// Several texts are read: a record is found to be UTF-8 at once, not each of them.
    texts: bool,
    scratch: String,
    numbers: Numbers,
}

/// What numbers stand for in columns that hold no numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// In a Timestamp.
    pub(super) timestamps: TimestampUnit,
    /// In a Date: days since 1970. If not, there are none.
    pub(super) days: bool,
}

/// A column that is looked for.
#[derive(Debug)]
struct Target {
    name: String,
    required: bool,
    projected: bool,
}

impl Json {
    /// The same for records in which numbers stand for something else.
    pub(super) fn with_numbers(mut self, numbers: Numbers) -> Self {
        self.numbers = numbers;
        self
    }

    /// Of the projected columns only those of `names` are read, and have to be there; the others are NULL, whatever the record says.
    pub(super) fn only(projected: &SchemaRef, names: &[String]) -> Self {
        let mut json = Self::new(projected, projected);
        json.slots.retain(|name, _| names.contains(name));
        json.required = (0..json.columns.len()).filter(|slot| names.contains(&json.columns[*slot].name)).collect();
        json
    }

    /// A scanner for members of records: [`Json::member`] numbers them as they are given.
    pub(super) fn members(names: &[&str]) -> Self {
        let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8View, true)).collect();
        let schema = SchemaRef::new(Schema::new(fields));
        Self::new(&schema, &schema)
    }

    /// Finds the members of a record. `false` if there is nothing but white space.
    pub(super) fn find_members(&mut self, record: &[u8]) -> Result<bool, Refusal> {
        let survey = Survey::of(record);
        if !survey.ascii {
            utf8(record)?;
        }
        self.scan(record, survey.plain).map_err(refusal)
    }

    /// A member of the record that was scanned last.
    pub(super) fn member<'a>(&self, record: &'a [u8], number: usize) -> Member<'a> {
        let token = self.values[number];
        let bytes = &record[token.start..token.end];
        match token.kind {
            Kind::Null => Member::Null,
            Kind::Text { escaped: false } => Member::Text(bytes),
            Kind::Nested if bytes.first() == Some(&b'{') => Member::Object(bytes),
            _ => Member::Other,
        }
    }

    pub(super) fn new(table: &SchemaRef, projected: &SchemaRef) -> Self {
        let read = projected.fields().iter().map(|f| Target { name: f.name().clone(), required: !f.is_nullable(), projected: true });
        let unread = table.fields().iter().filter(|f| !f.is_nullable() && projected.column_with_name(f.name()).is_none());
        let unread = unread.map(|f| Target { name: f.name().clone(), required: true, projected: false });
        let columns: Vec<Target> = read.chain(unread).collect();
        let mut slots = HashMap::new();
        for (slot, column) in columns.iter().enumerate() {
            slots.entry(column.name.clone()).or_insert(slot);
        }
        let required = (0..columns.len()).filter(|slot| columns[*slot].required).collect();
        let values = vec![Token::NULL; columns.len()];
        let texts = projected.fields().iter().filter(|field| *field.data_type() == DataType::Utf8View).count() > 1;
        Self { slots, columns, required, values, heads: Heads::default(), texts, scratch: String::new(), numbers: Numbers::default() }
    }

    /// Finds the values of all slots. `false` if there is nothing but white space.
    fn scan(&mut self, record: &[u8], plain: bool) -> Result<bool, Flaw> {
        self.values.fill(Token::NULL);
        let (mut place, mut at) = (0, 0);
        loop {
            let slot = match self.heads.expected(place, record, at) {
                Some((slot, value)) => {
                    at = value;
                    slot
                }
                None => match self.head(place, record, at)? {
                    Head::Value(slot, value) => {
                        at = value;
                        slot
                    }
                    Head::End => return Ok(true),
                    Head::Nothing => return Ok(false),
                },
            };
            let value;
            (value, at) = match glance(record, at, plain) {
                Some(known) => known,
                None => value_at(record, at)?,
            };
            if let Some(slot) = slot {
                self.values[slot] = value;
            }
            place += 1;
        }
    }

    /// What stands at `at`, in front of the `place`th value of the record, where nothing was recognised at once.
    #[inline(never)]
    fn head(&mut self, place: usize, record: &[u8], at: usize) -> Result<Head, Flaw> {
        let mut scanner = Scanner::new(record, at);
        scanner.skip_space();
        if place == 0 {
            if scanner.is_at_end() {
                return Ok(Head::Nothing);
            }
            scanner.expect(b'{', "an object, one a line")?;
            scanner.skip_space();
        }
        // Behind an opening brace or a value.
        if scanner.take(b'}') {
            scanner.skip_space();
            scanner.expect_end("nothing behind the object")?;
            return Ok(Head::End);
        }
        if place > 0 {
            scanner.expect(b',', "a comma or }")?;
            scanner.skip_space();
        }
        let key = scanner.key()?;
        let slot = self.slot(record, key);
        self.heads.remember(place, &record[at..scanner.at()], slot);
        Ok(Head::Value(slot, scanner.at()))
    }

    fn slot(&mut self, record: &[u8], key: Token) -> Option<usize> {
        // The record is UTF-8.
        let name = std::str::from_utf8(&record[key.start..key.end]).ok()?;
        if key.kind == (Kind::Text { escaped: true }) {
            self.scratch.clear();
            unescape(name, &mut self.scratch);
            return self.slots.get(&self.scratch).copied();
        }
        self.slots.get(name).copied()
    }
}

/// A value that is looked at by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Member<'a> {
    /// Missing, or null.
    Null,
    /// What is between the quotes, without escapes.
    Text(&'a [u8]),
    /// With its braces.
    Object(&'a [u8]),
    /// Anything else.
    Other,
}

/// What stands in front of a value, or instead of one.
enum Head {
    /// A name that is a column or not; the value begins there.
    Value(Option<usize>, usize),
    /// The end of the record.
    End,
    /// White space is all there is.
    Nothing,
}

/// The value at `at`, perhaps behind white space, and where it ends.
#[inline(never)]
fn value_at(record: &[u8], at: usize) -> Result<(Token, usize), Flaw> {
    let mut scanner = Scanner::new(record, at);
    scanner.skip_space();
    let value = scanner.value()?;
    Ok((value, scanner.at()))
}

impl RowFormat for Json {
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
        let survey = Survey::of(record);
        let text = if survey.ascii && !self.texts { None } else { Some(utf8(record)?) };
        match self.scan(record, survey.plain) {
            Ok(true) => {}
            Ok(false) => return Ok(Row::None),
            Err(flaw) => return Err(refusal(flaw)),
        }
        for slot in &self.required {
            if self.values[*slot].kind == Kind::Null {
                return Err(Refusal::new(
                    RejectCode::MissingField,
                    format!("column \"{}\" is required, and missing or null", self.columns[*slot].name),
                ));
            }
        }
        for (index, (target, token)) in self.columns.iter().zip(&self.values).enumerate() {
            if !target.projected {
                break;
            }
            let value =
                Value { kind: token.kind, bytes: &record[token.start..token.end], text: text.map(|text| &text[token.start..token.end]) };
            if push(columns.column(index), value, self.numbers, &mut self.scratch) == Fit::No {
                return Err(columns.mismatch(index, value.text()));
            }
        }
        Ok(Row::Added)
    }
}

#[cold]
fn refusal(flaw: Flaw) -> Refusal {
    match flaw {
        Flaw::Syntax(expected, at) => Refusal::malformed(format!("not JSON at byte {at}: expected {expected}")),
        Flaw::Depth => Refusal::new(RejectCode::TooDeep, format!("the record is nested deeper than {MAX_DEPTH}")),
    }
}

/// A value of a record.
#[derive(Clone, Copy)]
struct Value<'a> {
    kind: Kind,
    bytes: &'a [u8],
    /// The same, if it is known to be UTF-8; otherwise it is ASCII.
    text: Option<&'a str>,
}

impl<'a> Value<'a> {
    #[inline]
    fn text(self) -> &'a str {
        self.text.unwrap_or_else(|| std::str::from_utf8(self.bytes).expect("the record is ASCII"))
    }
}

/// Appends a value.
#[inline]
fn push(column: &mut Column, value: Value<'_>, numbers: Numbers, scratch: &mut String) -> Fit {
    match value.kind {
        Kind::Text { escaped: false } => push_text(column, value),
        Kind::Text { escaped: true } => {
            scratch.clear();
            unescape(value.text(), scratch);
            push_text(column, Value { kind: value.kind, bytes: scratch.as_bytes(), text: Some(scratch) })
        }
        Kind::Integer(number) => match column {
            Column::Long(builder) => {
                builder.append_value(number);
                Fit::Yes
            }
            _ => push_number(column, value, numbers),
        },
        Kind::Number => push_number(column, value, numbers),
        Kind::Null => {
            column.push_null();
            Fit::Yes
        }
        Kind::True | Kind::False => match column {
            Column::Boolean(builder) => {
                builder.append_value(value.kind == Kind::True);
                Fit::Yes
            }
            Column::Text(_) => column.push_text(value.text()),
            _ => Fit::No,
        },
        Kind::Nested if matches!(column, Column::Text(_)) => column.push_text(value.text()),
        Kind::Nested => Fit::No,
    }
}

fn push_text(column: &mut Column, value: Value<'_>) -> Fit {
    match column {
        Column::Text(_) => column.push_text(value.text()),
        Column::Decimal(..) | Column::Binary(_) | Column::Date(_) | Column::Timestamp(_) => column.push_bytes(value.bytes),
        _ => Fit::No,
    }
}

fn push_number(column: &mut Column, value: Value<'_>, numbers: Numbers) -> Fit {
    match column {
        Column::Timestamp(builder) => match micros(value.bytes, numbers.timestamps) {
            Some(micros) => builder.append_value(micros),
            None => return Fit::No,
        },
        Column::Long(builder) => match whole(value.bytes) {
            Some(value) => builder.append_value(value),
            None => return Fit::No,
        },
        Column::Int(builder) => match whole(value.bytes).and_then(|v| i32::try_from(v).ok()) {
            Some(value) => builder.append_value(value),
            None => return Fit::No,
        },
        Column::Date(builder) if numbers.days => match whole(value.bytes).and_then(|v| i32::try_from(v).ok()) {
            Some(days) => builder.append_value(days),
            None => return Fit::No,
        },
        Column::Double(_) | Column::Float(_) | Column::Decimal(..) => return column.push_bytes(value.bytes),
        Column::Text(_) => return column.push_text(value.text()),
        _ => return Fit::No,
    }
    Fit::Yes
}

/// A number without fraction, however it is written: `1`, `1.0`, `1e3`.
fn whole(value: &[u8]) -> Option<i64> {
    parse_int(value).or_else(|| i64::try_from(parse_decimal(value, 19, 0)?).ok())
}

/// A point in time, as microseconds.
fn micros(value: &[u8], unit: TimestampUnit) -> Option<i64> {
    match unit {
        TimestampUnit::Milliseconds => millis(value),
        TimestampUnit::Microseconds => whole(value),
        TimestampUnit::Nanoseconds => Some(whole(value)?.div_euclid(1000)),
    }
}

/// Milliseconds, as microseconds.
fn millis(value: &[u8]) -> Option<i64> {
    match parse_int(value) {
        Some(millis) => millis.checked_mul(1000),
        None => i64::try_from(parse_decimal_cut(value, 19, 3)?).ok(),
    }
}
