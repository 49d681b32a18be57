//! The real clock: the only place of the worker that reads it.
#![expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_engine::checkpoint::Clock;

/// System time and tokio's timer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

#[async_trait::async_trait]
impl Clock for SystemClock {
    fn now_millis(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
