//! The table of cases that every backend answers, linked, on one server, on three, and on a unix socket.
//!
//! The kit drives futures on plain threads, so these runs are also the proof that a program without a runtime is served.

use std::sync::Arc;

use cachekit_backend_memcached::MemcachedBackend;
use cachekit_conformance::{ByOptions, Report, run_all};
use cachekit_test_servers::memcached::Memcached;
use serde_json::{Value as Json, json};

fn all_pass(name: &str, options: Json) {
    // Nobody listens on port 1, and a refusal is the outage that is quickest to see.
    let unreachable = json!({ "servers": ["127.0.0.1:1"], "timeout": 0.2, "connect_timeout": 0.2 });
    let harness = ByOptions::<MemcachedBackend>::new(options).with_unreachable(unreachable);
    let report: Report = run_all(Arc::new(harness), |_| true);
    let not_asked: Vec<&str> =
        report.cases.iter().filter(|case| case.skipped_because.is_some()).map(|case| &*case.name).collect();
    println!("{name}: {} passed, {} failed; not asked: {not_asked:?}", report.passed, report.failed);
    assert!(report.is_ok(), "{name}\n{report}");
}

#[test]
fn one_server() {
    let server = Memcached::start();
    all_pass("memcached, one server", json!({ "servers": [server.addr()] }));
}

#[test]
fn three_servers_and_a_prefix() {
    let servers = Memcached::three();
    let addresses: Vec<String> = servers.iter().map(Memcached::addr).collect();
    all_pass("memcached, three servers", json!({ "servers": addresses, "key_prefix": "conformance:" }));
}

#[test]
fn a_unix_socket_named_by_url() {
    let server = Memcached::unix();
    all_pass("memcached, unix socket", json!({ "url": server.url() }));
}
