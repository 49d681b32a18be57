//! The task that sends what a writer has ready, for as long as the writer lives. It waits for nothing in particular: everything that takes time is an event.
//!
//! ```text
//!  topics ─▶ leaders ──┐
//!  identity ───────────┼─▶ request to a leader that has room: one batch of each of its partitions ─▶ answers ─▶ lanes ─▶ written · again · refused
//!  transaction: enlist ┘
//! ```

mod events;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kafka_protocol::messages::{AddPartitionsToTxnResponse, ProduceResponse};
use millrace_engine::connector::Backoff;
use tokio::time::{Instant, sleep_until};

use super::answers::{self, LaneId, Sent};
use super::brokers::{Brokers, Link};
use super::lane::{Lane, Outcome, ProducerIdentity};
use super::shared::{Shared, State};
use super::trouble::Trouble;
use super::{REQUEST_BYTES, Transacting};
use crate::kafka::wire::error::Error;

/// Requests that a broker may have from one writer.
const REQUESTS: usize = 5;
/// Time between two looks at what nobody tells.
const LOOK: Duration = Duration::from_secs(2);
/// No answer for so long, with something on its way, is trouble.
const STALL: Duration = Duration::from_secs(10);
/// After so long it is asked again who leads what: also whether the brokers are there, while nothing is written.
const LEADERS_AGE: Duration = Duration::from_secs(30);
/// For how long a topic may be unknown to the brokers: one that was just made is not known everywhere.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Pause after a failed attempt, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Who leads the partitions of a topic, and how far each is.
#[derive(Default)]
struct Route {
    leaders: Vec<Option<i32>>,
    lanes: Vec<Way>,
    unknown_since: Option<Instant>,
}

#[derive(Default)]
struct Way {
    lane: Lane,
    /// The connection that has what is aloft: over another, a later batch could overtake it.
    serial: u64,
    /// The transaction that it is part of; 0 if of none.
    transaction: u64,
}

/// A broker.
enum Peer {
    Connecting,
    Open { link: Box<dyn Link>, serial: u64, requests: usize },
}

/// The leaders of the partitions of a topic.
type Found = Result<Vec<Option<i32>>, Error>;

/// What has come of something that takes time.
enum Event {
    Leaders(Vec<(usize, Found)>),
    Identity(Result<ProducerIdentity, Error>),
    Enlisted(u64, Vec<LaneId>, Result<AddPartitionsToTxnResponse, Error>),
    Connected(i32, Result<Box<dyn Link>, Error>),
    Answered { broker: i32, serial: u64, sent: Vec<(LaneId, u64)>, result: Result<ProduceResponse, Error> },
}

/// Sends.
pub(super) struct Sender {
    shared: Arc<Shared>,
    brokers: Arc<dyn Brokers>,
    /// What is written to, for people.
    target: String,
    trouble: Trouble,
    who: Option<ProducerIdentity>,
    transacting: Option<Transacting>,
    routes: Vec<Route>,
    peers: HashMap<i32, Peer>,
    serial: u64,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    is_asking: bool,
    is_identifying: bool,
    is_enlisting: bool,
    /// Whether what is known of leaders is old.
    is_stale: bool,
    asked: Option<Instant>,
    /// Nothing that has failed is tried again before.
    not_before: Option<Instant>,
    backoff: Backoff,
    /// What went wrong while the lock was held.
    failing: Option<Error>,
    /// When something was answered last, or sent after nothing was on its way.
    heard: Instant,
    /// Until when a broker answers nothing, because we are over a quota.
    throttled: Option<Instant>,
    looked: Instant,
}

impl Sender {
    pub(super) fn new(
        shared: Arc<Shared>,
        brokers: Arc<dyn Brokers>,
        target: String,
        trouble: Trouble,
        transacting: Option<Transacting>,
    ) -> Self {
        let routes = shared.lock().topics.iter().map(|_| Route::default()).collect();
        let now = Instant::now();
        Self {
            shared,
            brokers,
            target,
            trouble,
            who: transacting.as_ref().map(|transacting| transacting.who),
            transacting,
            routes,
            peers: HashMap::new(),
            serial: 0,
            events: FuturesUnordered::new(),
            is_asking: false,
            is_identifying: false,
            is_enlisting: false,
            is_stale: false,
            asked: None,
            not_before: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            failing: None,
            heard: now,
            throttled: None,
            looked: now,
        }
    }

    /// Goes on until nothing more can come of it.
    pub(super) async fn run(mut self) {
        while self.shared.failure().is_none() {
            self.start();
            let wake = self.not_before.map_or(self.looked + LOOK, |at| at.min(self.looked + LOOK));
            tokio::select! {
                Some(event) = self.events.next(), if !self.events.is_empty() => {
                    self.take(event);
                    // What has come at the same time is looked at before anything is sent.
                    while let Some(Some(event)) = self.events.next().now_or_never() {
                        self.take(event);
                    }
                }
                () = self.shared.work.notified() => {}
                () = sleep_until(wake) => self.look(),
            }
        }
        // Whoever waits hears why.
        self.shared.progress.notify_waiters();
    }

    /// Starts what can be started.
    fn start(&mut self) {
        self.start_what_can();
        if let Some(error) = self.failing.take() {
            self.failed(&error);
        }
    }

    fn start_what_can(&mut self) {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at <= now) {
            self.not_before = None;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.is_ending {
            return;
        }
        if self.not_before.is_none() {
            self.ask(&state, now);
        }
        let may_retry = self.may_retry();
        let mut targets: Vec<i32> = Vec::new();
        let mut to_enlist = Vec::new();
        let (mut has_work, mut leaderless) = (false, None);
        for (topic, route) in self.routes.iter().enumerate() {
            for (partition, way) in route.lanes.iter().enumerate() {
                if !way.lane.can_send(state.topics[topic].has(partition), may_retry) {
                    continue;
                }
                has_work = true;
                if self.transacting.is_some() && way.transaction != state.transaction {
                    to_enlist.push((topic, partition));
                    continue;
                }
                match route.leaders[partition] {
                    None => leaderless = Some((topic, partition)),
                    // What an earlier leader or connection has is waited for.
                    Some(leader) if way.lane.is_aloft() && serial_of(&self.peers, leader) != Some(way.serial) => {}
                    Some(leader) if targets.contains(&leader) => {}
                    Some(leader) => targets.push(leader),
                }
            }
        }
        if !has_work {
            return;
        }
        if let Some((topic, partition)) = leaderless.filter(|_| may_retry) {
            self.is_stale = true;
            self.failing = Some(Error::NoLeader { topic: state.topics[topic].name.clone(), partition: partition as i32 });
        }
        let Some(who) = self.who else {
            if !self.is_identifying && self.not_before.is_none() {
                self.is_identifying = true;
                let brokers = Arc::clone(&self.brokers);
                self.events.push(async move { Event::Identity(brokers.identify().await) }.boxed());
            }
            return;
        };
        if !to_enlist.is_empty() && !self.is_enlisting && self.not_before.is_none() {
            self.enlist(&state, who, to_enlist);
        }
        for broker in targets {
            self.feed(&mut state, who, broker);
        }
    }

    /// Whether what has failed may be tried again: not before its pause is over, nor while it is being asked where it belongs.
    fn may_retry(&self) -> bool {
        self.not_before.is_none() && !self.is_stale && !self.is_asking
    }

    /// Asks who leads what, if that is not known well enough.
    fn ask(&mut self, state: &State, now: Instant) {
        let is_unknown = |topic: usize| self.routes[topic].leaders.is_empty();
        let wanted: Vec<(usize, String)> =
            state.topics.iter().enumerate().filter(|(_, topic)| topic.is_wanted).map(|(nth, topic)| (nth, topic.name.clone())).collect();
        let is_old = self.asked.is_none_or(|asked| now >= asked + LEADERS_AGE);
        let is_due = self.is_stale || is_old || wanted.iter().any(|(topic, _)| is_unknown(*topic));
        if self.is_asking || wanted.is_empty() || !is_due {
            return;
        }
        (self.is_asking, self.is_stale, self.asked) = (true, false, Some(now));
        let brokers = Arc::clone(&self.brokers);
        let asking = async move {
            let mut found = Vec::with_capacity(wanted.len());
            for (topic, name) in wanted {
                found.push((topic, brokers.leaders(&name).await));
            }
            Event::Leaders(found)
        };
        self.events.push(asking.boxed());
    }

    fn enlist(&mut self, state: &State, who: ProducerIdentity, lanes: Vec<LaneId>) {
        let Some(transacting) = &self.transacting else { return };
        self.is_enlisting = true;
        let (id, transaction) = (transacting.id.clone(), state.transaction);
        let request = answers::enlistment(&id, who, &lanes, |topic| state.topics[topic].name.clone());
        let brokers = Arc::clone(&self.brokers);
        self.events.push(async move { Event::Enlisted(transaction, lanes, brokers.enlist(&id, &request).await) }.boxed());
    }

    /// Sends to a broker as much as it has room for.
    fn feed(&mut self, state: &mut State, who: ProducerIdentity, broker: i32) {
        if let Some(Peer::Open { link, .. }) = self.peers.get(&broker)
            && !link.is_open()
        {
            self.peers.remove(&broker);
        }
        match self.peers.get(&broker) {
            None if self.not_before.is_none() => {
                self.peers.insert(broker, Peer::Connecting);
                let brokers = Arc::clone(&self.brokers);
                self.events.push(async move { Event::Connected(broker, brokers.connect(broker).await) }.boxed());
            }
            None | Some(Peer::Connecting) => {}
            Some(Peer::Open { .. }) => while self.send(state, who, broker) {},
        }
    }

    /// Sends one request; whether there was something to send, and room.
    fn send(&mut self, state: &mut State, who: ProducerIdentity, broker: i32) -> bool {
        let Some(Peer::Open { requests, serial, .. }) = self.peers.get(&broker) else { return false };
        if *requests >= REQUESTS {
            return false;
        }
        let serial = *serial;
        let sent = self.gather(state, who, broker, serial);
        if sent.is_empty() {
            return false;
        }
        let id = self.transacting.as_ref().map(|transacting| transacting.id.as_str());
        let request = answers::request(id, &sent, |topic| state.topics[topic].name.clone());
        let sent: Vec<(LaneId, u64)> = sent.into_iter().map(|sent| (sent.lane, sent.number)).collect();
        let Some(Peer::Open { link, requests, .. }) = self.peers.get_mut(&broker) else { return false };
        match link.produce(&request) {
            Ok(answer) => {
                *requests += 1;
                if state.aloft == 0 {
                    self.heard = Instant::now();
                }
                state.aloft += sent.len();
                let answered = async move { Event::Answered { broker, serial, sent, result: answer.await } };
                self.events.push(answered.boxed());
                true
            }
            Err(error) => {
                self.peers.remove(&broker);
                for (lane, number) in sent {
                    self.settle(state, lane, number, Outcome::Unsent);
                }
                self.failing = Some(error);
                false
            }
        }
    }

    /// The next batch of each partition that a broker leads, up to what a request holds.
    fn gather(&mut self, state: &mut State, who: ProducerIdentity, broker: i32, serial: u64) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut bytes = 0;
        let may_retry = self.may_retry();
        let is_transactional = self.transacting.is_some();
        for (topic, route) in self.routes.iter_mut().enumerate() {
            for (partition, way) in route.lanes.iter_mut().enumerate() {
                let is_led = route.leaders[partition] == Some(broker) && (way.serial == serial || !way.lane.is_aloft());
                let is_enlisted = !is_transactional || way.transaction == state.transaction;
                let topic_state = &mut state.topics[topic];
                if bytes >= REQUEST_BYTES || !is_led || !is_enlisted || !way.lane.can_send(topic_state.has(partition), may_retry) {
                    continue;
                }
                if let Some((number, batch)) = way.lane.send(who, is_transactional, || topic_state.take(partition)) {
                    way.serial = serial;
                    bytes += batch.bytes().len();
                    sent.push(Sent { lane: (topic, partition), number, bytes: batch.bytes().clone() });
                }
            }
        }
        sent
    }
}

/// Number of the connection to a broker, if there is one.
fn serial_of(peers: &HashMap<i32, Peer>, broker: i32) -> Option<u64> {
    match peers.get(&broker)? {
        Peer::Open { serial, .. } => Some(*serial),
        Peer::Connecting => None,
    }
}
