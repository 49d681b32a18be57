//! How a task flows and how it ends: back-pressure, idling, draining, closing.

use std::sync::Arc;
use std::time::Duration;

use millrace_crds::report::TaskPhase;
use millrace_engine::runtime::{Control, TaskEnd};
use tokio::time::{Instant, sleep};

use crate::process::Fate;
use crate::sink::Request;
use crate::source::Kind;
use crate::store::Chaos;
use crate::world::{DRAIN_BUDGET, INTERVAL, Setup, World, until};

#[tokio::test(start_paused = true)]
async fn a_sink_that_blocks_stops_reading_at_the_bound_and_nothing_is_lost() {
    let bound = 256 << 10;
    let setup = Setup { body: 2000, batch: 8, pace: Duration::from_millis(1), in_flight_bytes: bound, ..Setup::open_end(2000) };
    let world = World::new(setup);
    let running = world.start(Fate::Live);
    let in_flight = || world.script.delivered_bytes().0 - world.main.written_bytes();
    let mut most = 0;
    let mut watch = async |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            most = most.max(in_flight());
            sleep(Duration::from_millis(1)).await;
        }
    };
    watch(Duration::from_millis(100)).await;
    world.main.block(&[Request::Write]);
    watch(Duration::from_secs(30)).await;
    let blocked_at = world.script.delivered_bytes();
    watch(Duration::from_mins(30)).await;
    assert_eq!(world.script.delivered_bytes(), blocked_at, "reading went on");
    world.main.heal();
    until("everything is acknowledged", || world.script.acknowledged() == world.script.len()).await;
    let (_, largest) = world.script.delivered_bytes();
    assert!(most > bound / 2 && most <= bound + largest, "{most} bytes were in flight, {bound} were allowed, and a batch has {largest}");
    assert!(world.script.deliveries().iter().all(|times| *times == 1), "something was read twice");
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    world.verify("after the block");
}

#[tokio::test(start_paused = true)]
async fn closing_gives_up_within_its_budget_and_nothing_is_lost() {
    for request in [Request::Write, Request::Prepare, Request::Commit] {
        let world = World::new(Setup { body: 2000, in_flight_bytes: 64 << 10, ..Setup::open_end(400) });
        let running = world.start(Fate::Live);
        sleep(INTERVAL * 5 / 2).await;
        world.main.block(&[request]);
        sleep(INTERVAL * 20).await;
        let told = Instant::now();
        running.tell(Control::Close);
        let observed = Arc::clone(&running.observed);
        assert_eq!(running.end().await, TaskEnd::Abandoned, "{request:?}");
        assert!(told.elapsed() <= DRAIN_BUDGET + Duration::from_millis(1), "{request:?}: closing took {:?}", told.elapsed());
        assert_ne!(world.report(&observed).phase, TaskPhase::Finished, "{request:?}: an abandoned task has not finished");
        world.main.heal();
        let successor = world.start(Fate::Live);
        until("everything is acknowledged", || world.script.acknowledged() == world.script.len()).await;
        successor.tell(Control::Close);
        assert_eq!(successor.end().await, TaskEnd::Released, "{request:?}");
        world.verify(&format!("{request:?} was blocked"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_closes_while_a_sink_blocks_is_acknowledged_at_once() {
    let world = World::new(Setup { body: 2000, in_flight_bytes: 64 << 10, ..Setup::open_end(400) });
    let running = world.start(Fate::Live);
    world.main.block(&[Request::Commit]);
    until("an epoch waits for its commit", || !world.epochs().is_empty()).await;
    let record = world.epochs().remove(0);
    world.main.block(&[Request::Write]);
    sleep(INTERVAL * 20).await;
    assert_eq!(world.script.acknowledged(), 0);
    world.main.heal();
    world.main.block(&[Request::Write]);
    sleep(INTERVAL * 2).await;
    assert!(world.script.acknowledged() > 0, "epoch {} is committed, but the source is not told while the sink blocks", record.epoch);
    assert_eq!(running.snapshot().epoch, record.epoch.0);
    world.main.heal();
    running.tell(Control::Drain);
    assert_eq!(running.end().await, TaskEnd::Finished);
    world.verify_rules("while the sink blocked");
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_told_while_a_sink_blocks() {
    let world = World::new(Setup { body: 2000, in_flight_bytes: 64 << 10, ..Setup::open_end(400) });
    let running = world.start(Fate::Live);
    world.main.block(&[Request::Write]);
    sleep(INTERVAL * 20).await;
    let before = running.snapshot().lag_records.unwrap();
    world.script.add(vec![Kind::Good; 1000]);
    sleep(INTERVAL * 5).await;
    assert_eq!(running.snapshot().lag_records, Some(before + 1000));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_input_finishes_the_task() {
    let world = World::new(Setup::mixed(30));
    let running = world.start(Fate::Live);
    let observed = Arc::clone(&running.observed);
    assert_eq!(running.end().await, TaskEnd::Finished);
    world.verify("to the end");
    assert_eq!(world.script.acknowledged(), 30);
    let again = world.start(Fate::Live);
    let report = world.report(&observed);
    assert_eq!(report.phase, TaskPhase::Finished);
    assert_eq!((report.records_in, report.dead_lettered, report.dropped), (30, world.dead.visible().len() as u64, 0));
    assert_eq!(again.end().await, TaskEnd::Finished, "a finished task finishes again");
    assert!(world.script.deliveries().iter().all(|times| *times == 1), "something was read twice");
    world.verify("finished twice");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_drains_makes_everything_durable_and_finishes() {
    let world = World::new(Setup::open_end(60));
    let running = world.start(Fate::Live);
    sleep(INTERVAL * 3 / 2).await;
    running.tell(Control::Drain);
    let drained = world.script.deliveries().len();
    assert!((8..60).contains(&drained), "{drained} were read");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(running.end().await, TaskEnd::Finished);
    let delivered = world.script.deliveries().len() as u64;
    assert!(delivered <= drained as u64 + 4, "{delivered} were read in the end");
    assert_eq!(world.main.visible(), (0..delivered).collect::<Vec<_>>());
    assert_eq!(world.script.acknowledged(), delivered);

    let draining = world.start_with(Fate::Live, Control::Drain, Chaos::none());
    assert_eq!(draining.end().await, TaskEnd::Finished, "a task that starts draining");
    assert_eq!(world.script.deliveries().len() as u64, delivered);
    world.verify_rules("drained");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_closes_leaves_nothing_to_read_again() {
    let world = World::new(Setup::open_end(100));
    let mut closed = 0;
    while world.script.acknowledged() < 100 {
        let running = world.start(Fate::Live);
        sleep(INTERVAL * 3 / 2 + Duration::from_millis(closed * 130)).await;
        let snapshot = running.snapshot();
        assert_eq!((snapshot.phase, snapshot.troubles), (TaskPhase::Running, vec![]));
        running.tell(Control::Close);
        let observed = Arc::clone(&running.observed);
        assert_eq!(running.end().await, TaskEnd::Released);
        assert_ne!(world.report(&observed).phase, TaskPhase::Finished, "a released task may have more to read");
        closed += 1;
    }
    assert!(closed > 3, "{closed}");
    assert!(world.script.deliveries().iter().all(|times| *times == 1), "something was read twice");
    let opened = world.script.opened();
    assert!(opened.is_sorted() && opened.len() as u64 == closed, "{opened:?}");
    world.verify("closed again and again");
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_controller_is_gone_closes() {
    let world = World::new(Setup::open_end(60));
    let mut running = world.start(Fate::Live);
    sleep(INTERVAL * 3 / 2).await;
    running.control = tokio::sync::watch::Sender::default();
    assert_eq!(running.end().await, TaskEnd::Released);
    let delivered = world.script.deliveries().len() as u64;
    assert_eq!(world.main.visible(), (0..delivered).collect::<Vec<_>>());
    assert_eq!(world.script.acknowledged(), delivered);
    world.verify_rules("without a controller");
}

#[tokio::test(start_paused = true)]
async fn an_idle_task_writes_nothing_and_says_that_it_is_up_to_date() {
    let world = World::new(Setup::open_end(20));
    let running = world.start(Fate::Live);
    until("everything is acknowledged", || world.script.acknowledged() == 20).await;
    let (epochs, before) = (world.epochs().len(), running.snapshot());
    assert!(before.epoch_at_millis.is_some());
    let steps = running.process.steps().len();
    sleep(INTERVAL * 60).await;
    let after = running.snapshot();
    assert_eq!((world.epochs().len(), after.epoch), (epochs, before.epoch), "an epoch was written");
    assert_eq!(running.process.steps().len(), steps, "an idle task did something");
    assert!(after.epoch_at_millis >= before.epoch_at_millis.map(|at| at + 50_000), "{before:?} {after:?}");
    assert!(after.idle);

    world.script.add(vec![Kind::Good; 3]);
    until("what came is acknowledged", || world.script.acknowledged() == 23).await;
    assert!(running.snapshot().epoch > before.epoch);
    world.verify("after the rest");
}
