//! Carrying out: what was built is handed to the writer, what is no longer needed is removed. It decides nothing but the order.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use super::build::{Built, Workload};
use super::dereference::Found;
use super::rollout::{Decision, Workers};
use super::validate::Validated;
use crate::apply::{Error, Writer};
use crate::names::{self, REVISION};

/// Writes what differs. Stops at the first error: later objects need earlier ones. `wrote` hears of the Deployment's version.
pub(crate) async fn apply(
    writer: &Writer,
    validated: &Validated,
    built: &Built,
    found: &Found,
    decision: &Decision,
    workers: Workers,
    wrote: impl Fn(Option<&str>),
) -> Result<(), Error> {
    let owner = &validated.owner;
    if let Some(account) = &built.service_account {
        writer.apply(owner, account, found.service_account.as_deref()).await?;
    }
    writer.apply(owner, &built.network_policy, found.network_policy.as_deref()).await?;
    if let Some(job) = &built.config_map {
        let known = found.config_maps.iter().find(|known| known.name_any() == job.name_any());
        writer.apply(owner, job, known.map(AsRef::as_ref)).await?;
    }
    match &built.workload {
        Workload::Deployment(deployment) => wrote(writer.apply(owner, &**deployment, found.deployment.as_deref()).await?.as_deref()),
        Workload::Check(pod) => writer.create_pod(owner, pod).await?,
        Workload::Scale => {}
    }
    if let (Workload::Scale | Workload::Check(_), Some(deployment)) = (&built.workload, &found.deployment) {
        wrote(writer.scale(owner, deployment, workers.replicas, workers.drained).await?.as_deref());
    }
    writer.apply(owner, &built.service, found.service.as_deref()).await?;
    writer.apply(owner, &built.pdb, found.pdb.as_deref()).await?;
    clean(writer, validated, built, found, decision).await
}

/// Removes check pods that have served, Jobs that nobody uses, and the ServiceAccount that the user has replaced.
async fn clean(writer: &Writer, validated: &Validated, built: &Built, found: &Found, decision: &Decision) -> Result<(), Error> {
    let owner = &validated.owner;
    let target = validated.target.ready().map(|ready| ready.revision.as_str());
    let keep = check_pod_to_keep(validated, decision);
    for pod in found.check_pods.iter().filter(|pod| keep.as_ref() != Some(&pod.name_any())) {
        if pod.metadata.deletion_timestamp.is_none() {
            writer.delete(owner, &**pod).await?;
        }
    }
    let running = found.running().map(|version| version.revision);
    let pods = found.pods.iter().filter_map(|pod| pod.annotations().get(REVISION).map(String::as_str));
    let pipeline = &owner.key.name;
    let mut used: BTreeSet<String> =
        pods.chain(running.as_deref()).chain(target).map(|revision| names::job_config_map(pipeline, revision)).collect();
    let checked = validated.target.ready().filter(|_| keep.is_some());
    used.extend(checked.map(|ready| names::check_config_map(pipeline, &ready.revision, ready.tests.as_deref())));
    for job in &found.config_maps {
        if !used.contains(&job.name_any()) && job.metadata.deletion_timestamp.is_none() {
            writer.delete(owner, &**job).await?;
        }
    }
    if let Some(account) = found.service_account.as_deref().filter(|_| built.service_account.is_none()) {
        let template = found.deployment.as_ref().and_then(|deployment| deployment.spec.as_ref()?.template.spec.as_ref());
        let used = template.is_some_and(|spec| spec.service_account_name.as_deref() == Some(&account.name_any()));
        let pods_use = found
            .pods
            .iter()
            .any(|pod| pod.spec.as_ref().is_some_and(|spec| spec.service_account_name.as_deref() == Some(&account.name_any())));
        if !used && !pods_use {
            writer.delete(owner, account).await?;
        }
    }
    Ok(())
}

/// The check pod whose result is still needed: a refusal is read again and again, until the spec changes.
fn check_pod_to_keep(validated: &Validated, decision: &Decision) -> Option<String> {
    let needed = match decision {
        Decision::Check | Decision::AwaitCheck { .. } | Decision::Refuse(_) => true,
        Decision::CheckFailed { again, .. } => !again,
        Decision::Hold | Decision::Start | Decision::Follow | Decision::Switch(_) => false,
    };
    let ready = validated.target.ready().filter(|_| needed)?;
    Some(names::check_pod(&validated.owner.key.name, &ready.revision, &validated.shell.image, ready.tests.as_deref()))
}
