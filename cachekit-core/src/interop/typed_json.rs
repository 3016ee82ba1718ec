//! JSON in and out for people and scripts: plain JSON, or objects `{"$t": type, …}` for what JSON cannot say.
//!
//! Plain numbers are taken as what they look like: `1` an integer, `1.0` a float. What comes out is always typed, so that
//! what was 2 does not come back as 2.0.

use serde_json::{Value as Json, json};

use super::argument::{Argument, NdArray};
use super::error::InteropError;
use super::value::InteropValue;
use super::{hex, unhex};

/// Reads an argument.
///
/// # Errors
/// [`InteropError::Argument`] that says which form is not understood.
pub fn to_argument(json: &Json) -> Result<Argument, InteropError> {
    Ok(match json {
        Json::Null => Argument::Nil,
        Json::Bool(value) => Argument::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => Argument::Int(value.into()),
            (_, Some(value), _) => Argument::Int(value.into()),
            // JSON text of a large integer has become a float on the way: it is not known what was meant.
            (.., Some(value)) if value.fract() != 0.0 || value.abs() < 9_007_199_254_740_992.0 => {
                Argument::Float(value)
            }
            _ => return refuse("a number", r#"write a large one as {"$t":"int","v":"…"} or {"$t":"float","v":…}"#),
        },
        Json::String(text) => Argument::Str(text.clone()),
        Json::Array(items) => Argument::Array(list(items)?),
        Json::Object(fields) => match fields.get("$t") {
            Some(Json::String(kind)) => typed(kind, json)?,
            Some(_) => return refuse("an object", "its $t is no text"),
            None => {
                let entry = |(name, value): (&String, &Json)| Ok((Argument::Str(name.clone()), to_argument(value)?));
                Argument::Map(fields.iter().map(entry).collect::<Result<_, InteropError>>()?)
            }
        },
    })
}

/// Reads a flat list of arguments.
///
/// # Errors
/// As [`to_argument`]; also if it is no list.
pub fn to_arguments(json: &Json) -> Result<Vec<Argument>, InteropError> {
    match json {
        Json::Array(items) => list(items),
        Json::Object(fields) if fields.get("$t") == Some(&json!("tuple")) => list(array(json, "v")?),
        _ => refuse("the arguments", "they must be a JSON list"),
    }
}

/// Reads named arguments: an object, or a typed map with text keys.
///
/// # Errors
/// As [`to_argument`].
pub fn to_named_arguments(json: &Json) -> Result<Vec<(String, Argument)>, InteropError> {
    let Argument::Map(entries) = to_argument(json)? else { return refuse("the named arguments", "they must be a map") };
    let named = |(name, value)| match name {
        Argument::Str(name) => Ok((name, value)),
        _ => refuse("the named arguments", "their names must be text"),
    };
    entries.into_iter().map(named).collect()
}

fn list(items: &[Json]) -> Result<Vec<Argument>, InteropError> {
    items.iter().map(to_argument).collect()
}

fn typed(kind: &str, json: &Json) -> Result<Argument, InteropError> {
    Ok(match kind {
        "int" => match text(json, "v")?.parse::<i128>() {
            Ok(value) => Argument::Int(value),
            Err(_) => return refuse("an integer", "it is outside -2^63 to 2^64-1, or no decimal text"),
        },
        "float" => match json.get("bits") {
            Some(_) => match <[u8; 8]>::try_from(bytes(json, "bits")?) {
                Ok(bits) => Argument::Float(f64::from_bits(u64::from_be_bytes(bits))),
                Err(_) => return refuse("a float", "its bits are not 16 hex digits"),
            },
            None => match json.get("v").and_then(Json::as_f64) {
                Some(value) => Argument::Float(value),
                None => return refuse("a float", "it needs bits or v"),
            },
        },
        "str_utf16" => Argument::Str(utf16(json)?),
        "bytes" => Argument::Bytes(bytes(json, "hex")?),
        "tuple" => Argument::Array(list(array(json, "v")?)?),
        "set" | "frozenset" => Argument::Set(list(array(json, "v")?)?),
        "map" => Argument::Map(array(json, "v")?.iter().map(pair).collect::<Result<_, _>>()?),
        "datetime" => Argument::DateTime(text(json, "iso")?.parse()?),
        "date" => Argument::Date(text(json, "iso")?.parse()?),
        "time" => Argument::Time(text(json, "iso")?.parse()?),
        "uuid" => Argument::uuid(text(json, "v")?)?,
        "decimal" => Argument::Decimal(text(json, "v")?.to_owned()),
        "path" => Argument::Path(text(json, "v")?.to_owned()),
        "enum" => Argument::Enum(Box::new(to_argument(json.get("v").unwrap_or(&Json::Null))?)),
        "ndarray" => Argument::NdArray(NdArray {
            dtype: text(json, "dtype")?.to_owned(),
            shape: array(json, "shape")?.iter().filter_map(Json::as_u64).collect(),
            bytes: bytes(json, "hex")?,
        }),
        _ => return refuse("an object", "its $t names no type that is known here"),
    })
}

fn pair(json: &Json) -> Result<(Argument, Argument), InteropError> {
    match json.as_array().map(Vec::as_slice) {
        Some([key, value]) => Ok((to_argument(key)?, to_argument(value)?)),
        _ => refuse("a map", "its v is a list of pairs"),
    }
}

fn text<'a>(json: &'a Json, field: &'static str) -> Result<&'a str, InteropError> {
    json.get(field).and_then(Json::as_str).map_or_else(|| refuse("an object", "a text field is missing"), Ok)
}

fn array<'a>(json: &'a Json, field: &'static str) -> Result<&'a [Json], InteropError> {
    let items = json.get(field).and_then(Json::as_array).map(Vec::as_slice);
    items.map_or_else(|| refuse("an object", "a list field is missing"), Ok)
}

fn bytes(json: &Json, field: &'static str) -> Result<Vec<u8>, InteropError> {
    unhex(text(json, field)?).map_or_else(|| refuse("an object", "a hex field is no hex"), Ok)
}

fn utf16(json: &Json) -> Result<String, InteropError> {
    let units: Option<Vec<u16>> =
        array(json, "units")?.iter().map(|unit| u16::from_str_radix(unit.as_str()?, 16).ok()).collect();
    let text = units.and_then(|units| String::from_utf16(&units).ok());
    text.map_or_else(|| refuse("a string", "it has a surrogate without its other half"), Ok)
}

fn refuse<T>(kind: &'static str, reason: &'static str) -> Result<T, InteropError> {
    Err(InteropError::Argument { kind, reason })
}

/// Reads a value: what an argument may be, without what only keys have.
///
/// # Errors
/// As [`to_argument`], and [`InteropError::Value`] for sets, UUIDs and the like.
pub fn to_value(json: &Json) -> Result<InteropValue, InteropError> {
    value_of(to_argument(json)?)
}

fn value_of(argument: Argument) -> Result<InteropValue, InteropError> {
    let kind = argument.kind();
    let refuse = |reason| Err(InteropError::Value { kind, reason });
    Ok(match argument {
        Argument::Nil => InteropValue::Nil,
        Argument::Bool(value) => InteropValue::Bool(value),
        Argument::Int(value) => InteropValue::Int(value),
        Argument::Float(value) => InteropValue::Float(value),
        Argument::Str(text) => InteropValue::Str(text),
        Argument::Bytes(bytes) => InteropValue::Bytes(bytes),
        Argument::Array(items) => InteropValue::Array(items.into_iter().map(value_of).collect::<Result<_, _>>()?),
        Argument::Map(entries) => {
            let entry = |(key, value)| Ok((value_of(key)?, value_of(value)?));
            InteropValue::Map(entries.into_iter().map(entry).collect::<Result<_, InteropError>>()?)
        }
        Argument::DateTime(moment) => InteropValue::DateTime(moment),
        Argument::Date(date) => InteropValue::Date(date),
        Argument::Time(time) => InteropValue::Time(time),
        // A member that is also an integer is stored as one.
        Argument::Enum(value) => match *value {
            Argument::Int(value) => InteropValue::Int(value),
            _ => return refuse("store its value"),
        },
        Argument::Set(_) => return refuse("store a list"),
        Argument::Uuid(_) | Argument::Decimal(_) | Argument::Path(_) => return refuse("store its text"),
        Argument::NdArray(_) => return refuse("store a list, or bytes"),
    })
}

/// Writes a value, everything typed that JSON could confuse.
#[must_use]
pub fn from_value(value: &InteropValue) -> Json {
    match value {
        InteropValue::Nil => Json::Null,
        InteropValue::Bool(value) => json!(value),
        InteropValue::Int(value) => json!({ "$t": "int", "v": value.to_string() }),
        InteropValue::Float(value) => {
            json!({ "$t": "float", "bits": format!("{:016x}", value.to_bits()), "repr": format!("{value:?}") })
        }
        InteropValue::Str(text) => json!(text),
        InteropValue::Bytes(bytes) => json!({ "$t": "bytes", "hex": hex(bytes) }),
        InteropValue::Array(items) => items.iter().map(from_value).collect(),
        InteropValue::Map(entries) => {
            let pairs: Vec<Json> =
                entries.iter().map(|(key, value)| json!([from_value(key), from_value(value)])).collect();
            json!({ "$t": "map", "v": pairs })
        }
        InteropValue::DateTime(moment) => match moment.unix_micros() {
            Some(micros) => {
                json!({ "$t": "datetime", "iso": moment.to_string(), "unix_micros": micros.to_string() })
            }
            None => json!({ "$t": "datetime", "iso": moment.to_string() }),
        },
        InteropValue::Date(date) => json!({ "$t": "date", "iso": date.to_string() }),
        InteropValue::Time(time) => json!({ "$t": "time", "iso": time.to_string() }),
        InteropValue::Ext(code, bytes) => json!({ "$t": "ext", "code": code, "hex": hex(bytes) }),
    }
}
