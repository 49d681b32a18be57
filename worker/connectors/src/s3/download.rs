//! Reads one claimed thing, ahead of the reader by a few pieces. It keeps no position and finishes nothing: the reader does.

use std::sync::Arc;

use bytes::Bytes;
use millrace_engine::batch::{Origin, RejectCode};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::Records;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::intake::Desk;
use super::ledger::{Claim, Standing, Subject};
use super::object::{Buckets, Object, ObjectBytes, ObjectId, Revision, current};
use crate::formats::StreamPosition;
use crate::formats::parquet_in::ReadError;
use crate::objects::stream::{AtEnd, ObjectStream, Reading, is_lost, rest_of};

/// Pieces that may wait for the reader.
const AHEAD: usize = 2;

/// What the reader is told.
#[derive(Debug)]
pub(super) enum Part {
    /// Records, and where to go on after them.
    Records(Records, StreamPosition),
    /// That was all.
    End,
    /// It cannot be read now, and retrying did not help.
    Failed(ConnectorError),
}

/// One claimed thing that is being read.
#[derive(Debug)]
pub(super) struct Download {
    /// What is read.
    pub(super) id: ObjectId,
    /// Its parts, in order; closed without an end if reading it panicked.
    pub(super) parts: mpsc::Receiver<Part>,
    _task: JoinSet<()>,
}

/// What all downloads of one reader share.
#[derive(Debug)]
pub(super) struct Downloads {
    pub(super) desk: Arc<Desk>,
    pub(super) buckets: Arc<dyn Buckets>,
    pub(super) reading: Arc<Reading>,
    /// URL of the queue: the origin of messages that announce nothing.
    pub(super) queue_url: String,
}

impl Downloads {
    /// Starts to read `claim` at `start`, by default at its beginning.
    pub(super) fn start(self: &Arc<Self>, claim: Claim, start: Option<StreamPosition>) -> Download {
        let (sender, parts) = mpsc::channel(AHEAD);
        let id = claim.id;
        let downloads = Arc::clone(self);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // A reader that is gone needs no end.
            let _reader_is_gone = downloads.run(claim, start, &sender).await;
        });
        Download { id, parts, _task: task }
    }

    async fn run(
        &self,
        claim: Claim,
        start: Option<StreamPosition>,
        parts: &mpsc::Sender<Part>,
    ) -> Result<(), mpsc::error::SendError<Part>> {
        let position = start.unwrap_or_default();
        let object = match claim.what {
            Subject::Object(object) => object,
            Subject::Message { message_id, error, body } => {
                if position.record == 0 {
                    let origin = Origin::new(&format!("{}/{message_id}", self.queue_url), format!("{}#{message_id}", self.queue_url));
                    let records = rest_of(&origin, 0, RejectCode::Malformed, error, body.into());
                    parts.send(Part::Records(records, whole())).await?;
                }
                return parts.send(Part::End).await;
            }
        };
        let mut at = position;
        match self.read(&object, &mut at, parts).await? {
            Ok(()) => {}
            Err(ReadError::Refused { code, error }) => {
                parts.send(Part::Records(self.rest(&object, at.record, code, error), at)).await?;
            }
            Err(ReadError::Read(error)) if is_lost(&error) => {
                if self.is_superseded(&object).await {
                    tracing::info!(object = object.name(), "was replaced before it was read; its successor has been announced");
                } else {
                    let records = self.rest(&object, at.record, RejectCode::ObjectLost, error.message);
                    parts.send(Part::Records(records, at)).await?;
                }
            }
            Err(ReadError::Read(error)) => return parts.send(Part::Failed(error)).await,
        }
        parts.send(Part::End).await
    }

    /// Sends the records of `object` from `at` on, which moves along.
    async fn read(
        &self,
        object: &Object,
        at: &mut StreamPosition,
        parts: &mpsc::Sender<Part>,
    ) -> Result<Result<(), ReadError>, mpsc::error::SendError<Part>> {
        if object.size == Some(0) {
            return Ok(Ok(()));
        }
        let health = self.desk.health.clone();
        let bytes = match ObjectBytes::open(self.buckets.as_ref(), object.clone(), health).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error.into())),
        };
        let origin = object.origin();
        let start = (*at != StreamPosition::default()).then(|| at.clone());
        let mut stream = match ObjectStream::open(&self.reading, Box::new(bytes), start, AtEnd::Complete).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            match stream.next().await {
                Ok(Some(piece)) => {
                    at.clone_from(&piece.position);
                    parts.send(Part::Records(piece.decoded.into_records(&origin), piece.position)).await?;
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Whether the key holds a newer version that the ledger knows. Then nothing is missing: what is there now is, or has been, read.
    async fn is_superseded(&self, object: &Object) -> bool {
        if matches!(object.revision, Revision::Version(_)) {
            return false;
        }
        let Ok(Some(now)) = current(self.buckets.as_ref(), &object.bucket, &object.key).await else {
            return false;
        };
        let Some(etag) = now.e_tag.as_deref().map(|etag| etag.trim_matches('"').to_owned()) else {
            return false;
        };
        let successor = Object { revision: Revision::Etag(etag), ..object.clone() };
        successor.id() != object.id() && self.desk.ledger.lock().await.standing(&successor.id()) != Standing::Free
    }

    /// One record for all of `object` from `ordinal` on; its payload says which object it is.
    fn rest(&self, object: &Object, ordinal: u64, code: RejectCode, error: String) -> Records {
        let announcement = serde_json::to_vec(object).map(Bytes::from).unwrap_or_default();
        rest_of(&object.origin(), ordinal, code, error, announcement)
    }
}

/// The end of something that is one record.
fn whole() -> StreamPosition {
    StreamPosition { record: 1, ..StreamPosition::default() }
}
