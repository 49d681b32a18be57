//! The caches of one scope. They may be older than the API server; nothing is written through them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use millrace_crds::{Pipeline, Sink, Source};

use crate::apply::Owned;
use crate::names::{Key, PIPELINE, PROBE_KIND, PROBE_NAME};

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

    /// Waits until everything has been read once.
    pub(super) async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
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
