//! `interop` and `inspect` on what other languages store.

use serde_json::{Value as Json, json};

use crate::program::{Home, Ran};

const KEY: &str = "users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875";

fn master() -> String {
    "ab".repeat(32)
}

/// A run with a master key in the environment.
fn sealed(home: &Home, key: &str, args: &[&str]) -> Ran {
    home.command(args).env("CACHEKIT_MASTER_KEY", key).output().unwrap().into()
}

/// An entry of a vector file.
fn vector(file: &str, list: &str, name: &str) -> Json {
    let path = [env!("CARGO_MANIFEST_DIR"), "..", "tests", "interop", "vectors", file];
    let document: Json =
        serde_json::from_slice(&std::fs::read(path.iter().collect::<std::path::PathBuf>()).unwrap()).unwrap();
    document[list].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone()
}

#[test]
fn keys_are_those_of_python() {
    let home = Home::new();
    let key = |args: &[&str]| home.run(args).expect(0).out().trim().to_owned();
    assert_eq!(key(&["interop", "key", "users", "get_user", "[42]"]), KEY);
    assert_eq!(key(&["interop", "key", "users", "get_user", r#"[{"$t":"int","v":"42"}]"#]), KEY);
    assert_eq!(key(&["interop", "key", "users", "get_user", "[42.0]"]), KEY);
    let document = home.run(["interop", "key", "users", "get_user", "[42]", "--json"]).expect(0).json();
    assert_eq!(document, json!({ "key": KEY }));
    let plain = vector("default_keys.json", "vectors", "plain")["key"].as_str().unwrap().to_owned();
    assert_eq!(key(&["interop", "default-key", "myapp.services", "get_user", "[42]", "{}"]), plain);
    let auto = vector("default_keys.json", "vectors", "pythonic")["key"].as_str().unwrap().to_owned();
    let args = ["interop", "default-key", "myapp.services", "get_user", "[1]", "{}", "--namespace", "n"];
    assert_eq!(key(&[&args[..], &["--serializer", "pythonic", "--no-integrity"]].concat()), auto);
    for wrong in [
        &["interop", "key", "Users", "get_user", "[]"][..],
        &["interop", "key", "users", "get_user", "42"],
        &["interop", "key", "users", "get_user", "[1"],
        &["interop", "key", "users", "get_user", r#"[{"$t":"date","iso":"2024-01-01"}]"#],
        &["interop", "key", "users", "get_user", "[18446744073709551616]"],
        &["interop", "default-key", "m", "f", r#"[{"$t":"set","v":[]}]"#],
        &["interop", "get", "ck", "op", "[]"],
    ] {
        home.run(wrong).expect(2);
    }
}

#[test]
fn a_value_is_set_read_and_removed() {
    let home = Home::new();
    let value = r#"{"name":"Ada","born":{"$t":"date","iso":"1815-12-10"},"score":{"$t":"float","v":2.0},"raw":{"$t":"bytes","hex":"00ff"}}"#;
    let stored = home.run(["interop", "set", "users", "get_user", "[42]", value, "--ttl", "10m", "--json"]).expect(0);
    assert_eq!(stored.json(), json!({ "key": KEY, "stored": true }));
    let found = home.run(["interop", "get", "users", "get_user", "[42]", "--json"]).expect(0).json();
    assert_eq!((&found["key"], &found["hit"]), (&json!(KEY), &json!(true)));
    let pairs = found["value"]["v"].as_array().unwrap();
    let names: Vec<&str> = pairs.iter().map(|pair| pair[0].as_str().unwrap()).collect();
    assert_eq!(names, ["born", "name", "raw", "score"], "sorted, as every writer sorts them");
    assert_eq!(pairs[3][1]["bits"], "4000000000000000", "a float that is whole stays one");
    // What is printed can be given back.
    let printed = home.run(["interop", "get", "users", "get_user", "[42]"]).expect(0).out().to_owned();
    home.feed(["interop", "set", "users", "get_user", "[43]", "-"], printed.as_bytes()).expect(0);
    assert_eq!(home.run(["interop", "get", "users", "get_user", "[43]"]).expect(0).out(), printed);
    // The store holds the document and nothing else.
    let raw = home.run(["raw", "get", KEY, "--hex"]).expect(0).out().trim().to_owned();
    assert!(raw.starts_with("84a4626f726e"), "{raw}");
    home.run(["interop", "del", "users", "get_user", "[42]"]).expect(0);
    home.run(["interop", "del", "users", "get_user", "[42]"]).expect(1);
    let missed = home.run(["interop", "get", "users", "get_user", "[42]", "--json"]).expect(1).json();
    assert_eq!(missed, json!({ "key": KEY, "hit": false, "value": null }));
    for wrong in [r#"{"$t":"set","v":[]}"#, r#"{"$t":"float","bits":"7ff8000000000000"}"#, "{", "1e400"] {
        home.run(["interop", "set", "users", "get_user", "[42]", wrong]).expect(2);
    }
}

#[test]
fn a_sealed_value_is_opened_by_its_key_alone() {
    let home = Home::new();
    let (one, other) = (master(), "cd".repeat(32));
    home.run(["interop", "set", "users", "get_user", "[42]", "1", "--secure"]).expect(2);
    sealed(&home, &"ab".repeat(31), &["interop", "set", "users", "get_user", "[42]", "1", "--secure"]).expect(2);
    sealed(&home, &one, &["interop", "set", "users", "get_user", "[42]", r#"{"pin":1234}"#, "--secure"]).expect(0);
    let get = ["interop", "get", "users", "get_user", "[42]", "--secure"];
    let value = "{\"$t\":\"map\",\"v\":[[\"pin\",{\"$t\":\"int\",\"v\":\"1234\"}]]}\n";
    assert_eq!(sealed(&home, &one, &get).expect(0).out(), value);
    let wrong = sealed(&home, &other, &get).expect(4);
    assert!(wrong.err.contains("not authentic") && !wrong.err.contains("abab"), "{}", wrong.err);
    sealed(&home, &one, &[&get[..], &["--tenant", "acme"]].concat()).expect(4);
    let mut rotated = home.command(get);
    rotated.env("CACHEKIT_MASTER_KEY", &other).env("CACHEKIT_PREVIOUS_MASTER_KEYS", format!(" ,{one}"));
    assert_eq!(Ran::from(rotated.output().unwrap()).expect(0).out(), value);
    // Without keys nobody takes ciphertext for a value.
    home.run(["interop", "get", "users", "get_user", "[42]"]).expect(4);

    let seen = sealed(&home, &one, &["inspect", KEY, "--json"]).expect(0).json();
    assert_eq!(
        (&seen["format"], &seen["encrypted"], &seen["ok"], &seen["payload_hex"]),
        (&json!("interop"), &json!(true), &json!(true), &json!("81a370696ecd04d2"))
    );
    let refused = sealed(&home, &other, &["inspect", KEY, "--json"]).expect(4).json();
    assert_eq!((&refused["encrypted"], &refused["value"]), (&json!(true), &json!(null)));
    let blind = home.run(["inspect", KEY, "--json"]).expect(4).json();
    assert!(blind["reason"].as_str().unwrap().contains("CACHEKIT_MASTER_KEY"), "{blind}");
    // A plain entry where keys are configured is shown for what it is.
    home.run(["interop", "set", "users", "get_user", "[42]", "1"]).expect(0);
    let plain = sealed(&home, &one, &["inspect", KEY, "--json"]).expect(0).json();
    assert_eq!((&plain["encrypted"], &plain["value"]["v"]), (&json!(false), &json!("1")));
    sealed(&home, &one, &get).expect(4);
}

#[test]
fn a_store_that_puts_something_before_its_keys_is_not_shared() {
    let home = Home::new();
    for option in ["tenant=acme", "key_prefix=app:"] {
        let url = format!("redis://127.0.0.1:1/0?{option}");
        let refused = home.run(["--backend", &url, "interop", "get", "users", "get_user", "[42]"]).expect(2);
        assert!(refused.err.contains("prefix"), "{}", refused.err);
    }
    // Without one it is the server that is missing.
    home.run(["--backend", "redis://127.0.0.1:1/0", "interop", "get", "users", "get_user", "[42]"]).expect(3);
}

#[test]
fn entries_of_pythons_default_mode_are_shown() {
    let home = Home::new();
    let frame = vector("standard_serializer.json", "vectors", "map");
    let hex = frame["frame_integrity_on_hex"].as_str().unwrap();
    for args in [&["--as", "frame"][..], &[]] {
        let inspect = ["inspect", "--hex", hex, "--key", "k", "--json"];
        let seen = home.run(inspect.iter().chain(args)).expect(0).json();
        assert_eq!(
            (&seen["format"], &seen["encrypted"], &seen["payload_hex"], &seen["value"], &seen["serializer"]),
            (&json!("frame"), &json!(false), &frame["msgpack_hex"], &frame["decodes_to"], &json!("default"))
        );
    }
    let envelope = frame["envelope_hex"].as_str().unwrap();
    let seen = home.run(["inspect", "--hex", envelope, "--key", "k", "--json"]).expect(0).json();
    assert_eq!((&seen["format"], &seen["payload_hex"]), (&json!("bytestorage"), &frame["msgpack_hex"]));
    assert_eq!(seen["value"], frame["decodes_to"]);

    let secret = vector("encryption.json", "frames", "map_integrity_on");
    let (hex, key) = (secret["frame_hex"].as_str().unwrap(), secret["cache_key"].as_str().unwrap());
    let with = |key: &str| {
        let args = ["inspect", "--hex", hex, "--key", key, "--as", "frame", "--json"];
        sealed(&home, secret["master_key"].as_str().unwrap(), &args)
    };
    let seen = with(key).expect(0).json();
    assert_eq!((&seen["encrypted"], &seen["tenant"]), (&json!(true), &secret["tenant_id"]));
    assert!(seen["reason"].is_null() && seen["payload_hex"].is_string());
    let moved = with("ns:other").expect(4).json();
    assert!(moved["reason"].as_str().unwrap().contains("not authentic"), "{moved}");
    home.run(["inspect", "--hex", hex, "--key", key]).expect(4);

    // From the store, under the key that Python uses.
    let key = home.run(["interop", "default-key", "m", "f", "[1]"]).expect(0).out().trim().to_owned();
    home.run(["raw", "set", &key, frame["frame_integrity_on_hex"].as_str().unwrap(), "--hex"]).expect(0);
    assert_eq!(home.run(["inspect", &key, "--json"]).expect(0).json()["value"], frame["decodes_to"]);
    home.run(["inspect", &key, "--as", "bytestorage"]).expect(4);
    home.run(["inspect", "absent"]).expect(1);
}

#[test]
fn hostile_entries_are_refused_in_every_format() {
    let home = Home::new();
    let deep = "91".repeat(2000);
    for hostile in ["", "c1", "ddffffffff", &deep, "434b03ffffffff", "94c6ffffffff", "434b", "00ff"] {
        for format in ["interop", "bytestorage", "frame"] {
            let report =
                home.run(["inspect", "--hex", hostile, "--key", "k", "--as", format, "--json"]).expect(4).json();
            assert_eq!((&report["ok"], &report["value"]), (&json!(false), &json!(null)), "{hostile} {format}");
        }
    }
}
