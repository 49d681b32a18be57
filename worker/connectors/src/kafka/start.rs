//! Where `startFrom: Latest` was: the ends of a topic's partitions when the input was first looked at, kept for every later reader.
//!
//! Without this, a worker that dies before its first epoch would start at a later "latest" and skip what came between, and a
//! partition that is added later could not be told from one that has not been read yet. Nothing here is ever overwritten.

use std::collections::BTreeMap;

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::Shared;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

use super::wire::cluster::{Cluster, Place};
use super::wire::error::Error;

/// What is kept for one topic.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    /// The end of each partition.
    ends: BTreeMap<i32, i64>,
}

/// The ends of `topic` when it was first looked at; now, if that is now. A partition that is not in it was added later.
pub(super) async fn latest(shared: &Shared, topic: &str, cluster: &Cluster) -> Result<BTreeMap<i32, i64>, ConnectorError> {
    let path = shared.folder.clone().join("kafka-start").join(format!("{topic}.json"));
    if let Some(kept) = read(shared, &path).await? {
        return Ok(kept.ends);
    }
    let failed = |error: Error| error.of(&format!("looking for the end of topic {topic}"));
    let mut ends = BTreeMap::new();
    for partition in cluster.topic_anew(topic, None).await.map_err(failed)?.partitions() {
        ends.insert(partition, cluster.offset(topic, partition, Place::End).await.map_err(failed)?);
    }
    let kept = Kept { ends };
    let bytes = serde_json::to_vec(&kept)
        .map_err(|error| ConnectorError::new(ErrorReason::Internal, "offsets cannot be written as JSON").caused_by(error))?;
    let create = PutOptions::from(PutMode::Create);
    match shared.store.put_opts(&path, PutPayload::from(bytes), create).await {
        Ok(_) => Ok(kept.ends),
        // Somebody else looked first: theirs counts.
        Err(object_store::Error::AlreadyExists { .. }) => match read(shared, &path).await? {
            Some(kept) => Ok(kept.ends),
            None => Err(ConnectorError::new(ErrorReason::ServerError, format!("{path} exists and cannot be read"))),
        },
        Err(error) => Err(store_error(&path, error)),
    }
}

async fn read(shared: &Shared, path: &object_store::path::Path) -> Result<Option<Kept>, ConnectorError> {
    let bytes = match shared.store.get(path).await {
        Ok(found) => found.bytes().await.map_err(|error| store_error(path, error))?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(store_error(path, error)),
    };
    let kept = serde_json::from_slice(&bytes).map_err(|error| {
        ConnectorError::new(ErrorReason::Corrupt, format!("{path} in the checkpoint store is damaged")).caused_by(error)
    })?;
    Ok(Some(kept))
}

fn store_error(path: &object_store::path::Path, error: object_store::Error) -> ConnectorError {
    let reason = match &error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => ErrorReason::AccessDenied,
        _ => ErrorReason::Unreachable,
    };
    ConnectorError::new(reason, format!("the checkpoint store does not give {path}")).caused_by(error)
}
