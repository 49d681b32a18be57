//! What a query has answered in the end: the rows that its changelog leaves, in one form whatever engine wrote them. It never guesses: a row that is taken back must have been there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Rows with how often each is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rows(BTreeMap<String, u64>);

impl Rows {
    /// What is left of a changelog: one change a line, `+I {…}`, or `{…}` where nothing is ever taken back.
    ///
    /// # Errors
    /// A line that is no such change, or takes back a row that is not there.
    pub fn of_changelog(text: &str) -> Result<Self> {
        let mut rows = Self::default();
        for (number, line) in text.lines().enumerate() {
            rows.change(line).with_context(|| format!("line {} of a result: {line}", number + 1))?;
        }
        Ok(rows)
    }

    /// Takes one change in.
    ///
    /// # Errors
    /// As [`Rows::of_changelog`].
    pub fn change(&mut self, line: &str) -> Result<()> {
        let (kind, row) = if line.starts_with('{') { ("+I", line) } else { line.split_once(' ').context("no row kind")? };
        let row = canonical(row)?;
        match kind {
            "+I" | "+U" => *self.0.entry(row).or_default() += 1,
            "-U" | "-D" => {
                let count = self.0.get_mut(&row).with_context(|| format!("it takes back a row that is not there: {row}"))?;
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&row);
                }
            }
            other => bail!("{other} is no row kind"),
        }
        Ok(())
    }

    /// The sum of one column for each value of another, as rows of these two.
    ///
    /// # Errors
    /// A row has no such columns, or what is to be summed up is no whole number.
    pub fn totals(&self, sum: &str, by: &str) -> Result<Self> {
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for (row, count) in &self.0 {
            let row: Value = serde_json::from_str(row).context("the row is no JSON")?;
            let value = row[sum].as_u64().with_context(|| format!("{sum} is no whole number in {row}"))?;
            *totals.entry(row[by].to_string()).or_default() += value * count;
        }
        let mut rows = Self::default();
        for (key, total) in totals {
            rows.change(&format!("{{{}:{key},{}:{total}}}", Value::from(by), Value::from(sum)))?;
        }
        Ok(rows)
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// All rows, sorted, one a line.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().flat_map(|(row, count)| (0..*count).map(move |_| format!("{row}\n"))).collect()
    }

    /// What is different from what was expected, with the first rows on either side; `None` if nothing is.
    #[must_use]
    pub fn difference(&self, expected: &Self) -> Option<String> {
        let surplus = |one: &Self, other: &Self| -> (u64, Option<String>) {
            let mut rows = one.0.iter().map(|(row, count)| (row, count.saturating_sub(other.0.get(row).copied().unwrap_or(0))));
            let mut first = None;
            let total = rows.by_ref().fold(0, |sum, (row, more)| {
                if more > 0 && first.is_none() {
                    first = Some(row.clone());
                }
                sum + more
            });
            (total, first)
        };
        let ((missing, first_missing), (strange, first_strange)) = (surplus(expected, self), surplus(self, expected));
        if missing == 0 && strange == 0 {
            return None;
        }
        let mut text =
            format!("{} rows, {} expected: {missing} are missing, {strange} do not belong there", self.count(), expected.count());
        for (sign, row) in [("-", first_missing), ("+", first_strange)] {
            if let Some(row) = row {
                let _ = write!(text, "\n  {sign} {row}");
            }
        }
        Some(text)
    }
}

/// A row in one form: names in small letters and sorted (Flink keeps the case of names that are not quoted), without NULLs, decimals to six digits,
/// times to milliseconds as `yyyy-MM-dd HH:mm:ss.SSS`.
fn canonical(row: &str) -> Result<String> {
    let Value::Object(fields) = serde_json::from_str(row).context("the row is no JSON")? else { bail!("the row is no JSON object") };
    let mut named = BTreeMap::new();
    for (name, value) in fields {
        let value = match value {
            Value::Null => continue,
            Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() => decimal(float),
                _ => number.to_string(),
            },
            Value::String(text) => Value::String(time(&text).unwrap_or(text)).to_string(),
            other => other.to_string(),
        };
        ensure!(named.insert(name.to_lowercase(), value).is_none(), "two columns differ in the case of {name} alone");
    }
    let fields: Vec<String> = named.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    Ok(format!("{{{}}}", fields.join(",")))
}

/// Six digits are more than any query computes, and few enough that decimals and doubles agree.
fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The one form of a text that is a time.
fn time(text: &str) -> Option<String> {
    let plain = text.strip_suffix('Z').unwrap_or(text);
    let (seconds, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let shape: String = seconds.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_time = matches!(shape.as_str(), "0000-00-00 00:00:00" | "0000-00-00T00:00:00") && fraction.chars().all(|c| c.is_ascii_digit());
    is_time.then(|| {
        let fraction: String = fraction.chars().chain("000".chars()).take(fraction.len().max(3)).collect();
        let digits = fraction.trim_end_matches('0').len().max(3);
        format!("{}.{}", seconds.replace('T', " "), &fraction[..digits])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_changelog_leaves() {
        let rows =
            Rows::of_changelog("+I {\"k\":1,\"n\":1}\n{\"k\":2}\n-U {\"k\":1,\"n\":1}\n+U {\"K\":1,\"N\":2}\n+I {\"k\":2}\n-D {\"k\":2}\n")
                .unwrap();
        assert_eq!(rows.text(), "{\"k\":1,\"n\":2}\n{\"k\":2}\n");
        assert!(Rows::of_changelog("-D {\"k\":1}").is_err());
        assert!(Rows::of_changelog("+X {\"k\":1}").is_err());
    }

    #[test]
    fn totals_add_up_all_rows() {
        let rows = Rows::of_changelog(
            "{\"k\":1,\"n\":2,\"w\":1}\n{\"k\":1,\"n\":3,\"w\":2}\n{\"k\":2,\"n\":4,\"w\":1}\n{\"k\":2,\"n\":4,\"w\":1}",
        )
        .unwrap();
        assert_eq!(rows.totals("n", "k").unwrap().text(), "{\"k\":1,\"n\":5}\n{\"k\":2,\"n\":8}\n");
        assert!(rows.totals("x", "k").is_err());
    }

    #[test]
    fn rows_have_one_form() {
        let same = [
            (r#"{"b":90.8000,"A":null,"t":"2026-03-01T00:00:01Z"}"#, r#"{"b":90.8,"t":"2026-03-01 00:00:01.000"}"#),
            (r#"{"b":1816090.8000000001,"t":"2026-03-01 00:00:01.120000"}"#, r#"{"b":1816090.8,"t":"2026-03-01 00:00:01.120"}"#),
            (r#"{"b":90.0,"c":"2026-03-01"}"#, r#"{"b":90,"c":"2026-03-01"}"#),
            (r#"{"b":9007199254740993}"#, r#"{"b":9007199254740993}"#),
            (r#"{"t":"2026-03-01 00:00:01.1205"}"#, r#"{"t":"2026-03-01 00:00:01.1205"}"#),
        ];
        for (row, expected) in same {
            assert_eq!(canonical(row).unwrap(), expected);
        }
    }

    #[test]
    fn differences_are_named() {
        let rows = |text: &str| Rows::of_changelog(text).unwrap();
        assert_eq!(rows("{\"k\":1}\n{\"k\":2}").difference(&rows("{\"k\":2}\n{\"k\":1}")), None);
        let difference = rows("{\"k\":1}\n{\"k\":1}").difference(&rows("{\"k\":1}\n{\"k\":3}")).unwrap();
        assert_eq!(difference, "2 rows, 2 expected: 1 are missing, 1 do not belong there\n  - {\"k\":3}\n  + {\"k\":1}");
    }
}
