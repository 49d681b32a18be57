//! Tells a consumer group how far a partition has been read, for other tools to see. Nothing depends on it: what fails is logged, and nothing waits.

use std::time::Duration;

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::position::Partition;
use super::wire::cluster::{Access, Coordinator};
use super::wire::error::Error;

/// How often one offset is tried, and how long apart: the topic of groups may have to be made first.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);
/// How long the last offset may take when the reader is closed.
const ENDING: Duration = Duration::from_secs(3);

/// Commits the latest offset that it was given, one at a time.
pub(crate) struct Commits {
    latest: watch::Sender<Option<i64>>,
    task: AbortOnDropHandle<()>,
}

impl Commits {
    #[expect(clippy::disallowed_methods, reason = "the handle aborts on drop")]
    pub(crate) fn start(access: Access, partition: Partition, group: String) -> Self {
        let (latest, offsets) = watch::channel(None);
        Self { latest, task: AbortOnDropHandle::new(tokio::spawn(commit_all(access, partition, group, offsets))) }
    }

    /// Everything before `offset` has been read, for good.
    pub(crate) fn set(&self, offset: i64) {
        self.latest.send_replace(Some(offset));
    }

    /// Waits a little for the last one.
    pub(crate) async fn close(self) {
        drop(self.latest);
        if timeout(ENDING, self.task).await.is_err() {
            tracing::debug!("the last offset for other tools to see takes too long");
        }
    }
}

async fn commit_all(access: Access, partition: Partition, group: String, mut offsets: watch::Receiver<Option<i64>>) {
    while offsets.changed().await.is_ok() {
        let Some(offset) = *offsets.borrow_and_update() else { continue };
        let mut attempt = 1;
        let failed = loop {
            let cluster = match access.cluster() {
                Ok(cluster) => cluster,
                Err(error) => break Some(error.message),
            };
            let coordinator = Coordinator::Group;
            let committing = async {
                let request = request(&group, &partition, offset);
                let response = cluster.coordinator(coordinator, &group).await?.call(&request).await?;
                response.topics.iter().flat_map(|topic| &topic.partitions).try_for_each(|found| Error::refused(found.error_code, ""))
            };
            let Err(error) = committing.await else { break None };
            let moved = matches!(
                error.code(),
                Some(
                    Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress | Code::UnknownTopicOrPartition
                )
            );
            if !(moved || error.is_stale()) || attempt == ATTEMPTS {
                break Some(error.to_string());
            }
            cluster.forget_coordinator(coordinator, &group);
            tokio::time::sleep(PAUSE * attempt).await;
            attempt += 1;
        };
        if let Some(error) = failed {
            tracing::warn!(error, %partition, group, offset, "the offset for other tools to see was not committed");
        }
    }
}

/// By no member of the group: it only keeps the offset.
fn request(group: &str, partition: &Partition, offset: i64) -> OffsetCommitRequest {
    let committed = OffsetCommitRequestPartition::default()
        .with_partition_index(partition.number)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(StrBytes::new()));
    let name = TopicName(StrBytes::from_string(partition.topic.clone()));
    OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(name).with_partitions(vec![committed])])
}
