//! The NetworkPolicy of a Pipeline's pods: health and metrics in; out, anything but the metadata service of the cloud, whose credentials are the node's.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validate::Validated;
use super::deployment::HTTP_PORT;
use crate::names::{self, Component};

/// Builds it.
pub(super) fn build(validated: &Validated) -> NetworkPolicy {
    let pipeline = &validated.owner.key.name;
    let port = NetworkPolicyPort { port: Some(IntOrString::Int(HTTP_PORT.0)), protocol: Some("TCP".to_owned()), end_port: None };
    NetworkPolicy {
        metadata: names::meta(&validated.owner, pipeline.clone(), names::pipeline_labels(pipeline, Component::Worker)),
        spec: Some(NetworkPolicySpec {
            // Check pods too.
            pod_selector: Some(names::label_selector([(names::PIPELINE.to_owned(), pipeline.clone())].into())),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule { from: None, ports: Some(vec![port]) }]),
            egress: Some(vec![egress()]),
        }),
    }
}

/// Out to any user's system, to names and to the operator; never to the metadata service.
pub(crate) fn egress() -> NetworkPolicyEgressRule {
    let block = |cidr: &str, except: &str| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.to_owned(), except: Some(vec![except.to_owned()]) }),
        ..NetworkPolicyPeer::default()
    };
    // Some network plugins do not count pods among addresses.
    let pods = NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    NetworkPolicyEgressRule {
        ports: None,
        to: Some(vec![block("0.0.0.0/0", "169.254.169.254/32"), block("::/0", "fd00:ec2::254/128"), pods]),
    }
}
