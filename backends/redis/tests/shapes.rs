//! Several servers: slots that move, a master that dies; and connections that the program brings along.

mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cachekit_backend_redis::{RedisBackend, RedisConfig};
use cachekit_conformance::run_all;
use cachekit_plugin::{Backend, Cx, Key};
use cachekit_test_servers::redis::{Cluster, Redis, Sentinel};
use serde_json::json;
use store::{PATIENCE, get, open, set, until_within};

/// Writers of growing numbers and readers that know what was acknowledged, while `disturb` happens.
async fn never_wrong(backend: &Arc<RedisBackend>, disturb: impl FnOnce() + Send + 'static) -> (u64, u64) {
    let over = Arc::new(AtomicBool::new(false));
    let (errors, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..16_u64)
        .map(|worker| {
            let (backend, over) = (Arc::clone(backend), Arc::clone(&over));
            let (errors, done) = (Arc::clone(&errors), Arc::clone(&done));
            tokio::spawn(async move {
                let mut number = 0_u64;
                // What may be there: what was acknowledged last, or what was tried since.
                let mut least = vec![0_u64; 64];
                while !over.load(Ordering::Relaxed) {
                    number += 1;
                    let place = (number % 64) as usize;
                    let key = format!("worker{worker}:{place}");
                    let value = format!("{key}={number}");
                    match set(&backend, key.as_bytes(), value.as_bytes()).await {
                        Ok(()) => least[place] = number,
                        Err(_) => drop(errors.fetch_add(1, Ordering::Relaxed)),
                    }
                    match get(&backend, key.as_bytes()).await {
                        Ok(Some(found)) => {
                            let found = String::from_utf8(found.to_vec()).unwrap();
                            let (owner, written) = found.split_once('=').unwrap();
                            assert_eq!(owner, key, "another key's value");
                            assert!(
                                written.parse::<u64>().unwrap() >= least[place],
                                "{found} is older than what was acknowledged"
                            );
                        }
                        Ok(None) => assert_eq!(least[place], 0, "{key} was acknowledged and is gone"),
                        Err(_) => drop(errors.fetch_add(1, Ordering::Relaxed)),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    tokio::task::spawn_blocking(disturb).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    (done.load(Ordering::Relaxed), errors.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_lead_to_no_wrong_value() {
    let cluster = Arc::new(Cluster::start());
    let backend = open(json!({ "url": cluster.url() }));
    let moved = Arc::clone(&cluster);
    let (done, errors) = never_wrong(&backend, move || moved.reshard(0, 1, 800)).await;
    println!("{done} rounds, {errors} errors");
    assert!(done > 100 && errors == 0, "{done} rounds, {errors} errors");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_node_holds_up_its_own_slots_only() {
    let cluster = Cluster::start();
    let backend = open(json!({ "url": cluster.url() }));
    let keys: Vec<String> = (0..60).map(|number| format!("k{number}")).collect();
    for key in &keys {
        set(&backend, key.as_bytes(), b"v").await.unwrap();
    }
    cluster.nodes()[0].stop();
    let mut fast = 0;
    for key in &keys {
        let begun = Instant::now();
        let answer = store::get_within(&backend, key.as_bytes(), Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        fast += usize::from(answer.is_ok());
    }
    cluster.nodes()[0].cont();
    assert!(fast >= 25, "{fast} of 60 keys were answered while one of three servers was stalled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed() {
    let sentinel = Sentinel::start();
    let backend = open(json!({ "url": sentinel.url() }));
    set(&backend, b"k", b"v").await.unwrap();
    let begun = Instant::now();
    sentinel.kill_primary();
    // A sentinel whose first attempt fails makes the next one after six seconds.
    let limit = Duration::from_secs(60);
    until_within(limit, "the new master takes writes", async || set(&backend, b"k", b"w").await.is_ok()).await;
    println!("writes again {:?} after the master died", begun.elapsed());
    assert_eq!(get(&backend, b"k").await.unwrap().as_deref(), Some(&b"w"[..]));
}

#[tokio::test]
async fn a_name_that_sentinels_do_not_know_is_said() {
    let sentinel = Sentinel::calm();
    let url = sentinel.url().replace("mymaster", "nobody");
    let error = get(&open(json!({ "url": url })), b"k").await.unwrap_err();
    assert!(error.to_string().contains("do not know"), "{error}");
}

#[tokio::test]
async fn one_exchange_serves_keys_of_all_nodes() {
    let cluster = Cluster::start();
    let backend = open(json!({ "url": cluster.url() }));
    let keys: Vec<String> = (0..2_000).map(|number| format!("k{number}")).collect();
    let wires: Vec<Key<'_>> = keys.iter().map(|key| Key::from_wire(key.as_bytes())).collect();
    let items: Vec<_> = wires
        .iter()
        .map(|key| cachekit_plugin::SetItem {
            key: *key,
            value: key.as_bytes().to_vec().into(),
            ttl: cachekit_plugin::Ttl::Never,
        })
        .collect();
    let (batch, cx) = (backend.batch().unwrap(), Cx::within(PATIENCE));
    assert!(batch.set_many(&items, &cx).await.unwrap().iter().all(Result::is_ok));
    for (key, found) in wires.iter().zip(batch.get_many(&wires, &cx).await.unwrap()) {
        assert_eq!(found.unwrap().as_deref(), Some(key.as_bytes()));
    }
    assert!(batch.delete_many(&wires, &cx).await.unwrap().into_iter().all(Result::unwrap));
    // All nodes took part.
    for node in cluster.nodes() {
        assert!(node.command(&["INFO", "commandstats"]).contains("cmdstat_set:"), "a node was not asked");
    }
}

/// The table of cases around a connection of the program's, which belongs to the program's runtime.
fn passes(connect: impl AsyncFn() -> Result<RedisBackend, cachekit_plugin::BackendError> + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = std::mem::ManuallyDrop::new(runtime);
    let harness = move || runtime.block_on(connect()).map(|backend| Arc::new(backend) as Arc<dyn Backend>);
    let report = run_all(Arc::new(harness), |_| true);
    println!("{} passed, {} failed, {} not asked", report.passed, report.failed, report.not_asked);
    assert!(report.is_ok(), "{report}");
}

#[test]
fn a_connection_of_the_program_passes_every_case() {
    let server = Redis::start();
    let url = server.url();
    passes(async move || {
        let connection = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
        RedisBackend::with_connection(connection, &RedisConfig::default())
    });
}

#[test]
fn a_connection_manager_of_the_program_passes_every_case() {
    let server = Redis::start();
    let url = server.url();
    passes(async move || {
        let manager = redis::Client::open(url.as_str()).unwrap().get_connection_manager().await.unwrap();
        RedisBackend::with_connection(manager, &RedisConfig::default().with_tenant("acme"))
    });
}

#[test]
fn a_cluster_connection_of_the_program_passes_every_case() {
    let cluster = Cluster::start();
    let nodes: Vec<String> = cluster.nodes().iter().map(Redis::url).collect();
    passes(async move || {
        let client = redis::cluster::ClusterClient::new(nodes.clone()).unwrap();
        let connection = client.get_async_connection().await.unwrap();
        RedisBackend::with_cluster_connection(connection, &RedisConfig::default())
    });
}
