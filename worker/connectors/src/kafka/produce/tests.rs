//! What is sent in which order, whatever brokers answer: by a model of a broker, and by a peer that plays through what matters.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ProduceRequest, ProduceResponse};
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Origin;
use millrace_engine::connector::Health;
use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::records::{self, NewRecord, SealedBatch};
use super::super::wire::error::Error;
use super::super::wire::stream::Address;
use super::brokers::{Brokers, Link};
use super::lane::{Lane, Outcome};
use super::parcel::{Open, Parcel};
use super::{BATCH_BYTES, Producer, ProducerIdentity, Start, Target, Transacting};

const WHO: ProducerIdentity = ProducerIdentity { id: 7, epoch: 2 };

/// Records whose value is their ordinal and as many bytes more as they are large.
fn parcel(records: impl IntoIterator<Item = (u64, usize)>) -> Parcel {
    let mut open = Open::new(0);
    let origin = Origin::new("o", "o");
    for (ordinal, size) in records {
        let value = format!("{ordinal:08}{}", "x".repeat(size));
        open.append(&NewRecord { timestamp: 1, key: None, value: Some(value.as_bytes()), header: None }, ordinal / 3, &origin, ordinal);
    }
    open.seal(Instant::now())
}

/// Sequence and ordinals of a batch.
fn content(bytes: &bytes::Bytes) -> (i32, Vec<u64>) {
    let batch = records::batches(bytes.clone()).next().unwrap().unwrap().open(usize::MAX).unwrap();
    let header = *batch.header();
    assert_eq!((header.producer_id, header.producer_epoch), (WHO.id, WHO.epoch));
    let ordinal = |value: Option<&[u8]>| std::str::from_utf8(&value.unwrap()[..8]).unwrap().parse().unwrap();
    (header.base_sequence, batch.records().map(|record| ordinal(record.unwrap().value)).collect())
}

fn send(lane: &mut Lane, ready: &mut VecDeque<Parcel>) -> Option<(u64, i32, Vec<u64>)> {
    let (number, batch) = lane.send(WHO, false, || ready.pop_front())?;
    let (sequence, ordinals) = content(batch.bytes());
    Some((number, sequence, ordinals))
}

#[tokio::test]
async fn the_first_goes_alone_then_five_and_what_comes_back_keeps_its_number() {
    let mut lane = Lane::default();
    let mut ready: VecDeque<Parcel> = (0..8).map(|nth| parcel([(2 * nth, 0), (2 * nth + 1, 0)])).collect();
    let (first, sequence, _) = send(&mut lane, &mut ready).unwrap();
    assert_eq!(sequence, 0);
    assert!(send(&mut lane, &mut ready).is_none(), "the partition does not know the producer yet");
    assert_eq!(lane.answered(first, Outcome::Written(40)).unwrap().offset, Some(40));
    let sent: Vec<_> = std::iter::from_fn(|| send(&mut lane, &mut ready)).collect();
    assert_eq!(sent.iter().map(|(_, sequence, _)| *sequence).collect::<Vec<_>>(), [2, 4, 6, 8, 10]);

    // The second is lost with its answer; the broker misses it before the third; the others are lost.
    lane.answered(sent[0].0, Outcome::Written(42)).unwrap();
    lane.answered(sent[1].0, Outcome::Again).unwrap();
    lane.answered(sent[2].0, Outcome::OutOfOrder).unwrap();
    assert!(!lane.can_send(true, true), "others are still on their way");
    lane.answered(sent[3].0, Outcome::Again).unwrap();
    lane.answered(sent[4].0, Outcome::Again).unwrap();
    assert!(!lane.can_send(true, false) && lane.can_send(true, true));
    for (sequence, ordinals) in [(4, [4, 5]), (6, [6, 7]), (8, [8, 9]), (10, [10, 11])] {
        let (number, found, found_ordinals) = send(&mut lane, &mut ready).unwrap();
        assert_eq!((found, found_ordinals.as_slice()), (sequence, &ordinals[..]));
        assert!(sequence == 10 || send(&mut lane, &mut ready).is_none(), "one after the other");
        lane.answered(number, Outcome::Written(-1)).unwrap();
    }
    assert_eq!(send(&mut lane, &mut ready).unwrap().1, 12);
}

#[tokio::test]
async fn a_refused_batch_is_split_in_place_and_one_that_cannot_be_is_dropped() {
    let mut lane = Lane::default();
    let mut ready: VecDeque<Parcel> = [parcel([(0, 0)]), parcel([(1, 100), (2, 0), (3, 0)]), parcel([(4, 0)])].into();
    let (first, ..) = send(&mut lane, &mut ready).unwrap();
    lane.answered(first, Outcome::Written(0)).unwrap();
    let (large, ..) = send(&mut lane, &mut ready).unwrap();
    let (behind, ..) = send(&mut lane, &mut ready).unwrap();
    let refused = Outcome::Refused(Code::MessageTooLarge);
    lane.answered(large, refused).unwrap();
    assert!(send(&mut lane, &mut ready).is_none());
    lane.answered(behind, Outcome::OutOfOrder).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| send(&mut lane, &mut ready)).collect();
    let content: Vec<_> = sent.iter().map(|(_, sequence, ordinals)| (*sequence, ordinals.clone())).collect();
    assert_eq!(content, [(1, vec![1]), (2, vec![2, 3]), (4, vec![4])]);
    // The single one is still too large: those behind it move up.
    let settled = lane.answered(sent[0].0, refused).unwrap();
    assert!(settled.refused.is_empty() && settled.weight == 0, "not before the others are back");
    lane.answered(sent[1].0, Outcome::OutOfOrder).unwrap();
    let settled = lane.answered(sent[2].0, Outcome::OutOfOrder).unwrap();
    let gone = &settled.refused[0];
    assert_eq!((gone.ordinal, gone.code, gone.attempts, settled.refused.len()), (1, Code::MessageTooLarge, 2, 1));
    assert!(gone.value.as_ref().is_some_and(|value| value.starts_with(b"00000001x")));
    let again: Vec<_> = std::iter::from_fn(|| send(&mut lane, &mut ready)).map(|(_, sequence, ordinals)| (sequence, ordinals)).collect();
    assert_eq!(again, [(1, vec![2, 3]), (3, vec![4])]);
}

#[tokio::test]
async fn a_broker_that_contradicts_itself_is_not_believed() {
    let sent = |count: u64| {
        let mut lane = Lane::default();
        let mut ready: VecDeque<Parcel> = (0..=count).map(|nth| parcel([(nth, 0)])).collect();
        let (first, ..) = send(&mut lane, &mut ready).unwrap();
        lane.answered(first, Outcome::Written(0)).unwrap();
        let numbers: Vec<_> = std::iter::from_fn(|| send(&mut lane, &mut ready)).map(|(number, ..)| number).collect();
        (lane, numbers)
    };
    let (mut lane, numbers) = sent(2);
    lane.answered(numbers[0], Outcome::OutOfOrder).unwrap_err();

    let (mut lane, numbers) = sent(2);
    lane.answered(numbers[0], Outcome::Refused(Code::InvalidRecord)).unwrap();
    lane.answered(numbers[1], Outcome::Written(2)).unwrap_err();

    // One behind the dropped may be written under its number; under another it could be taken for a third.
    let (mut lane, numbers) = sent(2);
    lane.answered(numbers[0], Outcome::Refused(Code::InvalidRecord)).unwrap();
    lane.answered(numbers[1], Outcome::Again).unwrap_err();

    // One that may be written, and is refused now.
    let (mut lane, numbers) = sent(1);
    lane.answered(numbers[0], Outcome::Again).unwrap();
    let (again, ..) = send(&mut lane, &mut VecDeque::new()).unwrap();
    lane.answered(again, Outcome::Refused(Code::MessageTooLarge)).unwrap_err();
}

/// A partition as brokers keep it: it takes what follows, and knows the last five again.
#[derive(Default)]
struct Partition {
    last: Option<i32>,
    recent: VecDeque<(i32, i32)>,
    log: Vec<u64>,
}

impl Partition {
    fn take(&mut self, batch: &bytes::Bytes, most: usize) -> Outcome {
        let (sequence, ordinals) = content(batch);
        let end = sequence + ordinals.len() as i32 - 1;
        if self.recent.contains(&(sequence, end)) {
            return Outcome::Written(-1);
        }
        if batch.len() > most {
            return Outcome::Refused(Code::MessageTooLarge);
        }
        if self.last.is_some_and(|last| last + 1 != sequence) {
            return Outcome::OutOfOrder;
        }
        self.last = Some(end);
        self.recent.push_back((sequence, end));
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        self.log.extend(ordinals);
        Outcome::Written(0)
    }
}

proptest! {
    #[test]
    fn whatever_gets_lost_each_record_is_written_once_and_in_order_or_there_is_a_doubt(
        sizes in prop::collection::vec(0..60_usize, 1..60),
        cuts in prop::collection::vec(1..5_usize, 60),
        luck in prop::collection::vec(0..20_u8, 400),
    ) {
        let most_alone = parcel([(0, 40)]).batch.bytes().len();
        let records: Vec<(u64, usize)> = sizes.iter().enumerate().map(|(nth, size)| (nth as u64, *size)).collect();
        let mut ready = VecDeque::new();
        let mut rest = &records[..];
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            if !now.is_empty() {
                ready.push_back(parcel(now.iter().copied()));
            }
            rest = later;
        }
        let weight: usize = ready.iter().map(|parcel: &Parcel| parcel.weight).sum();
        let (mut lane, mut partition) = (Lane::default(), Partition::default());
        let mut aloft: VecDeque<(u64, SealedBatch)> = VecDeque::new();
        let (mut settled, mut refused, mut doubt) = (0, Vec::new(), false);
        // After so much bad luck all goes well.
        for luck in luck.into_iter().chain(std::iter::repeat_n(0, 4000)) {
            while let Some(sent) = lane.send(WHO, false, || ready.pop_front()) {
                aloft.push_back(sent);
            }
            prop_assert!(aloft.len() <= 5);
            let Some((number, batch)) = aloft.pop_front() else { break };
            let mut answers = Vec::new();
            match luck {
                // The connection is lost, before or after the first was written.
                1 => {
                    answers.push((number, Outcome::Again));
                    answers.extend(aloft.drain(..).map(|(number, _)| (number, Outcome::Again)));
                }
                2 => {
                    partition.take(batch.bytes(), most_alone);
                    answers.push((number, Outcome::Again));
                    answers.extend(aloft.drain(..).map(|(number, _)| (number, Outcome::Again)));
                }
                // The followers are slow: it is written, and the leader says that it does not know.
                3 => {
                    partition.take(batch.bytes(), most_alone);
                    answers.push((number, Outcome::Again));
                }
                4 => answers.push((number, Outcome::Unsent)),
                _ => answers.push((number, partition.take(batch.bytes(), most_alone))),
            }
            for (number, outcome) in answers {
                match lane.answered(number, outcome) {
                    Ok(found) => {
                        settled += found.weight;
                        refused.extend(found.refused.into_iter().map(|refused| refused.ordinal));
                    }
                    Err(_) => doubt = true,
                }
            }
            if doubt {
                break;
            }
        }
        prop_assert!(partition.log.is_sorted_by(|one, next| one < next), "{:?}", partition.log);
        if !doubt {
            let is_large = |(ordinal, size): &(u64, usize)| parcel([(*ordinal, *size)]).batch.bytes().len() > most_alone;
            let (large, small): (Vec<_>, Vec<_>) = records.iter().partition(|record| is_large(record));
            prop_assert_eq!(&partition.log, &small.iter().map(|(ordinal, _)| *ordinal).collect::<Vec<_>>());
            prop_assert_eq!(refused, large.iter().map(|(ordinal, _)| *ordinal).collect::<Vec<_>>());
            prop_assert_eq!(settled, weight);
        }
    }
}

type Reply = oneshot::Sender<Result<ProduceResponse, Error>>;

/// A broker that cannot be reached.
const DEAD: i32 = 13;

/// A cluster whose answers the test gives.
struct Peer {
    /// How often the dead broker was tried.
    tries: Arc<Mutex<u32>>,
    leaders: Arc<Mutex<Vec<Option<i32>>>>,
    requests: mpsc::UnboundedReceiver<(i32, ProduceRequest, Reply)>,
    enlistments: Arc<Mutex<Vec<AddPartitionsToTxnRequest>>>,
    has_other_secrets: Arc<Mutex<bool>>,
    /// Connections that were opened, and how many of the first of them are not to be used any more.
    connections: Arc<Mutex<(u32, u32)>>,
    health: Health,
}

struct Scripted {
    tries: Arc<Mutex<u32>>,
    leaders: Arc<Mutex<Vec<Option<i32>>>>,
    requests: mpsc::UnboundedSender<(i32, ProduceRequest, Reply)>,
    enlistments: Arc<Mutex<Vec<AddPartitionsToTxnRequest>>>,
    has_other_secrets: Arc<Mutex<bool>>,
    connections: Arc<Mutex<(u32, u32)>>,
}

struct ScriptedLink {
    broker: i32,
    number: u32,
    connections: Arc<Mutex<(u32, u32)>>,
    requests: mpsc::UnboundedSender<(i32, ProduceRequest, Reply)>,
}

#[async_trait]
impl Brokers for Scripted {
    async fn leaders(&self, _topic: &str) -> Result<Vec<Option<i32>>, Error> {
        Ok(self.leaders.lock().unwrap().clone())
    }

    async fn connect(&self, broker: i32) -> Result<Box<dyn Link>, Error> {
        if broker == DEAD {
            *self.tries.lock().unwrap() += 1;
            let address = Address { host: "dead".to_owned(), port: 9092 };
            return Err(Error::Unreachable { address, why: "connection refused".to_owned() });
        }
        let (requests, connections) = (self.requests.clone(), Arc::clone(&self.connections));
        let mut opened = self.connections.lock().unwrap();
        opened.0 += 1;
        Ok(Box::new(ScriptedLink { broker, number: opened.0, connections, requests }))
    }

    async fn identify(&self) -> Result<ProducerIdentity, Error> {
        Ok(WHO)
    }

    async fn enlist(&self, _id: &str, request: &AddPartitionsToTxnRequest) -> Result<AddPartitionsToTxnResponse, Error> {
        self.enlistments.lock().unwrap().push(request.clone());
        Ok(AddPartitionsToTxnResponse::default())
    }

    fn has_other_secrets(&self) -> bool {
        *self.has_other_secrets.lock().unwrap()
    }
}

impl Link for ScriptedLink {
    fn is_open(&self) -> bool {
        self.number > self.connections.lock().unwrap().1
    }

    fn produce(&self, request: &ProduceRequest) -> Result<BoxFuture<'static, Result<ProduceResponse, Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        self.requests.send((self.broker, request.clone(), reply)).expect("the test goes on");
        Ok(async move { answer.await.unwrap_or(Err(Error::NoBroker { id: 0 })) }.boxed())
    }
}

fn peer(leaders: &[i32], transacting: Option<Transacting>) -> (Producer, Peer) {
    let (sender, requests) = mpsc::unbounded_channel();
    let leaders = Arc::new(Mutex::new(leaders.iter().copied().map(Some).collect()));
    let (enlistments, has_other_secrets, connections, tries) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
    let peer = Peer { tries, leaders, requests, enlistments, has_other_secrets, connections, health: Health::default() };
    let scripted = Scripted {
        tries: Arc::clone(&peer.tries),
        leaders: Arc::clone(&peer.leaders),
        requests: sender,
        enlistments: Arc::clone(&peer.enlistments),
        has_other_secrets: Arc::clone(&peer.has_other_secrets),
        connections: Arc::clone(&peer.connections),
    };
    let start = Start {
        topics: vec!["t"],
        placed: Some("t"),
        target: "topic t".to_owned(),
        in_flight_bytes: 1 << 20,
        transacting,
        health: peer.health.clone(),
    };
    (Producer::start_with(Arc::new(scripted), start), peer)
}

/// Writes one record to a partition.
fn write(producer: &Producer, partition: usize, ordinal: u64) {
    let value = format!("{ordinal:08}");
    let record = NewRecord { timestamp: 1, key: None, value: Some(value.as_bytes()), header: None };
    producer.append(0, &Origin::new("o", "o")).append(Target::Partition(partition), &record, ordinal);
}

impl Peer {
    /// The next request: to whom, what it holds of each partition, and how to answer.
    async fn next(&mut self) -> (i32, Vec<(i32, i32, Vec<u64>)>, Reply) {
        let (broker, request, reply) = self.requests.recv().await.expect("the producer goes on");
        let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
        let found = partitions.map(|partition| {
            let (sequence, ordinals) = content(partition.records.as_ref().unwrap());
            (partition.index, sequence, ordinals)
        });
        (broker, found.collect(), reply)
    }

    fn is_silent(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

fn answer(reply: Reply, partitions: &[(i32, i16, i64)]) {
    answer_throttled(reply, partitions, 0);
}

/// An answer after which nothing more is answered for so many milliseconds.
fn answer_throttled(reply: Reply, partitions: &[(i32, i16, i64)], millis: i32) {
    let partitions = partitions.iter().map(|(index, code, offset)| {
        PartitionProduceResponse::default().with_index(*index).with_error_code(*code).with_base_offset(*offset)
    });
    let name = kafka_protocol::messages::TopicName(kafka_protocol::protocol::StrBytes::from_static_str("t"));
    let topic = TopicProduceResponse::default().with_name(name).with_partition_responses(partitions.collect());
    let response = ProduceResponse::default().with_responses(vec![topic]).with_throttle_time_ms(millis);
    reply.send(Ok(response)).expect("the producer waits");
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_sent_while_there_is_room_and_the_rest_in_one_batch() {
    let (producer, mut peer) = peer(&[1], None);
    assert_eq!(producer.partitions(0).await.unwrap(), 1);
    write(&producer, 0, 0);
    let (broker, content, reply) = peer.next().await;
    assert_eq!((broker, content), (1, vec![(0, 0, vec![0])]));
    for ordinal in 1..4 {
        write(&producer, 0, ordinal);
    }
    assert!(peer.is_silent());
    answer(reply, &[(0, 0, 70)]);
    let (_, content, reply) = peer.next().await;
    assert_eq!(content, [(0, 1, vec![1, 2, 3])]);
    let mut replies = vec![reply];
    for ordinal in 4..8 {
        write(&producer, 0, ordinal);
        replies.push(peer.next().await.2);
    }
    for ordinal in 8..12 {
        write(&producer, 0, ordinal);
        tokio::task::yield_now().await;
    }
    assert!(peer.is_silent(), "five are on their way");
    assert!(producer.settle(0).now_or_never().is_none());
    for reply in replies.drain(..) {
        answer(reply, &[(0, 0, 71)]);
    }
    let (_, content, reply) = peer.next().await;
    assert_eq!(content, [(0, 8, vec![8, 9, 10, 11])]);
    answer(reply, &[(0, 0, 80)]);
    producer.settle(0).await.unwrap();
    assert_eq!(producer.take_place().map(|place| (place.partition, place.offset)), Some((0, 80)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moved_is_followed_under_the_same_numbers() {
    let (producer, mut peer) = peer(&[1, 1], None);
    producer.partitions(0).await.unwrap();
    for partition in 0..2 {
        write(&producer, partition, partition as u64);
        let (_, _, reply) = peer.next().await;
        answer(reply, &[(partition as i32, 0, 0)]);
    }
    producer.settle(0).await.unwrap();
    write(&producer, 1, 5);
    let (broker, content, reply) = peer.next().await;
    assert_eq!((broker, content), (1, vec![(1, 1, vec![5])]));
    *peer.leaders.lock().unwrap() = vec![Some(1), Some(2)];
    answer(reply, &[(1, Code::NotLeaderOrFollower.code(), -1)]);
    let (broker, content, reply) = peer.next().await;
    assert_eq!((broker, content), (2, vec![(1, 1, vec![5])]));
    assert!(peer.health.current().is_some_and(|trouble| trouble.message.contains("not leader")), "{:?}", peer.health.current());
    // The answer is lost with the connection: again, to the same.
    reply.send(Err(Error::NoBroker { id: 2 })).unwrap();
    let (broker, content, reply) = peer.next().await;
    assert_eq!((broker, content), (2, vec![(1, 1, vec![5])]));
    answer(reply, &[(1, Code::DuplicateSequenceNumber.code(), -1)]);
    producer.settle(0).await.unwrap();
    assert_eq!(peer.health.current(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_gone_is_tried_less_and_less_and_is_trouble_until_there_is_another() {
    let (producer, mut peer) = peer(&[DEAD], None);
    producer.partitions(0).await.unwrap();
    write(&producer, 0, 0);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for _ in 0..100 {
        // The other brokers say all the time that it leads.
        tokio::time::sleep(std::time::Duration::from_millis(90)).await;
        assert!(peer.health.current().is_some_and(|trouble| trouble.message.contains("no broker at dead")), "{:?}", peer.health.current());
    }
    let tries = *peer.tries.lock().unwrap();
    assert!((10..30).contains(&tries), "tried {tries} times in 10 s");
    *peer.leaders.lock().unwrap() = vec![Some(1)];
    let (broker, content, reply) = peer.next().await;
    assert_eq!((broker, content), (1, vec![(0, 0, vec![0])]));
    answer(reply, &[(0, 0, 0)]);
    producer.settle(0).await.unwrap();
    assert_eq!(peer.health.current(), None);
}

#[tokio::test(start_paused = true)]
async fn partitions_are_part_of_the_transaction_before_anything_is_sent_to_them() {
    let transacting = Transacting { id: "millrace/x".to_owned(), who: WHO, timeout: std::time::Duration::from_secs(60) };
    let (producer, mut peer) = peer(&[1, 1], Some(transacting));
    producer.partitions(0).await.unwrap();
    for transaction in 0..2 {
        producer.begin();
        for ordinal in 0..2 {
            write(&producer, 1, ordinal);
            let (_, _, reply) = peer.next().await;
            let enlisted = peer.enlistments.lock().unwrap().clone();
            assert_eq!(enlisted.len(), transaction + 1);
            let last = enlisted.last().unwrap();
            assert_eq!(last.v3_and_below_transactional_id.0.as_str(), "millrace/x");
            assert_eq!(last.v3_and_below_topics[0].partitions, [1]);
            answer(reply, &[(1, 0, 0)]);
            producer.settle(0).await.unwrap();
        }
    }
    // A newer one of the same id.
    write(&producer, 1, 9);
    let (_, _, reply) = peer.next().await;
    answer(reply, &[(1, Code::InvalidProducerEpoch.code(), -1)]);
    let error = producer.settle(0).await.unwrap_err();
    assert_eq!(error.reason, ErrorReason::ServerError);
    assert!(error.message.contains("topic t") && error.is_transient(), "{error}");
    assert!(producer.room().await.is_err(), "it stays so");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_acknowledged_in_time_fails_its_transaction_and_other_secrets_any_writer() {
    let transacting = Transacting { id: "millrace/x".to_owned(), who: WHO, timeout: std::time::Duration::from_secs(60) };
    let (producer, mut peer_) = peer(&[1], Some(transacting));
    producer.partitions(0).await.unwrap();
    producer.begin();
    write(&producer, 0, 0);
    let _never_answered = peer_.next().await;
    let error = producer.settle(0).await.unwrap_err();
    assert!(error.message.contains("not acknowledged within the 60 s"), "{error}");
    assert!(peer_.health.current().is_some_and(|trouble| trouble.message.contains("acknowledged nothing for")));

    let (producer, mut peer) = peer(&[1], None);
    producer.partitions(0).await.unwrap();
    write(&producer, 0, 0);
    let (_, _, _never_answered) = peer.next().await;
    *peer.has_other_secrets.lock().unwrap() = true;
    let error = producer.settle(0).await.unwrap_err();
    assert!(error.message.contains("its Secret has changed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn batches_are_as_large_as_the_topic_takes_and_no_more_is_on_its_way_than_may_be() {
    let (producer, mut peer) = peer(&[1], None);
    producer.partitions(0).await.unwrap();
    let value = vec![b'0'; 10_000];
    let record = NewRecord { timestamp: 1, key: None, value: Some(&value), header: None };
    let origin = Origin::new("o", "o");
    let mut appender = producer.append(0, &origin);
    let mut written = 0;
    while !appender.is_over() {
        appender.append(Target::ByKey, &record, written);
        written += 1;
    }
    drop(appender);
    assert!((100..110).contains(&written), "{written} records of 10 KB are 1 MiB");
    assert!(producer.room().now_or_never().is_none());
    let most = 100_000;
    let mut partition = Partition::default();
    let answering = async {
        let mut sizes = Vec::new();
        loop {
            let (_, request, reply) = peer.requests.recv().await.unwrap();
            let batch = request.topic_data[0].partition_data[0].records.clone().unwrap();
            sizes.push(batch.len());
            let code = match partition.take(&batch, most) {
                Outcome::Refused(code) => code.code(),
                Outcome::OutOfOrder => Code::OutOfOrderSequenceNumber.code(),
                _ => 0,
            };
            answer(reply, &[(0, code, 0)]);
            if partition.log.len() as u64 == written {
                return sizes;
            }
        }
    };
    let (settled, sizes) = tokio::join!(producer.settle(0), answering);
    settled.unwrap();
    assert!(sizes[0] > BATCH_BYTES - 10_100 && sizes.iter().all(|size| *size <= BATCH_BYTES), "{sizes:?}");
    assert!(producer.take_refused().is_empty());
    // What comes later is not too large again.
    let mut appender = producer.append(0, &origin);
    for ordinal in 0..20 {
        appender.append(Target::ByKey, &record, ordinal);
    }
    drop(appender);
    let (_, request, _reply) = peer.requests.recv().await.unwrap();
    assert!(request.topic_data[0].partition_data[0].records.as_ref().unwrap().len() <= BATCH_BYTES / 2);
}

#[tokio::test(start_paused = true)]
async fn what_an_expired_connection_has_is_waited_for_before_another_has_more() {
    let (producer, mut peer) = peer(&[1], None);
    producer.partitions(0).await.unwrap();
    write(&producer, 0, 0);
    let (.., reply) = peer.next().await;
    answer(reply, &[(0, 0, 0)]);
    producer.settle(0).await.unwrap();
    write(&producer, 0, 1);
    let (.., first) = peer.next().await;
    // Its login is over: it is not used any more, though it will answer.
    peer.connections.lock().unwrap().1 = 1;
    write(&producer, 0, 2);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(peer.is_silent(), "over another connection it could overtake the one before");
    answer(first, &[(0, 0, 1)]);
    let (_, content, reply) = peer.next().await;
    assert_eq!((content, peer.connections.lock().unwrap().0), (vec![(0, 2, vec![2])], 2));
    answer(reply, &[(0, 0, 2)]);
    producer.settle(0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moved_is_looked_for_whatever_else_an_answer_says() {
    let (producer, mut peer) = peer(&[1, 1], None);
    producer.partitions(0).await.unwrap();
    let origin = Origin::new("o", "o");
    let mut appender = producer.append(0, &origin);
    for partition in 0..2_u64 {
        let value = format!("{partition:08}");
        let record = NewRecord { timestamp: 1, key: None, value: Some(value.as_bytes()), header: None };
        appender.append(Target::Partition(partition as usize), &record, partition);
    }
    drop(appender);
    let (_, content, reply) = peer.next().await;
    assert_eq!(content.len(), 2);
    *peer.leaders.lock().unwrap() = vec![Some(2), Some(1)];
    let began = Instant::now();
    answer(reply, &[(0, Code::NotLeaderOrFollower.code(), -1), (1, Code::NotEnoughReplicas.code(), -1)]);
    loop {
        let (broker, content, reply) = peer.next().await;
        if broker == 2 {
            assert_eq!(content, [(0, 0, vec![0])]);
            break;
        }
        let said: Vec<_> = content.iter().map(|(partition, ..)| (*partition, [6, 19][*partition as usize], -1)).collect();
        answer(reply, &said);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_not_aborted_while_a_broker_may_still_write_something_of_it() {
    let transacting = Transacting { id: "millrace/x".to_owned(), who: WHO, timeout: std::time::Duration::from_secs(60) };
    let (producer, mut peer) = peer(&[1], Some(transacting));
    producer.partitions(0).await.unwrap();
    producer.begin();
    write(&producer, 0, 0);
    let (.., reply) = peer.next().await;
    let grounded = producer.grounded();
    producer.end();
    reply.send(Err(Error::NoBroker { id: 1 })).unwrap();
    assert!(!grounded.await, "it was lost with its answer");

    let transacting = Transacting { id: "millrace/x".to_owned(), who: WHO, timeout: std::time::Duration::from_secs(60) };
    let (producer, mut peer) = super::tests::peer(&[1, 1], Some(transacting));
    producer.partitions(0).await.unwrap();
    producer.begin();
    write(&producer, 0, 0);
    let (.., first) = peer.next().await;
    write(&producer, 1, 1);
    let (.., _never_answered) = peer.next().await;
    answer(first, &[(0, Code::InvalidProducerEpoch.code(), -1)]);
    producer.settle(0).await.unwrap_err();
    assert!(!producer.grounded().await, "the writer has failed, and the other is on its way");
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_no_silence_and_what_an_answer_leaves_out_or_finds_damaged_is_sent_again() {
    let (producer, mut peer) = peer(&[1], None);
    producer.partitions(0).await.unwrap();
    write(&producer, 0, 0);
    let (.., reply) = peer.next().await;
    let began = Instant::now();
    answer(reply, &[]);
    let (_, content, reply) = peer.next().await;
    assert_eq!(content, [(0, 0, vec![0])]);
    assert!(began.elapsed() > std::time::Duration::ZERO, "not at once");
    answer(reply, &[(0, Code::CorruptMessage.code(), -1)]);
    let (_, content, reply) = peer.next().await;
    assert_eq!(content, [(0, 0, vec![0])]);
    answer_throttled(reply, &[(0, 0, 0)], 60_000);
    producer.settle(0).await.unwrap();
    write(&producer, 0, 1);
    let (.., reply) = peer.next().await;
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    let trouble = peer.health.current().unwrap();
    assert!(trouble.reason == ErrorReason::Throttled && trouble.message.contains("over a quota"), "{trouble:?}");
    answer(reply, &[(0, 0, 1)]);
    producer.settle(0).await.unwrap();
    assert_eq!(peer.health.current(), None);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_has_fewer_partitions_than_before_fails_its_writer() {
    let (producer, mut peer) = peer(&[1, 1], None);
    producer.partitions(0).await.unwrap();
    *peer.leaders.lock().unwrap() = vec![Some(1)];
    write(&producer, 1, 0);
    let refusing = async {
        while let Some((_, _, reply)) = peer.requests.recv().await {
            answer(reply, &[(1, Code::UnknownTopicOrPartition.code(), -1)]);
        }
    };
    let (settled, ()) = tokio::join!(producer.settle(0), refusing);
    let error = settled.unwrap_err();
    assert!(error.reason == ErrorReason::NotFound && error.message.contains("topic t has no partition 1"), "{error}");
}
