//! A scope: one namespace, or all. Watches what is there, tells whom a change concerns, and runs the controllers. It decides nothing about any object.
//!
//! ```text
//!  Pipeline ──▶ itself, the Sources and Sinks that it refers to
//!  Source, Sink ──▶ itself, the Pipelines that refer to it
//!  what we own ──▶ the Pipeline, Source or Sink that its labels name
//! ```

mod bells;
mod control;
mod stores;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::mpsc::{self, UnboundedReceiver};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};
use millrace_crds::{Pipeline, Sink, Source};
use tokio::task::JoinSet;

pub(crate) use bells::Bells;
pub(crate) use stores::Stores;

use self::bells::Bell;
use crate::apply::Writer;
use crate::events::Events;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::names::Key;
use crate::report::Registry;
use crate::settings::Settings;
use crate::{pipeline, probe};

/// Between two clean-ups of what is remembered.
const SWEEP: Duration = Duration::from_secs(30);

/// What every reconciliation is given.
pub(crate) struct Context {
    /// Settings of the installation.
    pub(crate) settings: Settings,
    /// For reads that the caches cannot answer.
    pub(crate) client: Client,
    /// The caches.
    pub(crate) stores: Stores,
    /// The only way to write.
    pub(crate) writer: Writer,
    /// What workers report.
    pub(crate) registry: Arc<Registry>,
    /// What was written last.
    pub(crate) freshness: pipeline::freshness::Freshness,
    /// When statuses were written last.
    pub(crate) pace: pipeline::freshness::Pace,
    /// When what was probed.
    pub(crate) probes: probe::Memory,
    /// Tells users of transitions.
    pub(crate) events: Events,
    /// Counts.
    pub(crate) metrics: Metrics,
    /// Whether this operator leads.
    pub(crate) leadership: Leadership,
}

/// What is shared by all scopes.
#[derive(Clone)]
pub(crate) struct Shared {
    /// See [`Context`].
    pub(crate) settings: Settings,
    /// See [`Context`].
    pub(crate) client: Client,
    /// See [`Context`].
    pub(crate) registry: Arc<Registry>,
    /// See [`Context`].
    pub(crate) metrics: Metrics,
    /// See [`Context`].
    pub(crate) leadership: Leadership,
}

/// A scope that has not started.
pub(crate) struct Scope {
    bell: Bell,
    pipelines: UnboundedReceiver<ObjectRef<Pipeline>>,
    sources: UnboundedReceiver<ObjectRef<Source>>,
    sinks: UnboundedReceiver<ObjectRef<Sink>>,
}

/// A scope for each of `namespaces`, and the bells of all of them.
pub(crate) fn open(namespaces: Vec<Option<String>>, metrics: &Metrics) -> (Vec<Scope>, Bells) {
    let scopes: Vec<_> = namespaces
        .into_iter()
        .map(|namespace| {
            let (pipelines, heard_pipelines) = mpsc::unbounded();
            let (sources, heard_sources) = mpsc::unbounded();
            let (sinks, heard_sinks) = mpsc::unbounded();
            let bell = Bell { namespace, pipelines, sources, sinks, metrics: metrics.clone() };
            Scope { bell, pipelines: heard_pipelines, sources: heard_sources, sinks: heard_sinks }
        })
        .collect();
    let bells = Bells::new(scopes.iter().map(|scope| scope.bell.clone()).collect());
    (scopes, bells)
}

impl Scope {
    /// Watches and reconciles until dropped. `ready` is called once everything has been read.
    pub(crate) async fn run(self, shared: Shared, ready: impl FnOnce()) {
        let mut tasks = JoinSet::new();
        let stores = watch::start(&mut tasks, &shared.client, &self.bell);
        let context = Arc::new(Context {
            writer: Writer::new(shared.client.clone(), shared.leadership.clone(), shared.metrics.clone()),
            events: Events::new(shared.client.clone(), &shared.settings.pod_name),
            settings: shared.settings,
            client: shared.client,
            stores,
            registry: shared.registry,
            freshness: pipeline::freshness::Freshness::default(),
            pace: pipeline::freshness::Pace::default(),
            probes: probe::Memory::default(),
            metrics: shared.metrics,
            leadership: shared.leadership,
        });
        if context.stores.ready().await.is_err() {
            tracing::error!("a watch has ended");
            return;
        }
        ready();
        tracing::info!(
            namespace = self.bell.namespace.as_deref().unwrap_or("(all)"),
            pipelines = context.stores.pipelines.len(),
            "everything is watched"
        );
        tasks.spawn(control::run(
            "Pipeline",
            context.stores.pipelines.clone(),
            self.pipelines,
            Arc::clone(&context),
            |o, c| pipeline::reconcile(o, c).boxed(),
            pipeline::Error::label,
        ));
        tasks.spawn(control::run(
            "Source",
            context.stores.sources.clone(),
            self.sources,
            Arc::clone(&context),
            |o, c| probe::reconcile(o, c).boxed(),
            probe::Error::label,
        ));
        tasks.spawn(control::run(
            "Sink",
            context.stores.sinks.clone(),
            self.sinks,
            Arc::clone(&context),
            |o, c| probe::reconcile(o, c).boxed(),
            probe::Error::label,
        ));
        tasks.spawn(sweep(context, self.bell.namespace.clone()));
        // None of them ends by itself: if one does, the process starts anew.
        drop(tasks.join_next().await);
        tracing::error!("a watch or controller has ended");
    }
}

/// Forgets what is gone, and counts what is there.
async fn sweep(context: Arc<Context>, namespace: Option<String>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let stores = &context.stores;
        let ours = |key: &Key| namespace.as_ref().is_none_or(|own| *own == key.namespace);
        context.registry.retain(|key| !ours(key) || stores.pipelines.get(&stores.key(key)).is_some());
        context.pace.retain(|key| stores.pipelines.get(&stores.key(key)).is_some());
        let uids: HashSet<String> =
            stores.sources.state().iter().filter_map(|o| o.uid()).chain(stores.sinks.state().iter().filter_map(|o| o.uid())).collect();
        context.probes.retain(|uid| uids.contains(uid));
        let scope = namespace.as_deref().unwrap_or_default();
        context.metrics.serves("Pipeline", scope, stores.pipelines.len());
        context.metrics.serves("Source", scope, stores.sources.len());
        context.metrics.serves("Sink", scope, stores.sinks.len());
    }
}

#[cfg(test)]
mod tests {
    use millrace_crds::report::TroublePart;

    use super::*;

    #[test]
    fn a_bell_rings_in_its_own_namespace_only() {
        let (mut scopes, bells) = open(vec![Some("a".into()), Some("b".into())], &Metrics::new());
        bells.pipeline(&Key::new("b", "edge"));
        bells.endpoint(TroublePart::Sink, &Key::new("a", "search"));
        bells.pipeline(&Key::new("elsewhere", "edge"));
        assert!(scopes[0].pipelines.try_recv().is_err());
        assert_eq!(scopes[1].pipelines.try_recv().unwrap(), ObjectRef::new("edge").within("b"));
        assert!(scopes[1].pipelines.try_recv().is_err());
        assert_eq!(scopes[0].sinks.try_recv().unwrap(), ObjectRef::new("search").within("a"));
    }
}
