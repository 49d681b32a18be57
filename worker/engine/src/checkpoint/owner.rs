//! The owner of a task: writes its epochs, one after the other, until somebody else claims the task.
//! It never writes an epoch while the one before is not committed, and never goes on after a doubt.

use std::sync::Arc;

use object_store::path::Path;

use super::decide::Debt;
use super::log::{CommitPermit, EpochLog};
use super::{Epoch, EpochContent, EpochRecord, Error, Generation};

/// Holds a task: the only one who can append to its log, until somebody else claims it.
#[derive(Debug)]
pub struct Owner {
    pub(super) log: EpochLog,
    nonce: String,
    plan_hash: String,
    last: Arc<EpochRecord>,
    debt: Debt,
}

impl Owner {
    pub(super) fn new(log: EpochLog, nonce: String, plan_hash: String, claim: EpochRecord) -> Self {
        Self { log, nonce, plan_hash, last: Arc::new(claim), debt: Debt::Settled }
    }

    /// This owner's generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.last.generation
    }

    /// The newest epoch; right after the claim it holds what to restore.
    #[must_use]
    pub fn last(&self) -> &EpochRecord {
        &self.last
    }

    /// The number the next epoch will have.
    #[must_use]
    pub fn next_epoch(&self) -> Epoch {
        self.last.epoch.next()
    }

    /// The folder for the next epoch's state files. Write them before the epoch; their
    /// [`StateRef::path`](super::StateRef::path) is relative to [`Owner::root`].
    #[must_use]
    pub fn state_folder(&self) -> Path {
        self.log.layout.state(self.generation(), self.next_epoch())
    }

    /// The task's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.log.layout.root()
    }

    /// Writes the next epoch. Once this returns, the epoch is durable and canonical: commit it with the permit, mark it,
    /// then acknowledge the sources up to its positions.
    ///
    /// Everything the committables refer to must be durable before the call, and must be committable by any other worker.
    ///
    /// # Errors
    /// [`Error::Fenced`] if somebody else claimed the task; [`Error::NotCommitted`] if the last epoch is not marked yet;
    /// [`Error::InDoubt`] after a write without an answer; [`Error::Encode`]; [`Error::Store`].
    pub async fn write_epoch(&mut self, content: EpochContent) -> Result<CommitPermit, Error> {
        self.log.pass(self.debt, self.last.epoch)?;
        let epoch = self.next_epoch();
        let record = Arc::new(self.log.record(epoch, self.generation(), &self.nonce, &self.plan_hash, content));
        // Until there is an answer: if this future fails, or is dropped half-way, nobody knows.
        self.debt = Debt::InDoubt;
        if !self.log.append(&record).await? {
            return Err(self.fenced(epoch).await);
        }
        self.debt = if record.has_committables() { Debt::Owed } else { Debt::Settled };
        self.last = Arc::clone(&record);
        Ok(self.log.permit(record))
    }

    /// Marks the epoch as committed, after all its committables are.
    ///
    /// # Errors
    /// [`Error::Store`]; the owner then refuses further epochs.
    pub async fn mark_committed(&mut self, permit: CommitPermit) -> Result<(), Error> {
        let epoch = permit.epoch();
        self.log.mark_committed(permit).await?;
        if self.debt == Debt::Owed && epoch == self.last.epoch {
            self.debt = Debt::Settled;
        }
        Ok(())
    }

    /// Whether nobody has claimed the task since: costs one listing. For sinks that publish outside epochs,
    /// which shortens how long a fenced owner goes on, but cannot close the gap.
    ///
    /// # Errors
    /// [`Error::Fenced`] if somebody has; [`Error::Store`].
    pub async fn check_fence(&self) -> Result<(), Error> {
        if self.log.has_later(self.last.epoch).await? {
            return Err(self.fenced(self.last.epoch).await);
        }
        Ok(())
    }

    /// Deletes epochs and state that are no longer needed. See [`Collected`](super::Collected).
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::NewerFormat`]. Failing leaves garbage, never damage.
    pub async fn collect_garbage(&self) -> Result<super::Collected, Error> {
        super::gc::collect(&self.log).await
    }

    async fn fenced(&self, epoch: Epoch) -> Error {
        let by = self.log.current_generation().await.filter(|by| *by != self.generation());
        Error::Fenced { task: self.log.task.clone(), epoch, by }
    }
}
