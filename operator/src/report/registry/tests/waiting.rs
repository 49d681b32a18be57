//! Workers that wait: when they hear of another assignment, and when the end of their connection counts as their death. On tokio's clock, which stands still.

use std::sync::Arc;

use millrace_crds::report::Poll;

use super::*;
use crate::report::registry::waiting::GRACE;

pub(super) use crate::report::registry::waiting::Waiting;

/// The worker of [`report`] waits after the answer to its report `sequence`.
pub(in crate::report) fn poll(worker: &str, sequence: u64) -> Poll {
    Poll {
        version: REPORT_VERSION,
        namespace: "ns".into(),
        pipeline: "edge".into(),
        pipeline_uid: "uid".into(),
        worker: worker.into(),
        sequence,
    }
}

/// A Pipeline with these workers, all started after the operator.
fn started(pods: [&str; 2]) -> Arc<Registry> {
    let registry = Arc::new(Registry::default());
    registry.observe(&key(), facts([]), crate::clock::monotonic());
    registry.observe(&key(), facts(pods), crate::clock::monotonic());
    registry
}

/// A report of a worker that holds partitions, and finds that there are `0` and `1`.
fn holding(worker: &str, sequence: u64, held: &[&str]) -> Report {
    Report {
        tasks: held.iter().map(|split| task(split, TaskPhase::Running)).collect(),
        splits: vec![InputSplits { input: "logs".into(), splits: vec!["0".into(), "1".into()] }],
        ..report_of(worker, sequence, Distribution::Partitioned)
    }
}

fn told(registry: &Registry, report: Report) -> Vec<String> {
    splits_of(&registry.record(report, crate::clock::monotonic()).unwrap()).into_iter().map(str::to_owned).collect()
}

/// The request that waits; `None` if the worker has to report at once.
fn wait(registry: &Arc<Registry>, worker: &str, sequence: u64) -> Option<Waiting> {
    match registry.wait(&poll(worker, sequence), crate::clock::monotonic()).unwrap() {
        Wait::For(waiting) => Some(waiting),
        Wait::Over => None,
    }
}

async fn rings(waiting: &Waiting) -> bool {
    tokio::time::timeout(Duration::ZERO, waiting.rung()).await.is_ok()
}

/// `w0` and `w1` hold a partition each, have said so, and wait.
async fn both_hold_one() -> (Arc<Registry>, Waiting, Waiting) {
    let registry = started(["w0", "w1"]);
    assert_eq!(told(&registry, holding("w0", 1, &[])), ["0", "1"]);
    assert_eq!(told(&registry, holding("w1", 1, &[])), [""; 0], "w0 may hold both");
    assert_eq!(told(&registry, holding("w0", 2, &["0", "1"])), ["0"], "one is for w1");
    let second = wait(&registry, "w1", 1).unwrap();
    assert!(!rings(&second).await, "w0 has not let go of it");
    assert_eq!(told(&registry, holding("w0", 3, &["0"])), ["0"]);
    assert!(rings(&second).await, "now it has");
    second.answer();
    assert_eq!(told(&registry, holding("w1", 2, &[])), ["1"]);
    assert_eq!(told(&registry, holding("w1", 3, &["1"])), ["1"]);
    let first = wait(&registry, "w0", 3).unwrap();
    let second = wait(&registry, "w1", 3).unwrap();
    assert!(!rings(&first).await && !rings(&second).await, "all is quiet");
    (registry, first, second)
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_what_others_let_go_of_and_what_reconciling_finds() {
    let (registry, first, second) = both_hold_one().await;
    let drain = Facts { drain: true, ..facts(["w0", "w1"]) };
    registry.observe(&key(), drain, crate::clock::monotonic());
    assert!(rings(&first).await && rings(&second).await, "everything is to be finished");
    registry.observe(&key(), facts(["w0", "w1"]), crate::clock::monotonic());
    registry.observe(&key(), facts(["w0"]), crate::clock::monotonic());
    assert!(rings(&first).await, "w1 is gone");
}

#[tokio::test(start_paused = true)]
async fn what_is_news_already_is_not_waited_for() {
    let (registry, first, second) = both_hold_one().await;
    first.answer();
    second.answer();
    assert!(wait(&registry, "w0", 2).is_none(), "a later report has come, and its answer may be lost");
    assert!(wait(&registry, "w0", 4).is_none(), "this operator has not seen the report");
    registry.observe(&key(), facts(["w0"]), crate::clock::monotonic());
    assert!(wait(&registry, "w0", 3).is_none(), "what w1 held is free");
    assert_eq!(told(&registry, holding("w0", 4, &["0"])), ["0", "1"]);
    assert!(wait(&registry, "w0", 4).is_some());
}

#[tokio::test(start_paused = true)]
async fn who_is_a_stranger_to_reports_is_one_to_polls() {
    let registry = Arc::new(Registry::default());
    let now = crate::clock::monotonic();
    let refused = |poll: &Poll| registry.wait(poll, now).map(|_| ()).unwrap_err();
    assert_eq!(refused(&poll("w0", 1)), Refusal::UnknownPipeline);
    registry.observe(&key(), facts(["w0"]), now);
    assert_eq!(refused(&poll("w1", 1)), Refusal::UnknownWorker);
    assert_eq!(refused(&Poll { pipeline_uid: "an older one".into(), ..poll("w0", 1) }), Refusal::OtherPipeline);
    assert!(matches!(registry.wait(&poll("w0", 1), now), Ok(Wait::Over)), "it is asked to report first");
}

#[tokio::test(start_paused = true)]
async fn whose_connection_breaks_loses_its_tasks_after_the_grace() {
    let (registry, first, second) = both_hold_one().await;
    drop(second);
    let watched = Arc::clone(&registry);
    let mut watch = tokio::task::JoinSet::new();
    watch.spawn(async move { watched.keep_watch(|_| {}).await });
    let since = crate::clock::monotonic();
    first.rung().await;
    assert_eq!(crate::clock::monotonic() - since, GRACE);
    first.answer();
    assert_eq!(told(&registry, holding("w0", 4, &["0"])), ["0", "1"]);
    // It was only cut off, and holds it still: who was told since keeps it.
    assert_eq!(told(&registry, holding("w1", 4, &["1"])), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_within_the_grace_keeps_its_tasks() {
    for reports in [false, true] {
        let (registry, first, second) = both_hold_one().await;
        drop(second);
        pass(GRACE / 2).await;
        let again = if reports {
            assert_eq!(told(&registry, holding("w1", 4, &["1"])), ["1"]);
            None
        } else {
            Some(wait(&registry, "w1", 3).unwrap())
        };
        pass(GRACE).await;
        assert_eq!(registry.snapshot(&key(), crate::clock::monotonic()).workers.len(), 2);
        assert!(!rings(&first).await);
        drop(again);
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_from_before_the_break_is_no_sign_of_life() {
    let (registry, first, second) = both_hold_one().await;
    let arrived = crate::clock::monotonic();
    pass(Duration::from_millis(5)).await;
    drop(second);
    // Its sender had to be asked about first.
    registry.record(holding("w1", 4, &["1"]), arrived).unwrap();
    pass(GRACE).await;
    assert_eq!(registry.snapshot(&key(), crate::clock::monotonic()).workers.len(), 1);
    assert!(rings(&first).await);
}

#[tokio::test(start_paused = true)]
async fn where_everybody_is_lost_nobody_is_presumed_dead() {
    let (registry, first, second) = both_hold_one().await;
    drop(first);
    drop(second);
    pass(GRACE * 5).await;
    assert_eq!(registry.snapshot(&key(), crate::clock::monotonic()).workers.len(), 2, "it may be us");
    let first = wait(&registry, "w0", 3);
    assert_eq!(registry.snapshot(&key(), crate::clock::monotonic()).workers.len(), 1, "it was not: w0 is heard, w1 is not");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_alone_is_waited_for() {
    let registry = started(["w0", "w1"]);
    registry.observe(&key(), facts(["w0"]), crate::clock::monotonic());
    told(&registry, holding("w0", 1, &[]));
    drop(wait(&registry, "w0", 1).unwrap());
    pass(GRACE * 5).await;
    assert_eq!(registry.snapshot(&key(), crate::clock::monotonic()).workers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_process_frees_what_the_one_before_held_and_gets_its_share_back() {
    let (registry, first, second) = both_hold_one().await;
    let starting = Report { phase: WorkerPhase::Starting, ..holding("w1", 1, &[]) };
    assert_eq!(told(&registry, starting), [""; 0]);
    assert!(rings(&first).await, "what it held is free");
    first.answer();
    // The end of the connection of before tells nothing of the process of now.
    drop(second);
    pass(GRACE * 2).await;
    assert_eq!(registry.snapshot(&key(), crate::clock::monotonic()).workers.len(), 2);
    assert_eq!(told(&registry, holding("w0", 4, &["0"])), ["0", "1"]);
    assert_eq!(told(&registry, holding("w1", 2, &[])), [""; 0]);
    assert_eq!(told(&registry, holding("w0", 5, &["0", "1"])), ["0"]);
    assert_eq!(told(&registry, holding("w0", 6, &["0"])), ["0"]);
    assert_eq!(told(&registry, holding("w1", 3, &[])), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answered_request_and_one_that_was_replaced_tell_nothing() {
    let (registry, first, second) = both_hold_one().await;
    let again = wait(&registry, "w1", 3).unwrap();
    drop(second);
    pass(GRACE * 2).await;
    again.answer();
    pass(GRACE * 2).await;
    assert_eq!(registry.snapshot(&key(), crate::clock::monotonic()).workers.len(), 2);
    assert!(!rings(&first).await);
}
