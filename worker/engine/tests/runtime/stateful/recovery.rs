//! State survives crashes, and is never replaced by nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use millrace_crds::report::{ErrorReason, TaskRef, TroublePart};
use millrace_engine::runtime::{Control, TaskEnd};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::sleep;

use super::scene::{COUNT, Scene, counted, rows};
use super::splits::Row;
use crate::process::{Dice, Fate};
use crate::world::{INTERVAL, Outcome, until};

/// The steps of a run that nothing befalls, and what comes out of it.
async fn undisturbed() -> (Vec<String>, Vec<String>) {
    let scene = Scene::two_splits();
    let running = scene.start(Fate::Live);
    let process = Arc::clone(&running.process);
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), counted(&rows()));
    assert!(scene.splits.all_acknowledged());
    (process.steps(), scene.results.with_coordinates())
}

#[tokio::test(start_paused = true)]
async fn windows_are_counted_once_wherever_one_crash_comes() {
    let (steps, expected) = undisturbed().await;
    let kinds: BTreeSet<&str> = steps.iter().map(String::as_str).collect();
    for named in ["store: put state: before", "store: put state: after", "store: put record: after", "sink: commit: after", "source: read"]
    {
        assert!(kinds.contains(named), "no step is {named:?}: {kinds:?}");
    }
    let mut restored = 0;
    for (number, step) in steps.iter().enumerate() {
        let context = format!("crash at step {number}, {step}");
        let scene = Scene::two_splits();
        assert_eq!(scene.start(Fate::CrashAt(number)).outcome().await, Outcome::Crashed, "{context}");
        restored += usize::from(scene.epochs().last().is_some_and(|epoch| !epoch.operators.is_empty()));
        assert_eq!(scene.start(Fate::Live).end().await, TaskEnd::Finished, "{context}");
        assert_eq!(scene.results.with_coordinates(), expected, "{context}");
        assert!(scene.splits.all_acknowledged(), "{context}");
    }
    assert!(restored > steps.len() / 2, "{restored} of {} had state to restore", steps.len());
}

#[tokio::test(start_paused = true)]
async fn windows_are_counted_once_after_many_crashes_and_sleeps() {
    let (steps, expected) = undisturbed().await;
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let scene = Scene::two_splits();
        let mut sleepers = Vec::new();
        for _ in 0..=dice.below(4) {
            if dice.below(3) == 0 {
                let sleeper = scene.start(Fate::FreezeAt(dice.below(steps.len() / 2)));
                tokio::select! {
                    () = sleeper.process.frozen() => sleepers.push(sleeper),
                    () = sleep(INTERVAL * 600) => {}
                }
            } else {
                let _either = scene.start(Fate::CrashAt(dice.below(steps.len() * 2 / 3))).outcome().await;
            }
        }
        for sleeper in &sleepers {
            sleeper.process.thaw();
        }
        for sleeper in sleepers {
            let end = sleeper.end().await;
            assert!(matches!(end, TaskEnd::Fenced | TaskEnd::Finished), "seed {seed}: {end:?}");
        }
        assert_eq!(scene.start(Fate::Live).end().await, TaskEnd::Finished, "seed {seed}");
        assert_eq!(scene.results.with_coordinates(), expected, "seed {seed}");
    }
}

/// A task that was closed half-way.
async fn half_way() -> Scene {
    let scene = Scene::two_splits();
    let running = scene.start(Fate::Live);
    sleep(INTERVAL * 5 / 2).await;
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    assert!(!scene.epochs().last().unwrap().operators.is_empty());
    scene
}

/// The newest state file.
pub(super) async fn state_file(scene: &Scene) -> (Path, Bytes) {
    let files: Vec<_> = scene.store().list(None).try_collect().await.unwrap();
    let named = &scene.epochs().last().unwrap().operators.values().next().unwrap()[0].path.clone();
    let file = files.into_iter().find(|file| file.location.as_ref().ends_with(named.as_str())).unwrap().location;
    let bytes = scene.store().get(&file).await.unwrap().bytes().await.unwrap();
    (file, bytes)
}

#[tokio::test(start_paused = true)]
async fn damaged_state_stops_the_task_and_is_never_replaced_by_nothing() {
    type Damage = fn(&Bytes) -> Option<Vec<u8>>;
    let damages: [(&str, Damage, &str); 4] = [
        ("gone", |_| None, "it is gone"),
        ("cut", |bytes| Some(bytes[..bytes.len() - 1].to_vec()), "were written"),
        ("flipped", |bytes| Some(bytes.iter().enumerate().map(|(at, byte)| if at == 40 { byte ^ 4 } else { *byte }).collect()), "SHA-256"),
        ("foreign", |bytes| Some(vec![b'x'; bytes.len()]), "SHA-256"),
    ];
    for (name, damage, said) in damages {
        let scene = half_way().await;
        let before = scene.results.rows();
        let (file, bytes) = state_file(&scene).await;
        match damage(&bytes) {
            None => scene.store().delete(&file).await.unwrap(),
            Some(damaged) => drop(scene.store().put(&file, damaged.into()).await.unwrap()),
        }
        let running = scene.start(Fate::Live);
        let trouble = running.trouble().await;
        assert_eq!((trouble.part, trouble.reason), (TroublePart::State, ErrorReason::Corrupt), "{name}");
        for word in [said, "counts/window_aggregate/0", file.as_ref(), "restore this object"] {
            assert!(trouble.message.contains(word), "{name}: {}", trouble.message);
        }
        sleep(INTERVAL * 60).await;
        assert_eq!(scene.results.rows(), before, "{name}: something came out");

        scene.store().put(&file, bytes.into()).await.unwrap();
        assert_eq!(running.end().await, TaskEnd::Finished, "{name}: the object is back");
        assert_eq!(scene.results.rows(), counted(&rows()), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_restore_the_state_is_refused_and_the_one_before_goes_on() {
    let scene = half_way().await;
    let epochs = scene.epochs().len();
    let other_function = COUNT.replace("count(*)", "max(k)");
    for (name, sql, said) in [("counts", other_function.as_str(), "the plan now has"), ("renamed", COUNT, "the plan has no such operator")]
    {
        *scene.step.lock().unwrap() = millrace_crds::pipeline::Step { name: name.to_owned(), sql: sql.to_owned() };
        let running = scene.start(Fate::Live);
        let trouble = running.trouble().await;
        assert_eq!((trouble.part, trouble.reason), (TroublePart::Task, ErrorReason::Invalid));
        for word in [said, "counts/window_aggregate/0", "count", "take the change back"] {
            assert!(trouble.message.contains(word), "{}", trouble.message);
        }
        running.tell(Control::Close);
        assert_eq!(running.end().await, TaskEnd::Abandoned);
    }
    assert_eq!(scene.epochs().len(), epochs, "nothing was written");
    *scene.step.lock().unwrap() = millrace_crds::pipeline::Step { name: "counts".to_owned(), sql: COUNT.to_owned() };
    assert_eq!(scene.start(Fate::Live).end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), counted(&rows()));
}

#[tokio::test(start_paused = true)]
async fn state_that_does_not_fit_is_dropped_where_that_is_allowed() {
    let mut scene = half_way().await;
    scene.may_drop_state = true;
    let before = scene.results.rows();
    *scene.step.lock().unwrap() = millrace_crds::pipeline::Step { name: "renamed".to_owned(), sql: COUNT.to_owned() };
    assert_eq!(scene.start(Fate::Live).end().await, TaskEnd::Finished);
    // Positions are kept: what was counted is not counted again, and windows that begin later are complete.
    let (after, complete) = (scene.results.rows(), counted(&rows()));
    assert!(before.iter().all(|row| after.contains(row)), "{after:?}");
    assert_eq!(after.last(), complete.last());
    assert_ne!(after, complete, "what the open windows had counted is lost");
    let kept: Vec<_> = scene.epochs().last().unwrap().operators.keys().cloned().collect();
    assert_eq!(kept, ["renamed/window_aggregate/0"], "nothing is left of the dropped state");
}

#[tokio::test(start_paused = true)]
async fn tasks_of_splits_and_the_task_of_all_do_not_follow_one_another() {
    let scene = half_way().await;
    *scene.task.lock().unwrap() = TaskRef { input: "events".to_owned(), split: "0".to_owned() };
    let running = scene.start(Fate::Live);
    let trouble = running.trouble().await;
    assert_eq!((trouble.part, trouble.reason), (TroublePart::Task, ErrorReason::Invalid));
    assert!(trouble.message.contains("its positions are those of task _2a_2fall"), "{}", trouble.message);
}

/// What is read back from a file comes in one piece of memory, which each column of each window must let go.
#[tokio::test(start_paused = true)]
async fn restored_state_takes_no_more_memory_than_before() {
    // The second split holds time back for as long as it has rows.
    let rows = |step: i64| -> Vec<Row> {
        (0..600).map(|number| (Some(number * step), ["a", "b", "c"][usize::try_from(number % 3).unwrap()])).collect()
    };
    let scene = Scene::new(vec![rows(3), rows(0)], false);
    let running = scene.start(Fate::Live);
    until("everything is read", || scene.splits.all_acknowledged()).await;
    let before = running.snapshot().state_bytes.unwrap();
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    let again = scene.start(Fate::Live);
    until("the state is restored", || again.snapshot().state_bytes.is_some_and(|bytes| bytes > 0)).await;
    let after = again.snapshot().state_bytes.unwrap();
    assert!(before > 10_000 && after < 2 * before, "{before} bytes, and {after} once it is restored");
}
