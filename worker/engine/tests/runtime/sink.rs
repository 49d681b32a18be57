//! Sinks that keep books: one that commits in epochs, or in transactions as an anchor, and one that takes rows at once by key. What a rule of the contract forbids is written down as a violation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::batch::{Batch, RejectCode, RejectStage, Rejected};
use millrace_engine::checkpoint::decide::Fate;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::sink::{Commit, OpenSink, Prepared, Sink, SinkWriter, WriterIdentity};
use serde_json::{Value, json};

use crate::process::Process;
use crate::source::origin;
use crate::world::World;

/// Rows that one committable makes visible, so that an epoch has several.
const PART: usize = 3;
/// Pause between two attempts on a system that is down.
const RETRY: Duration = Duration::from_millis(500);

/// What can be asked of a sink.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Request {
    Write,
    Prepare,
    Commit,
}

/// One system behind a sink: outlives every process.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) name: &'static str,
    /// Whether rows are visible at once, by key, instead of at the commit.
    keyed: bool,
    /// Whether what is prepared can be aborted, and is as soon as another writer comes.
    anchored: bool,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    staged: BTreeMap<String, Vec<u64>>,
    /// Names of what is visible.
    done: BTreeSet<String>,
    /// Names of what can never be visible.
    aborted: BTreeSet<String>,
    /// What was committed, by output and epoch.
    commits: BTreeMap<(String, u64), Vec<Value>>,
    visible: Vec<u64>,
    /// Keyed: newest version by key.
    versions: BTreeMap<u64, (u64, u64)>,
    /// Rows that are refused for good.
    refused: BTreeSet<u64>,
    down: BTreeSet<Request>,
    failures: VecDeque<(Request, ErrorReason)>,
    written_bytes: usize,
}

impl Ledger {
    pub(crate) fn new(name: &'static str, keyed: bool) -> Self {
        Self { name, keyed, anchored: false, books: Mutex::default() }
    }

    pub(crate) fn anchored(self, anchored: bool) -> Self {
        Self { anchored, ..self }
    }

    /// Aborts all that is prepared and not committed, whoever prepared it: a new writer has come.
    fn fence(&self) {
        self.books(|books| {
            let open = books.staged.keys().filter(|name| !books.done.contains(*name)).cloned();
            books.aborted.extend(open);
        });
    }

    /// Whether all of this was aborted, and none of it is visible.
    pub(crate) fn has_aborted(&self, committables: &[Value]) -> bool {
        let names = committables.iter().filter_map(|committable| committable["name"].as_str());
        let aborted: Vec<bool> = self.books(|books| names.map(|name| books.aborted.contains(name)).collect());
        assert!(aborted.iter().all(|is| *is == aborted[0]), "{committables:?} is torn");
        aborted.first().is_some_and(|is| *is)
    }

    pub(crate) fn has_committed(&self, committables: &[Value]) -> bool {
        let mut names = committables.iter().filter_map(|committable| committable["name"].as_str());
        self.books(|books| names.all(|name| books.done.contains(name)))
    }

    /// Commits a transaction, all of it or nothing.
    fn commit_all(&self, committables: &[Value]) -> Result<(), ConnectorError> {
        if self.has_aborted(committables) {
            return Err(ConnectorError::new(ErrorReason::ServerError, format!("{} was fenced", self.name)));
        }
        self.books(|books| {
            for name in committables.iter().filter_map(|committable| committable["name"].as_str()) {
                if books.done.insert(name.to_owned()) {
                    books.visible.extend(&books.staged[name]);
                }
            }
        });
        Ok(())
    }

    fn books<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.books.lock().unwrap())
    }

    /// Ordinals of the rows that readers see, sorted.
    pub(crate) fn visible(&self) -> Vec<u64> {
        let mut visible = self.books(|books| if self.keyed { books.versions.keys().copied().collect() } else { books.visible.clone() });
        visible.sort_unstable();
        visible
    }

    /// From now on these requests wait and report trouble, until [`Ledger::heal`].
    pub(crate) fn block(&self, requests: &[Request]) {
        self.books(|books| books.down.extend(requests));
    }

    pub(crate) fn heal(&self) {
        self.books(|books| books.down.clear());
    }

    /// The next such request fails for good.
    pub(crate) fn fail(&self, request: Request, reason: ErrorReason) {
        self.books(|books| books.failures.push_back((request, reason)));
    }

    pub(crate) fn refuse(&self, ordinals: impl IntoIterator<Item = u64>) {
        self.books(|books| books.refused.extend(ordinals));
    }

    pub(crate) fn refused(&self) -> BTreeSet<u64> {
        self.books(|books| books.refused.clone())
    }

    pub(crate) fn written_bytes(&self) -> usize {
        self.books(|books| books.written_bytes)
    }

    /// Waits while the request is blocked, then fails if it has to.
    async fn answer(&self, request: Request, health: &Health) -> Result<(), ConnectorError> {
        let mut waited = false;
        while self.books(|books| books.down.contains(&request)) {
            health.trouble(ErrorReason::Unreachable, format!("{} is down", self.name));
            waited = true;
            tokio::time::sleep(RETRY).await;
        }
        if waited {
            health.clear();
        }
        let failure = self.books(|books| {
            let index = books.failures.iter().position(|(failing, _)| *failing == request)?;
            books.failures.remove(index)
        });
        match failure {
            Some((_, reason)) => Err(ConnectorError::new(reason, format!("{} fails at {request:?}", self.name))),
            None => Ok(()),
        }
    }
}

/// A sink of one process.
pub(crate) struct LedgerSink {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
    pub(crate) ledger: fn(&World) -> &Ledger,
}

impl LedgerSink {
    fn ledger(&self) -> &Ledger {
        (self.ledger)(&self.world)
    }
}

#[async_trait]
impl Sink for LedgerSink {
    fn accepts(&self, _: &SchemaRef, _: Option<&str>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        (Guarantee::ExactlyOnce, "the test compares what was committed")
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        self.process.step(&format!("{}: open", self.ledger().name)).await;
        if self.ledger().anchored {
            self.ledger().fence();
        }
        Ok(Box::new(Writer {
            world: Arc::clone(&self.world),
            process: Arc::clone(&self.process),
            ledger: self.ledger,
            identity: open.writer,
            epoch: open.epoch,
            health: open.health,
            buffer: Vec::new(),
            refused: Vec::new(),
        }))
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), ConnectorError> {
        let (ledger, name) = (self.ledger(), self.ledger().name);
        self.process.step(&format!("{name}: commit: before")).await;
        ledger.answer(Request::Commit, commit.health).await?;
        self.world.check_committed(commit.writer, commit.epoch, commit.committables);
        if ledger.anchored {
            ledger.commit_all(commit.committables)?;
            self.process.step(&format!("{name}: commit: after")).await;
            return Ok(());
        }
        self.world.check_anchored(commit.epoch);
        let key = (commit.writer.output.clone(), commit.epoch);
        let first = ledger.books(|books| books.commits.entry(key).or_insert_with(|| commit.committables.to_vec()).clone());
        if first != commit.committables {
            self.world.violated(format!("{name}: epoch {} is committed as {first:?}, and as {:?}", commit.epoch, commit.committables));
        }
        for committable in commit.committables {
            let part = committable["name"].as_str().unwrap();
            let known = ledger.books(|books| {
                let rows = books.staged.get(part).cloned();
                if let Some(rows) = &rows
                    && books.done.insert(part.to_owned())
                {
                    books.visible.extend(rows);
                }
                rows.is_some()
            });
            if !known {
                self.world.violated(format!("{name}: commit of {part}, which was never prepared"));
            }
            self.process.step(&format!("{name}: commit: a part")).await;
        }
        Ok(())
    }

    fn anchor(&self) -> bool {
        self.ledger().anchored
    }

    async fn seal(&self, commit: Commit<'_>) -> Result<Fate, ConnectorError> {
        let name = self.ledger().name;
        self.process.step(&format!("{name}: seal: before")).await;
        self.world.check_committed(commit.writer, commit.epoch, commit.committables);
        self.ledger().fence();
        let fate = if self.ledger().has_aborted(commit.committables) { Fate::Aborted } else { Fate::Committed };
        self.process.step(&format!("{name}: seal: after")).await;
        Ok(fate)
    }

    async fn probe(&self) -> ProbeResult {
        ProbeResult::Unsupported
    }
}

struct Writer {
    world: Arc<World>,
    process: Arc<Process>,
    ledger: fn(&World) -> &Ledger,
    identity: WriterIdentity,
    epoch: u64,
    health: Health,
    buffer: Vec<u64>,
    refused: Vec<u64>,
}

impl Writer {
    fn ledger(&self) -> &Ledger {
        (self.ledger)(&self.world)
    }

    fn take(&mut self, batch: &Batch) {
        if let Some(ids) = batch.records.column_by_name("id") {
            let ids = ids.as_primitive::<Int64Type>().values();
            if !ids.iter().map(|id| u64::try_from(*id).unwrap()).eq(batch.ordinals.values().iter().copied()) {
                self.world.violated(format!("{}: rows {ids:?} have the ordinals {:?}", self.ledger().name, batch.ordinals));
            }
        }
        let refused = self.ledger().refused();
        let (refused, taken): (Vec<u64>, Vec<u64>) = batch.ordinals.values().iter().partition(|ordinal| refused.contains(ordinal));
        let version = (self.identity.generation, self.epoch);
        self.ledger().books(|books| {
            books.written_bytes += batch.memory_bytes();
            for ordinal in &taken {
                let newest = books.versions.entry(*ordinal).or_insert(version);
                *newest = version.max(*newest);
            }
        });
        self.refused.extend(refused);
        self.buffer.extend(taken);
    }
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        let name = self.ledger().name;
        self.process.step(&format!("{name}: write: before")).await;
        self.ledger().answer(Request::Write, &self.health).await?;
        self.take(&batch);
        self.process.step(&format!("{name}: write: after")).await;
        Ok(())
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, ConnectorError> {
        let name = self.ledger().name;
        self.process.step(&format!("{name}: prepare: before")).await;
        self.ledger().answer(Request::Prepare, &self.health).await?;
        if epoch != self.epoch {
            self.world.violated(format!("{name}: prepare({epoch}) while epoch {} is written", self.epoch));
        }
        self.epoch = epoch + 1;
        let rows = std::mem::take(&mut self.buffer);
        let mut committables = Vec::new();
        if !self.ledger().keyed {
            for (part, rows) in rows.chunks(PART).enumerate() {
                let staged = format!("{}/{}/{epoch}/{part}", self.identity.output, self.identity.generation);
                let before = self.ledger().books(|books| books.staged.insert(staged.clone(), rows.to_vec()));
                if before.is_some() {
                    self.world.violated(format!("{name}: {staged} is prepared twice"));
                }
                committables.push(json!({"name": staged, "rows": rows.len()}));
                self.process.step(&format!("{name}: prepare: a part")).await;
            }
        }
        let rejected = std::mem::take(&mut self.refused).into_iter().map(|ordinal| Rejected {
            origin: origin(),
            ordinal,
            stage: RejectStage::Sink,
            code: RejectCode::RefusedBySink,
            error: format!("{name} does not want it"),
            payload: Bytes::from_static(b"{}"),
            payload_bytes: 2,
            attempts: 1,
        });
        let rejected = rejected.collect();
        self.process.step(&format!("{name}: prepare: after")).await;
        Ok(Prepared { committables, rejected })
    }

    async fn close(&mut self) {}
}
