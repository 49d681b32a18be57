//! Writes the rows of one output: names and encodes them, and hands them to a task that sends. It waits for memory, never for a request.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{Batch, RejectCode, RejectStage, Rejected};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::row_kind::RowKind;
use millrace_engine::sink::{Prepared, SinkWriter};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::bulk::{Draft, id_of};
use super::client::Client;
use super::queue::{Limits, MAX_IN_FLIGHT, Queue};
use super::sender::{Command, run};
use crate::formats::PAYLOAD_CAP;
use crate::formats::rows::RowEncoder;
use crate::formats::template::Template;
use crate::keys::KeyColumns;

/// Drafts that may wait in the channel; memory is bounded by the semaphore.
const CHANNEL: usize = 64;

/// How documents are named.
pub(super) struct Naming {
    pub(super) index: Template,
    pub(super) event_time: Option<String>,
    /// Columns of the `_id`; without them it is the coordinate.
    pub(super) ids: Option<KeyColumns>,
}

/// Writes one output of one task.
pub(super) struct BulkWriter {
    naming: Naming,
    encoder: RowEncoder,
    limits: Limits,
    memory: Arc<Semaphore>,
    memory_bytes: usize,
    commands: mpsc::Sender<Command>,
    /// Rows without an identity, which are not even sent.
    nameless: Vec<Rejected>,
    sender: Option<AbortOnDropHandle<()>>,
}

impl BulkWriter {
    #[expect(clippy::disallowed_methods, reason = "the task is the writer's own: it ends with its channel and is aborted with its handle")]
    pub(super) fn open(naming: Naming, encoder: RowEncoder, client: Client, limits: Limits, health: Health) -> Self {
        let memory_bytes = limits.bytes * (MAX_IN_FLIGHT + 1);
        let (commands, receiver) = mpsc::channel(CHANNEL);
        let queue = Queue::new(limits, naming.ids.is_some());
        let sender = tokio::spawn(run(queue, receiver, Arc::new(client), health));
        Self {
            naming,
            encoder,
            limits,
            memory: Arc::new(Semaphore::new(memory_bytes)),
            memory_bytes,
            commands,
            nameless: Vec::new(),
            sender: Some(AbortOnDropHandle::new(sender)),
        }
    }

    /// Hands a draft over, once there is memory for it.
    async fn hand_over(&mut self, draft: Draft) -> Result<(), ConnectorError> {
        if draft.is_empty() {
            return Ok(());
        }
        // A document larger than all of it takes all of it.
        let bytes = u32::try_from(draft.memory_bytes().min(self.memory_bytes)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).acquire_many_owned(bytes).await;
        let memory =
            memory.map_err(|error| ConnectorError::new(ErrorReason::Internal, "the memory of a writer is gone").caused_by(error))?;
        if self.commands.send(Command::Send(draft, memory)).await.is_err() {
            return Err(self.ended().await);
        }
        Ok(())
    }

    /// Why the sending task has ended, which it does not do by itself.
    async fn ended(&mut self) -> ConnectorError {
        let error = ConnectorError::new(ErrorReason::Internal, "the task that sends documents has failed");
        match self.sender.take() {
            Some(sender) => match sender.await {
                Err(panic) => error.caused_by(panic),
                Ok(()) => error,
            },
            None => error,
        }
    }

    /// Keeps a row that has no `_id`, for the end of the epoch.
    fn refuse_nameless(&mut self, batch: &Batch, row: usize, document: &[u8]) {
        self.nameless.push(Rejected {
            origin: batch.origin.clone(),
            ordinal: batch.ordinals.value(row),
            stage: RejectStage::Sink,
            code: RejectCode::RefusedBySink,
            error: "the columns of idFrom are all NULL or empty: the document would have no _id".to_owned(),
            payload: document[..document.len().min(PAYLOAD_CAP)].to_vec().into(),
            payload_bytes: document.len() as u64,
            attempts: 1,
        });
    }
}

impl Naming {
    /// Names of indices, and which of them each row goes to.
    fn indices(&self, records: &RecordBatch) -> (Vec<String>, Vec<usize>) {
        let mut of_row = vec![0; records.num_rows()];
        if let Some(name) = self.index.constant() {
            return (vec![name.to_owned()], of_row);
        }
        let mut names = Vec::new();
        for (name, rows) in self.index.partition(records, self.event_time.as_deref()) {
            for row in rows.values() {
                of_row[*row as usize] = names.len();
            }
            names.push(name);
        }
        (names, of_row)
    }

    /// The `_id` of each row; `None` for a row without an identity.
    fn ids(&self, batch: &Batch) -> Result<Vec<Option<String>>, ConnectorError> {
        let Some(columns) = &self.ids else {
            return Ok((0..batch.num_rows()).map(|row| Some(batch.coordinate(row))).collect());
        };
        let keys = columns.render(&batch.records).map_err(|error| {
            ConnectorError::new(ErrorReason::Internal, "the columns of idFrom cannot be written as text").caused_by(error)
        })?;
        Ok(keys.iter().map(|key| key.filter(|key| !key.is_empty()).map(|key| id_of(key.to_owned()))).collect())
    }
}

#[async_trait]
impl SinkWriter for BulkWriter {
    async fn write(&mut self, batch: Batch) -> Result<(), ConnectorError> {
        let (mut documents, mut ends) = (Vec::new(), Vec::new());
        self.encoder
            .encode(&batch.records, &mut documents, &mut ends)
            .map_err(|error| ConnectorError::new(ErrorReason::Internal, "rows cannot be written as documents").caused_by(error))?;
        let (names, index_of) = self.naming.indices(&batch.records);
        let ids = self.naming.ids(&batch)?;
        let mut draft = Draft::default();
        let mut start = 0;
        for (row, (end, id)) in ends.into_iter().zip(ids).enumerate() {
            let document = &documents[start..end];
            start = end;
            let Some(id) = id else {
                self.refuse_nameless(&batch, row, document);
                continue;
            };
            // What replaces a document follows under the same `_id`.
            if batch.kind(row) == RowKind::UpdateBefore {
                continue;
            }
            let about = document.len() + id.len() + names[index_of[row]].len();
            if draft.len() >= self.limits.count || !draft.is_empty() && draft.body_bytes() + about > self.limits.bytes {
                self.hand_over(std::mem::take(&mut draft)).await?;
            }
            let (index, ordinal) = (&names[index_of[row]], batch.ordinals.value(row));
            if batch.kind(row) == RowKind::Delete {
                draft.push_delete(index, &id, &batch.origin, ordinal);
            } else {
                draft.push(index, &id, document, &batch.origin, ordinal);
            }
        }
        self.hand_over(draft).await
    }

    async fn prepare(&mut self, _epoch: u64) -> Result<Prepared, ConnectorError> {
        let (answer, decided) = oneshot::channel();
        if self.commands.send(Command::Prepare(answer)).await.is_err() {
            return Err(self.ended().await);
        }
        let Ok(refused) = decided.await else { return Err(self.ended().await) };
        let mut rejected = std::mem::take(&mut self.nameless);
        rejected.extend(refused);
        Ok(Prepared { committables: Vec::new(), rejected })
    }

    async fn close(&mut self) {
        // Requests under way are dropped: what they hold is written again by the next owner, under the same names.
        self.sender = None;
    }
}
