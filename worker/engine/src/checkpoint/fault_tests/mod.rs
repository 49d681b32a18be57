//! The real code against a store that misbehaves, at every single request of a run, one run per request and fault.
//! It never waits in real time and never leaves anything to chance.
//!
//! A run is: a first worker has processed half of the input, a second takes over and hits the fault, a third finishes.
//! Afterwards every input must be visible exactly once, whatever happened.

mod faulty_store;
mod workload;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::Error;
pub(super) use faulty_store::{Fault, FaultyStore};
pub(super) use workload::{Outside, TestClock, base, content, log, position, run, task, uid};

const FIRST: u64 = 6;
const SECOND: u64 = 15;
const LAST: u64 = 20;

struct Scene {
    memory: Arc<InMemory>,
    outside: Outside,
}

impl Scene {
    async fn new() -> Self {
        let scene = Self { memory: Arc::new(InMemory::new()), outside: Outside::default() };
        scene.healthy("first", 3, FIRST).await;
        scene
    }

    fn plain(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.memory) as _
    }

    fn faulty(&self, plan: Option<(usize, Fault)>) -> FaultyStore {
        FaultyStore::new(Arc::clone(&self.memory), plan)
    }

    async fn healthy(&self, name: &str, stride: u64, target: u64) {
        run(&self.plain(), &self.plain(), name, &self.outside, (stride, target)).await.unwrap();
        self.outside.acknowledge(target);
    }

    async fn second(&self, store: &FaultyStore) -> Result<(), Error> {
        let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
        run(&store, &self.plain(), "second", &self.outside, (4, SECOND)).await
    }
}

/// How many requests the second worker makes if nothing goes wrong.
async fn requests() -> usize {
    let scene = Scene::new().await;
    let store = scene.faulty(None);
    scene.second(&store).await.unwrap();
    assert!(store.requests() > 30, "the run is too short to show anything: {}", store.requests());
    store.requests()
}

#[tokio::test]
async fn a_temporary_fault_at_any_request_is_survived_without_restart() {
    let faults = [Fault::FailBefore, Fault::LoseReply, Fault::PhantomConflict, Fault::CutReply, Fault::FlipReply, Fault::EmptyListing];
    for at in 0..requests().await {
        for fault in faults {
            let scene = Scene::new().await;
            let result = scene.second(&scene.faulty(Some((at, fault)))).await;
            assert!(result.is_ok(), "{fault:?} at request {at}: {result:?}");
            scene.healthy("third", 5, LAST).await;
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_request_is_recovered() {
    for at in 0..requests().await {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let scene = Scene::new().await;
            let result = scene.second(&scene.faulty(Some((at, fault)))).await;
            assert!(result.is_err(), "{fault:?} at request {at} was not noticed");
            scene.healthy("third", 5, LAST).await;
        }
    }
}

#[tokio::test]
async fn a_crash_during_the_recovery_from_a_crash_is_recovered() {
    let requests = requests().await;
    for first in 0..requests {
        for second in 0..20 {
            let scene = Scene::new().await;
            for at in [first, second] {
                let crashed = scene.second(&scene.faulty(Some((at, Fault::CrashAfter)))).await;
                assert!(crashed.is_err() || at == second);
            }
            scene.healthy("third", 5, LAST).await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_sleeps_at_any_request_while_another_finishes_does_no_harm() {
    for at in 0..requests().await {
        for fault in [Fault::PauseBefore, Fault::PauseAfter] {
            for stride in [5, 1] {
                let scene = Scene::new().await;
                let sleeper = scene.faulty(Some((at, fault)));
                let successor = async {
                    sleeper.paused().await;
                    scene.healthy("third", stride, LAST).await;
                    sleeper.release();
                };
                let (result, ()) = futures::join!(scene.second(&sleeper), successor);
                let expected = matches!(result, Ok(()) | Err(Error::Fenced { .. }));
                assert!(expected, "{fault:?} at request {at}: {result:?}");
                scene.healthy("fourth", 5, LAST + 5).await;
            }
        }
    }
}

#[tokio::test]
async fn a_sleeper_that_held_the_task_is_fenced_by_name_of_the_generation() {
    let scene = Scene::new().await;
    let log = log(scene.plain());
    let mut owner = log.claim(log.open("sleeper").await.unwrap(), "plan").await.unwrap();
    scene.healthy("third", 1, LAST).await;
    let error = owner.write_epoch(content(FIRST, LAST, some_state())).await.unwrap_err();
    let by = super::Generation(owner.generation().0 + 1);
    assert!(matches!(error, Error::Fenced { by: Some(found), .. } if found == by), "{error:?}");
    assert!(matches!(owner.check_fence().await, Err(Error::Fenced { .. })));
}

pub(super) fn some_state() -> super::StateRef {
    super::StateRef { path: "state/1/1/a".into(), length: 1, sha256: String::new(), signature: String::new() }
}
