//! What was written when: a cache that has not seen yet what we wrote last must not be decided from, and words alone need no write each time.
//! It holds no object, only versions and times.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use tokio::time::Instant;

use crate::names::Key;

/// The version of each Deployment as we wrote it last.
#[derive(Debug, Default)]
pub(crate) struct Freshness(Mutex<HashMap<Key, u64>>);

impl Freshness {
    /// A write was answered with this version.
    pub(crate) fn wrote(&self, key: &Key, version: Option<&str>) {
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            self.versions().insert(key.clone(), version);
        }
    }

    /// Whether what was read is older than what we wrote. An object that is gone is not old.
    pub(crate) fn is_stale(&self, key: &Key, read: Option<&Deployment>) -> bool {
        let mut versions = self.versions();
        let Some(wrote) = versions.get(key).copied() else { return false };
        let read = read.and_then(|deployment| deployment.metadata.resource_version.as_deref()?.parse().ok());
        let stale = read.is_some_and(|read: u64| read < wrote);
        if !stale {
            versions.remove(key);
        }
        stale
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, HashMap<Key, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time between two writes that change nothing but words.
const PACE: Duration = Duration::from_secs(30);

/// When the status of each Pipeline was written last.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<Key, Instant>>);

impl Pace {
    /// A status was written.
    pub(crate) fn wrote(&self, key: &Key, now: Instant) {
        self.times().insert(key.clone(), now);
    }

    /// Whether the last write was long enough ago for one that changes nothing but words.
    pub(crate) fn allows_words(&self, key: &Key, now: Instant) -> bool {
        self.times().get(key).is_none_or(|wrote| now - *wrote >= PACE)
    }

    /// Forgets Pipelines that `exist` does not hold for.
    pub(crate) fn retain(&self, exist: impl Fn(&Key) -> bool) {
        self.times().retain(|key, _| exist(key));
    }

    fn times(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_older_than_our_last_write_is_stale() {
        let (freshness, key) = (Freshness::default(), Key::new("ns", "edge"));
        let at = |version: &str| {
            let mut deployment = Deployment::default();
            deployment.metadata.resource_version = Some(version.into());
            deployment
        };
        assert!(!freshness.is_stale(&key, Some(&at("5"))));
        freshness.wrote(&key, Some("10"));
        assert!(freshness.is_stale(&key, Some(&at("9"))));
        assert!(freshness.is_stale(&key, Some(&at("9"))), "until it is seen");
        assert!(!freshness.is_stale(&key, Some(&at("10"))));
        assert!(!freshness.is_stale(&key, Some(&at("9"))), "once seen, it is forgotten");
        freshness.wrote(&key, Some("20"));
        assert!(!freshness.is_stale(&key, None), "deleted since");
        freshness.wrote(&key, Some("no number"));
        assert!(!freshness.is_stale(&key, Some(&at("1"))));
    }

    #[test]
    fn words_are_written_twice_a_minute_at_most() {
        let (pace, key, now) = (Pace::default(), Key::new("ns", "edge"), crate::clock::monotonic());
        assert!(pace.allows_words(&key, now));
        pace.wrote(&key, now);
        assert!(!pace.allows_words(&key, now + Duration::from_secs(29)));
        assert!(pace.allows_words(&key, now + PACE));
        pace.retain(|_| false);
        assert!(pace.allows_words(&key, now));
    }
}
