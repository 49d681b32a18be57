//! The headless Service: a name for each worker, for scrapes. No data comes in through it.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validate::Validated;
use super::deployment::HTTP_PORT;
use crate::names::{self, Component};

/// Builds it.
pub(super) fn build(validated: &Validated) -> Service {
    let pipeline = &validated.owner.key.name;
    Service {
        metadata: names::meta(&validated.owner, pipeline.clone(), names::pipeline_labels(pipeline, Component::Worker)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(names::worker_selector(pipeline)),
            // A worker that is not ready has metrics all the same.
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![ServicePort {
                name: Some(HTTP_PORT.1.to_owned()),
                port: HTTP_PORT.0,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(HTTP_PORT.1.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
