//! The two clocks: the only place that reads them. Decisions are given a time, they never ask for one.

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// The time of day, for what is written into objects.
pub(crate) fn wall() -> Timestamp {
    Timestamp::now()
}

/// A clock that nobody sets, for how long something has lasted.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
