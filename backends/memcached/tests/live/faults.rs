//! Replies that are cut, garbled, duplicated, slow or lost, by a proxy in front of a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig};
use cachekit_plugin::{Backend, Batch, Cx};
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::proxy::{Fault, Proxy};

use super::values::{Dice, check, signed};
use super::{get, k, open, set, until_ok};

#[derive(Default)]
struct Tally {
    hits: AtomicU64,
    misses: AtomicU64,
    errors: AtomicU64,
    /// Whole values of other keys: what must never be.
    wrong: AtomicU64,
    /// Values whose own bytes were changed on the way: memcached's protocol has no checksum, the envelope above has.
    damaged: AtomicU64,
}

/// Reads and writes on 8 tasks until `done`, with deadlines that sometimes pass.
async fn load(backend: &Arc<MemcachedBackend>, done: &Arc<AtomicBool>, tally: &Arc<Tally>) {
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let (backend, done, tally) = (Arc::clone(backend), Arc::clone(done), Arc::clone(tally));
            tokio::spawn(async move {
                let mut dice = Dice(task);
                let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
                let look = |key: &str, found: Option<&[u8]>| {
                    match found.map(|value| check(key, value)) {
                        None => count(&tally.misses),
                        Some(Ok(_)) => count(&tally.hits),
                        Some(Err(true)) => count(&tally.wrong),
                        Some(Err(false)) => count(&tally.damaged),
                    };
                };
                let (mut write, mut seen) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    write += 1;
                    let key = format!("t{task}k{}", dice.below(40));
                    let len = if dice.below(20) == 0 { 60_000 } else { dice.below(500) as usize };
                    let cx = Cx::within(Duration::from_millis(1 + dice.below(60)));
                    match dice.below(3) {
                        0 => {
                            if set(&backend, &key, signed(&key, write, len)).await.is_err() {
                                count(&tally.errors);
                            }
                        }
                        1 => match backend.get(k(&key), &cx).await {
                            Ok(found) => look(&key, found.as_deref()),
                            Err(_) => drop(count(&tally.errors)),
                        },
                        _ => {
                            let keys: Vec<String> = (0..10).map(|_| format!("t{task}k{}", dice.below(40))).collect();
                            let wire: Vec<_> = keys.iter().map(|key| k(key)).collect();
                            for (key, answer) in keys.iter().zip(Batch::get_many(&*backend, &wire, &cx).await.unwrap())
                            {
                                match answer {
                                    Ok(found) => look(key, found.as_deref()),
                                    Err(_) => drop(count(&tally.errors)),
                                }
                            }
                        }
                    }
                    // A call refused at once is soon repeated; without a breath the load would do nothing else.
                    if tally.errors.load(Ordering::Relaxed) > seen {
                        seen = tally.errors.load(Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_micros(500)).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Waits for more hits of the load than there have been, as long as a busy machine takes for them.
async fn hits(name: &str, tally: &Tally) {
    let (before, began) = (tally.hits.load(Ordering::Relaxed), Instant::now());
    while tally.hits.load(Ordering::Relaxed) <= before + 100 {
        assert!(began.elapsed() < Duration::from_secs(60), "{name}: the load does nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn through(name: &str, faults: &[Fault], damage_is_possible: bool) {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    let config = MemcachedConfig::new([proxy.addr().to_string()]).with_timeout(0.2).with_connect_timeout(0.3);
    let backend = Arc::new(open(config));
    let done = Arc::new(AtomicBool::new(false));
    let tally = Arc::new(Tally::default());
    let running = tokio::spawn({
        let (backend, done, tally) = (Arc::clone(&backend), Arc::clone(&done), Arc::clone(&tally));
        async move { load(&backend, &done, &tally).await }
    });
    hits(name, &tally).await;
    for _ in 0..6 {
        for fault in faults {
            proxy.set(*fault);
            tokio::time::sleep(Duration::from_millis(60)).await;
            proxy.set(Fault::None);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    proxy.set(Fault::None);
    let took = until_ok(name, || get(&backend, "k")).await;
    hits(name, &tally).await;
    done.store(true, Ordering::Relaxed);
    running.await.unwrap();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{name}: {} hits, {} misses, {} errors, {} damaged, {} wrong; {} connections; well again {took:?} after",
        of(&tally.hits),
        of(&tally.misses),
        of(&tally.errors),
        of(&tally.damaged),
        of(&tally.wrong),
        proxy.connections()
    );
    assert_eq!(of(&tally.wrong), 0, "{name}: another key's value");
    assert!(damage_is_possible || of(&tally.damaged) == 0, "{name}: a damaged value");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_replies_bring_errors_and_no_wrong_value() {
    through("cut", &[Fault::CutAfter(0), Fault::CutAfter(17), Fault::CutAfter(3001), Fault::CutAfter(70_000)], false)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicated_replies_bring_errors_and_no_wrong_value() {
    through("duplicated", &[Fault::Duplicate], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_replies_are_never_another_keys_value() {
    through("garbled", &[Fault::Garble(1), Fault::Garble(77)], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_trickling_replies_bring_no_wrong_value() {
    let trickle = Fault::Trickle { bytes: 7, every: Duration::from_millis(5) };
    through("slow", &[Fault::Delay(Duration::from_millis(30)), trickle, Fault::Stall], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_bring_errors_and_no_wrong_value() {
    through("lost", &[Fault::Reset, Fault::HalfOpen, Fault::BlackHole, Fault::Refuse], false).await;
}
