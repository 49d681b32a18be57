//! The registry as workers and reconciliations use it, on a clock of its own: facts in, reports in, answers out.

use millrace_crds::report::{
    CheckOutcome, Distribution, InputPlan, InputSplits, PlanReport, REPORT_VERSION, TaskPhase, TaskReport, Trouble, WorkerPhase,
};

use super::*;

pub(in crate::report) fn facts<const N: usize>(pods: [&str; N]) -> Facts {
    Facts {
        uid: "uid".into(),
        revision: Some("r".into()),
        drain: false,
        pods: pods.into_iter().map(|name| (name.to_owned(), PodLife::Running)).collect(),
    }
}

/// A report of a worker of the Pipeline `ns/edge` with the queue `logs`, that holds nothing.
pub(in crate::report) fn report(worker: &str, sequence: u64) -> Report {
    report_of(worker, sequence, Distribution::Competing)
}

pub(in crate::report) fn report_of(worker: &str, sequence: u64, distribution: Distribution) -> Report {
    let plan = PlanReport {
        hash: "h".into(),
        operators: 3,
        inputs: vec![InputPlan { input: "logs".into(), distribution }],
        outputs: Vec::new(),
        state: None,
        whole: None,
    };
    Report {
        version: REPORT_VERSION,
        namespace: "ns".into(),
        pipeline: "edge".into(),
        pipeline_uid: "uid".into(),
        worker: worker.into(),
        revision: "r".into(),
        sequence,
        phase: WorkerPhase::Running,
        check: CheckOutcome { revision: "r".into(), plan: Some(plan), ..CheckOutcome::default() },
        splits: Vec::new(),
        tasks: Vec::new(),
        troubles: Vec::new(),
        probes: Vec::new(),
    }
}

pub(in crate::report) fn task(split: &str, phase: TaskPhase) -> TaskReport {
    TaskReport {
        task: TaskRef { input: "logs".into(), split: split.into() },
        phase,
        generation: 1,
        epoch: 0,
        epoch_at_millis: None,
        records_in: 0,
        records_out: 0,
        dead_lettered: 0,
        dropped: 0,
        bytes_in: 0,
        lag_records: None,
        lag_seconds: None,
        idle: false,
        watermark_millis: None,
        state_bytes: None,
        spilled_bytes: None,
        failures: None,
        troubles: Vec::new(),
    }
}

fn key() -> Key {
    Key::new("ns", "edge")
}

fn splits_of(recorded: &Recorded) -> Vec<&str> {
    recorded.assignment.tasks.iter().map(|task| task.split.as_str()).collect()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn strangers_are_refused() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    assert_eq!(registry.record(report("w0", 1), now).unwrap_err(), Refusal::UnknownPipeline);
    registry.observe(&key(), facts(["w0"]), now);
    assert_eq!(registry.record(report("w1", 1), now).unwrap_err(), Refusal::UnknownWorker);
    let other = Report { pipeline_uid: "an older one".into(), ..report("w0", 1) };
    assert_eq!(registry.record(other, now).unwrap_err(), Refusal::OtherPipeline);
    registry.record(report("w0", 1), now).unwrap();
    registry.retain(|_| false);
    assert_eq!(registry.record(report("w0", 2), now).unwrap_err(), Refusal::UnknownPipeline);
}

#[test]
fn a_late_report_is_not_taken_but_a_new_process_is() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts(["w0"]), now);
    registry.record(report("w0", 7), now).unwrap();
    assert_eq!(registry.record(report("w0", 6), now).unwrap_err(), Refusal::Stale);
    registry.record(report("w0", 8), now).unwrap();
    registry.record(report("w0", 1), now).unwrap();
    registry.record(report("w0", 2), now).unwrap();
}

#[test]
fn after_a_restart_nothing_is_given_out_before_everybody_was_heard() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts(["w0", "w1"]), now);
    // w1 may be running split 0, for all we know.
    assert!(splits_of(&registry.record(report("w0", 50), now).unwrap()).is_empty());
    // What is reported stays where it is all the same.
    let holds = Report { tasks: vec![task("0", TaskPhase::Running)], ..report("w1", 50) };
    assert_eq!(splits_of(&registry.record(holds, now).unwrap()), ["0"]);
    assert_eq!(splits_of(&registry.record(report("w0", 51), now).unwrap()), ["1"]);
}

#[test]
fn nobody_is_waited_for_longer_than_six_seconds() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts(["w0", "w1"]), now);
    assert!(splits_of(&registry.record(report("w0", 50), now + seconds(5)).unwrap()).is_empty());
    assert_eq!(splits_of(&registry.record(report("w0", 51), now + seconds(6)).unwrap()), ["0"]);
}

#[test]
fn what_was_told_is_held_until_a_report_says_otherwise() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts([]), now);
    registry.observe(&key(), facts(["w0", "w1"]), now);
    assert_eq!(splits_of(&registry.record(report("w0", 1), now).unwrap()), ["0"]);
    // w0 has not said yet that it holds 0, but it may.
    assert_eq!(splits_of(&registry.record(report("w1", 1), now).unwrap()), ["1"]);
    // The answer to w0 was lost: it is told again.
    assert_eq!(splits_of(&registry.record(report("w0", 2), now).unwrap()), ["0"]);
}

#[test]
fn the_dead_lose_their_tasks_at_once_when_the_pod_is_gone_else_after_fifteen_seconds() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts([]), now);
    registry.observe(&key(), facts(["w0", "w1"]), now);
    registry.record(report("w0", 1), now).unwrap();
    registry.record(report("w1", 1), now).unwrap();
    assert_eq!(registry.snapshot(&key(), now + seconds(14)).workers.len(), 2);
    registry.record(report("w1", 2), now + seconds(14)).unwrap();
    assert_eq!(registry.snapshot(&key(), now + seconds(15)).workers.len(), 1);

    registry.observe(&key(), facts(["w2"]), now + seconds(16));
    assert_eq!(registry.snapshot(&key(), now + seconds(16)).workers.len(), 0);
    // The newcomer takes over a number, and finishes what the other has left.
    let recorded = registry.record(report("w2", 1), now + seconds(16)).unwrap();
    assert_eq!(splits_of(&recorded), ["0", "1"]);
    assert_eq!(recorded.assignment.draining, [TaskRef { input: "logs".into(), split: "1".into() }]);
}

#[test]
fn who_is_not_started_again_for_now_loses_its_tasks_at_once() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    let mut fallen = facts(["w0", "w1"]);
    fallen.pods.insert("w0".into(), PodLife::BackingOff);
    registry.observe(&key(), facts([]), now);
    registry.observe(&key(), facts(["w0", "w1"]), now);
    assert_eq!(splits_of(&registry.record(report("w0", 1), now).unwrap()), ["0"]);
    assert_eq!(splits_of(&registry.record(report("w1", 1), now).unwrap()), ["1"]);
    registry.observe(&key(), fallen.clone(), now + seconds(1));
    assert_eq!(registry.snapshot(&key(), now + seconds(1)).workers.len(), 1);
    let holds = Report { tasks: vec![task("1", TaskPhase::Running)], ..report("w1", 2) };
    assert_eq!(splits_of(&registry.record(holds, now + seconds(1)).unwrap()), ["0", "1"], "the other one finishes what was left");
    // It is back, and says so before its pod does.
    registry.record(report("w0", 1), now + seconds(11)).unwrap();
    registry.observe(&key(), fallen, now + seconds(11));
    assert_eq!(registry.snapshot(&key(), now + seconds(11)).workers.len(), 2);
}

#[test]
fn a_worker_that_closes_its_last_epochs_is_not_dead() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts(["w0"]), now);
    registry.record(report("w0", 1), now).unwrap();
    let mut going = facts(["w0"]);
    going.pods.insert("w0".into(), PodLife::Terminating);
    registry.observe(&key(), going, now);
    assert_eq!(registry.snapshot(&key(), now + seconds(39)).workers.len(), 1);
    assert_eq!(registry.snapshot(&key(), now + seconds(40)).workers.len(), 0);
}

#[test]
fn time_is_counted_on_our_own_clock() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts(["w0"]), now);
    let trouble = Trouble {
        part: TroublePart::Sink,
        name: "search".into(),
        reason: millrace_crds::report::ErrorReason::Unreachable,
        message: "refused".into(),
        // The worker's clock is an hour ahead.
        since_millis: 3_600_000,
    };
    let with = |sequence, records_in, epoch_at_millis| {
        let troubles = vec![trouble.clone()];
        Report {
            tasks: vec![TaskReport { records_in, epoch_at_millis, troubles, ..task("0", TaskPhase::Running) }],
            ..report("w0", sequence)
        }
    };
    registry.record(with(1, 5, Some(1)), now).unwrap();
    registry.record(with(2, 6, Some(1)), now + seconds(4)).unwrap();
    registry.record(with(3, 6, Some(2)), now + seconds(8)).unwrap();
    let snapshot = registry.snapshot(&key(), now + seconds(10));
    let worker = &snapshot.workers[0];
    assert_eq!((worker.tasks[0].still, worker.tasks[0].epoch_age, worker.troubles[0].lasts), (seconds(6), seconds(2), seconds(10)));
    assert!(
        matches!(registry.endpoint("ns", TroublePart::Sink, "search", now + seconds(10)), Some(ProbeResult::Failed { message, .. }) if message == "refused")
    );
    assert_eq!(registry.endpoint("ns", TroublePart::Source, "search", now + seconds(10)), None);
    assert_eq!(registry.endpoint("elsewhere", TroublePart::Sink, "search", now + seconds(10)), None);
}

#[test]
fn probes_count_for_the_spec_that_made_them_only() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts(["w0"]), now);
    let probe =
        ProbeReport { kind: TroublePart::Source, name: "s".into(), result: ProbeResult::Ok { detail: "read".into() }, at_millis: 1 };
    let recorded = registry.record(Report { probes: vec![probe.clone()], ..report("w0", 1) }, now).unwrap();
    assert_eq!(recorded.endpoints, [(TroublePart::Source, "s".to_owned())]);
    let again = ProbeReport { at_millis: 2, ..probe };
    let recorded = registry.record(Report { probes: vec![again], ..report("w0", 2) }, now).unwrap();
    assert_eq!(recorded.endpoints, [], "the same result is no news");
    assert!(registry.endpoint("ns", TroublePart::Source, "s", now).is_some());
    registry.observe(&key(), Facts { revision: Some("the Source has changed".into()), ..facts(["w0"]) }, now);
    assert_eq!(registry.endpoint("ns", TroublePart::Source, "s", now), None);
}

#[test]
fn only_news_asks_for_a_reconciliation() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), facts(["w0"]), now);
    let with =
        |sequence, phase, records_in| Report { tasks: vec![TaskReport { records_in, ..task("0", phase) }], ..report("w0", sequence) };
    let changed = |report| registry.record(report, now).unwrap().changed;
    assert!(changed(with(1, TaskPhase::Claiming, 0)));
    assert!(changed(with(2, TaskPhase::Running, 0)));
    assert!(!changed(with(3, TaskPhase::Running, 1000)));
    assert!(changed(with(4, TaskPhase::Failed, 1000)));
}

#[test]
fn drained_means_that_everything_known_is_finished() {
    let now = crate::clock::monotonic();
    let registry = Registry::default();
    registry.observe(&key(), Facts { drain: true, ..facts(["w0"]) }, now);
    let finished = |report: Report| {
        registry.record(report, now).unwrap();
        registry.snapshot(&key(), now).finished
    };
    let enumerated = |splits: &[&str]| vec![InputSplits { input: "logs".into(), splits: splits.iter().map(|&s| s.to_owned()).collect() }];
    assert!(!finished(Report { tasks: vec![task("0", TaskPhase::Finished)], ..report("w0", 1) }), "nobody has enumerated");
    assert!(!finished(Report { tasks: vec![task("0", TaskPhase::Draining)], splits: enumerated(&["0"]), ..report("w0", 2) }));
    assert!(
        !finished(Report { tasks: vec![task("0", TaskPhase::Finished)], splits: enumerated(&["1"]), ..report("w0", 3) }),
        "1 is left over"
    );
    let both = vec![task("0", TaskPhase::Finished), task("1", TaskPhase::Finished)];
    assert!(finished(Report { tasks: both, splits: enumerated(&[]), ..report("w0", 4) }));
}

mod simulated;
mod waiting;

pub(in crate::report) use waiting::poll;
