//! A Pipeline with what it refers to, as tests use it. It comes in through the real types, as a user's manifest would.

use millrace_crds::resolve::References;
use millrace_crds::{Pipeline, SinkSpec, SourceSpec};
use serde_json::{Value, json};

/// Access logs from S3 to a search cluster and an archive, two workers.
pub(crate) fn edge() -> Pipeline {
    serde_json::from_value(json!({
        "apiVersion": "millrace.dev/v1alpha1",
        "kind": "Pipeline",
        "metadata": {"name": "edge", "namespace": "shop", "uid": "11111111-2222-3333-4444-555555555555", "generation": 3},
        "spec": {
            "inputs": [{"name": "logs", "sourceRef": {"name": "edge-logs"}}],
            "steps": [{"name": "errors", "sql": "SELECT * FROM logs WHERE sc_status >= 500"}],
            "outputs": [
                {"name": "search", "from": "errors", "sinkRef": {"name": "search"}, "deadLetter": {"sinkRef": {"name": "bad-lines"}}},
                {"name": "archive", "from": "logs", "sinkRef": {"name": "archive"}},
            ],
            "state": {"location": "s3://state/edge", "aws": {"region": "eu-west-1"}},
            "scale": {"replicas": 2},
        },
    }))
    .unwrap()
}

/// Everything that users can set for pods.
pub(crate) fn workload() -> Value {
    json!({
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        "nodeSelector": {"pool": "streams"},
        "tolerations": [{"key": "streams", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "streams",
        "podLabels": {"team": "edge"},
        "podAnnotations": {"example.com/note": "hello"},
        "env": [
            {"name": "AWS_ENDPOINT_URL", "value": "http://moto:5000"},
            {"name": "RUST_LOG", "value": "debug"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "other", "key": "password"}}},
        ],
        "volumes": [
            {"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"name": "data"}},
            {"name": "tables", "mountPath": "/tables", "configMap": {"name": "tables"}},
        ],
        "imagePullSecrets": [{"name": "registry"}],
    })
}

/// The Sources and Sinks of its namespace.
pub(crate) fn references() -> References {
    let source: SourceSpec = serde_json::from_value(json!({
        "s3": {"sqs": {"queueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/edge-logs"}, "secretRef": {"name": "aws-keys"}},
        "format": {"cloudFront": {}},
    }))
    .unwrap();
    let search = json!({"opensearch": {"endpoint": "https://search.example.com", "index": "edge-{yyyy.MM.dd}", "basicAuth": {"secretRef": {"name": "search-login"}}}});
    let archive = json!({"s3": {"bucket": "lake", "prefix": "edge/", "format": {"json": {}}, "secretRef": {"name": "aws-keys"}}});
    let bad = json!({"s3": {"bucket": "lake", "prefix": "bad/", "format": {"json": {}}}});
    let sinks = [("search", search), ("archive", archive), ("bad-lines", bad)];
    let sinks = sinks.map(|(name, spec)| (name.to_owned(), serde_json::from_value::<SinkSpec>(spec).unwrap()));
    References { sources: [("edge-logs".to_owned(), source)].into(), sinks: sinks.into() }
}
