//! What a worker finds out at the edges beside its tasks: splits of its inputs, probes of its Sources and Sinks. Each in the background; reports take what is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_crds::report::{Distribution, EXCHANGE, InputSplits, ProbeReport, TroublePart};
use millrace_crds::source::{Probe, ProbeMode};
use millrace_engine::checkpoint::Clock;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::assemble::{Assembled, Store};
use crate::probe;

/// Time between two searches for splits.
const SEARCH_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two probes unless the object says otherwise.
const PROBE_INTERVAL_SECONDS: u32 = 300;
/// Time to the next probe after one that failed.
const PROBE_AGAIN: Duration = Duration::from_secs(10);

/// What has been found so far.
#[derive(Debug, Default)]
struct Found {
    splits: BTreeMap<String, Vec<String>>,
    probes: BTreeMap<(u8, String), ProbeReport>,
}

/// Searches and probes while it lives.
pub(super) struct Edges {
    found: Arc<Mutex<Found>>,
    /// Told when other splits are found.
    splits: Arc<Notify>,
    /// The partitions of the exchange, which are known.
    exchange: Option<InputSplits>,
    _background: JoinSet<()>,
}

impl Edges {
    /// Starts searching for splits and probing.
    pub(super) fn start(assembled: &Arc<Assembled>, store: &Store) -> Self {
        let found = Arc::new(Mutex::new(Found::default()));
        let splits = Arc::new(Notify::new());
        let mut background = JoinSet::new();
        background.spawn(search(Arc::clone(assembled), store.clone(), Arc::clone(&found), Arc::clone(&splits)));
        for (index, input) in assembled.job.inputs.iter().enumerate() {
            if let Some(interval) = interval(input.source.probe.as_ref()) {
                let source = Arc::clone(&assembled.inputs[index].source);
                let subject = Subject { kind: TroublePart::Source, name: input.source_name.clone(), interval };
                let again = move || {
                    let source = Arc::clone(&source);
                    async move { source.probe().await }
                };
                background.spawn(subject.probe(again, Arc::clone(&found), Arc::clone(&store.clock)));
            }
        }
        for (name, spec) in &assembled.job.sinks {
            if let Some(interval) = interval(spec.probe.as_ref()) {
                let sink = Arc::clone(&assembled.sinks[name]);
                let subject = Subject { kind: TroublePart::Sink, name: name.clone(), interval };
                let again = move || {
                    let sink = Arc::clone(&sink);
                    async move { sink.probe().await }
                };
                background.spawn(subject.probe(again, Arc::clone(&found), Arc::clone(&store.clock)));
            }
        }
        let partitions: Vec<String> = assembled.exchange_tasks().map(|task| task.split).collect();
        let exchange = (!partitions.is_empty()).then(|| InputSplits { input: EXCHANGE.to_owned(), splits: partitions });
        if exchange.is_some() {
            splits.notify_one();
        }
        Self { found, splits, exchange, _background: background }
    }

    /// Resolves when other splits have been found than before, also if that was before the call.
    pub(super) async fn other_splits(&self) {
        self.splits.notified().await;
    }

    /// What is known now.
    pub(super) fn known(&self) -> (Vec<InputSplits>, Vec<ProbeReport>) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let splits = found.splits.iter().map(|(input, splits)| InputSplits { input: input.clone(), splits: splits.clone() });
        (splits.chain(self.exchange.clone()).collect(), found.probes.values().cloned().collect())
    }
}

fn interval(probe: Option<&Probe>) -> Option<Duration> {
    let probe = probe.cloned().unwrap_or_default();
    let seconds = probe.interval_seconds.unwrap_or(PROBE_INTERVAL_SECONDS);
    (probe.mode == ProbeMode::Full).then(|| Duration::from_secs(seconds.into()))
}

async fn search(assembled: Arc<Assembled>, store: Store, found: Arc<Mutex<Found>>, changed: Arc<Notify>) {
    let mut tick = tokio::time::interval(SEARCH_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // A task that reads everything searches by itself.
        for input in assembled.inputs.iter().filter(|input| assembled.distribution(input) != Distribution::Whole) {
            match assembled.splits(input, &store).await {
                Ok(splits) => {
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    if found.splits.get(&input.name) != Some(&splits) {
                        found.splits.insert(input.name.clone(), splits);
                        changed.notify_one();
                    }
                }
                // The probe tells users; what was found before stays.
                Err(error) => {
                    tracing::warn!(input = %input.name, reason = ?error.reason, error = %error.message, "cannot search for splits")
                }
            }
        }
    }
}

/// What is probed, how often.
struct Subject {
    kind: TroublePart,
    name: String,
    interval: Duration,
}

impl Subject {
    async fn probe<F, Fut>(self, again: F, found: Arc<Mutex<Found>>, clock: Arc<dyn Clock>)
    where
        F: Fn() -> Fut,
        Fut: Future<Output = millrace_crds::report::ProbeResult>,
    {
        loop {
            let result = probe::within(again()).await;
            let pause = match &result {
                millrace_crds::report::ProbeResult::Failed { .. } => PROBE_AGAIN.min(self.interval),
                _ => self.interval,
            };
            let report = ProbeReport { kind: self.kind, name: self.name.clone(), result, at_millis: clock.now_millis() };
            found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .probes
                .insert((u8::from(self.kind == TroublePart::Sink), self.name.clone()), report);
            tokio::time::sleep(pause).await;
        }
    }
}
