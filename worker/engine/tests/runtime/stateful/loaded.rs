//! After a restart, state that has no room in memory is read where its time has come or rows come for it, and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use millrace_crds::report::{ErrorReason, TroublePart};
use millrace_engine::checkpoint::{EpochRecord, operator_of};
use millrace_engine::runtime::{Control, SpillSpace, TaskEnd};
use object_store::ObjectStoreExt as _;
use tokio::time::sleep;

use super::recovery::state_file;
use super::scene::{Running, Scene, counted};
use super::spilled::{InMemory, KEYS, is_in_parts};
use super::splits::{Row, Splits};
use crate::process::Fate;
use crate::world::{INTERVAL, until};

/// Keys whose windows end at the same time.
const TOGETHER: usize = 20;
/// When the first of those windows starts.
const FIRST: i64 = 1000;

/// A split that is far ahead, with keys in many windows, and one that holds the watermark back.
fn rows() -> Vec<Vec<Row>> {
    let ahead = (0..KEYS.len()).map(|number| (Some(FIRST + 10 * i64::try_from(number / TOGETHER).unwrap()), KEYS[number]));
    vec![ahead.collect(), vec![(Some(20), KEYS[0])]]
}

fn scene() -> Scene {
    let mut splits = Splits::new(rows(), false);
    splits.pace = Duration::from_millis(40);
    Scene::of(splits)
}

async fn all_stored(scene: &Scene) {
    until("all rows are in an epoch", || scene.splits.all_acknowledged()).await;
}

/// A process that has nothing on its disk yet.
fn start(scene: &mut Scene, lanes: u16) -> (Running, InMemory) {
    let tier = InMemory::default();
    scene.spill = Some(Arc::new(SpillSpace::new(Box::new(tier.clone()), 1 << 20)));
    (scene.start_in_lanes(lanes, Fate::Live), tier)
}

async fn close(running: Running) {
    running.tell(Control::Close);
    assert_eq!(running.end().await, TaskEnd::Released);
}

/// A task that was closed when all rows were in buckets, nearly all on disk, and how many buckets there are.
async fn closed() -> (Scene, usize) {
    let with_room = scene();
    let running = with_room.start(Fate::Live);
    all_stored(&with_room).await;
    let bytes = usize::try_from(running.snapshot().state_bytes.unwrap()).unwrap();
    drop(running);

    let mut scene = scene();
    scene.state_bytes = bytes / 2;
    let (running, _) = start(&mut scene, 1);
    all_stored(&scene).await;
    close(running).await;
    assert!(is_in_parts(&scene));
    let buckets = scene.epochs().last().unwrap().operators.keys().filter(|key| operator_of(key).1.is_some()).count();
    assert!(buckets > 4 * TOGETHER, "{buckets}");
    (scene, buckets)
}

/// Lets the windows of the first keys end, which are in no more buckets than there are keys, then all others.
async fn end_windows(mut scene: Scene, lanes: u16) {
    assert!(scene.results.rows().is_empty());
    let (running, tier) = start(&mut scene, lanes);
    sleep(3 * INTERVAL).await;
    assert_eq!(tier.gets(), 0, "nothing is due, and no row has come");
    scene.splits.add(1, [(Some(FIRST + 15), KEYS[1])]);
    until("the first windows have come out", || scene.results.rows().len() == 1 + TOGETHER).await;
    // What was loaded may be parked again, and is read once more then, to be stored.
    assert!((TOGETHER / 2..=2 * (TOGETHER + 2)).contains(&tier.gets()), "{}", tier.gets());
    let last = FIRST + 1000;
    (0..2).for_each(|split| scene.splits.add(split, [(Some(last), KEYS[0])]));
    let all = scene.splits.rows.lock().unwrap().clone();
    let ended: Vec<Vec<Row>> = all.into_iter().map(|rows| rows.into_iter().filter(|row| row.0 != Some(last)).collect()).collect();
    until("all windows have come out", || scene.results.rows().len() == counted(&ended).len()).await;
    assert_eq!(scene.results.rows(), counted(&ended));
    close(running).await;
}

#[tokio::test(start_paused = true)]
async fn only_what_is_due_is_loaded_after_a_restart() {
    let (scene, _) = closed().await;
    end_windows(scene, 1).await;
}

#[tokio::test(start_paused = true)]
async fn only_what_is_due_is_loaded_with_other_lanes_and_after_another_restart() {
    let (mut scene, _) = closed().await;
    let (running, tier) = start(&mut scene, 2);
    // Its bucket changes; the others are as the owner before has stored them.
    scene.splits.add(0, [(Some(FIRST + 100), KEYS[7])]);
    all_stored(&scene).await;
    close(running).await;
    assert!((1..=2).contains(&tier.gets()), "a row has come for one bucket: {}", tier.gets());
    end_windows(scene, 4).await;
}

/// The builds before knew nothing of buckets that they had not read.
#[tokio::test(start_paused = true)]
async fn an_epoch_of_before_is_loaded_once_and_then_known() {
    let (mut scene, buckets) = closed().await;
    forget(&scene).await;
    let (running, tier) = start(&mut scene, 1);
    until("every bucket was loaded", || tier.gets() >= buckets).await;
    scene.splits.add(0, [(Some(FIRST + 100), KEYS[7])]);
    all_stored(&scene).await;
    close(running).await;
    end_windows(scene, 1).await;
}

/// Another query over the same state: when something comes out of it may be another time.
#[tokio::test(start_paused = true)]
async fn nothing_is_known_of_buckets_of_another_plan() {
    let (mut scene, buckets) = closed().await;
    let more = scene.step.lock().unwrap().sql.replace("count(*) AS n", "count(*) + 0 AS n");
    scene.step.lock().unwrap().sql = more;
    let (running, tier) = start(&mut scene, 1);
    until("every bucket was loaded", || tier.gets() >= buckets).await;
    close(running).await;
}

/// What is not decoded is verified all the same.
#[tokio::test(start_paused = true)]
async fn a_damaged_bucket_stops_the_task_before_anything_is_loaded() {
    let (mut scene, _) = closed().await;
    let (file, bytes) = state_file(&scene).await;
    let mut damaged = bytes.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    scene.store().put(&file, damaged.into()).await.unwrap();
    let (running, tier) = start(&mut scene, 1);
    let trouble = running.trouble().await;
    assert_eq!((trouble.part, trouble.reason), (TroublePart::State, ErrorReason::Corrupt));
    assert!(trouble.message.contains(file.as_ref()), "{}", trouble.message);
    drop(running);
    assert_eq!(tier.gets(), 0);
    scene.store().put(&file, bytes.into()).await.unwrap();
    end_windows(scene, 1).await;
}

/// Makes the last record one of format 4.
async fn forget(scene: &Scene) {
    let objects: Vec<_> = scene.store().list(None).try_collect().await.unwrap();
    let records = objects.into_iter().map(|object| object.location).filter(|path| path.as_ref().ends_with(".record"));
    let last = records.max().unwrap();
    let bytes = scene.store().get(&last).await.unwrap().bytes().await.unwrap();
    let mut record = EpochRecord::decode(&bytes).unwrap();
    assert!(record.buckets.take().is_some());
    record.format_version = 4;
    scene.store().put(&last, record.encode().unwrap().into()).await.unwrap();
}
