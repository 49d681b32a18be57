//! What the workers of every Pipeline reported last, and since when. It is rebuilt from reports after a restart; nothing of it is stored.

mod waiting;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millrace_crds::report::{Assignment, ProbeReport, ProbeResult, Report, TaskRef, TroublePart};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use waiting::Wait;
pub(crate) use worker::{TaskFact, TroubleFact, WorkerFact};

use self::waiting::Line;
pub(super) use self::worker::Seen;
use self::worker::{signature, troubled};
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
    /// Its container has ended again and again, and the kubelet waits before it starts the next: ten seconds at first, minutes later.
    BackingOff,
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

/// All Pipelines.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<HashMap<Key, Entry>>,
    /// Numbers of requests that wait.
    tickets: AtomicU64,
    /// Told when the connection of one that waited has broken.
    lost: Notify,
}

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

impl Registry {
    /// Takes note of what reconciling found. Pods that are gone free their tasks at once.
    pub(crate) fn observe(&self, key: &Key, facts: Facts, now: Instant) {
        let mut entries = self.entries();
        match entries.get_mut(key).filter(|entry| entry.facts.uid == facts.uid) {
            Some(entry) => {
                let before = std::mem::replace(&mut entry.facts, facts);
                let fallen = entry.bury_fallen(&before);
                if !entry.expire(now) && (fallen || entry.facts != before) {
                    entry.review(now);
                }
            }
            None => drop(entries.insert(key.clone(), Entry::new(facts, now))),
        }
    }

    /// Forgets Pipelines that `exist` does not hold for.
    pub(crate) fn retain(&self, exist: impl Fn(&Key) -> bool) {
        self.entries().retain(|key, _| exist(key));
    }

    /// Takes a report that arrived at `now`, and answers it.
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
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
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
            Some(PodLife::Terminating) => waited >= DEAD_AFTER_TERMINATING,
            Some(PodLife::Pending | PodLife::Running | PodLife::BackingOff) => waited >= SETTLE,
        })
    }

    /// Buries the dead. If there are any, the others hear of what is free now.
    fn expire(&mut self, now: Instant) -> bool {
        let presumed = self.presumed_dead(now);
        for worker in &presumed {
            tracing::info!(%worker, "its connection broke and it has not come back: its tasks go to others");
        }
        let pods = &self.facts.pods;
        let dead = self.workers.extract_if(.., |name, seen| match pods.get(name) {
            None => true,
            Some(_) if presumed.contains(name) => true,
            Some(PodLife::Terminating) => now - seen.received >= DEAD_AFTER_TERMINATING,
            Some(PodLife::Pending | PodLife::Running | PodLife::BackingOff) => now - seen.received >= DEAD_AFTER,
        });
        let dead: Vec<_> = dead.map(|(_, seen)| seen).collect();
        let any = !dead.is_empty();
        self.bury(dead);
        if any {
            self.review(now);
        }
        any
    }

    /// Buries those whose container is not started again for now; others need not wait until they are silent for long. Only when that is news: the next process
    /// may report before its pod says that it runs.
    fn bury_fallen(&mut self, before: &Facts) -> bool {
        let backs_off = |facts: &Facts, name: &String| facts.pods.get(name) == Some(&PodLife::BackingOff);
        let facts = &self.facts;
        let fallen = self.workers.extract_if(.., |name, _| backs_off(facts, name) && !backs_off(before, name));
        let fallen: Vec<_> = fallen.map(|(_, seen)| seen).collect();
        let any = !fallen.is_empty();
        self.bury(fallen);
        any
    }

    /// What they held and had not finished is remembered.
    fn bury(&mut self, dead: Vec<Seen>) {
        self.orphans.extend(dead.iter().flat_map(Seen::unfinished));
    }

    /// Whether a worker is of this Pipeline.
    fn knows(&self, uid: &str, worker: &str) -> Result<(), Refusal> {
        if uid != self.facts.uid {
            return Err(Refusal::OtherPipeline);
        }
        if !self.facts.pods.contains_key(worker) {
            return Err(Refusal::UnknownWorker);
        }
        Ok(())
    }

    fn record(&mut self, report: Report, now: Instant) -> Result<Recorded, Refusal> {
        self.knows(&report.pipeline_uid, &report.worker)?;
        let worker = report.worker.clone();
        let mut before = self.workers.remove(&worker);
        // A process that was restarted in its pod starts again at 1.
        if let Some(seen) = before.as_ref().filter(|seen| report.sequence <= seen.report.sequence && report.sequence > 1) {
            tracing::debug!(%worker, sequence = report.sequence, last = seen.report.sequence, "a report came late");
            self.workers.extend(before.map(|seen| (worker, seen)));
            return Err(Refusal::Stale);
        }
        self.awaited.remove(&worker);
        if report.sequence == 1
            && let Some(seen) = &mut before
        {
            // What the process before held has nobody now.
            self.orphans.extend(seen.unfinished());
            seen.line = Line::Idle;
        }
        let changed = before.as_ref().is_none_or(|seen| signature(&seen.report) != signature(&report));
        let mut endpoints = self.learn(&report);
        endpoints.extend(before.iter().flat_map(|seen| troubled(&seen.report)).chain(troubled(&report)));
        self.workers.insert(worker.clone(), Seen::new(report, before, now));
        let settled = self.settled(now);
        let decided = assignment::decide(&view::of(self, settled));
        let assignment = decided.get(&worker).cloned().unwrap_or_default();
        if assignment.enumerate {
            self.enumerator = Some(worker.clone());
        }
        if let Some(seen) = self.workers.get_mut(&worker) {
            seen.told = assignment.clone();
        }
        let told: BTreeSet<&TaskRef> = assignment.tasks.iter().collect();
        self.orphans.retain(|orphan| !told.contains(orphan));
        self.ring(&decided);
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

#[cfg(test)]
pub(super) mod tests;
