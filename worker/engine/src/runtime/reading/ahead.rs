//! The bound on what has been read and is not processed yet, over all splits of a task. It counts bytes; it holds no data.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Shared by the readers of a task.
#[derive(Clone, Debug)]
pub(super) struct Ahead(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub(in crate::runtime) struct Held {
    ahead: Ahead,
    bytes: usize,
}

impl Ahead {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit, used: AtomicUsize::new(0), freed: Notify::new() }))
    }

    /// Waits until about `expected` bytes fit. Nothing is reserved: how much comes is only known afterwards, and a split without data must not take room
    /// from the others. So each split may be over the bound by what it reads at once.
    pub(super) async fn room(&self, expected: usize) {
        loop {
            let mut freed = pin!(self.0.freed.notified());
            freed.as_mut().enable();
            let used = self.0.used.load(Ordering::Acquire);
            if used == 0 || used + expected <= self.0.limit {
                return;
            }
            freed.await;
        }
    }

    /// Counts bytes that were read.
    pub(super) fn hold(&self, bytes: usize) -> Held {
        self.0.used.fetch_add(bytes, Ordering::AcqRel);
        Held { ahead: self.clone(), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ahead.0.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.ahead.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_there_is_room() {
        let ahead = Ahead::new(10);
        let first = ahead.hold(8);
        assert!(ahead.room(2).now_or_never().is_some());
        let mut waits = Box::pin(ahead.room(3));
        assert!((&mut waits).now_or_never().is_none());
        drop(first);
        assert!(waits.now_or_never().is_some());
        assert!(ahead.room(1000).now_or_never().is_some(), "what is larger than the bound passes alone");
    }
}
