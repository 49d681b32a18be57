//! Sources and Sinks: observe → decide → build → apply → status. Both kinds share this loop. The operator opens no connection: workers probe what they use, pods that run once the rest.

mod build;
mod decide;
mod endpoint;
mod status;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use millrace_crds::report::ProbeReport;
use tokio::time::Instant;

pub(crate) use endpoint::Endpoint;

use self::decide::{Decision, Observed, OneShotProbe};
use self::endpoint::EndpointStatus;
use crate::apply as write;
use crate::names::{self, Key, Owner};
use crate::pipeline::dereference::describe;
use crate::pipeline::refers_to;
use crate::pods::{self, OneShot};
use crate::scope::Context;
use crate::{clock, events};

/// Seconds between two probes of what failed, unless `probe.intervalSeconds` is set.
const INTERVAL: u32 = 300;

/// Why a Source or Sink could not be reconciled; it is tried again with back-off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What a probe needs could not be written or removed.
    #[error("cannot write what a probe needs")]
    Write(#[source] write::Error),
    /// The status could not be written.
    #[error("cannot write the status")]
    Status(#[source] write::Error),
}

impl Error {
    /// The reason as metric label: a closed set.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Write(error) | Self::Status(error) => error.label(),
        }
    }
}

/// When each object was seen first in its present generation, and probed last. Lost with the process: then what failed is probed once more.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<String, Remembered>>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    generation: i64,
    seen: Instant,
    tried: Option<Instant>,
}

impl Memory {
    fn see(&self, uid: &str, generation: i64, now: Instant) -> Remembered {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Remembered { generation, seen: now, tried: None };
        let known = all.entry(uid.to_owned()).or_insert(fresh);
        if known.generation != generation {
            *known = fresh;
        }
        *known
    }

    fn tried(&self, uid: &str, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(uid) {
            known.tried = Some(now);
        }
    }

    /// Forgets objects that `exist` does not hold for.
    pub(crate) fn retain(&self, exist: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| exist(uid));
    }
}

/// Makes the status of one Source or Sink true.
pub(crate) async fn reconcile<E: Endpoint>(object: Arc<E>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(owner) = Owner::of(&*object).filter(|_| object.meta().deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let mut before = object.endpoint_status();
    if before.conditions.is_empty() {
        let pending = status::pending(&*object, clock::wall());
        write_status(&*object, &context, &before, pending.clone()).await?;
        before = pending;
    }
    let observed = observe(&*object, &before, &context);
    let decision = decide::decide(&observed);
    let applied = carry_out(&owner, &*object, &decision, &context).await;
    let after = status::derive(&*object, &before, &decision, used_by::<E>(&owner.key, &context), clock::wall(), applied.as_ref().err());
    write_status(&*object, &context, &before, after).await?;
    match applied {
        Err(write::Error::NamespaceTerminating { .. }) => return Ok(Action::requeue(decide::SLOW)),
        applied => applied.map_err(Error::Write)?,
    }
    if matches!(decision, Decision::Read(_) | Decision::Broken { again: true, .. }) {
        context.probes.tried(object.meta().uid.as_deref().unwrap_or_default(), clock::monotonic());
        clean(&owner, &*object, &context, None).await.map_err(Error::Write)?;
    }
    Ok(Action::requeue(decide::next_look(&decision)))
}

fn observe<E: Endpoint>(object: &E, before: &EndpointStatus, context: &Context) -> Observed {
    let key = Key::of(object.meta());
    let generation = object.meta().generation.unwrap_or_default();
    let now = clock::monotonic();
    let remembered = context.probes.see(object.meta().uid.as_deref().unwrap_or_default(), generation, now);
    let probe = object.probe();
    Observed {
        mode: probe.mode,
        interval: Duration::from_secs(probe.interval_seconds.unwrap_or(INTERVAL).into()),
        can_be_probed_alone: object.can_be_probed_alone(),
        served: is_served::<E>(&key, context),
        reported: context.registry.endpoint(&key.namespace, E::PART, &key.name, now),
        pod: one_shot::<E>(&key, generation, context, clock::wall()),
        known: status::known(before, generation),
        seen: now - remembered.seen,
        tried: remembered.tried.map(|tried| now - tried),
    }
}

/// Pipelines that refer to an object.
fn users<'a, E: Endpoint>(key: &'a Key, context: &'a Context) -> impl Iterator<Item = Key> + use<'a, E> {
    let uses = move |pipeline: &millrace_crds::Pipeline| refers_to(pipeline).any(|(part, referred)| part == E::PART && referred == *key);
    context.stores.pipelines.state_filter(uses).into_iter().map(|pipeline| Key::of(&pipeline.metadata))
}

fn used_by<E: Endpoint>(key: &Key, context: &Context) -> i32 {
    i32::try_from(users::<E>(key, context).count()).unwrap_or(i32::MAX)
}

/// Whether a Pipeline that uses it has workers, or will have them in a moment.
fn is_served<E: Endpoint>(key: &Key, context: &Context) -> bool {
    users::<E>(key, context).any(|pipeline| {
        let deployment = context.stores.deployments.get(&context.stores.key(&pipeline));
        deployment.is_some_and(|deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas) > Some(0))
    })
}

fn one_shot<E: Endpoint>(key: &Key, generation: i64, context: &Context, now: Timestamp) -> OneShotProbe {
    let name = names::probe_pod(E::KIND, &key.name, generation);
    let pod = context.stores.pods.get(&context.stores.key(&Key::new(&key.namespace, name)));
    pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()).map_or(OneShotProbe::Absent, |pod| read(&pod, now))
}

fn read(pod: &Pod, now: Timestamp) -> OneShotProbe {
    let made = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let age = |since: Timestamp| now.as_second() - since.as_second();
    match pods::one_shot(pod) {
        OneShot::Underway { obstacle } => OneShotProbe::Underway { age: age(made), waits_for: obstacle.as_ref().map(describe) },
        OneShot::Ended { message, at } => match serde_json::from_str::<ProbeReport>(&message) {
            Ok(report) => OneShotProbe::Answered(report.result),
            Err(_) => {
                OneShotProbe::Failed { age: age(at.unwrap_or(made)), message: format!("the probe pod ended without a result: {message}") }
            }
        },
    }
}

async fn carry_out<E: Endpoint>(owner: &Owner, object: &E, decision: &Decision, context: &Context) -> Result<(), write::Error> {
    let name = names::probe_pod(E::KIND, &owner.key.name, object.meta().generation.unwrap_or_default());
    // What was read is removed once the status says it.
    let needed = matches!(decision, Decision::Start | Decision::AwaitPod(_) | Decision::Read(_) | Decision::Broken { .. });
    clean(owner, object, context, needed.then_some(name.as_str())).await?;
    if *decision == Decision::Start {
        let built = build::build(owner, object, &context.settings);
        let key = context.stores.key(&Key::new(&owner.key.namespace, name));
        context.writer.apply(owner, &built.config_map, context.stores.config_maps.get(&key).as_deref()).await?;
        let key = context.stores.key(&Key::new(&owner.key.namespace, built.network_policy.name_any()));
        context.writer.apply(owner, &built.network_policy, context.stores.network_policies.get(&key).as_deref()).await?;
        context.writer.create_pod(owner, &built.pod).await?;
    }
    Ok(())
}

/// Removes what belongs to probes of this object, but for those named `keep`.
async fn clean<E: Endpoint>(owner: &Owner, object: &E, context: &Context, keep: Option<&str>) -> Result<(), write::Error> {
    let stores = &context.stores;
    for pod in stores.of_probe::<Pod>(&stores.pods, E::KIND, &Key::of(object.meta())) {
        if keep != Some(&pod.name_any()) {
            context.writer.delete(owner, &*pod).await?;
        }
    }
    for map in stores.of_probe::<ConfigMap>(&stores.config_maps, E::KIND, &Key::of(object.meta())) {
        if keep != Some(&map.name_any()) {
            context.writer.delete(owner, &*map).await?;
        }
    }
    for policy in stores.of_probe::<NetworkPolicy>(&stores.network_policies, E::KIND, &Key::of(object.meta())) {
        if keep != Some(&policy.name_any()) {
            context.writer.delete(owner, &*policy).await?;
        }
    }
    Ok(())
}

async fn write_status<E: Endpoint>(object: &E, context: &Context, before: &EndpointStatus, after: EndpointStatus) -> Result<(), Error> {
    if *before == after {
        return Ok(());
    }
    context.writer.status(object, &after).await.map_err(Error::Status)?;
    let transitions = events::transitions(&before.conditions, &after.conditions);
    context.events.publish(&object.object_ref(&()), &transitions).await;
    Ok(())
}
