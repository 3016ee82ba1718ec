//! interop/v1 keys: `interop_keys.json`.

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{document, list, same, text};
use crate::interop::{Argument, Arguments, InteropError, canonical_arguments, hex, interop_key, typed_json};

fn check(entry: &Json) -> Result<(), String> {
    let arguments = typed_json::to_arguments(&entry["args"]).unwrap();
    let canonical = canonical_arguments(&arguments).unwrap();
    match entry["canonical_hex"].as_str() {
        Some(expected) => same("canonical", hex(&canonical).as_str(), expected)?,
        None => same("digest", hex(&Sha256::digest(&canonical)).as_str(), text(entry, "canonical_sha256"))?,
    }
    let key = interop_key(text(entry, "namespace"), text(entry, "operation"), &arguments).unwrap();
    same("key", key.as_str(), text(entry, "key"))
}

#[test]
fn every_key_is_the_one_that_python_makes() {
    for entry in list(&document("interop_keys"), "vectors", 76) {
        check(&entry).unwrap_or_else(|difference| panic!("{}: {difference}", entry["name"]));
    }
    for entry in list(&document("interop_keys"), "binding", 4) {
        let flat = typed_json::to_arguments(&entry["flat"]).unwrap();
        assert_eq!(interop_key("users", "bind", &flat).unwrap(), text(&entry, "key"));
    }
}

/// The control: a vector that is wrong in one digit is seen.
#[test]
fn a_changed_vector_is_noticed() {
    for entry in list(&document("interop_keys"), "vectors", 76) {
        for field in ["canonical_hex", "canonical_sha256", "key"] {
            let Some(good) = entry[field].as_str() else { continue };
            let last = if good.ends_with('0') { "1" } else { "0" };
            let mut changed = entry.clone();
            changed[field] = format!("{}{last}", &good[..good.len() - 1]).into();
            assert!(check(&changed).is_err(), "{} {field}", entry["name"]);
        }
    }
}

#[test]
fn rust_values_make_the_keys_of_their_python_counterparts() {
    let key = |arguments: &dyn Arguments| interop_key("users", "op", &arguments.flat()).unwrap();
    assert_eq!(key(&(2.0,)), key(&(2_u64,)));
    assert_eq!(key(&(42, "a", None::<bool>)), key(&[Argument::Int(42), "a".into(), Argument::Nil]));
    assert_eq!(key(&()), key(&Vec::<Argument>::new()));
    assert_ne!(key(&(true,)), key(&(1,)));
    // The order of a hash map is another in each process; that of a key must not be.
    let map: std::collections::HashMap<String, i64> = (0..50).map(|n| (format!("k{n}"), n)).collect();
    let sorted: std::collections::BTreeMap<String, i64> = map.clone().into_iter().collect();
    assert_eq!(key(&(map,)), key(&(sorted,)));
    // Too large for the format is refused, not cut.
    for number in [Argument::from(u128::MAX), Argument::from(i128::MIN), Argument::from(1_u128 << 64)] {
        assert!(matches!(interop_key("n", "o", &[number]), Err(InteropError::Argument { .. })));
    }
}
