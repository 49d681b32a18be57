//! State that has no room in memory: it goes through a tier, in buckets, and crashes change nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use millrace_crds::report::{ErrorReason, TaskPhase, TroublePart};
use millrace_engine::checkpoint::operator_of;
use millrace_engine::runtime::{Control, SpillSpace, TaskEnd, Tier};
use tokio::time::sleep;

use super::scene::{Scene, counted};
use super::splits::Row;
use crate::process::{Dice, Fate};
use crate::world::INTERVAL;

/// Keys whose state has no room together, while that of some has.
pub(super) static KEYS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| (0..360).map(|number| &*Box::leak(format!("a long key, {number:0100}").into_boxed_str())).collect());
/// Steps between two crashes of the sweep: each goes through all rows twice.
const STRIDE: usize = 120;
/// What rows may take that wait for their state: some batches.
const WAITING: usize = 8 << 10;

pub(super) fn rows() -> Vec<Vec<Row>> {
    let row = |split: i64, number: i64| (Some(number / 8 + split), KEYS[usize::try_from((number * 7 + split * 50) % 360).unwrap()]);
    (0..2).map(|split| (0..320).map(|number| row(split, number)).collect()).collect()
}

/// A tier of a process: bytes in memory. Fails while it is told to.
#[derive(Clone, Default)]
pub(super) struct InMemory {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    is_full: Arc<AtomicBool>,
    puts: Arc<Mutex<usize>>,
    gets: Arc<Mutex<usize>>,
}

impl InMemory {
    /// How often something was put there.
    pub(super) fn puts(&self) -> usize {
        *self.puts.lock().unwrap()
    }

    /// How often something was taken from there.
    pub(super) fn gets(&self) -> usize {
        *self.gets.lock().unwrap()
    }
}

impl Tier for InMemory {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        *self.puts.lock().unwrap() += 1;
        self.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        *self.gets.lock().unwrap() += 1;
        self.files.lock().unwrap().get(name).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }
}

fn scene(memory: usize, tier: &InMemory) -> Scene {
    let mut scene = Scene::new(rows(), true);
    scene.state_bytes = memory;
    scene.spill = Some(Arc::new(SpillSpace::new(Box::new(tier.clone()), 1 << 20)));
    scene
}

/// What comes out of rows where all state has room, and the most memory that it takes.
pub(super) async fn with_room(rows: Vec<Vec<Row>>) -> (Vec<String>, usize) {
    let scene = Scene::new(rows.clone(), true);
    let running = scene.start(Fate::Live);
    let mut most = 0;
    while running.snapshot().phase != TaskPhase::Finished {
        sleep(INTERVAL / 20).await;
        most = most.max(running.snapshot().state_bytes.unwrap_or(0));
    }
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), counted(&rows));
    (scene.results.with_coordinates(), usize::try_from(most).unwrap())
}

/// What comes out, and memory in which the state has no room.
async fn undisturbed() -> (Vec<String>, usize) {
    let (expected, most) = with_room(rows()).await;
    (expected, most / 2)
}

pub(super) fn is_in_parts(scene: &Scene) -> bool {
    scene.epochs().last().is_some_and(|epoch| epoch.operators.keys().any(|key| operator_of(key).1.is_some()))
}

#[tokio::test(start_paused = true)]
async fn state_beyond_memory_is_counted_once_wherever_a_crash_comes() {
    let (expected, memory) = undisturbed().await;
    let tier = InMemory::default();
    let first = scene(memory, &tier);
    let running = first.start(Fate::Live);
    let process = Arc::clone(&running.process);
    assert_eq!(running.end().await, TaskEnd::Finished);
    assert_eq!(first.results.with_coordinates(), expected, "the same rows of the same names");
    assert!(first.splits.all_acknowledged());
    assert!(tier.puts() > KEYS.len(), "{}", tier.puts());
    assert!(tier.files.lock().unwrap().is_empty(), "what is of no use is deleted");
    let (mut dice, mut in_parts) = (Dice::new(11), 0);
    let steps = process.steps().len();
    for number in (0..steps).step_by(STRIDE) {
        let mut scene = scene(memory, &InMemory::default());
        let _either = scene.start_in_lanes(u16::try_from(dice.below(2) + 1).unwrap(), Fate::CrashAt(number)).outcome().await;
        in_parts += usize::from(is_in_parts(&scene));
        let lanes = u16::try_from(dice.below(2) + 1).unwrap();
        // With memory enough the state is in one piece again.
        scene.state_bytes = [memory, 1 << 20][dice.below(2)];
        assert_eq!(scene.start_in_lanes(lanes, Fate::Live).end().await, TaskEnd::Finished, "crash at step {number}");
        assert_eq!(scene.results.with_coordinates(), expected, "crash at step {number}, going on with {lanes} lanes");
        assert!(scene.splits.all_acknowledged(), "crash at step {number}");
    }
    assert!(in_parts > steps / STRIDE / 4, "{in_parts} of {} went on from buckets, in {memory} bytes", steps / STRIDE);
}

#[tokio::test(start_paused = true)]
async fn many_crashes_change_nothing() {
    let (expected, memory) = undisturbed().await;
    for seed in 0..8 {
        let mut dice = Dice::new(seed);
        let scene = scene(memory, &InMemory::default());
        for _ in 0..=dice.below(4) {
            let lanes = u16::try_from(dice.below(2) + 1).unwrap();
            let _either = scene.start_in_lanes(lanes, Fate::CrashAt(dice.below(120))).outcome().await;
        }
        assert_eq!(scene.start_in_lanes(1, Fate::Live).end().await, TaskEnd::Finished, "seed {seed}");
        assert_eq!(scene.results.with_coordinates(), expected, "seed {seed}");
    }
}

/// The memory that is accounted for stays below its bound, and a task can be closed and taken over.
#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_a_task_is_closed_with_all_that_waits() {
    let (_, memory) = undisturbed().await;
    let scene = scene(memory, &InMemory::default());
    let running = scene.start(Fate::Live);
    let mut on_disk = 0;
    let mut since = 0;
    while since < 20 {
        sleep(INTERVAL / 20).await;
        since += usize::from(on_disk > 0);
        let report = running.snapshot();
        assert!(report.state_bytes.unwrap_or(0) <= (memory + WAITING) as u64, "{report:?}");
        on_disk = on_disk.max(report.spilled_bytes.unwrap_or(0));
    }
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
    assert!(is_in_parts(&scene));
    assert_eq!(scene.start(Fate::Live).end().await, TaskEnd::Finished);
    assert_eq!(scene.results.rows(), counted(&rows()));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_the_task_and_loses_nothing() {
    let (_, memory) = undisturbed().await;
    let tier = InMemory::default();
    tier.is_full.store(true, Ordering::Relaxed);
    let scene = scene(memory, &tier);
    let running = scene.start(Fate::Live);
    let trouble = running.trouble().await;
    assert_eq!((trouble.part, trouble.reason), (TroublePart::State, ErrorReason::Unreachable));
    assert!(trouble.message.contains("cannot be written to disk"), "{}", trouble.message);
    tier.is_full.store(false, Ordering::Relaxed);
    assert_eq!(running.end().await, TaskEnd::Finished, "there is room again");
    assert_eq!(scene.results.rows(), counted(&rows()));
}

#[tokio::test(start_paused = true)]
async fn more_than_the_disk_may_take_stops_the_task() {
    let (_, memory) = undisturbed().await;
    let mut scene = scene(memory, &InMemory::default());
    scene.spill = Some(Arc::new(SpillSpace::new(Box::new(InMemory::default()), 100)));
    let trouble = scene.start(Fate::Live).trouble().await;
    assert_eq!((trouble.part, trouble.reason), (TroublePart::State, ErrorReason::Invalid));
    assert!(trouble.message.contains("limits.maxSpillBytes allows 100"), "{}", trouble.message);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_larger_than_memory_stops_the_task() {
    let scene = scene(100, &InMemory::default());
    let trouble = scene.start(Fate::Live).trouble().await;
    assert_eq!((trouble.part, trouble.reason), (TroublePart::Task, ErrorReason::Invalid));
    assert!(trouble.message.contains("limits.maxStateBytes allows 100"), "{}", trouble.message);
}
