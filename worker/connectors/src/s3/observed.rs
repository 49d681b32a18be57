//! How far behind the queue is, as last seen. It asks nobody.

#![expect(clippy::disallowed_methods, reason = "the age of a message is told by the wall clock")]

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_engine::source::Lag;

use super::queue::{Depth, Message};

/// What was seen of the queue.
#[derive(Debug, Default)]
pub(super) struct Observed(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    depth: Option<Depth>,
    /// When the oldest message of the last batch was sent, milliseconds since 1970.
    oldest: Option<i64>,
    /// The last request to receive got nothing.
    dry: bool,
}

impl Observed {
    fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn received(&self, messages: &[Message]) {
        self.with(|seen| {
            seen.dry = messages.is_empty();
            if let Some(oldest) = messages.iter().filter_map(|message| message.sent).min() {
                seen.oldest = Some(oldest);
            }
        });
    }

    pub(super) fn counted(&self, depth: Depth) {
        self.with(|seen| seen.depth = Some(depth));
    }

    /// `held` messages are hidden by us; `backlog` objects are claimed and not read.
    pub(super) fn lag(&self, held: usize, backlog: usize) -> Lag {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.with(|seen| {
            let records = seen.depth.map(|depth| depth.waiting + depth.hidden.saturating_sub(held as u64) + backlog as u64);
            let age = seen.oldest.map(|oldest| u64::try_from(now.saturating_sub(oldest)).unwrap_or(0) / 1000);
            let seconds = records.and_then(|records| if records == 0 { Some(0) } else { age });
            Lag { records, seconds, idle: backlog == 0 && seen.dry }
        })
    }
}
