//! Parts that fail: the task goes on from its last epoch, and says what was wrong until it is right again.

use std::sync::Arc;

use millrace_crds::report::{ErrorReason, TaskPhase, TaskRef, TroublePart};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::runtime::{Control, Observed, Part, TaskEnd};
use tokio::time::sleep;

use crate::process::Fate;
use crate::sink::{Ledger, Request};
use crate::source::Kind;
use crate::world::{INTERVAL, Running, Setup, World, until};

/// What was reported while it ran, without repetitions.
async fn troubles_until_over(running: &Running) -> Vec<(TroublePart, String, ErrorReason)> {
    let mut seen = Vec::new();
    until("it is over", || {
        seen.extend(running.snapshot().troubles.into_iter().map(|trouble| (trouble.part, trouble.name, trouble.reason)));
        running.is_over()
    })
    .await;
    seen.dedup();
    seen
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_has_the_task_opened_again_at_its_last_epoch() {
    type Pick = fn(&World) -> &Ledger;
    let ledgers: [(Pick, &str); 2] = [(|world| &world.main, "main"), (|world| &world.keyed, "keyed")];
    for (ledger, name) in ledgers {
        for request in [Request::Write, Request::Prepare, Request::Commit] {
            if (name, request) == ("keyed", Request::Commit) {
                continue;
            }
            let world = World::new(Setup::mixed(60));
            let running = world.start(Fate::Live);
            sleep(INTERVAL * 5 / 2).await;
            let acknowledged = world.script.acknowledged();
            assert!(acknowledged > 0);
            ledger(&world).fail(request, ErrorReason::Throttled);
            let seen = troubles_until_over(&running).await;
            assert_eq!(seen, [(TroublePart::Sink, name.to_owned(), ErrorReason::Throttled)], "{name} {request:?}");
            let last = running.snapshot();
            assert_eq!((last.troubles, last.phase, last.generation), (vec![], TaskPhase::Finished, 2), "{name} {request:?}");
            assert_eq!(running.end().await, TaskEnd::Finished);
            let opened = world.script.opened();
            assert!(opened.len() == 2 && opened[1] >= acknowledged, "{name} {request:?}: opened at {opened:?}");
            world.verify(&format!("{name} failed at {request:?}"));
        }
    }
}

/// The writer fails while it is asked for the end of its epoch: both know, but only the writer knows why.
#[tokio::test(start_paused = true)]
async fn the_cause_is_reported_when_a_writer_fails_while_its_epoch_closes() {
    let world = World::new(Setup::mixed(60));
    let running = world.start(Fate::Live);
    sleep(INTERVAL / 10).await;
    world.main.block(&[Request::Write]);
    sleep(INTERVAL * 3).await;
    world.main.fail(Request::Write, ErrorReason::AccessDenied);
    world.main.heal();
    let seen = troubles_until_over(&running).await;
    assert_eq!(
        seen,
        [
            (TroublePart::Sink, "main".to_owned(), ErrorReason::Unreachable),
            (TroublePart::Sink, "main".to_owned(), ErrorReason::AccessDenied)
        ]
    );
    assert_eq!(running.end().await, TaskEnd::Finished);
    world.verify("failed while closing");
}

/// Nothing can be read, and no epoch can close, until somebody notices.
#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_after_it_has_blocked_is_noticed() {
    let world = World::new(Setup { body: 2000, in_flight_bytes: 64 << 10, ..Setup::mixed(200) });
    let running = world.start(Fate::Live);
    sleep(INTERVAL / 2).await;
    world.keyed.block(&[Request::Write]);
    sleep(INTERVAL * 30).await;
    let read = world.script.deliveries().len();
    assert!((8..100).contains(&read), "{read} records were read");
    world.keyed.fail(Request::Write, ErrorReason::Throttled);
    world.keyed.heal();
    let seen = troubles_until_over(&running).await;
    let keyed = |reason| (TroublePart::Sink, "keyed".to_owned(), reason);
    assert_eq!(seen, [keyed(ErrorReason::Unreachable), keyed(ErrorReason::Throttled)]);
    assert_eq!(running.end().await, TaskEnd::Finished);
    world.verify("failed after a block");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_has_the_task_opened_again() {
    let world = World::new(Setup::mixed(60));
    let running = world.start(Fate::Live);
    sleep(INTERVAL * 3 / 2).await;
    world.script.fail(ErrorReason::DataLost);
    let seen = troubles_until_over(&running).await;
    assert_eq!(seen, [(TroublePart::Source, "script".to_owned(), ErrorReason::DataLost)]);
    assert_eq!(running.end().await, TaskEnd::Finished);
    world.verify("the source failed");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_nothing_is_acknowledged_and_the_trouble_is_reported() {
    let world = World::new(Setup::open_end(60));
    let running = world.start(Fate::Live);
    sleep(INTERVAL * 5 / 2).await;
    world.take_store_down(true);
    sleep(INTERVAL * 5).await;
    let acknowledged = world.script.acknowledged();
    assert!((1..60).contains(&acknowledged), "{acknowledged}");
    until("it is reported", || running.snapshot().troubles.iter().any(|trouble| trouble.part == TroublePart::State)).await;
    assert_eq!(running.snapshot().troubles[0].reason, ErrorReason::Unreachable);
    sleep(INTERVAL * 600).await;
    assert_eq!(world.script.acknowledged(), acknowledged);

    world.take_store_down(false);
    until("everything is acknowledged", || world.script.acknowledged() == 60).await;
    let report = running.snapshot();
    assert_eq!((report.phase, report.troubles), (TaskPhase::Running, vec![]));
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    world.verify("the store was down");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_overtaken_ends_as_fenced() {
    let world = World::new(Setup::open_end(20));
    let first = world.start(Fate::Live);
    until("everything is acknowledged", || world.script.acknowledged() == 20).await;
    let second = world.start(Fate::Live);
    until("the second one runs", || second.snapshot().phase == TaskPhase::Running).await;
    assert!(!first.is_over(), "an idle owner learns of it with its next epoch");
    world.script.add(vec![Kind::Good; 10]);
    until("the first one has ended", || first.is_over()).await;
    assert_eq!(first.snapshot().phase, TaskPhase::Fenced);
    assert_eq!(first.end().await, TaskEnd::Fenced);
    until("everything is acknowledged", || world.script.acknowledged() == 30).await;
    second.tell(Control::Close);
    assert_eq!(second.end().await, TaskEnd::Released);
    world.verify("overtaken");
}

/// A task is closed while it waits to be opened again: the end comes at once.
#[tokio::test(start_paused = true)]
async fn a_task_that_has_failed_closes_at_once() {
    let world = World::new(Setup::open_end(20));
    world.take_store_down(true);
    let running = world.start(Fate::Live);
    until("it has failed", || running.snapshot().phase == TaskPhase::Failed).await;
    running.tell(Control::Close);
    let told = tokio::time::Instant::now();
    assert_eq!(running.end().await, TaskEnd::Abandoned);
    assert!(told.elapsed() < INTERVAL, "{:?}", told.elapsed());
}

fn task() -> TaskRef {
    TaskRef { input: "logs".to_owned(), split: "0".to_owned() }
}

#[test]
fn a_trouble_has_the_time_since_which_it_lasts() {
    let observed = Arc::new(Observed::default());
    let sink = || Part::Sink("search".to_owned());
    let (well, ill): (Health, Health) = (observed.health(sink()), observed.health(sink()));
    assert_eq!(observed.snapshot(&task(), 10).troubles, []);
    ill.trouble(ErrorReason::Throttled, "slow down");
    well.clear();
    let seen = observed.snapshot(&task(), 20).troubles;
    assert_eq!((seen.len(), seen[0].since_millis, &*seen[0].message), (1, 20, "slow down"));
    ill.trouble(ErrorReason::Unreachable, "gone");
    let seen = observed.snapshot(&task(), 30).troubles;
    assert_eq!((seen[0].since_millis, seen[0].reason), (20, ErrorReason::Unreachable), "the same part, without a break");

    assert_eq!(observed.snapshot(&task(), 30).failures, None);
    observed.failed(sink(), &ConnectorError::new(ErrorReason::Unreachable, "gave up").caused_by("no route"));
    observed.restart();
    let seen = observed.snapshot(&task(), 40).troubles;
    assert_eq!((seen[0].since_millis, &*seen[0].message), (20, "gave up: no route"));
    observed.recovered();
    assert_eq!(observed.snapshot(&task(), 50).troubles, []);
    observed.failed(Part::Task, &ConnectorError::new(ErrorReason::Internal, "again"));
    assert_eq!(observed.snapshot(&task(), 60).troubles[0].since_millis, 60, "a new trouble");
    observed.recovered();
    assert_eq!(observed.snapshot(&task(), 70).failures, Some(2), "how often it was is not forgotten");
}
