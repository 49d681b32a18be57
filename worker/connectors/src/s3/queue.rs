//! A queue of announcements: SQS behind a trait that tests can stand in for. Each call is one attempt; nothing here retries.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry as HideEntry, DeleteMessageBatchRequestEntry as DeleteEntry,
    MessageSystemAttributeName, QueueAttributeName,
};
use millrace_crds::connectors::aws::AwsAccess;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use tokio::sync::OnceCell;

use crate::aws::{sdk_error, sqs_client};
use crate::context::Context;

/// Messages of one request at most: SQS's limit.
pub(super) const BATCH: usize = 10;

/// A message that was received.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The same each time it is delivered.
    pub(super) id: String,
    /// Of this delivery: what it is hidden and deleted by.
    pub(super) receipt: String,
    /// Text.
    pub(super) body: String,
    /// When it was sent, milliseconds since 1970.
    pub(super) sent: Option<i64>,
}

/// How many messages there are, about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Depth {
    /// Waiting to be received.
    pub(super) waiting: u64,
    /// Received by somebody and not deleted.
    pub(super) hidden: u64,
}

/// A queue.
#[async_trait]
pub(super) trait Queue: fmt::Debug + Send + Sync {
    /// Up to `max` messages, hidden for `hidden` from then on; waits for `wait` if there are none.
    async fn receive(&self, max: usize, hidden: Duration, wait: Duration) -> Result<Vec<Message>, ConnectorError>;

    /// Hides messages for `hidden` from now on, or shows them. Receipts that are no longer good are passed over.
    async fn hide(&self, receipts: &[String], hidden: Duration) -> Result<(), ConnectorError>;

    /// Deletes messages. Returns the receipts that should be tried again; those that are no longer good are passed over: their
    /// messages come again and are found done.
    async fn delete(&self, receipts: &[String]) -> Result<Vec<String>, ConnectorError>;

    /// How many messages there are.
    async fn depth(&self) -> Result<Depth, ConnectorError>;
}

/// A queue of SQS.
#[derive(Debug)]
pub(super) struct Sqs {
    url: String,
    access: AwsAccess,
    context: Context,
    client: OnceCell<Client>,
}

impl Sqs {
    pub(super) fn new(url: &str, access: &AwsAccess, context: &Context) -> Self {
        Self { url: url.to_owned(), access: access.clone(), context: context.clone(), client: OnceCell::new() }
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| sqs_client(&self.url, &self.access, &self.context)).await
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} queue {}", self.url)
    }
}

#[async_trait]
impl Queue for Sqs {
    async fn receive(&self, max: usize, hidden: Duration, wait: Duration) -> Result<Vec<Message>, ConnectorError> {
        let request = self
            .client()
            .await
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(max.clamp(1, BATCH)).unwrap_or(1))
            .visibility_timeout(seconds(hidden))
            .wait_time_seconds(seconds(wait))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        let answer = request.send().await.map_err(|error| sdk_error(&self.doing("receive from"), error))?;
        let messages = answer.messages.unwrap_or_default().into_iter().filter_map(|message| {
            let sent = message.attributes.as_ref().and_then(|all| all.get(&MessageSystemAttributeName::SentTimestamp));
            Some(Message {
                sent: sent.and_then(|sent| sent.parse().ok()),
                id: message.message_id?,
                receipt: message.receipt_handle?,
                body: message.body.unwrap_or_default(),
            })
        });
        Ok(messages.collect())
    }

    async fn hide(&self, receipts: &[String], hidden: Duration) -> Result<(), ConnectorError> {
        for batch in receipts.chunks(BATCH) {
            let entries = entries(batch, |id, receipt| {
                HideEntry::builder().id(id).receipt_handle(receipt).visibility_timeout(seconds(hidden)).build()
            })?;
            let request = self.client().await.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
            let answer = request.send().await.map_err(|error| sdk_error(&self.doing("hide messages of"), error))?;
            for failed in answer.failed() {
                // Hidden for as long as SQS allows (12 hours), or delivered again meanwhile: it comes again.
                tracing::debug!(code = failed.code(), "the visibility of a message could not be changed");
            }
        }
        Ok(())
    }

    async fn delete(&self, receipts: &[String]) -> Result<Vec<String>, ConnectorError> {
        let mut again = Vec::new();
        for batch in receipts.chunks(BATCH) {
            let entries = entries(batch, |id, receipt| DeleteEntry::builder().id(id).receipt_handle(receipt).build())?;
            let request = self.client().await.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
            let answer = request.send().await.map_err(|error| sdk_error(&self.doing("delete messages of"), error))?;
            again.extend(to_retry(answer.failed(), batch));
        }
        Ok(again)
    }

    async fn depth(&self) -> Result<Depth, ConnectorError> {
        let request = self
            .client()
            .await
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
        let answer = request.send().await.map_err(|error| sdk_error(&self.doing("look at"), error))?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = |name| attributes.get(&name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Depth {
            waiting: count(QueueAttributeName::ApproximateNumberOfMessages),
            hidden: count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
        })
    }
}

/// Entries of a batch request; the id of each is its index.
fn entries<T, E: std::error::Error + Send + Sync + 'static>(
    receipts: &[String],
    build: impl Fn(String, &str) -> Result<T, E>,
) -> Result<Vec<T>, ConnectorError> {
    let built = receipts.iter().enumerate().map(|(index, receipt)| build(index.to_string(), receipt));
    built
        .collect::<Result<_, _>>()
        .map_err(|error| ConnectorError::new(ErrorReason::Internal, "cannot build a batch request").caused_by(error))
}

/// The receipts whose entries failed through no fault of ours.
fn to_retry(failed: &[BatchResultErrorEntry], batch: &[String]) -> Vec<String> {
    let retriable = failed.iter().filter(|entry| !entry.sender_fault());
    retriable.filter_map(|entry| batch.get(entry.id().parse::<usize>().ok()?).cloned()).collect()
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_failed_to_do_is_tried_again() {
        let failed = |id: &str, ours| BatchResultErrorEntry::builder().id(id).sender_fault(ours).code("x").build().unwrap();
        let batch = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(to_retry(&[failed("0", true), failed("2", false)], &batch), ["c"]);
    }
}
