//! State files of an owner: written before the epoch that names them, read and verified after the claim. What is in them is not known here.

use bytes::Bytes;

use super::decide::CreateReply;
use super::identity::sha256_hex;
use super::{Error, Owner, StateRef, TaskId};

/// How often a file that does not fit is read again before it counts as damaged: the damage may be on the way.
const READS_OF_DAMAGED: u32 = 3;

impl Owner {
    /// Stores the state of one operator for the next epoch. A file of the last epoch with the same content is used again.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::StateDamaged`] if something else lies under the name, which only a foreign hand can have put there.
    pub async fn write_state(&self, operator: &str, signature: &str, bytes: Bytes) -> Result<StateRef, Error> {
        let path = self.state_folder().join(format!("{}.state", TaskId::encoded(operator)));
        let relative = self.log.layout.relative(&path).unwrap_or_else(|| path.to_string());
        let file = StateRef { path: relative, length: bytes.len() as u64, sha256: sha256_hex(&bytes), signature: signature.to_owned() };
        let known = self.last().operators.get(operator).into_iter().flatten();
        let same = |known: &&StateRef| (known.length, &known.sha256, &known.signature) == (file.length, &file.sha256, &file.signature);
        if let Some(known) = known.into_iter().find(same) {
            return Ok(known.clone());
        }
        // The folder is of this generation and epoch alone, so what is there is ours: an earlier try whose reply was lost.
        if self.log.objects.create(&path, &bytes).await? == CreateReply::Conflict {
            self.read_state(operator, &file).await?;
        }
        Ok(file)
    }

    /// The content of a state file, verified. Call it after the claim: until then the previous owner may delete it.
    ///
    /// # Errors
    /// [`Error::StateDamaged`] if it is not what was written; [`Error::Store`].
    pub async fn read_state(&self, operator: &str, file: &StateRef) -> Result<Bytes, Error> {
        let path = self.log.layout.file(&file.path);
        let mut reads = 0;
        loop {
            let detail = match self.log.objects.read(&path).await? {
                None => "it is gone".to_owned(),
                Some(bytes) if bytes.len() as u64 != file.length => format!("it has {} bytes, {} were written", bytes.len(), file.length),
                Some(bytes) => match sha256_hex(&bytes) {
                    sha256 if sha256 == file.sha256 => return Ok(bytes),
                    sha256 => format!("its SHA-256 is {sha256}, what was written has {}", file.sha256),
                },
            };
            reads += 1;
            if reads >= READS_OF_DAMAGED || !self.log.objects.pause(reads, &path).await {
                return Err(self.state_damaged(operator, file, detail));
            }
        }
    }

    /// The error for a state file that is intact and still cannot be read.
    #[must_use]
    pub fn state_damaged(&self, operator: &str, file: &StateRef, detail: String) -> Error {
        Error::StateDamaged { task: self.log.task.clone(), operator: operator.to_owned(), path: self.log.layout.file(&file.path), detail }
    }
}
