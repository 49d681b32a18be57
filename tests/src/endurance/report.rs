//! What came of it, as a table. It judges nothing but gaps.

use std::fmt;

use super::cpu::CpuTime;
use super::load::Sent;
use super::story::{Event, Told, What};
use super::windows::{Found, Gap, Verdict, WINDOW};
use super::{MAX_DELAY, Sizes};
use crate::measure::spread;

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
    pub(super) seen: Option<String>,
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
        seen: None,
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

/// Puts beside each event the longest gap that overlaps the time until the next one: a gap that holds two events stands beside both, for nobody knows whose it is.
fn attribute(events: Vec<Event>, gaps: &[Gap]) -> Vec<(Event, Option<Gap>)> {
    let next: Vec<u64> = events.iter().skip(1).map(|event| event.at).chain([u64::MAX]).collect();
    let longest = |(event, next): (Event, u64)| {
        let overlapping = gaps.iter().filter(|gap| gap.until > event.at && gap.from < next);
        let longest = overlapping.copied().max_by_key(|gap| gap.millis());
        (event, longest)
    };
    events.into_iter().zip(next).map(longest).collect()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_events(f)?;
        self.write_gaps(f)?;
        self.write_load(f)?;
        let verdict = &self.verdict;
        writeln!(
            f,
            "windows                 {} of {} keys at most, {} results: {} right, {} missing, {} double, {} wrong, {} of nothing",
            verdict.windows,
            self.sizes.keys,
            verdict.results,
            verdict.right,
            verdict.missing,
            verdict.doubled,
            verdict.wrong,
            verdict.strange
        )?;
        for fault in self.incomplete.iter().chain(&verdict.faults).chain(&self.seen) {
            writeln!(f, "  {fault}")?;
        }
        Ok(())
    }
}

impl Outcome {
    fn began(&self) -> u64 {
        self.events.first().map_or(0, |(event, _)| event.at)
    }

    fn write_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}  {:>7}  what", "time s", "gap s")?;
        for (event, gap) in &self.events {
            let gap = gap.map_or_else(|| "-".to_owned(), |gap| seconds(gap.millis()));
            writeln!(f, "{:>8}  {gap:>7}  {}", seconds(event.at.saturating_sub(self.began())), event.text)?;
        }
        writeln!(
            f,
            "\ngap: from when a window is complete, for all keys, to when the next one is, less the {} s of a window;\n\
             beside an event, the longest that overlaps the time until the next event, so one that holds two events stands beside both\n",
            seconds(WINDOW)
        )
    }

    fn write_gaps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(longest) = self.longest {
            let from = seconds(longest.from.saturating_sub(self.began()));
            writeln!(f, "longest gap             {} s, from {from} s on", seconds(longest.millis()))?;
        }
        let kinds = [
            ("gap after a kill (R2)", What::Kill),
            ("after a rescale (R1)", What::Rescale),
            ("after a rollout", What::Rollout),
            ("after a refusal", What::Refusal),
        ];
        for (name, what) in kinds {
            let of_kind = self.events.iter().filter(|(event, _)| event.what == what);
            let gaps: Vec<f64> = of_kind.filter_map(|(_, gap)| Some(gap.as_ref()?.millis() as f64 / 1000.0)).collect();
            if let Some((median, least, most)) = spread(&gaps) {
                writeln!(f, "{name:<22}  median {median:.1} s, {least:.1} to {most:.1} s, of {}", gaps.len())?;
            }
        }
        writeln!(f, "without any result      {} s at most", seconds(self.silence))?;
        let last = self.latencies.len().saturating_sub(1) as f64;
        let quantile = |share: f64| self.latencies.get((last * share) as usize).map_or_else(|| "-".to_owned(), |millis| seconds(*millis));
        writeln!(
            f,
            "window's end to result  p50 {} s, p99 {} s; {MAX_DELAY} s of it is for records that come late",
            quantile(0.5),
            quantile(0.99)
        )?;
        writeln!(f, "the refused change      {}", self.refusal)
    }

    fn write_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.records as f64 * 1000.0 / self.load_millis.max(1) as f64;
        writeln!(
            f,
            "records                 {} in {} s: {rate:.0}/s of {}/s; the one that was furthest behind its time was sent {} s late",
            self.records,
            seconds(self.load_millis),
            self.sizes.rate,
            seconds(self.late)
        )?;
        let cpu = self.cpu;
        if cpu.processes > 0 {
            let cost = self.records as f64 / cpu.workers.max(0.01);
            writeln!(f, "CPU of the workers      {:.1} s in {} processes: {cost:.0} records for each second", cpu.workers, cpu.processes)?;
        }
        writeln!(f, "CPU beside              Kafka {:.1} s, load and reader {:.1} s", cpu.kafka, cpu.own)
    }
}

fn seconds(millis: u64) -> String {
    format!("{:.1}", millis as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_stands_beside_every_event_that_may_have_caused_it() {
        let event = |at| Event { at, what: What::Kill, text: String::new() };
        let gap = |from, until| Gap { from, until };
        let gaps = [gap(0, 1000), gap(1000, 2100), gap(2100, 9000), gap(9000, 9000), gap(9000, 13_000), gap(13_000, 14_500)];
        let attributed = attribute(vec![event(500), event(2100), event(8000), event(14_000), event(15_000)], &gaps);
        let longest: Vec<_> = attributed.iter().map(|(_, gap)| *gap).collect();
        assert_eq!(longest, [Some(gaps[1]), Some(gaps[2]), Some(gaps[2]), Some(gaps[5]), None]);
    }
}
