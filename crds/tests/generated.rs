//! Generated files are current, and the definitions follow the conventions of Kubernetes APIs. No server is needed; the API server itself judges them in the cluster tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use millrace_crds::{crd, generate};
use serde_json::Value;

#[test]
fn generated_files_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in generate::files() {
        let committed = fs::read_to_string(root.join(&file.path)).unwrap_or_default();
        assert!(committed == file.text, "{} is stale: run `cargo run -p millrace-crds --bin generate`", file.path);
    }
}

#[test]
fn definitions_are_small() {
    for definition in crd::all() {
        let size = crd::to_yaml(&definition).len();
        assert!(size < crd::MAX_YAML_BYTES, "{:?} has {size} bytes", definition.metadata.name);
    }
}

#[test]
fn schemas_follow_the_conventions() {
    let mut findings = Vec::new();
    for definition in crd::all() {
        let schema = crd::schema(&definition);
        for part in ["spec", "status"] {
            let path = format!("{}.{part}", definition.spec.names.kind);
            walk(&path, &schema["properties"][part], &mut |path, schema| {
                findings.extend(judge(path, schema));
            });
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), inner, visit);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{suffix}"), &schema[key], visit);
        }
    }
}

/// What is wrong with one schema, apart from those below it.
fn judge(path: &str, schema: &Value) -> Vec<String> {
    let has = |key: &str| !schema[key].is_null();
    let type_ = schema["type"].as_str().unwrap_or_default();
    let format = schema["format"].as_str().unwrap_or_default();
    let is_enum = has("enum");
    let item = path.ends_with("[]") || path.ends_with("{}");
    let checks = [
        ("needs a description", !item && schema["description"].as_str().is_none_or(str::is_empty)),
        (
            "has a description of another language",
            schema["description"].as_str().is_some_and(|d| d.contains("Rust") || d.contains("Option")),
        ),
        ("is a float", type_ == "number"),
        ("is an integer without format int32 or int64", type_ == "integer" && format != "int32" && format != "int64"),
        ("is an unbounded list", type_ == "array" && !has("maxItems")),
        (
            "is a list of maps without a merge strategy",
            type_ == "array" && schema["items"]["type"] == "object" && !has("x-kubernetes-list-type") && !path.ends_with("tolerations"),
        ),
        ("is an unbounded string", type_ == "string" && !is_enum && format != "date-time" && !has("maxLength")),
        ("is an unbounded map", schema["additionalProperties"].is_object() && !has("maxProperties")),
        ("has a default", has("default") && !path.starts_with("Pipeline.spec.scale")),
        ("is nullable", has("nullable")),
        ("has an enum that is not CamelCase", is_enum && !schema["enum"].as_array().unwrap().iter().all(camel_case)),
        (
            "has a name that is not camelCase",
            !item && path.rsplit('.').next().is_some_and(|n| n.contains('_') || n.starts_with(char::is_uppercase)),
        ),
        ("is a boolean", type_ == "boolean" && !path.ends_with(".optional")),
        (
            "has a rule without a message",
            schema["x-kubernetes-validations"].as_array().into_iter().flatten().any(|r| r["message"].is_null()),
        ),
        ("has a pattern that does not compile", schema["pattern"].as_str().is_some_and(|p| regex::Regex::new(p).is_err())),
    ];
    checks.into_iter().filter(|(_, wrong)| *wrong).map(|(what, _)| format!("{path} {what}")).collect()
}

fn camel_case(member: &Value) -> bool {
    let member = member.as_str().unwrap_or_default();
    member.starts_with(|c: char| c.is_ascii_uppercase()) && member.chars().all(|c| c.is_ascii_alphanumeric())
}

#[test]
fn scale_points_at_fields_that_exist() {
    let pipeline = &crd::all()[0];
    let scale = pipeline.spec.versions[0].subresources.as_ref().unwrap().scale.as_ref().unwrap();
    let schema = crd::schema(pipeline);
    for path in [&scale.spec_replicas_path, &scale.status_replicas_path, scale.label_selector_path.as_ref().unwrap()] {
        let field = path.split('.').skip(1).fold(&schema, |schema, name| &schema["properties"][name]);
        assert!(field["type"].is_string(), "{path}");
    }
    // Without the default, GET on /scale fails for a Pipeline that does not set the field.
    assert_eq!(schema["properties"]["spec"]["properties"]["scale"]["properties"]["replicas"]["default"], 1);
}

#[test]
fn columns_point_at_fields_that_exist() {
    for definition in crd::all() {
        let schema = crd::schema(&definition);
        for column in definition.spec.versions[0].additional_printer_columns.iter().flatten() {
            let path = column.json_path.as_str();
            let fields = path.split("[?").next().unwrap();
            let found = fields.split('.').skip(1).fold(&schema, |schema, name| &schema["properties"][name]);
            assert!(path.starts_with(".metadata.") || found["type"].is_string(), "{}: {path}", column.name);
        }
    }
}
