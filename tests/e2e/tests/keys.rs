//! A thousand hostile keys on every backend, loaded from its library, beside a canary: no key is a command, no two keys
//! are one, and the canary stays what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_core::Cache;
use cachekit_core::blocking::wait;
use cachekit_core::cache::SetOptions;
use cachekit_e2e::stores::{self, Store};
use cachekit_plugin::{Cx, Key, KeyBytes, Ttl};
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::Redis;

const CANARY: &str = "canary";
const ALIVE: &[u8] = b"alive";

/// Parts that mean something to a protocol, a shell, a path, a pattern or a decoder.
const PARTS: [&[u8]; 40] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"\x7f",
    b"\x80",
    b"\xff\xfe",
    b"../",
    b"/",
    b"\\",
    b"%2e%2e%2f",
    b"%",
    b"*",
    b"?",
    b"[a-z]",
    b"{",
    b"}",
    b"{x}",
    b":",
    b"#",
    b"canary",
    "é".as_bytes(),
    "e\u{301}".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{feff}".as_bytes(),
    b"\r\nSET canary dead\r\n",
    b"\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    b"\r\nflush_all\r\n",
    b" 0 0 4\r\ndead\r\nset canary 0 0 4\r\ndead",
    b"\r\nms canary 4\r\ndead\r\n",
    b"$2147483647",
    b" HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
    b"?x=y&z",
    b"ck:default:",
    b"t:other:",
    b":lock",
    b".lock",
    b"",
];

fn hostile_keys() -> Vec<Vec<u8>> {
    let mut keys: BTreeSet<Vec<u8>> = PARTS.iter().map(|part| part.to_vec()).collect();
    let mut state = 20_u64;
    let mut draw = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    while keys.len() < 1_000 {
        let mut key: Vec<u8> = Vec::new();
        for _ in 0..1 + draw(5) {
            key.extend_from_slice(PARTS[draw(PARTS.len())]);
        }
        match draw(10) {
            0 => key.extend(std::iter::repeat_n(b'x', 10_000)),
            // Around the limits of the stores: 250 bytes, and 255 of a file's name.
            1 => key.resize(200 + draw(70), b'y'),
            _ => {}
        }
        keys.insert(key);
    }
    keys.remove(&b""[..]);
    keys.remove(CANARY.as_bytes());
    keys.into_iter().collect()
}

/// Through the cache, which takes any key and shortens what a store does not.
fn through_the_cache(store: &Store, keys: &[Vec<u8>]) {
    let cache = Cache::builder().backend(Arc::clone(&store.backend)).without_l1().strict(true);
    let cache = cache.deadline(Duration::from_secs(10)).build().unwrap();
    let value = |n: usize| format!("value of {n}").into_bytes();
    let canary = || wait(cache.get_bytes(CANARY)).unwrap();
    wait(cache.set_bytes(CANARY, ALIVE, SetOptions::default())).unwrap();
    for (n, key) in keys.iter().enumerate() {
        wait(cache.set_bytes(key, &value(n), SetOptions::default())).unwrap_or_else(|error| panic!("key {n}: {error}"));
    }
    assert_eq!(canary().as_deref(), Some(ALIVE), "{}: the canary died", store.name);
    let mut aliases = 0;
    for (n, key) in keys.iter().enumerate() {
        aliases += u32::from(wait(cache.get_bytes(key)).unwrap().as_deref() != Some(&*value(n)));
    }
    assert_eq!(aliases, 0, "{}: keys that were not their own", store.name);
    for key in keys.iter().step_by(2) {
        assert!(wait(cache.delete(key)).unwrap());
    }
    for (n, key) in keys.iter().enumerate() {
        let left = wait(cache.get_bytes(key)).unwrap();
        assert_eq!(left.is_some(), n % 2 == 1, "{}: deleting one key deleted another, or none", store.name);
    }
    assert_eq!(canary().as_deref(), Some(ALIVE), "{}: the canary died", store.name);
}

/// The backend by itself: what its limits allow it takes, what it takes it keeps apart, the rest it refuses.
fn by_itself(store: &Store, keys: &[Vec<u8>]) {
    let (backend, limits) = (&store.backend, store.backend.limits());
    let cx = || Cx::within(Duration::from_secs(10));
    let set = |key: &[u8], value: Vec<u8>| {
        wait(async { backend.set(Key::from_wire(key), Bytes::from(value), Ttl::Never, &cx()).await })
    };
    let get = |key: &[u8]| wait(async { backend.get(Key::from_wire(key), &cx()).await });
    set(CANARY.as_bytes(), ALIVE.to_vec()).unwrap();
    let printable = |key: &[u8]| key.iter().all(|byte| byte.is_ascii_graphic());
    let mut kept = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let allowed = key.len() <= limits.max_key as usize && (limits.key_bytes == KeyBytes::Any || printable(key));
        // A store may take more than it promises, as long as that is a key of its own.
        match set(key, n.to_string().into_bytes()) {
            Ok(()) => kept.push(n),
            Err(error) => assert!(!allowed, "{}: key {n} is within the limits: {error}", store.name),
        }
    }
    for n in &kept {
        assert_eq!(get(&keys[*n]).unwrap().as_deref(), Some(n.to_string().as_bytes()), "{}: key {n}", store.name);
    }
    assert_eq!(get(CANARY.as_bytes()).unwrap().as_deref(), Some(ALIVE), "{}: the canary died", store.name);
    println!("{}: {} of {} keys taken, the others refused; 0 aliases", store.name, kept.len(), keys.len());
}

fn all_hostile_keys(store: &Store) {
    let keys = hostile_keys();
    assert!(keys.len() >= 995);
    through_the_cache(store, &keys);
    by_itself(store, &keys);
}

#[test]
fn on_files() {
    all_hostile_keys(&stores::file());
}

#[test]
fn on_redis_which_saw_no_command_that_nobody_sent() {
    let server = Arc::new(Redis::start());
    all_hostile_keys(&stores::redis(Arc::clone(&server)));
    let seen = server.command(&["INFO", "commandstats"]);
    let seen: BTreeSet<&str> =
        seen.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':')).map(|(name, _)| name).collect();
    println!("redis saw {seen:?}");
    let ours =
        ["get", "set", "unlink", "del", "info", "hello", "ping", "client|setinfo", "client|setname", "auth", "select"];
    assert!(seen.iter().all(|name| ours.contains(name)), "{seen:?}");
    assert!(seen.contains("set"), "the server counts: {seen:?}");
}

#[test]
fn on_memcached_which_saw_no_command_that_nobody_sent() {
    let servers = Arc::new(Memcached::three());
    all_hostile_keys(&stores::memcached(Arc::clone(&servers)));
    for server in servers.iter() {
        let said = server.exchange("stats\r\n", "END\r\n");
        let stats: BTreeMap<&str, &str> =
            said.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' ')).collect();
        assert_eq!(stats["cmd_flush"], "0");
        // Canaries and keys, and nothing that a key brought with it: 1 000 by the cache of which half went, and those that
        // the backend took by itself, over three servers.
        assert!(stats["total_items"].parse::<u64>().unwrap() <= 2_002, "{stats:?}");
        assert_ne!(stats["curr_items"], "0");
    }
}

#[test]
fn on_a_server_of_the_cachekit_io_api() {
    all_hostile_keys(&stores::cachekitio());
}
