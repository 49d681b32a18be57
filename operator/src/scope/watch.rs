//! Watches: they fill the caches and ring for whom a change concerns. They never write.

use futures::StreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use millrace_crds::report::TroublePart;
use millrace_crds::{Pipeline, Sink, Source};
use tokio::task::JoinSet;

use super::bells::Bell;
use super::stores::Stores;
use crate::apply::Owned;
use crate::lease::chain;
use crate::names::{Key, MANAGED_BY, MANAGER};
use crate::pipeline::refers_to;

/// Starts all watches.
pub(super) fn start(tasks: &mut JoinSet<()>, client: &Client, bell: &Bell) -> Stores {
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
        ring(TroublePart::Source, &Key::of(&source.metadata));
    });
    let sinks = follow(tasks, client, bell, sinks, watcher::Config::default(), move |sink: &Sink| {
        ring_users(TroublePart::Sink, &Key::of(&sink.metadata));
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
