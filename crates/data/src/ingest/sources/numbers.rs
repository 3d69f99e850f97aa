//! Numbers, booleans and texts of public datasets, also in the notation of tables: pandas writes a
//! column of whole numbers that has nulls as floats, and every value of a CSV is text.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::ingest::sources::json::kind;

/// Returns true for text that stands for null.
pub(crate) fn is_null(text: &str) -> bool {
    let text = text.trim();
    ["", "null", "none", "nan", "na", "n/a", "<na>"].iter().any(|null| text.eq_ignore_ascii_case(null))
}

/// Returns a finite number, which may be text.
pub(crate) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

/// Deserialises an optional number.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    given(deserializer)?
        .map(|value| number(&value).ok_or_else(|| invalid::<D>(&value, "a finite number")))
        .transpose()
}

/// Deserialises an optional whole number.
pub(crate) fn optional_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    given(deserializer)?
        .map(|value| whole(&value).ok_or_else(|| invalid::<D>(&value, "a whole number")))
        .transpose()
}

/// Deserialises a whole number.
pub(crate) fn required_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    whole(&value).ok_or_else(|| invalid::<D>(&value, "a whole number"))
}

/// Deserialises an optional boolean.
pub(crate) fn optional_bool<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let truth = |value: &Value| match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
        other => match whole(other) {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
    };
    given(deserializer)?
        .map(|value| truth(&value).ok_or_else(|| invalid::<D>(&value, "true or false")))
        .transpose()
}

/// Deserialises an optional identifier: text or a number. Empty text is none.
pub(crate) fn optional_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(invalid::<D>(&other, "text")),
    }
}

/// Returns the value, unless it is null or stands for it.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    Ok(value.filter(|value| !value.is_null() && !value.as_str().is_some_and(is_null)))
}

fn whole(value: &Value) -> Option<i64> {
    /// Largest float below which every whole number is one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let exact = |number: f64| (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64);
    value.as_i64().or_else(|| number(value).and_then(exact))
}

fn invalid<'de, D: Deserializer<'de>>(value: &Value, expected: &str) -> D::Error {
    de::Error::custom(format!("invalid value: {} ({value}), expected {expected}", kind(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Row {
        #[serde(deserialize_with = "optional")]
        score: Option<f64>,
        #[serde(deserialize_with = "optional_whole")]
        rank: Option<i64>,
        #[serde(deserialize_with = "optional_bool")]
        deleted: Option<bool>,
        #[serde(deserialize_with = "optional_id")]
        id: Option<String>,
    }

    fn row(value: Value) -> Option<Row> {
        serde_json::from_value(value).ok()
    }

    #[test]
    fn numbers_are_the_same_as_floats_and_as_text() {
        let expected = Row { score: Some(2.0), rank: Some(0), deleted: Some(false), id: Some("7".into()) };
        for value in [
            json!({"score": 2, "rank": 0, "deleted": false, "id": 7}),
            json!({"score": 2.0, "rank": 0.0, "deleted": 0.0, "id": "7"}),
            json!({"score": "2", "rank": "0.0", "deleted": "False", "id": "7"}),
            json!({"score": " 2e0 ", "rank": "-0", "deleted": "0", "id": "7"}),
        ] {
            assert_eq!(row(value.clone()).unwrap(), expected, "{value}");
        }
        for null in [json!(null), json!(""), json!("NaN"), json!("N/A")] {
            let value = json!({"score": &null, "rank": &null, "deleted": &null});
            assert_eq!(row(value).unwrap(), Row::default(), "{null}");
        }
    }

    #[test]
    fn other_values_are_refused() {
        for value in [
            json!({"rank": 0.5}),
            json!({"rank": "first"}),
            json!({"rank": 1e300}),
            json!({"score": "high"}),
            json!({"score": "inf"}),
            json!({"score": []}),
            json!({"deleted": 2}),
            json!({"id": {}}),
        ] {
            assert_eq!(row(value.clone()), None, "{value}");
        }
    }
}
