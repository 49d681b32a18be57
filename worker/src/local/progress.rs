//! What a local run tells the person who watches: a line when something changed, troubles when they come and go. On standard error only.

use std::collections::BTreeMap;
use std::io::Write as _;

use millrace_crds::report::TaskReport;

/// Remembers what was told last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    quiet: bool,
    last: BTreeMap<String, String>,
    troubles: BTreeMap<String, String>,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, ..Self::default() }
    }

    /// Tells what has changed since the last call.
    pub(super) fn show(&mut self, pipeline: &str, tasks: &[TaskReport]) {
        let line = summary(tasks);
        if !self.quiet && self.last.get(pipeline) != Some(&line) {
            say(&format!("{pipeline}: {line}"));
            self.last.insert(pipeline.to_owned(), line);
        }
        let mut current = BTreeMap::new();
        for task in tasks {
            for trouble in &task.troubles {
                let subject = if trouble.name.is_empty() { String::new() } else { format!(" \"{}\"", trouble.name) };
                let key = format!("{pipeline}: {:?}{subject}", trouble.part);
                current.insert(key, format!("{:?}: {}", trouble.reason, trouble.message));
            }
        }
        for (key, text) in &current {
            if self.troubles.get(key) != Some(text) {
                say(&format!("{key} is in trouble: {text}"));
            }
        }
        for key in self.troubles.keys().filter(|key| !current.contains_key(*key)) {
            say(&format!("{key} is well again"));
        }
        self.troubles.retain(|key, _| key.split(": ").next() != Some(pipeline));
        self.troubles.extend(current);
    }
}

/// One Pipeline in a line.
pub(super) fn summary(tasks: &[TaskReport]) -> String {
    let sum = |value: fn(&TaskReport) -> u64| tasks.iter().map(value).sum::<u64>();
    let mut line = format!("{} records in, {} out", grouped(sum(|t| t.records_in)), grouped(sum(|t| t.records_out)));
    for (count, what) in [(sum(|t| t.dead_lettered), "dead-lettered"), (sum(|t| t.dropped), "dropped")] {
        if count > 0 {
            line.push_str(&format!(", {} {what}", grouped(count)));
        }
    }
    if let Some(epoch) = tasks.iter().map(|task| task.epoch).min() {
        line.push_str(&format!(", epoch {epoch} durable"));
    }
    line
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A line on standard error.
pub(super) fn say(line: &str) {
    // If standard error is closed there is nobody to tell.
    let _closed = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
