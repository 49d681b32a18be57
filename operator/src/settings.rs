//! What an installation sets, from environment variables. It decides nothing about Pipelines.

use std::net::SocketAddr;

use clap::Args;
use millrace_crds::job::StateLocation;

/// Settings of the operator.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespaces whose Pipelines are served, separated by commas. Empty: all.
    #[arg(long, env = "MILLRACE_WATCH_NAMESPACES", value_delimiter = ',', default_value = "", hide_default_value = true)]
    pub watch_namespaces: Vec<String>,
    /// Image of the workers.
    #[arg(long, env = "MILLRACE_WORKER_IMAGE")]
    pub worker_image: String,
    /// When the kubelet pulls it: Always, IfNotPresent or Never.
    #[arg(long, env = "MILLRACE_WORKER_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub worker_image_pull_policy: String,
    /// Where checkpoints of Pipelines without `spec.state` are kept. Empty: such Pipelines are refused.
    #[arg(long, env = "MILLRACE_DEFAULT_STATE_LOCATION", default_value = "", hide_default_value = true)]
    pub default_state_location: String,
    /// URL under which workers reach the report endpoint of the operator, without path.
    #[arg(long, env = "MILLRACE_REPORT_URL")]
    pub report_url: String,
    /// Namespace of the operator, where its Lease is.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,
    /// Name of the operator's pod: its identity in the Lease and in Events.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Name of the Lease. Operators that serve different namespaces from one namespace need different ones.
    #[arg(long, env = "MILLRACE_LEASE_NAME", default_value = "millrace-operator")]
    pub lease_name: String,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "MILLRACE_HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_address: SocketAddr,
    /// Address of the report endpoint.
    #[arg(long, env = "MILLRACE_REPORT_ADDRESS", default_value = "0.0.0.0:8081")]
    pub report_address: SocketAddr,
}

impl Settings {
    /// The namespaces to serve; `None` stands for all.
    pub(crate) fn scopes(&self) -> Vec<Option<String>> {
        let mut names: Vec<_> = self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { vec![None] } else { names.into_iter().map(|name| Some(name.to_owned())).collect() }
    }

    /// Where checkpoints go that no Pipeline says where to put.
    pub(crate) fn default_state(&self) -> Option<StateLocation> {
        let location = self.default_state_location.trim();
        (!location.is_empty()).then(|| StateLocation { location: location.to_owned(), aws: None })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> Settings {
        Settings {
            watch_namespaces: Vec::new(),
            worker_image: "registry.example.com/millrace:1.0.0".into(),
            worker_image_pull_policy: "IfNotPresent".into(),
            default_state_location: "s3://state/default".into(),
            report_url: "http://millrace.millrace-system.svc:8081".into(),
            pod_namespace: "millrace-system".into(),
            pod_name: "millrace-0".into(),
            lease_name: "millrace-operator".into(),
            http_address: ([127, 0, 0, 1], 0).into(),
            report_address: ([127, 0, 0, 1], 0).into(),
        }
    }

    #[test]
    fn no_namespace_means_all_of_them() {
        let mut settings = settings();
        assert_eq!(settings.scopes(), [None]);
        settings.watch_namespaces = vec![String::new()];
        assert_eq!(settings.scopes(), [None]);
        settings.watch_namespaces = vec!["b".into(), " a".into(), "b".into()];
        assert_eq!(settings.scopes(), [Some("a".into()), Some("b".into())]);
    }

    #[test]
    fn an_empty_default_location_is_none() {
        let mut settings = settings();
        assert_eq!(settings.default_state().unwrap().location, "s3://state/default");
        settings.default_state_location = " ".into();
        assert_eq!(settings.default_state(), None);
    }
}
