//! `regexp_extract(text, pattern [, group])`: what a group of the first match matched; group 0 is the whole match. It never backtracks: the time it takes is linear.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::StringViewBuilder;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use regex::Regex;

use super::arguments::{Integers, Texts, integer_type, literal, text_type};

const NAME: &str = "regexp_extract";

/// VARCHAR; NULL if nothing matches, if the group has no part in the match, or an argument is NULL.
///
/// The syntax is that of Rust's `regex`: what Java's has beyond it (look-around, back-references) is refused, and `\d`, `\w` and `\s` are Unicode's.
/// A literal pattern that cannot be read, and a group that it has not, are refused when the plan is made (in Flink they give NULL).
#[derive(Debug, Eq, Hash, PartialEq)]
pub(super) struct RegexpExtract {
    signature: Signature,
}

impl RegexpExtract {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RegexpExtract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (text, pattern, group) = match given {
            [text, pattern] => (text, pattern, None),
            [text, pattern, group] => (text, pattern, Some(group)),
            _ => return plan_err!("regexp_extract() takes a text, a pattern and perhaps the number of a group"),
        };
        let mut types = vec![text_type(NAME, "text", text)?, text_type(NAME, "pattern", pattern)?];
        if let Some(group) = group {
            types.push(integer_type(NAME, "group", group)?);
        }
        Ok(types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if let Some(pattern) = literal(args.scalar_arguments, 1) {
            let regex = match Regex::new(pattern) {
                Ok(regex) => regex,
                Err(error) => return plan_err!("{}", unreadable(pattern, &error)),
            };
            let group = args.scalar_arguments.get(2).copied().flatten().map(|group| Integers::new(&ColumnarValue::Scalar(group.clone())));
            if let Some(group) = group.transpose()?.and_then(|group| group.get(0))
                && usize::try_from(group).ok().is_none_or(|group| group >= regex.captures_len())
            {
                return plan_err!("regexp_extract() is asked for group {group}, the pattern has {}", regex.captures_len() - 1);
            }
        }
        Ok(Arc::new(Field::new(NAME, DataType::Utf8View, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (texts, patterns) = (Texts::new(&args.args[0])?, Texts::new(&args.args[1])?);
        let groups = args.args.get(2).map_or(Ok(Integers::Same(Some(0))), Integers::new)?;
        let mut extracted = StringViewBuilder::with_capacity(args.number_rows);
        let mut compiled: Option<Compiled> = None;
        for row in 0..args.number_rows {
            let (Some(text), Some(pattern), Some(group)) = (texts.get(row), patterns.get(row), groups.get(row)) else {
                extracted.append_null();
                continue;
            };
            let current = match compiled.take() {
                Some(same) if same.pattern == pattern => same,
                _ if matches!(patterns, Texts::Same(_)) => Compiled::of(pattern, remembered(pattern)?),
                _ => Compiled::of(pattern, Arc::new(read(pattern)?)),
            };
            let current = compiled.insert(current);
            extracted.append_option(current.extract(text, group));
        }
        Ok(ColumnarValue::Array(Arc::new(extracted.finish())))
    }
}

/// What is wrong with a pattern, in one line.
fn unreadable(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let what = text.lines().last().unwrap_or_default();
    format!("the pattern '{pattern}' of regexp_extract() cannot be read: {}", what.strip_prefix("error: ").unwrap_or(what))
}

/// Patterns that are remembered from one batch to the next.
const REMEMBERED: usize = 64;
/// With what each has learnt while it matched: a pattern that is compiled anew has to learn it again. The one that came last stands last.
static COMPILED: Mutex<Vec<(String, Arc<Regex>)>> = Mutex::new(Vec::new());

fn read(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).or_else(|error| exec_err!("{}", unreadable(pattern, &error)))
}

/// A pattern that is the same in every row.
fn remembered(pattern: &str) -> Result<Arc<Regex>> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, regex)) = compiled.iter().find(|(known, _)| known == pattern) {
        return Ok(Arc::clone(regex));
    }
    let regex = Arc::new(read(pattern)?);
    if compiled.len() == REMEMBERED {
        compiled.remove(0);
    }
    compiled.push((pattern.to_owned(), Arc::clone(&regex)));
    Ok(regex)
}

/// A pattern, ready to match.
struct Compiled {
    pattern: String,
    regex: Arc<Regex>,
    places: regex::CaptureLocations,
}

impl Compiled {
    fn of(pattern: &str, regex: Arc<Regex>) -> Self {
        Self { pattern: pattern.to_owned(), places: regex.capture_locations(), regex }
    }

    fn extract<'a>(&mut self, text: &'a str, group: i64) -> Option<&'a str> {
        let group = usize::try_from(group).ok()?;
        if group == 0 {
            return self.regex.find(text).map(|found| found.as_str());
        }
        self.regex.captures_read(&mut self.places, text)?;
        let (start, end) = self.places.get(group)?;
        Some(&text[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Flink 2.2.1 answers.
    #[test]
    fn groups_are_those_of_flink() {
        let cases = [
            ("foothebar", "foo(.*?)(bar)", 2, Some("bar")),
            ("foothebar", "foo(.*?)(bar)", 0, Some("foothebar")),
            ("foothebar", "foo(.*?)(bar)", 1, Some("the")),
            ("foothebar", "foo(.*?)(bar)", 3, None),
            ("foothebar", "foo(.*?)(bar)", -1, None),
            ("nothing", "foo(.*?)(bar)", 1, None),
            ("item.htm?query=1&channel_id=35", "(&|^)channel_id=([^&]*)", 2, Some("35")),
            ("channel_id=7&x", "(&|^)channel_id=([^&]*)", 1, Some("")),
            ("b", "(a)|b", 1, None),
        ];
        for (text, pattern, group, expected) in cases {
            let mut compiled = Compiled::of(pattern, remembered(pattern).unwrap());
            assert_eq!(compiled.extract(text, group), expected, "regexp_extract('{text}', '{pattern}', {group})");
        }
    }

    #[test]
    fn patterns_are_remembered_up_to_a_number() {
        for number in 0..=REMEMBERED {
            remembered(&format!("remembered {number}")).unwrap();
        }
        let (last, other) = (remembered("remembered 64").unwrap(), remembered("remembered 64").unwrap());
        assert!(Arc::ptr_eq(&last, &other));
        assert!(COMPILED.lock().unwrap().len() <= REMEMBERED);
        assert!(remembered("(").is_err());
    }
}
