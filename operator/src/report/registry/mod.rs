//! What the workers of every Pipeline reported last, and since when. It is rebuilt from reports after a restart; nothing of it is stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_crds::report::{Assignment, ProbeReport, ProbeResult, Report, TaskPhase, TaskRef, TaskReport, Trouble, TroublePart};
use tokio::time::Instant;

use super::{trouble, view};
use crate::assignment;
use crate::names::Key;

/// A worker that has not reported for as long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// The same for one whose pod is going away: while it closes its last epochs it does not report.
const DEAD_AFTER_TERMINATING: Duration = Duration::from_secs(40);
/// How long workers that were there before this operator are waited for: they report every two seconds. Those that are going away are waited for
/// until they are gone or dead.
const SETTLE: Duration = Duration::from_secs(6);

/// What reconciling a Pipeline found out about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Facts {
    /// UID of the Pipeline.
    pub(crate) uid: String,
    /// Revision of the Job that its Sources and Sinks make now.
    pub(crate) revision: Option<String>,
    /// Whether everything is to be finished.
    pub(crate) drain: bool,
    /// Worker pods by name, those that have ended left out.
    pub(crate) pods: BTreeMap<String, PodLife>,
}

/// Where in its life a worker pod is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PodLife {
    /// Its container has not started.
    Pending,
    /// Its container has started.
    Running,
    /// It is going away.
    Terminating,
}

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The Pipeline has not been looked at since this operator started, or does not exist.
    #[error("this Pipeline is not known yet")]
    UnknownPipeline,
    /// The pod has not been seen yet, or is gone.
    #[error("this worker is not known yet")]
    UnknownWorker,
    /// The Pipeline was deleted and made again.
    #[error("this worker belongs to another Pipeline of the same name")]
    OtherPipeline,
    /// A later report of the same worker has come before.
    #[error("a later report has come before this one")]
    Stale,
}

/// What taking a report led to.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The answer.
    pub(crate) assignment: Assignment,
    /// Whether the Pipeline's status may be another now.
    pub(crate) changed: bool,
    /// Sources and Sinks of which something else is known now.
    pub(crate) endpoints: Vec<(TroublePart, String)>,
}

/// What is known of the workers of one Pipeline at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Live workers that have reported.
    pub(crate) workers: Vec<WorkerFact>,
    /// Whether everything is finished, for draining.
    pub(crate) finished: bool,
    /// Probes of Sources and Sinks.
    pub(crate) probes: Vec<ProbeReport>,
}

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

/// All Pipelines.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<Key, Entry>>);

/// One Pipeline.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    known_since: Instant,
    awaited: BTreeSet<String>,
    pub(super) workers: BTreeMap<String, Seen>,
    pub(super) splits: BTreeMap<String, BTreeSet<String>>,
    pub(super) enumerator: Option<String>,
    pub(super) orphans: BTreeSet<TaskRef>,
    probes: BTreeMap<(bool, String), (ProbeReport, String)>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) report: Arc<Report>,
    /// The answer to that report; for the moment of deciding on it, what was told before.
    pub(super) told: Assignment,
    received: Instant,
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

impl Registry {
    /// Takes note of what reconciling found. Pods that are gone free their tasks at once.
    pub(crate) fn observe(&self, key: &Key, facts: Facts, now: Instant) {
        let mut entries = self.entries();
        match entries.get_mut(key).filter(|entry| entry.facts.uid == facts.uid) {
            Some(entry) => {
                entry.facts = facts;
                entry.expire(now);
            }
            None => drop(entries.insert(key.clone(), Entry::new(facts, now))),
        }
    }

    /// Forgets Pipelines that `exist` does not hold for.
    pub(crate) fn retain(&self, exist: impl Fn(&Key) -> bool) {
        self.entries().retain(|key, _| exist(key));
    }

    /// Takes a report and answers it.
    pub(crate) fn record(&self, report: Report, now: Instant) -> Result<Recorded, Refusal> {
        let key = Key::new(&report.namespace, &report.pipeline);
        let mut entries = self.entries();
        let entry = entries.get_mut(&key).ok_or(Refusal::UnknownPipeline)?;
        entry.expire(now);
        entry.record(report, now)
    }

    /// What is known of a Pipeline's workers.
    pub(crate) fn snapshot(&self, key: &Key, now: Instant) -> Snapshot {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(key) else { return Snapshot::default() };
        entry.expire(now);
        Snapshot {
            workers: entry.workers.values().map(|seen| seen.fact(now)).collect(),
            finished: assignment::finished(&view::of(entry, entry.settled(now))),
            probes: entry.current_probes().cloned().collect(),
        }
    }

    /// What workers that have the present spec of a Source or Sink say of it: trouble that lasts, else their freshest probe.
    pub(crate) fn endpoint(&self, namespace: &str, kind: TroublePart, name: &str, now: Instant) -> Option<ProbeResult> {
        let entries = self.entries();
        let users =
            || entries.iter().filter(|(key, entry)| key.namespace == namespace && !entry.workers.is_empty()).map(|(_, entry)| entry);
        let current =
            users().flat_map(|entry| entry.workers.values().filter(|seen| entry.facts.revision.as_ref() == Some(&seen.report.revision)));
        let troubles = current.flat_map(|seen| seen.fact(now).troubles);
        let of_it = |fact: &TroubleFact| fact.trouble.part == kind && fact.trouble.name == name;
        let worst =
            troubles.into_iter().find(|fact| of_it(fact) && trouble::is_of_the_system(fact.trouble.reason) && trouble::counts(fact));
        if let Some(TroubleFact { trouble, .. }) = worst {
            return Some(ProbeResult::Failed { reason: trouble.reason, message: trouble.message });
        }
        let probes = users().flat_map(Entry::current_probes).filter(|probe| probe.kind == kind && probe.name == name);
        probes.max_by_key(|probe| probe.at_millis).map(|probe| probe.result.clone())
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(facts: Facts, now: Instant) -> Self {
        let awaited = facts.pods.iter().filter(|(_, life)| **life != PodLife::Pending).map(|(name, _)| name.clone()).collect();
        Self {
            facts,
            known_since: now,
            awaited,
            workers: BTreeMap::new(),
            splits: BTreeMap::new(),
            enumerator: None,
            orphans: BTreeSet::new(),
            probes: BTreeMap::new(),
        }
    }

    /// Whether every worker that was there before us has reported, or had the time to.
    fn settled(&self, now: Instant) -> bool {
        let waited = now - self.known_since;
        self.awaited.iter().all(|name| match self.facts.pods.get(name) {
            None => true,
            Some(_) if self.workers.contains_key(name) => true,
            Some(PodLife::Terminating) => waited >= DEAD_AFTER_TERMINATING,
            Some(PodLife::Pending | PodLife::Running) => waited >= SETTLE,
        })
    }

    /// Buries the dead. What they held and had not finished is remembered.
    fn expire(&mut self, now: Instant) {
        let facts = &self.facts;
        let dead = |name: &String, seen: &mut Seen| match facts.pods.get(name) {
            None => true,
            Some(PodLife::Terminating) => now - seen.received >= DEAD_AFTER_TERMINATING,
            Some(PodLife::Pending | PodLife::Running) => now - seen.received >= DEAD_AFTER,
        };
        for (_, seen) in self.workers.extract_if(.., dead) {
            let finished = |task: &TaskRef| seen.report.tasks.iter().any(|t| t.task == *task && t.phase == TaskPhase::Finished);
            let held = seen.report.tasks.iter().map(|t| &t.task).chain(&seen.told.tasks);
            self.orphans.extend(held.filter(|task| !finished(task)).cloned());
        }
    }

    fn record(&mut self, report: Report, now: Instant) -> Result<Recorded, Refusal> {
        if report.pipeline_uid != self.facts.uid {
            return Err(Refusal::OtherPipeline);
        }
        if !self.facts.pods.contains_key(&report.worker) {
            return Err(Refusal::UnknownWorker);
        }
        let worker = report.worker.clone();
        let before = self.workers.remove(&worker);
        // A process that was restarted in its pod starts again at 1.
        if let Some(seen) = before.as_ref().filter(|seen| report.sequence <= seen.report.sequence && report.sequence > 1) {
            tracing::debug!(%worker, sequence = report.sequence, last = seen.report.sequence, "a report came late");
            self.workers.extend(before.map(|seen| (worker, seen)));
            return Err(Refusal::Stale);
        }
        let changed = before.as_ref().is_none_or(|seen| signature(&seen.report) != signature(&report));
        let mut endpoints = self.learn(&report);
        endpoints.extend(before.iter().flat_map(|seen| troubled(&seen.report)).chain(troubled(&report)));
        self.workers.insert(worker.clone(), Seen::new(report, before, now));
        let settled = self.settled(now);
        let mut decided = assignment::decide(&view::of(self, settled));
        let assignment = decided.remove(&worker).unwrap_or_default();
        if assignment.enumerate {
            self.enumerator = Some(worker.clone());
        }
        if let Some(seen) = self.workers.get_mut(&worker) {
            seen.told = assignment.clone();
        }
        let told: BTreeSet<&TaskRef> = assignment.tasks.iter().collect();
        self.orphans.retain(|orphan| !told.contains(orphan));
        Ok(Recorded { assignment, changed, endpoints })
    }

    /// Takes over splits and probes; says of which Sources and Sinks the probe has another result now.
    fn learn(&mut self, report: &Report) -> Vec<(TroublePart, String)> {
        for found in &report.splits {
            self.splits.insert(found.input.clone(), found.splits.iter().cloned().collect());
        }
        let mut probed = Vec::new();
        for probe in &report.probes {
            let slot = (probe.kind == TroublePart::Sink, probe.name.clone());
            let known = self.probes.insert(slot, (probe.clone(), report.revision.clone()));
            if known.is_none_or(|(known, revision)| known.result != probe.result || revision != report.revision) {
                probed.push((probe.kind, probe.name.clone()));
            }
        }
        probed
    }

    fn current_probes(&self) -> impl Iterator<Item = &ProbeReport> {
        self.probes.values().filter(|(_, revision)| self.facts.revision.as_ref() == Some(revision)).map(|(probe, _)| probe)
    }
}

impl Seen {
    fn new(report: Report, before: Option<Self>, now: Instant) -> Self {
        let (old_tasks, old_troubles, told, dead_lettered) =
            before.map_or_else(Default::default, |seen| (seen.tasks, seen.troubles, seen.told, seen.dead_lettered));
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
            tasks,
            troubles,
            dead_lettered: if more_dead { Some(now) } else { dead_lettered },
            report: Arc::new(report),
        }
    }

    fn fact(&self, now: Instant) -> WorkerFact {
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
fn troubled(report: &Report) -> impl Iterator<Item = (TroublePart, String)> {
    let edges = troubles(report).filter(|trouble| matches!(trouble.part, TroublePart::Source | TroublePart::Sink));
    edges.map(|trouble| (trouble.part, trouble.name.clone()))
}

fn trouble_slot(trouble: &Trouble) -> (u8, String) {
    (trouble.part as u8, trouble.name.clone())
}

/// What of a report can make another status; counters are looked at from time to time only.
fn signature(report: &Report) -> impl PartialEq + use<'_> {
    let tasks: Vec<_> =
        report.tasks.iter().map(|task| (&task.task, task.phase, task.epoch_at_millis.is_some(), task.dead_lettered > 0)).collect();
    let troubles: Vec<_> = troubles(report).map(|trouble| (trouble_slot(trouble), trouble.reason)).collect();
    let probes: Vec<_> = report.probes.iter().map(|probe| (&probe.name, &probe.result)).collect();
    (report.phase, &report.check, &report.revision, tasks, troubles, probes)
}

#[cfg(test)]
pub(super) mod tests;
