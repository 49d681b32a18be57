//! The CustomResourceDefinitions as the API server gets them: the derived schemas, made to follow the Kubernetes API conventions. No rule about Pipelines is written here.
//!
//! What the derive macros cannot say is put right in one place:
//!
//! * unsigned formats, which the API server does not know, become `int32` or `int64` (ranges stand at the fields);
//! * `nullable` and `default` go: a null is an absent field, and a default that the API server writes is drift for GitOps.
//!   The one exception is `spec.scale.replicas`, without which `/scale` answers with an error;
//! * types of Kubernetes that are embedded get brief descriptions, bounds (CEL's cost is estimated from them) and enums,
//!   and lose the fields that would have no effect here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Pipeline, Sink, Source};

/// Most bytes that one definition may have as YAML: above it, `kubectl apply` cannot keep its own annotation.
pub const MAX_YAML_BYTES: usize = 256 * 1024;

/// All definitions: Pipeline, Source, Sink.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [Pipeline::crd(), Source::crd(), Sink::crd()].into_iter().map(conform).collect()
}

/// The `openAPIV3Schema` of a definition's only version, as JSON.
#[must_use]
pub fn schema(definition: &CustomResourceDefinition) -> Value {
    json(definition.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref()))
}

/// A definition as YAML, numbers without a needless fraction.
#[must_use]
pub fn to_yaml(definition: &CustomResourceDefinition) -> String {
    yaml(&json(definition))
}

fn json(part: impl Serialize) -> Value {
    let mut value = serde_json::to_value(part).expect("a definition has only string keys");
    whole_numbers(&mut value);
    value
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).expect("JSON is YAML")
}

fn conform(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = json(definition);
    let kind = value["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let root = &mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    conform_schema(root);
    root["description"] = root["properties"]["spec"]["description"].clone();
    root["properties"]["spec"]["description"] = json!("What is wanted.");
    root["required"] = json!(["spec"]);
    conform_conditions(&mut root["properties"]["status"]["properties"]["conditions"]["items"]);
    if kind == "Pipeline" {
        conform_pipeline(&mut root["properties"]["spec"]["properties"]);
    }
    serde_json::from_value(value).expect("what was a definition still is one")
}

/// What holds for every schema, at every depth.
fn conform_schema(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    for key in ["nullable", "default", "title"] {
        object.remove(key);
    }
    if let Some(description) = object.get("description").and_then(Value::as_str) {
        let joined = join_lines(description);
        object.insert("description".to_owned(), joined.into());
    }
    conform_integer(object);
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(conform_schema);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            conform_schema(inner);
        }
    }
}

fn conform_integer(object: &mut Map<String, Value>) {
    let unsigned = object.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint"));
    if unsigned {
        let fits = object.get("maximum").and_then(Value::as_f64).is_some_and(|m| m <= f64::from(i32::MAX));
        object.insert("format".to_owned(), json!(if fits { "int32" } else { "int64" }));
        object.entry("minimum").or_insert(json!(0));
    }
}

/// Rust wraps doc comments; only an empty line is a paragraph.
fn join_lines(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// Bounds of `metav1.Condition`, as its Go markers have them, but for the message.
fn conform_conditions(condition: &mut Value) {
    brief(condition);
    condition["description"] = json!("One aspect of the truth.");
    let properties = &mut condition["properties"];
    extend(
        &mut properties["type"],
        json!({"maxLength": 316, "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"}),
    );
    extend(&mut properties["status"], json!({"enum": ["True", "False", "Unknown"]}));
    extend(&mut properties["reason"], json!({"minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"}));
    extend(&mut properties["message"], json!({"maxLength": crate::condition::MAX_MESSAGE}));
    extend(&mut properties["observedGeneration"], json!({"minimum": 0}));
}

fn conform_pipeline(spec: &mut Value) {
    // GET on `/scale` fails as long as the field it points at is absent.
    spec["scale"]["default"] = json!({});
    spec["scale"]["properties"]["replicas"]["default"] = json!(1);

    let workload = &mut spec["workload"]["properties"];
    for (map, longest) in [("nodeSelector", 63), ("podLabels", 63), ("podAnnotations", 16_384)] {
        extend(&mut workload[map], json!({"maxProperties": 32, "additionalProperties": {"maxLength": longest}}));
    }
    conform_resources(&mut workload["resources"]);
    conform_tolerations(&mut workload["tolerations"]["items"]);
    conform_env(&mut workload["env"]["items"]);
}

fn conform_resources(resources: &mut Value) {
    // Claims need `resourceClaims` in the pod, which a Pipeline does not have.
    remove_property(resources, "claims");
    for (list, description) in [("limits", "The most a worker may use."), ("requests", "What a worker is promised.")] {
        resources["properties"][list] = json!({
            "description": description,
            "type": "object",
            "maxProperties": 16,
            "additionalProperties": quantity("An amount, for example `500m` or `2Gi`."),
        });
    }
}

fn conform_tolerations(toleration: &mut Value) {
    brief(toleration);
    let properties = &mut toleration["properties"];
    extend(&mut properties["key"], json!({"maxLength": 316}));
    extend(&mut properties["value"], json!({"maxLength": 63}));
    extend(&mut properties["operator"], json!({"enum": ["Exists", "Equal"]}));
    extend(&mut properties["effect"], json!({"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]}));
}

fn conform_env(variable: &mut Value) {
    brief(variable);
    variable["description"] = json!("An environment variable.");
    extend(&mut variable["properties"]["name"], json!({"minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z][-._a-zA-Z0-9]*$"}));
    extend(&mut variable["properties"]["value"], json!({"maxLength": 8192}));
    let from = &mut variable["properties"]["valueFrom"];
    // Files in an `emptyDir` that no container of ours writes.
    remove_property(from, "fileKeyRef");
    extend(from, json!({"minProperties": 1, "maxProperties": 1}));
    let sources = &mut from["properties"];
    for source in ["configMapKeyRef", "secretKeyRef"] {
        extend(&mut sources[source]["properties"]["name"], json!({"minLength": 1, "maxLength": 253}));
        extend(&mut sources[source]["properties"]["key"], json!({"minLength": 1, "maxLength": 253}));
        sources[source]["required"] = json!(["key", "name"]);
    }
    extend(&mut sources["fieldRef"]["properties"]["apiVersion"], json!({"maxLength": 63}));
    extend(&mut sources["fieldRef"]["properties"]["fieldPath"], json!({"maxLength": 400}));
    let resource = &mut sources["resourceFieldRef"]["properties"];
    extend(&mut resource["containerName"], json!({"maxLength": 63}));
    extend(&mut resource["resource"], json!({"maxLength": 253}));
    resource["divisor"] = quantity("Unit of the value, for example `1Mi`.");
}

/// `resource.Quantity` as controller-gen writes it.
fn quantity(description: &str) -> Value {
    json!({
        "description": description,
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": 64,
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
    })
}

/// Descriptions of embedded types: the first sentence.
fn brief(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(description) = object.get("description").and_then(Value::as_str) {
        let end = description.find(". ").or_else(|| description.find(".\n")).map_or(description.len(), |at| at + 1);
        let sentence = description[..end].trim().to_owned();
        object.insert("description".to_owned(), sentence.into());
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(brief);
    }
}

fn extend(schema: &mut Value, with: Value) {
    let (Some(object), Value::Object(with)) = (schema.as_object_mut(), with) else {
        return;
    };
    for (key, value) in with {
        match object.get_mut(&key) {
            Some(inner) if inner.is_object() && value.is_object() => extend(inner, value),
            _ => {
                object.insert(key, value);
            }
        }
    }
}

fn remove_property(schema: &mut Value, name: &str) {
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove(name);
    }
}

/// Ranges are floats in the typed schema; JSON readers and reviewers want `60`, not `60.0`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(object) => object.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let float = number.as_f64().filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0);
            if let Some(float) = float {
                #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, as just checked")]
                let whole = float as i64;
                *value = whole.into();
            }
        }
        _ => {}
    }
}
