//! JSON objects of unknown origin, with readable errors and duplicate keys rejected.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::ingest::{
    raw::{Flaw, RejectReason},
    sources::excerpt::head,
};

/// Parses one record as a `T`.
pub(crate) fn parse<T: DeserializeOwned>(record: &[u8]) -> Result<T, Flaw> {
    let text = std::str::from_utf8(record).map_err(|error| Flaw {
        reason: RejectReason::NotUtf8,
        detail: format!(
            "invalid UTF-8 after {} bytes; if the file has another encoding, set `encoding`",
            error.valid_up_to()
        ),
    })?;
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let reason = match error.classify() {
            serde_json::error::Category::Data if message.starts_with("missing field") => {
                RejectReason::MissingField
            }
            serde_json::error::Category::Data if message.starts_with("duplicate field") => {
                RejectReason::DuplicateKey
            }
            serde_json::error::Category::Data => RejectReason::WrongType,
            _ => RejectReason::NotJson,
        };
        // serde counts lines within this one record, so its line number is always 1.
        Flaw { reason, detail: head(&message.replace(" at line 1 column", " at column")).to_owned() }
    })
}

/// Parses a text as a JSON value without a duplicate key; None if it is anything else.
pub(crate) fn value(text: &str) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok().map(|()| value)
}

/// JSON object without a duplicate key at any depth.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object(pub(crate) Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(Strict)? {
            Value::Object(map) => Ok(Self(map)),
            other => Err(de::Error::custom(format!("invalid type: {}, expected an object", kind(&other)))),
        }
    }
}

/// Visitor that builds a value and rejects objects with duplicate keys.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(Self)?;
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("duplicate field `{key}`")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Names the type of a value, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Returns the flaw of a value of the wrong type.
pub(crate) fn wrong_type(name: &str, value: &Value, expected: &str) -> Flaw {
    Flaw {
        reason: RejectReason::WrongType,
        detail: format!("`{name}` is {}, expected {expected}", kind(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_apart() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for (record, reason) in [
            (&b"{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2}}"[..], RejectReason::DuplicateKey),
            (b"[1]", RejectReason::WrongType),
            (b"true", RejectReason::WrongType),
            (b"{\"a\": ", RejectReason::NotJson),
            (b"{\"a\": \"\\ud800\"}", RejectReason::NotJson),
            (b"{\"a\": \"\xff\"}", RejectReason::NotUtf8),
            (deep.as_bytes(), RejectReason::NotJson),
        ] {
            assert_eq!(parse::<Object>(record).unwrap_err().reason, reason);
        }
        let object: Object = parse(b"{\"a\": [1, -2, 0.5, null, true, \"\\u00e9\"]}").unwrap();
        assert_eq!(Value::Object(object.0), serde_json::json!({"a": [1, -2, 0.5, null, true, "é"]}));
    }
}
