//! `split_index(text, delimiter, index)`: the part of a text at an index, between delimiters, as Flink counts: from 0. It never trims.

use std::sync::Arc;

use arrow::array::StringViewBuilder;
use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::arguments::{Integers, Texts, integer_type, text_type};

const NAME: &str = "split_index";

/// VARCHAR; NULL if there is no such part, if the index is negative, if the text is empty or an argument is NULL. An empty delimiter splits at each white space.
#[derive(Debug, Eq, Hash, PartialEq)]
pub(super) struct SplitIndex {
    signature: Signature,
}

impl SplitIndex {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SplitIndex {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [text, delimiter, index] = given else { return plan_err!("split_index() takes a text, a delimiter and an index") };
        Ok(vec![text_type(NAME, "text", text)?, text_type(NAME, "delimiter", delimiter)?, integer_type(NAME, "index", index)?])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (texts, delimiters, indexes) = (Texts::new(&args.args[0])?, Texts::new(&args.args[1])?, Integers::new(&args.args[2])?);
        let mut parts = StringViewBuilder::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            parts.append_option(match (texts.get(row), delimiters.get(row), indexes.get(row)) {
                (Some(text), Some(delimiter), Some(index)) => part(text, delimiter, index),
                _ => None,
            });
        }
        Ok(ColumnarValue::Array(Arc::new(parts.finish())))
    }
}

fn part<'a>(text: &'a str, delimiter: &str, index: i64) -> Option<&'a str> {
    let index = usize::try_from(index).ok()?;
    match (text.is_empty(), delimiter.chars().next()) {
        (true, _) => None,
        (false, None) => text.split(char::is_whitespace).nth(index),
        (false, Some(first)) if first.is_ascii() && delimiter.len() == 1 => part_between(text, delimiter.as_bytes()[0], index),
        (false, Some(_)) => text.split(delimiter).nth(index),
    }
}

/// The part at an index between bytes that are `delimiter`, which is ASCII.
fn part_between(text: &str, delimiter: u8, index: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let start = match index.checked_sub(1) {
        None => 0,
        Some(before) => place(bytes, delimiter, before)? + 1,
    };
    let length = place(&bytes[start..], delimiter, 0).unwrap_or(bytes.len() - start);
    Some(&text[start..start + length])
}

/// Where the byte is found after it was found so many times, eight bytes at a time.
#[inline]
fn place(bytes: &[u8], byte: u8, mut before: usize) -> Option<usize> {
    const LOWS: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    let same = u64::from_ne_bytes([byte; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word) ^ same;
        // The high bit of each byte that is zero now.
        let mut marks = !(((word & LOWS) + LOWS) | word | LOWS);
        let found = marks.count_ones() as usize;
        if found <= before {
            before -= found;
            continue;
        }
        for _ in 0..before {
            marks &= marks - 1;
        }
        return Some(index * 8 + marks.trailing_zeros() as usize / 8);
    }
    let mut places = rest.iter().enumerate().filter(|(_, other)| **other == byte);
    places.nth(before).map(|(at, _)| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::part;

    /// What Flink 2.2.1 answers.
    #[test]
    fn parts_are_those_of_flink() {
        let cases = [
            ("a/b//c/", "/", 0, Some("a")),
            ("a/b//c/", "/", 2, Some("")),
            ("a/b//c/", "/", 4, Some("")),
            ("a/b//c/", "/", 5, None),
            ("a/b", "/", -1, None),
            ("abc", "/", 0, Some("abc")),
            ("", "/", 0, None),
            ("a::b:c", "::", 1, Some("b:c")),
            ("a b\tc", "", 2, Some("c")),
            ("a  b", "", 1, Some("")),
        ];
        for (text, delimiter, index, expected) in cases {
            assert_eq!(part(text, delimiter, index), expected, "split_index('{text}', '{delimiter}', {index})");
        }
    }

    proptest! {
        #[test]
        fn parts_are_those_of_the_standard_library(text in "[/a\u{12f}\u{20ac}]{0,40}", delimiter in "[/a\u{12f}]", index in 0_usize..12) {
            let expected = if text.is_empty() { None } else { text.split(&delimiter).nth(index) };
            prop_assert_eq!(part(&text, &delimiter, index as i64), expected);
        }
    }
}
