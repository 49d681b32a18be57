//! Metrics in Prometheus' text format. Labels are of closed sets, never names of users' objects or texts of errors.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Label: which kind of object.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KindLabel {
    kind: &'static str,
}

/// Labels: which kind, in which of the namespaces that are served; empty for all.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ScopeLabels {
    kind: &'static str,
    scope: String,
}

/// Labels: which kind, and why.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ErrorLabels {
    kind: &'static str,
    reason: &'static str,
}

/// Labels: what was written, and how.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WriteLabels {
    verb: &'static str,
    kind: String,
}

/// Label: what became of a report.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabel {
    result: &'static str,
}

/// All metrics of the operator; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    reconciles: Family<KindLabel, Counter>,
    errors: Family<ErrorLabels, Counter>,
    durations: Family<KindLabel, Histogram, fn() -> Histogram>,
    objects: Family<ScopeLabels, Gauge>,
    triggers: Family<KindLabel, Counter>,
    writes: Family<WriteLabels, Counter>,
    reports: Family<ResultLabel, Counter>,
    polls: Family<ResultLabel, Counter>,
    waiting: Gauge,
    leading: Gauge,
    registry: std::sync::Arc<Registry>,
}

fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let (reconciles, errors, objects) = (Family::default(), Family::default(), Family::default());
        let (triggers, writes, reports, leading) = (Family::default(), Family::default(), Family::default(), Gauge::default());
        let (polls, waiting) = (Family::default(), Gauge::default());
        let durations = Family::new_with_constructor(durations as fn() -> Histogram);
        let mut registry = Registry::with_prefix("millrace_operator");
        registry.register("reconciles", "Reconciliations, by kind", Clone::clone(&reconciles));
        registry.register("reconcile_errors", "Reconciliations that failed, by kind and reason", Clone::clone(&errors));
        registry.register("reconcile_duration_seconds", "Time of a reconciliation, by kind", Clone::clone(&durations));
        registry.register("objects", "Objects served, by kind", Clone::clone(&objects));
        registry.register("triggers", "Changes that asked for a reconciliation, by kind; many can become one", Clone::clone(&triggers));
        registry.register("writes", "Requests that wrote to the API server, by verb and kind", Clone::clone(&writes));
        registry.register("reports", "Reports of workers, by what became of them", Clone::clone(&reports));
        registry.register("polls", "Requests of workers that wait, by what became of them", Clone::clone(&polls));
        registry.register("workers_waiting", "Workers that wait to hear of another assignment", Clone::clone(&waiting));
        registry.register("leading", "1 while this operator holds the Lease", Clone::clone(&leading));
        Self { reconciles, errors, durations, objects, triggers, writes, reports, polls, waiting, leading, registry: registry.into() }
    }

    /// A reconciliation has ended; `error` is the reason if it failed.
    pub(crate) fn reconciled(&self, kind: &'static str, took: Duration, error: Option<&'static str>) {
        self.reconciles.get_or_create(&KindLabel { kind }).inc();
        self.durations.get_or_create(&KindLabel { kind }).observe(took.as_secs_f64());
        if let Some(reason) = error {
            self.errors.get_or_create(&ErrorLabels { kind, reason }).inc();
        }
    }

    /// So many objects of a kind are served in a scope: a namespace, or empty for all.
    pub(crate) fn serves(&self, kind: &'static str, scope: &str, objects: usize) {
        let labels = ScopeLabels { kind, scope: scope.to_owned() };
        self.objects.get_or_create(&labels).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// A change asked for a reconciliation.
    pub(crate) fn triggered(&self, kind: &'static str) {
        self.triggers.get_or_create(&KindLabel { kind }).inc();
    }

    /// A request that writes was sent.
    pub(crate) fn wrote(&self, verb: &'static str, kind: &str) {
        self.writes.get_or_create(&WriteLabels { verb, kind: kind.to_owned() }).inc();
    }

    /// A report was answered.
    pub(crate) fn reported(&self, result: &'static str) {
        self.reports.get_or_create(&ResultLabel { result }).inc();
    }

    /// A poll was answered.
    pub(crate) fn polled(&self, result: &'static str) {
        self.polls.get_or_create(&ResultLabel { result }).inc();
    }

    /// A worker waits, until the value is dropped.
    pub(crate) fn listening(&self) -> Listening {
        self.waiting.inc();
        Listening(self.waiting.clone())
    }

    /// Whether this operator leads.
    pub(crate) fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// The text.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// One worker that waits.
pub(crate) struct Listening(Gauge);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::new();
        metrics.reconciled("Pipeline", Duration::from_millis(5), None);
        metrics.reconciled("Pipeline", Duration::from_millis(5), Some("Conflict"));
        metrics.leads(true);
        metrics.reported("accepted");
        metrics.polled("changed");
        let waiting = metrics.listening();
        drop(metrics.listening());
        let text = metrics.render().unwrap();
        for line in [
            "millrace_operator_reconciles_total{kind=\"Pipeline\"} 2",
            "millrace_operator_reconcile_errors_total{kind=\"Pipeline\",reason=\"Conflict\"} 1",
            "millrace_operator_reconcile_duration_seconds_count{kind=\"Pipeline\"} 2",
            "millrace_operator_leading 1",
            "millrace_operator_reports_total{result=\"accepted\"} 1",
            "millrace_operator_polls_total{result=\"changed\"} 1",
            "millrace_operator_workers_waiting 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        drop(waiting);
    }
}
