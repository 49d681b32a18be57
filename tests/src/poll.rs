//! Waiting for a condition with a deadline. It never waits for a time to pass in the hope that something has happened.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};

/// How long to wait between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks again and again until `check` succeeds, and returns what it returned.
///
/// An error of `check` means "not yet"; the last one is part of the error when `deadline` has passed.
///
/// # Errors
/// `deadline` passed first.
pub async fn until<T, E: Display>(what: &str, deadline: Duration, mut check: impl AsyncFnMut() -> Result<T, E>) -> Result<T> {
    let mut last = String::from("it was never looked at");
    let looking = async {
        loop {
            match check().await {
                Ok(value) => return value,
                Err(not_yet) => last = format!("{not_yet:#}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    if let Ok(value) = tokio::time::timeout(deadline, looking).await {
        return Ok(value);
    }
    bail!("{what}: not within {deadline:?}; the last look said: {last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_first_success() {
        let mut looks = 0;
        let value = until("three looks", Duration::from_mins(1), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err("too early") }
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn says_what_it_saw_last() {
        let error = until::<(), _>("the impossible", Duration::from_millis(1), async || Err("still closed")).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the impossible") && text.contains("still closed"), "{text}");
    }
}
