//! Nexmark on Millrace and on Flink: are the results equal, in order and out of order, and with `--bench`, what does each query cost. `make nexmark` runs it; it asserts
//! nothing of speed.
#![expect(clippy::print_stdout, reason = "a comparison prints its result")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use millrace_tests::image::{self, Image, Profile};
use millrace_tests::measure;
use millrace_tests::nexmark::flink::Flink;
use millrace_tests::nexmark::generator::{Events, SIZES, Table};
use millrace_tests::nexmark::millrace::Millrace;
use millrace_tests::nexmark::queries::{self, Query};
use millrace_tests::nexmark::report::{self, Line};
use millrace_tests::nexmark::{self, GOLDEN_DISORDER, golden, golden_path};

/// Compares Millrace with Flink on Nexmark.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these, as in `q0,q5`.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// Events. Default 100,000; with --bench 2,000,000; a quarter of that for slow queries, three times that for those that read no bids.
    #[arg(long)]
    events: Option<u64>,
    /// Events for each second of event time.
    #[arg(long)]
    rate: Option<u64>,
    /// Groups of so many events come in random order. Results are compared with 1 and with 1000 unless this says otherwise; 1 is measured.
    #[arg(long)]
    disorder: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Heap of Flink's JVM.
    #[arg(long, default_value = "1g")]
    flink_heap: String,
    /// Measure instead of comparing results: release build, blackhole sinks.
    #[arg(long)]
    bench: bool,
    /// Runs of each query and engine, interleaved; of slow ones half of that.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Events of the run that is subtracted, so that starting and warming up do not count. Default a quarter of the events.
    #[arg(long)]
    warm_events: Option<u64>,
    /// Measure Millrace alone.
    #[arg(long)]
    without_flink: bool,
    /// Take this `millrace` instead of building one.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Write the table of costs to this file too.
    #[arg(long, requires = "bench")]
    write: Option<PathBuf>,
    /// Write the golden results anew, by Flink.
    #[arg(long, conflicts_with_all = ["bench", "events", "rate", "disorder", "seed"])]
    bless: bool,
}

/// A second of events: none is late for either engine.
const DISORDER: u64 = 1000;

impl Arguments {
    fn recorded(&self, count: u64, rate: u64) -> Events {
        Events {
            count,
            rate: self.rate.unwrap_or(rate),
            start: 1_772_323_150_000,
            disorder: self.disorder.unwrap_or(1),
            seed: self.seed,
            sizes: Some(SIZES),
        }
    }

    /// Events whose results are compared: the same in order and out of order.
    fn compared(&self) -> Vec<Events> {
        let events = self.recorded(if self.bench { 100_000 } else { self.events.unwrap_or(100_000) }, 1000);
        let shuffled = Events { disorder: DISORDER, ..events };
        if self.disorder.is_some() { vec![events] } else { vec![events, shuffled] }
    }

    /// Events that are measured.
    fn measured(&self, count: u64) -> Events {
        self.recorded(count, 10_000)
    }

    fn millrace(&self, profile: Profile) -> Result<Millrace> {
        let built = || image::build(Image::Worker, profile);
        Ok(Millrace::new(self.program.clone().map_or_else(built, Ok)?))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut chosen = queries::all()?;
    for name in &arguments.queries {
        ensure!(chosen.iter().any(|query| query.name == *name), "there is no query {name}");
    }
    chosen.retain(|query| arguments.queries.is_empty() || arguments.queries.contains(&query.name));
    if arguments.bless {
        bless(&arguments, &chosen)
    } else if arguments.bench {
        bench(&arguments, &chosen)
    } else {
        compare(&arguments, &chosen)
    }
}

fn described(events: &Events) -> String {
    format!(
        "{} events, {} for each second of event time, person : auction : bid 1 : 3 : 46, disorder {}, seed {}",
        events.count, events.rate, events.disorder, events.seed
    )
}

fn configured(arguments: &Arguments) -> String {
    format!(
        "Flink 2.2.1: one JVM with a heap of {}, one slot, state on the heap, mini-batch 2 s; both: files of JSON lines, a checkpoint every {} s, state kept {} s",
        arguments.flink_heap,
        nexmark::CHECKPOINT_SECONDS,
        nexmark::STATE_TTL_SECONDS
    )
}

/// Writes what Flink answers, in order and out of order.
fn bless(arguments: &Arguments, chosen: &[Query]) -> Result<()> {
    let flink = Flink::installed(&arguments.flink_heap)?;
    let compared: Vec<&Query> = chosen.iter().collect();
    let ordered = flink.results(&compared, &nexmark::record(&golden(1))?)?;
    let shuffled = flink.results(&compared, &nexmark::record(&golden(GOLDEN_DISORDER))?)?;
    for ((query, ordered), shuffled) in compared.iter().zip(ordered).zip(shuffled) {
        let (ordered, shuffled) = match (ordered, shuffled) {
            (Ok(ordered), Ok(shuffled)) => (ordered, shuffled),
            (Err(why), _) | (_, Err(why)) => {
                println!("{:4} Flink refuses it: {why}", query.name);
                continue;
            }
        };
        let path = golden_path(&query.name, 1);
        let own = path.with_file_name("disorder").join(format!("{}.jsonl", query.name));
        for folder in [path.parent(), own.parent()].into_iter().flatten() {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        std::fs::write(&path, ordered.text()).with_context(|| format!("write {}", path.display()))?;
        if own.exists() {
            std::fs::remove_file(&own).with_context(|| format!("remove {}", own.display()))?;
        }
        let differs = shuffled != ordered;
        if differs {
            std::fs::write(&own, shuffled.text()).with_context(|| format!("write {}", own.display()))?;
        }
        println!("{:4} {:6} rows{}", query.name, ordered.count(), if differs { ", others out of order" } else { "" });
    }
    Ok(())
}

/// What became of a comparison.
enum Outcome {
    Equal(u64),
    Different(String),
    /// By Millrace.
    Refused(String),
    /// There is nothing to compare with, and why.
    NotCompared(String),
}

impl Outcome {
    /// In a word, for the table.
    fn word(&self) -> &'static str {
        match self {
            Self::Equal(_) => "yes",
            Self::Different(_) => "**NO**",
            Self::Refused(_) => "refused",
            Self::NotCompared(_) => "-",
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(rows) => write!(f, "equal, {rows} rows"),
            Self::Different(how) => write!(f, "DIFFERENT: {how}"),
            Self::Refused(why) => write!(f, "Millrace refuses it: {why}"),
            Self::NotCompared(why) => write!(f, "not compared: {why}"),
        }
    }
}

/// Runs every query on both engines, over each of the recordings. What becomes of a query is what is worst of it.
fn outcomes(chosen: &[Query], recordings: &[Events], flink: &Flink, millrace: &Millrace) -> Result<BTreeMap<String, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for events in recordings {
        println!("{}", described(events));
        compare_all(chosen, events, flink, millrace, &mut outcomes)?;
    }
    Ok(outcomes)
}

fn compare_all(
    chosen: &[Query],
    events: &Events,
    flink: &Flink,
    millrace: &Millrace,
    outcomes: &mut BTreeMap<String, Outcome>,
) -> Result<()> {
    let folder = nexmark::record(events)?;
    let compared: Vec<&Query> = chosen.iter().collect();
    let expected = flink.results(&compared, &folder)?;
    for (query, expected) in compared.into_iter().zip(expected) {
        let outcome = match (expected, millrace.results(query, &folder)) {
            (Err(why), _) => Outcome::NotCompared(format!("Flink refuses it: {why}")),
            (Ok(_), Ok(Err(why))) => Outcome::Refused(why),
            (Ok(_), Err(error)) => Outcome::Different(format!("Millrace fails: {error:#}")),
            (Ok(expected), Ok(Ok(actual))) => {
                let rows = actual.count();
                query.compared(actual)?.difference(&expected).map_or(Outcome::Equal(rows), Outcome::Different)
            }
        };
        println!("{:4} {outcome}", query.name);
        match outcomes.entry(query.name.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(outcome)),
            Entry::Occupied(mut entry) if matches!(entry.get(), Outcome::Equal(_)) => drop(entry.insert(outcome)),
            Entry::Occupied(_) => {}
        }
    }
    Ok(())
}

/// Compares the results; fails if one differs.
fn compare(arguments: &Arguments, chosen: &[Query]) -> Result<()> {
    let events = arguments.compared();
    println!("{}", configured(arguments));
    let outcomes = outcomes(chosen, &events, &Flink::installed(&arguments.flink_heap)?, &arguments.millrace(Profile::for_tests())?)?;
    let count = |of: fn(&Outcome) -> bool| outcomes.values().filter(|outcome| of(outcome)).count();
    let different = count(|outcome| matches!(outcome, Outcome::Different(_)));
    println!(
        "{} equal, {different} different, {} refused by Millrace, {} not compared",
        count(|outcome| matches!(outcome, Outcome::Equal(_))),
        count(|outcome| matches!(outcome, Outcome::Refused(_))),
        count(|outcome| matches!(outcome, Outcome::NotCompared(_)))
    );
    ensure!(different == 0, "results differ");
    Ok(())
}

/// Compares, then measures, and prints a table; writes it to a file too if it is whole.
fn bench(arguments: &Arguments, chosen: &[Query]) -> Result<()> {
    let circumstances = measure::circumstances()?;
    let millrace = arguments.millrace(Profile::Release)?;
    let flink = if arguments.without_flink { None } else { Some(Flink::installed(&arguments.flink_heap)?) };
    let compared = arguments.compared();
    let equal = match &flink {
        Some(flink) => outcomes(chosen, &compared, flink, &millrace)?,
        None => BTreeMap::new(),
    };
    let mut lines = Vec::new();
    println!("{}", report::head());
    for query in chosen {
        let line = Line {
            equal: equal.get(&query.name).map_or("-", Outcome::word).to_owned(),
            ..cost(arguments, query, &millrace, flink.as_ref())?
        };
        println!("{}", line.row());
        lines.push(line);
    }
    let means = report::means(&lines);
    println!("\n{means}");
    if let Some(path) = &arguments.write {
        let rows: String = lines.iter().map(|line| line.row() + "\n").collect();
        let notes: String = equal
            .iter()
            .filter(|(_, outcome)| !matches!(outcome, Outcome::Equal(_)))
            .map(|(name, outcome)| format!("* {name}: {outcome}\n"))
            .collect();
        let text = format!(
            "# Nexmark, measured\n\nBy `make nexmark` on {circumstances}, {} when it ended.\n\n{}\n{}\n{rows}\n{means}\n{}\n{notes}",
            measure::load()?,
            explained(arguments),
            report::head(),
            format_args!("Equal: sorted changelogs of {}.", compared.iter().map(described).collect::<Vec<_>>().join("; and of "))
        );
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// What a figure is, and under which conditions it was taken.
fn explained(arguments: &Arguments) -> String {
    format!(
        "* Figures are events of the tables that a query reads for each CPU-second (user and system, all threads) of the engine: (N2 − N1) ÷ (CPU2 − CPU1), so that starting, \
         planning and the first compilation count for neither. Median of {} rounds, of slow queries {} (lowest–highest), both engines in turn.\n\
         * Both read the same recorded JSON lines and write nowhere. {}.\n\
         * {}.\n\
         * Flink runs every query once over N2 before the first round, in the JVM that is measured: JIT has done most of its work. Its figure includes JobManager and TaskManager.\n\
         * Delivery: neither sink keeps anything. Runs that are shorter than the interval complete no checkpoint. State of Millrace is in memory, as Flink's is on the heap.\n\
         * Peak is `VmHWM` of the whole process; for Flink that of its JVM over all runs of the query, bounded by the heap it is given.\n",
        arguments.runs,
        arguments.runs.div_ceil(2),
        described(&arguments.measured(0)).split_once(", ").map_or(String::new(), |(_, shape)| shape.to_owned()),
        configured(arguments)
    )
}

/// What one query costs.
fn cost(arguments: &Arguments, query: &Query, millrace: &Millrace, flink: Option<&Flink>) -> Result<Line> {
    let large = if report::is_slow(&query.name) { 500_000 } else { 2_000_000 };
    // Of people and auctions there are few: a difference of some milliseconds would say nothing.
    let large = arguments.events.unwrap_or(if query.inputs.contains(&Table::Bid) { large } else { large * 3 });
    let small = arguments.warm_events.unwrap_or(large / 4);
    ensure!(small < large, "the run that is subtracted must be the shorter one");
    let mut line = Line { query: query.name.clone(), events: (small, large), ..Line::default() };
    let (small, large) = (arguments.measured(small), arguments.measured(large));
    let lines = |events: &Events| query.inputs.iter().map(|table| events.of(*table)).sum::<u64>();
    let (few, many) = (lines(&small), lines(&large));
    let more = (many - few) as f64;
    let (small, large) = (nexmark::record(&small)?, nexmark::record(&large)?);
    let mut session = match flink {
        Some(flink) => {
            let mut session = flink.session()?;
            // A query that Flink refuses is measured without it.
            session.run(query, &large).map(|_| session).map_err(|error| println!("{error:#}")).ok()
        }
        None => None,
    };
    let runs = if report::is_slow(&query.name) { arguments.runs.div_ceil(2) } else { arguments.runs };
    for _ in 0..runs {
        if let (Ok(short), Ok(long)) = (millrace.measure(query, &small, few)?, millrace.measure(query, &large, many)?) {
            line.ours.rates.push(more / (long.cpu_seconds - short.cpu_seconds).max(0.001));
            line.ours.peak_memory = line.ours.peak_memory.max(long.peak_memory);
        }
        if let Some(session) = &mut session {
            let short = session.run(query, &small)?;
            line.theirs.rates.push(more / (session.run(query, &large)? - short).max(0.01));
            line.theirs.peak_memory = session.peak_memory()?;
        }
    }
    Ok(line)
}
