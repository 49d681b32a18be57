//! A walk over an object and its OpenAPI schema, as far as our definitions use it. It knows no kind, and no CEL.

use serde_json::{Map, Value};

/// A field that is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Problem {
    /// Path of the field.
    pub(super) field: String,
    /// What is wrong.
    pub(super) message: String,
}

/// Fields that every object has and no definition describes.
const ROOT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops nulls, as the API server does with fields that are not nullable, and returns what is wrong with the rest.
pub(super) fn check(schema: &Value, object: &mut Value) -> Vec<Problem> {
    prune_nulls(object);
    let mut walk = Walk { problems: Vec::new() };
    walk.value("", schema, object);
    walk.problems
}

fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, inner| !inner.is_null());
            object.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

struct Walk {
    problems: Vec<Problem>,
}

impl Walk {
    fn refuse(&mut self, path: &str, message: String) {
        self.problems.push(Problem { field: path.to_owned(), message });
    }

    fn value(&mut self, path: &str, schema: &Value, value: &Value) {
        let quantity = schema["x-kubernetes-int-or-string"] == true;
        match (schema["type"].as_str(), value) {
            (_, Value::String(text)) if quantity => self.string(path, schema, text),
            (_, Value::Number(number)) if quantity && number.is_i64() => {}
            (Some("object"), Value::Object(object)) => self.object(path, schema, object),
            (Some("array"), Value::Array(items)) => self.array(path, schema, items),
            (Some("string"), Value::String(text)) => self.string(path, schema, text),
            (Some("integer"), Value::Number(number)) if number.as_i64().is_some() => {
                self.integer(path, schema, number.as_i64().unwrap_or_default());
            }
            (Some("boolean"), Value::Bool(_)) => {}
            (expected, _) => {
                let expected = if quantity { "quantity" } else { expected.unwrap_or("value") };
                self.refuse(path, format!("must be of type {expected}, not {}", describe(value)));
            }
        }
    }

    fn object(&mut self, path: &str, schema: &Value, object: &Map<String, Value>) {
        let properties = schema["properties"].as_object();
        let additional = schema.get("additionalProperties");
        for required in strings(&schema["required"]) {
            if !object.contains_key(required) {
                self.refuse(&join(path, required), "is required: set it".to_owned());
            }
        }
        let any = schema["x-kubernetes-preserve-unknown-fields"] == true;
        for (name, value) in object {
            let below = join(path, name);
            match properties.and_then(|p| p.get(name)).or(additional) {
                Some(inner) => self.value(&below, inner, value),
                None if any || path.is_empty() && ROOT.contains(&name.as_str()) => {}
                None => {
                    let known = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str);
                    self.refuse(&below, format!("unknown field{}", suggestion(name, known)));
                }
            }
        }
        self.size(path, schema, object.len(), ("minProperties", "maxProperties"), "entries");
    }

    fn array(&mut self, path: &str, schema: &Value, items: &[Value]) {
        self.size(path, schema, items.len(), ("minItems", "maxItems"), "entries");
        let keys: Vec<&str> = strings(&schema["x-kubernetes-list-map-keys"]).collect();
        let unique = !keys.is_empty() || schema["x-kubernetes-list-type"] == "set";
        for (index, item) in items.iter().enumerate() {
            let below = format!("{path}[{index}]");
            let same = |other: &&Value| {
                if keys.is_empty() { *other == item } else { keys.iter().all(|key| other[*key] == item[*key]) }
            };
            if unique && items[..index].iter().any(|other| same(&other)) {
                let what: Vec<String> = keys.iter().map(|key| format!("{key} {}", item[*key])).collect();
                let what = if what.is_empty() { item.to_string() } else { what.join(", ") };
                self.refuse(&below, format!("{what} is there twice: each may be there once"));
            }
            self.value(&below, &schema["items"], item);
        }
    }

    fn string(&mut self, path: &str, schema: &Value, text: &str) {
        if let Some(members) = schema["enum"].as_array() {
            if !members.iter().any(|member| member == text) {
                let names: Vec<&str> = members.iter().filter_map(Value::as_str).collect();
                let hint = suggestion(text, names.iter().copied());
                self.refuse(path, format!("{text:?} is not one of {}{hint}", names.join(", ")));
            }
            return;
        }
        self.size(path, schema, text.chars().count(), ("minLength", "maxLength"), "characters");
        if let Some(pattern) = schema["pattern"].as_str() {
            // A pattern that does not compile is a defect of ours, which the tests of the definitions would show.
            let matches = regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
            if !matches {
                self.refuse(path, format!("{text:?} must match {pattern}"));
            }
        }
    }

    fn integer(&mut self, path: &str, schema: &Value, number: i64) {
        let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
        let (least, most) =
            if schema["format"] == "int32" { (least.max(i32::MIN.into()), most.min(i32::MAX.into())) } else { (least, most) };
        if number < least {
            self.refuse(path, format!("{number} is less than {least}, the least that is allowed"));
        } else if number > most {
            self.refuse(path, format!("{number} is more than {most}, the most that is allowed"));
        }
    }

    fn size(&mut self, path: &str, schema: &Value, size: usize, (least, most): (&str, &str), unit: &str) {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        if let Some(least) = schema[least].as_u64().filter(|least| size < *least) {
            self.refuse(path, format!("has {size} {unit}, at least {least} are needed"));
        }
        if let Some(most) = schema[most].as_u64().filter(|most| size > *most) {
            self.refuse(path, format!("has {size} {unit}, at most {most} are allowed"));
        }
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number with a fraction",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// `: did you mean "x"?` for the nearest name, if one is near.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let lower = name.to_lowercase();
    let nearest = known.map(|k| (distance(&lower, &k.to_lowercase()), k)).min();
    match nearest {
        Some((distance, near)) if distance <= 1 + name.len() / 4 => {
            format!(": did you mean {near:?}?")
        }
        _ => String::new(),
    }
}

/// Edits (insert, delete, replace a character) from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
