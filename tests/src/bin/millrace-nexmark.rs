//! Nexmark on Millrace and on Flink: are the results equal, and with `--bench`, what does each query cost. `make nexmark` runs it; it asserts nothing of speed.
#![expect(clippy::print_stdout, reason = "a comparison prints its result")]

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use millrace_tests::image::{self, Image, Profile};
use millrace_tests::nexmark::flink::Flink;
use millrace_tests::nexmark::generator::{Events, SIZES};
use millrace_tests::nexmark::measure::Used;
use millrace_tests::nexmark::millrace::Millrace;
use millrace_tests::nexmark::queries::{self, Query};
use millrace_tests::nexmark::{self, GOLDEN_DISORDER, golden, golden_path};

/// Compares Millrace with Flink on Nexmark.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these, as in `q0,q5`.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// Events. Default 100,000; with --bench 3,000,000.
    #[arg(long)]
    events: Option<u64>,
    /// Events for each second of event time.
    #[arg(long)]
    rate: Option<u64>,
    /// Groups of so many events come in random order.
    #[arg(long, default_value_t = 1)]
    disorder: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Heap of Flink's JVM.
    #[arg(long, default_value = "1g")]
    flink_heap: String,
    /// Measure instead of comparing results: release build, blackhole sinks.
    #[arg(long)]
    bench: bool,
    /// Runs of each query and engine, interleaved.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Events of the run that is subtracted, so that starting and warming up do not count. Default a third of the events.
    #[arg(long)]
    warm_events: Option<u64>,
    /// Measure Millrace alone.
    #[arg(long)]
    without_flink: bool,
    /// Write the golden results anew, by Flink.
    #[arg(long, conflicts_with_all = ["bench", "events", "rate", "disorder", "seed"])]
    bless: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut chosen = queries::all()?;
    for name in &arguments.queries {
        ensure!(chosen.iter().any(|query| query.name == *name), "there is no query {name}");
    }
    chosen.retain(|query| arguments.queries.is_empty() || arguments.queries.contains(&query.name));
    if arguments.bless {
        return bless(&arguments, &chosen);
    }
    let count = arguments.events.unwrap_or(if arguments.bench { 3_000_000 } else { 100_000 });
    let rate = arguments.rate.unwrap_or(if arguments.bench { 10_000 } else { 1000 });
    let events = Events { count, rate, start: 1_772_323_150_000, disorder: arguments.disorder, seed: arguments.seed, sizes: Some(SIZES) };
    println!(
        "{count} events, {rate} for each second of event time ({} s), person : auction : bid 1 : 3 : 46, disorder {}, seed {}",
        count / rate,
        events.disorder,
        events.seed
    );
    println!(
        "Flink 2.2.1: one JVM with a heap of {}, one slot, state on the heap, mini-batch 2 s; both: files of JSON lines, a checkpoint every {} s, state kept {} s",
        arguments.flink_heap,
        nexmark::CHECKPOINT_SECONDS,
        nexmark::STATE_TTL_SECONDS
    );
    if arguments.bench { bench(&arguments, &chosen, &events) } else { compare(&arguments, &chosen, &events) }
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

/// Runs every query on both engines; fails if a result differs.
fn compare(arguments: &Arguments, chosen: &[Query], events: &Events) -> Result<()> {
    let folder = nexmark::record(events)?;
    let flink = Flink::installed(&arguments.flink_heap)?;
    let millrace = Millrace::new(image::build(Image::Worker, Profile::for_tests())?);
    let compared: Vec<&Query> = chosen.iter().collect();
    let expected = flink.results(&compared, &folder)?;
    let (mut equal, mut different, mut refused) = (0, 0, 0);
    for (query, expected) in compared.into_iter().zip(expected) {
        match (expected, millrace.results(query, &folder)) {
            (Err(why), _) => println!("{:4} Flink refuses it: {why}", query.name),
            (Ok(_), Ok(Err(why))) => {
                refused += 1;
                println!("{:4} Millrace refuses it: {why}", query.name);
            }
            (Ok(_), Err(error)) => {
                different += 1;
                println!("{:4} MILLRACE FAILS: {error:#}", query.name);
            }
            (Ok(expected), Ok(Ok(actual))) => match query.compared(actual.clone())?.difference(&expected) {
                None => {
                    equal += 1;
                    let what = if query.totals.is_some() { " in its totals, every run has other" } else { "" };
                    println!("{:4} equal{what}, {} rows", query.name, actual.count());
                }
                Some(difference) => {
                    different += 1;
                    println!("{:4} DIFFERENT: {difference}", query.name);
                }
            },
        }
    }
    println!("{equal} equal, {different} different, {refused} refused by Millrace");
    ensure!(different == 0, "results differ");
    Ok(())
}

/// What one query cost on one engine in one round.
struct Round {
    /// Events for each second of CPU.
    rate: f64,
    /// Bytes.
    memory: u64,
}

/// Goals of Nexmark as ratios to Flink: at least this for each query.
fn goal(query: &str) -> &'static str {
    match query {
        "q0" | "q1" | "q2" => ">= 4x, >= 4 M",
        "q5" | "q7" | "q8" | "q11" | "q12" | "q14" | "q21" | "q22" => ">= 4x (T1: geomean 10x)",
        _ => "T2: geomean 6x",
    }
}

fn bench(arguments: &Arguments, chosen: &[Query], events: &Events) -> Result<()> {
    let warm = Events { count: arguments.warm_events.unwrap_or(events.count / 3), ..events.clone() };
    ensure!(warm.count < events.count, "the run that is subtracted must be the shorter one");
    let (large, small) = (nexmark::record(events)?, nexmark::record(&warm)?);
    let millrace = Millrace::new(image::build(Image::Worker, Profile::Release)?);
    let flink = if arguments.without_flink { None } else { Some(Flink::installed(&arguments.flink_heap)?) };
    println!(
        "events per CPU-second as (N2 - N1) / (CPU2 - CPU1) with N1 = {}; median of {} interleaved runs (lowest - highest); events of the tables that a query reads; peak memory of the larger run",
        warm.count, arguments.runs
    );
    println!(
        "{:4} {:>32} {:>32} {:>7}  {:>9} {:>9}  goal",
        "", "Millrace, K ev/s/core", "Flink, K ev/s/core", "ratio", "Millrace", "Flink"
    );
    for query in chosen {
        let lines = |folder: &Path| query.inputs.iter().map(|table| nexmark::lines(folder, *table)).sum::<Result<u64>>();
        let more = (lines(&large)? - lines(&small)?) as f64;
        let (mut ours, mut theirs, mut refused) = (Vec::new(), Vec::new(), None);
        for _ in 0..arguments.runs {
            match (millrace.measure(query, &small)?, millrace.measure(query, &large)?) {
                (Ok(short), Ok(long)) => ours.push(round(more, &short, &long)),
                (Err(why), _) | (_, Err(why)) => {
                    refused = Some(why);
                    break;
                }
            }
            if let Some(flink) = &flink {
                theirs.push(round(more, &flink.measure(query, &small)?, &flink.measure(query, &large)?));
            }
        }
        if let Some(why) = refused {
            println!("{:4} Millrace refuses it: {why}", query.name);
            continue;
        }
        let ratio = if theirs.is_empty() { "-".to_owned() } else { format!("{:.1}x", median(&ours) / median(&theirs)) };
        let memory = |rounds: &[Round]| {
            rounds.iter().map(|round| round.memory).max().map_or("-".to_owned(), |peak| format!("{} MB", peak / 1_000_000))
        };
        println!(
            "{:4} {:>32} {:>32} {ratio:>7}  {:>9} {:>9}  {}",
            query.name,
            spread(&ours),
            spread(&theirs),
            memory(&ours),
            memory(&theirs),
            goal(&query.name)
        );
    }
    Ok(())
}

fn round(events: f64, short: &Used, long: &Used) -> Round {
    // Ticks of the kernel are 10 ms: a difference below that is none.
    Round { rate: events / (long.cpu_seconds - short.cpu_seconds).max(0.01), memory: long.peak_memory }
}

fn sorted(rounds: &[Round]) -> Vec<f64> {
    let mut rates: Vec<f64> = rounds.iter().map(|round| round.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates
}

fn median(rounds: &[Round]) -> f64 {
    let rates = sorted(rounds);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(rounds: &[Round]) -> String {
    let rates = sorted(rounds);
    match (rates.first(), rates.last()) {
        (Some(lowest), Some(highest)) => format!("{:.0} ({:.0} - {:.0})", median(rounds) / 1e3, lowest / 1e3, highest / 1e3),
        _ => "-".to_owned(),
    }
}
