//! Keys of Python's default mode, its registry and its events: `default_keys.json`, `redis_contents.json`.

use serde_json::Value as Json;

use super::{bytes, document, list, same, text};
use crate::interop::{
    DefaultKey, InvalidationEvent, custom_key, fast_key, function_hash, hex, registry_id, typed_json,
};

fn check(entry: &Json) -> Result<(), String> {
    let args = typed_json::to_arguments(&entry["args"]).unwrap();
    let kwargs = typed_json::to_named_arguments(&entry["kwargs"]).unwrap();
    let call = DefaultKey {
        module: text(entry, "module"),
        qualname: text(entry, "qualname"),
        namespace: entry["namespace"].as_str(),
        integrity: entry["integrity"] == true,
        serializer: text(entry, "serializer"),
        args: &args,
        kwargs: &kwargs,
    };
    let key = call.key().unwrap();
    same("arguments", hex(&call.packed_arguments().unwrap()).as_str(), text(entry, "args_msgpack_hex"))?;
    same("digest", call.arguments_digest().unwrap().as_str(), text(entry, "args_hash"))?;
    same("function", call.function().as_str(), text(entry, "sanitized_func"))?;
    same("serializer", call.serializer_code().unwrap().as_str(), text(entry, "serializer_code"))?;
    same("length", key.chars().count() as u64, entry["key_chars"].as_u64().unwrap())?;
    same("key", key.as_str(), text(entry, "key"))
}

#[test]
fn every_default_key_is_the_one_that_python_makes() {
    for entry in list(&document("default_keys"), "vectors", 47) {
        check(&entry).unwrap_or_else(|difference| panic!("{}: {difference}", entry["name"]));
    }
}

/// The control.
#[test]
fn a_changed_vector_is_noticed() {
    for entry in list(&document("default_keys"), "vectors", 47) {
        for field in ["key", "args_hash", "args_msgpack_hex", "serializer_code"] {
            let mut changed = entry.clone();
            changed[field] = format!("{}0", text(&entry, field)).into();
            assert!(check(&changed).is_err(), "{} {field}", entry["name"]);
        }
    }
}

#[test]
fn derived_names_are_those_of_python() {
    for entry in list(&document("default_keys"), "derived", 2) {
        let (module, qualname) = text(&entry, "function_identifier").rsplit_once('.').unwrap();
        assert_eq!(function_hash(module, qualname), text(&entry, "registry_hash_blake3_8"));
        assert_eq!(registry_id(Some("users"), module, qualname), text(&entry, "registry_id_ns_users"));
        assert_eq!(registry_id(None, module, qualname), text(&entry, "registry_id_no_ns"));
        for example in ["custom_key_example", "custom_key_example_ns"] {
            let example = &entry[example];
            let key = custom_key(example["namespace"].as_str(), module, qualname, text(example, "key_fn_returns"));
            assert_eq!(key, text(example, "wire_key"));
        }
        let hashed = &entry["cache_key_hash_of_str"];
        let fast = fast_key(None, module, qualname, text(hashed, "input"));
        let (function, arguments) = (text(&entry, "function_hash_blake3_4"), text(hashed, "hash"));
        assert_eq!(fast, format!("default:{function}:{arguments}"));
    }
}

#[test]
fn invalidation_events_are_those_of_python() {
    for entry in list(&document("redis_contents"), "invalidation_events", 17) {
        let event = |pair: &Json| InvalidationEvent {
            registry_id: pair[0].as_str().unwrap().to_owned(),
            key: pair[1].as_str().map(str::to_owned),
        };
        match text(&entry, "action") {
            "encode_event" => {
                let pair = Json::from(vec![entry["registry_id"].clone(), entry["key"].clone()]);
                let payload = event(&pair).encode().map(|payload| hex(&payload));
                assert_eq!(payload.as_deref(), entry["payload_hex"].as_str());
            }
            "decode_event" => {
                let long = [&b"\x81\xa1r\xda\x10\x00"[..], &[b'a'; 4096]].concat();
                let payload = if entry["hex"].is_null() { long } else { bytes(&entry, "hex") };
                assert_eq!(payload.len() as u64, entry["len"].as_u64().unwrap());
                let expected = entry["ok"].is_array().then(|| event(&entry["ok"]));
                assert_eq!(InvalidationEvent::decode(&payload).ok(), expected, "{}", entry["name"]);
            }
            // What a call of Python published.
            _ => {
                let (payload, expected) = (bytes(&entry, "payload_hex"), event(&entry["decoded"]));
                assert_eq!(text(&entry, "channel"), crate::interop::INVALIDATION_CHANNEL);
                assert_eq!(InvalidationEvent::decode(&payload).as_ref(), Ok(&expected));
                assert_eq!(expected.encode(), Some(payload));
            }
        }
    }
}
