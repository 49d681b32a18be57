//! Whatever crashes or sleeps, and wherever: every record has its effect once.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_engine::runtime::{Control, TaskEnd};
use object_store::local::LocalFileSystem;

use crate::process::{Dice, Fate};
use crate::store::Chaos;
use crate::world::{Outcome, Setup, World};

/// Six epochs.
const ROWS: u64 = 56;
/// Enough epochs for two garbage collections.
const MANY_ROWS: u64 = 330;

/// The steps of a run that nothing befalls.
async fn steps(setup: Setup) -> Vec<String> {
    let world = World::new(setup);
    let running = world.start(Fate::Live);
    let process = Arc::clone(&running.process);
    assert_eq!(running.end().await, TaskEnd::Finished);
    world.verify("nothing befalls");
    process.steps()
}

/// Crashes at step `number`, and lets a successor finish.
async fn crash_at(setup: Setup, number: usize, step: &str) {
    let context = format!("crash at step {number}, {step}");
    let world = World::new(setup);
    assert_eq!(world.start(Fate::CrashAt(number)).outcome().await, Outcome::Crashed, "{context}");
    assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "{context}");
    world.verify(&context);
}

#[tokio::test(start_paused = true)]
async fn every_record_has_its_effect_once_wherever_one_crash_comes() {
    let steps = steps(Setup::mixed(ROWS)).await;
    let kinds: BTreeSet<&str> = steps.iter().map(String::as_str).collect();
    for named in [
        "store: list",
        "store: put record: before",
        "store: put record: after",
        "store: put committed: before",
        "store: put committed: after",
        "source: open",
        "source: read",
        "source: acknowledge: before",
        "source: acknowledge: after",
        "main: write: after",
        "main: prepare: before",
        "main: prepare: a part",
        "main: prepare: after",
        "main: commit: before",
        "main: commit: a part",
        "keyed: write: after",
        "dead: write: after",
        "dead: prepare: a part",
        "dead: commit: a part",
    ] {
        assert!(kinds.contains(named), "no step is {named:?}: {kinds:?}");
    }
    for (number, step) in steps.iter().enumerate() {
        crash_at(Setup::mixed(ROWS), number, step).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_old_epochs_are_deleted_harms_nothing() {
    let steps = steps(Setup::mixed(MANY_ROWS)).await;
    let deletions: Vec<usize> = (0..steps.len()).filter(|number| steps[*number].starts_with("store: delete")).collect();
    assert!(deletions.len() > 20, "{} deletions in {} steps", deletions.len(), steps.len());
    for number in deletions.into_iter().step_by(3) {
        crash_at(Setup::mixed(MANY_ROWS), number, &steps[number]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_serves_as_store() {
    let directory = || {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        (folder, Setup { store, ..Setup::mixed(ROWS) })
    };
    let (_folder, setup) = directory();
    let steps = steps(setup).await;
    for number in (0..steps.len()).step_by(11) {
        let (_folder, setup) = directory();
        crash_at(setup, number, &steps[number]).await;
    }
}

/// Up to six crashes in a row, with a store that fails, loses replies and is slow meanwhile.
#[tokio::test(start_paused = true)]
async fn every_record_has_its_effect_once_after_many_crashes_on_a_bad_store() {
    let longest = steps(Setup::mixed(ROWS)).await.len();
    let (mut crashes, mut failures) = (0, 0);
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let world = World::new(Setup::mixed(ROWS));
        let mut finished = false;
        for _ in 0..=dice.below(6) {
            let fate = Fate::CrashAt(dice.below(longest * 2 / 3));
            let chaos = Chaos { dice: Dice::new(dice.below(1 << 30) as u64), per_mille: [0, 20, 150][dice.below(3)] };
            if chaos.per_mille > 0 {
                failures += 1;
            }
            match world.start_with(fate, Control::Run, chaos).outcome().await {
                Outcome::Crashed => crashes += 1,
                Outcome::Ended(end) => {
                    assert_eq!(end, TaskEnd::Finished, "seed {seed}");
                    finished = true;
                    break;
                }
            }
        }
        if !finished {
            assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "seed {seed}");
        }
        world.verify(&format!("seed {seed}"));
    }
    assert!(crashes > 500 && failures > 300, "{crashes} crashes, {failures} runs on a bad store");
}

/// How an owner may end that slept at step `number` until a successor had finished: who owned the task, and had an epoch to write, must learn of it.
fn ends(steps: &[String], number: usize) -> &'static [TaskEnd] {
    let opened = steps.iter().position(|step| step == "source: open").unwrap();
    let last = steps.iter().rposition(|step| step == "store: put record: after").unwrap();
    match number {
        _ if number > last => &[TaskEnd::Finished],
        _ if number >= opened => &[TaskEnd::Fenced],
        _ => &[TaskEnd::Finished, TaskEnd::Fenced],
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_sleeps_until_its_successor_has_finished_changes_nothing() {
    let steps = steps(Setup::mixed(ROWS)).await;
    let mut fenced = 0;
    for (number, step) in steps.iter().enumerate() {
        let context = format!("asleep at step {number}, {step}");
        let world = World::new(Setup::mixed(ROWS));
        let sleeper = world.start(Fate::FreezeAt(number));
        sleeper.process.frozen().await;
        assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "{context}");
        world.verify(&format!("{context}, before it wakes"));
        sleeper.process.thaw();
        let end = sleeper.end().await;
        assert!(ends(&steps, number).contains(&end), "{context}: {end:?}");
        fenced += usize::from(end == TaskEnd::Fenced);
        world.verify(&context);
    }
    assert!(fenced > 100, "{fenced}");
}

/// The number of the sleeper's next epoch has been used and deleted when it wakes.
#[tokio::test(start_paused = true)]
async fn an_owner_that_sleeps_over_a_garbage_collection_changes_nothing() {
    let steps = steps(Setup::mixed(MANY_ROWS)).await;
    let first_epochs = steps.iter().position(|step| step == "source: open").unwrap()..steps.len() / 10;
    let chosen = first_epochs.filter(|number| !steps[*number].contains("write") && !steps[*number].contains("read"));
    let mut collected = 0;
    for number in chosen.step_by(3) {
        let context = format!("asleep at step {number}, {}", steps[number]);
        let world = World::new(Setup::mixed(MANY_ROWS));
        let sleeper = world.start(Fate::FreezeAt(number));
        sleeper.process.frozen().await;
        assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "{context}");
        collected += usize::from(!world.has_record(5).await);
        sleeper.process.thaw();
        assert_eq!(sleeper.end().await, TaskEnd::Fenced, "{context}");
        world.verify(&context);
    }
    assert!(collected > 5, "{collected}");
}

/// Two owners sleep and wake in turns; a third one finishes.
#[tokio::test(start_paused = true)]
async fn owners_that_sleep_in_turns_change_nothing() {
    let longest = steps(Setup::mixed(ROWS)).await.len();
    for seed in 1000..1200 {
        let mut dice = Dice::new(seed);
        let world = World::new(Setup::mixed(ROWS));
        let mut sleepers = Vec::new();
        for _ in 0..=dice.below(3) {
            let sleeper = world.start(Fate::FreezeAt(dice.below(longest / 2)));
            tokio::select! {
                () = sleeper.process.frozen() => {}
                () = crate::world::until("it ends", || sleeper.is_over()) => {}
            }
            sleepers.push(sleeper);
        }
        while !sleepers.is_empty() {
            let sleeper = sleepers.swap_remove(dice.below(sleepers.len()));
            sleeper.process.thaw();
            let end = sleeper.end().await;
            assert!(matches!(end, TaskEnd::Fenced | TaskEnd::Finished), "seed {seed}: {end:?}");
        }
        assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "seed {seed}");
        world.verify(&format!("seed {seed}"));
    }
}

#[tokio::test(start_paused = true)]
async fn every_record_has_its_effect_once_in_transactions_wherever_one_crash_comes() {
    let all = steps(Setup::anchored(ROWS)).await;
    assert!(all.iter().any(|step| step == "main: commit: after"), "{all:?}");
    for (number, step) in all.iter().enumerate() {
        crash_at(Setup::anchored(ROWS), number, step).await;
    }
    // And then once more, while the successor finds out where things stand.
    let before_commit = all.iter().rposition(|step| step == "main: commit: before").unwrap();
    for number in 0..all.len() / 4 {
        let world = World::new(Setup::anchored(ROWS));
        assert_eq!(world.start(Fate::CrashAt(before_commit)).outcome().await, Outcome::Crashed);
        let _whatever_becomes_of_it = world.start(Fate::CrashAt(number)).outcome().await;
        assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "{number}");
        world.verify(&format!("crash at {before_commit}, then at {number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_fails_is_done_again_by_the_same_owner() {
    let world = World::new(Setup::anchored(ROWS));
    world.main.fail(crate::sink::Request::Commit, millrace_crds::report::ErrorReason::ServerError);
    assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished);
    world.verify("the first commit fails");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_sleeps_with_a_transaction_until_its_successor_has_finished_changes_nothing() {
    let steps = steps(Setup::anchored(ROWS)).await;
    for (number, step) in steps.iter().enumerate() {
        let context = format!("asleep at step {number}, {step}");
        let world = World::new(Setup::anchored(ROWS));
        let sleeper = world.start(Fate::FreezeAt(number));
        sleeper.process.frozen().await;
        assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "{context}");
        world.verify(&format!("{context}, before it wakes"));
        sleeper.process.thaw();
        let end = sleeper.end().await;
        assert!(matches!(end, TaskEnd::Fenced | TaskEnd::Finished), "{context}: {end:?}");
        world.verify(&context);
    }
}

#[tokio::test(start_paused = true)]
async fn owners_with_transactions_that_sleep_and_crash_in_turns_on_a_bad_store_change_nothing() {
    let longest = steps(Setup::anchored(ROWS)).await.len();
    for seed in 2000..2200 {
        let mut dice = Dice::new(seed);
        let world = World::new(Setup::anchored(ROWS));
        let mut sleepers = Vec::new();
        for _ in 0..=dice.below(4) {
            let number = dice.below(longest / 2);
            let fate = if dice.below(2) == 0 { Fate::FreezeAt(number) } else { Fate::CrashAt(number) };
            let chaos = Chaos { dice: Dice::new(dice.below(1 << 30) as u64), per_mille: [0, 20, 150][dice.below(3)] };
            let running = world.start_with(fate, Control::Run, chaos);
            tokio::select! {
                () = running.process.frozen() => sleepers.push(running),
                () = crate::world::until("it ends", || running.is_over()) => {}
            }
        }
        // They wake while another one runs.
        let last = world.start(Fate::Live);
        for sleeper in &sleepers {
            sleeper.process.thaw();
            tokio::time::sleep(std::time::Duration::from_millis(dice.below(3000) as u64)).await;
        }
        for sleeper in sleepers {
            let _whatever_becomes_of_it = sleeper.outcome().await;
        }
        assert!(matches!(last.end().await, TaskEnd::Fenced | TaskEnd::Finished), "seed {seed}");
        assert_eq!(world.start(Fate::Live).end().await, TaskEnd::Finished, "seed {seed}");
        world.verify(&format!("seed {seed}"));
    }
}
