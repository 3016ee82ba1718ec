//! Options held to the JSON Schema that a plugin exports, before anything is opened with them.
//!
//! A plugin reads its options itself and refuses what it does not take. Here it is done first, because here it is known on
//! which line an option stands, and because a secret that was written out must be refused before it is handed to anybody.
//! A message names the option and what it takes, and never what stands there: it may be a password.
//!
//! A stated part of JSON Schema (2020-12) is judged: `type`, `properties`, `required`, `additionalProperties`, `items`,
//! `enum`, `const`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `minLength`, `maxLength`, `minItems`,
//! `maxItems`, `$ref` within the schema, `anyOf`, `oneOf`, `allOf`, `format` for the widths of numbers, and `x-secret`.
//! What else a schema says ([`Schema::unjudged`]) is left to the plugin: a schema from years ahead must not keep it out.

mod form;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Map, Number, Value as Json};

use super::variables::nearest_of;
use form::{form, kind_of};

/// Deepest nesting of a schema, and most steps of one check: a schema may refer to itself without end.
const MAX_DEPTH: u32 = 64;
const MAX_STEPS: u32 = 20_000;

/// A schema of options.
#[derive(Debug)]
pub struct Schema<'a> {
    root: &'a Json,
    steps: Cell<u32>,
}

/// An option that a schema does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Which: `.table`, `.servers[2].port`.
    pub place: String,
    /// What is wrong, and what is accepted.
    pub reason: String,
}

impl Wrong {
    fn new(place: &str, reason: impl Into<String>) -> Self {
        Self { place: place.to_owned(), reason: reason.into() }
    }

    /// The option at the top that it is about.
    pub fn option(&self) -> Option<&str> {
        let name = self.place.strip_prefix('.')?;
        Some(name.split(['.', '[']).next().unwrap_or(name))
    }
}

type Judged = Result<(), Wrong>;

impl<'a> Schema<'a> {
    /// Takes the document.
    pub fn new(root: &'a Json) -> Self {
        Self { root, steps: Cell::new(0) }
    }

    /// Judges options.
    ///
    /// # Errors
    /// The first that is wrong; a misspelt name before a wrong value, and that before a missing one.
    pub fn check(&self, options: &Map<String, Json>) -> Judged {
        self.steps.set(0);
        // A map is what `[tier.options]` is; only its members can be wrong.
        self.judge(self.root, &Json::Object(options.clone()), "", 0)
    }

    /// Whether this value would do for the option of this name.
    pub fn takes(&self, option: &str, value: &Json) -> bool {
        self.steps.set(0);
        let schema = self.root.get("properties").and_then(|known| known.get(option));
        schema.is_some_and(|schema| self.judge(schema, value, "", 0).is_ok())
    }

    fn judge(&self, schema: &Json, value: &Json, place: &str, depth: u32) -> Judged {
        self.steps.set(self.steps.get() + 1);
        if depth > MAX_DEPTH || self.steps.get() > MAX_STEPS {
            return Ok(());
        }
        let schema = match schema {
            Json::Object(schema) => schema,
            Json::Bool(false) => return Err(Wrong::new(place, "nothing is accepted here")),
            _ => return Ok(()),
        };
        if is_secret(schema) {
            return secret(value, place);
        }
        if let Some(target) = schema.get("$ref").and_then(|reference| self.target(reference)) {
            self.judge(target, value, place, depth + 1)?;
        }
        self.kind(schema, value, place)?;
        one_of_some(schema, value, place)?;
        match value {
            Json::Number(number) => numbers(schema, number, place)?,
            Json::String(text) => {
                lengths(schema, text.chars().count(), ["minLength", "maxLength"], "characters", place)?
            }
            Json::Array(items) => self.items(schema, items, place, depth)?,
            Json::Object(fields) => self.fields(schema, fields, place, depth)?,
            Json::Null | Json::Bool(_) => {}
        }
        for part in list(schema, "allOf") {
            self.judge(part, value, place, depth + 1)?;
        }
        self.any(schema, value, place, depth)
    }

    /// What a reference within the document leads to.
    fn target(&self, reference: &Json) -> Option<&'a Json> {
        let pointer = reference.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer)
    }

    fn kind(&self, schema: &Map<String, Json>, value: &Json, place: &str) -> Judged {
        let is = |name: &Json| match (name.as_str(), value) {
            (Some("null"), Json::Null) | (Some("boolean"), Json::Bool(_)) | (Some("number"), Json::Number(_)) => true,
            // 1.0 is whole for JSON Schema and not for the readers of options.
            (Some("integer"), Json::Number(number)) => !number.is_f64(),
            (Some("string"), Json::String(_)) | (Some("array"), Json::Array(_)) | (Some("object"), Json::Object(_)) => {
                true
            }
            _ => false,
        };
        let fits = match schema.get("type") {
            None => true,
            Some(Json::Array(names)) => names.iter().any(is),
            Some(name) => is(name),
        };
        if fits {
            return Ok(());
        }
        Err(Wrong::new(place, format!("{} stands where {} belongs", kind_of(value), form(self, schema))))
    }

    fn items(&self, schema: &Map<String, Json>, items: &[Json], place: &str, depth: u32) -> Judged {
        lengths(schema, items.len(), ["minItems", "maxItems"], "items", place)?;
        let Some(of_each) = schema.get("items") else { return Ok(()) };
        (0..).zip(items).try_for_each(|(at, item)| self.judge(of_each, item, &format!("{place}[{at}]"), depth + 1))
    }

    fn fields(&self, schema: &Map<String, Json>, fields: &Map<String, Json>, place: &str, depth: u32) -> Judged {
        let none = Map::new();
        let known = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        let beyond = schema.get("additionalProperties").unwrap_or(&Json::Bool(true));
        if *beyond == Json::Bool(false)
            && let Some(name) = fields.keys().find(|name| !known.contains_key(*name))
        {
            return Err(Wrong::new(&format!("{place}.{}", form::shown(name)), unknown(name, known)));
        }
        for (name, value) in fields {
            let of_this = known.get(name).unwrap_or(beyond);
            self.judge(of_this, value, &format!("{place}.{}", form::shown(name)), depth + 1)?;
        }
        let missing = list(schema, "required").filter_map(Json::as_str).find(|name| !fields.contains_key(*name));
        match missing {
            None => Ok(()),
            Some(name) => {
                let wanted = known.get(name).and_then(Json::as_object).map_or("a value".into(), |of| form(self, of));
                Err(Wrong::new(
                    &format!("{place}.{}", form::shown(name)),
                    format!("it is missing, and must be {wanted}"),
                ))
            }
        }
    }

    /// One of several forms must fit. If none does, it is told what is wrong with the one that was most likely meant.
    fn any(&self, schema: &Map<String, Json>, value: &Json, place: &str, depth: u32) -> Judged {
        for name in ["anyOf", "oneOf"] {
            let mut wrong = Vec::new();
            let mut fits = false;
            for part in list(schema, name) {
                match self.judge(part, value, place, depth + 1) {
                    Ok(()) => {
                        fits = true;
                        break;
                    }
                    Err(error) => wrong.push((part, error)),
                }
            }
            if fits || wrong.is_empty() {
                continue;
            }
            // `null` is how a schema says "or nothing", which no configuration can write.
            wrong.retain(|(part, _)| part.get("type").and_then(Json::as_str) != Some("null"));
            if let [(_, error)] = wrong.as_slice() {
                return Err(error.clone());
            }
            // Deeper than here: this form fits as far as it could be looked at.
            if let Some((_, error)) = wrong.iter().find(|(_, error)| error.place.len() > place.len()) {
                return Err(error.clone());
            }
            return Err(Wrong::new(place, format!("it must be {}", form(self, schema))));
        }
        Ok(())
    }

    /// Keywords of the schema that are not judged here.
    pub fn unjudged(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        unjudged(self.root, &mut found, 0);
        found
    }

    /// Whether a part of the schema leads to a secret.
    pub(crate) fn leads_to_secret(&self, schema: &Map<String, Json>) -> bool {
        let target = || schema.get("$ref").and_then(|reference| self.target(reference)).and_then(Json::as_object);
        is_secret(schema) || target().is_some_and(is_secret)
    }
}

/// Secrets are named and never written; whatever else the schema says of one is about the reference.
fn secret(value: &Json, place: &str) -> Judged {
    let reference = match value {
        Json::Object(fields) if fields.len() == 1 => fields.get("$secret").and_then(Json::as_str),
        _ => None,
    };
    let is_a_reference =
        reference.and_then(|reference| reference.split_once(':')).is_some_and(|reference| match reference {
            ("env", name) => !name.is_empty(),
            ("file", path) => path.starts_with('/'),
            _ => false,
        });
    if is_a_reference {
        return Ok(());
    }
    Err(Wrong::new(place, format!("a secret is named here and never written: {}", form::SECRET)))
}

fn is_secret(schema: &Map<String, Json>) -> bool {
    schema.get("x-secret") == Some(&Json::Bool(true))
}

fn one_of_some(schema: &Map<String, Json>, value: &Json, place: &str) -> Judged {
    let listed = schema.get("enum").and_then(Json::as_array).is_none_or(|values| values.contains(value));
    let constant = schema.get("const").is_none_or(|only| only == value);
    if listed && constant {
        return Ok(());
    }
    Err(Wrong::new(place, format!("it must be {}", form::of_values(schema))))
}

fn numbers(schema: &Map<String, Json>, number: &Number, place: &str) -> Judged {
    let against = |name: &str| schema.get(name).and_then(Json::as_number).and_then(|bound| compare(number, bound));
    let below = against("minimum") == Some(Ordering::Less)
        || matches!(against("exclusiveMinimum"), Some(Ordering::Less | Ordering::Equal));
    let above = against("maximum") == Some(Ordering::Greater)
        || matches!(against("exclusiveMaximum"), Some(Ordering::Greater | Ordering::Equal));
    let fits_width =
        form::width(schema).is_none_or(|(min, max)| whole(number).is_none_or(|n| (min..=max).contains(&n)));
    if below || above || !fits_width {
        return Err(Wrong::new(place, format!("it must be {}", form::of_number(schema))));
    }
    Ok(())
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn lengths(schema: &Map<String, Json>, len: usize, bounds: [&str; 2], of: &str, place: &str) -> Judged {
    let [min, max] = bounds.map(|name| schema.get(name).and_then(Json::as_u64));
    let len = len as u64;
    if min.is_some_and(|min| len < min) || max.is_some_and(|max| len > max) {
        let reason = match (min, max) {
            (Some(min), Some(max)) => format!("it has {len} {of}, and must have {min} to {max}"),
            (Some(min), None) => format!("it has {len} {of}, and must have at least {min}"),
            (None, max) => format!("it has {len} {of}, and must have at most {}", max.unwrap_or_default()),
        };
        return Err(Wrong::new(place, reason));
    }
    Ok(())
}

fn unknown(name: &str, known: &Map<String, Json>) -> String {
    let names = || known.keys().map(String::as_str);
    match nearest_of(name, names()) {
        Some(nearest) => format!("there is no such option; did you mean {}?", form::shown(nearest)),
        None if known.is_empty() => "there is no such option; it takes none".into(),
        None => {
            let all: Vec<String> = names().map(form::shown).collect();
            format!("there is no such option; there are {}", all.join(", "))
        }
    }
}

fn list<'a>(schema: &'a Map<String, Json>, name: &str) -> impl Iterator<Item = &'a Json> {
    schema.get(name).and_then(Json::as_array).into_iter().flatten()
}

/// What is judged, and what only describes.
const JUDGED: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "$ref",
    "anyOf",
    "oneOf",
    "allOf",
    "format",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
];

fn unjudged(schema: &Json, found: &mut BTreeSet<String>, depth: u32) {
    let Some(schema) = schema.as_object().filter(|_| depth <= MAX_DEPTH) else { return };
    for (name, value) in schema {
        match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Json::Object(parts)) => {
                parts.values().for_each(|part| unjudged(part, found, depth + 1));
            }
            ("anyOf" | "oneOf" | "allOf", Json::Array(parts)) => {
                parts.iter().for_each(|part| unjudged(part, found, depth + 1));
            }
            ("items" | "additionalProperties", part) => unjudged(part, found, depth + 1),
            (name, _) if JUDGED.contains(&name) || name.starts_with("x-") => {}
            (name, _) => {
                found.insert(form::shown(name));
            }
        }
    }
}
