//! What a schema accepts, in the words of whoever writes a configuration.
//!
//! The texts of a schema come from a plugin on their way to a terminal: they are cut, and hold nothing that moves its cursor.

use serde_json::{Map, Value as Json};

use super::{Schema, list};

pub(super) const SECRET: &str = r#"{ "$secret" = "env:NAME" } or { "$secret" = "file:/absolute/path" }"#;

/// Longest description and longest name that are repeated.
const MAX_TEXT: usize = 160;
/// Most values that are listed.
const MAX_VALUES: usize = 24;

/// What a value is, without the value.
pub(super) fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "nothing",
        Json::Bool(_) => "true or false",
        Json::Number(number) if number.is_f64() => "a number with a point",
        Json::Number(_) => "a whole number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "a table",
    }
}

/// What is accepted, with the first sentence of what the schema says of it.
pub(super) fn form(schema: &Schema<'_>, part: &Map<String, Json>) -> String {
    let form = plain(schema, part, 0);
    match part.get("description").and_then(Json::as_str).map(first_sentence) {
        Some(sentence) if !sentence.is_empty() => format!("{form} ({sentence})"),
        _ => form,
    }
}

fn plain(schema: &Schema<'_>, part: &Map<String, Json>, depth: u32) -> String {
    if depth > 8 {
        return "what the plugin takes".into();
    }
    if schema.leads_to_secret(part) {
        return format!("a secret by its name: {SECRET}");
    }
    if part.contains_key("enum") || part.contains_key("const") {
        return of_values(part);
    }
    if let Some(target) = part.get("$ref").and_then(|reference| schema.target(reference)).and_then(Json::as_object) {
        return plain(schema, target, depth + 1);
    }
    let parts: Vec<&Map<String, Json>> =
        ["anyOf", "oneOf"].iter().flat_map(|name| list(part, name)).filter_map(Json::as_object).collect();
    // How schemas write a choice of words, each with its description.
    if !parts.is_empty() && parts.iter().all(|part| part.contains_key("const") || part.contains_key("enum")) {
        let values: Vec<Json> = parts.iter().flat_map(|part| values(part)).cloned().collect();
        return one_of(&values);
    }
    let mut forms: Vec<String> = parts.iter().map(|part| plain(schema, part, depth + 1)).collect();
    forms.extend(kinds(part).map(|kind| match kind {
        "boolean" => "true or false".into(),
        "integer" | "number" => of_number(part),
        "string" => "text".into(),
        "array" => match part.get("items").and_then(Json::as_object) {
            Some(items) => format!("a list, each {}", plain(schema, items, depth + 1)),
            None => "a list".into(),
        },
        "object" => "a table".into(),
        _ => String::new(),
    }));
    forms.retain(|form| !form.is_empty());
    forms.dedup();
    if forms.is_empty() { "what the plugin takes".into() } else { forms.join(" or ") }
}

fn kinds(part: &Map<String, Json>) -> impl Iterator<Item = &str> {
    let kind = part.get("type");
    kind.into_iter().flat_map(|kind| match kind {
        Json::Array(names) => names.iter().filter_map(Json::as_str).collect::<Vec<_>>(),
        name => name.as_str().into_iter().collect(),
    })
}

pub(super) fn of_values(part: &Map<String, Json>) -> String {
    one_of(&values(part).cloned().collect::<Vec<_>>())
}

fn values(part: &Map<String, Json>) -> impl Iterator<Item = &Json> {
    list(part, "enum").chain(part.get("const"))
}

fn one_of(values: &[Json]) -> String {
    let mut shown: Vec<String> = values
        .iter()
        .filter(|value| !value.is_null())
        .take(MAX_VALUES)
        .map(|value| self::shown(&value.to_string()))
        .collect();
    if values.len() > MAX_VALUES {
        shown.push("…".into());
    }
    match shown.as_slice() {
        [only] => only.clone(),
        several => format!("one of {}", several.join(", ")),
    }
}

pub(super) fn of_number(part: &Map<String, Json>) -> String {
    let whole = kinds(part).any(|kind| kind == "integer");
    let kind = if whole { "a whole number" } else { "a number" };
    let bound = |name: &str| part.get(name).and_then(Json::as_number).map(ToString::to_string);
    let width = width(part);
    let min = bound("minimum").or_else(|| width.map(|(min, _)| min.to_string()));
    let max = bound("maximum").or_else(|| width.map(|(_, max)| max.to_string()));
    let above = bound("exclusiveMinimum").map(|min| format!("above {min}"));
    let below = bound("exclusiveMaximum").map(|max| format!("below {max}"));
    let range = match (min, max) {
        (Some(min), Some(max)) => Some(format!("from {min} to {max}")),
        (Some(min), None) => Some(format!("of at least {min}")),
        (None, Some(max)) => Some(format!("of at most {max}")),
        (None, None) => None,
    };
    let words: Vec<String> = [range, above, below].into_iter().flatten().collect();
    if words.is_empty() { kind.into() } else { format!("{kind} {}", words.join(", ")) }
}

/// What fits into a number of the width that a schema names.
pub(super) fn width(part: &Map<String, Json>) -> Option<(i128, i128)> {
    Some(match part.get("format").and_then(Json::as_str)? {
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint64" | "uint" => (0, u64::MAX.into()),
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        _ => return None,
    })
}

fn first_sentence(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let end = first.find(". ").unwrap_or(first.len());
    shown(first[..end].trim().trim_end_matches('.'))
}

/// Text of a plugin or of a configuration, fit for a line of a terminal.
pub(super) fn shown(text: &str) -> String {
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() || "…–—“”’≥≤".contains(c);
    let mut shown: String = text.chars().take(MAX_TEXT).map(|c| if is_plain(c) { c } else { '?' }).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        shown.push('…');
    }
    shown
}
