//! What the operator may do, by the committed renderings of its chart: no Secrets, nothing by `*`, nothing cluster-wide that could be narrower. No Helm is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

fn objects(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/rendered").join(name);
    let text = fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap()).filter(|o| !o.is_null()).collect()
}

/// Every rule as (kind of role, namespace, resource, verbs).
fn rights(objects: &[Value]) -> Vec<(String, String, String, Vec<String>)> {
    let list = |value: &Value| -> Vec<String> { value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect() };
    let mut rights = Vec::new();
    for role in objects.iter().filter(|o| o["kind"].as_str().unwrap().ends_with("Role")) {
        for rule in role["rules"].as_array().unwrap() {
            let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            for group in list(&rule["apiGroups"]) {
                for resource in list(&rule["resources"]) {
                    let resource = if group.is_empty() { resource } else { format!("{group}/{resource}") };
                    rights.push((role["kind"].as_str().unwrap().to_owned(), namespace.clone(), resource, list(&rule["verbs"])));
                }
            }
        }
    }
    rights
}

#[test]
fn no_secrets_and_no_stars() {
    for file in ["millrace.yaml", "millrace-namespaces.yaml"] {
        for (_, _, resource, verbs) in rights(&objects(file)) {
            assert!(!resource.contains("secret") && !resource.contains('*'), "{file}: {resource}");
            let known = ["get", "list", "watch", "create", "update", "patch", "delete"];
            assert!(verbs.iter().all(|verb| known.contains(&verb.as_str())), "{file}: {resource} {verbs:?}");
        }
    }
}

#[test]
fn what_users_write_is_never_written() {
    for (_, _, resource, verbs) in rights(&objects("millrace.yaml")) {
        if let Some(resource) = resource.strip_prefix("millrace.dev/") {
            let allowed: &[&str] = if resource.ends_with("/status") { &["patch"] } else { &["list", "watch"] };
            assert_eq!(verbs, allowed, "{resource}");
        }
    }
}

#[test]
fn with_a_list_of_namespaces_only_token_reviews_are_cluster_wide() {
    let rights = rights(&objects("millrace-namespaces.yaml"));
    let wide: Vec<&str> = rights.iter().filter(|r| r.0 == "ClusterRole").map(|r| r.2.as_str()).collect();
    assert_eq!(wide, ["authentication.k8s.io/tokenreviews"]);
    let namespaces: std::collections::BTreeSet<&str> = rights.iter().filter(|r| r.0 == "Role").map(|r| r.1.as_str()).collect();
    assert_eq!(namespaces.into_iter().collect::<Vec<_>>(), ["logs", "millrace", "orders"]);
}
