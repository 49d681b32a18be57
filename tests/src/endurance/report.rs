//! What came of it, as a table. It judges nothing but gaps.

use std::fmt;

use super::Sizes;
use super::cpu::CpuTime;
use super::load::Sent;
use super::story::{Event, Told, What};
use super::windows::{Found, Gap, Verdict, WINDOW};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether everything came out once and right.
    pub verdict: Verdict,
    /// Each event, and the longest gap that began with it or between it and the next.
    pub(super) events: Vec<(Event, Option<Gap>)>,
    /// The longest of all gaps.
    pub(super) longest: Option<Gap>,
    /// What kubectl and the operator's log say, if something is not right.
    pub(super) seen: String,
    sizes: Sizes,
    records: u64,
    load_millis: u64,
    late: u64,
    silence: u64,
    latencies: Vec<u64>,
    refusal: String,
    cpu: CpuTime,
    incomplete: Option<String>,
}

pub(super) fn outcome(sizes: Sizes, sent: &Sent, found: &Found, told: Told, cpu: CpuTime, incomplete: Option<anyhow::Error>) -> Outcome {
    let gaps = found.gaps(&sent.expected);
    Outcome {
        verdict: found.verdict(&sent.expected, told.rolled_out),
        events: attribute(told.events, &gaps),
        longest: gaps.iter().copied().max_by_key(|gap| gap.millis()),
        seen: String::new(),
        sizes,
        records: sent.records,
        load_millis: sent.millis,
        late: sent.late,
        silence: found.silence(),
        latencies: found.latencies(),
        refusal: told.refusal,
        cpu,
        incomplete: incomplete.map(|error| format!("{error:#}")),
    }
}

/// Gives each gap to the first event within it, or else to the last one before it.
fn attribute(events: Vec<Event>, gaps: &[Gap]) -> Vec<(Event, Option<Gap>)> {
    let mut attributed: Vec<(Event, Option<Gap>)> = events.into_iter().map(|event| (event, None)).collect();
    for gap in gaps {
        let within = attributed.iter().position(|(event, _)| event.at > gap.from && event.at <= gap.until);
        let owner = within.or_else(|| attributed.iter().rposition(|(event, _)| event.at <= gap.from));
        if let Some((_, longest)) = owner.and_then(|owner| attributed.get_mut(owner))
            && longest.is_none_or(|longest| gap.millis() > longest.millis())
        {
            *longest = Some(*gap);
        }
    }
    attributed
}

impl Outcome {
    /// The gaps of events of one kind in milliseconds, sorted.
    fn gaps(&self, what: What) -> Vec<u64> {
        let mut gaps: Vec<u64> =
            self.events.iter().filter(|(event, _)| event.what == what).filter_map(|(_, gap)| Some(gap.as_ref()?.millis())).collect();
        gaps.sort_unstable();
        gaps
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let began = self.events.first().map_or(0, |(event, _)| event.at);
        writeln!(f, "{:>8}  {:>7}  what", "time s", "gap s")?;
        for (event, gap) in &self.events {
            let gap = gap.map_or_else(|| "-".to_owned(), |gap| seconds(gap.millis()));
            writeln!(f, "{:>8}  {gap:>7}  {}", seconds(event.at.saturating_sub(began)), event.text)?;
        }
        writeln!(
            f,
            "\ngap: from one window being complete, for all keys, to the next being so, less the {} s of a window; the longest that began with the event or came before the next one",
            seconds(WINDOW)
        )?;
        if let Some(longest) = self.longest {
            writeln!(
                f,
                "longest gap               {} s, {} s after the load began",
                seconds(longest.millis()),
                seconds(longest.until.saturating_sub(began))
            )?;
        }
        for (name, what) in [
            ("R2  after a kill", What::Kill),
            ("R1  after a rescale", What::Rescale),
            ("    after a rollout", What::Rollout),
            ("    after a refusal", What::Refusal),
        ] {
            let gaps = self.gaps(what);
            if let Some(longest) = gaps.last() {
                writeln!(f, "{name:<24}  median {} s, longest {} s, of {}", seconds(gaps[gaps.len() / 2]), seconds(*longest), gaps.len())?;
            }
        }
        writeln!(f, "without any result        {} s at most", seconds(self.silence))?;
        let quantile = |share: f64| {
            self.latencies
                .get((self.latencies.len().saturating_sub(1) as f64 * share) as usize)
                .map_or_else(|| "-".to_owned(), |millis| seconds(*millis))
        };
        writeln!(
            f,
            "end of window to result   p50 {} s, p99 {} s, of which {} s is what the Source allows records to come late",
            quantile(0.5),
            quantile(0.99),
            super::MAX_DELAY
        )?;
        let rate = self.records as f64 * 1000.0 / self.load_millis.max(1) as f64;
        writeln!(
            f,
            "records                   {} in {} s: {rate:.0}/s of {}/s; the one furthest behind was sent {} s late",
            self.records,
            seconds(self.load_millis),
            self.sizes.rate,
            seconds(self.late)
        )?;
        let cpu = self.cpu;
        if cpu.processes > 0 {
            let cost = self.records as f64 / cpu.workers.max(0.01);
            writeln!(
                f,
                "CPU of the workers        {:.1} s in {} processes: {cost:.0} records for each second",
                cpu.workers, cpu.processes
            )?;
        }
        writeln!(f, "CPU beside                Kafka {:.1} s, load and reader {:.1} s", cpu.kafka, cpu.own)?;
        writeln!(f, "the refused change        {}", self.refusal)?;
        let verdict = &self.verdict;
        writeln!(
            f,
            "windows                   {} of {} keys at most, {} results: {} right, {} missing, {} double, {} wrong, {} of nothing",
            verdict.windows,
            self.sizes.keys,
            verdict.results,
            verdict.right,
            verdict.missing,
            verdict.doubled,
            verdict.wrong,
            verdict.strange
        )?;
        for fault in self.incomplete.iter().chain(&verdict.faults) {
            writeln!(f, "  {fault}")?;
        }
        if !self.seen.is_empty() {
            writeln!(f, "\n{}", self.seen)?;
        }
        Ok(())
    }
}

fn seconds(millis: u64) -> String {
    format!("{:.1}", millis as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_belongs_to_what_began_it() {
        let event = |at| Event { at, what: What::Kill, text: String::new() };
        let gap = |from, until| Gap { from, until };
        let gaps = [gap(0, 1000), gap(1000, 2100), gap(2100, 9000), gap(9000, 9000), gap(9000, 13_000), gap(13_000, 14_500)];
        let attributed = attribute(vec![event(500), event(3000), event(8000), event(10_000)], &gaps);
        let longest: Vec<_> = attributed.iter().map(|(_, gap)| *gap).collect();
        assert_eq!(longest, [Some(gaps[1]), Some(gaps[2]), Some(gaps[3]), Some(gaps[4])]);
    }
}
