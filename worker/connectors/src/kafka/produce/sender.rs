//! The task that sends what a writer has ready, for as long as the writer lives. It waits for nothing in particular: everything that takes time is an event.
//!
//! ```text
//!  topics ─▶ leaders ──┐
//!  identity ───────────┼─▶ request to a leader that has room: one batch of each of its partitions ─▶ answers ─▶ lanes ─▶ written · again · refused
//!  transaction: enlist ┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::{AddPartitionsToTxnResponse, ProduceResponse};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{Backoff, is_transient};
use tokio::time::{Instant, sleep_until};

use super::super::ledger::Place;
use super::super::wire::error::Error;
use super::answers::{self, LaneId, Sent};
use super::brokers::{Brokers, Link};
use super::lane::{Doubt, Lane, Outcome, ProducerIdentity};
use super::shared::{Shared, State};
use super::trouble::Trouble;
use super::{REQUEST_BYTES, Transacting};

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
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
    /// The broker that has what is aloft.
    broker: i32,
    /// The transaction that it is part of; 0 if of none.
    transaction: u64,
}

/// A broker.
enum Peer {
    Connecting,
    Open { link: Box<dyn Link>, serial: u64, requests: usize },
}

/// What has come of something that takes time.
enum Event {
    Leaders(Vec<(usize, Result<Vec<Option<i32>>, Error>)>),
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
                    // What an earlier leader has is waited for.
                    Some(leader) if way.lane.is_aloft() && way.broker != leader => {}
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
        let sent = self.gather(state, who, broker);
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
    fn gather(&mut self, state: &mut State, who: ProducerIdentity, broker: i32) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut bytes = 0;
        let may_retry = self.may_retry();
        let is_transactional = self.transacting.is_some();
        for (topic, route) in self.routes.iter_mut().enumerate() {
            for (partition, way) in route.lanes.iter_mut().enumerate() {
                let is_led = route.leaders[partition] == Some(broker) && (way.broker == broker || !way.lane.is_aloft());
                let is_enlisted = !is_transactional || way.transaction == state.transaction;
                let topic_state = &mut state.topics[topic];
                if bytes >= REQUEST_BYTES || !is_led || !is_enlisted || !way.lane.can_send(topic_state.has(partition), may_retry) {
                    continue;
                }
                if let Some((number, batch)) = way.lane.send(who, is_transactional, || topic_state.take(partition)) {
                    way.broker = broker;
                    bytes += batch.bytes().len();
                    sent.push(Sent { lane: (topic, partition), number, bytes: batch.bytes().clone() });
                }
            }
        }
        sent
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Leaders(found) => self.learn(found),
            Event::Identity(result) => {
                self.is_identifying = false;
                match result {
                    Ok(who) => {
                        self.who = Some(who);
                        self.well();
                    }
                    Err(error) if answers::is_passing(&error) => self.failed(&error),
                    Err(error) => self.give_up(&error),
                }
            }
            Event::Enlisted(transaction, lanes, result) => {
                self.is_enlisting = false;
                match result.and_then(|response| answers::enlisted(&response)) {
                    Ok(()) => {
                        for (topic, partition) in lanes {
                            self.routes[topic].lanes[partition].transaction = transaction;
                        }
                        self.well();
                    }
                    Err(error) if answers::is_passing(&error) => {
                        // The end of the transaction before is still being written: that is no trouble.
                        if error.code() == Some(Code::ConcurrentTransactions) {
                            self.pause();
                        } else {
                            self.failed(&error);
                        }
                    }
                    Err(error) => self.give_up(&error),
                }
            }
            Event::Connected(broker, result) => {
                self.peers.remove(&broker);
                match result {
                    Ok(link) => {
                        self.serial += 1;
                        self.peers.insert(broker, Peer::Open { link, serial: self.serial, requests: 0 });
                    }
                    Err(error) => {
                        self.is_stale = true;
                        self.failed(&error);
                    }
                }
            }
            Event::Answered { broker, serial, sent, result } => self.answered(broker, serial, sent, result),
        }
    }

    fn learn(&mut self, found: Vec<(usize, Result<Vec<Option<i32>>, Error>)>) {
        self.is_asking = false;
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut error = None;
        for (topic, leaders) in found {
            let route = &mut self.routes[topic];
            match leaders {
                Ok(leaders) if !leaders.is_empty() => {
                    route.unknown_since = None;
                    let count = leaders.len().max(route.lanes.len());
                    route.lanes.resize_with(count, Way::default);
                    let mut state = shared.lock();
                    let topic = &mut state.topics[topic];
                    topic.led = leaders.iter().map(Option::is_some).collect();
                    topic.ready.resize_with(count, Default::default);
                    topic.open.resize_with(count, || None);
                    route.leaders = leaders;
                    route.leaders.resize(count, None);
                }
                Ok(_) => self.is_stale = true,
                Err(failed) => {
                    let is_unknown = failed.reason() == ErrorReason::NotFound;
                    let since = *route.unknown_since.get_or_insert(now);
                    if (is_unknown && now >= since + UNKNOWN_FOR)
                        || (failed.code().is_some() && !failed.is_stale() && !answers::is_passing(&failed))
                    {
                        return self.give_up(&failed);
                    }
                    if !is_unknown {
                        route.unknown_since = None;
                    }
                    error = Some(failed);
                }
            }
        }
        shared.progress.notify_waiters();
        match error {
            None => self.well(),
            Some(error) => {
                self.is_stale = true;
                self.failed(&error);
            }
        }
    }

    fn answered(&mut self, broker: i32, serial: u64, sent: Vec<(LaneId, u64)>, result: Result<ProduceResponse, Error>) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        state.aloft -= sent.len();
        self.heard = Instant::now();
        if let Some(Peer::Open { serial: now, requests, .. }) = self.peers.get_mut(&broker)
            && *now == serial
        {
            *requests -= 1;
            if result.is_err() {
                self.peers.remove(&broker);
            }
        }
        let mut failed = None;
        match result {
            Ok(response) => {
                let said = answers::by_partition(response);
                let mut is_well = true;
                for (lane, number) in sent {
                    let place = (state.topics[lane.0].name.clone(), lane.1);
                    let Some((code, offset, said)) = said.get(&place) else {
                        self.settle(&mut state, lane, number, Outcome::Again);
                        continue;
                    };
                    match answers::outcome(*code, *offset, said) {
                        Ok(outcome @ (Outcome::Again | Outcome::Unsent)) => {
                            is_well = false;
                            failed = Error::refused(*code, said.clone()).err();
                            self.settle(&mut state, lane, number, outcome);
                        }
                        Ok(outcome) => self.settle(&mut state, lane, number, outcome),
                        Err(error) => {
                            drop(state);
                            return self.give_up(&error);
                        }
                    }
                }
                if is_well {
                    self.backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
                    self.trouble.over();
                }
            }
            Err(error) => {
                for (lane, number) in sent {
                    self.settle(&mut state, lane, number, Outcome::Again);
                }
                failed = Some(error);
            }
        }
        drop(state);
        if let Some(error) = failed {
            if matches!(error, Error::Version { .. } | Error::Request { .. }) {
                return self.give_up(&error);
            }
            self.is_stale |= error.is_stale() || error.code().is_none();
            self.failed(&error);
        }
        self.shared.progress.notify_waiters();
    }

    /// Tells a lane what became of a batch, and the writer what follows.
    fn settle(&mut self, state: &mut State, (topic, partition): LaneId, number: u64, outcome: Outcome) {
        let lane = &mut self.routes[topic].lanes[partition].lane;
        if let Outcome::Refused(code) = outcome
            && answers::is_size(code)
            && let Some(size) = lane.size_of_several(number)
        {
            self.shared.shrink_batches(size);
        }
        match lane.answered(number, outcome) {
            Ok(settled) => {
                self.shared.remove_bytes(settled.weight);
                if let Some(offset) = settled.offset.filter(|_| state.topics[topic].is_placed) {
                    state.place = Some(Place { partition: partition as i32, offset });
                }
                state.refused.extend(settled.refused);
            }
            Err(Doubt(what)) => {
                let name = &state.topics[topic].name;
                let message = format!("writing to {}: {what} (partition {name}/{partition}); the task is opened again", self.target);
                state.fail(ErrorReason::ServerError, message);
            }
        }
    }

    /// Something has worked.
    fn well(&mut self) {
        self.backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        self.trouble.answered();
    }

    /// An attempt has failed, and there will be another, a little later.
    fn failed(&mut self, error: &Error) {
        self.trouble.failed(error);
        if error.code().is_none() && !is_transient(error.reason()) {
            return self.give_up(error);
        }
        self.pause();
        self.look_at_secrets();
    }

    fn pause(&mut self) {
        self.not_before = Some(Instant::now() + self.backoff.delay(rand::random()));
    }

    fn give_up(&self, error: &Error) {
        self.shared.fail(error.reason(), format!("writing to {}: {error}", self.target));
    }

    /// In any trouble: what was said last need not be why.
    fn look_at_secrets(&self) {
        if let Some(reason) = self.trouble.reason()
            && self.brokers.has_other_secrets()
        {
            self.shared.fail(reason, format!("nothing is written to {} and its Secret has changed since: starting anew", self.target));
        }
    }

    /// Looks at what nobody tells.
    fn look(&mut self) {
        let now = Instant::now();
        if now < self.looked + LOOK {
            return;
        }
        self.looked = now;
        let closed = |peer: &Peer| matches!(peer, Peer::Open { link, .. } if !link.is_open());
        if self.peers.values().any(closed) {
            // Brokers close what is idle, or are gone: the next question tells.
            self.peers.retain(|_, peer| !closed(peer));
            self.is_stale = true;
        }
        let silent = now.saturating_duration_since(self.heard);
        let (aloft, bytes) = (self.shared.lock().aloft, self.shared.bytes());
        if aloft > 0 && silent >= STALL {
            let seconds = silent.as_secs();
            self.trouble.stalled(format!("the brokers have acknowledged nothing for {seconds} s, with {bytes} bytes on their way"));
        }
        self.look_at_secrets();
        if let Some(transacting) = &self.transacting {
            let oldest = self.routes.iter().flat_map(|route| &route.lanes).filter_map(|way| way.lane.since()).min();
            if oldest.is_some_and(|since| now >= since + transacting.timeout) {
                let seconds = transacting.timeout.as_secs();
                let message = format!("writing to {}: not acknowledged within the {seconds} s of its transaction", self.target);
                self.shared.fail(ErrorReason::Unreachable, message);
            }
        }
    }
}
