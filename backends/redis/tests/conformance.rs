//! The table of cases on every shape of Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cachekit_backend_redis::RedisBackend;
use cachekit_conformance::{ByOptions, run_all};
use cachekit_test_servers::certificates::Authority;
use cachekit_test_servers::redis::{Cluster, Redis, Sentinel, Tls};
use serde_json::{Value, json};

/// A store apart from others is a prefix apart.
fn passes(options: Value) {
    static STORES: AtomicU32 = AtomicU32::new(0);
    let unreachable = json!({ "url": "redis://127.0.0.1:1", "socket_connect_timeout": 0.2 });
    let isolated = options.clone();
    let harness = ByOptions::<RedisBackend>::new(options)
        .with_isolated(move || {
            let mut options = isolated.clone();
            let apart = format!("apart{}:", STORES.fetch_add(1, Ordering::Relaxed));
            match options.get("tenant").and_then(Value::as_str) {
                Some(tenant) => options["tenant"] = json!(format!("{tenant}{apart}")),
                None => options["key_prefix"] = json!(apart),
            }
            options
        })
        .with_unreachable(unreachable);
    let report = run_all(Arc::new(harness), |_| true);
    println!("{} passed, {} failed, {} not asked", report.passed, report.failed, report.not_asked);
    assert!(report.is_ok(), "{report}");
}

#[test]
fn one_server_passes_every_case() {
    let server = Redis::start();
    passes(json!({ "url": server.url() }));
}

#[test]
fn several_connections_pass_every_case() {
    let server = Redis::start();
    passes(json!({ "url": server.url(), "connections": 4 }));
}

#[test]
fn a_tenant_with_a_hostile_name_passes_every_case() {
    let server = Redis::start();
    passes(json!({ "url": server.url(), "tenant": "*[a]?\\ :{x}" }));
}

#[test]
fn a_socket_in_the_file_system_passes_every_case() {
    let server = Redis::start();
    passes(json!({ "url": format!("unix://{}?db=3", server.socket().display()) }));
}

#[test]
fn a_server_behind_tls_passes_every_case() {
    let authority = Authority::new();
    let server = Tls::start(&authority);
    passes(json!({ "url": server.url(), "ca_file": server.ca() }));
}

#[test]
fn a_cluster_passes_every_case() {
    let cluster = Cluster::start();
    passes(json!({ "url": cluster.url() }));
}

#[test]
fn a_master_known_to_sentinels_passes_every_case() {
    let sentinel = Sentinel::calm();
    passes(json!({ "url": sentinel.url() }));
}
