//! What `kubectl` prints, as a page that does not change from run to run: times, ages, lags, revisions and addresses are levelled, nothing else. It never makes up a line.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What stands for every age.
const AGE: &str = "2m";
/// The column of lags, and what stands for every one.
const LAG: (&str, &str) = ("LAG", "0");
/// What stands for every time.
const TIME: &str = "2026-11-25T10:00:00Z";
/// What stands for every revision.
const REVISION: &str = "0123456789abcdef";
/// The variable that has a page written instead of compared.
const BLESS: &str = "MILLRACE_BLESS";

/// A page of transcripts that is being made.
#[derive(Debug)]
pub struct Page {
    text: String,
    levelled: Vec<(String, String)>,
}

impl Page {
    /// A page that starts with `head`; in what is printed, the first of each pair of `levelled` becomes the second.
    #[must_use]
    pub fn new(head: &str, levelled: &[(String, &str)]) -> Self {
        let levelled = levelled.iter().map(|(from, to)| (from.clone(), (*to).to_owned())).collect();
        Self { text: head.to_owned(), levelled }
    }

    /// Starts a section.
    pub fn section(&mut self, title: &str, words: &str) {
        let _infallible = write!(self.text, "\n## {title}\n\n{words}\n");
    }

    /// Shows what `kubectl get` printed: a table, or several with an empty line in between.
    pub fn table(&mut self, command: &str, printed: &str) {
        let tables: Vec<String> = printed.trim_end().split("\n\n").map(level_table).collect();
        self.show(command, &tables.join("\n"));
    }

    /// Shows the conditions of these types in what `kubectl describe` printed.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn conditions(&mut self, command: &str, printed: &str, types: &[&str]) -> Result<()> {
        let blocks = blocks(printed);
        let mut shown = String::from("  Conditions:\n");
        for type_ in types {
            let of_type = |block: &&String| block.lines().any(|line| line.split_whitespace().eq(["Type:", type_]));
            shown.push_str(blocks.iter().find(of_type).with_context(|| format!("no condition {type_} in:\n{printed}"))?);
        }
        self.show(&format!("{command}    # of the conditions only those that tell something"), &shown);
        Ok(())
    }

    fn show(&mut self, command: &str, printed: &str) {
        let printed = self.levelled.iter().fold(without_revisions(&without_durations(printed)), |text, (from, to)| text.replace(from, to));
        let _infallible = write!(self.text, "\n```text\n$ {command}\n{}\n```\n", printed.trim_end());
    }

    /// Compares the page with the committed one at `path`, or writes it there if `MILLRACE_BLESS` is set.
    ///
    /// # Errors
    /// They differ; the error holds the first lines that do.
    pub fn settle(&self, path: &Path) -> Result<()> {
        if std::env::var_os(BLESS).is_some() {
            return std::fs::write(path, &self.text).with_context(|| format!("write {}", path.display()));
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let pairs = self.text.lines().map(Some).chain([None]).zip(committed.lines().map(Some).chain([None]));
        let difference = pairs.into_iter().find(|(now, before)| now != before);
        ensure!(
            self.text == committed,
            "{} is stale; set {BLESS}=1 to write it anew, and look at the difference. First: {difference:?}\nThe page is now:\n{}",
            path.display(),
            self.text
        );
        Ok(())
    }
}

/// A table with all ages the same, and its columns as narrow as `kubectl` makes them.
fn level_table(table: &str) -> String {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let starts = starts(head);
    let cut = |line: &str| -> Vec<String> {
        let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
        starts.iter().zip(ends).map(|(start, end)| line.get(*start..end.min(line.len())).unwrap_or_default().trim().to_owned()).collect()
    };
    let head = cut(head);
    let level = |(name, cell): (&String, String)| {
        if is_age(&cell) {
            AGE.to_owned()
        } else if name == LAG.0 && !cell.is_empty() {
            LAG.1.to_owned()
        } else {
            cell
        }
    };
    let rows: Vec<Vec<String>> = lines.map(|line| head.iter().zip(cut(line)).map(level).collect()).collect();
    let rows = [vec![head.clone()], rows].concat();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let mut text = String::new();
    for row in &rows {
        let padded = row.iter().enumerate().map(|(column, cell)| format!("{cell:0$}", width(column)));
        let line = padded.collect::<Vec<_>>().join("   ");
        let _infallible = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Where the columns start: after two spaces or more.
fn starts(head: &str) -> Vec<usize> {
    let bytes = head.as_bytes();
    (0..bytes.len()).filter(|at| bytes[*at] != b' ' && (*at == 0 || *at >= 2 && bytes[at - 1] == b' ' && bytes[at - 2] == b' ')).collect()
}

/// Without what the Kafka library adds to a message: ` (after 31ms in state AUTH_REQ, 2 identical error(s) suppressed)`.
fn without_durations(printed: &str) -> String {
    let mut parts = printed.split(" (after ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let line = part.split('\n').next().unwrap_or_default();
        text.push_str(line.rfind(')').map_or(part, |end| &part[end + 1..]));
    }
    text
}

/// With every revision the same: it is that of a spec with addresses.
fn without_revisions(printed: &str) -> String {
    let mut parts = printed.split("revision ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.chars().take_while(char::is_ascii_hexdigit).count();
        text.push_str("revision ");
        text.push_str(if digits == REVISION.len() { REVISION } else { &part[..digits] });
        text.push_str(&part[digits..]);
    }
    text
}

/// `4s`, `2m3s`, `12d`.
fn is_age(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit())
        && cell.ends_with(['s', 'm', 'h', 'd'])
        && cell.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c))
}

/// The conditions in what `kubectl describe` printed, each with its lines.
fn blocks(printed: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let lines = printed.lines().skip_while(|line| line.trim() != "Conditions:").skip(1);
    for line in lines.take_while(|line| line.starts_with("    ")) {
        if line.trim_start().starts_with("Last Transition Time:") {
            blocks.push(String::new());
        }
        let Some(block) = blocks.last_mut() else { continue };
        let line = match line.split_once("Last Transition Time:") {
            Some((indent, rest)) => {
                let gap = rest.len() - rest.trim_start().len();
                format!("{indent}Last Transition Time:{}{TIME}", " ".repeat(gap))
            }
            None => line.to_owned(),
        };
        let _infallible = writeln!(block, "{line}");
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_levelled_and_empty_cells_stay_empty() {
        let printed = "NAME                           READY   LAG   DLQ   USED BY   AGE\npipeline.millrace.dev/orders   False   17          1         100m\n";
        let levelled = "NAME                           READY   LAG   DLQ   USED BY   AGE\npipeline.millrace.dev/orders   False   0           1         2m\n";
        assert_eq!(level_table(printed), levelled);
    }

    #[test]
    fn how_long_something_took_is_left_out() {
        let printed =
            "refused (after 3ms in state AUTH_REQ, 1 identical error(s) suppressed)\n(really) refused (after 4ms in state X)\nend (1)\n";
        assert_eq!(without_durations(printed), "refused\n(really) refused\nend (1)\n");
    }

    #[test]
    fn revisions_are_levelled() {
        assert_eq!(
            without_revisions("revision e88f920a1a53c1db stays; another revision"),
            "revision 0123456789abcdef stays; another revision"
        );
        assert_eq!(without_revisions("a revision fades"), "a revision fades");
    }

    #[test]
    fn conditions_are_found_by_type() {
        let printed = "Name:  orders\nStatus:\n  Conditions:\n    Last Transition Time:  2027-01-01T00:00:01Z\n    Message:               all is well\n    Type:                  Ready\n    Last Transition Time:  2027-01-01T00:00:02Z\n    Message:               kafka:9092 refuses\n    Type:                  SourcesReady\n  Inputs:\n    Name:  x\n";
        let mut page = Page::new("# T\n", &[("kafka:9092".to_owned(), "broker")]);
        page.conditions("kubectl describe", printed, &["SourcesReady"]).unwrap();
        assert_eq!(
            page.text,
            format!(
                "# T\n\n```text\n$ kubectl describe    # of the conditions only those that tell something\n  Conditions:\n    Last Transition Time:  {TIME}\n    Message:               broker refuses\n    Type:                  SourcesReady\n```\n"
            )
        );
        assert!(page.conditions("kubectl describe", printed, &["Stalled"]).is_err());
    }
}
