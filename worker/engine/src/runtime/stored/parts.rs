//! State in buckets, as it is stored: files for each bucket that has changed, and those of the last epoch for the others. It decides nothing about which have.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use millrace_crds::report::ErrorReason;

use super::encode;
use crate::checkpoint::{Owner, StateRef, operator_of, part_key};
use crate::connector::ConnectorError;
use crate::runtime::buckets::{Broken, Piece, TakenBucket, has_rows};
use crate::runtime::closing::state_failure;
use crate::runtime::driver::Failure;
use crate::runtime::observed::Part;
use crate::runtime::processing::broken;

/// Buckets that are encoded and stored, or read, at the same time.
pub(super) const AT_ONCE: usize = 4;

/// Files of an epoch, by key.
type Files = BTreeMap<String, Vec<StateRef>>;

/// What the last epoch has of each bucket.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Parts(BTreeMap<u16, Files>);

impl Parts {
    /// The last epoch has `files` of a bucket under `key`.
    pub(super) fn restored(&mut self, bucket: u16, key: &str, files: &[StateRef]) {
        self.0.entry(bucket).or_default().insert(key.to_owned(), files.to_vec());
    }

    /// Forgets what the last epoch has of a bucket.
    pub(super) fn forget(&mut self, bucket: u16) {
        self.0.remove(&bucket);
    }

    /// Stores what has changed; returns all files of the epoch.
    pub(in crate::runtime) async fn store(&mut self, owner: &Owner, taken: Vec<TakenBucket>) -> Result<Files, Failure> {
        let mut parts = BTreeMap::new();
        let mut changed = Vec::new();
        for TakenBucket { number, pieces, .. } in taken {
            match pieces {
                Some(pieces) => changed.push((number, pieces)),
                None => drop(self.0.remove(&number).and_then(|files| parts.insert(number, files))),
            }
        }
        let stored = futures::stream::iter(changed).map(|(number, pieces)| async move {
            let mut files = Files::new();
            for (operator, piece) in pieces {
                let number_of = files.keys().filter(|key| operator_of(key).0 == &*operator).count();
                let Some((signature, bytes)) = bytes_of(Arc::clone(&operator), piece).await? else { continue };
                let key = part_key(&operator, number, number_of);
                let file = owner.write_state(&key, &signature, bytes.into()).await.map_err(state_failure)?;
                files.insert(key, vec![file]);
            }
            Ok::<_, Failure>((number, files))
        });
        let stored: Vec<(u16, Files)> = stored.buffer_unordered(AT_ONCE).try_collect().await?;
        parts.extend(stored);
        self.0 = parts;
        Ok(self.0.values().flatten().map(|(key, files)| (key.clone(), files.clone())).collect())
    }
}

/// The signature and the file of a piece; `None` if there is nothing in it.
async fn bytes_of(operator: Arc<str>, piece: Piece) -> Result<Option<(String, Vec<u8>)>, Failure> {
    let encoded = move || match piece {
        Piece::Tiered(signature, file) => Ok(Some((signature, file.get()?))),
        Piece::Taken(state) => {
            let state = state.finish()?;
            if !has_rows(&state.tables) {
                return Ok(None);
            }
            let bytes = encode(&operator, &state).map_err(|error| crate::runtime::tier::Error::Encode(error.to_string()))?;
            Ok(Some((state.signature, bytes.into())))
        }
    };
    let panicked =
        |panic| Failure::new(Part::Task, ConnectorError::new(ErrorReason::Internal, format!("encoding state panicked: {panic}")));
    tokio::task::spawn_blocking(encoded).await.map_err(panicked)?.map_err(|error: Broken| broken(&error))
}
