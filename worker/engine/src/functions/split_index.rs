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
        (false, Some(first)) if first.len_utf8() == delimiter.len() => text.split(first).nth(index),
        (false, Some(_)) => text.split(delimiter).nth(index),
    }
}

#[cfg(test)]
mod tests {
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
}
