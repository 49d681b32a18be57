//! One output of a running task: a writer in a tokio task of its own, fed through a channel. It never closes an epoch by itself.

use std::sync::Arc;

use millrace_crds::report::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::driver::Failure;
use super::observed::Part;
use crate::batch::Batch;
use crate::connector::{ConnectorError, Health};
use crate::sink::{Prepared, Sink, SinkWriter, WriterIdentity};

/// Batches that may wait in the channel; bytes are bounded by the [`Budget`], this only bounds the bookkeeping.
const CHANNEL: usize = 1024;

/// The bound on bytes between reader and writers of one task.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    kibibytes: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        Self { kibibytes: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until `bytes` fit. A batch larger than the whole budget takes all of it.
    async fn acquire(&self, bytes: usize) -> OwnedSemaphorePermit {
        let wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.total);
        Arc::clone(&self.kibibytes).acquire_many_owned(wanted).await.expect("the semaphore is never closed")
    }
}

enum Message {
    Batch(Batch, OwnedSemaphorePermit),
    Prepare(u64, oneshot::Sender<Result<Prepared, ConnectorError>>),
}

/// The driver's end of one output.
pub(super) struct Output {
    /// Who writes, for commits.
    pub(super) identity: WriterIdentity,
    /// The sink, for commits.
    pub(super) sink: Arc<dyn Sink>,
    /// Where commits report trouble.
    pub(super) health: Health,
    /// Name of the Sink object.
    pub(super) sink_name: String,
    sender: mpsc::Sender<Message>,
    budget: Budget,
    writer: Option<JoinHandle<Result<(), ConnectorError>>>,
}

impl Output {
    #[expect(clippy::disallowed_methods, reason = "the handle is joined in `close` and aborted on drop")]
    pub(super) fn start(
        identity: WriterIdentity,
        sink: Arc<dyn Sink>,
        sink_name: String,
        health: Health,
        writer: Box<dyn SinkWriter>,
        budget: Budget,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let writer = Some(tokio::spawn(run(writer, receiver)));
        Self { identity, sink, health, sink_name, sender, budget, writer }
    }

    /// Hands a batch over, once it fits. Not cancel-safe: a dropped call may lose the batch, so only a task that closes drops it.
    pub(super) async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        let permit = self.budget.acquire(batch.memory_bytes()).await;
        if self.sender.send(Message::Batch(batch, permit)).await.is_err() {
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// Asks the writer to end `epoch`; the answer comes when everything before is written.
    pub(super) async fn prepare(&mut self, epoch: u64) -> Result<oneshot::Receiver<Result<Prepared, ConnectorError>>, Failure> {
        let (answer, receiver) = oneshot::channel();
        if self.sender.send(Message::Prepare(epoch, answer)).await.is_err() {
            return Err(self.failure().await);
        }
        Ok(receiver)
    }

    /// Why the writer has ended. Only called when it has.
    async fn failure(&mut self) -> Failure {
        let error = match self.writer.take() {
            Some(handle) => match handle.await {
                Ok(Err(error)) => error,
                Ok(Ok(())) => ConnectorError::new(ErrorReason::Internal, "the writer ended before its task"),
                Err(panic) => ConnectorError::new(ErrorReason::Internal, format!("the writer panicked: {panic}")),
            },
            None => ConnectorError::new(ErrorReason::Internal, "the writer has failed before"),
        };
        Failure::new(Part::Sink(self.sink_name.clone()), error)
    }

    /// Resolves when the writer has ended by itself, which is always a failure.
    pub(super) async fn failed(&mut self) -> Failure {
        self.sender.closed().await;
        self.failure().await
    }

    /// Lets the writer throw away what was not prepared.
    pub(super) async fn close(mut self) {
        let writer = self.writer.take();
        drop(self);
        if let Some(writer) = writer {
            let _ended = writer.await;
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

async fn run(mut writer: Box<dyn SinkWriter>, mut messages: mpsc::Receiver<Message>) -> Result<(), ConnectorError> {
    while let Some(message) = messages.recv().await {
        match message {
            Message::Batch(batch, permit) => {
                if let Err(error) = writer.write(batch).await {
                    writer.close().await;
                    return Err(error);
                }
                drop(permit);
            }
            Message::Prepare(epoch, answer) => {
                // Whoever waits for the answer may have been closed meanwhile; then nobody needs it.
                let _unheard = answer.send(writer.prepare(epoch).await);
            }
        }
    }
    writer.close().await;
    Ok(())
}
