//! The formats against what the published Python package wrote: every entry of every vector file that is about them.
//!
//! `tests/interop/vectors/` holds recordings of Python `cachekit` 0.24.1. Differences are listed in `docs/interop.md` and
//! here in [`DIFFERENCES`]; a test fails if an entry differs that is not listed, and if one is listed that does not.

mod default_keys;
mod encryption;
mod envelopes;
mod frames;
mod hostile;
mod keys;
mod refusals;
mod typed;
mod values;

use std::path::PathBuf;

use serde_json::Value as Json;

use super::{InteropError, InteropValue, typed_json};

/// Entries that are accepted by Python and refused here, or the reverse, with the reason.
const DIFFERENCES: &[(&str, &str)] =
    &[("errors/default_key_arg/bytearray", "Rust has one type of bytes; Python refuses bytearray and takes bytes")];

fn vectors() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "tests", "interop", "vectors"].iter().collect()
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap()
}

fn document(name: &str) -> Json {
    serde_json::from_slice(&file(&format!("{name}.json"))).unwrap()
}

/// A list of a file, whose length is part of what is tested.
fn list(document: &Json, name: &str, len: usize) -> Vec<Json> {
    let list = document[name].as_array().unwrap().clone();
    assert_eq!(list.len(), len, "{name}");
    list
}

fn text<'a>(entry: &'a Json, field: &str) -> &'a str {
    entry[field].as_str().unwrap_or_else(|| panic!("{field} in {}", entry["name"]))
}

fn bytes(entry: &Json, field: &str) -> Vec<u8> {
    super::unhex(text(entry, field)).unwrap()
}

/// Compares, for tests that also have to see the comparison fail.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: {ours:?} is not {theirs:?}")) }
}

/// A value as Python shows it after reading: tuples are lists, and extensions pairs.
fn comes_back_as(value: &Json) -> Json {
    match value["$t"].as_str() {
        Some("tuple") => value["v"].as_array().unwrap().iter().map(comes_back_as).collect(),
        Some("map") => {
            let pairs = value["v"].as_array().unwrap().iter();
            let pairs: Vec<Json> =
                pairs.map(|pair| pair.as_array().unwrap().iter().map(comes_back_as).collect()).collect();
            serde_json::json!({ "$t": "map", "v": pairs })
        }
        Some("enum") => comes_back_as(&value["v"]),
        Some("ext") => {
            let code = serde_json::json!({ "$t": "int", "v": value["code"].to_string() });
            serde_json::json!([code, { "$t": "bytes", "hex": value["hex"] }])
        }
        // How a language writes a float down is its own affair.
        Some("float") => serde_json::json!({ "$t": "float", "bits": value["bits"] }),
        Some(_) => value.clone(),
        None => match value.as_array() {
            Some(items) => items.iter().map(comes_back_as).collect(),
            None => value.clone(),
        },
    }
}

/// Which order a reader keeps a map's entries in is its own affair.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Array(items) => items.iter().map(sorted).collect(),
        Json::Object(_) if value["$t"] == "map" => {
            let mut pairs: Vec<Json> = value["v"].as_array().unwrap().iter().map(sorted).collect();
            pairs.sort_by_key(ToString::to_string);
            serde_json::json!({ "$t": "map", "v": pairs })
        }
        other => other.clone(),
    }
}

fn shown(value: &InteropValue) -> Json {
    comes_back_as(&typed_json::from_value(value))
}

/// Whether an answer is the one that a vector expects, whatever its words.
fn judged<T>(entry: &Json, answer: &Result<T, InteropError>) {
    assert_eq!(answer.is_ok(), entry["ok"] == true, "{}: {:?}", entry["name"], answer.as_ref().err());
}
