//! The part of JSON Schema that functions' parameters may be written in.

use serde_json::{Map, Value};

/// Schemas inside of each other, at most; the innermost is a string.
const DEPTH_MAX: usize = 34;

/// Whether a strict GigaChat takes `schema` as the parameters of a function.
///
/// # Errors
/// What is wrong, and where.
pub fn accepted(schema: &Value) -> Result<(), String> {
    if schema["type"] != "object" {
        return Err(format!("the root is of type {}", schema["type"]));
    }
    judge(schema, "#", 0)
}

fn judge(schema: &Value, at: &str, depth: usize) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{at}: {why}"));
    let Value::Object(members) = schema else { return fail("no object") };
    if depth >= DEPTH_MAX {
        return fail("nested too deeply");
    }
    let Some(Value::String(kind)) = members.get("type") else { return fail("no type") };
    let known = ["string", "number", "integer", "boolean", "array", "object"];
    if !known.contains(&kind.as_str()) {
        return fail("unknown type");
    }
    for (key, value) in members {
        let fits = match (key.as_str(), value) {
            ("type", _) => true,
            ("description", value) => value.is_string(),
            ("format", Value::String(name)) => {
                kind == "string" && ["date", "date-time", "time"].contains(&name.as_str())
            }
            ("enum", list) => kind == "string" && is_set(list),
            ("required", list) => is_set(list),
            ("items", _) => kind == "array",
            ("properties", value) => kind == "object" && value.is_object(),
            _ => return fail(&format!("unknown keyword {key:?}")),
        };
        if !fits {
            return fail(&format!("{key} does not fit"));
        }
    }
    if kind == "array" {
        let Some(items) = members.get("items") else { return fail("no items") };
        judge(items, &format!("{at}/items"), depth + 1)?;
    }
    let none = Map::new();
    let properties = match members.get("properties") {
        Some(Value::Object(properties)) => properties,
        _ if kind == "object" => return fail("no properties"),
        _ => &none,
    };
    for (name, property) in properties {
        let at = format!("{at}/properties/{name}");
        if !property["description"].is_string() {
            return Err(format!("{at}: no description"));
        }
        judge(property, &at, depth + 1)?;
    }
    let required = members.get("required").and_then(Value::as_array);
    match required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|name| !properties.contains_key(*name))
    {
        Some(name) => fail(&format!("{name:?} is required and no property")),
        None => Ok(()),
    }
}

/// A list of strings, some, none twice.
fn is_set(value: &Value) -> bool {
    let Value::Array(list) = value else { return false };
    let mut texts: Vec<_> = list.iter().filter_map(Value::as_str).collect();
    texts.sort_unstable();
    texts.dedup();
    !list.is_empty() && texts.len() == list.len()
}
