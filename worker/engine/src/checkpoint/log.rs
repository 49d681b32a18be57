//! The log of one task's epochs: open, claim, append, mark as committed.
//! It carries out what `decide` says; it never commits to a sink and never acknowledges a source.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::decide::{self, AppendFacts, AppendStep, Debt, Found, Gate, MarkFacts, MarkStep, OpenFacts, OpenStep, Reading, Resume};
use super::layout::Layout;
use super::record::{DecodeError, FORMAT_VERSION, READER_VERSION};
use super::store::{Objects, Retry};
use super::{Clock, Epoch, EpochContent, EpochRecord, Error, Generation, Owner, PipelineUid, TaskId};

/// How often a damaged record is read again before it counts as damaged: the damage may be on the way.
const READS_OF_DAMAGED: u32 = 3;

/// What can be chosen about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many epochs garbage collection keeps; at least 2, so that one damaged record can be skipped.
    pub retained: u32,
    /// How transient faults are retried.
    pub retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Self { retained: 3, retry: Retry::default() }
    }
}

/// The epochs of one task in a store.
#[derive(Clone, Debug)]
pub struct EpochLog {
    pub(super) objects: Objects,
    pub(super) layout: Layout,
    pub(super) pipeline: PipelineUid,
    pub(super) task: TaskId,
    pub(super) retained: usize,
}

/// Where a task stands, before anybody claims it.
#[derive(Debug)]
pub struct Opened {
    /// The last epoch; `None` for a task that never ran.
    pub last: Option<EpochRecord>,
    /// Present if that epoch's commit was not marked: commit it (idempotently), then mark it, then claim.
    pub uncommitted: Option<CommitPermit>,
    /// Present if the newest record was damaged and an older one is used. Report it: effects may repeat.
    pub regressed: Option<DataRegression>,
    owner: String,
    resume: Resume,
}

/// The newest epoch was lost to damage; the task goes on from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRegression {
    /// The damaged epoch.
    pub lost: Epoch,
    /// Whether its commit was marked: if so, its effects are visible and will be produced again.
    pub lost_was_committed: bool,
    /// The epoch that is used.
    pub resumed: Epoch,
    /// What is wrong with the record.
    pub detail: String,
}

/// The right to commit one epoch's committables: its record is canonical and was the newest.
///
/// Only this module makes one, and only right after it saw just that.
/// It carries the canonical record, so whoever holds it, however late, can only commit what everybody else would.
#[derive(Debug)]
#[must_use = "commit what it carries, then mark it as committed"]
pub struct CommitPermit {
    record: Arc<EpochRecord>,
    marker: Path,
}

/// How reading a record ended.
#[derive(Debug)]
pub(super) enum Stored {
    Intact(Box<EpochRecord>),
    Damaged(String),
    Absent,
}

impl EpochLog {
    /// The log of `task`, below `base` in `store`. Touches nothing yet.
    ///
    /// # Errors
    /// [`Error::Retained`] if fewer than 2 epochs are to be kept.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        base: &Path,
        pipeline: PipelineUid,
        task: TaskId,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        if options.retained < 2 {
            return Err(Error::Retained(options.retained));
        }
        Ok(Self {
            objects: Objects::new(store, clock, options.retry),
            layout: Layout::new(base, &pipeline, &task),
            pipeline,
            task,
            retained: usize::try_from(options.retained).unwrap_or(usize::MAX),
        })
    }

    /// Reads where the task stands. Writes nothing, so it is also how to look without taking over.
    ///
    /// `nonce` identifies the owner-to-be: random, new for every call.
    ///
    /// # Errors
    /// [`Error::Unrecoverable`], [`Error::NewerFormat`], [`Error::Inconsistent`], [`Error::Store`].
    pub async fn open(&self, nonce: impl Into<String>) -> Result<Opened, Error> {
        let mut facts = OpenFacts::default();
        let mut records = BTreeMap::new();
        let mut damage = String::new();
        let mut vanished = 0;
        loop {
            match decide::open(&facts) {
                OpenStep::List => facts.listing = Some(self.objects.epochs(&self.layout.epochs(), None).await?),
                OpenStep::Read(epoch) => {
                    let reading = match self.read(epoch).await? {
                        Stored::Intact(record) => {
                            let reading = Reading::Valid { generation: record.generation, commits: record.has_committables() };
                            records.insert(epoch, record);
                            reading
                        }
                        Stored::Damaged(detail) => {
                            damage = detail;
                            Reading::Corrupt
                        }
                        Stored::Absent => Reading::Missing,
                    };
                    facts.readings.insert(epoch, reading);
                }
                OpenStep::LookLater(epoch) => facts.later = Some(self.has_later(epoch).await?),
                OpenStep::Relist(epoch) => {
                    if !self.objects.pause(vanished, &self.layout.record(epoch)).await {
                        return Err(Error::Inconsistent { task: self.task.clone(), epoch });
                    }
                    vanished += 1;
                    facts = OpenFacts::default();
                }
                OpenStep::Ready(resume) => {
                    let last = resume.from.and_then(|epoch| records.remove(&epoch)).map(|record| *record);
                    let committed = |lost| facts.listing.as_ref().is_some_and(|listing| listing.committed.contains(&lost));
                    let regressed = resume.regressed.zip(resume.from).map(|(lost, resumed)| DataRegression {
                        lost,
                        lost_was_committed: committed(lost),
                        resumed,
                        detail: damage,
                    });
                    let owed = last.as_ref().filter(|_| resume.owed);
                    let uncommitted = owed.map(|record| self.permit(Arc::new(record.clone())));
                    return Ok(Opened { last, uncommitted, regressed, owner: nonce.into(), resume });
                }
                OpenStep::Refuse(epochs) => return Err(Error::Unrecoverable { task: self.task.clone(), epochs }),
            }
        }
    }

    /// Marks the epoch as committed, after all its committables are. Marking it again is harmless.
    ///
    /// # Errors
    /// [`Error::Store`]; open the task again then, the commit will be rolled forward.
    pub async fn mark_committed(&self, permit: CommitPermit) -> Result<(), Error> {
        if !permit.record.has_committables() {
            return Ok(());
        }
        let by = serde_json::json!({ "generation": permit.record.generation, "markedAtMillis": self.objects.clock().now_millis() });
        let bytes = Bytes::from(by.to_string());
        let mut facts = MarkFacts::default();
        let mut conflicts = 0;
        loop {
            match decide::mark(&facts) {
                MarkStep::Create => facts.create = Some(self.objects.create(&permit.marker, &bytes).await?),
                MarkStep::LookUp => facts.present = Some(self.objects.exists(&permit.marker).await?),
                MarkStep::Again => {
                    self.settle_conflict(&mut conflicts, &permit.marker).await?;
                    facts = MarkFacts::default();
                }
                MarkStep::Marked => return Ok(()),
            }
        }
    }

    /// Takes the task over, from where it was opened: appends a record with the old positions and state,
    /// nothing to commit and a new generation. From then on every earlier owner is fenced.
    ///
    /// Restore state only afterwards, from [`Owner::last`]: until then the previous owner may still collect it.
    ///
    /// # Errors
    /// [`Error::NotCommitted`] if the opened epoch's commit is not marked yet;
    /// [`Error::Overtaken`] if somebody appended since: open again; [`Error::Store`].
    pub async fn claim(&self, opened: Opened, plan_hash: impl Into<String>) -> Result<Owner, Error> {
        let Opened { last, resume, owner: nonce, .. } = opened;
        let debt = match last.as_ref().filter(|_| resume.owed) {
            Some(record) if !self.objects.exists(&self.layout.committed(record.epoch)).await? => Debt::Owed,
            _ => Debt::Settled,
        };
        self.pass(debt, resume.from.unwrap_or_default())?;
        self.continue_from(last, resume, nonce, plan_hash.into()).await
    }

    /// Takes the task over from before the opened epoch, whose anchor was aborted: as [`EpochLog::claim`], with the positions and state
    /// of the epoch before. The opened one stays in the log, without effect.
    ///
    /// Only for an epoch that nobody has committed and nobody can commit any more: see the module's "Anchors".
    ///
    /// # Errors
    /// [`Error::Overtaken`] if somebody appended, or marked the epoch, since: open again; [`Error::Unrecoverable`] if the epoch before
    /// cannot be read; [`Error::Store`].
    pub async fn claim_back(&self, opened: Opened, plan_hash: impl Into<String>) -> Result<Owner, Error> {
        let Opened { last, resume, owner: nonce, .. } = opened;
        let overtaken = || Error::Overtaken { task: self.task.clone(), epoch: resume.next };
        let aborted = last.map(|record| record.epoch).filter(|_| resume.owed).ok_or_else(overtaken)?;
        if self.objects.exists(&self.layout.committed(aborted)).await? {
            return Err(overtaken());
        }
        // An epoch with something to commit is never the first: its owner's claim comes before it.
        let before = aborted.previous().ok_or_else(overtaken)?;
        let last = match self.read(before).await? {
            Stored::Intact(record) => *record,
            Stored::Damaged(_) => return Err(Error::Unrecoverable { task: self.task.clone(), epochs: vec![before] }),
            Stored::Absent => return Err(overtaken()),
        };
        self.continue_from(Some(last), resume, nonce, plan_hash.into()).await
    }

    /// Appends a claim that goes on after `last`.
    async fn continue_from(&self, last: Option<EpochRecord>, resume: Resume, nonce: String, plan_hash: String) -> Result<Owner, Error> {
        let content = last.map_or_else(EpochContent::default, |last| EpochContent {
            positions: last.positions,
            operators: last.operators,
            buckets: last.buckets,
            event_times: last.event_times,
            stage: last.stage,
            exchange: last.exchange,
            ..EpochContent::default()
        });
        let record =
            EpochRecord { regressed_from: resume.regressed, ..self.record(resume.next, resume.generation, &nonce, &plan_hash, content) };
        if !self.append(&record).await? {
            return Err(Error::Overtaken { task: self.task.clone(), epoch: resume.next });
        }
        Ok(Owner::new(self.clone(), nonce, plan_hash, record))
    }

    /// Reads one record, several times if it looks damaged.
    pub(super) async fn read(&self, epoch: Epoch) -> Result<Stored, Error> {
        let path = self.layout.record(epoch);
        let mut reads = 0;
        loop {
            let Some(bytes) = self.objects.read(&path).await? else { return Ok(Stored::Absent) };
            let detail = match EpochRecord::decode(&bytes) {
                Ok(record) if record.epoch == epoch && record.task == self.task && record.pipeline_uid == self.pipeline => {
                    return Ok(Stored::Intact(Box::new(record)));
                }
                Ok(record) => format!("it is the record of epoch {} of task {}", record.epoch, record.task),
                Err(DecodeError::Newer { needed }) => return Err(Error::NewerFormat { path, needed, supported: READER_VERSION }),
                Err(error @ DecodeError::Corrupt(_)) => error.to_string(),
            };
            reads += 1;
            if reads >= READS_OF_DAMAGED || !self.objects.pause(reads, &path).await {
                tracing::error!(%path, detail, "damaged epoch record");
                return Ok(Stored::Damaged(detail));
            }
        }
    }

    /// Appends a record; `false` if the task belongs to somebody else.
    pub(super) async fn append(&self, record: &EpochRecord) -> Result<bool, Error> {
        let path = self.layout.record(record.epoch);
        let bytes = record.encode()?;
        let mut facts = AppendFacts::default();
        let mut conflicts = 0;
        loop {
            match decide::append(&facts) {
                AppendStep::Create => facts.create = Some(self.objects.create(&path, &bytes).await?),
                AppendStep::ReadBack => {
                    facts.found = Some(match self.objects.read(&path).await? {
                        Some(found) if found == bytes => Found::Ours,
                        Some(_) => Found::Other,
                        None => Found::Missing,
                    });
                }
                AppendStep::Again => {
                    self.settle_conflict(&mut conflicts, &path).await?;
                    facts = AppendFacts::default();
                }
                AppendStep::LookLater => facts.later = Some(self.has_later(record.epoch).await?),
                AppendStep::Canonical => return Ok(true),
                AppendStep::Lost => return Ok(false),
            }
        }
    }

    /// Whether an epoch later than this one is listed now.
    pub(super) async fn has_later(&self, epoch: Epoch) -> Result<bool, Error> {
        let later = self.objects.epochs(&self.layout.epochs(), Some(&self.layout.record(epoch))).await?;
        Ok(later.records.last().is_some_and(|newest| *newest > epoch))
    }

    /// A store may answer "conflict" while another request for the same name is under way and then fails.
    async fn settle_conflict(&self, conflicts: &mut u32, path: &Path) -> Result<(), Error> {
        if !self.objects.pause(*conflicts, path).await {
            let source = object_store::Error::Generic {
                store: "checkpoint",
                source: "the store reports a conflict with an object that it does not have".into(),
            };
            return Err(Error::Store {
                doing: "create",
                path: path.clone(),
                fault: super::StoreFault::Transient,
                source: Box::new(source),
            });
        }
        *conflicts += 1;
        Ok(())
    }

    pub(super) fn pass(&self, debt: Debt, last: Epoch) -> Result<(), Error> {
        match decide::may_append(debt) {
            Gate::Append => Ok(()),
            Gate::CommitFirst => Err(Error::NotCommitted { task: self.task.clone(), epoch: last }),
            Gate::Reopen => Err(Error::InDoubt { task: self.task.clone(), epoch: last }),
        }
    }

    pub(super) fn record(&self, epoch: Epoch, generation: Generation, nonce: &str, plan_hash: &str, content: EpochContent) -> EpochRecord {
        EpochRecord {
            format_version: FORMAT_VERSION,
            min_reader_version: content.min_reader_version(),
            pipeline_uid: self.pipeline.clone(),
            task: self.task.clone(),
            epoch,
            generation,
            owner: nonce.to_owned(),
            plan_hash: plan_hash.to_owned(),
            created_at_millis: self.objects.clock().now_millis(),
            regressed_from: None,
            positions: content.positions,
            operators: content.operators,
            buckets: content.buckets,
            event_times: content.event_times,
            stage: content.stage,
            exchange: content.exchange,
            sinks: content.sinks,
            counters: content.counters,
        }
    }

    pub(super) fn permit(&self, record: Arc<EpochRecord>) -> CommitPermit {
        let marker = self.layout.committed(record.epoch);
        CommitPermit { record, marker }
    }

    /// Who holds the task now; only for messages, so any trouble means "unknown".
    pub(super) async fn current_generation(&self) -> Option<Generation> {
        self.open("").await.ok()?.last.map(|record| record.generation)
    }
}

impl CommitPermit {
    /// The canonical record.
    #[must_use]
    pub fn record(&self) -> &EpochRecord {
        &self.record
    }

    /// The epoch to commit.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.record.epoch
    }

    /// The generation that wrote the epoch.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.record.generation
    }

    /// What to commit, by output.
    #[must_use]
    pub fn committables(&self) -> &BTreeMap<String, Vec<serde_json::Value>> {
        &self.record.sinks
    }
}
