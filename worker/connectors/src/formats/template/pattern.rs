//! Date patterns as Java writes them, in UTC. There are no locales and no names of days or months.

use std::fmt;

use super::super::instants::{Civil, write_two, write_year};

/// A parsed pattern; at least one of its pieces is a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Literal(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

const FIELDS: [(&str, Field); 6] =
    [("yyyy", Field::Year), ("MM", Field::Month), ("dd", Field::Day), ("HH", Field::Hour), ("mm", Field::Minute), ("ss", Field::Second)];

impl Pattern {
    /// `None` if `text` has letters that are no fields, or no field at all.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((letters, field)) = FIELDS.iter().find(|(letters, _)| rest.starts_with(letters)) {
                rest = &rest[letters.len()..];
                // `yyyyy` is another field in Java, not a year and a letter.
                if rest.starts_with(&letters[..1]) {
                    return None;
                }
                pieces.push(Piece::Field(*field));
            } else if let Some(quoted) = rest.strip_prefix('\'') {
                let (literal, after) = quoted.split_once('\'')?;
                pieces.push(Piece::Literal(if literal.is_empty() { "'".to_owned() } else { literal.to_owned() }));
                rest = after;
            } else if first.is_alphanumeric() || first == '_' {
                return None;
            } else {
                pieces.push(Piece::Literal(first.to_string()));
                rest = &rest[first.len_utf8()..];
            }
        }
        let has_field = pieces.iter().any(|piece| matches!(piece, Piece::Field(_)));
        has_field.then(|| Self { text: text.to_owned(), pieces })
    }

    /// Seconds in which the result cannot change, counted from 1970: a second, minute, hour or day.
    pub(super) fn unit_seconds(&self) -> i64 {
        let has = |field: Field| self.pieces.contains(&Piece::Field(field));
        if has(Field::Second) {
            1
        } else if has(Field::Minute) {
            60
        } else if has(Field::Hour) {
            3600
        } else {
            86_400
        }
    }

    /// The instant `seconds` after 1970-01-01T00:00:00Z, formatted.
    pub(super) fn format(&self, seconds: i64) -> String {
        let civil = Civil::from_seconds(seconds);
        let mut out = Vec::with_capacity(self.text.len() + 4);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Field(Field::Year) => write_year(&mut out, civil.year),
                Piece::Field(Field::Month) => write_two(&mut out, civil.month),
                Piece::Field(Field::Day) => write_two(&mut out, civil.day),
                Piece::Field(Field::Hour) => write_two(&mut out, civil.hour),
                Piece::Field(Field::Minute) => write_two(&mut out, civil.minute),
                Piece::Field(Field::Second) => write_two(&mut out, civil.second),
            }
        }
        String::from_utf8(out).expect("digits and the literals are UTF-8")
    }

    /// The text between the fields.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Field(_) => None,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
