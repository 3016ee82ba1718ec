//! One directory, two languages: what the published Python package stores our File backend reads, and the other way
//! round, live.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_backend_file::{FileBackend, FileConfig};
use cachekit_core::blocking::wait;
use cachekit_e2e::{Place, artifacts, output};
use cachekit_plugin::{Backend, Cx, HostServices, Key, Open, Ttl};
use cachekit_test_servers::python::peer;
use serde_json::{Value as Json, json};

/// One verb of the peer on the raw entries of a directory.
fn raw(verb: &str, dir: &str, arguments: &[&str]) -> Json {
    let (verb, place) = (format!("raw-{verb}"), format!("file:{dir}"));
    peer(&[&[&*verb, &place], arguments].concat())
}

#[test]
fn a_directory_is_shared_with_python() {
    let place = Place::new();
    let store = place.path().join("store");
    let dir = store.to_str().unwrap();
    let backend: Arc<dyn Backend> = Arc::new(FileBackend::open(FileConfig::new(&store), HostServices::none()).unwrap());
    // Made for each call: installing the peer may take its time.
    let cx = || Cx::within(Duration::from_secs(10));
    let get = |key: &str| wait(async { backend.get(Key::from_wire(key.as_bytes()), &cx()).await }).unwrap();
    let set = |key: &str, value: &'static [u8], ttl| {
        wait(async { backend.set(Key::from_wire(key.as_bytes()), Bytes::from_static(value), ttl, &cx()).await })
            .unwrap();
    };

    // Python writes, we read.
    assert_eq!(raw("set", dir, &["users:get_user:1", "68656c6c6f", "--ttl", "600"])["ok"], true);
    assert_eq!(get("users:get_user:1").as_deref(), Some(&b"hello"[..]));
    assert_eq!(raw("set", dir, &["zażółć", "00ff"])["ok"], true);
    assert_eq!(get("zażółć").as_deref(), Some(&b"\x00\xff"[..]));

    // We write, Python reads.
    set("ours", b"\x01\x02", Ttl::Never);
    set("with a life", b"", Ttl::from_ms(600_000).unwrap());
    assert_eq!(raw("get", dir, &["ours"])["hex"], "0102");
    assert_eq!(raw("get", dir, &["with a life"]), json!({ "hit": true, "hex": "" }));

    // Deletions are seen on both sides.
    assert!(wait(async { backend.delete(Key::from_wire(b"users:get_user:1"), &cx()).await }).unwrap());
    assert_eq!(raw("get", dir, &["users:get_user:1"])["hit"], false);
    assert_eq!(raw("del", dir, &["ours"])["deleted"], true);
    assert_eq!(get("ours"), None);
}

#[test]
fn the_program_and_python_read_each_others_raw_entries() {
    let place = Place::new();
    let dir = place.path().join("store");
    let dir = dir.to_str().unwrap();
    let ours = |arguments: &[&str]| {
        let mut program = Command::new(artifacts::program());
        program.env_clear().env("HOME", place.path()).args(["--backend", &format!("file://{dir}"), "raw"]);
        String::from_utf8(output(program.args(arguments)).stdout).unwrap().trim().to_owned()
    };
    ours(&["set", "--hex", "--ttl", "10m", "ns:app:k", "c0ffee"]);
    assert_eq!(raw("get", dir, &["ns:app:k"])["hex"], "c0ffee");
    assert_eq!(raw("set", dir, &["py:k", "00ff10", "--ttl", "600"])["ok"], true);
    assert_eq!(ours(&["get", "--hex", "py:k"]), "00ff10");
    ours(&["del", "py:k"]);
    assert_eq!(raw("exists", dir, &["py:k"])["exists"], false);
}
