//! A scope: one namespace, or all. Watches what is there, tells whom a change concerns, and runs the controllers. It decides nothing about any object.
//!
//! ```text
//!  Pipeline ──▶ itself, the Sources and Sinks that it refers to
//!  Source, Sink ──▶ itself, the Pipelines that refer to it
//!  what we own ──▶ the Pipeline, Source or Sink that its labels name
//! ```

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, applier, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use millrace_crds::report::TroublePart;
use millrace_crds::{Pipeline, Sink, Source};
use tokio::task::JoinSet;

use crate::apply::{Owned, Writer};
use crate::events::Events;
use crate::lease::{Leadership, chain};
use crate::metrics::Metrics;
use crate::names::{Key, MANAGED_BY, MANAGER, PIPELINE, PROBE_KIND, PROBE_NAME};
use crate::pipeline::refers_to;
use crate::report::Registry;
use crate::settings::Settings;
use crate::{clock, pipeline, probe};

/// Reconciliations at a time, for each kind.
const CONCURRENCY: u16 = 16;
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

/// Caches of one scope.
pub(crate) struct Stores {
    pub(crate) pipelines: Store<Pipeline>,
    pub(crate) sources: Store<Source>,
    pub(crate) sinks: Store<Sink>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) pods: Store<Pod>,
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) services: Store<Service>,
    pub(crate) service_accounts: Store<ServiceAccount>,
    pub(crate) pdbs: Store<PodDisruptionBudget>,
    pub(crate) network_policies: Store<NetworkPolicy>,
}

impl Stores {
    /// The key of a cache.
    #[expect(clippy::unused_self, reason = "so that the kind follows from the cache it is used with")]
    pub(crate) fn key<K: Resource<DynamicType = ()>>(&self, key: &Key) -> ObjectRef<K> {
        ObjectRef::new(&key.name).within(&key.namespace)
    }

    /// Pods of a Pipeline, workers and checks.
    pub(crate) fn pods_of(&self, pipeline: &Key) -> Vec<Arc<Pod>> {
        of_pipeline(&self.pods, pipeline)
    }

    /// ConfigMaps of a Pipeline.
    pub(crate) fn config_maps_of(&self, pipeline: &Key) -> Vec<Arc<ConfigMap>> {
        of_pipeline(&self.config_maps, pipeline)
    }

    /// What belongs to probes of a Source or Sink.
    #[expect(clippy::unused_self, reason = "so that it reads as a question to the caches")]
    pub(crate) fn of_probe<K: Owned + 'static>(&self, store: &Store<K>, kind: &str, key: &Key) -> Vec<Arc<K>> {
        store.state_filter(|object| {
            let labels = object.labels();
            object.meta().namespace.as_deref() == Some(&key.namespace)
                && labels.get(PROBE_KIND).map(String::as_str) == Some(kind)
                && labels.get(PROBE_NAME) == Some(&key.name)
                && object.meta().deletion_timestamp.is_none()
        })
    }

    async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.pipelines.wait_until_ready().await?;
        self.sources.wait_until_ready().await?;
        self.sinks.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.pdbs.wait_until_ready().await?;
        self.network_policies.wait_until_ready().await
    }
}

fn of_pipeline<K: Owned + 'static>(store: &Store<K>, pipeline: &Key) -> Vec<Arc<K>> {
    store.state_filter(|object| {
        object.meta().namespace.as_deref() == Some(&pipeline.namespace) && object.labels().get(PIPELINE) == Some(&pipeline.name)
    })
}

/// Asks for reconciliations in one scope.
#[derive(Clone)]
struct Bell {
    namespace: Option<String>,
    pipelines: UnboundedSender<ObjectRef<Pipeline>>,
    sources: UnboundedSender<ObjectRef<Source>>,
    sinks: UnboundedSender<ObjectRef<Sink>>,
    metrics: Metrics,
}

impl Bell {
    fn pipeline(&self, key: &Key) {
        self.ring("Pipeline", &self.pipelines, key);
    }

    fn endpoint(&self, part: TroublePart, key: &Key) {
        match part {
            TroublePart::Source => self.ring("Source", &self.sources, key),
            TroublePart::Sink => self.ring("Sink", &self.sinks, key),
            TroublePart::State | TroublePart::Task => {}
        }
    }

    fn ring<K: Resource<DynamicType = ()>>(&self, kind: &'static str, bell: &UnboundedSender<ObjectRef<K>>, key: &Key) {
        self.metrics.triggered(kind);
        // Without a controller there is nobody to ask: the process is ending.
        let _ending = bell.unbounded_send(ObjectRef::new(&key.name).within(&key.namespace));
    }

    /// Rings for the owner that labels name.
    fn owner_of(&self, object: &impl Resource) {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let label = |name: &str| object.meta().labels.as_ref().and_then(|labels| labels.get(name));
        if let Some(pipeline) = label(PIPELINE) {
            self.pipeline(&Key::new(&namespace, pipeline));
        }
        if let (Some(kind), Some(name)) = (label(PROBE_KIND), label(PROBE_NAME)) {
            let part = if kind == "Sink" { TroublePart::Sink } else { TroublePart::Source };
            self.endpoint(part, &Key::new(&namespace, name));
        }
    }
}

/// Asks for reconciliations in the scope that an object belongs to.
#[derive(Clone, Default)]
pub(crate) struct Bells(Arc<Vec<Bell>>);

impl Bells {
    /// A Pipeline is to be looked at.
    pub(crate) fn pipeline(&self, key: &Key) {
        self.of(&key.namespace).for_each(|bell| bell.pipeline(key));
    }

    /// A Source or Sink is to be looked at.
    pub(crate) fn endpoint(&self, part: TroublePart, key: &Key) {
        self.of(&key.namespace).for_each(|bell| bell.endpoint(part, key));
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Bell> {
        self.0.iter().filter(move |bell| bell.namespace.as_deref().is_none_or(|own| own == namespace))
    }
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
    let bells = Bells(Arc::new(scopes.iter().map(|scope| scope.bell.clone()).collect()));
    (scopes, bells)
}

impl Scope {
    /// Watches and reconciles until dropped. `ready` is called once everything has been read.
    pub(crate) async fn run(self, shared: Shared, ready: impl FnOnce()) {
        let mut tasks = JoinSet::new();
        let stores = watch(&mut tasks, &shared.client, &self.bell);
        let context = Arc::new(Context {
            writer: Writer::new(shared.client.clone(), shared.leadership.clone(), shared.metrics.clone()),
            events: Events::new(shared.client.clone(), &shared.settings.pod_name),
            settings: shared.settings,
            client: shared.client,
            stores,
            registry: shared.registry,
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
        tasks.spawn(control(
            "Pipeline",
            context.stores.pipelines.clone(),
            self.pipelines,
            Arc::clone(&context),
            |o, c| pipeline::reconcile(o, c).boxed(),
            pipeline::Error::label,
        ));
        tasks.spawn(control(
            "Source",
            context.stores.sources.clone(),
            self.sources,
            Arc::clone(&context),
            |o, c| probe::reconcile(o, c).boxed(),
            probe::Error::label,
        ));
        tasks.spawn(control(
            "Sink",
            context.stores.sinks.clone(),
            self.sinks,
            Arc::clone(&context),
            |o, c| probe::reconcile(o, c).boxed(),
            probe::Error::label,
        ));
        tasks.spawn(sweep(context, self.bell.namespace.clone()));
        // None of them ends by itself.
        while tasks.join_next().await.is_some() {}
    }
}

/// Starts all watches.
fn watch(tasks: &mut JoinSet<()>, client: &Client, bell: &Bell) -> Stores {
    let (pipelines, sources, sinks) = (reflector::store(), reflector::store(), reflector::store());
    let concerned = bell.clone();
    let users = pipelines.0.clone();
    let ring_users = move |part: TroublePart, key: &Key| {
        concerned.endpoint(part, key);
        for pipeline in users.state_filter(|pipeline| refers_to(pipeline).any(|(of, referred)| of == part && referred == *key)) {
            concerned.pipeline(&Key::of(&pipeline.metadata));
        }
    };
    let ring = bell.clone();
    let pipelines = follow(tasks, client, bell, pipelines, watcher::Config::default(), move |pipeline: &Pipeline| {
        ring.pipeline(&Key::of(&pipeline.metadata));
        refers_to(pipeline).for_each(|(part, key)| ring.endpoint(part, &key));
    });
    let ring = ring_users.clone();
    let sources = follow(tasks, client, bell, sources, watcher::Config::default(), move |source: &Source| {
        ring(TroublePart::Source, &Key::of(&source.metadata))
    });
    let sinks = follow(tasks, client, bell, sinks, watcher::Config::default(), move |sink: &Sink| {
        ring_users(TroublePart::Sink, &Key::of(&sink.metadata))
    });
    Stores {
        pipelines,
        sources,
        sinks,
        deployments: follow_owned(tasks, client, bell),
        pods: follow_owned(tasks, client, bell),
        config_maps: follow_owned(tasks, client, bell),
        services: follow_owned(tasks, client, bell),
        service_accounts: follow_owned(tasks, client, bell),
        pdbs: follow_owned(tasks, client, bell),
        network_policies: follow_owned(tasks, client, bell),
    }
}

/// Watches what we own of a kind.
fn follow_owned<K: Owned + 'static>(tasks: &mut JoinSet<()>, client: &Client, bell: &Bell) -> Store<K> {
    let ring = bell.clone();
    let config = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    follow(tasks, client, bell, reflector::store(), config, move |object: &K| ring.owner_of(object))
}

/// Watches a kind into a cache; `touched` hears of each object that came, changed or went.
fn follow<K: Owned + 'static>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    bell: &Bell,
    (store, writer): (Store<K>, reflector::store::Writer<K>),
    config: watcher::Config,
    touched: impl Fn(&K) + Send + 'static,
) -> Store<K> {
    let api = match &bell.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let stream = watcher(api, config)
        .modify(|object: &mut K| object.meta_mut().managed_fields = None)
        .default_backoff()
        .reflect(writer)
        .touched_objects();
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(object) => touched(&object),
                Err(error) => tracing::warn!(kind = %K::kind(&()), error = %chain(&error), "a watch was interrupted; it goes on"),
            }
        }
    });
    store
}

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
enum Failed<E: std::error::Error + 'static> {
    #[error(transparent)]
    Error(E),
    #[error("a defect: the reconciliation panicked; see the log")]
    Panicked,
}

/// Reconciles one object.
type Reconcile<K, E> = fn(Arc<K>, Arc<Context>) -> futures::future::BoxFuture<'static, Result<Action, E>>;

/// Reconciles objects of one kind, whenever asked, never the same one twice at a time.
async fn control<K, E>(
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
        delay.min(Duration::from_secs(60))
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Forgets what is gone, and counts what is there.
async fn sweep(context: Arc<Context>, namespace: Option<String>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let stores = &context.stores;
        let ours = |key: &Key| namespace.as_ref().is_none_or(|own| *own == key.namespace);
        context.registry.retain(|key| !ours(key) || stores.pipelines.get(&stores.key(key)).is_some());
        let uids: std::collections::HashSet<String> =
            stores.sources.state().iter().filter_map(|o| o.uid()).chain(stores.sinks.state().iter().filter_map(|o| o.uid())).collect();
        context.probes.retain(|uid| uids.contains(uid));
        if namespace.is_none() {
            context.metrics.serves("Pipeline", stores.pipelines.len());
            context.metrics.serves("Source", stores.sources.len());
            context.metrics.serves("Sink", stores.sinks.len());
        }
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
