//! A task as the runtime drives it, with an imaginary source and sink that check what they are told.
//! It never looks into the store behind the log's back, except to see that referenced state exists.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

use crate::checkpoint::{
    Clock, CommitPermit, EpochContent, EpochLog, EpochRecord, Error, Options, PipelineUid, Retry, StateRef, TaskId, position_key,
};

/// Time that passes when somebody sleeps.
#[derive(Debug, Default)]
pub(in crate::checkpoint) struct TestClock(pub(in crate::checkpoint) AtomicI64);

#[async_trait]
impl Clock for TestClock {
    fn now_millis(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn sleep(&self, duration: Duration) {
        self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

pub(in crate::checkpoint) fn base() -> Path {
    Path::from("base")
}

pub(in crate::checkpoint) fn uid() -> PipelineUid {
    PipelineUid::new("uid").unwrap()
}

pub(in crate::checkpoint) fn task() -> TaskId {
    TaskId::new("logs-0").unwrap()
}

pub(in crate::checkpoint) fn log(store: Arc<dyn ObjectStore>) -> EpochLog {
    let options = Options { retained: 2, retry: Retry { attempts: 8, ..Retry::default() } };
    EpochLog::new(store, &base(), uid(), task(), options, Arc::new(TestClock::default())).unwrap()
}

/// The imaginary systems outside: a sink that shows which inputs took effect, and a source that was acknowledged.
#[derive(Debug, Default)]
pub(in crate::checkpoint) struct Outside {
    visible: Mutex<BTreeMap<u64, Value>>,
}

impl Outside {
    /// Idempotent, as a sink has to be; and it notices if two workers disagree.
    pub(in crate::checkpoint) fn commit(&self, permit: &CommitPermit) {
        let content = json!(permit.committables());
        let mut visible = self.visible.lock().unwrap();
        let earlier = visible.entry(permit.epoch().0).or_insert_with(|| content.clone());
        assert_eq!(*earlier, content, "two different commits of epoch {}", permit.epoch());
    }

    /// Everything before `to` must be visible, once.
    pub(in crate::checkpoint) fn acknowledge(&self, to: u64) {
        let mut at = 0;
        for (epoch, content) in self.visible.lock().unwrap().iter() {
            let [from, end] = ["from", "to"].map(|key| content["out"][0][key].as_u64().unwrap());
            assert_eq!(from, at, "epoch {epoch} does not continue where the one before ended");
            at = end;
        }
        assert!(at >= to, "acknowledged up to {to}, but only {at} is visible");
    }
}

/// Where a record says to go on.
pub(in crate::checkpoint) fn position(record: &EpochRecord) -> u64 {
    record.positions.get(&position_key("in", "0")).and_then(Value::as_u64).unwrap_or(0)
}

/// What an epoch over the inputs `from..to` consists of.
pub(in crate::checkpoint) fn content(from: u64, to: u64, state: StateRef) -> EpochContent {
    EpochContent {
        positions: [(position_key("in", "0"), json!(to))].into(),
        operators: [("op".to_owned(), vec![state])].into(),
        buckets: None,
        event_times: None,
        stage: None,
        exchange: None,
        sinks: [("out".to_owned(), vec![json!({"from": from, "to": to})])].into(),
        counters: [("in".to_owned(), to - from)].into(),
    }
}

/// One worker: takes the task over and processes inputs up to `target`, `stride` per epoch.
pub(in crate::checkpoint) async fn run(
    store: &Arc<dyn ObjectStore>,
    plain: &Arc<dyn ObjectStore>,
    name: &str,
    outside: &Outside,
    (stride, target): (u64, u64),
) -> Result<(), Error> {
    let log = log(Arc::clone(store));
    for attempt in 0.. {
        let mut opened = log.open(format!("{name}-{attempt}")).await?;
        assert!(opened.regressed.is_none(), "nothing is damaged: {:?}", opened.regressed);
        if let Some(permit) = opened.uncommitted.take() {
            outside.commit(&permit);
            log.mark_committed(permit).await?;
        }
        let mut owner = match log.claim(opened, "plan").await {
            Err(Error::Overtaken { .. }) if attempt < 20 => continue,
            claimed => claimed?,
        };
        let mut at = position(owner.last());
        outside.acknowledge(at);
        for state in owner.last().operators.values().flatten() {
            let path = Path::from(format!("{}/{}", owner.root(), state.path));
            // A rival may have gone on and collected it, but then we are fenced.
            if plain.head(&path).await.is_err() {
                owner.check_fence().await?;
                panic!("{path} is referenced by the newest epoch but gone");
            }
        }
        while at < target {
            let to = (at + stride).min(target);
            let file = owner.state_folder().join(format!("{name}.bin"));
            plain.put(&file, "state".into()).await.expect("the plain store works");
            let path = file.as_ref().strip_prefix(owner.root().as_ref()).unwrap().trim_start_matches('/').to_owned();
            let permit =
                owner.write_epoch(content(at, to, StateRef { path, length: 5, sha256: String::new(), signature: String::new() })).await?;
            outside.commit(&permit);
            owner.mark_committed(permit).await?;
            at = to;
            outside.acknowledge(at);
            owner.collect_garbage().await?;
        }
        return Ok(());
    }
    unreachable!("the loop returns")
}
