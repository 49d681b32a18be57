//! The status case by case: from a healthy Pipeline, one thing changed, to what is said. What is written, and when, is in [`writing`].

mod planning;
mod references;
mod work;
mod writing;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use millrace_crds::delivery::Guarantee;
use millrace_crds::pipeline::{DesiredState, StatePolicy, TestsStatus};
use millrace_crds::report::{
    CheckOutcome, Distribution, ErrorReason, InputPlan, LostState, OutputPlan, PlanReport, ProbeReport, ProbeResult, Problem,
    REPORT_VERSION, Report, StateReport, TaskPhase, TaskRef, TaskReport, TestsReport, Trouble, TroublePart, WorkerPhase,
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
    consent: Consent,
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
    let output = |output: &str, guarantee| OutputPlan { output: output.into(), guarantee, reason: "so it is".into() };
    let outputs = vec![output("search", Guarantee::EffectivelyOnce), output("archive", Guarantee::ExactlyOnce)];
    let plan = PlanReport { hash: "abc".into(), operators: 4, inputs, outputs, state: None, whole: None };
    CheckOutcome { revision: revision(), plan: Some(plan), ..CheckOutcome::default() }
}

fn older() -> Version {
    Version { revision: "older".into(), image: "i".into(), tests: None }
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
        spilled_bytes: None,
        failures: None,
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
            consent: Consent::default(),
            running: Some(Version { revision: revision(), image: settings().worker_image, tests: None }),
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
            consent: &self.consent,
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

const HEALTHY: &str = "Ready:T:Running Reconciling:F:UpToDate Stalled:F:UpToDate Accepted:T:Planned TestsPassed:T:NotNeeded \
                       StateCompatible:T:Compatible SourcesReady:T:Resolved SinksReady:T:Resolved \
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
    let delivery = status.delivery.unwrap();
    let each: Vec<_> = delivery.per_output.iter().map(|output| (output.name.as_str(), output.guarantee)).collect();
    assert_eq!(each, [("search", Guarantee::EffectivelyOnce), ("archive", Guarantee::ExactlyOnce)]);
    assert_eq!(delivery.effective, Guarantee::EffectivelyOnce, "the weakest");
    assert!(status.inputs.iter().chain(&status.outputs).all(|end| end.ready == "True"));
    // Both read the same queue: it is counted once.
    let lag = status.lag.unwrap();
    assert_eq!((lag.records, lag.seconds), (Some(10), Some(5)));
    assert_eq!(status.checkpoint.unwrap().location.as_deref(), Some("s3://state/edge"));
}
