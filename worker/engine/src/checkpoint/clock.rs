//! The clock and the sleeper that the checkpoint code is given.
//! No decision of the protocol depends on it: it dates records for people and paces retries.

use std::time::Duration;

use async_trait::async_trait;

/// Time as the caller provides it: real in production, scripted in tests.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since 1970-01-01 UTC. May jump or run backwards: it is never compared.
    fn now_millis(&self) -> i64;

    /// Returns after about `duration`.
    async fn sleep(&self, duration: Duration);
}
