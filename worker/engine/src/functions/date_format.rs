//! `date_format(timestamp, pattern)`: a timestamp (in UTC) as text, by a pattern of Java's `DateTimeFormatter`. Letters that it does not know are refused, never printed.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Timelike, Utc};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::arguments::{Texts, literal, text_type};

const NAME: &str = "date_format";
const KNOWN: &str = "known are yyyy yy MM M dd d HH H hh h mm m ss s S… a and 'text'; with %Y-%m-%d use to_char()";

/// VARCHAR, NULL if the timestamp is. The pattern is a literal.
#[derive(Debug, Eq, Hash, PartialEq)]
pub(super) struct DateFormat {
    signature: Signature,
}

impl DateFormat {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DateFormat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [time, pattern] = given else { return plan_err!("date_format() takes a timestamp and a pattern") };
        let time = match time {
            DataType::Timestamp(_, zone) if zone.as_deref().is_none_or(is_utc) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            DataType::Timestamp(_, Some(zone)) => return plan_err!("date_format() formats in UTC, the timestamp is of {zone}"),
            other => return plan_err!("date_format() takes a timestamp, not {other}"),
        };
        Ok(vec![time, text_type(NAME, "pattern", pattern)?])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match literal(args.scalar_arguments, 1).map(Pattern::parse) {
            Some(Ok(_)) => Ok(Arc::new(Field::new(NAME, DataType::Utf8View, true))),
            Some(Err(error)) => plan_err!("{error}"),
            None => plan_err!("the pattern of date_format() must be a literal"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Texts::Same(Some(pattern)) = Texts::new(&args.args[1])? else {
            return exec_err!("the pattern of date_format() must be a literal");
        };
        let pattern = match Pattern::parse(&pattern) {
            Ok(pattern) => pattern,
            Err(error) => return exec_err!("{error}"),
        };
        let times = args.args[0].to_array(args.number_rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut texts = StringViewBuilder::with_capacity(times.len());
        let (mut text, mut shown) = (String::new(), None);
        for row in 0..times.len() {
            if times.is_null(row) {
                texts.append_null();
                continue;
            }
            let micros = times.value(row);
            // Neighbours are mostly of the same day, minute or second.
            let unit = micros.div_euclid(pattern.unit);
            if shown != Some(unit) {
                let Some(time) = DateTime::from_timestamp_micros(micros) else {
                    return exec_err!("date_format() cannot show a timestamp so far away");
                };
                text.clear();
                pattern.format(&time, &mut text);
                shown = Some(unit);
            }
            texts.append_value(&text);
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z")
}

/// A pattern, read.
#[derive(Debug)]
struct Pattern {
    parts: Vec<Part>,
    /// Microseconds within which the text cannot change.
    unit: i64,
}

#[derive(Debug)]
enum Part {
    Text(String),
    /// Letter and how often it is repeated.
    Field(char, usize),
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut unit = 86_400_000_000;
        let mut rest = pattern.chars().peekable();
        while let Some(first) = rest.next() {
            match first {
                '\'' if rest.next_if_eq(&'\'').is_some() => parts.push(Part::Text("'".to_owned())),
                '\'' => {
                    let mut text = String::new();
                    loop {
                        match rest.next() {
                            Some('\'') if rest.next_if_eq(&'\'').is_some() => text.push('\''),
                            Some('\'') => break,
                            Some(other) => text.push(other),
                            None => return Err(format!("a quote of the pattern '{pattern}' of date_format() is not closed")),
                        }
                    }
                    parts.push(Part::Text(text));
                }
                letter if letter.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while rest.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                    let Some(finest) = field_unit(letter, count) else {
                        let field: String = std::iter::repeat_n(letter, count).collect();
                        return Err(format!("date_format() does not know {field} of the pattern '{pattern}': {KNOWN}"));
                    };
                    unit = unit.min(finest);
                    parts.push(Part::Field(letter, count));
                }
                '[' | ']' | '{' | '}' | '#' => {
                    return Err(format!("date_format() does not know {first} of the pattern '{pattern}': {KNOWN}"));
                }
                other => parts.push(Part::Text(other.to_string())),
            }
        }
        Ok(Self { parts, unit })
    }

    fn format(&self, time: &DateTime<Utc>, text: &mut String) {
        for part in &self.parts {
            // Writing to a String cannot fail.
            let _ = match part {
                Part::Text(literal) => text.write_str(literal),
                Part::Field('y', 4) if time.year() > 9999 => write!(text, "+{}", time.year()),
                // Before year 1 years are counted backwards, from 1.
                Part::Field('y', 4) => write!(text, "{:04}", year_of_era(time)),
                Part::Field('y', _) => write!(text, "{:02}", year_of_era(time).rem_euclid(100)),
                Part::Field('M', width) => write!(text, "{:0width$}", time.month()),
                Part::Field('d', width) => write!(text, "{:0width$}", time.day()),
                Part::Field('H', width) => write!(text, "{:0width$}", time.hour()),
                Part::Field('h', width) => write!(text, "{:0width$}", time.hour12().1),
                Part::Field('m', width) => write!(text, "{:0width$}", time.minute()),
                Part::Field('s', width) => write!(text, "{:0width$}", time.second()),
                Part::Field('a', _) => text.write_str(if time.hour12().0 { "PM" } else { "AM" }),
                Part::Field(_, digits) => text.write_str(&format!("{:09}", time.nanosecond())[..*digits]),
            };
        }
    }
}

fn year_of_era(time: &DateTime<Utc>) -> i32 {
    if time.year() > 0 { time.year() } else { 1 - time.year() }
}

/// Microseconds within which a field cannot change; `None` for a field that is not known.
fn field_unit(letter: char, count: usize) -> Option<i64> {
    const SECOND: i64 = 1_000_000;
    match (letter, count) {
        ('y', 2 | 4) | ('M' | 'd', 1 | 2) => Some(86_400 * SECOND),
        ('H' | 'h', 1 | 2) | ('a', 1) => Some(3600 * SECOND),
        ('m', 1 | 2) => Some(60 * SECOND),
        ('s', 1 | 2) => Some(SECOND),
        ('S', 1..=9) => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pattern: &str, time: &str) -> String {
        let mut text = String::new();
        Pattern::parse(pattern).unwrap().format(&time.parse().unwrap(), &mut text);
        text
    }

    /// What Flink 2.2.1 answers.
    #[test]
    fn texts_are_those_of_java() {
        let time = "2026-03-01T09:05:07.0456Z";
        let cases = [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2026-03-01 09:05:07.045"),
            ("yy/M/d H:m:s", "26/3/1 9:5:7"),
            ("hh:mm a", "09:05 AM"),
            ("yyyyMMdd'T'HHmmss", "20260301T090507"),
            ("'day ''n'' ' d", "day 'n'  1"),
            ("SSSSSS", "045600"),
            ("S", "0"),
            ("''", "'"),
            ("", ""),
        ];
        for (pattern, expected) in cases {
            assert_eq!(format(pattern, time), expected, "{pattern}");
        }
        assert_eq!(format("h a", "2026-03-01T00:00:00Z"), "12 AM");
        assert_eq!(format("h a", "2026-03-01T12:00:00Z"), "12 PM");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for pattern in ["%Y-%m-%d", "YYYY", "yyyyy", "MMM", "EEE", "z", "[yyyy]", "'open", "SSSSSSSSSS", "n"] {
            let refused = Pattern::parse(pattern).unwrap_err();
            assert!(refused.contains(pattern), "{refused}");
        }
    }

    #[test]
    fn a_text_is_reused_only_where_it_cannot_differ() {
        let unit = |pattern: &str| Pattern::parse(pattern).unwrap().unit;
        assert_eq!(
            (unit("yyyy-MM-dd"), unit("HH:mm"), unit("ss.S"), unit("x".repeat(0).as_str())),
            (86_400_000_000, 60_000_000, 1, 86_400_000_000)
        );
    }
}
