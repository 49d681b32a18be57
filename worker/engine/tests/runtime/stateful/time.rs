//! Watermarks in a running task: who holds them back, and for how long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_crds::report::{Distribution, ErrorReason};
use millrace_engine::runtime::{Control, TaskEnd};
use tokio::time::sleep;

use super::scene::{DELAY, IDLE, Scene, counted, rows};
use super::splits::{Row, Splits};
use crate::process::Fate;
use crate::world::{INTERVAL, until};

/// Rows of one key, one each second.
fn seconds(range: std::ops::Range<i64>) -> Vec<Row> {
    range.map(|second| (Some(second), "a")).collect()
}

#[tokio::test(start_paused = true)]
async fn an_idle_split_holds_the_windows_back_until_it_is_known_to_be() {
    let scene = Scene::new(vec![seconds(0..40), seconds(0..4)], false);
    let running = scene.start(Fate::Live);
    until("everything is read", || scene.splits.all_acknowledged()).await;
    sleep(IDLE * 2 / 3).await;
    assert_eq!(scene.results.rows(), [] as [&str; 0], "the second split may still have rows of the first window");
    assert_eq!(running.snapshot().watermark_millis, Some(3000 - 5000));
    sleep(Duration::from_secs(12)).await;
    assert_eq!(scene.results.rows(), counted(&[seconds(0..30), seconds(0..4)]));
    assert_eq!(running.snapshot().watermark_millis, Some(39_000 - 5000));
    assert!(running.snapshot().state_bytes.unwrap() > 0);

    scene.splits.add(1, seconds(25..50));
    scene.splits.add(0, seconds(40..60));
    until("what came is acknowledged", || scene.splits.all_acknowledged()).await;
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    let late_is_dropped = [seconds(0..40), seconds(0..4), seconds(30..40)];
    assert_eq!(scene.results.rows(), counted(&late_is_dropped), "rows of windows that have ended change nothing");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_an_idle_split_closed_is_not_opened_again_after_a_restore() {
    let scene = Scene::new(vec![seconds(0..40), seconds(0..4)], false);
    let running = scene.start(Fate::Live);
    until("windows have closed", || !scene.results.rows().is_empty()).await;
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    let again = scene.start(Fate::Live);
    scene.splits.add(1, seconds(5..20));
    until("everything is read", || scene.splits.all_acknowledged()).await;
    scene.splits.add(0, seconds(40..80));
    scene.splits.add(1, seconds(60..80));
    until("everything is read", || scene.splits.all_acknowledged()).await;
    again.tell(Control::Close);
    assert_eq!(again.end().await, TaskEnd::Released);
    assert_eq!(scene.results.rows(), counted(&[seconds(0..70), seconds(0..4), seconds(60..70)]));
}

/// What comes out of OVER, which knows what is late by the watermark alone, when rows come after the watermark has passed them.
async fn over(restored: bool) -> Vec<String> {
    let scene = Scene::new(vec![seconds(0..40)], false);
    let frame = "PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '1' SECOND PRECEDING AND CURRENT ROW";
    let sql = format!("SELECT ts, k, count(k) OVER ({frame}) AS n FROM events");
    *scene.step.lock().unwrap() = millrace_crds::pipeline::Step { name: "counts".to_owned(), sql };
    let mut running = scene.start(Fate::Live);
    until("everything is read", || scene.splits.all_acknowledged()).await;
    if restored {
        running.tell(Control::Close);
        assert_eq!(running.end().await, TaskEnd::Released);
        running = scene.start(Fate::Live);
    }
    scene.splits.add(0, seconds(5..20));
    until("the late rows are read", || scene.splits.all_acknowledged()).await;
    scene.splits.add(0, seconds(40..60));
    until("everything is read", || scene.splits.all_acknowledged()).await;
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    scene.results.rows()
}

/// The watermark does not move before the late rows are there: operators know that they are late only if they are told again what they knew.
#[tokio::test(start_paused = true)]
async fn rows_that_were_late_before_a_restore_are_late_after_it() {
    let uninterrupted = over(false).await;
    assert!(uninterrupted.len() > 50, "{uninterrupted:?}");
    assert_eq!(over(true).await, uninterrupted);
}

#[tokio::test(start_paused = true)]
async fn a_split_that_appears_is_read_from_its_start_and_holds_back() {
    let scene = Scene::new(vec![seconds(0..20), seconds(0..20), seconds(2..30)], false);
    scene.splits.listed.store(2, Ordering::Relaxed);
    let running = scene.start(Fate::Live);
    until("the first window has closed", || !scene.results.rows().is_empty()).await;
    scene.splits.listed.store(3, Ordering::Relaxed);
    until("everything is read", || scene.splits.all_acknowledged()).await;
    for split in 0..3 {
        scene.splits.add(split, seconds(30..50));
    }
    until("everything is read", || scene.splits.all_acknowledged()).await;
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    assert_eq!(scene.epochs().last().unwrap().positions.len(), 3);
    // It came too late for the first window.
    let counted_rows = [seconds(0..20), seconds(0..20), seconds(10..30), seconds(30..40), seconds(30..40), seconds(30..40)];
    assert_eq!(scene.results.rows(), counted(&counted_rows));
}

#[tokio::test(start_paused = true)]
async fn what_is_drained_goes_on_from_its_windows() {
    let scene = Scene::new(rows(), false);
    let running = scene.start(Fate::Live);
    sleep(INTERVAL * 3 / 2).await;
    running.tell(Control::Drain);
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert!(scene.results.rows().len() < counted(&rows()).len() / 2, "windows are not cut off");
    let again = scene.start(Fate::Live);
    until("everything is read", || scene.splits.all_acknowledged()).await;
    scene.splits.add(0, seconds(1000..1010));
    scene.splits.add(1, seconds(1000..1010));
    until("everything is read", || scene.splits.all_acknowledged()).await;
    again.tell(Control::Close);
    assert_eq!(again.end().await, TaskEnd::Released);
    assert_eq!(scene.results.rows(), counted(&rows()));
}

#[tokio::test(start_paused = true)]
async fn rows_without_an_event_time_are_bad_records() {
    let mut rows = vec![seconds(0..10), seconds(0..10)];
    rows[1][3].0 = None;
    let scene = Scene::new(rows.clone(), true);
    let running = scene.start(Fate::Live);
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), counted(&rows));
    let dead = scene.dead.lock().unwrap().clone();
    assert!(matches!(&dead[..], [(3, error)] if error.contains("event time is NULL") && error.contains("\"ts\"")), "{dead:?}");
}

#[tokio::test(start_paused = true)]
async fn state_that_outgrows_its_bound_stops_the_task_and_says_what_to_do() {
    let mut scene = Scene::two_splits();
    scene.state_bytes = 10;
    let running = scene.start(Fate::Live);
    let trouble = running.trouble().await;
    assert_eq!(trouble.reason, ErrorReason::Invalid);
    for word in ["limits.maxStateBytes allows 10", "workload.resources.limits.memory"] {
        assert!(trouble.message.contains(word), "{}", trouble.message);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_queue_it_reads_its_own_split_and_finishes_what_others_left() {
    let mut splits = Splits::new(vec![seconds(0..30), seconds(0..30), seconds(0..30)], false);
    splits.distribution = Distribution::Competing;
    let scene = Scene::of(splits);
    let running = scene.start(Fate::Live);
    sleep(INTERVAL * 10).await;
    assert_eq!(scene.splits.opened.lock().unwrap().len(), 3);
    let positions = scene.epochs().last().unwrap().positions.clone();
    let read = |split: &str| positions.get(&millrace_engine::checkpoint::position_key("events", split)).and_then(serde_json::Value::as_u64);
    assert_eq!((read("0"), read("1"), read("2")), (Some(30), Some(0), Some(0)), "the others were told to drain at once");
    assert_eq!(scene.results.rows(), counted(&[seconds(0..20)]), "and hold nothing back");
    assert_eq!(running.snapshot().watermark_millis, Some(29_000 - i64::try_from(DELAY.as_millis()).unwrap()));
    running.tell(Control::Drain);
    assert_eq!(running.end().await, TaskEnd::Finished);
}

#[tokio::test(start_paused = true)]
async fn an_idle_task_with_state_writes_nothing() {
    let scene = Scene::new(vec![seconds(0..40)], false);
    let running = scene.start(Fate::Live);
    until("everything is read", || scene.splits.all_acknowledged()).await;
    sleep(IDLE * 2).await;
    let steps = running.process.steps().len();
    sleep(INTERVAL * 100).await;
    assert_eq!(running.process.steps().len(), steps, "an idle task did something");
}

#[tokio::test(start_paused = true)]
async fn windows_of_processing_time_end_by_the_clock_of_the_task() {
    const BY_CLOCK: &str = "WITH timed AS (SELECT *, PROCTIME() AS proc FROM events) \
                            SELECT window_start, k, count(*) AS n FROM TUMBLE(TABLE timed, DESCRIPTOR(proc), INTERVAL '10' SECOND) \
                            GROUP BY window_start, window_end, k";
    let total = |rows: Vec<String>| {
        let count = |row: &String| serde_json::from_str::<serde_json::Value>(row).unwrap()["n"].as_u64().unwrap();
        rows.iter().map(count).sum::<u64>()
    };
    let scene = Scene::new(vec![seconds(0..4), seconds(100..103)], false);
    BY_CLOCK.clone_into(&mut scene.step.lock().unwrap().sql);
    let running = scene.start(Fate::Live);
    until("the window has ended, without another row", || total(scene.results.rows()) == 7).await;
    // The clock of the test began at 22:13:20; what the rows say of time is no matter.
    assert_eq!(scene.results.rows(), [r#"{"window_start":"2023-11-14T22:13:20Z","k":"a","n":7}"#]);
    scene.splits.add(0, seconds(4..6));
    until("what came is acknowledged", || scene.splits.all_acknowledged()).await;
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    assert!(scene.epochs().last().unwrap().event_times.as_ref().unwrap().processing_time.is_some());
    let again = scene.start(Fate::Live);
    scene.splits.add(1, seconds(3..5));
    until("open windows have gone on", || total(scene.results.rows()) == 11).await;
    again.tell(Control::Close);
    assert_eq!(again.end().await, TaskEnd::Released);
}

#[tokio::test(start_paused = true)]
async fn a_row_of_the_far_future_ends_no_window() {
    let mut rows = vec![seconds(0..10), seconds(0..30)];
    rows[1].insert(3, (Some(4_000_000_000), "a"));
    let scene = Scene::new(rows, true);
    let running = scene.start(Fate::Live);
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), counted(&[seconds(0..10), seconds(0..30)]));
    let dead = scene.dead.lock().unwrap().clone();
    assert!(matches!(&dead[..], [(3, error)] if error.contains("ahead of the clock") && error.contains("\"ts\"")), "{dead:?}");
}

/// What one input has counted last must not be late because the other has ended: both wake before the first of them comes to its end.
#[tokio::test(start_paused = true)]
async fn joined_windows_are_complete_when_inputs_end_while_they_are_idle() {
    for lanes in [1, 2] {
        for (first, second) in [(0..40, 0..40), (0..40, 0..23), (0..3, 0..40)] {
            let mut scene = Scene::new(vec![seconds(first.clone()), seconds(second.clone())], true);
            scene.joined = true;
            assert_eq!(scene.start_in_lanes(lanes, Fate::Live).end().await, TaskEnd::Finished);
            // Windows that both have.
            let end = (first.end.min(second.end) + 9) / 10 * 10;
            let both = [first, second].map(|rows| seconds(rows.start..rows.end.min(end)));
            assert_eq!(scene.results.rows(), counted(&both), "{lanes} lanes");
        }
    }
}
