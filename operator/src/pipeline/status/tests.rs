//! The status case by case: from a healthy Pipeline, one thing changed, to what is said.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use millrace_crds::pipeline::DesiredState;
use millrace_crds::report::{
    CheckOutcome, Distribution, ErrorReason, InputPlan, PlanReport, ProbeReport, ProbeResult, Problem, REPORT_VERSION, Report, TaskPhase,
    TaskRef, TaskReport, Trouble, TroublePart, WorkerPhase,
};
use serde_json::{Value, json};

use super::super::fixtures::{edge, references};
use super::super::rollout;
use super::super::validate::validate;
use super::*;
use crate::report::{TaskFact, TroubleFact, WorkerFact};
use crate::settings::tests::settings;

/// Everything that is observed, to be changed by a case.
struct World {
    pipeline: Pipeline,
    references: millrace_crds::resolve::References,
    now: Timestamp,
    settled: bool,
    decision: Decision,
    workers: Workers,
    running: Option<Version>,
    deployment: Option<Deployment>,
    pods: Vec<Pod>,
    reports: Snapshot,
    unwell: Vec<Unwell>,
    problem: Option<apply::Error>,
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn revision() -> String {
    let pipeline = edge();
    let owner = names::Owner::of(&pipeline).unwrap();
    validate(&pipeline, owner, &references(), &settings()).target.ready().unwrap().revision.clone()
}

fn outcome() -> CheckOutcome {
    let inputs = vec![InputPlan { input: "logs".into(), distribution: Distribution::Competing }];
    CheckOutcome { revision: revision(), problems: Vec::new(), plan: Some(PlanReport { hash: "abc".into(), operators: 4, inputs }) }
}

fn problem(reason: &str) -> Problem {
    Problem {
        reason: reason.into(),
        location: "step errors, line 1, column 8".into(),
        message: "no column sc_state".into(),
        hint: Some("did you mean sc_status?".into()),
    }
}

fn task(split: &str) -> TaskFact {
    let report = TaskReport {
        task: TaskRef { input: "logs".into(), split: split.into() },
        phase: TaskPhase::Running,
        generation: 1,
        epoch: 7,
        epoch_at_millis: Some(1_767_225_600_000),
        records_in: 100,
        records_out: 100,
        dead_lettered: 0,
        dropped: 0,
        bytes_in: 0,
        lag_records: Some(7),
        lag_seconds: Some(3),
        idle: false,
        watermark_millis: None,
        state_bytes: None,
        troubles: Vec::new(),
    };
    TaskFact { report, still: seconds(1), epoch_age: seconds(4) }
}

fn worker(name: &str, split: &str) -> WorkerFact {
    let report = Report {
        version: REPORT_VERSION,
        namespace: "shop".into(),
        pipeline: "edge".into(),
        pipeline_uid: "uid".into(),
        worker: name.into(),
        revision: revision(),
        sequence: 9,
        phase: WorkerPhase::Running,
        check: outcome(),
        splits: Vec::new(),
        tasks: Vec::new(),
        troubles: Vec::new(),
        probes: Vec::new(),
    };
    WorkerFact { report: Arc::new(report), tasks: vec![task(split)], troubles: Vec::new(), dead_lettered: None }
}

fn trouble(part: TroublePart, name: &str, reason: ErrorReason, lasts: u64) -> TroubleFact {
    let trouble = Trouble { part, name: name.into(), reason, message: "the system said no".into(), since_millis: 0 };
    TroubleFact { trouble, lasts: seconds(lasts) }
}

fn probe(kind: TroublePart, name: &str, result: ProbeResult) -> ProbeReport {
    ProbeReport { kind, name: name.into(), result, at_millis: 1 }
}

fn deployment(replicas: i32, available: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"generation": 4},
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"observedGeneration": 4, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": available, "availableReplicas": available},
    }))
    .unwrap()
}

fn pod(state: &Value, last: &Value) -> Pod {
    let container =
        json!({"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": state, "lastState": last});
    serde_json::from_value(json!({"metadata": {"name": "edge-1"}, "status": {"phase": "Running", "containerStatuses": [container]}}))
        .unwrap()
}

impl World {
    /// Two workers, records flow.
    fn healthy() -> Self {
        let ok = || ProbeResult::Ok { detail: "seen".into() };
        let probes = [
            (TroublePart::Source, "edge-logs"),
            (TroublePart::Sink, "search"),
            (TroublePart::Sink, "archive"),
            (TroublePart::Sink, "bad-lines"),
        ];
        Self {
            pipeline: edge(),
            references: references(),
            now: "2026-01-01T00:01:00Z".parse().unwrap(),
            settled: true,
            decision: Decision::Follow,
            workers: Workers { replicas: 2, drained: false, draining: false },
            running: Some(Version { revision: revision(), image: settings().worker_image }),
            deployment: Some(deployment(2, 2)),
            pods: Vec::new(),
            reports: Snapshot {
                workers: vec![worker("edge-0", "0"), worker("edge-1", "1")],
                finished: false,
                probes: probes.into_iter().map(|(kind, name)| probe(kind, name, ok())).collect(),
            },
            unwell: Vec::new(),
            problem: None,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut world = Self::healthy();
        change(&mut world);
        world
    }

    fn derive(&self) -> (PipelineStatus, Duration) {
        let owner = names::Owner::of(&self.pipeline).unwrap();
        let validated = validate(&self.pipeline, owner, &self.references, &settings());
        let pods: Vec<_> = self.pods.iter().cloned().map(Arc::new).collect();
        derive(&Observed {
            pipeline: &self.pipeline,
            now: self.now,
            settled: self.settled,
            validated: &validated,
            decision: &self.decision,
            workers: self.workers,
            running: self.running.as_ref(),
            workload: Workload::of(self.deployment.as_ref(), &pods),
            reports: &self.reports,
            unwell: &self.unwell,
            problem: self.problem.as_ref(),
        })
    }

    /// `Ready:T:Running …` for every condition that is not as in the healthy world.
    fn says(&self) -> String {
        let status = self.derive().0;
        let text = |condition: &Condition| format!("{}:{}:{}", condition.type_, &condition.status[..1], condition.reason);
        let healthy: Vec<_> = HEALTHY.split(' ').collect();
        let all: Vec<_> = status.conditions.iter().map(text).collect();
        assert_eq!(all.len(), PipelineCondition::ALL.len());
        all.into_iter().filter(|text| !healthy.contains(&text.as_str())).collect::<Vec<_>>().join(" ")
    }

    fn message(&self, type_: &str) -> String {
        condition::find(&self.derive().0.conditions, type_).unwrap().message.clone()
    }

    fn trouble(&mut self, trouble: TroubleFact) {
        self.reports.workers[0].troubles.push(trouble);
    }

    fn stop(&mut self, desired: DesiredState, pods: usize) {
        self.pipeline.spec.desired_state = desired;
        self.workers = Workers { replicas: 0, drained: desired == DesiredState::Drained, draining: false };
        self.deployment = Some(deployment(0, 0));
        self.reports = Snapshot::default();
        self.pods = vec![pod(&json!({"running": {}}), &json!({})); pods];
    }

    fn no_workers(&mut self) {
        self.deployment = Some(deployment(2, 0));
        self.reports = Snapshot::default();
    }
}

const HEALTHY: &str = "Ready:T:Running Reconciling:F:UpToDate Stalled:F:UpToDate Accepted:T:Planned SourcesReady:T:Resolved SinksReady:T:Resolved \
                       SecretsResolved:T:Resolved WorkloadAvailable:T:Available DataFlowing:T:Flowing CheckpointHealthy:T:Healthy DeadLettering:F:NoDeadLetters";

/// Name of the case, what is changed, what is said then.
type Case = (&'static str, fn(&mut World), &'static str);

fn check(cases: &[Case]) {
    for (name, change, expected) in cases {
        let sorted = |text: &str| text.split_whitespace().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&World::with(change).says()), sorted(expected), "{name}");
    }
}

#[test]
fn healthy() {
    check(&[("healthy", |_| {}, "")]);
    let (status, again) = World::healthy().derive();
    assert_eq!(again, REGULAR);
    assert_eq!((status.replicas, status.ready_replicas), (2, 2));
    assert_eq!(
        status.selector.as_deref(),
        Some("app.kubernetes.io/component=worker,app.kubernetes.io/name=millrace,millrace.dev/pipeline=edge")
    );
    assert_eq!(status.revision.unwrap(), RevisionStatus { current: Some(revision()), target: Some(revision()) });
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    assert_eq!(status.plan.unwrap().operators, 4);
    assert!(status.inputs.iter().chain(&status.outputs).all(|end| end.ready == "True"));
    // Both read the same queue: it is counted once.
    let lag = status.lag.unwrap();
    assert_eq!((lag.records, lag.seconds), (Some(10), Some(5)));
    assert_eq!(status.checkpoint.unwrap().location.as_deref(), Some("s3://state/edge"));
}

#[test]
fn sinks() {
    check(&[
        (
            "a sink is down",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Unreachable, 6)),
            "Ready:F:SinkStalled SinksReady:F:Unreachable DataFlowing:F:SinkStalled",
        ),
        ("for a moment only", |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Unreachable, 4)), ""),
        (
            "wrong credentials count at once",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0)),
            "Ready:F:AccessDenied SinksReady:F:AccessDenied DataFlowing:F:SinkStalled",
        ),
        (
            "the dead-letter sink is down",
            |w| w.trouble(trouble(TroublePart::Sink, "bad-lines", ErrorReason::ServerError, 6)),
            "Ready:F:SinkStalled SinksReady:F:Unreachable DataFlowing:F:SinkStalled",
        ),
        (
            "slow",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Throttled, 6)),
            "Ready:F:Backpressured DataFlowing:F:Backpressured",
        ),
        (
            "a probe fails though records flow: it may be over in a moment",
            |w| w.reports.probes[1].result = ProbeResult::Failed { reason: ErrorReason::Unreachable, message: "refused".into() },
            "",
        ),
    ]);
    let down = World::with(|w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Unreachable, 6)));
    assert_eq!(down.message("Ready"), "Sink \"search\": the system said no");
    let ends = down.derive().0.outputs;
    assert_eq!(ends.iter().map(|end| end.ready.as_str()).collect::<Vec<_>>(), ["False", "True"]);
    assert_eq!(down.derive().1, SOON);
}

#[test]
fn sources() {
    check(&[
        (
            "wrong credentials, seen by a probe",
            |w| w.reports.probes[0].result = ProbeResult::Failed { reason: ErrorReason::AccessDenied, message: "403".into() },
            "Ready:F:AccessDenied SourcesReady:F:AccessDenied",
        ),
        (
            "wrong credentials, seen by a task",
            |w| w.trouble(trouble(TroublePart::Source, "edge-logs", ErrorReason::AccessDenied, 0)),
            "Ready:F:AccessDenied SourcesReady:F:AccessDenied DataFlowing:F:SourceStalled",
        ),
        (
            "the Source is deleted: what runs stays and is judged as before",
            |w| {
                w.pipeline.status = Some(w.derive().0);
                w.references.sources.clear();
                w.decision = Decision::Hold;
            },
            "Ready:F:NotFound SourcesReady:F:NotFound",
        ),
        (
            "it never existed",
            |w| {
                w.references.sources.clear();
                w.decision = Decision::Hold;
                w.running = None;
                w.deployment = None;
                w.reports = Snapshot::default();
            },
            "Ready:F:NotFound Accepted:U:Pending SourcesReady:F:NotFound SinksReady:U:NotProbed SecretsResolved:U:NotProbed WorkloadAvailable:U:Pending \
             DataFlowing:U:NoReports CheckpointHealthy:U:NoReports",
        ),
        (
            "a source that slows us down still gives",
            |w| w.trouble(trouble(TroublePart::Source, "edge-logs", ErrorReason::Throttled, 60)),
            "",
        ),
        (
            "records are gone",
            |w| w.trouble(trouble(TroublePart::Source, "edge-logs", ErrorReason::DataLost, 0)),
            "Ready:F:DataLost Stalled:T:DataLost DataFlowing:F:DataLost",
        ),
    ]);
    let deleted = World::with(|w| {
        w.references.sources.clear();
        w.decision = Decision::Hold;
    });
    let message = deleted.message("SourcesReady");
    assert!(message.contains("inputs[logs].sourceRef") && message.contains("\"edge-logs\""), "{message}");
}

#[test]
fn secrets() {
    check(&[
        (
            "missing, seen by a task",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::SecretMissing, 0)),
            "Ready:F:SecretMissing SinksReady:F:SecretMissing SecretsResolved:F:SecretMissing DataFlowing:F:SinkStalled",
        ),
        (
            "missing, of the checkpoint store: the worker cannot start",
            |w| {
                w.trouble(trouble(TroublePart::State, "s3://state/edge", ErrorReason::SecretMissing, 0));
                w.reports.workers.truncate(1);
                w.reports.workers[0].tasks.clear();
                w.deployment = Some(deployment(2, 0));
            },
            "Ready:F:SecretMissing Reconciling:T:Restoring SecretsResolved:F:SecretMissing WorkloadAvailable:F:Unavailable DataFlowing:U:Restoring \
             CheckpointHealthy:F:StoreUnavailable",
        ),
        (
            "missing, of the environment: the container cannot start",
            |w| {
                w.no_workers();
                let message = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"other\" not found"}});
                w.pods = vec![pod(&message, &json!({}))];
            },
            "Ready:F:SecretMissing SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:F:SecretMissing WorkloadAvailable:F:SecretMissing \
             DataFlowing:U:NoReports CheckpointHealthy:U:NoReports Accepted:U:Pending",
        ),
    ]);
    let missing = World::with(|w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::SecretMissing, 0)));
    assert_eq!(missing.message("SecretsResolved"), "Sink \"search\": the system said no");
}

#[test]
fn planning() {
    check(&[
        (
            "the first revision is invalid: its worker says so",
            |w| {
                w.no_workers();
                let mut worker = worker("edge-0", "0");
                let check = CheckOutcome { problems: vec![problem("UnknownColumn")], plan: None, ..outcome() };
                worker.report = Arc::new(Report { check, phase: WorkerPhase::Failed, ..(*worker.report).clone() });
                worker.tasks.clear();
                w.reports.workers = vec![worker];
            },
            "Ready:F:UnknownColumn Stalled:T:UnknownColumn Reconciling:T:Restoring Accepted:F:UnknownColumn SourcesReady:U:NotProbed SinksReady:U:NotProbed \
             SecretsResolved:U:NotProbed WorkloadAvailable:F:Unavailable DataFlowing:U:Restoring CheckpointHealthy:U:NoCheckpointYet",
        ),
        (
            "a later revision is invalid: the check says so, what runs stays",
            |w| {
                w.running = Some(Version { revision: "older".into(), image: "i".into() });
                w.decision =
                    Decision::Refuse(CheckOutcome { problems: vec![problem("SyntaxError"), problem("Cycle")], plan: None, ..outcome() });
            },
            "Ready:F:SyntaxError Stalled:T:SyntaxError Accepted:F:SyntaxError",
        ),
        (
            "it is being checked: what runs is as ready as before",
            |w| {
                w.running = Some(Version { revision: "older".into(), image: "i".into() });
                w.decision = Decision::AwaitCheck { waits_for: None };
            },
            "Reconciling:T:Checking Accepted:U:Checking",
        ),
        (
            "the check cannot be made",
            |w| {
                w.running = Some(Version { revision: "older".into(), image: "i".into() });
                w.decision = Decision::CheckFailed { message: "evicted".into(), again: false };
            },
            "Reconciling:T:CheckFailed Accepted:U:CheckFailed",
        ),
        ("the check found nothing: it rolls", |w| w.decision = Decision::Switch(outcome()), "Reconciling:T:RollingOut"),
        (
            "spec.workload is refused before anything is made",
            |w| {
                let env = json!({"env": [{"name": "MILLRACE_X", "value": "1"}]});
                w.pipeline.spec.workload = Some(serde_json::from_value(env).unwrap());
                w.decision = Decision::Hold;
            },
            "Ready:F:PlanInvalid Stalled:T:PlanInvalid Accepted:F:PlanInvalid",
        ),
    ]);
    let refused = World::with(|w| {
        w.running = Some(Version { revision: "older".into(), image: "i".into() });
        w.decision = Decision::Refuse(CheckOutcome { problems: vec![problem("SyntaxError"), problem("Cycle")], plan: None, ..outcome() });
    });
    assert_eq!(
        refused.message("Accepted"),
        "step errors, line 1, column 8: no column sc_state; did you mean sc_status? (and 1 more problem)"
    );
    assert!(refused.message("Ready").ends_with("; revision older stays as it is"));
}

#[test]
fn workers() {
    check(&[
        ("three of four are enough", |w| (w.workers.replicas, w.deployment) = (4, Some(deployment(4, 3))), ""),
        (
            "two of four are not",
            |w| (w.workers.replicas, w.deployment) = (4, Some(deployment(4, 2))),
            "Ready:F:Progressing Reconciling:T:Progressing WorkloadAvailable:F:Unavailable",
        ),
        (
            "a plan that keeps state needs one of two",
            |w| {
                for worker in &mut w.reports.workers {
                    let plan = Arc::make_mut(&mut worker.report).check.plan.as_mut().unwrap();
                    plan.inputs[0].distribution = Distribution::Whole;
                }
            },
            "WorkloadAvailable:T:NeedsExchange",
        ),
        (
            "the image cannot be pulled",
            |w| {
                w.deployment = Some(deployment(2, 0));
                w.pods = vec![pod(&json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}), &json!({}))];
            },
            "Ready:F:ImagePullBackOff WorkloadAvailable:F:ImagePullBackOff",
        ),
        (
            "out of memory",
            |w| {
                w.deployment = Some(deployment(2, 0));
                let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
                w.pods = vec![pod(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &last)];
            },
            "Ready:F:OOMKilled WorkloadAvailable:F:OOMKilled",
        ),
        (
            "it ends again and again",
            |w| {
                w.deployment = Some(deployment(2, 0));
                let last = json!({"terminated": {"exitCode": 70, "reason": "Error", "message": "boom"}});
                w.pods = vec![pod(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &last)];
            },
            "Ready:F:CrashLoopBackOff WorkloadAvailable:F:CrashLoopBackOff",
        ),
        (
            "a quota is exhausted",
            |w| {
                let mut deployment = deployment(2, 0);
                let failure = json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}]);
                deployment.status.as_mut().unwrap().conditions = serde_json::from_value(failure).unwrap();
                w.deployment = Some(deployment);
            },
            "Ready:F:QuotaExceeded Stalled:T:QuotaExceeded WorkloadAvailable:F:QuotaExceeded",
        ),
        ("it rolls", |w| w.deployment.as_mut().unwrap().status.as_mut().unwrap().updated_replicas = Some(1), "Reconciling:T:RollingOut"),
        (
            "the controller has not seen it yet",
            |w| w.deployment.as_mut().unwrap().metadata.generation = Some(5),
            "Reconciling:T:RollingOut",
        ),
        (
            "nobody reports",
            |w| w.reports = Snapshot::default(),
            "Ready:F:Progressing Reconciling:T:Progressing Accepted:U:Pending SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:U:NotProbed DataFlowing:U:NoReports \
             CheckpointHealthy:U:NoReports",
        ),
    ]);
}

#[test]
fn flow_and_checkpoints() {
    fn every(world: &mut World, change: fn(&mut TaskFact)) {
        world.reports.workers.iter_mut().flat_map(|worker| &mut worker.tasks).for_each(change);
    }
    check(&[
        ("idle for a while", |w| every(w, |t| (t.report.idle, t.still) = (true, seconds(30))), "Ready:T:Idle DataFlowing:T:SourceIdle"),
        ("idle for a moment", |w| every(w, |t| (t.report.idle, t.still) = (true, seconds(29))), ""),
        ("stuck", |w| every(w, |t| t.still = seconds(60)), "Ready:F:NoProgress DataFlowing:F:NoProgress"),
        ("every input has ended", |w| every(w, |t| t.report.phase = TaskPhase::Finished), "Ready:T:Completed DataFlowing:T:Completed"),
        (
            "restoring",
            |w| every(w, |t| t.report.phase = TaskPhase::Claiming),
            "Ready:F:Progressing Reconciling:T:Restoring DataFlowing:U:Restoring",
        ),
        (
            "a bad record, and the policy is to stop",
            |w| w.trouble(trouble(TroublePart::Task, "", ErrorReason::PoisonRecord, 0)),
            "Ready:F:PoisonRecord Stalled:T:PoisonRecord DataFlowing:F:PoisonRecord",
        ),
        ("epochs are late", |w| every(w, |t| t.epoch_age = seconds(121)), "Ready:F:Timeout CheckpointHealthy:F:Timeout"),
        ("no epoch yet", |w| every(w, |t| t.report.epoch_at_millis = None), "CheckpointHealthy:U:NoCheckpointYet"),
        (
            "the store is down",
            |w| w.trouble(trouble(TroublePart::State, "", ErrorReason::Unreachable, 6)),
            "Ready:F:StoreUnavailable CheckpointHealthy:F:StoreUnavailable",
        ),
        (
            "a checkpoint is damaged",
            |w| w.trouble(trouble(TroublePart::State, "", ErrorReason::Corrupt, 0)),
            "Ready:F:Corrupt Stalled:T:Corrupt CheckpointHealthy:F:Corrupt",
        ),
        ("dead letters lately", |w| w.reports.workers[1].dead_lettered = Some(seconds(299)), "DeadLettering:T:RecordsDeadLettered"),
        ("dead letters a while ago", |w| w.reports.workers[1].dead_lettered = Some(seconds(300)), ""),
    ]);
}

#[test]
fn stopped_on_purpose() {
    let quiet = "SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:U:NotProbed";
    for (desired, reason) in [(DesiredState::Paused, "Paused"), (DesiredState::Drained, "Drained"), (DesiredState::Running, "ScaledToZero")]
    {
        let world = World::with(|w| {
            w.pipeline.status = Some(w.derive().0);
            w.stop(desired, 0);
        });
        let expected = format!("Ready:T:{reason} {quiet} WorkloadAvailable:T:{reason} DataFlowing:U:{reason} CheckpointHealthy:U:{reason}");
        assert_eq!(world.says(), expected);
        assert_eq!(world.derive().1, SLOW);
        let status = world.derive().0;
        assert_eq!(status.lag, None);
        assert!(status.checkpoint.unwrap().last_completed_time.is_some(), "the last checkpoint is still the last one");
    }
    let closing = World::with(|w| w.stop(DesiredState::Paused, 1));
    assert!(closing.says().contains("Ready:T:Paused Reconciling:T:Draining"), "{}", closing.says());
    let draining = World::with(|w| w.workers.draining = true);
    assert_eq!(draining.says(), "Reconciling:T:Draining");
}

#[test]
fn what_cannot_be_written() {
    let conflict = || apply::Error::NameConflict { kind: "Service".into(), name: "edge".into() };
    let terminating = || apply::Error::NamespaceTerminating { kind: "Service".into(), name: "edge".into() };
    assert_eq!(World::with(|w| w.problem = Some(conflict())).says(), "Ready:F:NameConflict Stalled:T:NameConflict");
    assert_eq!(World::with(|w| w.problem = Some(terminating())).says(), "Ready:F:Terminating Reconciling:T:Progressing");
}

#[test]
fn the_first_status_knows_nothing_and_says_so() {
    let pipeline = edge();
    assert!(is_new(&pipeline));
    let status = pending(&pipeline, Timestamp::UNIX_EPOCH);
    assert_eq!(status.conditions.len(), PipelineCondition::ALL.len());
    assert!(status.conditions.iter().all(|condition| condition.status == "Unknown" && condition.observed_generation == Some(3)));
}

#[test]
fn a_new_operator_leaves_alone_what_it_does_not_know_yet() {
    let mut world = World::healthy();
    world.pipeline.status = Some(world.derive().0);
    let before = world.pipeline.status.clone();
    world.reports = Snapshot::default();
    world.settled = false;
    world.now = "2026-01-01T00:01:05Z".parse().unwrap();
    let after = world.derive().0;
    assert_eq!(after.conditions, before.unwrap().conditions);
    world.settled = true;
    assert_eq!(condition::find(&world.derive().0.conditions, "DataFlowing").unwrap().reason, "NoReports");
}

#[test]
fn an_unchanged_world_is_written_once() {
    let mut world = World::healthy();
    world.pipeline.status = Some(world.derive().0);
    world.now = "2026-01-01T02:00:00Z".parse().unwrap();
    assert_eq!(Some(world.derive().0), world.pipeline.status);
}

#[test]
fn other_words_are_no_other_status() {
    let down = |message: &str| {
        let mut world = World::with(|w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0)));
        world.reports.workers[0].troubles[0].trouble.message = message.to_owned();
        world.derive().0
    };
    assert!(differ_in_words_only(&down("attempt 1"), &down("attempt 2")));
    assert!(!differ_in_words_only(&down("attempt 1"), &down("attempt 1")));
    assert!(!differ_in_words_only(&World::healthy().derive().0, &down("attempt 1")));
}

#[test]
fn numbers_move_every_thirty_seconds_conditions_at_once() {
    let mut world = World::healthy();
    let first = world.derive().0;
    world.pipeline.status = Some(first.clone());
    world.reports.workers[0].tasks[0].report.lag_records = Some(5000);
    world.reports.workers[0].tasks[0].report.epoch_at_millis = Some(1_767_225_610_000);
    world.reports.workers[1].tasks[0].report.epoch_at_millis = Some(1_767_225_620_000);
    world.now = "2026-01-01T00:01:29Z".parse().unwrap();
    assert_eq!(world.derive().0, first, "not yet");
    world.trouble(trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0));
    assert_eq!(condition::find(&world.derive().0.conditions, "Ready").unwrap().status, "False");
    world.now = "2026-01-01T00:01:30Z".parse().unwrap();
    let status = world.derive().0;
    assert_eq!(status.lag.unwrap().records, Some(5000));
    assert_eq!(status.checkpoint.unwrap().last_completed_time.unwrap().0, "2026-01-01T00:00:10Z".parse().unwrap());
}

#[test]
fn as_long_as_no_worker_looks_objects_speak_for_themselves() {
    let world = World::with(|w| {
        w.no_workers();
        let message = "403".to_owned();
        w.unwell = vec![Unwell { kind: TroublePart::Sink, name: "archive".into(), reason: "AccessDenied".into(), message }];
    });
    assert!(world.says().contains("SinksReady:F:AccessDenied"), "{}", world.says());
    assert_eq!(world.message("SinksReady"), "Sink \"archive\": 403");
}

#[test]
fn no_message_is_longer_than_the_api_server_takes() {
    let world = World::with(|w| {
        let mut long = trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0);
        long.trouble.message = "ü".repeat(5000);
        w.trouble(long);
    });
    let status = world.derive().0;
    assert!(status.conditions.iter().all(|condition| condition.message.chars().count() <= 1024));
    assert!(status.outputs.iter().filter_map(|end| end.message.as_ref()).all(|message| message.chars().count() <= 1024));
}

/// The rollout decides what the status is given: the two fit together for a Pipeline that is new.
#[test]
fn a_new_pipeline_is_on_its_way() {
    let world = World::with(|w| {
        w.running = None;
        w.deployment = None;
        w.reports = Snapshot::default();
        let target = Version { revision: revision(), image: settings().worker_image };
        w.decision = rollout::decide(Some(&target), None, rollout::Check::Absent);
    });
    assert_eq!(
        world.says(),
        "Ready:F:Progressing Reconciling:T:RollingOut Accepted:U:Pending SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:U:NotProbed \
         WorkloadAvailable:U:Pending DataFlowing:U:NoReports CheckpointHealthy:U:NoReports"
    );
}
