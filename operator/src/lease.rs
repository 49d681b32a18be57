//! Leadership by a Lease: one operator writes, others wait. Correctness of data never depends on it, and no clock of another machine is trusted.
//!
//! A Lease counts as abandoned when *we* have seen it unchanged for as long as it lasts, by our own monotonic clock. A leader that could not renew
//! for [`RENEW_DEADLINE`] stops writing by itself, before anybody can take over. Writes carry the resourceVersion that was read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::clock;

/// For how long a Lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// For how long the holder goes on without having renewed it.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(2);

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody else holds the Lease.
    #[error("the Lease {lease} was taken over by {holder}: this operator steps down")]
    TakenOver {
        /// Name of the Lease.
        lease: String,
        /// Who holds it.
        holder: String,
    },
    /// The API server did not let us renew in time.
    #[error("the Lease {lease} could not be renewed within {} s: this operator steps down", RENEW_DEADLINE.as_secs())]
    NotRenewed {
        /// Name of the Lease.
        lease: String,
        /// The last attempt's error.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Whether this process leads; cheap to clone, asked before every write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leadership(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    until: Option<Instant>,
}

impl Leadership {
    /// Whether the Lease was renewed lately enough that nobody else can hold it.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.state().until.is_some_and(|until| now < until)
    }

    /// For how long this process has led; zero if it does not.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let state = self.state();
        state.since.filter(|_| state.until.is_some()).map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The Lease was renewed by a request that was sent at `sent`.
    pub(crate) fn renewed(&self, sent: Instant) {
        let mut state = self.state();
        state.since.get_or_insert(sent);
        state.until = Some(sent + RENEW_DEADLINE);
    }

    fn lost(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// There is none: make it.
    Create,
    /// Nobody holds it, or who did has gone: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// Decides from the Lease as read and for how long we have seen it unchanged.
fn decide(lease: Option<&LeaseSpec>, me: &str, unchanged_for: Duration) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let lasts = lease.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map_or(DURATION, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == me => Step::Renew,
        None | Some("") => Step::Take,
        Some(_) if unchanged_for >= lasts => Step::Take,
        Some(_) => Step::Wait,
    }
}

/// Takes part in the election.
pub(crate) struct Election {
    api: Api<Lease>,
    name: String,
    me: String,
    leadership: Leadership,
    seen: Option<(String, Instant)>,
}

impl Election {
    /// Identity `me` for the Lease `name`.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, me: &str, leadership: Leadership) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), me: me.to_owned(), leadership, seen: None }
    }

    /// Waits until this process leads; `waiting` is called whenever another one is seen to. Errors of the API server are logged and tried again.
    pub(crate) async fn win(&mut self, waiting: impl Fn()) {
        loop {
            match self.attempt().await {
                Ok(None) => return,
                Ok(Some(holder)) => {
                    tracing::debug!(%holder, "another operator leads");
                    waiting();
                }
                Err(error) => tracing::warn!(error = %chain(&error), lease = %self.name, "the Lease cannot be read or written"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews until that fails. Returns only with the reason why this process leads no more.
    pub(crate) async fn keep(&mut self) -> Error {
        let mut renewed = clock::monotonic();
        loop {
            tokio::time::sleep(RETRY).await;
            match self.attempt().await {
                Ok(None) => renewed = clock::monotonic(),
                Ok(Some(holder)) => {
                    self.leadership.lost();
                    return Error::TakenOver { lease: self.name.clone(), holder };
                }
                Err(error) if clock::monotonic() - renewed >= RENEW_DEADLINE => {
                    self.leadership.lost();
                    return Error::NotRenewed { lease: self.name.clone(), source: Box::new(error) };
                }
                Err(error) => tracing::warn!(error = %chain(&error), lease = %self.name, "the Lease cannot be renewed; trying again"),
            }
        }
    }

    /// Lets go, so that the next operator need not wait. Best effort.
    #[expect(clippy::disallowed_methods, reason = "the Lease is the operator's own, not an object of a Pipeline")]
    pub(crate) async fn release(&self) {
        self.leadership.lost();
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.me)) else { return };
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(clock::wall()));
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::info!(error = %chain(&error), "the Lease could not be released; it expires by itself");
        }
    }

    /// One attempt to hold the Lease: `None` if it is ours now, else who holds it.
    #[expect(clippy::disallowed_methods, reason = "the Lease is the operator's own, not an object of a Pipeline")]
    async fn attempt(&mut self) -> Result<Option<String>, kube::Error> {
        let lease = within(self.api.get_opt(&self.name)).await?;
        let sent = clock::monotonic();
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, sent));
        }
        let unchanged_for = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| sent - *since);
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        let holder = spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let written = match decide(spec.as_ref(), &self.me, unchanged_for) {
            Step::Wait => return Ok(Some(holder)),
            Step::Create if lease.is_none() => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.taken(None)) };
                within(self.api.create(&PostParams::default(), &lease)).await
            }
            step => {
                let mut lease = lease.unwrap_or_default();
                lease.spec = Some(if step == Step::Renew { Self::renewed(spec.unwrap_or_default()) } else { self.taken(spec.as_ref()) });
                within(self.api.replace(&self.name, &PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(_) => {
                self.leadership.renewed(sent);
                Ok(None)
            }
            // Somebody was faster; who, the next attempt tells.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let now = within(self.api.get_opt(&self.name)).await?;
                let holder = now.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
                Ok(Some(holder))
            }
            Err(error) => Err(error),
        }
    }

    fn taken(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(clock::wall());
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(before.and_then(|spec| spec.lease_transitions).unwrap_or(-1) + 1),
            ..LeaseSpec::default()
        }
    }

    fn renewed(spec: LeaseSpec) -> LeaseSpec {
        LeaseSpec { renew_time: Some(MicroTime(clock::wall())), lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(), ..spec }
    }
}

/// A request that hangs must not outlast the Lease.
async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let slow = || kube::Error::Service("the API server did not answer within 5 s".into());
    tokio::time::timeout(Duration::from_secs(5), request).await.unwrap_or_else(|_| Err(slow()))
}

/// An error and those below it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec { holder_identity: Some(holder.into()), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_seen_unchanged_for_as_long_as_it_lasts() {
        let cases = [
            (None, 0, Step::Create),
            (Some(held_by("me")), 0, Step::Renew),
            (Some(held_by("me")), 60, Step::Renew),
            (Some(held_by("")), 0, Step::Take),
            (Some(LeaseSpec::default()), 0, Step::Take),
            (Some(held_by("other")), 0, Step::Wait),
            (Some(held_by("other")), 14, Step::Wait),
            (Some(held_by("other")), 15, Step::Take),
            (Some(LeaseSpec { lease_duration_seconds: Some(60), ..held_by("other") }), 59, Step::Wait),
            (Some(LeaseSpec { lease_duration_seconds: None, ..held_by("other") }), 14, Step::Wait),
            (Some(LeaseSpec { lease_duration_seconds: Some(-5), ..held_by("other") }), 14, Step::Wait),
        ];
        for (lease, unchanged, step) in cases {
            assert_eq!(decide(lease.as_ref(), "me", Duration::from_secs(unchanged)), step, "{lease:?} {unchanged}");
        }
    }

    #[test]
    fn a_leader_that_slept_does_not_write() {
        let leadership = Leadership::default();
        let start = clock::monotonic();
        assert!(!leadership.holds(start));
        leadership.renewed(start);
        assert!(leadership.holds(start + Duration::from_secs(9)));
        // Stopped for eleven seconds: a successor may hold the Lease four seconds later, so writing ends before.
        assert!(!leadership.holds(start + Duration::from_secs(11)));
        leadership.renewed(start + Duration::from_secs(2));
        assert!(leadership.holds(start + Duration::from_secs(11)));
        assert_eq!(leadership.age(start + Duration::from_secs(11)), Duration::from_secs(11));
        leadership.lost();
        assert!(!leadership.holds(start));
        assert_eq!(leadership.age(start + Duration::from_secs(11)), Duration::ZERO);
    }
}
