//! What a task shows of itself: written by the driver, read by reports and metrics. It never influences the task.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millrace_crds::report::{ErrorReason, TaskPhase, TaskRef, TaskReport, Trouble, TroublePart};

use tokio::sync::Notify;

use crate::connector::{ConnectorError, Health};
use crate::source::Lag;

/// A part of a task that can be in trouble.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// The source, by the name of its object.
    Source(String),
    /// A sink, by the name of its object.
    Sink(String),
    /// The checkpoint store.
    State,
    /// The task itself.
    Task,
}

/// Counters and state of one task. Shared between driver and reporter.
#[derive(Debug, Default)]
pub struct Observed {
    /// Records taken in, good and bad.
    pub records_in: AtomicU64,
    /// Rows handed to writers, over all outputs.
    pub records_out: AtomicU64,
    /// Records dead-lettered.
    pub dead_lettered: AtomicU64,
    /// Records dropped by policy.
    pub dropped: AtomicU64,
    /// Uncompressed bytes taken in.
    pub bytes_in: AtomicU64,
    /// Generation, once claimed.
    pub generation: AtomicU64,
    /// Last committed epoch.
    pub epoch: AtomicU64,
    /// Bytes that the state takes, about.
    pub state_bytes: AtomicU64,
    /// Bytes that state takes in a tier, because it has no room in memory.
    pub spilled_bytes: AtomicU64,
    /// Bytes that telling apart the rows of the last epoch's state takes; a part of what the state takes.
    pub stored_rows_bytes: AtomicU64,
    /// How often the task has failed.
    pub failed: AtomicU64,
    /// When it was found complete, milliseconds since 1970; 0 before the first.
    pub epoch_at_millis: AtomicI64,
    changed: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Option<TaskPhase>,
    lag: Lag,
    stateful: bool,
    watermark: Option<i64>,
    parts: BTreeMap<Part, Vec<Health>>,
    failures: BTreeMap<Part, (ErrorReason, String)>,
    since: BTreeMap<Part, i64>,
}

/// A copy of [`Observed`] at one moment, for reports.
pub type Snapshot = TaskReport;

impl Observed {
    /// Of a task that has not begun. `changed` is told when it does something else, fails, or has recovered; tasks may share it.
    #[must_use]
    pub fn telling(changed: Arc<Notify>) -> Self {
        Self { changed, ..Self::default() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets what the task is doing.
    pub fn set_phase(&self, phase: TaskPhase) {
        if self.with(|state| state.phase.replace(phase)) != Some(phase) {
            self.changed.notify_one();
        }
    }

    /// Sets how far behind the reader is.
    pub fn set_lag(&self, lag: Lag) {
        self.with(|state| state.lag = lag);
    }

    /// Sets how far event time has come, microseconds since 1970. Only of tasks that keep state.
    pub fn set_watermark(&self, watermark: Option<i64>) {
        self.with(|state| (state.stateful, state.watermark) = (true, watermark));
    }

    /// A handle for one part of a task that starts: what it reports appears in snapshots until [`Observed::restart`].
    pub fn health(&self, part: Part) -> Health {
        let health = Health::default();
        self.with(|state| state.parts.entry(part).or_default().push(health.clone()));
        health
    }

    /// Forgets the handles of the last run; its failure stays until [`Observed::recovered`].
    pub fn restart(&self) {
        self.with(|state| state.parts.clear());
    }

    /// The task failed because of `part`.
    pub fn failed(&self, part: Part, error: &ConnectorError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.with(|state| drop(state.failures.insert(part, (error.reason, describe(error)))));
        self.changed.notify_one();
    }

    /// The task has made progress again: an epoch closed, or everything opened.
    pub fn recovered(&self) {
        if !self.with(|state| std::mem::take(&mut state.failures)).is_empty() {
            self.changed.notify_one();
        }
    }

    /// The task as of now. `now` in milliseconds since 1970.
    pub fn snapshot(&self, task: &TaskRef, now: i64) -> Snapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (phase, lag, troubles) = self.with(|state| (state.phase, state.lag, state.troubles(now)));
        let (stateful, watermark) = self.with(|state| (state.stateful, state.watermark));
        let at = self.epoch_at_millis.load(Ordering::Relaxed);
        TaskReport {
            task: task.clone(),
            phase: phase.unwrap_or(TaskPhase::Claiming),
            generation: count(&self.generation),
            epoch: count(&self.epoch),
            epoch_at_millis: (at > 0).then_some(at),
            records_in: count(&self.records_in),
            records_out: count(&self.records_out),
            dead_lettered: count(&self.dead_lettered),
            dropped: count(&self.dropped),
            bytes_in: count(&self.bytes_in),
            lag_records: lag.records,
            lag_seconds: lag.seconds,
            idle: lag.idle,
            watermark_millis: watermark.map(|micros| micros.div_euclid(1000)),
            state_bytes: stateful.then(|| count(&self.state_bytes)),
            spilled_bytes: Some(count(&self.spilled_bytes)).filter(|bytes| *bytes > 0),
            failures: Some(count(&self.failed)).filter(|times| *times > 0),
            troubles,
        }
    }
}

impl State {
    /// Everything that is wrong now, each since it was first seen wrong without a break.
    fn troubles(&mut self, now: i64) -> Vec<Trouble> {
        let mut current: BTreeMap<Part, (ErrorReason, String)> = self.failures.clone();
        for (part, handles) in &self.parts {
            if let Some(trouble) = handles.iter().find_map(Health::current) {
                current.insert(part.clone(), (trouble.reason, trouble.message));
            }
        }
        self.since.retain(|part, _| current.contains_key(part));
        current
            .into_iter()
            .map(|(part, (reason, message))| {
                let since_millis = *self.since.entry(part.clone()).or_insert(now);
                let (part, name) = match part {
                    Part::Source(name) => (TroublePart::Source, name),
                    Part::Sink(name) => (TroublePart::Sink, name),
                    Part::State => (TroublePart::State, String::new()),
                    Part::Task => (TroublePart::Task, String::new()),
                };
                Trouble { part, name, reason, message, since_millis }
            })
            .collect()
    }
}

/// The message of an error with those below it, on one line.
fn describe(error: &ConnectorError) -> String {
    let mut text = error.message.clone();
    let mut below = std::error::Error::source(error);
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        below = cause.source();
    }
    text
}
