//! A cluster as we know it: brokers, leaders, topic ids, coordinators, and one connection to each broker that all share. It keeps what brokers said until an
//! error says that it is old, and decides nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use millrace_crds::connectors::kafka::KafkaAccess;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connection::Connection;
use super::error::Error;
use super::identity::Identity;
use super::requests::Request;
use super::stream::{Address, PATIENCE};
use crate::context::Context;

/// The shortest time that one of several brokers is given.
const SHARE: Duration = Duration::from_secs(3);
/// How often the leader of a partition is asked, and how long apart, while leaders move.
const LEADER_ATTEMPTS: u32 = 5;
const LEADER_PAUSE: Duration = Duration::from_millis(200);

/// Options and Secrets of one source or sink, and the cluster that they lead to, which its readers or writers share.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    options: KafkaAccess,
    context: Context,
    held: Arc<Mutex<Option<Cluster>>>,
}

impl Access {
    /// Opens no connection.
    pub(crate) fn new(options: &KafkaAccess, context: &Context) -> Self {
        Self { options: options.clone(), context: context.clone(), held: Arc::default() }
    }

    /// The cluster, with the Secrets as they are now: the same as before, as long as those are the same.
    ///
    /// # Errors
    /// A Secret is missing, or what it holds is no certificate.
    pub(crate) fn cluster(&self) -> Result<Cluster, ConnectorError> {
        let identity = Identity::read(&self.options, &self.context)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = held.as_ref().filter(|cluster| cluster.0.identity == identity) {
            return Ok(cluster.clone());
        }
        Ok(held.insert(Cluster::new(identity)?).clone())
    }

    /// Whether the Secrets hold something else now than what `cluster` was made with.
    pub(crate) fn has_changed(&self, cluster: &Cluster) -> bool {
        Identity::read(&self.options, &self.context).is_ok_and(|now| now != cluster.0.identity)
    }
}

/// A cluster. Cheap to clone; its connections end with its last clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

struct Shared {
    identity: Identity,
    tls: Option<TlsConnector>,
    seeds: Vec<Address>,
    known: Mutex<Known>,
    /// One slot for each broker; seeds have negative numbers. Who connects holds the slot, so that others wait for that connection.
    slots: Mutex<HashMap<i32, Arc<tokio::sync::Mutex<Option<Connection>>>>>,
    /// Held while topics are asked for, so that those who find out together that a leader has moved ask once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    brokers: HashMap<i32, Address>,
    topics: HashMap<String, Arc<Topic>>,
    coordinators: HashMap<(Coordinator, String), i32>,
}

/// A topic as last looked up.
#[derive(Debug)]
pub(crate) struct Topic(MetadataResponseTopic);

/// Who leads a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Leader {
    /// Number of the broker.
    pub(crate) broker: i32,
    /// How often the leadership has changed; -1 if the broker does not say.
    pub(crate) epoch: i32,
}

/// Whose coordinator.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Coordinator {
    /// Of a consumer group.
    Group,
    /// Of a transactional id.
    Transaction,
}

/// A place in a partition that brokers find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// The oldest record.
    Oldest,
    /// After the last record that is replicated.
    End,
}

/// The question for one topic.
fn about(name: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Cluster").field(&self.0.identity).finish()
    }
}

impl Topic {
    /// Its id, as Kafka's tools write it but for the alphabet; `None` before brokers of 2.8.
    pub(crate) fn id(&self) -> Option<String> {
        let bytes = self.0.topic_id.as_bytes();
        (*bytes != [0; 16]).then(|| STANDARD_NO_PAD.encode(bytes))
    }

    /// What the brokers say of it, for requests that name it by its id.
    pub(crate) fn metadata(&self) -> &MetadataResponseTopic {
        &self.0
    }

    /// Its partitions, in order.
    pub(crate) fn partitions(&self) -> Vec<i32> {
        let mut numbers: Vec<i32> = self.0.partitions.iter().map(|partition| partition.partition_index).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name.as_ref().map_or("", |name| name.0.as_str())
    }

    /// Who leads a partition.
    pub(crate) fn leader(&self, partition: i32) -> Result<Leader, Error> {
        let found = self.0.partitions.iter().find(|found| found.partition_index == partition);
        let topic = || self.name().to_owned();
        match found {
            None => Err(Error::NoPartition { topic: topic(), partition }),
            Some(found) if found.leader_id.0 < 0 => Err(Error::NoLeader { topic: topic(), partition }),
            Some(found) => Ok(Leader { broker: found.leader_id.0, epoch: found.leader_epoch }),
        }
    }
}

impl Cluster {
    /// Opens no connection.
    fn new(identity: Identity) -> Result<Self, ConnectorError> {
        let seeds: Option<Vec<Address>> = identity.bootstrap.split(',').map(Address::parse).collect();
        let seeds = seeds.ok_or_else(|| {
            let message = format!("bootstrapServers is \"{}\": it must be host:port, more of them separated by commas", identity.bootstrap);
            ConnectorError::new(ErrorReason::Invalid, message)
        })?;
        let tls = identity.tls.as_ref().map(super::identity::Tls::config).transpose()?.map(TlsConnector::from);
        let shared =
            Shared { identity, tls, seeds, known: Mutex::default(), slots: Mutex::default(), asking: tokio::sync::Mutex::default() };
        Ok(Self(Arc::new(shared)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, broker: i32) -> Arc<tokio::sync::Mutex<Option<Connection>>> {
        Arc::clone(self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(broker).or_default())
    }

    /// Where a broker listens, or a seed if the number is negative.
    fn address(&self, broker: i32) -> Result<Address, Error> {
        let seed = usize::try_from(-1 - i64::from(broker)).ok().and_then(|seed| self.0.seeds.get(seed).cloned());
        seed.or_else(|| self.known().brokers.get(&broker).cloned()).ok_or(Error::NoBroker { id: broker })
    }

    /// The connection to a broker that all share.
    pub(crate) async fn broker(&self, broker: i32) -> Result<Connection, Error> {
        let slot = self.slot(broker);
        let mut held = slot.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        // One to another address, where the broker was before, is let go here as well.
        *held = None;
        Ok(held.insert(self.dedicated(broker).await?).clone())
    }

    /// A new connection to a broker, for long polls.
    pub(crate) async fn dedicated(&self, broker: i32) -> Result<Connection, Error> {
        let address = self.address(broker)?;
        Connection::open(&address, self.0.tls.as_ref(), self.0.identity.login.as_ref()).await
    }

    fn is_connected(&self, broker: i32) -> bool {
        let slot = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).get(&broker).cloned();
        slot.is_some_and(|slot| slot.try_lock().is_ok_and(|held| held.as_ref().is_some_and(Connection::is_open)))
    }

    /// Asks any broker: one that we are connected to first, then those that were there last time, then those that users have named.
    pub(crate) async fn ask<R: Request>(&self, request: &R) -> Result<R::Response, Error> {
        let mut candidates: Vec<(i32, Address)> = self.known().brokers.iter().map(|(id, address)| (*id, address.clone())).collect();
        candidates.sort_by_cached_key(|(id, _)| (!self.is_connected(*id), rand::random::<u32>()));
        for (seed, address) in (0_i32..).zip(&self.0.seeds) {
            if candidates.iter().all(|(_, known)| known != address) {
                candidates.push((-1 - seed, address.clone()));
            }
        }
        let share = (PATIENCE / u32::try_from(candidates.len()).unwrap_or(1).max(1)).max(SHARE);
        let mut failed: Option<Error> = None;
        for (broker, address) in candidates {
            let asking = async {
                let seconds = share.as_secs();
                let late = |_elapsed| Err(Error::Unreachable { address, why: format!("not connected within {seconds} s") });
                let connection = timeout(share, self.broker(broker)).await.unwrap_or_else(late)?;
                // A connection that gives no answer in time is not used again.
                connection.send_patiently(request, share)?.wait().await
            };
            match asking.await {
                Ok(response) => return Ok(response),
                // A refused login says more than a broker that is down.
                Err(error) if failed.as_ref().is_none_or(|known| known.reason() != ErrorReason::AccessDenied) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or(Error::NoBroker { id: -1 }))
    }

    /// A topic, as known.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        match self.known_topic(name) {
            Some(topic) => Ok(topic),
            None => self.topic_anew(name, None).await,
        }
    }

    /// What is known of a topic, old or not.
    pub(crate) fn known_topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.known().topics.get(name).cloned()
    }

    /// A topic, asked for now, unless somebody has since `stale`.
    pub(crate) async fn topic_anew(&self, name: &str, stale: Option<&Arc<Topic>>) -> Result<Arc<Topic>, Error> {
        let _turn = self.0.asking.lock().await;
        if let (Some(known), Some(stale)) = (self.known_topic(name), stale)
            && !Arc::ptr_eq(&known, stale)
        {
            return Ok(known);
        }
        let response = self.ask(&about(name)).await?;
        self.learn(&response);
        let topic = response.topics.into_iter().find(|topic| topic.name.as_ref().is_some_and(|found| found.0.as_str() == name));
        let mut known = self.known();
        known.topics.remove(name);
        let topic = topic.ok_or_else(|| Error::NoTopic { topic: name.to_owned() })?;
        match Error::refused(topic.error_code, format!("topic {name}")) {
            Err(error) if error.reason() == ErrorReason::NotFound => return Err(Error::NoTopic { topic: name.to_owned() }),
            refused => refused?,
        }
        let topic = Arc::new(Topic(topic));
        known.topics.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Whether any broker says that a topic has this id. Each is asked for itself: one that has slept, or is behind, says what was so before.
    pub(crate) async fn has_id(&self, name: &str, id: &str) -> bool {
        let brokers: Vec<i32> = self.known().brokers.keys().copied().collect();
        let request = about(name);
        let asking = brokers.into_iter().map(async |broker| {
            let response = timeout(SHARE, async { self.broker(broker).await?.send_patiently(&request, SHARE)?.wait().await }).await;
            let topics = response.ok().and_then(Result::ok).map(|response| response.topics).unwrap_or_default();
            topics.into_iter().any(|topic| Topic(topic).id().as_deref() == Some(id))
        });
        futures::future::join_all(asking).await.contains(&true)
    }

    /// Takes in which brokers there are.
    fn learn(&self, response: &MetadataResponse) {
        let brokers = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.node_id.0, Address { host: broker.host.as_str().to_owned(), port }))
        });
        let brokers: HashMap<i32, Address> = brokers.collect();
        if brokers.is_empty() {
            return;
        }
        let mut known = self.known();
        // Slots of brokers that are gone, or that listen elsewhere now: their connections end when nobody waits for an answer any more.
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots
            .retain(|id, _| *id < 0 || brokers.get(id).is_some_and(|address| known.brokers.get(id).is_none_or(|before| before == address)));
        known.brokers = brokers;
    }

    /// The connection to a coordinator, and its number.
    pub(crate) async fn coordinator(&self, kind: Coordinator, key: &str) -> Result<Connection, Error> {
        let known = self.known().coordinators.get(&(kind, key.to_owned())).copied();
        if let Some(broker) = known {
            return self.broker(broker).await;
        }
        let key_type = match kind {
            Coordinator::Group => 0,
            Coordinator::Transaction => 1,
        };
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(key.to_owned())).with_key_type(key_type);
        let response = self.ask(&request).await?;
        let said = response.error_message.as_ref().map_or("", |said| said.as_str());
        Error::refused(response.error_code, said)?;
        let port = u16::try_from(response.port).unwrap_or(0);
        {
            let mut known = self.known();
            // It may listen elsewhere than when all brokers were last asked for: a connection to where it was is let go.
            let address = Address { host: response.host.as_str().to_owned(), port };
            if known.brokers.insert(response.node_id.0, address.clone()).is_some_and(|before| before != address) {
                self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&response.node_id.0);
            }
            known.coordinators.insert((kind, key.to_owned()), response.node_id.0);
        }
        self.broker(response.node_id.0).await
    }

    /// The coordinator is not where it was.
    pub(crate) fn forget_coordinator(&self, kind: Coordinator, key: &str) {
        self.known().coordinators.remove(&(kind, key.to_owned()));
    }

    /// The offset of a place in a partition. Leaders that move are followed a little.
    pub(crate) async fn offset(&self, topic: &str, partition: i32, place: Place) -> Result<i64, Error> {
        let mut known = self.topic(topic).await?;
        let mut attempt = 1;
        loop {
            match self.offset_of(&known, partition, place).await {
                Err(error) if error.is_stale() && attempt < LEADER_ATTEMPTS => {
                    tokio::time::sleep(LEADER_PAUSE * attempt).await;
                    attempt += 1;
                    known = self.topic_anew(topic, Some(&known)).await?;
                }
                other => return other,
            }
        }
    }

    async fn offset_of(&self, topic: &Topic, partition: i32, place: Place) -> Result<i64, Error> {
        let leader = topic.leader(partition)?;
        let timestamp = match place {
            Place::Oldest => -2,
            Place::End => -1,
        };
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(leader.epoch)
            .with_timestamp(timestamp);
        let name = TopicName(StrBytes::from_string(topic.name().to_owned()));
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![ListOffsetsTopic::default().with_name(name).with_partitions(vec![asked])]);
        let response = self.broker(leader.broker).await?.call(&request).await?;
        let found = response.topics.into_iter().flat_map(|topic| topic.partitions).find(|found| found.partition_index == partition);
        let found = found.ok_or_else(|| Error::NoPartition { topic: topic.name().to_owned(), partition })?;
        Error::refused(found.error_code, "")?;
        Ok(found.offset)
    }

    /// Makes a topic, unless it is there by now; it may be that not all brokers know it at once.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32, options: &[(&str, &str)]) -> Result<(), Error> {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let configs =
            options.iter().map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            // What the brokers say by default.
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(PATIENCE.as_millis() as i32);
        // Any broker hands it on to the controller, but before 4.0 and with ZooKeeper: so the one that brokers name is asked.
        let metadata = self.ask(&MetadataRequest::default().with_topics(Some(Vec::new()))).await?;
        self.learn(&metadata);
        let response = self.broker(metadata.controller_id.0).await?.call(&request).await?;
        let Some(made) = response.topics.into_iter().next() else { return Err(Error::NoTopic { topic: name.to_owned() }) };
        match Error::refused(made.error_code, made.error_message.as_ref().map_or("", |said| said.as_str())) {
            Err(error) if error.code() == Some(Code::TopicAlreadyExists) => Ok(()),
            made => made,
        }
    }

    /// The oldest offset and the end of a partition.
    pub(crate) async fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
        Ok((self.offset(topic, partition, Place::Oldest).await?, self.offset(topic, partition, Place::End).await?))
    }
}
