//! From Kafka to Kafka and to Parquet: CPU for each record with Millrace, Kafka Streams and Flink, and how long a record takes. Prints goal beside measured; asserts nothing of speed.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use millrace_tests::drain::latency::{self, Carries, Latencies, Load};
use millrace_tests::drain::{Counter, Drained, Goes, Kind, PARTITIONS, Worker, fill, fill_keys, manifest, rivals, watch};
use millrace_tests::image::{self, Image, Profile};
use millrace_tests::measure::{self, circumstances, spread};
use millrace_tests::nexmark::flink::Flink;
use millrace_tests::servers::{Kafka, Moto};

/// Measures pipelines that begin at Kafka.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these, as in `T3,L1`.
    #[arg(long, value_delimiter = ',', value_parser = ["T3", "T4", "T5", "L1", "L3", "L4"])]
    only: Vec<String>,
    /// Records of a drain; CPU is counted from the first third on.
    #[arg(long, default_value_t = 3_000_000)]
    records: u64,
    /// Runs of each engine, interleaved.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Measure Millrace alone.
    #[arg(long)]
    without_rivals: bool,
    /// Take this `millrace` instead of building one.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Records a second whose latency is measured.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Seconds of that.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Keys whose state is stored while latency is measured; about 250 bytes each.
    #[arg(long, default_value_t = 4_000_000)]
    keys: u64,
}

/// Keys of the windows.
const WINDOW_KEYS: u64 = 10_000;
/// Part of the keys whose state is stored: long, so that fewer make a gigabyte.
const LONG_CHANNEL: &str = "channel-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-\
                            0123456789-0123456789-0123456789-0123456789-0123456789";
/// Seconds between epochs while latency is measured, and where there is to be none.
const INTERVALS: [u32; 2] = [3600, 10];
/// Updates a second of them: more would wait for the broker on two cores.
const MOST_UPDATES: u64 = 5_000;

/// What is measured in, and with.
struct Bench {
    arguments: Arguments,
    program: PathBuf,
    kafka: Kafka,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = arguments.program.clone().map_or_else(|| image::build(Image::Worker, Profile::Release), Ok)?;
    println!("from Kafka 4.1, one broker on the same machine, {PARTITIONS} partitions; on {}", circumstances()?);
    let bench = Bench { arguments, program, kafka: Kafka::start().await? };
    if measure::wants(&bench.arguments.only, "T3") {
        bench.filtered().await.context("T3")?;
    }
    if measure::wants(&bench.arguments.only, "T4") {
        bench.same().await.context("T4")?;
    }
    if measure::wants(&bench.arguments.only, "T5") {
        bench.parquet().await.context("T5")?;
    }
    if measure::wants(&bench.arguments.only, "L1") {
        bench.added_latency().await.context("L1")?;
    }
    if measure::wants(&bench.arguments.only, "L3") {
        bench.windows().await.context("L3")?;
    }
    if measure::wants(&bench.arguments.only, "L4") {
        bench.checkpoints().await.context("L4")?;
    }
    Ok(())
}

/// Records for each second of CPU, one figure a run, and the most memory.
#[derive(Default)]
struct Cost {
    rates: Vec<f64>,
    peak_memory: u64,
}

impl Cost {
    /// Adds a run in which `passing` of `records` came out.
    fn add(&mut self, drained: Drained, records: u64, passing: u64) {
        let taken = drained.records as f64 * records as f64 / passing as f64;
        self.rates.push(taken / drained.cpu_seconds.max(0.01));
        self.peak_memory = self.peak_memory.max(drained.peak_memory);
    }

    fn median(&self) -> f64 {
        spread(&self.rates).map_or(f64::NAN, |(median, ..)| median)
    }

    fn text(&self) -> String {
        let memory = if self.peak_memory == 0 { String::new() } else { format!(", peak {} MB", self.peak_memory / 1_000_000) };
        spread(&self.rates).map_or("not measured".to_owned(), |(median, lowest, highest)| {
            format!("{:.0} K/s/core ({:.0}-{:.0}){memory}", median / 1e3, lowest / 1e3, highest / 1e3)
        })
    }
}

impl Bench {
    async fn filled(&self, topic: &str, kind: Kind, records: u64) -> Result<(f64, u64)> {
        self.kafka.create_topic(topic, PARTITIONS).await?;
        fill(&self.kafka, topic, kind, records)
    }

    /// A run of ours from a topic to a new one.
    async fn ours(&self, from: &str, to: &str, goes: Goes<'_>, expected: u64) -> Result<Drained> {
        self.kafka.create_topic(to, PARTITIONS).await?;
        let worker = Worker::start(&self.program, &manifest(&self.kafka, from, goes), &[])?;
        let counter = Counter::new(&self.kafka, to)?;
        let drained = watch(worker.id()?, (expected / 3, expected), async || counter.count()).await;
        drained.with_context(|| format!("millrace: {}", worker.log_tail()))
    }

    /// A run of Kafka Streams from a topic to a new one.
    async fn streams(&self, from: &str, to: &str, what: &str, expected: u64) -> Result<Drained> {
        self.kafka.create_topic(to, PARTITIONS).await?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let streams = rivals::streams(&self.kafka, folder.path(), from, to, what)?;
        let counter = Counter::new(&self.kafka, to)?;
        let drained = watch(streams.id()?, (expected / 3, expected), async || counter.count()).await;
        drained.with_context(|| format!("Kafka Streams: {}", streams.log_tail()))
    }

    async fn filtered(&self) -> Result<()> {
        let records = self.arguments.records;
        let (bytes, passing) = self.filled("bids", Kind::SMALL, records).await?;
        let (mut ours, mut streams, mut flink) = (Cost::default(), Cost::default(), Cost::default());
        let mut session = if self.arguments.without_rivals { None } else { Some(Flink::installed("1g")?.session()?) };
        if let Some(session) = &mut session {
            self.kafka.create_topic("flink-warm", PARTITIONS).await?;
            session.run_script(&rivals::flink_script(&self.kafka, "bids", "flink-warm"))?;
        }
        for run in 0..self.arguments.runs {
            let to = format!("millrace-{run}");
            ours.add(self.ours("bids", &to, Goes::Filtered(&to), passing).await?, records, passing);
            if let Some(session) = &mut session {
                streams.add(self.streams("bids", &format!("streams-{run}"), "bids", passing).await?, records, passing);
                let to = format!("flink-{run}");
                self.kafka.create_topic(&to, PARTITIONS).await?;
                let cpu_seconds = session.run_script(&rivals::flink_script(&self.kafka, "bids", &to))?;
                let arrived = Counter::new(&self.kafka, &to)?.count()?;
                ensure!(arrived == passing, "Flink has written {arrived} records, {passing} should be there");
                flink.add(Drained { records: passing, cpu_seconds, peak_memory: session.peak_memory()? }, records, passing);
            }
        }
        println!(
            "T3  Kafka JSON -> filter, project, cast -> Kafka JSON: {records} records of {bytes:.0} bytes, {passing} come out, at least once, drained; median of {} runs\n\
             \x20   Millrace                      goal >=  950 K/s/core   measured {}\n\
             \x20   Kafka Streams 4.1.1, 1 thread                         measured {}\n\
             \x20   Flink 2.2.1, connector 5.0.0  (warm JVM, whole job)   measured {}",
            self.arguments.runs,
            ours.text(),
            streams.text(),
            flink.text()
        );
        println!("    Millrace / Kafka Streams      goal >=    5x           measured {:.1}x", ours.median() / streams.median());
        println!("    Millrace / Flink              goal >=    8x           measured {:.1}x", ours.median() / flink.median());
        println!("M2  memory of the worker meanwhile goal <=  64 MB         measured {} MB", ours.peak_memory / 1_000_000);
        Ok(())
    }

    async fn same(&self) -> Result<()> {
        let records = self.arguments.records / 4;
        let (bytes, _) = self.filled("large", Kind::LARGE, records).await?;
        let (mut ours, mut streams) = (Cost::default(), Cost::default());
        for run in 0..self.arguments.runs {
            let to = format!("same-millrace-{run}");
            ours.add(self.ours("large", &to, Goes::Same(&to), records).await?, records, records);
            if !self.arguments.without_rivals {
                streams.add(self.streams("large", &format!("same-streams-{run}"), "same", records).await?, records, records);
            }
        }
        println!(
            "T4  Kafka -> Kafka, everything as it is: {records} records of {bytes:.0} bytes\n\
             \x20   Millrace                      goal >=    1 GB/s/core  measured {:.2} GB/s/core, {}\n\
             \x20   Redpanda Connect, published   345 K/s/core: goal >= 3x  measured {:.1}x\n\
             \x20   Kafka Streams 4.1.1, 1 thread                         measured {:.2} GB/s/core, {}",
            ours.median() * bytes / 1e9,
            ours.text(),
            ours.median() / 345e3,
            streams.median() * bytes / 1e9,
            streams.text()
        );
        Ok(())
    }

    async fn parquet(&self) -> Result<()> {
        let records = self.arguments.records / 4;
        let (bytes, _) = self.filled("larger", Kind::LARGER, records).await?;
        let moto = Moto::start().await?;
        let mut cost = Cost::default();
        for run in 0..self.arguments.runs {
            let bucket = format!("lake-{run}");
            moto.create_bucket(&bucket).await?;
            let worker = Worker::start(&self.program, &manifest(&self.kafka, "larger", Goes::Parquet(&moto, &bucket)), &moto.env())?;
            let drained = watch(worker.id()?, (records / 3, records), async || Ok(worker.metric("millrace_records_in_total").await)).await;
            cost.add(drained.with_context(|| format!("millrace: {}", worker.log_tail()))?, records, records);
        }
        println!(
            "T5  Kafka JSON -> Parquet, zstd, on S3 (moto): {records} records of {bytes:.0} bytes\n\
             \x20   Millrace                      goal >=  220 K/s/core   measured {}\n\
             \x20   Redpanda Connect, published   82-92 K/s/vCPU on Graviton 4: goal >= 2.5x  measured {:.1}x",
            cost.text(),
            cost.median() / 87e3
        );
        Ok(())
    }

    fn load(&self) -> Load {
        Load {
            rate: self.arguments.rate,
            warm: Duration::from_secs(10),
            kept: Duration::from_secs(self.arguments.seconds),
            keys: WINDOW_KEYS,
            channel: "Google",
            partitions: PARTITIONS,
        }
    }

    /// The same in one partition: what tells that a window is over is the next record, and of several partitions the next in each.
    fn in_one_partition(&self) -> Load {
        Load { partitions: 1, ..self.load() }
    }

    /// A worker that has taken everything in that is there.
    async fn running(&self, from: &str, goes: Goes<'_>) -> Result<Worker> {
        Worker::start(&self.program, &manifest(&self.kafka, from, goes), &[])
    }

    async fn added_latency(&self) -> Result<()> {
        let load = self.load();
        for topic in ["due", "filtered", "due-relayed", "relayed"] {
            self.kafka.create_topic(topic, load.partitions).await?;
        }
        let worker = self.running("due", Goes::Filtered("filtered")).await?;
        let ours = self.through("due", "filtered")?;
        drop(worker);
        let stop = AtomicBool::new(false);
        let relayed = thread::scope(|scope| {
            let relay = scope.spawn(|| latency::relay(&self.kafka, "due-relayed", "relayed", load.partitions, &stop));
            let measured = self.through("due-relayed", "relayed");
            stop.store(true, Ordering::Release);
            relay.join().map_err(|_| anyhow!("the relay has failed"))??;
            measured
        })?;
        println!(
            "L1  added latency, Kafka -> filter -> Kafka: open loop, {} records/s in steps of 1 ms for {} s; broker, load and worker on the same cores, with whatever else runs there",
            load.rate, self.arguments.seconds
        );
        for (name, share, goal) in [("p50", 0.5, 0.3), ("p99", 0.99, 1.5), ("p99.9", 0.999, 5.0)] {
            let added = |(null, through): &(Latencies, Latencies)| through.quantile(share) - null.quantile(share);
            println!(
                "    {name:5}                         goal <=  {goal:3.1} ms         measured {:.2} ms ({:.2} through the worker, {:.2} without); a relay of librdkafka, as it is: {:.2} ms",
                added(&ours),
                ours.1.quantile(share),
                ours.0.quantile(share),
                added(&relayed)
            );
        }
        Ok(())
    }

    /// Latencies of what goes into a topic, before and after whatever takes it to the other one.
    fn through(&self, from: &str, to: &str) -> Result<(Latencies, Latencies)> {
        let read = [(from, Carries::Due), (to, Carries::Due)];
        let arrived = tokio::task::block_in_place(|| latency::measure(&self.kafka, from, self.load(), &read))?;
        let [null, through] = <[_; 2]>::try_from(arrived).map_err(|_| anyhow!("latencies of two topics"))?;
        Ok((null.read, through.read))
    }

    /// How much longer a record takes while a large state is stored every few seconds than while it never is.
    async fn checkpoints(&self) -> Result<()> {
        let (keys, load) = (self.arguments.keys, self.load());
        let load = Load { rate: load.rate.min(MOST_UPDATES), keys, channel: LONG_CHANNEL, ..load };
        let mut measured = Vec::new();
        let mut state = 0;
        for interval in INTERVALS {
            let (from, to) = (format!("updates-{interval}"), format!("totals-{interval}"));
            for topic in [&from, &to] {
                self.kafka.create_topic(topic, PARTITIONS).await?;
            }
            tokio::task::block_in_place(|| fill_keys(&self.kafka, &from, keys, LONG_CHANNEL))?;
            let worker = self.running(&from, Goes::Totalled(&to, interval)).await?;
            let taken = async || Ok(worker.metric("millrace_records_in_total").await);
            watch(worker.id()?, (keys / 3, keys), taken).await.with_context(|| format!("millrace: {}", worker.log_tail()))?;
            let latencies = tokio::task::block_in_place(|| latency::measure(&self.kafka, &from, load, &[(&to, Carries::Due)]))?;
            state = measure::peak_memory(worker.id()?)?.max(state);
            measured.extend(latencies.into_iter().map(|arrived| arrived.read));
        }
        let [without, with] = measured.as_slice() else { anyhow::bail!("latencies of two runs") };
        println!(
            "L4  a total of each of {keys} keys, {} updates/s for {} s: while all of it is stored every {} s, and without; the worker's peak {} MB",
            load.rate,
            self.arguments.seconds,
            INTERVALS[1],
            state / 1_000_000
        );
        println!(
            "    p99                           goal <=  1.2x           measured {:.1}x ({:.1} ms with, {:.1} without; p50 {:.1} and {:.1}, longest {:.0} and {:.0})",
            with.quantile(0.99) / without.quantile(0.99),
            with.quantile(0.99),
            without.quantile(0.99),
            with.quantile(0.5),
            without.quantile(0.5),
            with.quantile(1.0),
            without.quantile(1.0)
        );
        Ok(())
    }

    async fn windows(&self) -> Result<()> {
        let load = self.in_one_partition();
        self.kafka.create_topic("timed", load.partitions).await?;
        self.kafka.create_topic_with("counted", load.partitions, &[latency::APPEND_TIME]).await?;
        let worker = self.running("timed", Goes::Counted("counted")).await?;
        let read = [("timed", Carries::Due), ("counted", Carries::WindowEnd)];
        let before = measure::cpu_seconds(worker.id()?)?;
        let arrived = tokio::task::block_in_place(|| latency::measure(&self.kafka, "timed", load, &read))?;
        let cpu = (measure::cpu_seconds(worker.id()?)? - before) / (load.warm + load.kept).as_secs_f64();
        let [null, results] = arrived.as_slice() else { anyhow::bail!("latencies of two topics") };
        println!(
            "L3  results of windows of 1 s over 10,000 keys, from the end of the window until they are in the topic: {} records/s in steps of 1 ms to one partition for {} s, {} results\n\
             \x20   p99                           goal <=  5.0 ms         measured {:.1} ms (p50 {:.1}, p90 {:.1}; until a reader has taken them one by one p50 {:.1}, p99 {:.1}; a record alone p50 {:.2}, p99 {:.2})\n\
             \x20   CPU of the worker                                     measured {:.0} ms a second",
            load.rate,
            self.arguments.seconds,
            results.read.count(),
            results.appended.quantile(0.99),
            results.appended.quantile(0.5),
            results.appended.quantile(0.9),
            results.read.quantile(0.5),
            results.read.quantile(0.99),
            null.read.quantile(0.5),
            null.read.quantile(0.99),
            cpu * 1000.0
        );
        Ok(())
    }
}
