//! The reader of a queue's objects: returns what was claimed, in order, and keeps the position. Receiving, downloading and tidying up run beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{Lag, Records, SourceEvent, SplitReader};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::download::{Download, Downloads, Part};
use super::intake::{Desk, Filter, Intake};
use super::janitor;
use super::ledger::Claim;
use super::object::ObjectId;
use crate::formats::StreamPosition;

/// Objects that are downloaded at the same time: the one that is returned, and the next ones.
const DOWNLOADS: usize = 4;
/// For what must be told to the queue before letting go.
const CLOSING: Duration = Duration::from_secs(3);

/// How far the objects of one task have been read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Position {
    /// Objects that are being read.
    #[serde(default)]
    reading: BTreeMap<ObjectId, StreamPosition>,
    /// Objects that have been read to their end. They stay here until the ledger says that they are done, and something else has been read.
    #[serde(default)]
    finished: BTreeSet<ObjectId>,
}

impl Position {
    pub(super) fn restore(stored: Option<&Value>) -> Result<Self, ConnectorError> {
        let Some(stored) = stored else { return Ok(Self::default()) };
        Self::deserialize(stored).map_err(|error| {
            ConnectorError::new(ErrorReason::Corrupt, "the position in the checkpoint is of an unknown form").caused_by(error)
        })
    }

    pub(super) fn finished(&self) -> Vec<ObjectId> {
        self.finished.iter().copied().collect()
    }
}

/// Reads one split: what one task claims.
pub(super) struct S3Reader {
    downloads: Arc<Downloads>,
    position: Position,
    /// Of `position.finished`, what the ledger knows to be done.
    noted: BTreeSet<ObjectId>,
    /// Claimed and not yet started.
    waiting: VecDeque<Claim>,
    /// Started; the first one is returned.
    started: VecDeque<Download>,
    claims: mpsc::UnboundedReceiver<Result<Claim, ConnectorError>>,
    stop: CancellationToken,
    /// Intake and janitor; aborted on drop.
    intake: JoinSet<()>,
    janitor: JoinSet<()>,
}

impl S3Reader {
    /// Starts at `position`. `unfinished` is what the task had claimed before.
    pub(super) fn start(downloads: Downloads, filter: Filter, mut position: Position, unfinished: Vec<Claim>) -> Self {
        let downloads = Arc::new(downloads);
        let (sender, claims) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let mut intake = JoinSet::new();
        let taking = Intake {
            desk: Arc::clone(&downloads.desk),
            buckets: Arc::clone(&downloads.buckets),
            filter,
            claims: sender,
            stop: stop.clone(),
        };
        intake.spawn(taking.run());
        let mut janitor = JoinSet::new();
        janitor.spawn(janitor::run(Arc::clone(&downloads.desk)));
        position.reading.retain(|id, _| unfinished.iter().any(|claim| claim.id == *id));
        let noted = position.finished.clone();
        Self { downloads, position, noted, waiting: unfinished.into(), started: VecDeque::new(), claims, stop, intake, janitor }
    }

    fn desk(&self) -> &Desk {
        &self.downloads.desk
    }

    fn start_downloads(&mut self) {
        while self.started.len() < DOWNLOADS
            && let Some(claim) = self.waiting.pop_front()
        {
            let start = self.position.reading.get(&claim.id).cloned();
            self.started.push_back(self.downloads.start(claim, start));
        }
    }

    /// Something has been read: what the ledger knows to be done need not be said again.
    fn progress(&mut self) {
        let noted = std::mem::take(&mut self.noted);
        self.position.finished.retain(|id| !noted.contains(id));
    }

    /// Takes a part of the first download.
    fn take(&mut self, id: ObjectId, part: Option<Part>) -> Result<Option<Records>, ConnectorError> {
        match part {
            Some(Part::Records(records, at)) => {
                self.progress();
                self.position.reading.insert(id, at);
                Ok((records.batch.is_some() || !records.rejected.is_empty()).then_some(records))
            }
            Some(Part::End) => {
                self.progress();
                self.started.pop_front();
                self.position.reading.remove(&id);
                self.position.finished.insert(id);
                self.desk().backlog.send_modify(|backlog| *backlog = backlog.saturating_sub(1));
                Ok(None)
            }
            Some(Part::Failed(error)) => Err(error),
            None => Err(ConnectorError::new(ErrorReason::Internal, "reading an object ended without a result")),
        }
    }
}

#[async_trait]
impl SplitReader for S3Reader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        // Only receiving waits, and what is received is taken at once: a dropped call loses nothing.
        loop {
            self.start_downloads();
            let Some(first) = self.started.front_mut() else {
                match self.claims.recv().await {
                    Some(claim) => self.waiting.push_back(claim?),
                    None if self.stop.is_cancelled() => return Ok(SourceEvent::End),
                    None => return Err(ConnectorError::new(ErrorReason::Internal, "receiving from the queue ended without a reason")),
                }
                continue;
            };
            let id = first.id;
            tokio::select! {
                biased;
                Some(claim) = self.claims.recv() => self.waiting.push_back(claim?),
                part = first.parts.recv() => {
                    if let Some(records) = self.take(id, part)? {
                        return Ok(SourceEvent::Records(records));
                    }
                }
            }
        }
    }

    fn position(&self) -> Value {
        // Only numbers and text: cannot fail.
        serde_json::to_value(&self.position).unwrap_or_default()
    }

    async fn acknowledge(&mut self, position: &Value) -> Result<(), ConnectorError> {
        let durable = Position::restore(Some(position))?.finished;
        let done: Vec<ObjectId> = durable.difference(&self.noted).copied().collect();
        self.desk().ledger.lock().await.finish(done.clone()).await?;
        self.desk().held().done(&done);
        self.desk().tidy.notify_one();
        self.noted = durable;
        Ok(())
    }

    fn drain(&mut self) {
        self.stop.cancel();
    }

    fn lag(&self) -> Lag {
        let backlog = *self.desk().backlog.borrow();
        self.desk().observed.lag(self.desk().held().len(), backlog)
    }

    async fn close(&mut self) {
        self.stop.cancel();
        self.started.clear();
        let desk = Arc::clone(&self.downloads.desk);
        let goodbye = async {
            // Lets a claim that is under way come to its end.
            while self.intake.join_next().await.is_some() {}
            self.janitor.shutdown().await;
            janitor::tidy(&desk).await
        };
        match tokio::time::timeout(CLOSING, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "messages that are done could not be deleted; they come again and are deleted then"),
            Err(_) => tracing::debug!("messages that are done could not be deleted in time; they come again and are deleted then"),
        }
        self.intake.shutdown().await;
        self.janitor.shutdown().await;
    }
}
