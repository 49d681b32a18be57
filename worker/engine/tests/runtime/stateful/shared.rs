//! State that is shared: a task for each split where a key is in one split only, and lanes of the task of all splits. Crashes change nothing.

use std::sync::Arc;

use millrace_engine::runtime::{Control, TaskEnd};
use tokio::time::sleep;

use super::scene::{Scene, counted, rows};
use super::splits::Row;
use crate::process::{Dice, Fate};
use crate::world::{INTERVAL, Outcome};

/// Rows of which each key is in one split only.
fn by_key() -> Vec<Vec<Row>> {
    let of = |split: &Vec<Row>, keys: [&'static str; 2]| split.iter().map(|(time, key)| (*time, keys[usize::from(*key == "b")])).collect();
    rows().iter().zip([["a", "b"], ["c", "d"]]).map(|(split, keys)| of(split, keys)).collect()
}

/// Runs the tasks of both splits side by side.
async fn both(scene: &Scene, fate: impl Fn() -> Fate) -> Vec<Outcome> {
    let running = [scene.start_split(0, fate()), scene.start_split(1, fate())];
    futures::future::join_all(running.map(super::scene::Running::outcome)).await
}

#[tokio::test(start_paused = true)]
async fn splits_keep_windows_of_their_own_wherever_crashes_come() {
    let scene = Scene::new(by_key(), true);
    let process = {
        let (first, second) = (scene.start_split(0, Fate::Live), scene.start_split(1, Fate::Live));
        let process = Arc::clone(&first.process);
        assert_eq!((first.end().await, second.end().await), (TaskEnd::Finished, TaskEnd::Finished));
        process
    };
    assert_eq!(scene.results.rows(), counted(&by_key()));
    assert!(scene.splits.all_acknowledged());
    let (steps, expected) = (process.steps().len(), scene.results.with_coordinates());
    let mut restored = 0;
    for number in 0..steps {
        let scene = Scene::new(by_key(), true);
        let ended = both(&scene, || Fate::CrashAt(number)).await;
        assert!(ended.contains(&Outcome::Crashed), "crash at step {number}");
        restored += scene.epochs().iter().filter(|epoch| !epoch.operators.is_empty()).count().min(1);
        assert_eq!(both(&scene, || Fate::Live).await, [Outcome::Ended(TaskEnd::Finished), Outcome::Ended(TaskEnd::Finished)]);
        assert_eq!(scene.results.with_coordinates(), expected, "crash at step {number}");
        assert!(scene.splits.all_acknowledged(), "crash at step {number}");
    }
    assert!(restored > steps / 2, "{restored} of {steps} had state to restore");
}

/// A split that lags has windows of its own: it is not late because of the other.
#[tokio::test(start_paused = true)]
async fn time_of_one_split_is_not_that_of_another() {
    let later = by_key()[0].iter().map(|(time, key)| (time.map(|time| time + 600), *key)).collect();
    let rows = vec![later, by_key().remove(1)];
    let scene = Scene::new(rows.clone(), true);
    assert_eq!(scene.start_split(0, Fate::Live).end().await, TaskEnd::Finished);
    assert_eq!(scene.start_split(1, Fate::Live).end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), counted(&rows));
}

#[tokio::test(start_paused = true)]
async fn a_task_in_lanes_counts_once_wherever_a_crash_comes_and_with_whatever_lanes_it_goes_on() {
    let scene = Scene::two_splits();
    assert_eq!(scene.start_in_lanes(1, Fate::Live).end().await, TaskEnd::Finished);
    let expected = scene.results.with_coordinates();

    let scene = Scene::two_splits();
    let running = scene.start_in_lanes(3, Fate::Live);
    let process = Arc::clone(&running.process);
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!(scene.results.with_coordinates(), expected, "the same rows of the same names");
    assert!(scene.splits.all_acknowledged());
    let mut dice = Dice::new(7);
    for number in 0..process.steps().len() {
        let scene = Scene::two_splits();
        let _either = scene.start_in_lanes(3, Fate::CrashAt(number)).outcome().await;
        let lanes = u16::try_from(dice.below(4) + 1).unwrap();
        assert_eq!(scene.start_in_lanes(lanes, Fate::Live).end().await, TaskEnd::Finished, "crash at step {number}");
        assert_eq!(scene.results.with_coordinates(), expected, "crash at step {number}, going on with {lanes} lanes");
        assert!(scene.splits.all_acknowledged(), "crash at step {number}");
    }
}

/// The state of all lanes together is what is bounded and reported, and closing waits for what the lanes still hold.
#[tokio::test(start_paused = true)]
async fn a_task_in_lanes_is_closed_with_all_that_it_holds() {
    let scene = Scene::two_splits();
    let running = scene.start_in_lanes(4, Fate::Live);
    sleep(INTERVAL * 5 / 2).await;
    assert!(running.snapshot().state_bytes.unwrap() > 0);
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    let before = scene.epochs().len();
    assert_eq!(scene.start_in_lanes(1, Fate::Live).end().await, TaskEnd::Finished);
    assert!(scene.epochs().len() > before);
    assert_eq!(scene.results.rows(), counted(&rows()));
}

#[tokio::test(start_paused = true)]
async fn state_of_all_lanes_is_bounded_together() {
    let mut scene = Scene::two_splits();
    scene.state_bytes = 10;
    let running = scene.start_in_lanes(2, Fate::Live);
    let trouble = running.trouble().await;
    assert!(trouble.message.contains("limits.maxStateBytes allows 10"), "{}", trouble.message);
}
