//! The only module that writes objects: by server-side apply, only what differs, only while leading. It never touches an object that is not ours.
//!
//! An object is ours if its controller reference has the UID of the owner. Before the first write of a name that the caches do not know, the API
//! server itself is asked; after that every write carries the UID it is meant for, so a foreign object that has taken the name is refused by the server.

mod compare;
mod error;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use error::Error;

use crate::clock;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::names::{APPLIED, DRAINED, MANAGER, Owner, short_hash};

/// A kind that Pipelines, Sources or Sinks own.
pub(crate) trait Owned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync
{
}
impl<K> Owned for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync
{
}

/// Writes objects.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ownership {
    /// There is none.
    Absent,
    /// The owner's.
    Ours,
    /// Somebody else's; it is left alone.
    Foreign,
}

fn ownership(existing: Option<&ObjectMeta>, owner: &Owner) -> Ownership {
    match existing {
        None => Ownership::Absent,
        Some(meta) if owner.owns(meta) => Ownership::Ours,
        Some(_) => Ownership::Foreign,
    }
}

impl Writer {
    /// Writes only while `leadership` holds.
    pub(crate) fn new(client: Client, leadership: Leadership, metrics: Metrics) -> Self {
        Self { client, leadership, metrics }
    }

    /// Makes an object as `desired` says, unless it already is. `known` is what the caches hold under its name. Returns the version that was written, if one was.
    pub(crate) async fn apply<K: Owned>(&self, owner: &Owner, desired: &K, known: Option<&K>) -> Result<Option<String>, Error> {
        let target = Target::of(desired)?;
        let existing = self.existing(&target, known).await?;
        let desired_json = to_json(desired, &target)?;
        let hash = short_hash(desired_json.to_string().as_bytes());
        match ownership(existing.as_ref().map(Resource::meta), owner) {
            Ownership::Foreign => return Err(target.conflict()),
            Ownership::Ours if existing.as_ref().is_some_and(|existing| is_applied(existing, &desired_json, &hash)) => return Ok(None),
            Ownership::Ours | Ownership::Absent => {}
        }
        let mut patch = desired_json;
        patch["metadata"]["annotations"][APPLIED] = json!(hash);
        if let Some(uid) = existing.as_ref().and_then(|existing| existing.meta().uid.clone()) {
            patch["metadata"]["uid"] = json!(uid);
        }
        self.send_patch::<K>(&target, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await
    }

    /// Sets nothing but the number of workers, and whether there are none because everything was finished. Returns as [`Writer::apply`].
    pub(crate) async fn scale(
        &self,
        owner: &Owner,
        deployment: &Deployment,
        replicas: i32,
        drained: bool,
    ) -> Result<Option<String>, Error> {
        let target = Target::of(deployment)?;
        if ownership(Some(&deployment.metadata), owner) != Ownership::Ours {
            return Err(target.conflict());
        }
        let drained = drained.to_string();
        let says = deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DRAINED));
        if deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(replicas) && says == Some(&drained) {
            return Ok(None);
        }
        let metadata = json!({"uid": deployment.metadata.uid, "annotations": {DRAINED: drained}});
        let patch = json!({"metadata": metadata, "spec": {"replicas": replicas}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.send_patch::<Deployment>(&target, &params, &Patch::Merge(patch)).await
    }

    /// Creates a one-shot pod. That it is there already is as good.
    #[expect(clippy::disallowed_methods, reason = "this is the module that writes")]
    pub(crate) async fn create_pod(&self, owner: &Owner, pod: &Pod) -> Result<(), Error> {
        let target = Target::of(pod)?;
        self.may_write()?;
        self.metrics.wrote("create", &target.kind);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let api: Api<Pod> = self.api(&target);
        match api.create(&params, pod).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let existing = api.get_opt(&target.name).await.map_err(|source| target.failed("read", source))?;
                if ownership(existing.as_ref().map(Resource::meta), owner) == Ownership::Foreign { Err(target.conflict()) } else { Ok(()) }
            }
            Err(source) => Err(target.failed("create", source)),
        }
    }

    /// Deletes an object that is ours. That it is gone already is as good.
    #[expect(clippy::disallowed_methods, reason = "this is the module that writes")]
    pub(crate) async fn delete<K: Owned>(&self, owner: &Owner, object: &K) -> Result<(), Error> {
        let target = Target::of(object)?;
        if ownership(Some(object.meta()), owner) != Ownership::Ours {
            return Err(target.conflict());
        }
        self.may_write()?;
        self.metrics.wrote("delete", &target.kind);
        let preconditions = Preconditions { uid: object.meta().uid.clone(), resource_version: None };
        match self.api::<K>(&target).delete(&target.name, &DeleteParams::background().preconditions(preconditions)).await {
            Ok(_) => Ok(()),
            // 404: gone. 409: another object has taken the name since; ours is gone.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(target.failed("delete", source)),
        }
    }

    /// Writes the status of a Pipeline, Source or Sink. That it is gone is as good.
    pub(crate) async fn status<K: Owned, S: Serialize>(&self, object: &K, status: &S) -> Result<(), Error> {
        let target = Target::of(object)?;
        self.may_write()?;
        self.metrics.wrote("status", &target.kind);
        let patch = Patch::Apply(json!({
            "apiVersion": K::api_version(&()),
            "kind": target.kind,
            "metadata": {"name": target.name, "uid": object.meta().uid},
            "status": status,
        }));
        match self.api::<K>(&target).patch_status(&target.name, &PatchParams::apply(MANAGER).force(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404) => Ok(()),
            Err(source) => Err(target.failed("write the status of", source)),
        }
    }

    /// The object under the name: from the caches, or from the API server if they do not know it.
    async fn existing<K: Owned>(&self, target: &Target, known: Option<&K>) -> Result<Option<K>, Error> {
        match known {
            Some(known) => Ok(Some(known.clone())),
            None => self.api::<K>(target).get_opt(&target.name).await.map_err(|source| target.failed("read", source)),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that writes")]
    async fn send_patch<K: Owned>(&self, target: &Target, params: &PatchParams, patch: &Patch<Value>) -> Result<Option<String>, Error> {
        self.may_write()?;
        self.metrics.wrote("patch", &target.kind);
        tracing::info!(kind = %target.kind, namespace = %target.namespace, name = %target.name, "writing");
        let written = self.api::<K>(target).patch(&target.name, params, patch).await.map_err(|source| target.failed("apply", source))?;
        Ok(written.meta().resource_version.clone())
    }

    fn api<K: Owned>(&self, target: &Target) -> Api<K> {
        Api::namespaced(self.client.clone(), &target.namespace)
    }

    fn may_write(&self) -> Result<(), Error> {
        if self.leadership.holds(clock::monotonic()) { Ok(()) } else { Err(Error::NotLeading) }
    }
}

/// Which object is written, for requests and errors.
struct Target {
    kind: String,
    namespace: String,
    name: String,
}

impl Target {
    fn of<K: Owned>(object: &K) -> Result<Self, Error> {
        let kind = K::kind(&()).into_owned();
        let meta = object.meta();
        match (meta.namespace.clone(), meta.name.clone()) {
            (Some(namespace), Some(name)) => Ok(Self { kind, namespace, name }),
            _ => Err(Error::Nameless { kind }),
        }
    }

    fn conflict(&self) -> Error {
        Error::NameConflict { kind: self.kind.clone(), name: self.name.clone() }
    }

    fn failed(&self, action: &'static str, source: kube::Error) -> Error {
        error::classify(action, &self.kind, &self.name, source)
    }
}

fn to_json<K: Owned>(object: &K, target: &Target) -> Result<Value, Error> {
    let mut value = serde_json::to_value(object).map_err(|source| target.failed("serialize", kube::Error::SerdeError(source)))?;
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(target.kind);
    Ok(value)
}

/// Whether the object is as we want it: we wrote this very content, and nobody has changed what we set since.
fn is_applied<K: Owned>(existing: &K, desired: &Value, hash: &str) -> bool {
    let same = existing.meta().annotations.as_ref().and_then(|a| a.get(APPLIED)).is_some_and(|applied| applied == hash);
    same && serde_json::to_value(existing).is_ok_and(|existing| compare::contains(&existing, desired))
}
