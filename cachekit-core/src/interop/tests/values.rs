//! Interop values: `interop_values.json`.

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{comes_back_as, document, judged, list, same, shown, sorted, text};
use crate::interop::{InteropError, InteropValue, Malformed, canonical_value, hex, read_value, typed_json};

fn check(entry: &Json) -> Result<(), String> {
    let value = typed_json::to_value(&entry["value"]).unwrap();
    let document = canonical_value(&value).unwrap();
    match entry["hex"].as_str() {
        Some(expected) => same("bytes", hex(&document).as_str(), expected)?,
        None => same("digest", hex(&Sha256::digest(&document)).as_str(), text(entry, "sha256"))?,
    }
    let back = read_value(&document).map_err(|fault| fault.to_string())?;
    match &entry["decodes_to"] {
        Json::String(same_string) if same_string == "same string" => same("value", back, value),
        expected => same("value", sorted(&shown(&back)), sorted(&comes_back_as(expected))),
    }
}

#[test]
fn every_value_is_written_as_python_writes_it_and_read_back() {
    for entry in list(&document("interop_values"), "vectors", 27) {
        check(&entry).unwrap_or_else(|difference| panic!("{}: {difference}", entry["name"]));
    }
}

/// The control.
#[test]
fn a_changed_vector_is_noticed() {
    for mut entry in list(&document("interop_values"), "vectors", 27) {
        let field = if entry["hex"].is_string() { "hex" } else { "sha256" };
        entry[field] = format!("0{}", text(&entry, field)).into();
        assert!(check(&entry).is_err(), "{}", entry["name"]);
    }
}

#[test]
fn documents_of_foreign_writers_are_taken_as_python_takes_them() {
    for entry in list(&document("interop_values"), "decode", 28) {
        let answer = read_value(&super::bytes(&entry, "hex")).map_err(InteropError::from);
        judged(&entry, &answer);
        let Ok(value) = answer else { continue };
        match &entry["value"] {
            Json::String(nested) if nested == "(nested)" => assert!(matches!(value, InteropValue::Array(_))),
            // Python's own type for it has no form in JSON; ours is what stood there.
            opaque if opaque["$t"] == "opaque" => assert_eq!(value, InteropValue::Ext(-1, vec![0, 0, 0, 1])),
            expected => assert_eq!(shown(&value), comes_back_as(expected), "{}", entry["name"]),
        }
    }
}

#[test]
fn what_would_come_back_as_something_else_is_not_written() {
    let map = |sentinel: &str, value: &str| {
        InteropValue::Map(vec![(sentinel.into(), true.into()), ("value".into(), value.into())])
    };
    for forged in [map("__date__", "2024-01-15"), map("__time__", "soon"), map("__datetime__", "")] {
        assert!(matches!(canonical_value(&forged), Err(InteropError::Value { .. })));
    }
    let twice = InteropValue::Map(vec![("a".into(), 1_u8.into()), ("a".into(), 2_u8.into())]);
    assert!(canonical_value(&twice).is_err());
    assert!(canonical_value(&InteropValue::Ext(1, vec![])).is_err());
}

#[test]
fn a_reader_says_why() {
    for (document, why) in [
        (&b"CK\x03\0\0\0\0"[..], Malformed::FramePrefix),
        (b"", Malformed::Truncated),
        (b"\xc0\xc0", Malformed::Trailing),
        (b"\xc1", Malformed::Reserved),
        (b"\xa1\xff", Malformed::Utf8),
        (b"\x81\xc0\x01", Malformed::MapKey),
    ] {
        assert_eq!(read_value(document).unwrap_err(), why);
    }
}
