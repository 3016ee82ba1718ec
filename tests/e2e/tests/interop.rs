//! One namespace, two languages, live: what the published Python package stores we read, sealed or not, and the other way
//! round, on Redis, on three Memcached servers and in a directory; through the library and through the program.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cachekit_core::blocking::wait;
use cachekit_core::interop::{DEFAULT_TENANT, InteropValue, Keyring, typed_json};
use cachekit_core::{Cache, Error};
use cachekit_e2e::{Place, artifacts, output, stores};
use cachekit_plugin::Backend;
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::python::{answer, peer};
use cachekit_test_servers::redis::Redis;
use serde_json::{Value as Json, json};

const FIRST: &str = "abababababababababababababababababababababababababababababababab";
const SECOND: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
const TENANT: &str = "00000000-0000-4000-8000-000000000001";
/// Every kind of value that interop mode has.
const VALUE: &str = r#"{"id": 42, "name": "Zażółć", "half": 0.5, "none": null, "yes": true, "big": {"$t": "int", "v": "18446744073709551615"},
    "bytes": {"$t": "bytes", "hex": "00ff10"}, "list": [1, [2, {"a": -1}]],
    "when": {"$t": "datetime", "iso": "2024-02-29T12:00:00.000001+00:00"}}"#;

/// A store, as each side names it.
struct Shared {
    kind: &'static str,
    /// For the peer.
    place: String,
    /// For the program.
    url: String,
    backend: Arc<dyn Backend>,
    home: Place,
}

impl Shared {
    fn python(&self, verb: &str, arguments: &str, more: &[&str]) -> Json {
        let verb = format!("{}-{verb}", self.kind);
        peer(&[&[&*verb, &self.place, "users", "get_user", arguments], more].concat())
    }

    fn program(&self, arguments: &[&str], keys: &[(&str, &str)]) -> Json {
        let mut program = Command::new(artifacts::program());
        program.env_clear().env("HOME", self.home.path()).envs(keys.iter().copied());
        let output = program.args(["--backend", &self.url, "--json", "interop"]).args(arguments).output().unwrap();
        // 1 is a miss, which is an answer.
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }

    fn users(&self) -> cachekit_core::cache::Interop {
        let cache = Cache::builder().backend(self.backend.clone()).without_l1().strict(true);
        cache.deadline(Duration::from_secs(10)).build().unwrap().interop("users").unwrap()
    }
}

fn keyring(current: &str, previous: Option<&str>) -> Arc<Keyring> {
    Arc::new(Keyring::from_hex(Some(current), previous).unwrap().unwrap())
}

fn value() -> InteropValue {
    typed_json::to_value(&serde_json::from_str(VALUE).unwrap()).unwrap()
}

fn through_the_library(shared: &Shared) {
    let users = shared.users();
    let minute = Some(Duration::from_secs(60));
    let get = |users: &cachekit_core::cache::Interop, n: i64| {
        wait(users.get::<InteropValue>("get_user", &(n,))).unwrap().map(|value| typed_json::from_value(&value))
    };

    // Python writes, we read; we write, Python reads; both see the same.
    let written = shared.python("set", "[1]", &[VALUE, "--ttl", "60"]);
    assert_eq!(written["key"], users.key("get_user", &(1,)).unwrap(), "both make the same key");
    assert_eq!(get(&users, 1).unwrap(), shared.python("get", "[1]", &[])["value"], "plain, from Python");
    wait(users.set("get_user", &(2,), &value(), minute)).unwrap();
    assert_eq!(get(&users, 2).unwrap(), shared.python("get", "[2]", &[])["value"], "plain, from here");

    // Deletions are seen on both sides.
    assert!(wait(users.delete("get_user", &(1,))).unwrap());
    assert_eq!(shared.python("get", "[1]", &[])["hit"], false);
    assert_eq!(shared.python("del", "[2]", &[])["deleted"], true);
    assert_eq!(get(&users, 2), None);

    // Sealed, for the one tenant and for another.
    for (tenant, more) in [(DEFAULT_TENANT, &[][..]), (TENANT, &["--tenant", TENANT][..])] {
        let sealed = users.clone().secure(keyring(FIRST, None), tenant).unwrap();
        let with_key = [&["--secure", FIRST][..], more].concat();
        shared.python("set", "[3]", &[&[VALUE, "--ttl", "60"][..], &with_key].concat());
        assert_eq!(get(&sealed, 3).unwrap(), shared.python("get", "[3]", &with_key)["value"], "sealed, from Python");
        wait(sealed.set("get_user", &(4,), &value(), minute)).unwrap();
        assert_eq!(get(&sealed, 4).unwrap(), shared.python("get", "[4]", &with_key)["value"], "sealed, from here");
    }

    // A key that was exchanged still opens what it sealed; one that never was there opens nothing.
    let sealed = users.clone().secure(keyring(FIRST, None), DEFAULT_TENANT).unwrap();
    shared.python("set", "[5]", &["\"old\"", "--secure", FIRST]);
    wait(sealed.set("get_user", &(6,), "old", minute)).unwrap();
    let exchanged = users.clone().secure(keyring(SECOND, Some(FIRST)), DEFAULT_TENANT).unwrap();
    assert_eq!(get(&exchanged, 5), Some(json!("old")));
    assert_eq!(shared.python("get", "[6]", &["--secure", SECOND, "--previous", FIRST])["value"], "old");
    let stranger = users.clone().secure(keyring(SECOND, None), DEFAULT_TENANT).unwrap();
    let refused = wait(stranger.get::<InteropValue>("get_user", &(5,)));
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let verb = format!("{}-get", shared.kind);
    let python = [&*verb, &shared.place, "users", "get_user", "[6]", "--secure", SECOND, "--fail-closed"];
    assert_eq!(answer(&python).code, 1, "Python refuses it too");
    // What is sealed for one is not read as plain by anybody.
    assert!(wait(users.get::<String>("get_user", &(6,))).is_err());
}

fn through_the_program(shared: &Shared) {
    let call = |verb: &'static str, arguments: &'static str| [verb, "users", "get_user", arguments];
    shared.python("set", "[11]", &[VALUE, "--ttl", "60"]);
    let (ours, theirs) = (shared.program(&call("get", "[11]"), &[]), shared.python("get", "[11]", &[]));
    assert_eq!((&ours["key"], &ours["hit"], &ours["value"]), (&theirs["key"], &json!(true), &theirs["value"]));
    shared.program(&[&call("set", "[12]")[..], &["7", "--ttl", "60s"]].concat(), &[]);
    assert_eq!(shared.python("get", "[12]", &[])["value"], json!({ "$t": "int", "v": "7" }));
    assert_eq!(shared.program(&call("del", "[11]"), &[])["deleted"], true);
    assert_eq!(shared.python("get", "[11]", &[])["hit"], false);
    shared.python("del", "[12]", &[]);
    assert_eq!(shared.program(&call("get", "[12]"), &[])["hit"], false);

    shared.python("set", "[13]", &["\"sealed\"", "--secure", FIRST]);
    let secure = [&call("get", "[13]")[..], &["--secure"]].concat();
    let sealed = shared.program(&secure, &[("CACHEKIT_MASTER_KEY", FIRST)]);
    assert_eq!(sealed["value"], "sealed");
    let exchanged = [("CACHEKIT_MASTER_KEY", SECOND), ("CACHEKIT_PREVIOUS_MASTER_KEYS", FIRST)];
    assert_eq!(shared.program(&secure, &exchanged)["value"], "sealed");
    let set = [&call("set", "[14]")[..], &["\"ours\"", "--ttl", "60s", "--secure"]].concat();
    shared.program(&set, &[("CACHEKIT_MASTER_KEY", FIRST)]);
    assert_eq!(shared.python("get", "[14]", &["--secure", FIRST])["value"], "ours");
    let mut stranger = Command::new(artifacts::program());
    stranger.env_clear().env("HOME", shared.home.path()).env("CACHEKIT_MASTER_KEY", SECOND);
    stranger.args(["--backend", &shared.url, "interop", "get", "users", "get_user", "[14]", "--secure"]);
    assert_eq!(stranger.output().unwrap().status.code(), Some(4), "refused is no miss");
}

fn shared_live(shared: &Shared) {
    through_the_library(shared);
    through_the_program(shared);
}

#[test]
fn redis_is_shared_with_python() {
    let server = Arc::new(Redis::start());
    let backend = stores::redis(Arc::clone(&server)).backend;
    shared_live(&Shared { kind: "redis", place: server.url(), url: server.url(), backend, home: Place::new() });
}

#[test]
fn three_memcached_servers_are_shared_with_python() {
    let servers = Arc::new(Memcached::three());
    let addresses: Vec<String> = servers.iter().map(Memcached::addr).collect();
    let (place, url) = (json!(addresses).to_string(), format!("memcached://{}", addresses.join(",")));
    let backend = stores::memcached(Arc::clone(&servers)).backend;
    shared_live(&Shared { kind: "memcached", place, url, backend, home: Place::new() });
}

#[test]
fn a_directory_is_shared_with_python() {
    let home = Place::new();
    let dir = home.path().join("store");
    let place = dir.to_str().unwrap().to_owned();
    let backend = stores::load(artifacts::file_plugin(), &json!({ "dir": dir }));
    shared_live(&Shared { kind: "file", url: format!("file://{place}"), place, backend, home });
}

#[test]
fn the_program_makes_the_keys_that_python_makes() {
    for arguments in ["[]", "[1, 2.5, \"x\", null, true]", r#"[{"b": [1], "a": {"$t": "bytes", "hex": "ff"}}]"#] {
        let mut program = Command::new(artifacts::program());
        let key = output(program.args(["interop", "key", "users", "get_user", arguments])).stdout;
        assert_eq!(String::from_utf8(key).unwrap().trim(), peer(&["key", "users", "get_user", arguments])["key"]);
    }
}
