//! Fuzzing on the stable toolchain: mutated inputs for everything that reads bytes from outside. It measures no coverage; its corpora and words are chosen
//! so that mutations get past the first check.
//!
//! ```text
//!  fuzz/corpus/<target>/*  ──▶ mutate ──▶ target ──▶ a panic is caught and its input kept; memory is looked at now and then
//! ```
//!
//! An abort (a stack that overflows, memory that is not to be had) ends the process: the input that did it is in [`Fuzz::last`], written before it is tried.
//! The same seed and number give the same input in every run.

mod mutate;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use mutate::Random;
pub use targets::{Target, targets};

/// Memory that a target may take beside what is there, whatever the input: decoders hold a batch and a record, a planner the tree of its text.
const MEMORY_BYTES: u64 = 512 << 20;
/// Inputs between two looks at the memory.
const BETWEEN_LOOKS: u64 = 256;

/// For how long.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    /// So many inputs.
    Inputs(u64),
    /// As many as there is time for.
    Time(Duration),
}

/// One target with its corpus.
#[derive(Debug)]
pub struct Fuzz {
    target: Target,
    corpus: Vec<Vec<u8>>,
    /// The input that is being tried.
    last: PathBuf,
}

/// What became of it.
#[derive(Debug)]
pub struct Done {
    /// Inputs that were tried.
    pub inputs: u64,
    /// The one that took longest.
    pub slowest: Duration,
    /// The most memory that was taken beside what was there, as far as it was looked at.
    pub memory_bytes: u64,
}

impl Fuzz {
    /// Reads the corpus of a target.
    ///
    /// # Errors
    /// There is none.
    pub fn new(target: Target) -> Result<Self> {
        let folder = corpora().join(target.name);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .with_context(|| format!("read {}", folder.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        let corpus =
            files.iter().map(|file| fs::read(file).with_context(|| format!("read {}", file.display()))).collect::<Result<Vec<_>>>()?;
        ensure!(!corpus.is_empty(), "{} is empty", folder.display());
        let last = std::env::temp_dir().join(format!("millrace-fuzz-{}-{}", std::process::id(), target.name));
        Ok(Self { target, corpus, last })
    }

    /// Where the input lies that is being tried.
    #[must_use]
    pub fn last(&self) -> &Path {
        &self.last
    }

    /// Tries the corpus as it is, and then mutations of it.
    ///
    /// # Errors
    /// The target panics or takes too much memory; the error says where the input is kept.
    #[expect(clippy::disallowed_methods, reason = "how long inputs take is reported; nothing depends on it")]
    pub fn run(&self, seed: u64, effort: Effort) -> Result<Done> {
        let began = Instant::now();
        let mut done = Done { inputs: 0, slowest: Duration::ZERO, memory_bytes: 0 };
        let before = memory_now()?;
        reset_peak();
        let goes_on = |done: &Done| match effort {
            Effort::Inputs(inputs) => done.inputs < inputs + self.corpus.len() as u64,
            Effort::Time(time) => began.elapsed() < time,
        };
        while goes_on(&done) {
            let input = match self.corpus.get(usize::try_from(done.inputs)?) {
                Some(input) => input.clone(),
                None => mutate::mutate(&mut Random::new(seed, done.inputs), &self.corpus, self.target.words),
            };
            fs::write(&self.last, &input).with_context(|| format!("write {}", self.last.display()))?;
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| (self.target.run)(&input)));
            done.slowest = done.slowest.max(started.elapsed());
            done.inputs += 1;
            if outcome.is_err() {
                return Err(self.kept("panics", done.inputs));
            }
            if done.inputs.is_multiple_of(BETWEEN_LOOKS) || !goes_on(&done) {
                done.memory_bytes = done.memory_bytes.max(peak()?.saturating_sub(before));
                if done.memory_bytes > MEMORY_BYTES {
                    let what = format!("takes {} MiB, at one of the last {BETWEEN_LOOKS} inputs or", done.memory_bytes >> 20);
                    return Err(self.kept(&what, done.inputs));
                }
            }
        }
        fs::remove_file(&self.last).with_context(|| format!("remove {}", self.last.display()))?;
        Ok(done)
    }

    fn kept(&self, what: &str, number: u64) -> anyhow::Error {
        anyhow::anyhow!(
            "{} {what} at input {number}, kept in {}; when it is mended, add it to fuzz/corpus",
            self.target.name,
            self.last.display()
        )
    }
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Where a system does not tell, memory is not looked at: then 0.
fn status(field: &str) -> Result<u64> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(0) };
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("/proc has another form than known")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse().context("no number")?;
    Ok(kilobytes << 10)
}

fn memory_now() -> Result<u64> {
    status("VmRSS")
}

fn peak() -> Result<u64> {
    status("VmHWM")
}

/// From here on, the peak is that of what comes. Where that is not allowed, it is that of the whole process, which is no less strict.
fn reset_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}
