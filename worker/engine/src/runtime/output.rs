//! One output of a running task: a writer in a tokio task of its own, fed through a channel. It never closes an epoch by itself.

use std::sync::Arc;

use millrace_crds::report::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::driver::{Failure, at};
use super::observed::Part;
use crate::batch::Batch;
use crate::connector::{ConnectorError, Health};
use crate::exchange::UpTo;
use crate::sink::{Prepared, Sink, SinkWriter, WriterIdentity};
use crate::time::Time;

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

/// What goes to a writer, in this order and no other: a time tells of the batches before it.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Rows of a channel; an output that is no exchange has the channel 0 only.
    Batch(usize, Batch),
    /// The batches before are all that came of rows up to there, on a channel of an exchange.
    UpTo(usize, UpTo),
    /// How far time has come on a channel of an exchange.
    Time(usize, Time),
}

impl Outgoing {
    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Batch(_, batch) => batch.memory_bytes(),
            Self::UpTo(..) | Self::Time(..) => 0,
        }
    }
}

enum Message {
    Outgoing(Outgoing, OwnedSemaphorePermit),
    Prepare(u64, oneshot::Sender<Result<Prepared, ConnectorError>>),
}

/// Room for one batch or time: of the budget, and in the channel.
pub(super) struct Room {
    slot: mpsc::OwnedPermit<Message>,
    bytes: OwnedSemaphorePermit,
}

impl Room {
    /// Hands over what there is room for.
    pub(super) fn fill(self, outgoing: Outgoing) {
        self.slot.send(Message::Outgoing(outgoing, self.bytes));
    }
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

    /// Waits until a batch of so many bytes fits. A dropped call loses nothing. `None` if the writer has ended.
    pub(super) async fn room(&self, bytes: usize) -> Option<Room> {
        let bytes = self.budget.acquire(bytes).await;
        let slot = self.sender.clone().reserve_owned().await.ok()?;
        Some(Room { slot, bytes })
    }

    /// Hands a batch over, once it fits. Not cancel-safe: a dropped call may lose the batch.
    pub(super) async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        if let Some(room) = self.room(batch.memory_bytes()).await {
            room.fill(Outgoing::Batch(0, batch));
            return Ok(());
        }
        Err(self.failure().await)
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
    pub(super) async fn failure(&mut self) -> Failure {
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
    pub(super) async fn ended(&self) {
        self.sender.closed().await;
    }

    /// Whether the writer has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.sender.is_closed()
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
    loop {
        let message = tokio::select! {
            biased;
            // First, or nothing would ever be due while much is written.
            () = at(writer.due()) => {
                if let Err(error) = writer.act().await {
                    writer.close().await;
                    return Err(error);
                }
                continue;
            }
            message = messages.recv() => message,
        };
        let Some(message) = message else { break };
        match message {
            Message::Outgoing(outgoing, permit) => {
                let taken = match outgoing {
                    Outgoing::Batch(channel, batch) => writer.write_to(channel, batch).await,
                    Outgoing::UpTo(channel, up_to) => writer.up_to(channel, up_to).await,
                    Outgoing::Time(channel, time) => writer.time(channel, time).await,
                };
                if let Err(error) = taken {
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
