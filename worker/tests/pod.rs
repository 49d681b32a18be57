//! `millrace worker` as a pod runs it, beside an operator of our own, of today or of before polls. No cluster, and no timing is asserted: only what comes after what.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use millrace_crds::job::StateLocation;
use millrace_crds::manifest::Manifests;
use millrace_crds::report::{Assignment, POLL_PATH, Poll, Polled, REPORT_PATH, REPORT_VERSION, Report, TaskPhase, TaskRef, WorkerPhase};
use tokio::process::{Child, Command};
use tokio::sync::watch;

const MANIFESTS: &str = "
apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {name: lines}
spec: {files: {path: in}, format: {json: {}}, schema: {columns: [{name: n, type: BigInt}]}}
---
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {name: lines}
spec: {files: {path: out, format: {json: {}}}}
---
apiVersion: millrace.dev/v1alpha1
kind: Pipeline
metadata: {name: lines}
spec:
  inputs: [{name: lines, sourceRef: {name: lines}}]
  steps: [{name: same, sql: SELECT n FROM lines}]
  outputs: [{name: same, from: same, sinkRef: {name: lines}}]
  checkpoint: {intervalSeconds: 1}
";

/// What an operator was asked, in order.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Report(Box<Report>),
    Poll(u64),
    /// That poll was answered: there is news.
    Rung(u64),
}

/// An operator: what it wants, which is news to those who wait, and what it was asked.
#[derive(Clone)]
struct Operator {
    wanted: watch::Sender<Assignment>,
    asked: Arc<Mutex<Vec<Asked>>>,
    told: Arc<Mutex<Assignment>>,
}

impl Operator {
    /// Serves until the runtime ends; `polls`: whether it is of today.
    async fn start(polls: bool) -> (Self, String) {
        let operator = Self { wanted: watch::Sender::new(assignment(&[])), asked: Arc::default(), told: Arc::default() };
        let mut routes = Router::new().route(REPORT_PATH, post(report));
        if polls {
            routes = routes.route(POLL_PATH, post(poll));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = routes.with_state(operator.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        (operator, url)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn reports(&self) -> Vec<Report> {
        self.asked().into_iter().filter_map(|asked| if let Asked::Report(report) = asked { Some(*report) } else { None }).collect()
    }

    /// Waits for a report of which `is` holds.
    async fn until(&self, what: &str, is: impl Fn(&Report) -> bool) {
        let seen = async {
            while !self.reports().iter().any(&is) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_mins(1), seen).await;
        assert!(seen.is_ok(), "no report says that {what}: {:#?}", self.reports().last());
    }
}

async fn report(State(operator): State<Operator>, headers: HeaderMap, Json(report): Json<Report>) -> Json<Assignment> {
    assert_eq!(headers["authorization"], "Bearer of-this-pod");
    let wanted = operator.wanted.borrow().clone();
    operator.asked.lock().unwrap().push(Asked::Report(Box::new(report)));
    operator.told.lock().unwrap().clone_from(&wanted);
    Json(wanted)
}

async fn poll(State(operator): State<Operator>, headers: HeaderMap, Json(poll): Json<Poll>) -> Json<Polled> {
    assert_eq!(headers["authorization"], "Bearer of-this-pod");
    operator.asked.lock().unwrap().push(Asked::Poll(poll.sequence));
    let mut wanted = operator.wanted.subscribe();
    let news = wanted.wait_for(|wanted| *wanted != *operator.told.lock().unwrap()).await.is_ok();
    operator.asked.lock().unwrap().push(Asked::Rung(poll.sequence));
    Json(Polled { version: REPORT_VERSION, changed: news })
}

fn assignment(tasks: &[TaskRef]) -> Assignment {
    Assignment { version: REPORT_VERSION, tasks: tasks.to_vec(), enumerate: true, ..Assignment::default() }
}

/// A worker of [`MANIFESTS`] in a directory.
fn worker(directory: &Path, operator: &str) -> Child {
    std::fs::create_dir_all(directory.join("in")).unwrap();
    std::fs::write(directory.join("in/a.json"), "{\"n\": 1}\n").unwrap();
    std::fs::write(directory.join("lines.yaml"), MANIFESTS).unwrap();
    std::fs::write(directory.join("token"), "of-this-pod\n").unwrap();
    let manifests = Manifests::load(&[directory]).unwrap();
    let state = StateLocation { location: format!("file://{}", directory.join("state").display()), aws: None };
    let job = manifests.job(&manifests.pipelines[0].object, &state).unwrap();
    std::fs::write(directory.join("job.json"), serde_json::to_vec(&job).unwrap()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .arg("worker")
        .args(["--operator-url", operator, "--name", "lines-0", "--http", "127.0.0.1:0"])
        .arg("--job")
        .arg(directory.join("job.json"))
        .arg("--token-file")
        .arg(directory.join("token"))
        .arg("--spill-dir")
        .arg(directory.join("spill"))
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn runs(report: &Report) -> bool {
    report.tasks.iter().any(|task| task.phase == TaskPhase::Running)
}

/// The worker finds its split, runs it, lets it go, takes it again, and is stopped.
async fn live(polls: bool) -> Operator {
    let directory = tempfile::tempdir().unwrap();
    let (operator, url) = Operator::start(polls).await;
    let mut worker = worker(directory.path(), &url);
    operator.until("there is a split", |report| !report.splits.is_empty()).await;
    let splits = operator.reports().into_iter().find_map(|report| report.splits.into_iter().next()).unwrap();
    let task = TaskRef { input: splits.input, split: splits.splits[0].clone() };
    operator.wanted.send_replace(assignment(std::slice::from_ref(&task)));
    operator.until("the task runs", runs).await;
    operator.wanted.send_replace(assignment(&[]));
    let ran = operator.reports().iter().find(|report| runs(report)).unwrap().sequence;
    operator.until("it is let go", |report| report.sequence > ran && report.tasks.is_empty()).await;
    let let_go = operator.reports().last().unwrap().sequence;
    operator.wanted.send_replace(assignment(&[task]));
    operator.until("it runs again", |report| report.sequence > let_go && runs(report)).await;
    let pid = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert_eq!(worker.wait().await.unwrap().code(), Some(0));

    let reports = operator.reports();
    assert_eq!((reports[0].sequence, reports[0].phase), (1, WorkerPhase::Starting), "a new process says so at once");
    assert!(reports.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let draining: Vec<_> = reports.iter().filter(|report| report.phase == WorkerPhase::Draining).collect();
    assert_eq!(draining.first().unwrap().tasks.len(), 1, "it says that it is going before it has closed anything");
    assert_eq!(draining.last().unwrap().tasks.len(), 0, "and when all is closed");
    assert_eq!(reports.last(), draining.last().copied());
    operator
}

#[tokio::test]
async fn a_worker_follows_an_operator_that_it_hears() {
    let operator = live(true).await;
    let asked = operator.asked();
    let mut rung = Vec::new();
    for (at, one) in asked.iter().enumerate() {
        match one {
            Asked::Poll(sequence) => {
                let reported = |asked: &Asked| matches!(asked, Asked::Report(report) if report.sequence >= *sequence);
                assert!(asked[..at].iter().any(reported), "it speaks of a report that was answered");
                assert!(rung.last().is_none_or(|rung| rung < sequence), "whoever heard of news reports before it waits again");
            }
            Asked::Rung(sequence) => rung.push(*sequence),
            Asked::Report(_) => {}
        }
    }
    assert!(rung.len() >= 3, "it waits again after each change: {rung:?}");
}

#[tokio::test]
async fn a_worker_follows_an_operator_of_before_polls() {
    let operator = live(false).await;
    assert!(operator.asked().iter().all(|asked| matches!(asked, Asked::Report(_))));
}
