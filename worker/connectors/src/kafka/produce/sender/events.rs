//! What follows from what has come: from answers, and from their absence. It sends nothing.

use std::sync::Arc;

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::ProduceResponse;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{Backoff, is_transient};
use tokio::time::Instant;

use super::super::answers::{self, LaneId};
use super::super::lane::{Doubt, Outcome};
use super::super::shared::State;
use super::{Event, FIRST_PAUSE, Found, LONGEST_PAUSE, LOOK, Peer, STALL, Sender, UNKNOWN_FOR, Way};
use crate::kafka::ledger::Place;
use crate::kafka::wire::error::Error;

impl Sender {
    pub(super) fn take(&mut self, event: Event) {
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
                        self.trouble.unreached(&error);
                        self.again(&error);
                    }
                }
            }
            Event::Answered { broker, serial, sent, result } => self.answered(broker, serial, sent, result),
        }
    }

    fn learn(&mut self, found: Vec<(usize, Found)>) {
        self.is_asking = false;
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut error = None;
        for (topic, leaders) in found {
            let route = &mut self.routes[topic];
            match leaders {
                // A broker that has not heard of the last of them yet, or the topic is another one now: then what waits for them can go nowhere.
                Ok(leaders) if leaders.len() < route.lanes.len() && now >= *route.unknown_since.get_or_insert(now) + UNKNOWN_FOR => {
                    let name = shared.lock().topics[topic].name.clone();
                    return self.give_up(&Error::NoPartition { topic: name, partition: leaders.len() as i32 });
                }
                Ok(leaders) if !leaders.is_empty() => {
                    let count = leaders.len().max(route.lanes.len());
                    if leaders.len() == count {
                        route.unknown_since = None;
                    }
                    route.lanes.resize_with(count, Way::default);
                    let mut state = shared.lock();
                    let topic = &mut state.topics[topic];
                    topic.led = leaders.iter().map(Option::is_some).collect();
                    topic.ready.resize_with(count, Default::default);
                    topic.open.resize_with(count, || None);
                    topic.written.resize(count, -1);
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
            // That others answer says nothing of a leader that does not: its pauses grow on.
            None => self.trouble.answered(),
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
                self.throttled = answers::throttled(&response).map(|held| self.heard + held);
                let said = answers::by_partition(response);
                let mut is_well = true;
                for (lane, number) in sent {
                    let place = (state.topics[lane.0].name.clone(), lane.1);
                    let (code, offset, said) = said.get(&place).map_or_else(answers::nothing_said, Clone::clone);
                    match answers::outcome(code, offset, &said) {
                        Ok(outcome @ (Outcome::Again | Outcome::Unsent)) => {
                            is_well = false;
                            failed = Error::refused(code, said).err();
                            // What was said of another partition must not hide that the leader of this one has moved.
                            self.is_stale |= failed.as_ref().is_some_and(Error::is_stale);
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
                // A broker may still carry it out, whenever that is.
                state.is_adrift = true;
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
    pub(super) fn settle(&mut self, state: &mut State, (topic, partition): LaneId, number: u64, outcome: Outcome) {
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
                if let Some(last) = state.topics[topic].written.get_mut(partition) {
                    *last = settled.offset.unwrap_or(-1).max(*last);
                }
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
    pub(super) fn failed(&mut self, error: &Error) {
        self.trouble.failed(error);
        self.again(error);
    }

    fn again(&mut self, error: &Error) {
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
    pub(super) fn look(&mut self) {
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
            let nothing = format!("the brokers have acknowledged nothing for {seconds} s, with {bytes} bytes on their way");
            if self.throttled.is_some_and(|until| now < until) {
                self.trouble.stalled(ErrorReason::Throttled, format!("{nothing}: this client is over a quota of theirs"));
            } else {
                self.trouble.stalled(ErrorReason::Unreachable, nothing);
            }
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
