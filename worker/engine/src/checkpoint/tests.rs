//! Tests of the log on real stores: memory and a directory.
//! They need no server; S3 is covered where there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;

use super::fault_tests::{Fault, FaultyStore, Outside, TestClock, base, content, log, position, run, some_state, task, uid};
use super::*;

/// A store, and what has to live as long.
type Scratch = (Arc<dyn ObjectStore>, Option<tempfile::TempDir>);

fn stores() -> Vec<Scratch> {
    let folder = tempfile::tempdir().unwrap();
    let directory = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    vec![(Arc::new(InMemory::new()), None), (Arc::new(directory), Some(folder))]
}

fn clock() -> Arc<TestClock> {
    Arc::new(TestClock(AtomicI64::new(1_700_000_000_000)))
}

fn idle(last: &EpochRecord) -> EpochContent {
    EpochContent { positions: last.positions.clone(), operators: last.operators.clone(), ..EpochContent::default() }
}

fn record_path(epoch: u64) -> Path {
    Path::from(format!("base/uid/tasks/logs-0/epochs/{epoch:020}.record"))
}

async fn bytes(store: &Arc<dyn ObjectStore>, path: &Path) -> Vec<u8> {
    store.get(path).await.unwrap().bytes().await.unwrap().to_vec()
}

async fn damage(store: &Arc<dyn ObjectStore>, epoch: u64) {
    let mut damaged = bytes(store, &record_path(epoch)).await;
    let at = damaged.len() / 2;
    damaged[at] ^= 1;
    store.put(&record_path(epoch), damaged.into()).await.unwrap();
}

async fn names(store: &Arc<dyn ObjectStore>, folder: &str) -> Vec<String> {
    use futures::TryStreamExt;
    let mut names: Vec<_> = store.list(Some(&Path::from(folder))).map_ok(|o| o.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn a_task_lives_through_claim_epochs_and_takeover_on_every_store() {
    for (store, _folder) in stores() {
        let outside = Outside::default();
        let log = log(Arc::clone(&store));
        let opened = log.open("a").await.unwrap();
        assert!(opened.last.is_none() && opened.uncommitted.is_none() && opened.regressed.is_none());

        let mut owner = log.claim(opened, "plan-1").await.unwrap();
        assert_eq!((owner.generation(), owner.last().epoch), (Generation(1), Epoch(1)));
        let permit = owner.write_epoch(content(0, 5, some_state())).await.unwrap();
        assert_eq!((permit.epoch(), permit.generation()), (Epoch(2), Generation(1)));

        // The owner dies here: durable, not committed. Its successor has the committables from the record alone.
        let mut opened = log.open("b").await.unwrap();
        let permit = opened.uncommitted.take().unwrap();
        assert_eq!(permit.committables()["out"], [json!({"from": 0, "to": 5})]);
        outside.commit(&permit);
        log.mark_committed(permit).await.unwrap();
        let owner = log.claim(opened, "plan-2").await.unwrap();
        assert_eq!((owner.generation(), owner.last().epoch, position(owner.last())), (Generation(2), Epoch(3), 5));
        assert_eq!(owner.last().plan_hash, "plan-2");
        assert_eq!(owner.last().operators["op"], [some_state()]);
        assert!(!owner.last().has_committables() && owner.last().counters.is_empty());
        assert!(idle(owner.last()).is_same_progress(owner.last()));
    }
}

#[tokio::test]
async fn many_workers_at_once_still_process_every_input_once() {
    for (store, _folder) in stores() {
        let outside = Outside::default();
        let workers = (1..=5).map(|stride| {
            let (store, outside) = (&store, &outside);
            async move {
                // A fenced worker starts anew, as its pod would, a few times. So does one that is slow: what it has listed, others have collected before it
                // reads it, as often as it tries.
                for life in 0..4 {
                    let ended = run(store, store, &format!("w{stride}-{life}"), outside, (stride, 40)).await;
                    let starts_anew =
                        |error: &Error| matches!(error, Error::Fenced { .. } | Error::Overtaken { .. } | Error::Inconsistent { .. });
                    assert!(ended.as_ref().err().is_none_or(starts_anew), "{ended:?}");
                }
            }
        });
        join_all(workers).await;
        run(&store, &store, "last", &outside, (7, 60)).await.unwrap();
        outside.acknowledge(60);
    }
}

#[tokio::test]
async fn nothing_follows_an_epoch_that_is_not_marked_as_committed() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let log = log(store);
    let mut owner = log.claim(log.open("a").await.unwrap(), "p").await.unwrap();
    let permit = owner.write_epoch(content(0, 1, some_state())).await.unwrap();
    let refused = owner.write_epoch(content(1, 2, some_state())).await.unwrap_err();
    assert!(matches!(refused, Error::NotCommitted { epoch: Epoch(2), .. }), "{refused}");

    let mut opened = log.open("b").await.unwrap();
    drop(opened.uncommitted.take());
    let refused = log.claim(opened, "p").await.unwrap_err();
    assert!(matches!(refused, Error::NotCommitted { epoch: Epoch(2), .. }), "{refused}");

    owner.mark_committed(permit).await.unwrap();
    let permit = owner.write_epoch(idle(&owner.last().clone())).await.unwrap();
    drop(permit);
    drop(owner.write_epoch(content(1, 2, some_state())).await.expect("an epoch without committables owes nothing"));
}

#[tokio::test]
async fn going_back_claims_what_was_before_the_aborted_epoch() {
    let log = log(Arc::new(InMemory::new()));
    let mut owner = log.claim(log.open("a").await.unwrap(), "p").await.unwrap();
    let permit = owner.write_epoch(content(0, 5, some_state())).await.unwrap();
    owner.mark_committed(permit).await.unwrap();
    let permit = owner.write_epoch(content(5, 9, some_state())).await.unwrap();

    let open = async |nonce: &str| {
        let mut opened = log.open(nonce).await.unwrap();
        assert_eq!(opened.uncommitted.take().map(|permit| permit.epoch()), Some(Epoch(3)));
        opened
    };
    // One is too late, and one finds that it was committed after all.
    let (late, wrong) = (open("late").await, open("wrong").await);
    let successor = log.claim_back(open("b").await, "p").await.unwrap();
    assert_eq!((successor.generation(), successor.last().epoch, position(successor.last())), (Generation(2), Epoch(4), 5));
    assert!(!successor.last().has_committables());
    let error = log.claim_back(late, "p").await.unwrap_err();
    assert!(matches!(error, Error::Overtaken { epoch: Epoch(4), .. }), "{error}");
    log.mark_committed(permit).await.unwrap();
    let error = log.claim_back(wrong, "p").await.unwrap_err();
    assert!(matches!(error, Error::Overtaken { .. }), "{error}");
    // Nothing to go back from.
    let error = log.claim_back(log.open("c").await.unwrap(), "p").await.unwrap_err();
    assert!(matches!(error, Error::Overtaken { .. }), "{error}");
}

#[tokio::test]
async fn a_claim_after_somebody_elses_claim_is_overtaken() {
    let log = log(Arc::new(InMemory::new()));
    let (slow, fast) = (log.open("slow").await.unwrap(), log.open("fast").await.unwrap());
    let owner = log.claim(fast, "p").await.unwrap();
    let error = log.claim(slow, "p").await.unwrap_err();
    assert!(matches!(error, Error::Overtaken { epoch: Epoch(1), .. }) && error.is_transient(), "{error}");
    owner.check_fence().await.unwrap();
}

#[tokio::test]
async fn an_owner_whose_write_had_no_answer_must_open_again() {
    let memory = Arc::new(InMemory::new());
    let store = FaultyStore::new(Arc::clone(&memory), Some((3, Fault::Outage)));
    let log_of_owner = log(Arc::new(store));
    let mut owner = log_of_owner.claim(log_of_owner.open("a").await.unwrap(), "p").await.unwrap();
    let error = owner.write_epoch(content(0, 1, some_state())).await.unwrap_err();
    assert!(matches!(error, Error::Store { fault: StoreFault::Transient, .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains("cannot create base/uid/tasks/logs-0/epochs/"), "{error}");
    assert!(matches!(owner.write_epoch(content(0, 1, some_state())).await, Err(Error::InDoubt { .. })));
    assert!(log(memory).open("b").await.unwrap().uncommitted.is_none());

    // The same if the caller gave up waiting.
    let memory = Arc::new(InMemory::new());
    let store = FaultyStore::new(memory, Some((3, Fault::PauseAfter)));
    let log_of_owner = log(Arc::new(store.clone()));
    let mut owner = log_of_owner.claim(log_of_owner.open("a").await.unwrap(), "p").await.unwrap();
    tokio::select! {
        biased;
        result = owner.write_epoch(content(0, 1, some_state())) => panic!("not paused: {result:?}"),
        () = store.paused() => {}
    }
    assert!(matches!(owner.write_epoch(content(0, 1, some_state())).await, Err(Error::InDoubt { .. })));
}

#[tokio::test]
async fn a_damaged_newest_record_is_reported_skipped_and_never_overwritten() {
    for (store, _folder) in stores() {
        run(&store, &store, "a", &Outside::default(), (2, 4)).await.unwrap();
        damage(&store, 3).await;
        let evidence = bytes(&store, &record_path(3)).await;

        let log = log(Arc::clone(&store));
        let opened = log.open("b").await.unwrap();
        let regressed = opened.regressed.clone().unwrap();
        assert_eq!((regressed.lost, regressed.lost_was_committed, regressed.resumed), (Epoch(3), true, Epoch(2)));
        assert!(regressed.detail.contains("checksum"), "{}", regressed.detail);
        assert_eq!(opened.last.as_ref().map(position), Some(2));

        let owner = log.claim(opened, "p").await.unwrap();
        assert_eq!((owner.last().epoch, owner.generation(), owner.last().regressed_from), (Epoch(4), Generation(3), Some(Epoch(3))));
        assert_eq!(bytes(&store, &record_path(3)).await, evidence);

        let held = owner.collect_garbage().await.unwrap();
        assert_eq!(held, Collected { held_by: Some(Epoch(3)), ..Collected::default() });
    }
}

#[tokio::test]
async fn two_damaged_records_stop_the_task_and_nothing_is_touched() {
    let (store, _) = stores().remove(0);
    run(&store, &store, "a", &Outside::default(), (2, 8)).await.unwrap();
    for epoch in [4, 5] {
        damage(&store, epoch).await;
    }
    let before = names(&store, "base").await;
    let error = log(Arc::clone(&store)).open("b").await.unwrap_err();
    assert!(matches!(&error, Error::Unrecoverable { epochs, .. } if epochs == &[Epoch(5), Epoch(4)]), "{error}");
    assert!(error.to_string().contains("5, 4") && !error.is_transient());
    assert_eq!(names(&store, "base").await, before);
}

#[tokio::test]
async fn a_record_from_elsewhere_is_damage_and_one_from_the_future_is_refused() {
    let (store, _) = stores().remove(0);
    run(&store, &store, "a", &Outside::default(), (2, 4)).await.unwrap();
    let genuine = bytes(&store, &record_path(3)).await;
    let misplaced = bytes(&store, &record_path(2)).await;
    store.put(&record_path(3), misplaced.into()).await.unwrap();
    let opened = log(Arc::clone(&store)).open("b").await.unwrap();
    assert!(opened.regressed.unwrap().detail.contains("record of epoch 2"));

    let newer = EpochRecord { min_reader_version: record::READER_VERSION + 1, ..EpochRecord::decode(&genuine).unwrap() };
    // Sealed by hand: this version refuses to write what it could not read.
    let payload = serde_json::to_string(&newer).unwrap();
    assert!(matches!(newer.encode(), Err(Error::Encode { .. })));
    let head = format!("millrace-epoch 1 {} {:020}\n", identity::sha256_hex(payload.as_bytes()), payload.len());
    store.put(&record_path(3), (head + &payload).into()).await.unwrap();
    let error = log(store).open("b").await.unwrap_err();
    assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
}

#[tokio::test]
async fn garbage_collection_keeps_what_is_needed_and_what_it_does_not_know() {
    for (store, _folder) in stores() {
        let foreign = ["base/uid/tasks/logs-0/epochs/README", "base/uid/tasks/logs-0/state/note", "base/uid/tasks/logs-00/state/1/1/x"];
        for path in foreign {
            store.put(&Path::from(path), "mine".into()).await.unwrap();
        }
        let orphan = Path::from("base/uid/tasks/logs-0/state/1/3/orphan");
        let pending = Path::from("base/uid/tasks/logs-0/state/9/99/pending");
        for path in [&orphan, &pending] {
            store.put(path, "state".into()).await.unwrap();
        }
        run(&store, &store, "a", &Outside::default(), (1, 6)).await.unwrap();

        let file = |name: &str| format!("base/uid/tasks/logs-0/{name}");
        let epochs = [
            "00000000000000000006.committed",
            "00000000000000000006.record",
            "00000000000000000007.committed",
            "00000000000000000007.record",
            "README",
        ];
        assert_eq!(names(&store, &file("epochs")).await, epochs.map(|name| file(&format!("epochs/{name}"))));
        let states = ["state/1/6/a.bin", "state/1/7/a.bin", "state/9/99/pending", "state/note"];
        assert_eq!(names(&store, &file("state")).await, states.map(file));
        assert_eq!(names(&store, "base/uid/tasks/logs-00").await, [foreign[2]]);
    }
}

#[tokio::test]
async fn old_state_stays_for_as_long_as_a_kept_epoch_refers_to_it() {
    let (store, _) = stores().remove(0);
    let log = log(Arc::clone(&store));
    let mut owner = log.claim(log.open("a").await.unwrap(), "p").await.unwrap();
    let path = Path::from("base/uid/tasks/logs-0/state/1/1/a");
    store.put(&path, "s".into()).await.unwrap();
    for epoch in 0..9_u64 {
        let mut content = content(epoch, epoch + 1, some_state());
        if epoch >= 5 {
            content.operators.clear();
        }
        let permit = owner.write_epoch(content).await.unwrap();
        owner.mark_committed(permit).await.unwrap();
        owner.collect_garbage().await.unwrap();
        // Two epochs are kept, so the last that refers to it goes with the second one after it.
        assert_eq!(store.head(&path).await.is_ok(), epoch < 6, "after epoch {epoch}");
    }
}

#[tokio::test]
async fn a_store_that_lists_what_it_does_not_return_is_reported() {
    let memory = Arc::new(InMemory::new());
    let plain: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
    run(&plain, &plain, "a", &Outside::default(), (2, 4)).await.unwrap();
    let store = FaultyStore::new(memory, Some((0, Fault::HideObjects)));
    let error = log(Arc::new(store)).open("b").await.unwrap_err();
    assert!(matches!(error, Error::Inconsistent { epoch: Epoch(3), .. }), "never silently empty: {error}");
}

#[tokio::test]
async fn retries_pause_and_end_and_a_refusal_is_not_retried() {
    let memory = Arc::new(InMemory::new());
    for (fault, requests, pauses) in [(Fault::Outage, 8, true), (Fault::CrashBefore, 1, false)] {
        let store = FaultyStore::new(Arc::clone(&memory), Some((0, fault)));
        let clock = clock();
        let before = clock.now_millis();
        let options = Options { retry: Retry { attempts: 8, ..Retry::default() }, ..Options::default() };
        let log = EpochLog::new(Arc::new(store.clone()), &base(), uid(), task(), options, Arc::clone(&clock) as _).unwrap();
        log.open("a").await.unwrap_err();
        assert_eq!(store.requests(), requests, "{fault:?}");
        assert_eq!(clock.0.load(Ordering::SeqCst) > before, pauses, "{fault:?}");
    }
}

#[tokio::test]
async fn the_probe_accepts_stores_that_arbitrate_and_leaves_nothing_behind() {
    for (store, _folder) in stores() {
        for nonce in ["n1", "n1", "n2"] {
            probe(Arc::clone(&store), &base(), nonce, clock()).await.unwrap();
        }
        assert_eq!(names(&store, "base").await, [""; 0]);
    }
}

#[tokio::test]
async fn the_probe_refuses_stores_that_do_not_arbitrate() {
    for fault in [Fault::IgnoreCondition, Fault::NoCondition] {
        let store = FaultyStore::new(Arc::new(InMemory::new()), Some((0, fault)));
        let error = probe(Arc::new(store), &base(), "n", clock()).await.unwrap_err();
        assert!(matches!(error, Error::NoConditionalCreate { .. }), "{fault:?}: {error}");
        assert_eq!(error.kind(), "NoConditionalCreate");
    }
    let down = FaultyStore::new(Arc::new(InMemory::new()), Some((0, Fault::Outage)));
    let error = probe(Arc::new(down), &base(), "n", clock()).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "an outage says nothing about the store: {error}");
}

#[tokio::test]
async fn peeking_shows_the_last_epoch_and_disturbs_nobody() {
    for (store, _folder) in stores() {
        let look = async || peek(Arc::clone(&store), &base(), &uid(), &task(), clock()).await;
        assert_eq!(look().await.unwrap(), Peek { last: None, committed: true, regressed: None });
        assert!(list_tasks(Arc::clone(&store), &base(), &uid(), clock()).await.unwrap().is_empty());

        let log = log(Arc::clone(&store));
        let mut owner = log.claim(log.open("a").await.unwrap(), "p").await.unwrap();
        let permit = owner.write_epoch(content(0, 5, some_state())).await.unwrap();
        let seen = look().await.unwrap();
        assert_eq!((seen.last.as_ref(), seen.committed), (Some(owner.last()), false));
        owner.mark_committed(permit).await.unwrap();
        assert!(look().await.unwrap().committed);
        owner.check_fence().await.unwrap();
        assert_eq!(list_tasks(Arc::clone(&store), &base(), &uid(), clock()).await.unwrap(), [task()]);
    }
}

#[test]
fn one_retained_epoch_is_refused() {
    let options = Options { retained: 1, ..Options::default() };
    let error = EpochLog::new(Arc::new(InMemory::new()), &base(), uid(), task(), options, clock()).unwrap_err();
    assert!(matches!(error, Error::Retained(1)));
}
