//! The ledger under everything that a store, a network and a scheduler can do: answers are lost, requests fail, workers interleave, sleep and are replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result as StoreResult,
};

use super::state::Snapshot;
use super::*;
use crate::s3::object::{Object, Revision};

/// A store whose requests take turns at random, fail before or after they have worked, and never twice alike.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    random: Mutex<u64>,
    /// One of so many requests fails; 0 for none.
    faults: u64,
}

impl Faulty {
    fn shared(seed: u64, faults: u64) -> Shared {
        let store = Self { inner: InMemory::new(), random: Mutex::new(seed | 1), faults };
        Shared::of(Arc::new(store), &Path::ROOT, "uid", "in")
    }

    fn dice(&self, sides: u64) -> u64 {
        let mut random = self.random.lock().unwrap();
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random % sides
    }

    /// Lets others go first, and decides whether this request fails before it works, or its answer is lost.
    async fn turn(&self) -> (bool, bool) {
        for _ in 0..self.dice(4) {
            tokio::task::yield_now().await;
        }
        let fault = |faults| faults > 0 && self.dice(faults) == 0;
        (fault(self.faults), fault(self.faults))
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "status code: 503 ".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        let (before, after) = self.turn().await;
        if before {
            return Err(failure());
        }
        let result = self.inner.put_opts(location, payload, opts).await;
        if after { Err(failure()) } else { result }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let (before, _) = self.turn().await;
        if before { Err(failure()) } else { self.inner.get_opts(location, options).await }
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Entries between snapshots here.
const FEW: u64 = 4;

fn claim(n: u64) -> Claim {
    let object = Object { bucket: "b".to_owned(), key: n.to_string(), revision: Revision::Etag("e".to_owned()), size: None, time: 0 };
    Claim::object(object)
}

static CLOCK: AtomicI64 = AtomicI64::new(0);

async fn open(shared: &Shared, task: &str, generation: u64, finished: &[ObjectId]) -> Result<Ledger, ConnectorError> {
    open_at(shared, task, generation, finished, || CLOCK.load(Ordering::Relaxed)).await
}

async fn open_at(
    shared: &Shared,
    task: &str,
    generation: u64,
    finished: &[ObjectId],
    now_millis: fn() -> i64,
) -> Result<Ledger, ConnectorError> {
    let view = View::load_every(shared, FEW, Health::default()).await?;
    let mut ledger = Ledger { view, task: task.to_owned(), generation, keep_seconds: 3600, now_millis };
    ledger.append(Vec::new(), finished.to_vec(), true).await?;
    Ok(ledger)
}

/// What the epochs of one task hold: the only thing that counts.
#[derive(Default)]
struct Epochs {
    generation: u64,
    /// Things whose end is in a durable epoch, and how often.
    durable: BTreeMap<ObjectId, u32>,
}

/// One worker: owns `task` for some time, reads whatever it claims, is replaced at random. Several workers may believe to own one task.
async fn work(shared: Shared, task: String, epochs: Arc<Mutex<Epochs>>, things: Vec<u64>, seed: u64) {
    let mut random = seed | 1;
    let mut dice = move |sides: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % sides
    };
    for _ in 0..12 {
        // The next generation, and the position of the last epoch: what is durable and may not have been noted.
        let (generation, finished) = {
            let mut epochs = epochs.lock().unwrap();
            epochs.generation += 1;
            (epochs.generation, epochs.durable.keys().copied().collect::<Vec<_>>())
        };
        let Ok(mut ledger) = open(&shared, &task, generation, &finished).await else { continue };
        let mut to_read: Vec<ObjectId> = ledger.unfinished().into_iter().map(|claim| claim.id).collect();
        for _ in 0..dice(6) {
            let wanted: Vec<_> = (0..=dice(3)).map(|_| claim(things[dice(things.len() as u64) as usize])).collect();
            let free: BTreeSet<_> =
                wanted.iter().filter(|claim| ledger.standing(&claim.id) == Standing::Free).map(|claim| claim.id).collect();
            if ledger.claim(wanted).await.is_err() {
                break;
            }
            to_read.extend(free.into_iter().filter(|id| ledger.standing(id) == Standing::Mine));
            for _ in 0..dice(40) {
                // Others get far ahead.
                tokio::task::yield_now().await;
            }
            // An epoch: durable only if nobody has claimed a newer generation of the task in the checkpoint.
            let read: Vec<_> = to_read.drain(..dice(to_read.len() as u64 + 1) as usize).collect();
            {
                let mut epochs = epochs.lock().unwrap();
                if epochs.generation != generation {
                    break;
                }
                for id in &read {
                    *epochs.durable.entry(*id).or_default() += 1;
                }
            }
            if dice(4) == 0 || ledger.finish(read).await.is_err() {
                break;
            }
        }
    }
}

/// Three tasks, two owners each, claim the same things.
async fn compete(seed: u64, faults: u64) {
    let shared = Faulty::shared(seed, faults);
    let things: Vec<u64> = (0..40).collect();
    let mut workers = Vec::new();
    let mut tasks = Vec::new();
    for task in 0..3 {
        let epochs = Arc::new(Mutex::new(Epochs::default()));
        for owner in 0..2 {
            let seed = seed.wrapping_mul(31).wrapping_add(task * 2 + owner + 1);
            workers.push(work(shared.clone(), task.to_string(), Arc::clone(&epochs), things.clone(), seed));
        }
        tasks.push((task.to_string(), epochs));
    }
    futures::future::join_all(workers).await;
    // The last owner of each task finishes what is unfinished.
    for (task, epochs) in &tasks {
        let (generation, finished) = {
            let epochs = epochs.lock().unwrap();
            (epochs.generation + 1, epochs.durable.keys().copied().collect::<Vec<_>>())
        };
        let mut ledger = open(&shared, task, generation, &finished).await.unwrap();
        let rest: Vec<_> = ledger.unfinished().into_iter().map(|claim| claim.id).collect();
        for id in &rest {
            *epochs.lock().unwrap().durable.entry(*id).or_default() += 1;
        }
        ledger.finish(rest).await.unwrap();
    }
    let mut total: BTreeMap<ObjectId, u32> = BTreeMap::new();
    for (_, epochs) in &tasks {
        for (id, times) in &epochs.lock().unwrap().durable {
            *total.entry(*id).or_default() += times;
        }
    }
    let twice: Vec<_> = total.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "seed {seed}: read more than once: {twice:?}");
    let view = View::load_every(&shared, FEW, Health::default()).await.unwrap();
    for thing in things {
        let id = claim(thing).id;
        let expected = if total.contains_key(&id) { Standing::Done } else { Standing::Free };
        assert_eq!(view.state.standing(&id, "0"), expected, "seed {seed}: {thing}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_thing_is_read_once_by_one_of_competing_tasks() {
    for seed in 1..60 {
        compete(seed, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_thing_is_read_once_though_requests_fail_and_answers_are_lost() {
    for seed in 1..60 {
        compete(seed, 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_slept_through_cleaning_does_not_claim_in_the_gap() {
    let shared = Faulty::shared(1, 0);
    let mut sleeper = open(&shared, "sleeper", 1, &[]).await.unwrap();
    let mut busy = open(&shared, "busy", 1, &[]).await.unwrap();
    for n in 0..40 {
        busy.claim(vec![claim(n)]).await.unwrap();
    }
    let entries = shared.folder.clone().join("ledger").join("entries").join(format!("{:020}.json", 2));
    assert!(shared.store.get_opts(&entries, GetOptions::new()).await.is_err(), "the next entry of the sleeper has been deleted");
    sleeper.claim(vec![claim(7), claim(100)]).await.unwrap();
    assert_eq!(sleeper.standing(&claim(7).id), Standing::Theirs);
    assert_eq!(sleeper.standing(&claim(100).id), Standing::Mine);
    busy.refresh().await.unwrap();
    assert_eq!(busy.standing(&claim(100).id), Standing::Theirs, "the claim is in the log, not in the gap");
}

#[tokio::test(start_paused = true)]
async fn what_sleepers_leave_in_a_gap_is_no_bridge_over_it() {
    let shared = Faulty::shared(1, 0);
    // Sleepers that have read entries 1 to 4; then the log goes on to 13, so that it is cleaned up to 8.
    let mut sleepers = Vec::new();
    for sleeper in 0..4 {
        sleepers.push(open(&shared, &sleeper.to_string(), 1, &[]).await.unwrap());
    }
    for sleeper in &mut sleepers {
        sleeper.refresh().await.unwrap();
    }
    let mut busy = open(&shared, "busy", 1, &[]).await.unwrap();
    for n in 0..8 {
        busy.claim(vec![claim(n)]).await.unwrap();
    }
    // Three of them fill the gap before the entry that is never deleted; the fourth reads that.
    for (n, sleeper) in sleepers.iter_mut().enumerate() {
        // Claimed by an entry that has been deleted.
        let taken = claim(n as u64 % 2);
        sleeper.claim(vec![taken.clone(), claim(100 + n as u64)]).await.unwrap();
        assert_eq!(sleeper.standing(&taken.id), Standing::Theirs, "sleeper {n}");
        assert_eq!(sleeper.standing(&claim(100 + n as u64).id), Standing::Mine, "sleeper {n}");
    }
    let fresh = View::load_every(&shared, FEW, Health::default()).await.unwrap();
    for mut sleeper in sleepers {
        sleeper.refresh().await.unwrap();
        assert_eq!(sleeper.view.state, fresh.state);
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_generation_is_void_and_learns_it() {
    let shared = Faulty::shared(1, 0);
    let mut zombie = open(&shared, "0", 1, &[]).await.unwrap();
    zombie.claim(vec![claim(1)]).await.unwrap();
    let mut owner = open(&shared, "0", 2, &[]).await.unwrap();
    assert_eq!(owner.unfinished(), [claim(1)], "what the older one had claimed is there to be read");
    assert!(zombie.claim(vec![claim(2)]).await.is_err());
    assert!(zombie.finish(vec![claim(1).id]).await.is_err());
    owner.refresh().await.unwrap();
    assert_eq!(owner.standing(&claim(2).id), Standing::Free);
    assert_eq!(owner.standing(&claim(1).id), Standing::Mine);
    assert!(open(&shared, "0", 1, &[]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_forgotten_after_its_time_by_everybody_alike() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let shared = Faulty::shared(1, 0);
    let mut ledger = open_at(&shared, "0", 1, &[], || NOW.load(Ordering::Relaxed)).await.unwrap();
    ledger.claim(vec![claim(1), claim(2)]).await.unwrap();
    ledger.finish(vec![claim(1).id]).await.unwrap();
    NOW.store(3_500_000, Ordering::Relaxed);
    for n in 10..20 {
        ledger.claim(vec![claim(n)]).await.unwrap();
    }
    assert_eq!(ledger.standing(&claim(1).id), Standing::Done, "not yet an hour");
    NOW.store(4_000_000, Ordering::Relaxed);
    for n in 20..30 {
        ledger.claim(vec![claim(n)]).await.unwrap();
    }
    assert_eq!(ledger.standing(&claim(1).id), Standing::Free);
    assert_eq!(ledger.standing(&claim(2).id), Standing::Mine, "what is not done is never forgotten");
    let fresh = View::load_every(&shared, FEW, Health::default()).await.unwrap();
    assert_eq!(fresh.state, ledger.view.state);
}

#[tokio::test(start_paused = true)]
async fn old_entries_are_deleted_and_snapshots_are_few() {
    let shared = Faulty::shared(1, 0);
    let mut ledger = open(&shared, "0", 1, &[]).await.unwrap();
    for n in 0..100 {
        ledger.claim(vec![claim(n)]).await.unwrap();
    }
    let count = async |folder: &str| {
        let folder = shared.folder.clone().join("ledger").join(folder);
        futures::StreamExt::count(shared.store.list(Some(&folder))).await as u64
    };
    assert_eq!(count("snapshots").await, 2);
    let entries = count("entries").await;
    assert!(entries <= 101 / FEW + 3 * FEW, "{entries} entries are left of 101");
}

#[test]
fn a_snapshot_is_the_state() {
    let mut state = State::default();
    for n in 0..10 {
        state.apply(Entry {
            version: VERSION,
            task: (n % 3).to_string(),
            generation: 1 + n / 5,
            nonce: n.to_string(),
            after: state.last().to_owned(),
            at: i64::try_from(n).unwrap() * 100_000,
            keep_seconds: 60,
            claims: vec![claim(n), claim(n + 1)],
            done: vec![claim(n.saturating_sub(3)).id],
        });
    }
    let text = serde_json::to_string(&Snapshot::from(&state)).unwrap();
    let restored = serde_json::from_str::<Snapshot>(&text).unwrap().restore().unwrap();
    assert_eq!(restored, state);
}
