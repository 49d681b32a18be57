//! Building: from what was validated and decided to objects, one file for each kind. It takes no client and cannot fail.

mod check_pod;
mod config_map;
mod deployment;
mod network_policy;
mod pdb;
pub(crate) mod pod;
mod service;
mod service_account;
#[cfg(test)]
pub(crate) mod tests;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

pub(crate) use network_policy::egress as network_egress;

use super::rollout::{Decision, State, Workers};
use super::validate::Validated;

/// What should be there.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// Identity of the workers; `None` if the user has named one.
    pub(crate) service_account: Option<ServiceAccount>,
    /// Who reaches the workers, and whom they reach.
    pub(crate) network_policy: NetworkPolicy,
    /// Names of the workers, for scrapes.
    pub(crate) service: Service,
    /// How many workers an eviction may take at a time.
    pub(crate) pdb: PodDisruptionBudget,
    /// The Job, with its tests where it is checked and without where it runs; `None` if there is none.
    pub(crate) config_map: Option<ConfigMap>,
    /// What to do about the workers.
    pub(crate) workload: Workload,
}

/// What to do about the workers.
#[derive(Clone, Debug)]
pub(crate) enum Workload {
    /// They are to be so.
    Deployment(Box<Deployment>),
    /// What runs stays as it is, but for its number.
    Scale,
    /// The same, and the wanted revision is checked by this pod.
    Check(Box<Pod>),
}

/// Builds everything. `state` is what the state of what runs is made of, or will be.
pub(crate) fn build(validated: &Validated, decision: &Decision, workers: Workers, state: Option<&State>) -> Built {
    let ready = validated.target.ready();
    let runs = matches!(decision, Decision::Start | Decision::Follow | Decision::Switch(_));
    let workload = match (ready, decision) {
        (Some(ready), _) if runs => Workload::Deployment(Box::new(deployment::build(validated, ready, workers, state))),
        (Some(ready), Decision::Check) => Workload::Check(Box::new(check_pod::build(validated, ready, state))),
        _ => Workload::Scale,
    };
    Built {
        service_account: validated.shell.service_account.is_none().then(|| service_account::build(validated)),
        network_policy: network_policy::build(validated),
        service: service::build(validated),
        pdb: pdb::build(validated),
        config_map: ready.map(|ready| if runs { config_map::build(validated, ready) } else { config_map::with_tests(validated, ready) }),
        workload,
    }
}
