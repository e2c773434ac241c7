//! JSON with one way of writing the same thing: keys sorted, two spaces, a newline at the end.

use serde::Serialize;
use serde_json::{Map, Value};

/// `value` as canonical text.
///
/// # Errors
/// When the value cannot be JSON (a path that is not UTF-8, a map with keys that are no strings).
pub fn to_text<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&sorted(serde_json::to_value(value)?))?;
    text.push('\n');
    Ok(text)
}

/// `value` as canonical text in one line.
///
/// # Errors
/// As [`to_text`].
pub fn to_line<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(&sorted(serde_json::to_value(value)?))
}

/// With the keys of every object sorted, whatever map `serde_json` was built with; and sets of
/// capabilities too, which come from a hash set.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let rebuilt: Map<String, Value> = entries
                .into_iter()
                .map(|(key, value)| {
                    let value = if key == "capabilities" {
                        sorted_sets(value)
                    } else {
                        value
                    };
                    (key, sorted(value))
                })
                .collect();
            Value::Object(rebuilt)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// `process.capabilities`: each of its arrays is a set.
fn sorted_sets(mut value: Value) -> Value {
    if let Value::Object(sets) = &mut value {
        for set in sets.values_mut() {
            if let Value::Array(names) = set {
                names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_capabilities_are_sorted() {
        let value = serde_json::json!({
            "b": [{"z": 1, "a": 2}],
            "a": {"capabilities": {"bounding": ["CAP_B", "CAP_A"]}},
        });
        let text = to_line(&value).unwrap();
        assert_eq!(
            text,
            r#"{"a":{"capabilities":{"bounding":["CAP_A","CAP_B"]}},"b":[{"a":2,"z":1}]}"#
        );
    }
}
