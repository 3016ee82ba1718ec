//! Servers that are down, stalled, restarted, full, or dead among others that are not.

use std::time::{Duration, Instant};

use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig, Rendezvous};
use cachekit_plugin::{Backend, Batch, Bytes, Cx, Kind, Retry, SetItem, Ttl};
use cachekit_test_servers::memcached::Memcached;
use memcache::exp::Router;

use super::values::{check, signed};
use super::{cx, get, k, on, open, set, until_ok};

/// Blocking calls of the kit, beside running tasks.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_an_error_with_hope_and_never_a_miss() {
    let server = Memcached::start();
    let backend = on(server.addr());
    set(&backend, "k", "v").await.unwrap();
    blocking(|| server.kill());
    let (mut transient, mut paused) = (0, 0);
    for _ in 0..200 {
        let error = get(&backend, "k").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Transient, "{error}");
        match error.retry() {
            Retry::Now => transient += 1,
            Retry::After(pause) => {
                assert!(pause <= Duration::from_secs(1), "{pause:?}");
                paused += 1;
            }
            Retry::No => panic!("an outage is said to be without hope: {error}"),
        }
    }
    println!("{transient} attempts, {paused} calls refused at once between them");
    assert!(paused > 100, "between two attempts nobody waits: {transient} {paused}");
    blocking(|| server.restart());
    let took = until_ok("get", || get(&backend, "k")).await;
    println!("works again {took:?} after the server's return");
    assert_eq!(get(&backend, "k").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_server_costs_no_call_more_than_its_deadline() {
    let server = Memcached::start();
    let backend = on(server.addr());
    set(&backend, "k", "v").await.unwrap();
    blocking(|| server.stop());
    let mut longest = Duration::ZERO;
    let until = Instant::now() + Duration::from_secs(3);
    let mut calls = 0;
    while Instant::now() < until {
        let began = Instant::now();
        let error = backend.get(k("k"), &Cx::within(Duration::from_millis(250))).await.unwrap_err();
        longest = longest.max(began.elapsed());
        calls += 1;
        assert!(matches!(error.kind(), Kind::Timeout | Kind::Transient), "{error}");
        assert_ne!(error.retry(), Retry::No);
        if matches!(error.retry(), Retry::After(_)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    println!("{calls} calls with 250 ms each, the longest took {longest:?}");
    // Far beyond any hang, far below what a busy machine adds.
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    server.cont();
    let took = until_ok("get", || get(&backend, "k")).await;
    println!("works again {took:?} after the server goes on");
    assert_eq!(get(&backend, "k").await.unwrap().as_deref(), Some(&b"v"[..]));
}

/// Without an earlier deadline of the caller, `timeout` ends the wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_server_is_given_up_after_timeout() {
    let server = Memcached::start();
    let backend = open(MemcachedConfig::new([server.addr()]).with_timeout(0.2));
    set(&backend, "k", "v").await.unwrap();
    blocking(|| server.stop());
    let error = backend.get(k("k"), &Cx::within(Duration::from_secs(600))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.message().contains("no progress"), "{error}");
    server.cont();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_restarts_under_load_bring_no_wrong_value() {
    let server = Memcached::start();
    let backend = std::sync::Arc::new(on(server.addr()));
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let all_hits = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let load: Vec<_> = (0..8)
        .map(|task| {
            let (backend, done) = (std::sync::Arc::clone(&backend), std::sync::Arc::clone(&done));
            let all_hits = std::sync::Arc::clone(&all_hits);
            tokio::spawn(async move {
                let (mut write, mut hits, mut errors) = (0_u64, 0_u64, 0_u64);
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let key = format!("t{task}k{}", write % 50);
                    write += 1;
                    if set(&backend, &key, signed(&key, write, 200)).await.is_err() {
                        errors += 1;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    match get(&backend, &key).await {
                        Ok(Some(value)) => {
                            hits += 1;
                            all_hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            let found = check(&key, &value).unwrap_or_else(|_| panic!("a wrong value under {key}"));
                            assert!(found <= write, "{found} was not written yet");
                        }
                        Ok(None) => {}
                        Err(_) => errors += 1,
                    }
                }
                (write, hits, errors)
            })
        })
        .collect();
    let mut recoveries = Vec::new();
    for _ in 0..20 {
        blocking(|| server.restart());
        recoveries.push(until_ok("get", || get(&backend, "probe")).await);
        // Up for as long as that takes, however busy the machine.
        let (before, began) = (all_hits.load(std::sync::atomic::Ordering::Relaxed), Instant::now());
        while all_hits.load(std::sync::atomic::Ordering::Relaxed) < before + 60 {
            assert!(began.elapsed() < Duration::from_secs(60), "the load does not come back");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut writes, mut hits, mut errors) = (0, 0, 0);
    for task in load {
        let (w, h, e) = task.await.unwrap();
        (writes, hits, errors) = (writes + w, hits + h, errors + e);
    }
    recoveries.sort();
    println!(
        "20 restarts: {writes} writes, {hits} hits, {errors} errors, 0 wrong values; back after {:?} (median), {:?} (worst)",
        recoveries[10], recoveries[19]
    );
    assert!(hits > 1000);
    assert!(recoveries[19] < Duration::from_secs(2), "{recoveries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_writes_and_goes_on_answering() {
    // -M: an error where it would otherwise evict.
    let server = Memcached::with(&["-m", "1", "-I", "512k", "-M"]);
    let backend = on(server.addr());
    let mut refused = None;
    let mut stored = 0;
    for number in 0..3000 {
        let key = format!("k{number}");
        match set(&backend, &key, signed(&key, 1, 20_000)).await {
            Ok(()) => stored += 1,
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    let error = refused.expect("3000 values of 20 kB do not fit into 1 MB");
    assert_eq!((error.kind(), error.retry()), (Kind::Transient, Retry::No), "{error}");
    assert!(error.message().contains("memory"), "{error}");
    let mut hits = 0;
    for number in 0..3000 {
        let key = format!("k{number}");
        if let Some(value) = get(&backend, &key).await.unwrap() {
            assert_eq!(check(&key, &value), Ok(1));
            hits += 1;
        }
    }
    println!("{stored} stored, {hits} read back");
    assert!(hits > 0 && hits <= stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_loses_entries_and_invents_none() {
    let server = Memcached::with(&["-m", "1", "-I", "512k"]);
    let backend = on(server.addr());
    let mut hits = 0;
    for number in 0..2000_u64 {
        let key = format!("k{number}");
        set(&backend, &key, signed(&key, number, 20_000)).await.unwrap();
        let old = format!("k{}", number / 2);
        if let Some(value) = get(&backend, &old).await.unwrap() {
            assert_eq!(check(&old, &value), Ok(number / 2));
            hits += 1;
        }
    }
    assert!(hits > 0 && hits < 2000, "{hits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_larger_than_ours_is_an_error_of_its_own() {
    let server = Memcached::with(&["-I", "8m"]);
    let (small, large) = (
        open(MemcachedConfig::new([server.addr()]).with_max_item_size_bytes(100_000)),
        open(MemcachedConfig::new([server.addr()]).with_max_item_size_bytes(0)),
    );
    let value = Bytes::from(vec![b'\n'; 5_000_000]);
    set(&large, "large", value.clone()).await.unwrap();
    set(&large, "small", "v").await.unwrap();
    assert_eq!(get(&large, "large").await.unwrap(), Some(value));
    // On one connection: what follows the large one is not disturbed.
    let keys = [k("small"), k("large"), k("small")];
    let answers = Batch::get_many(&small, &keys, &cx()).await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().as_deref(), Some(&b"v"[..]));
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::TooLarge, Retry::No), "{error}");
    assert_eq!(answers[2].as_ref().unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(large.limits().max_value, (1 << 30) - 309);
}

/// The limit of the options is the family's; the server's may be smaller, and then it is the server that refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_beyond_the_servers_own_limit_is_refused_without_hope() {
    let server = Memcached::with(&["-I", "512k"]);
    let backend = on(server.addr());
    set(&backend, "k", "old").await.unwrap();
    let error = set(&backend, "k", vec![b'x'; 600_000]).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::TooLarge, Retry::No), "{error}");
    assert!(error.message().contains("-I"), "{error}");
    // memcached drops what was there rather than keep what its writer meant to replace.
    assert_eq!(get(&backend, "k").await.unwrap(), None);
    set(&backend, "k", "new").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_value_fits_under_the_longest_key() {
    let server = Memcached::start();
    let backend = on(server.addr());
    let (key, largest) = ("k".repeat(250), backend.limits().max_value as usize);
    assert_eq!(largest, (1 << 20) - 309);
    let value = signed(&key, 1, largest - 300);
    let value = Bytes::from([&value[..], &vec![b'x'; largest - value.len()]].concat());
    set(&backend, &key, value.clone()).await.unwrap();
    assert_eq!(get(&backend, &key).await.unwrap(), Some(value));
    // One byte more would not have fitted.
    let stored = server.exchange(&format!("ms {key} {} T0\r\n{}\r\n", largest + 1, "x".repeat(largest + 1)), "\r\n");
    assert_eq!(stored, "SERVER_ERROR object too large for cache\r\n");
}

struct Three {
    servers: [Memcached; 3],
    nodes: Vec<String>,
}

impl Three {
    fn start() -> Self {
        let servers = Memcached::three();
        let nodes = servers.iter().map(Memcached::addr).collect();
        Self { servers, nodes }
    }

    /// Keys, and the index of the server of each.
    fn keys(&self, count: usize) -> Vec<(String, usize)> {
        let key = |number| {
            let key = format!("users:get_user:{number:032x}");
            let server = Rendezvous.route(key.as_bytes(), &self.nodes);
            (key, server)
        };
        (0..count).map(key).collect()
    }
}

async fn write_all(backend: &MemcachedBackend, keys: &[(String, usize)]) {
    let items: Vec<SetItem<'_>> =
        keys.iter().map(|(key, _)| SetItem { key: k(key), value: signed(key, 1, 50), ttl: Ttl::Never }).collect();
    for answer in Batch::set_many(backend, &items, &cx()).await.unwrap() {
        answer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stalled_server_spoils_its_own_items_of_a_batch_alone() {
    let three = Three::start();
    // What the stalled server costs is the caller's deadline, which leaves the living all the time a busy machine takes.
    let backend = open(MemcachedConfig::new(three.nodes.clone()).with_timeout(30.0));
    let keys = three.keys(300);
    write_all(&backend, &keys).await;
    blocking(|| three.servers[1].stop());
    let wire: Vec<_> = keys.iter().map(|(key, _)| k(key)).collect();
    let answers = Batch::get_many(&backend, &wire, &Cx::within(Duration::from_secs(3))).await.unwrap();
    let (mut hits, mut late) = (0, 0);
    for ((key, server), answer) in keys.iter().zip(answers) {
        match answer {
            Ok(value) => {
                assert_ne!(*server, 1);
                assert_eq!(check(key, &value.unwrap()), Ok(1));
                hits += 1;
            }
            Err(error) => {
                assert_eq!((*server, error.kind()), (1, Kind::Timeout), "{error}");
                late += 1;
            }
        }
    }
    println!("{hits} hits of two servers, {late} time-outs of the third");
    assert!(hits > 150 && late > 60);
    let health = backend.health(&Cx::within(Duration::from_secs(3))).await.unwrap();
    assert_eq!((health.healthy, &health.details["servers_up"]), (true, &2.into()));
    three.servers[1].cont();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_dead_server_live_on_the_others_until_it_returns() {
    let three = Three::start();
    let config = MemcachedConfig::new(three.nodes.clone())
        .with_retry_attempts(1)
        .with_retry_timeout(0.05)
        .with_dead_timeout(1.5);
    let backend = open(config);
    let keys = three.keys(200);
    write_all(&backend, &keys).await;
    blocking(|| three.servers[2].kill());
    // Keys of the living never notice.
    let (of_the_dead, of_the_living): (Vec<_>, Vec<_>) = keys.iter().partition(|(_, server)| *server == 2);
    let (dead_key, _) = of_the_dead[0];
    let took = until_ok("a key of the dead server", || set(&backend, dead_key, signed(dead_key, 2, 50))).await;
    println!("declared dead after {took:?}");
    for (key, server) in &of_the_living {
        let value = get(&backend, key).await.unwrap().unwrap();
        assert_eq!(check(key, &value), Ok(1), "{server}");
    }
    let rest = three.nodes[..2].to_vec();
    let now_on = &three.servers[Rendezvous.route(dead_key.as_bytes(), &rest)];
    assert!(now_on.exchange(&format!("mg {dead_key}\r\n"), "\r\n").starts_with("HD"), "placed as without the dead one");
    blocking(|| three.servers[2].restart());
    let began = Instant::now();
    // The family leaves a dead server alone for `dead_timeout`, also when it has come back.
    while three.servers[2].exchange(&format!("mg {dead_key}\r\n"), "\r\n") != "HD\r\n" {
        set(&backend, dead_key, signed(dead_key, 3, 50)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "the server never came back into the list");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("back in the list {:?} after its return", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_timeout_keys_stay_where_they_belong() {
    let three = Three::start();
    let config = MemcachedConfig::new(three.nodes.clone())
        .with_retry_attempts(0)
        .with_retry_timeout(0.05)
        .with_dead_timeout(0.0);
    let backend = open(config);
    let keys = three.keys(50);
    write_all(&backend, &keys).await;
    blocking(|| three.servers[0].kill());
    let (key, _) = keys.iter().find(|(_, server)| *server == 0).unwrap();
    for _ in 0..50 {
        assert_eq!(get(&backend, key).await.unwrap_err().kind(), Kind::Transient);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_servers_are_down_they_are_tried_where_the_keys_belong() {
    let three = Three::start();
    let config = MemcachedConfig::new(three.nodes.clone()).with_retry_attempts(0).with_retry_timeout(0.05);
    let backend = open(config);
    let keys = three.keys(30);
    write_all(&backend, &keys).await;
    blocking(|| three.servers.iter().for_each(Memcached::kill));
    for (key, _) in &keys {
        assert_eq!(get(&backend, key).await.unwrap_err().kind(), Kind::Transient);
    }
    let health = backend.health(&Cx::within(Duration::from_millis(300))).await.unwrap();
    assert!(!health.healthy);
    blocking(|| three.servers.iter().for_each(Memcached::restart));
    // Long before `dead_timeout`, which is a minute here.
    for (key, _) in &keys {
        until_ok("a key after the servers' return", || set(&backend, key, "v")).await;
    }
}

#[test]
fn a_current_thread_runtime_that_is_no_longer_driven_costs_time_and_then_nothing() {
    let server = Memcached::start();
    let backend = open(MemcachedConfig::new([server.addr()]).with_timeout(0.3));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    first.block_on(async { set(&backend, "k", "v").await.unwrap() });
    // The connection's driver lives on the first runtime, which nobody drives now.
    let second = runtime();
    let error = second.block_on(backend.get(k("k"), &cx())).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    second.block_on(async { assert_eq!(get(&backend, "k").await.unwrap().as_deref(), Some(&b"v"[..])) });
    drop(second);
    // A runtime that ended took its connections along; the next call makes a new one.
    first.block_on(async { assert_eq!(get(&backend, "k").await.unwrap().as_deref(), Some(&b"v"[..])) });
}
