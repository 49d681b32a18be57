//! The controller of one kind: runs reconciliations that were asked for, and repeats those that failed, later and later. It knows nothing of the kind.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::applier;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store};

use super::Context;
use crate::apply::Owned;
use crate::clock;
use crate::lease::chain;
use crate::names::Key;

/// Reconciliations at a time, for each kind.
const CONCURRENCY: u16 = 16;

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
enum Failed<E: std::error::Error + 'static> {
    #[error(transparent)]
    Error(E),
    #[error("a defect: the reconciliation panicked; see the log")]
    Panicked,
}

/// One reconciliation.
type Reconcile<K, E> = fn(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, E>>;

/// Reconciles objects of one kind, whenever asked, never the same one twice at a time.
pub(super) async fn run<K, E>(
    kind: &'static str,
    store: Store<K>,
    asked: UnboundedReceiver<ObjectRef<K>>,
    context: Arc<Context>,
    reconcile: Reconcile<K, E>,
    label: fn(&E) -> &'static str,
) where
    K: Owned + 'static,
    E: std::error::Error + Send + 'static,
{
    let failures = Arc::new(Failures::default());
    let reconciler = {
        let failures = Arc::clone(&failures);
        move |object: Arc<K>, context: Arc<Context>| {
            let (failures, key) = (Arc::clone(&failures), Key::of(object.meta()));
            async move {
                let started = clock::monotonic();
                // One object that we cannot handle must not stop the others.
                let result = match AssertUnwindSafe(reconcile(object, Arc::clone(&context))).catch_unwind().await {
                    Ok(result) => result.map_err(Failed::Error),
                    Err(_logged) => Err(Failed::Panicked),
                };
                let reason = result.as_ref().err().map(|failed| match failed {
                    Failed::Error(error) => label(error),
                    Failed::Panicked => "Panicked",
                });
                context.metrics.reconciled(kind, clock::monotonic() - started, reason);
                if result.is_ok() {
                    failures.forget(&key);
                }
                result
            }
            .boxed()
        }
    };
    let policy = move |object: Arc<K>, error: &Failed<E>, _: Arc<Context>| {
        let delay = failures.delay(Key::of(object.meta()));
        tracing::warn!(kind, namespace = object.namespace(), name = %object.name_any(), error = %chain(error), again_in = ?delay, "not reconciled");
        Action::requeue(delay)
    };
    let config = controller::Config::default().concurrency(CONCURRENCY);
    let asked = asked.map(Ok::<_, std::convert::Infallible>);
    applier(reconciler, policy, context, store, asked, config).for_each(|_told_already| std::future::ready(())).await;
}

/// How often each object has failed in a row.
#[derive(Debug, Default)]
struct Failures(Mutex<HashMap<Key, u32>>);

impl Failures {
    /// Doubles from half a second to a minute.
    fn delay(&self, key: Key) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.entry(key).or_default();
        let delay = Duration::from_millis(500) * 2_u32.pow((*failures).min(7));
        *failures += 1;
        delay.min(Duration::from_mins(1))
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_back_off_and_are_forgotten() {
        let failures = Failures::default();
        let key = Key::new("ns", "edge");
        let delays: Vec<_> = (0..10).map(|_| failures.delay(key.clone()).as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
        failures.forget(&key);
        assert_eq!(failures.delay(key).as_millis(), 500);
    }
}
