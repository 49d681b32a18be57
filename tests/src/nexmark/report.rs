//! Costs of the queries beside their goals, as a table. It measures nothing itself.

use std::fmt::Write as _;

use crate::measure::spread;

/// Goals of a set of queries, as ratios of events per CPU-second to Flink's.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Its number among the goals.
    pub name: &'static str,
    /// The queries.
    pub queries: &'static [&'static str],
    /// At least this, as geometric mean.
    pub mean: f64,
    /// At least this, each.
    pub each: Option<f64>,
}

/// The goals; 13 is missing from the first, since Flink 2.2.1 cannot look up a file.
pub const GOALS: [Goal; 2] = [
    Goal { name: "T1", queries: &["q0", "q1", "q2", "q5", "q7", "q8", "q11", "q12", "q14", "q21", "q22"], mean: 10.0, each: Some(4.0) },
    Goal { name: "T2", queries: &["q3", "q4", "q9", "q15", "q16", "q17", "q18", "q19", "q20"], mean: 6.0, each: None },
];
/// Queries that are to reach this many events per CPU-second by themselves.
const ABSOLUTE: ([&str; 3], f64) = (["q0", "q1", "q2"], 4e6);
/// Queries whose memory is to be a third of Flink's.
const LEAN: [&str; 3] = ["q7", "q9", "q20"];

/// Queries that take several times as long as the others, in Flink at least.
const SLOW: [&str; 7] = ["q4", "q7", "q9", "q16", "q18", "q19", "q20"];

/// Whether a query is one of those that are measured over fewer events.
#[must_use]
pub fn is_slow(query: &str) -> bool {
    SLOW.contains(&query)
}

/// What one engine needed.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Events for each second of CPU, one figure a round.
    pub rates: Vec<f64>,
    /// Bytes.
    pub peak_memory: u64,
}

impl Cost {
    fn median(&self) -> Option<f64> {
        spread(&self.rates).map(|(median, ..)| median)
    }

    fn rate(&self) -> String {
        spread(&self.rates)
            .map_or("-".to_owned(), |(median, lowest, highest)| format!("{:.0} ({:.0}–{:.0})", median / 1e3, lowest / 1e3, highest / 1e3))
    }

    fn memory(&self) -> String {
        if self.peak_memory == 0 { "-".to_owned() } else { format!("{} MB", self.peak_memory / 1_000_000) }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// `q0` to `q22`.
    pub query: String,
    /// Whether both engines gave the same result, in words.
    pub equal: String,
    /// Events of the two runs whose costs are subtracted.
    pub events: (u64, u64),
    /// What ours needed; nothing if it was refused.
    pub ours: Cost,
    /// What Flink needed; nothing if it was refused or not run.
    pub theirs: Cost,
}

/// The names of the columns.
#[must_use]
pub fn head() -> String {
    "| query | equal | N1, N2 (K) | Millrace, K ev/s/core | Flink, K ev/s/core | ratio | Millrace, peak | Flink, peak | goal |\n\
     |---|---|---|---|---|---|---|---|---|"
        .to_owned()
}

impl Line {
    fn ratio(&self) -> Option<f64> {
        Some(self.ours.median()? / self.theirs.median()?)
    }

    /// As a row of the table.
    #[must_use]
    pub fn row(&self) -> String {
        format!(
            "| {} | {} | {}, {} | {} | {} | {} | {} | {} | {} |",
            self.query,
            self.equal,
            self.events.0 / 1000,
            self.events.1 / 1000,
            self.ours.rate(),
            self.theirs.rate(),
            self.ratio().map_or("-".to_owned(), |ratio| format!("**{ratio:.1}×**")),
            self.ours.memory(),
            self.theirs.memory(),
            self.verdict()
        )
    }

    /// The goals of the query alone, and whether they are reached.
    fn verdict(&self) -> String {
        let mut verdicts = Vec::new();
        let mut add = |goal: String, reached: Option<bool>| {
            if let Some(reached) = reached {
                verdicts.push(format!("{goal}: {}", if reached { "yes" } else { "**no**" }));
            }
        };
        for goal in GOALS.iter().filter(|goal| goal.queries.contains(&self.query.as_str())) {
            match goal.each {
                Some(each) => add(format!("{} ≥ {each}×", goal.name), self.ratio().map(|ratio| ratio >= each)),
                None => add(format!("{} mean ≥ {}×, this one", goal.name, goal.mean), self.ratio().map(|ratio| ratio >= goal.mean)),
            }
        }
        if ABSOLUTE.0.contains(&self.query.as_str()) {
            add(format!("≥ {} M", ABSOLUTE.1 / 1e6), self.ours.median().map(|rate| rate >= ABSOLUTE.1));
        }
        if LEAN.contains(&self.query.as_str()) && self.theirs.peak_memory > 0 {
            add("≤ ⅓ memory".to_owned(), Some(self.ours.peak_memory * 3 <= self.theirs.peak_memory));
        }
        verdicts.join("; ")
    }
}

/// Geometric means of the ratios, beside their goals. Says which queries are not in them.
#[must_use]
pub fn means(lines: &[Line]) -> String {
    let mut text = String::new();
    for goal in GOALS {
        let measured = |query: &&str| lines.iter().find(|line| line.query == **query).and_then(Line::ratio);
        let ratios: Vec<f64> = goal.queries.iter().filter_map(measured).collect();
        let missing: Vec<&str> = goal.queries.iter().filter(|query| measured(query).is_none()).copied().collect();
        let mean = geometric_mean(&ratios)
            .map_or("not measured".to_owned(), |mean| format!("measured **{mean:.1}×** over {} queries", ratios.len()));
        let lowest = spread(&ratios).map_or(String::new(), |(_, lowest, _)| format!(", the lowest {lowest:.1}×"));
        let each = goal.each.map_or(String::new(), |each| format!(", each ≥ {each}×"));
        let without = if missing.is_empty() { String::new() } else { format!("; without {}", missing.join(", ")) };
        let _ = writeln!(text, "* {}: goal ≥ {}× geomean{each}; {mean}{lowest}{without}", goal.name, goal.mean);
    }
    text
}

fn geometric_mean(figures: &[f64]) -> Option<f64> {
    (!figures.is_empty()).then(|| (figures.iter().map(|figure| figure.ln()).sum::<f64>() / figures.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(query: &str, ours: f64, theirs: f64) -> Line {
        let cost = |rate: f64| Cost { rates: vec![rate / 2.0, rate, rate * 2.0], peak_memory: 300_000_000 };
        Line { query: query.to_owned(), equal: "yes".to_owned(), events: (500_000, 2_000_000), ours: cost(ours), theirs: cost(theirs) }
    }

    #[test]
    fn a_row_holds_both_engines_and_the_verdicts() {
        assert_eq!(
            line("q0", 5e6, 1e6).row(),
            "| q0 | yes | 500, 2000 | 5000 (2500–10000) | 1000 (500–2000) | **5.0×** | 300 MB | 300 MB | T1 ≥ 4×: yes; ≥ 4 M: yes |"
        );
        assert!(line("q9", 5e6, 1e6).row().ends_with("| T2 mean ≥ 6×, this one: **no**; ≤ ⅓ memory: **no** |"));
        let refused = Line { query: "q12".to_owned(), ..Line::default() };
        assert_eq!(refused.row(), "| q12 |  | 0, 0 | - | - | - | - | - |  |");
    }

    #[test]
    fn means_say_what_is_not_in_them() {
        let text = means(&[line("q0", 2e6, 1e6), line("q1", 8e6, 1e6)]);
        assert!(
            text.starts_with("* T1: goal ≥ 10× geomean, each ≥ 4×; measured **4.0×** over 2 queries, the lowest 2.0×; without q2, q5"),
            "{text}"
        );
        assert!(text.contains("* T2: goal ≥ 6× geomean; not measured; without q3, q4"), "{text}");
    }
}
