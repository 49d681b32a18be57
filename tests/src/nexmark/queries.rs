//! The queries, as files of Flink's SQL with a head of comments. What is around them (tables, sinks, manifests) is each engine's own.

use anyhow::{Context, Result, ensure};

use super::generator::Table;
use super::results::Rows;
use crate::installed;

/// One query.
#[derive(Clone, Debug)]
pub struct Query {
    /// `q0` to `q22`.
    pub name: String,
    /// What it is, in a sentence.
    pub title: String,
    /// Tables that it reads.
    pub inputs: Vec<Table>,
    /// Whether it also reads the table `side_input`.
    pub side_input: bool,
    /// Views that it reads: name and query.
    pub views: Vec<(String, String)>,
    /// What is compared where every run gives other rows.
    pub totals: Option<Totals>,
    /// The SELECT, without the head.
    pub sql: String,
}

/// Sums over all rows of a result: what is left where the rows follow the clock. Flink is asked for them by a query of their own, because it drops windows of
/// processing time that are open when its input ends.
#[derive(Clone, Debug)]
pub struct Totals {
    /// The column that is summed up.
    pub sum: String,
    /// The column that it is summed up for.
    pub by: String,
    /// The query that gives them.
    pub sql: String,
}

impl Totals {
    fn parse(text: &str) -> Result<Self> {
        let parts = text.split_once(": ").and_then(|(columns, sql)| Some((columns.split_once(" by ")?, sql)));
        let ((sum, by), sql) = parts.context("totals are `column by column: SELECT …`")?;
        Ok(Self { sum: sum.to_owned(), by: by.to_owned(), sql: sql.to_owned() })
    }
}

impl Query {
    /// What Flink is asked to compare with.
    #[must_use]
    pub fn compared_sql(&self) -> &str {
        self.totals.as_ref().map_or(&self.sql, |totals| &totals.sql)
    }

    /// What is compared of a result.
    ///
    /// # Errors
    /// It has no such columns.
    pub fn compared(&self, rows: Rows) -> Result<Rows> {
        match &self.totals {
            Some(totals) => rows.totals(&totals.sum, &totals.by),
            None => Ok(rows),
        }
    }
}

/// All queries, by number.
///
/// # Errors
/// A file cannot be read or its head is not understood.
pub fn all() -> Result<Vec<Query>> {
    let folder = installed::checkout().join("tests/nexmark");
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry.context("read a folder entry")?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".sql")) else { continue };
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        queries.push(parse(name, &text).with_context(|| format!("understand {}", path.display()))?);
    }
    queries.sort_by_key(|query| query.name[1..].parse::<u32>().unwrap_or(u32::MAX));
    Ok(queries)
}

fn parse(name: &str, text: &str) -> Result<Query> {
    let mut query = Query {
        name: name.to_owned(),
        title: String::new(),
        inputs: Vec::new(),
        side_input: false,
        views: Vec::new(),
        totals: None,
        sql: text.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n"),
    };
    for line in text.lines().filter_map(|line| line.strip_prefix("-- ")) {
        match line.split_once(": ") {
            Some(("inputs", tables)) => {
                for table in tables.split(", ") {
                    match Table::ALL.into_iter().find(|known| known.name() == table) {
                        Some(known) => query.inputs.push(known),
                        None if table == "side_input" => query.side_input = true,
                        None => anyhow::bail!("there is no table {table}"),
                    }
                }
            }
            Some(("views", view)) => {
                let (name, sql) = view.split_once(": ").context("a view is `name: SELECT …`")?;
                query.views.push((name.to_owned(), sql.to_owned()));
            }
            Some(("totals", totals)) => query.totals = Some(Totals::parse(totals)?),
            _ => line.clone_into(&mut query.title),
        }
    }
    ensure!(!query.inputs.is_empty(), "the head does not say which tables are read");
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queries_are_those_of_nexmark_without_the_sixth() {
        let queries = all().unwrap();
        let names: Vec<&str> = queries.iter().map(|query| query.name.as_str()).collect();
        let expected: Vec<String> = (0..=22).filter(|number| *number != 6).map(|number| format!("q{number}")).collect();
        assert_eq!(names, expected);
        assert!(queries.iter().all(|query| query.sql.starts_with("SELECT") && !query.title.is_empty()));
    }
}
