//! Bad records: what each policy does with them, and what happens when their sink is in trouble.

use std::time::Duration;

use millrace_crds::report::{ErrorReason, TaskPhase, TroublePart};
use millrace_engine::runtime::{Control, OnPoison, TaskEnd};
use tokio::time::sleep;

use crate::process::Fate;
use crate::sink::Request;
use crate::source::Kind;
use crate::world::{INTERVAL, Setup, World, until};

#[tokio::test(start_paused = true)]
async fn dropped_records_are_counted() {
    let world = World::new(Setup { on_poison: OnPoison::Drop, ..Setup::mixed(60) });
    let running = world.start(Fate::Live);
    until("it is over", || running.is_over()).await;
    let report = running.snapshot();
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!((report.dead_lettered, report.dropped), (0, 13), "nine cannot be decoded, four cannot be evaluated");
    world.verify("dropped");
}

/// The policy to fail, and the policy to dead-letter without a place for dead letters.
#[tokio::test(start_paused = true)]
async fn a_task_stops_before_a_record_that_has_nowhere_to_go() {
    for (on_poison, dead_letter) in [(OnPoison::Fail, true), (OnPoison::DeadLetter, false)] {
        let mut rows = vec![Kind::Good; 60];
        rows[41] = Kind::Bad;
        let world = World::new(Setup { rows, on_poison, dead_letter, ..Setup::open_end(0) });
        let running = world.start(Fate::Live);
        sleep(INTERVAL * 100).await;
        until("it has failed", || running.snapshot().phase == TaskPhase::Failed).await;
        let troubles = running.snapshot().troubles;
        let [trouble] = &troubles[..] else { panic!("{troubles:?}") };
        assert_eq!((trouble.part, &*trouble.name, trouble.reason), (TroublePart::Source, "script", ErrorReason::PoisonRecord));
        assert!(trouble.message.contains("record 41 of script"), "{}", trouble.message);
        assert!(world.main.visible().len() <= 40 && world.script.acknowledged() <= 40, "it has passed the bad record");
        assert!(world.script.opened().len() > 3, "it tries again");
        assert!(world.dead.visible().is_empty());
        running.tell(Control::Close);
        assert_eq!(running.end().await, TaskEnd::Abandoned);
        world.verify_rules("stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_refuses_is_dead_lettered_in_the_same_epoch() {
    for on_poison in [OnPoison::DeadLetter, OnPoison::Drop] {
        let world = World::new(Setup { on_poison, ..Setup::mixed(60) });
        world.main.refuse([1, 2, 22, 57]);
        let running = world.start(Fate::Live);
        until("it is over", || running.is_over()).await;
        let report = running.snapshot();
        assert_eq!(running.end().await, TaskEnd::Finished);
        let bad = 16;
        let counted = if on_poison == OnPoison::Drop { (0, bad) } else { (bad, 0) };
        assert_eq!((report.dead_lettered, report.dropped), counted, "{on_poison:?}");
        world.verify(&format!("refused, {on_poison:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_stops_before_a_row_that_its_sink_refuses_if_that_is_the_policy() {
    let world = World::new(Setup { on_poison: OnPoison::Fail, ..Setup::open_end(60) });
    world.main.refuse([41]);
    let running = world.start(Fate::Live);
    sleep(INTERVAL * 100).await;
    until("it has failed", || running.snapshot().phase == TaskPhase::Failed).await;
    let troubles = running.snapshot().troubles;
    let [trouble] = &troubles[..] else { panic!("{troubles:?}") };
    assert_eq!((trouble.part, &*trouble.name, trouble.reason), (TroublePart::Sink, "main", ErrorReason::PoisonRecord));
    assert!(world.script.acknowledged() <= 41);
    world.verify_rules("refused");
}

#[tokio::test(start_paused = true)]
async fn reading_pauses_while_the_dead_letter_sink_is_down_and_nothing_is_dropped() {
    const CAP: usize = 8 << 20;
    let body = 64 << 10;
    let rows: Vec<Kind> = (0..1000).map(|ordinal| if ordinal % 4 == 0 { Kind::Good } else { Kind::Bad }).collect();
    for request in [Request::Write, Request::Prepare, Request::Commit] {
        let setup = Setup { rows: rows.clone(), body, pace: Duration::from_millis(10), in_flight_bytes: 64 << 20, ..Setup::open_end(0) };
        let world = World::new(setup);
        world.dead.block(&[request]);
        let running = world.start(Fate::Live);
        sleep(Duration::from_mins(2)).await;
        let read = world.script.deliveries().len();
        // One epoch is closing, another one fills, and the reader is ahead by 4 MiB.
        assert!(read * body < 3 * CAP + (4 << 20) && read > 100, "{request:?}: {read} records were read");
        sleep(Duration::from_mins(30)).await;
        assert_eq!(world.script.deliveries().len(), read, "{request:?}: reading went on");
        assert_eq!(world.script.acknowledged(), 0, "{request:?}");
        let troubles = running.snapshot().troubles;
        let [trouble] = &troubles[..] else { panic!("{request:?}: {troubles:?}") };
        assert_eq!((trouble.part, &*trouble.name, trouble.reason), (TroublePart::Sink, "dead", ErrorReason::Unreachable));

        world.dead.heal();
        until("everything is acknowledged", || world.script.acknowledged() == 1000).await;
        assert_eq!(running.snapshot().troubles, [], "{request:?}");
        assert!(world.script.deliveries().iter().all(|times| *times == 1), "{request:?}: something was read twice");
        world.verify(&format!("{request:?} of dead letters was blocked"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_sink_that_fails_or_refuses_never_loses_a_record() {
    for request in [Request::Write, Request::Prepare, Request::Commit] {
        let world = World::new(Setup::mixed(60));
        for reason in [ErrorReason::Throttled, ErrorReason::Invalid, ErrorReason::AccessDenied] {
            world.dead.fail(request, reason);
        }
        let running = world.start(Fate::Live);
        let mut seen = Vec::new();
        until("it is over", || {
            seen.extend(running.snapshot().troubles.into_iter().map(|trouble| (trouble.part, trouble.name, trouble.reason)));
            running.is_over()
        })
        .await;
        seen.dedup();
        let expected = [ErrorReason::Throttled, ErrorReason::Invalid, ErrorReason::AccessDenied];
        assert_eq!(seen, expected.map(|reason| (TroublePart::Sink, "dead".to_owned(), reason)), "{request:?}");
        assert_eq!(running.end().await, TaskEnd::Finished);
        world.verify(&format!("{request:?} of dead letters failed"));
    }

    let world = World::new(Setup::mixed(60));
    world.dead.refuse([3]);
    let running = world.start(Fate::Live);
    sleep(INTERVAL * 100).await;
    until("it has failed", || running.snapshot().phase == TaskPhase::Failed).await;
    assert_eq!(running.snapshot().troubles[0].reason, ErrorReason::PoisonRecord);
    assert!(world.script.acknowledged() <= 3);
    world.verify_rules("envelope refused");
}
