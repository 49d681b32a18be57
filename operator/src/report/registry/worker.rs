//! What is known of one worker: its last report, and since when things are as they are, on our own clock. No worker is compared with another here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_crds::report::{Assignment, Report, TaskPhase, TaskRef, TaskReport, Trouble, TroublePart};
use tokio::time::Instant;

use super::waiting::Line;

/// What is known of one worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerFact {
    /// Its last report.
    pub(crate) report: Arc<Report>,
    /// Its tasks.
    pub(crate) tasks: Vec<TaskFact>,
    /// Everything that is wrong with it.
    pub(crate) troubles: Vec<TroubleFact>,
    /// How long ago records were last seen to be dead-lettered.
    pub(crate) dead_lettered: Option<Duration>,
}

/// What is known of one task.
#[derive(Clone, Debug)]
pub(crate) struct TaskFact {
    /// As reported.
    pub(crate) report: TaskReport,
    /// For how long its counters have not moved.
    pub(crate) still: Duration,
    /// How long ago its last epoch was seen to be closed; if none was, how long ago the task was first seen.
    pub(crate) epoch_age: Duration,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct TroubleFact {
    /// As reported.
    pub(crate) trouble: Trouble,
    /// For how long we have been told of it.
    pub(crate) lasts: Duration,
}

/// One worker.
#[derive(Debug)]
pub(in crate::report) struct Seen {
    pub(in crate::report) report: Arc<Report>,
    /// The answer to that report; for the moment of deciding on it, what was told before.
    pub(in crate::report) told: Assignment,
    /// When that report arrived.
    pub(super) received: Instant,
    pub(super) line: Line,
    /// Whether it was told something else than it should hold now.
    pub(super) rings: bool,
    tasks: BTreeMap<TaskRef, Progress>,
    troubles: BTreeMap<(u8, String), Instant>,
    dead_lettered: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    counters: [u64; 4],
    moved: Instant,
    epoch_at: Option<i64>,
    epoch_moved: Instant,
}

impl Seen {
    /// After a report; `before`: what was known of the worker.
    pub(super) fn new(report: Report, before: Option<Self>, now: Instant) -> Self {
        let (old_tasks, old_troubles, told, dead_lettered, line) =
            before.map_or_else(Default::default, |seen| (seen.tasks, seen.troubles, seen.told, seen.dead_lettered, seen.line));
        // What it was told before it has by now, and says so, or it never will.
        let told = Assignment { tasks: Vec::new(), ..told };
        let more_dead = report.tasks.iter().any(|task| task.dead_lettered > old_tasks.get(&task.task).map_or(0, |known| known.counters[3]));
        let tasks = report.tasks.iter().map(|task| (task.task.clone(), Progress::of(task, old_tasks.get(&task.task), now))).collect();
        let troubles = troubles(&report).map(|trouble| {
            let slot = trouble_slot(trouble);
            let since = old_troubles.get(&slot).copied().unwrap_or(now);
            (slot, since)
        });
        let troubles = troubles.collect();
        Self {
            told,
            received: now,
            line: line.heard(now),
            rings: false,
            tasks,
            troubles,
            dead_lettered: if more_dead { Some(now) } else { dead_lettered },
            report: Arc::new(report),
        }
    }

    /// What it held, or was told to, and had not finished.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = TaskRef> {
        let finished = |task: &TaskRef| self.report.tasks.iter().any(|t| t.task == *task && t.phase == TaskPhase::Finished);
        let held = self.report.tasks.iter().map(|t| &t.task).chain(&self.told.tasks);
        held.filter(move |task| !finished(task)).cloned()
    }

    /// What is known at a moment.
    pub(super) fn fact(&self, now: Instant) -> WorkerFact {
        let task = |task: &TaskReport| {
            let progress = self.tasks.get(&task.task);
            TaskFact {
                report: task.clone(),
                still: progress.map_or(Duration::ZERO, |p| now - p.moved),
                epoch_age: progress.map_or(Duration::ZERO, |p| now - p.epoch_moved),
            }
        };
        let trouble = |trouble: &Trouble| {
            let since = self.troubles.get(&trouble_slot(trouble)).copied().unwrap_or(now);
            TroubleFact { trouble: trouble.clone(), lasts: now - since }
        };
        WorkerFact {
            report: Arc::clone(&self.report),
            tasks: self.report.tasks.iter().map(task).collect(),
            troubles: troubles(&self.report).map(trouble).collect(),
            dead_lettered: self.dead_lettered.map(|at| now - at),
        }
    }
}

impl Progress {
    fn of(task: &TaskReport, before: Option<&Self>, now: Instant) -> Self {
        let counters = [task.records_in, task.records_out, task.epoch, task.dead_lettered];
        let still = before.filter(|before| before.counters == counters);
        let same_epoch = before.filter(|before| before.epoch_at == task.epoch_at_millis);
        Self {
            counters,
            moved: still.map_or(now, |before| before.moved),
            epoch_at: task.epoch_at_millis,
            epoch_moved: same_epoch.map_or(now, |before| before.epoch_moved),
        }
    }
}

/// Everything that is wrong: with the worker as a whole, then with its tasks.
fn troubles(report: &Report) -> impl Iterator<Item = &Trouble> {
    report.troubles.iter().chain(report.tasks.iter().flat_map(|task| &task.troubles))
}

/// Sources and Sinks in trouble.
pub(super) fn troubled(report: &Report) -> impl Iterator<Item = (TroublePart, String)> {
    let edges = troubles(report).filter(|trouble| matches!(trouble.part, TroublePart::Source | TroublePart::Sink));
    edges.map(|trouble| (trouble.part, trouble.name.clone()))
}

fn trouble_slot(trouble: &Trouble) -> (u8, String) {
    (trouble.part as u8, trouble.name.clone())
}

/// What of a report can make another status; counters are looked at from time to time only.
pub(super) fn signature(report: &Report) -> impl PartialEq + use<'_> {
    let tasks: Vec<_> =
        report.tasks.iter().map(|task| (&task.task, task.phase, task.epoch_at_millis.is_some(), task.dead_lettered > 0)).collect();
    let troubles: Vec<_> = troubles(report).map(|trouble| (trouble_slot(trouble), trouble.reason)).collect();
    let probes: Vec<_> = report.probes.iter().map(|probe| (&probe.name, &probe.result)).collect();
    (report.phase, &report.check, &report.revision, tasks, troubles, probes)
}
