//! The reference page: one table for each block of each kind, from the schemas the API server gets. It knows no field by name.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::condition::{EndpointCondition, EndpointReason, PipelineCondition, PipelineReason};
use crate::crd;

/// Embedded types of Kubernetes, documented by Kubernetes.
const FOREIGN: [&str; 4] = [".conditions[]", ".resources", ".tolerations[]", ".env[]"];

/// The page, in Markdown.
pub(super) fn page(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = String::from(
        "<!-- Generated from the types in crds/src by `make generate`. Do not edit. -->\n\
         # Reference: the kinds of millrace.dev/v1alpha1\n\n\
         What `kubectl explain` prints, on one page. Fields marked * are required. Durations are whole seconds, sizes are bytes.\n\n",
    );
    for definition in definitions {
        let kind = &definition.spec.names.kind;
        let _ = writeln!(page, "- [{kind}](#{})", kind.to_lowercase());
    }
    page.push_str("- [Conditions](#conditions)\n");
    for definition in definitions {
        kind(&mut page, definition);
    }
    conditions(&mut page);
    page
}

fn kind(page: &mut String, definition: &CustomResourceDefinition) {
    let names = &definition.spec.names;
    let schema = crd::schema(definition);
    let short = names.short_names.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        page,
        "\n# {}\n\n{}\n\nShort name `{short}`, category `{}`.",
        names.kind,
        text(&schema),
        names.categories.iter().flatten().cloned().collect::<Vec<_>>().join(", ")
    );
    rules(page, &schema);
    for part in ["spec", "status"] {
        block(page, &format!("{}.{part}", names.kind), &schema["properties"][part]);
    }
}

/// A table of the block's fields, then the blocks below it.
fn block(page: &mut String, path: &str, schema: &Value) {
    let Some(properties) = schema["properties"].as_object().filter(|p| !p.is_empty()) else {
        return;
    };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let _ = writeln!(page, "\n## {path}\n\n| field | type | meaning |\n|---|---|---|");
    for (name, field) in properties {
        let star = if required.contains(&name.as_str()) { "*" } else { "" };
        let suffix = if is_foreign(&below(path, name, field)) { " as in Kubernetes" } else { "" };
        let _ = writeln!(page, "| `{name}`{star} | {}{suffix} | {} |", type_of(field), cell(&text(field)));
    }
    rules(page, schema);
    for (name, field) in properties {
        field_rules(page, &format!("{path}.{name}"), field);
    }
    for (name, field) in properties {
        let below = below(path, name, field);
        let inner = if field["items"].is_object() { &field["items"] } else { field };
        if !is_reference(inner) && !is_foreign(&below) {
            block(page, &below, inner);
        }
    }
}

/// Path of a field's block, or of the blocks in its list.
fn below(path: &str, name: &str, field: &Value) -> String {
    format!("{path}.{name}{}", if field["items"].is_object() { "[]" } else { "" })
}

fn is_foreign(path: &str) -> bool {
    FOREIGN.iter().any(|foreign| path.ends_with(foreign))
}

/// Whether a block only names another object.
fn is_reference(schema: &Value) -> bool {
    schema["properties"].as_object().is_some_and(|properties| properties.len() == 1 && properties.contains_key("name"))
}

/// Rules of a field whose type is no block; those of a block stand below its table.
fn field_rules(page: &mut String, path: &str, field: &Value) {
    if field["properties"].is_object() {
        return;
    }
    for message in messages(field) {
        let _ = writeln!(page, "\n`{path}` is refused with: {message}");
    }
}

fn rules(page: &mut String, schema: &Value) {
    let messages = messages(schema);
    if !messages.is_empty() {
        page.push_str("\nRefused, with this message:\n");
        for message in messages {
            let _ = writeln!(page, "- {message}");
        }
    }
}

fn messages(schema: &Value) -> Vec<&str> {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten().filter_map(|rule| rule["message"].as_str()).collect()
}

fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}

/// Type and bounds, in a few words.
fn type_of(field: &Value) -> String {
    if let Some(members) = field["enum"].as_array() {
        return members.iter().filter_map(Value::as_str).map(|m| format!("`{m}`")).collect::<Vec<_>>().join(" ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "quantity".to_owned();
    }
    match field["type"].as_str().unwrap_or_default() {
        "array" => format!("list of {}{}", type_of(&field["items"]), bounds(field, "minItems", "maxItems", " entries")),
        "object" if field["additionalProperties"].is_object() => {
            format!("map to {}", type_of(&field["additionalProperties"]))
        }
        "object" if field["x-kubernetes-preserve-unknown-fields"] == true => "any object".to_owned(),
        "object" if is_reference(field) => "`{name: …}`".to_owned(),
        "object" => "block".to_owned(),
        "string" if field["format"] == "date-time" => "time".to_owned(),
        "string" => format!("string{}", bounds(field, "", "maxLength", " characters")),
        other => format!("{other}{}", bounds(field, "minimum", "maximum", "")),
    }
}

fn bounds(field: &Value, least: &str, most: &str, unit: &str) -> String {
    let limit = |key: &str| field[key].as_i64();
    match (limit(least), limit(most)) {
        (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
        (None, Some(most)) => format!(", at most {most}{unit}"),
        (Some(least), None) => format!(", at least {least}{unit}"),
        (None, None) => String::new(),
    }
}

fn conditions(page: &mut String) {
    page.push_str("\n# Conditions\n\nTypes and reasons are closed sets. Every condition starts as Unknown with reason Pending.\n");
    table(page, "Condition types of a Pipeline", PipelineCondition::ALL.iter().map(|c| (c.as_str(), c.meaning())));
    table(page, "Reasons of a Pipeline", PipelineReason::ALL.iter().map(|r| (r.as_str(), r.meaning())));
    table(page, "Condition types of a Source or Sink", EndpointCondition::ALL.iter().map(|c| (c.as_str(), c.meaning())));
    table(page, "Reasons of a Source or Sink", EndpointReason::ALL.iter().map(|r| (r.as_str(), r.meaning())));
}

fn table<'a>(page: &mut String, title: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    let _ = writeln!(page, "\n## {title}\n\n| name | meaning |\n|---|---|");
    for (name, meaning) in rows {
        let _ = writeln!(page, "| `{name}` | {} |", cell(meaning.trim()));
    }
}
