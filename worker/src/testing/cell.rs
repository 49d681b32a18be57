//! Values in a form in which equal ones are equal text: numbers by their value, to the last digit, however they are written. It knows no types of SQL.

use serde_json::Value;

/// A value that a test expects. `numeric`: the column holds numbers, so a text may stand for one that has more digits than JSON tools keep.
pub(super) fn expected(value: &Value, numeric: bool) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if numeric => Some(number(text).unwrap_or_else(|| canonical(value))),
        _ => Some(canonical(value)),
    }
}

/// A value as the encoder wrote it.
pub(super) fn actual(text: &str) -> Option<String> {
    if let Some(number) = number(text) {
        return Some(number);
    }
    match serde_json::from_str(text) {
        Ok(Value::Null) => None,
        Ok(value) => Some(canonical(&value)),
        // The encoder writes JSON; whatever this is, it equals only itself.
        Err(_) => Some(text.to_owned()),
    }
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Number(value) => {
            let text = value.to_string();
            number(&text).unwrap_or(text)
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        // Absent and null are the same.
        Value::Object(fields) => {
            let mut fields: Vec<String> = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.to_string(),
    }
}

/// A number in JSON's form as digits and exponent without needless zeros: `12.50` and `1.25e1` are both `125e-1`. `None` if it is no number.
fn number(text: &str) -> Option<String> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits_only = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(i64::try_from(zeros).ok()?)?;
    Some(format!("{}{significant}e{exponent}", if negative { "-" } else { "" }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_equal_by_value() {
        for same in [["12.50", "12.5"], ["12.5", "1.25e1"], ["100", "1E2"], ["0.0", "-0"], ["-3", "-3.000"], ["1e-7", "0.0000001"]] {
            assert_eq!(number(same[0]), number(same[1]), "{same:?}");
        }
        for other in [["12.5", "12.51"], ["1", "-1"], ["12345678901234567890.12", "12345678901234567890.13"], ["10", "1"]] {
            assert_ne!(number(other[0]), number(other[1]), "{other:?}");
        }
        for none in ["", "-", "1.", ".5", "x", "1e", "NaN", "2026-01-01", "+1", "1e1.5"] {
            assert_eq!(number(none), None, "{none}");
        }
    }

    #[test]
    fn values_are_equal_as_json() {
        assert_eq!(expected(&json!(12.5), true), actual("12.50"));
        assert_eq!(expected(&json!("12345678901234567890.10"), true), actual("12345678901234567890.1"));
        assert_ne!(expected(&json!("12.5"), false), actual("12.5"), "a text is no number in a column of texts");
        assert_eq!(expected(&json!("12.5"), false), actual("\"12.5\""));
        assert_eq!(expected(&json!({"b": [1.0, null], "a": null}), false), actual("{\"a\":null,\"b\":[1,null]}"));
        assert_eq!(expected(&json!(null), false), actual("null"));
        assert_eq!(expected(&json!(true), false), actual("true"));
        assert_ne!(expected(&json!("x"), false), actual("\"y\""));
        assert_eq!(expected(&json!("\u{e9}"), false), actual("\"\\u00e9\""));
    }
}
