//! What producing asks of a cluster. Each is one attempt; nothing is retried here.

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, InitProducerIdRequest, ProduceRequest, ProduceResponse,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use millrace_engine::connector::ConnectorError;

use super::super::wire::cluster::Coordinator;
use super::super::wire::cluster::{Access, Cluster};
use super::super::wire::connection::Connection;
use super::super::wire::error::Error;
use super::ANSWER_WITHIN;
use super::lane::ProducerIdentity;
use kafka_protocol::ResponseError as Code;

/// A cluster to write to.
#[async_trait]
pub(super) trait Brokers: Send + Sync + 'static {
    /// The leader of each partition of a topic, as the brokers say now.
    async fn leaders(&self, topic: &str) -> Result<Vec<Option<i32>>, Error>;

    /// A connection to one broker that nobody else uses.
    async fn connect(&self, broker: i32) -> Result<Box<dyn Link>, Error>;

    /// A new identity, outside of transactions.
    async fn identify(&self) -> Result<ProducerIdentity, Error>;

    /// Makes partitions part of a transaction.
    async fn enlist(&self, id: &str, request: &AddPartitionsToTxnRequest) -> Result<AddPartitionsToTxnResponse, Error>;

    /// Whether the Secrets are others than those that are used.
    fn has_other_secrets(&self) -> bool;
}

/// A connection to a broker.
pub(super) trait Link: Send {
    /// Whether it is worth trying.
    fn is_open(&self) -> bool;

    /// Sends a request now, behind those that were sent before. The answer need not be waited for.
    fn produce(&self, request: &ProduceRequest) -> Result<BoxFuture<'static, Result<ProduceResponse, Error>>, Error>;
}

/// A real cluster, as the Secrets were when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    access: Access,
    cluster: Cluster,
}

impl Reached {
    /// Opens no connection. Secrets are read now.
    pub(crate) fn new(access: &Access) -> Result<Self, ConnectorError> {
        Ok(Self { access: access.clone(), cluster: access.cluster()? })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Whether the Secrets are others than those that are used.
    pub(crate) fn has_other_secrets(&self) -> bool {
        self.access.has_changed(&self.cluster)
    }

    /// A new identity for `id`, which fences every earlier one of it. What it had open is completed before the brokers answer.
    pub(crate) async fn fence(&self, id: &str, timeout_seconds: u32) -> Result<ProducerIdentity, Error> {
        let millis = i32::try_from(u64::from(timeout_seconds) * 1000).unwrap_or(i32::MAX);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional(id)))
            .with_transaction_timeout_ms(millis)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let response = self.noted(id, self.coordinator(id).await?.call(&request).await)?;
        self.noted(id, Error::refused(response.error_code, ""))?;
        Ok(ProducerIdentity { id: response.producer_id.0, epoch: response.producer_epoch })
    }

    /// Commits or aborts the transaction of `id`.
    pub(crate) async fn end(&self, id: &str, who: ProducerIdentity, is_committed: bool) -> Result<(), Unended> {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional(id))
            .with_producer_id(who.id.into())
            .with_producer_epoch(who.epoch)
            .with_committed(is_committed);
        let connection = self.coordinator(id).await.map_err(Unended::NotDone)?;
        let mut answer = connection.send(&request).map_err(Unended::NotDone)?;
        let ended = answer.wait().await.and_then(|response| Error::refused(response.error_code, ""));
        let ended = self.noted(id, ended);
        ended.map_err(|error| if error.code().is_some() { Unended::NotDone(error) } else { Unended::Unknown(error) })
    }

    async fn coordinator(&self, id: &str) -> Result<Connection, Error> {
        let found = self.cluster.coordinator(Coordinator::Transaction, id).await;
        self.noted(id, found)
    }

    /// A coordinator that moved, or cannot be reached, is looked up anew the next time.
    fn noted<T>(&self, id: &str, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer
            && matches!(error.code(), None | Some(Code::NotCoordinator | Code::CoordinatorNotAvailable))
        {
            self.cluster.forget_coordinator(Coordinator::Transaction, id);
        }
        answer
    }
}

/// Why a transaction was not ended.
#[derive(Debug)]
pub(crate) enum Unended {
    /// It was never asked for, or a broker has answered that it is not done.
    NotDone(Error),
    /// It was asked for and not answered: it may be done, or be done later.
    Unknown(Error),
}

pub(super) fn transactional(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

#[async_trait]
impl Brokers for Reached {
    async fn leaders(&self, topic: &str) -> Result<Vec<Option<i32>>, Error> {
        let topic = self.cluster.topic_anew(topic, None).await?;
        let count = topic.partitions().last().map_or(0, |last| last + 1);
        Ok((0..count).map(|partition| topic.leader(partition).ok().map(|leader| leader.broker)).collect())
    }

    async fn connect(&self, broker: i32) -> Result<Box<dyn Link>, Error> {
        Ok(Box::new(self.cluster.dedicated(broker).await?))
    }

    async fn identify(&self) -> Result<ProducerIdentity, Error> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let response = self.cluster.ask(&request).await?;
        Error::refused(response.error_code, "")?;
        Ok(ProducerIdentity { id: response.producer_id.0, epoch: response.producer_epoch })
    }

    async fn enlist(&self, id: &str, request: &AddPartitionsToTxnRequest) -> Result<AddPartitionsToTxnResponse, Error> {
        let response = self.noted(id, self.coordinator(id).await?.call(request).await)?;
        self.noted(id, super::answers::enlisted(&response)).map(|()| response)
    }

    fn has_other_secrets(&self) -> bool {
        Reached::has_other_secrets(self)
    }
}

impl Link for Connection {
    fn is_open(&self) -> bool {
        Connection::is_open(self)
    }

    fn produce(&self, request: &ProduceRequest) -> Result<BoxFuture<'static, Result<ProduceResponse, Error>>, Error> {
        let mut answer = self.send_patiently(request, ANSWER_WITHIN)?;
        let connection = self.clone();
        let answered = async move {
            let response = answer.wait().await?;
            connection.hold(super::answers::throttled(&response).unwrap_or_default());
            Ok(response)
        };
        Ok(answered.boxed())
    }
}
