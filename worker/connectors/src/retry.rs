//! Retrying at the edge: transient errors again and again with back-off, told to [`Health`]; others at once to the caller.

use std::future::Future;
use std::time::Duration;

use millrace_engine::connector::{Backoff, ConnectorError, Health};

/// First delay between attempts.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay between attempts.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Runs `attempt` until it succeeds or fails for good. Every failed attempt is told to `health`, and so is the success.
///
/// Never gives up on a transient error: the caller is cancelled when its task is closed. Cancel-safe if `attempt` is.
///
/// # Errors
/// The first error that is not transient.
pub async fn until_done<T, F, Fut>(health: &Health, mut attempt: F) -> Result<T, ConnectorError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, ConnectorError>>,
{
    let mut backoff = Backoff::new(FIRST_DELAY, MAX_DELAY);
    loop {
        match attempt().await {
            Ok(value) => {
                health.clear();
                return Ok(value);
            }
            Err(error) if error.is_transient() => {
                health.trouble(error.reason, error.message.clone());
                tracing::warn!(reason = ?error.reason, error = %error.message, "attempt failed, trying again");
                tokio::time::sleep(backoff.delay(rand::random())).await;
            }
            Err(error) => {
                health.trouble(error.reason, error.message.clone());
                return Err(error);
            }
        }
    }
}
