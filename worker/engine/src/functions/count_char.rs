//! `count_char(text, character)`: how often a character occurs in a text. It never looks at anything but single characters.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::arguments::{Texts, literal, text_type};

const NAME: &str = "count_char";

/// BIGINT, NULL if an argument is. A second argument that is not one character is refused.
#[derive(Debug, Eq, Hash, PartialEq)]
pub(super) struct CountChar {
    signature: Signature,
}

impl CountChar {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CountChar {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [text, character] = given else { return plan_err!("count_char() takes a text and a character") };
        Ok(vec![text_type(NAME, "text", text)?, text_type(NAME, "character", character)?])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if let Some(text) = literal(args.scalar_arguments, 1)
            && one_character(text).is_none()
        {
            return plan_err!("count_char() counts one character, not '{text}'");
        }
        Ok(Arc::new(Field::new(NAME, DataType::Int64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (texts, characters) = (Texts::new(&args.args[0])?, Texts::new(&args.args[1])?);
        let mut counts = Int64Array::builder(args.number_rows);
        for row in 0..args.number_rows {
            match (texts.get(row), characters.get(row)) {
                (Some(text), Some(character)) => {
                    let Some(character) = one_character(character) else {
                        return exec_err!("count_char() counts one character, not '{character}'");
                    };
                    counts.append_value(count(text, character));
                }
                _ => counts.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(counts.finish())))
    }
}

fn one_character(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

fn count(text: &str, character: char) -> i64 {
    let count = match u8::try_from(character) {
        // No byte of a longer character is ASCII.
        Ok(byte) if byte.is_ascii() => text.bytes().filter(|other| *other == byte).count(),
        _ => text.chars().filter(|other| *other == character).count(),
    };
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!((count("abcabc", 'c'), count("", 'c'), count("ééa", 'é'), count("é", 'Ã')), (2, 0, 2, 0));
    }

    #[test]
    fn one_character_is_one() {
        assert_eq!((one_character("é"), one_character(""), one_character("ab")), (Some('é'), None, None));
    }
}
