//! State is stored by what has changed in it, and restored from any chain of files.

use std::sync::Arc;

use millrace_engine::runtime::TaskEnd;

use super::scene::{Scene, counted};
use super::splits::Row;
use crate::process::{Dice, Fate};
use crate::world::Outcome;

/// Runs with a crash at a place that chance chooses.
const ROUNDS: usize = 32;
const OPERATOR: &str = "counts/window_aggregate/0";

/// Many keys in one window that stays open, then few rows at a time for some of them, and others' last rows.
fn rows() -> Vec<Vec<Row>> {
    // Keys that cannot be compressed: a file of changes costs some hundred bytes, however few they are.
    let key = |number: u64| -> &'static str {
        let word = |factor: u64| (number + 1).wrapping_mul(factor);
        Box::leak(format!("{:016x}{:016x}", word(0x9e37_79b9_7f4a_7c15), word(0xd1b5_4a32_d192_ed03)).into_boxed_str())
    };
    let many = (0..400).map(|number| (Some(1), key(number)));
    let few = (0..200).map(|number| (Some(2), key(number * 7 % 400)));
    let after = [(Some(40), "last"), (Some(50), "last")];
    vec![many.chain(few).chain(after).collect()]
}

#[tokio::test(start_paused = true)]
async fn an_epoch_stores_what_has_changed_and_any_of_them_is_restored() {
    let rows = rows();
    let expected = counted(&rows);
    let scene = Scene::new(rows.clone(), true);
    let running = scene.start(Fate::Live);
    let process = Arc::clone(&running.process);
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), expected);
    let steps = process.steps().len();

    let mut dice = Dice::new(7);
    let (mut longest, mut crashed_on_changes) = (0, 0);
    for round in 0..ROUNDS {
        let scene = Scene::new(rows.clone(), true);
        let crash = dice.below(steps);
        assert_eq!(scene.start(Fate::CrashAt(crash)).outcome().await, Outcome::Crashed, "round {round}");
        let lengths: Vec<u64> =
            scene.epochs().last().into_iter().filter_map(|epoch| epoch.operators.get(OPERATOR)).flatten().map(|file| file.length).collect();
        longest = longest.max(lengths.len());
        if let [whole, changes @ ..] = &lengths[..] {
            crashed_on_changes += usize::from(!changes.is_empty());
            assert!(changes.iter().sum::<u64>() * 2 <= *whole, "{lengths:?}");
        }
        // Twice: what is restored from changes is added to again.
        let _either = scene.start(Fate::CrashAt(dice.below(steps - crash).max(40))).outcome().await;
        assert_eq!(scene.start(Fate::Live).end().await, TaskEnd::Finished, "round {round}, crash at {crash}");
        assert_eq!(scene.results.rows(), expected, "round {round}, crash at {crash}");
    }
    assert!(longest > 4 && crashed_on_changes > ROUNDS / 2, "{longest} files at most, {crashed_on_changes} crashes on more than one");
}
