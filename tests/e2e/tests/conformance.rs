//! One table of cases, on every backend of this version: native, through its library, and through the blocking tables
//! of that library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cachekit_backend_file::FileBackend;
use cachekit_conformance::{ByOptions, Harness, Report, run_all};
use cachekit_e2e::harness::Loaded;
use cachekit_e2e::stores::{self, Served};
use cachekit_e2e::{Place, artifacts};
use cachekit_host::{Plugin, Policy};
use cachekit_serve::KeyRule;
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::Redis;
use serde_json::{Value as Json, json};

fn all_pass(name: &str, harness: impl Harness) {
    let report: Report = run_all(Arc::new(harness), |_| true);
    let not_asked: Vec<&str> =
        report.cases.iter().filter(|case| case.skipped_because.is_some()).map(|case| &*case.name).collect();
    println!("{name}: {} passed, {} failed; not asked: {not_asked:?}", report.passed, report.failed);
    assert!(report.is_ok(), "{name}\n{report}");
}

/// A directory of its own for each instance that asks for one.
fn directories(place: &Place) -> impl Fn() -> Json + Send + Sync + 'static + use<> {
    let (root, next): (PathBuf, AtomicU32) = (place.path().to_owned(), AtomicU32::new(0));
    move || json!({ "dir": root.join(format!("isolated-{}", next.fetch_add(1, Ordering::Relaxed))) })
}

fn loaded(library: &Path, policy: &Policy, place: &Place) -> Loaded {
    let plugin = Plugin::open(library, policy).unwrap();
    Loaded::new(plugin, json!({ "dir": place.path().join("shared") }), Box::new(directories(place)))
}

#[test]
fn the_file_backend_linked() {
    let place = Place::new();
    let options = json!({ "dir": place.path().join("shared") });
    all_pass("file, linked", ByOptions::<FileBackend>::new(options).with_isolated(directories(&place)));
}

#[test]
fn the_file_backend_loaded() {
    let place = Place::new();
    all_pass("file, loaded", loaded(artifacts::file_plugin(), &Policy::default(), &place));
}

#[test]
fn the_file_backend_loaded_and_called_through_the_blocking_tables() {
    let place = Place::new();
    let policy = Policy::default().with_prefer_blocking(true);
    all_pass("file, loaded, blocking", loaded(artifacts::file_plugin(), &policy, &place));
}

#[test]
fn the_file_backend_built_by_another_compiler() {
    let place = Place::new();
    let (library, compiler) = artifacts::foreign_file_plugin();
    println!("built by {compiler}");
    let plugin = Plugin::open(library, &Policy::default()).unwrap();
    assert!(plugin.layouts_checked(), "a Rust plugin brings its layouts whatever built it");
    all_pass("file, another compiler", loaded(library, &Policy::default(), &place));
}

/// A prefix of its own for each instance that asks for a store of its own.
fn prefixes(options: &Json) -> impl Fn() -> Json + Send + Sync + 'static + use<> {
    let (options, next) = (options.clone(), AtomicU32::new(0));
    move || {
        let mut options = options.clone();
        options["key_prefix"] = json!(format!("apart-{}:", next.fetch_add(1, Ordering::Relaxed)));
        options
    }
}

/// Both forms of a library that reaches its store over the network, each over the same server.
fn networked_pass(name: &str, library: &Path, options: &Json, unreachable: &Json) {
    for (form, blocking) in [("loaded", false), ("loaded, blocking", true)] {
        let plugin = Plugin::open(library, &Policy::default().with_prefer_blocking(blocking)).unwrap();
        let harness = Loaded::new(plugin, options.clone(), Box::new(prefixes(options)));
        all_pass(&format!("{name}, {form}"), harness.with_unreachable(unreachable.clone()));
    }
}

#[test]
fn the_redis_backend_loaded() {
    let server = Redis::start();
    let unreachable = json!({ "url": "redis://127.0.0.1:1", "socket_connect_timeout": 0.2 });
    networked_pass("redis", artifacts::redis_plugin(), &json!({ "url": server.url() }), &unreachable);
}

#[test]
fn the_memcached_backend_loaded() {
    let servers = Memcached::three();
    let addresses: Vec<String> = servers.iter().map(Memcached::addr).collect();
    let unreachable = json!({ "servers": ["127.0.0.1:1"], "timeout": 0.2, "connect_timeout": 0.2 });
    networked_pass("memcached", artifacts::memcached_plugin(), &json!({ "servers": addresses }), &unreachable);
}

#[test]
fn the_cachekit_io_backend_loaded_against_a_server_behind_tls() {
    for (form, blocking) in [("loaded", false), ("loaded, blocking", true)] {
        let served = Arc::new(Served::start(64, KeyRule::Any));
        let plugin = Plugin::open(artifacts::cachekitio_plugin(), &Policy::default().with_prefer_blocking(blocking));
        // A store of one's own is a tenant of one's own.
        let (shared, next) = (Arc::clone(&served), AtomicU32::new(1));
        let isolated = move || shared.options(next.fetch_add(1, Ordering::Relaxed) as usize);
        let mut unreachable = served.options(0);
        unreachable["api_url"] = json!("https://127.0.0.1:1");
        let harness = Loaded::new(plugin.unwrap(), served.options(0), Box::new(isolated));
        all_pass(
            &format!("cachekitio, {form}"),
            harness.with_services(stores::secrets()).with_unreachable(unreachable),
        );
    }
}

/// With every power, two instances of one process on one store, and a store out of reach.
fn the_reference(policy: &Policy) -> Loaded {
    static STORES: AtomicU32 = AtomicU32::new(0);
    let plugin = Plugin::open(artifacts::memory_plugin(), policy).unwrap();
    let name = format!("shared-{}", STORES.fetch_add(1, Ordering::Relaxed));
    Loaded::new(plugin, json!({ "name": name }), Box::new(|| json!({})))
}

#[test]
fn the_reference_loaded() {
    all_pass("reference, loaded", the_reference(&Policy::default()));
}

#[test]
fn the_reference_loaded_and_called_through_the_blocking_tables() {
    all_pass("reference, loaded, blocking", the_reference(&Policy::default().with_prefer_blocking(true)));
}

#[test]
fn the_memory_plugin_in_c() {
    let plugin = Plugin::open(artifacts::c_memory(), &Policy::default()).unwrap();
    let harness = Loaded::new(plugin, json!({}), Box::new(|| json!({}))).with_a_store_per_instance();
    all_pass("memory, in C", harness);
}

#[test]
fn the_memory_plugin_in_c_built_by_clang() {
    let plugin = Plugin::open(artifacts::c_memory_by_clang(), &Policy::default()).unwrap();
    let harness = Loaded::new(plugin, json!({}), Box::new(|| json!({}))).with_a_store_per_instance();
    all_pass("memory, in C by clang", harness);
}

#[test]
fn the_memory_plugin_in_zig() {
    let plugin = Plugin::open(artifacts::zig_memory(), &Policy::default()).unwrap();
    let harness = Loaded::new(plugin, json!({}), Box::new(|| json!({}))).with_a_store_per_instance();
    all_pass("memory, in Zig", harness);
}
