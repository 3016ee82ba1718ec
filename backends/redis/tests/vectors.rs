//! What the Python package leaves in a server, and what this backend leaves there for the same calls.

mod store;

use cachekit_plugin::{Backend, Cx, Key, Ttl};
use cachekit_test_servers::redis::Redis;
use serde_json::{Value, json};
use store::{PATIENCE, get, open, set_for};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/redis_contents.json")).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// All keys of a server in the form of the file.
async fn contents(server: &Redis) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    keys.sort();
    let mut found = Vec::new();
    for key in keys {
        let value = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
        let left = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        found.push((key, value, left));
    }
    found
}

/// A life in milliseconds as the file's tolerance has it: up to five seconds may have passed in its recording.
fn alike(ours: i64, theirs: i64) -> bool {
    if theirs < 0 { ours == theirs } else { (ours - theirs).abs() < 5_000 }
}

#[tokio::test]
async fn plain_operations_leave_what_the_python_package_leaves() {
    let (vectors, mut compared) = (vectors(), 0);
    for operation in vectors["operations"].as_array().unwrap() {
        let name = operation["name"].as_str().unwrap();
        let (tenant, ttl_ms) = match name {
            "plain_set_ttl" => (None, Some(60_000)),
            "plain_set_no_ttl" | "plain_set_ttl_0" | "plain_set_ttl_negative" => (None, None),
            "tenant_set_ttl" => (operation["tenant"].as_str(), Some(30_000)),
            _ => continue,
        };
        let server = Redis::start();
        let backend = open(json!({ "url": server.url(), "tenant": tenant }));
        let expected = &operation["keys"][0];
        let (key, value) =
            (unhex(expected["key_hex"].as_str().unwrap()), unhex(expected["value_hex"].as_str().unwrap()));
        let prefix = tenant.map(|tenant| format!("t:{tenant}:")).unwrap_or_default();
        let own = key.strip_prefix(prefix.as_bytes()).unwrap();
        set_for(&backend, own, &value, ttl_ms.map_or(Ttl::Never, |ms| Ttl::from_ms(ms).unwrap())).await.unwrap();
        let [(found_key, found_value, left)] = &contents(&server).await[..] else { panic!("{name}") };
        assert_eq!((found_key, found_value), (&key, &value), "{name}");
        assert!(alike(*left, expected["pttl"].as_i64().unwrap()), "{name}: {left}");
        compared += 1;
    }
    assert_eq!(compared, 5);
}

#[tokio::test]
async fn every_string_that_python_left_is_read_and_written_back_the_same() {
    let (vectors, mut compared) = (vectors(), 0);
    let server = Redis::start();
    let backend = open(json!({ "url": server.url() }));
    for operation in vectors["operations"].as_array().unwrap() {
        let strings = operation["keys"].as_array().into_iter().flatten().filter(|key| key["type"] == "string");
        for expected in strings {
            let key = unhex(expected["key_hex"].as_str().unwrap());
            let value = unhex(expected["value_hex"].as_str().unwrap());
            set_for(&backend, &key, &value, Ttl::Never).await.unwrap();
            let found = contents(&server).await;
            assert_eq!(found, [(key.clone(), value.clone(), -1)]);
            assert_eq!(get(&backend, &key).await.unwrap().as_deref(), Some(&*value));
            assert!(store::delete(&backend, &key).await.unwrap());
            compared += 1;
        }
    }
    assert!(compared >= 10, "{compared} strings");
}

#[tokio::test]
async fn tenants_become_the_prefixes_of_the_family() {
    let (vectors, mut compared) = (vectors(), 0);
    let server = Redis::start();
    for vector in vectors["tenant_prefixes"].as_array().unwrap() {
        let Some(prefix) = vector["key_prefix"].as_str() else { continue };
        let tenant = match &vector["tenant"] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            typed if typed["v"].is_string() => typed["v"].as_str().unwrap().to_owned(),
            typed if typed["bytes_hex"].is_string() => {
                match String::from_utf8(unhex(typed["bytes_hex"].as_str().unwrap())) {
                    Ok(text) => text,
                    // An option is text.
                    Err(_) => continue,
                }
            }
            other => panic!("{other}"),
        };
        let backend = open(json!({ "url": server.url(), "tenant": tenant }));
        set_for(&backend, b"k", b"v", Ttl::Never).await.unwrap();
        assert_eq!(contents(&server).await, [(format!("{prefix}k").into_bytes(), b"v".to_vec(), -1)], "{vector}");
        store::delete(&backend, b"k").await.unwrap();
        compared += 1;
    }
    assert!(compared >= 9, "{compared} tenants");
}

#[tokio::test]
async fn a_lease_is_the_one_that_the_python_package_takes() {
    let vectors = vectors();
    let operation = vectors["operations"]
        .as_array()
        .unwrap()
        .iter()
        .find(|operation| operation["name"] == "tenant_lock_acquire_release")
        .unwrap();
    let held = &operation["held_state"][0];
    let token = unhex(held["value_hex"].as_str().unwrap());
    let server = Redis::start();
    let backend = open(json!({ "url": server.url(), "tenant": "acme" }));
    let (key, cx) = (Key::from_wire(b"users:1"), Cx::within(PATIENCE));
    let locks = backend.locks().unwrap();
    assert!(locks.lock(key, &token, 10_000, &cx).await.unwrap());
    let [(found_key, found_value, left)] = &contents(&server).await[..] else { panic!() };
    assert_eq!((found_key, found_value), (&unhex(held["key_hex"].as_str().unwrap()), &token));
    assert!(alike(*left, held["pttl"].as_i64().unwrap()), "{left}");
    assert!(!locks.unlock(key, b"another", &cx).await.unwrap());
    assert!(locks.unlock(key, &token, &cx).await.unwrap());
    assert_eq!(contents(&server).await, []);
}

#[tokio::test]
async fn leases_and_what_others_keep_are_neither_listed_nor_cleared() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url(), "tenant": "acme" }));
    let cx = Cx::within(PATIENCE);
    set_for(&backend, b"entry", b"v", Ttl::Never).await.unwrap();
    // Named like a lease, but it has no end; and one that is longer than any token.
    set_for(&backend, b"door:lock", b"v", Ttl::Never).await.unwrap();
    set_for(&backend, b"long:lock", &[7; 100], Ttl::from_ms(60_000).unwrap()).await.unwrap();
    assert!(backend.locks().unwrap().lock(Key::from_wire(b"entry"), b"token", 60_000, &cx).await.unwrap());
    server.command(&["SADD", "t:acme:ck:reg:ns:00", "entry"]);
    server.command(&["SET", "t:other:entry", "v"]);
    let page = backend.scan().unwrap().next(b"", None, 100, &cx).await.unwrap();
    let mut listed: Vec<&[u8]> = page.items.iter().map(|item| &**item).collect();
    listed.sort();
    assert_eq!(listed, [&b"door:lock"[..], b"entry", b"long:lock"]);
    assert_eq!(backend.clear().unwrap().clear(b"", &cx).await.unwrap(), 3);
    for kept in ["t:acme:entry:lock", "t:acme:ck:reg:ns:00", "t:other:entry"] {
        assert_eq!(server.command(&["EXISTS", kept]), "1", "{kept}");
    }
}

#[tokio::test]
async fn lives_are_lengthened_or_left_out_as_the_options_say() {
    let server = Redis::start();
    let minute = Ttl::from_ms(60_000).unwrap();
    for (options, ttl, expected) in [
        (json!({ "ttl_offset": 3600 }), minute, 3_660_000),
        (json!({ "ttl_offset": 500 }), minute, 560_000),
        (json!({ "ttl_offset": -60 }), minute, -1),
        (json!({ "ttl_offset": -30 }), minute, 30_000),
        (json!({ "ttl": false }), minute, -1),
        (json!({ "ttl_offset": 3600 }), Ttl::Never, -1),
    ] {
        let mut all = options.clone();
        all["url"] = json!(server.url());
        let backend = open(all);
        set_for(&backend, b"k", b"v", ttl).await.unwrap();
        let left: i64 = server.command(&["PTTL", "k"]).parse().unwrap();
        assert!(alike(left, expected), "{options}: {left}");
        assert!(backend.ttl().unwrap().touch(Key::from_wire(b"k"), ttl, &Cx::within(PATIENCE)).await.unwrap());
        let left: i64 = server.command(&["PTTL", "k"]).parse().unwrap();
        assert!(alike(left, expected), "{options}: {left} after touch");
    }
}
