//! Whether an object of the API server still is what was written: it may hold more (defaults, other managers' fields), never less. It reads no schema.

use serde_json::Value;

use crate::quantity;

/// Whether `observed` holds everything that `desired` says. What the server leaves out because it is empty counts as held.
pub(crate) fn contains(observed: &Value, desired: &Value) -> bool {
    match (observed, desired) {
        (Value::Object(observed), Value::Object(desired)) => {
            desired.iter().all(|(key, wanted)| observed.get(key).map_or_else(|| is_empty(wanted), |found| contains(found, wanted)))
        }
        (Value::Array(observed), Value::Array(desired)) => {
            observed.len() >= desired.len() && desired.iter().all(|wanted| observed.iter().any(|found| contains(found, wanted)))
        }
        (Value::String(observed), Value::String(desired)) => observed == desired || quantity::equal(observed, desired),
        (observed, desired) => observed == desired || is_empty(observed) && is_empty(desired),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::contains;

    #[test]
    fn more_is_fine_less_is_not() {
        let desired = json!({"a": 1, "list": [{"name": "x", "value": "1"}], "empty": {}, "zero": 0, "off": false, "cpu": "1000m"});
        let observed = json!({"a": 1, "list": [{"name": "y"}, {"name": "x", "value": "1", "default": true}], "cpu": "1", "more": 2});
        assert!(contains(&observed, &desired));
        for (pointer, changed) in [("/a", json!(2)), ("/list/1/value", json!("2")), ("/list", json!([])), ("/cpu", json!("2"))] {
            let mut other = observed.clone();
            *other.pointer_mut(pointer).unwrap() = changed;
            assert!(!contains(&other, &desired), "{pointer}");
        }
    }

    #[test]
    fn a_set_value_is_not_the_empty_one() {
        assert!(!contains(&json!({}), &json!({"replicas": 1})));
        assert!(!contains(&json!({"replicas": 3}), &json!({"replicas": 0})));
        assert!(contains(&json!({}), &json!({"optional": false})));
    }
}
