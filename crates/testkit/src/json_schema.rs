//! Validator for the part of JSON Schema (draft 2020-12) that the schemas use.
//!
//! Existing validators enable features of crates below candle, so that tests would compile candle
//! a second time. An unknown keyword is an error.

use serde_json::{Map, Value};

/// Validates `value` against `schema`. The error names the path and the keyword.
pub fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    Validator { root: schema }.check(schema, value, "$")
}

struct Validator<'a> {
    root: &'a Value,
}

impl Validator<'_> {
    fn check(&self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        let keywords = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return Err(format!("{place}: not allowed")),
            schema => schema.as_object().ok_or_else(|| format!("{place}: not a schema: {schema}"))?,
        };
        for (keyword, argument) in keywords {
            self.keyword(keywords, keyword, argument, value, place)?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        keywords: &Map<String, Value>,
        keyword: &str,
        argument: &Value,
        value: &Value,
        place: &str,
    ) -> Result<(), String> {
        let demand = |holds: bool| {
            if holds { Ok(()) } else { Err(format!("{place}: {keyword} {argument} does not allow {value}")) }
        };
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => Ok(()),
            "$ref" => {
                let pointer = argument.as_str().and_then(|text| text.strip_prefix('#')).unwrap();
                self.check(self.root.pointer(pointer).unwrap(), value, place)
            }
            "type" => {
                let names = argument.as_array().map_or(std::slice::from_ref(argument), Vec::as_slice);
                demand(names.iter().any(|name| has_type(value, name.as_str().unwrap())))
            }
            "const" => demand(value == argument),
            "enum" => demand(argument.as_array().unwrap().contains(value)),
            "minimum" => demand(value.as_f64().is_none_or(|x| x >= argument.as_f64().unwrap())),
            "pattern" => {
                let pattern = regex::Regex::new(argument.as_str().unwrap()).unwrap();
                demand(value.as_str().is_none_or(|text| pattern.is_match(text)))
            }
            "anyOf" => self.alternatives(argument, value, place, |matches| matches > 0),
            "oneOf" => self.alternatives(argument, value, place, |matches| matches == 1),
            "required" => {
                let Some(object) = value.as_object() else { return Ok(()) };
                demand(
                    argument.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap())),
                )
            }
            "minProperties" => {
                demand(value.as_object().is_none_or(|map| map.len() as u64 >= argument.as_u64().unwrap()))
            }
            "minItems" => {
                demand(value.as_array().is_none_or(|items| items.len() as u64 >= argument.as_u64().unwrap()))
            }
            "maxItems" => {
                demand(value.as_array().is_none_or(|items| items.len() as u64 <= argument.as_u64().unwrap()))
            }
            "properties" => self.each(value.as_object(), place, |key| argument.get(key)),
            "additionalProperties" => {
                let named = keywords.get("properties").and_then(Value::as_object);
                self.each(value.as_object(), place, |key| {
                    (!named.is_some_and(|named| named.contains_key(key))).then_some(argument)
                })
            }
            "propertyNames" => {
                let names = value.as_object().into_iter().flat_map(Map::keys);
                names.cloned().try_for_each(|name| self.check(argument, &Value::String(name), place))
            }
            "prefixItems" | "items" => {
                let first = if keyword == "items" {
                    keywords.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len)
                } else {
                    0
                };
                let items = value.as_array().into_iter().flatten().enumerate().skip(first);
                for (index, item) in items {
                    let schema = if keyword == "items" { Some(argument) } else { argument.get(index) };
                    if let Some(schema) = schema {
                        self.check(schema, item, &format!("{place}[{index}]"))?;
                    }
                }
                Ok(())
            }
            unknown => Err(format!("{place}: the validator does not know {unknown}")),
        }
    }

    /// Checks every property for which `schema_of` returns a schema.
    fn each<'s>(
        &self,
        object: Option<&Map<String, Value>>,
        place: &str,
        schema_of: impl Fn(&str) -> Option<&'s Value>,
    ) -> Result<(), String> {
        for (key, item) in object.into_iter().flatten() {
            if let Some(schema) = schema_of(key) {
                self.check(schema, item, &format!("{place}.{key}"))?;
            }
        }
        Ok(())
    }

    fn alternatives(
        &self,
        schemas: &Value,
        value: &Value,
        place: &str,
        enough: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        let results: Vec<_> =
            schemas.as_array().unwrap().iter().map(|schema| self.check(schema, value, place)).collect();
        if enough(results.iter().filter(|result| result.is_ok()).count()) {
            return Ok(());
        }
        let errors: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        Err(format!("{place}: none or several of the alternatives fit: {}", errors.join("; ")))
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64() || value.as_f64().is_some_and(|x| x.fract() == 0.0),
        other => panic!("no type {other}"),
    }
}
