//! The engine on the reference store, with every second of the clock in the test's hands.

mod coherence;
mod interop;
mod load;
mod outage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cachekit_conformance::{Memory, MemoryConfig};
use cachekit_plugin::{
    Backend, BackendError, Cx, Enumerates, Fut, Health, Key, Kind, Limits, Operation, Scan, Ttl, ready,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};

use super::{Cache, SetOptions};
use crate::builder::CacheBuilder;
use crate::clock::ManualClock;
use crate::error::{Error, LoadError};
use crate::l1::L1Config;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

fn ada() -> User {
    User { name: "Ada".into(), age: 36 }
}

struct Bench {
    store: Memory,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        Self { store: Memory::new(MemoryConfig::default()), clock: Arc::new(ManualClock::new()) }
    }

    /// Another process on the same store.
    fn cache(&self) -> Cache {
        self.over(Arc::new(self.store.clone()))
    }

    fn over(&self, backend: Arc<dyn Backend>) -> Cache {
        self.builder(backend).build().unwrap()
    }

    fn strict(&self) -> Cache {
        self.builder(Arc::new(self.store.clone())).strict(true).build().unwrap()
    }

    /// Deaf to changes by others, which would come at their own time; `coherence.rs` listens.
    fn builder(&self, backend: Arc<dyn Backend>) -> CacheBuilder {
        Cache::builder().backend(backend).clock(self.clock.clone()).coherence(false)
    }
}

/// A store whose gets and sets can be held up, to make races happen in a known order.
struct Gated {
    inner: Memory,
    hold_get: Arc<Gate>,
    hold_set: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: std::sync::atomic::AtomicBool,
    arrived: Notify,
    open: Notify,
}

impl Gate {
    async fn pass(&self) {
        if self.closed.swap(false, Ordering::SeqCst) {
            self.arrived.notify_one();
            self.open.notified().await;
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

impl Backend for Gated {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            let found = self.inner.get(key, cx).await;
            self.hold_get.pass().await;
            found
        })
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.hold_set.pass().await;
            self.inner.set(key, value, ttl, cx).await
        })
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.inner.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.inner.close(cx)
    }
    fn scan(&self) -> Option<&dyn Scan> {
        self.inner.scan()
    }
}

/// A cache over such a store. The deadline is short, because some of these tests let it pass.
fn gated(bench: &Bench) -> (Cache, Arc<Gate>, Arc<Gate>) {
    let (hold_get, hold_set) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let store = Gated { inner: bench.store.clone(), hold_get: Arc::clone(&hold_get), hold_set: Arc::clone(&hold_set) };
    let cache = Cache::builder().backend(Arc::new(store)).clock(bench.clock.clone());
    (cache.deadline(Duration::from_millis(300)).build().unwrap(), hold_get, hold_set)
}

#[tokio::test]
async fn what_is_set_is_found_in_both_tiers() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("ada", &ada()).await.unwrap();
    assert_eq!(*cache.get::<User>("ada").await.unwrap().unwrap(), ada());
    let stats = cache.stats();
    assert_eq!((stats.sets, stats.l2_hits, stats.l1.unwrap().hits), (1, 0, 1));

    let elsewhere = bench.cache();
    assert_eq!(*elsewhere.get::<User>("ada").await.unwrap().unwrap(), ada());
    assert_eq!(elsewhere.stats().l2_hits, 1);
    assert_eq!(elsewhere.get::<User>("bob").await.unwrap(), None);
}

#[tokio::test]
async fn a_typed_hit_decodes_nothing() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("ada", &ada()).await.unwrap();
    let first = cache.get::<User>("ada").await.unwrap().unwrap();
    let second = cache.get::<User>("ada").await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn a_value_of_another_type_is_a_counted_miss_and_an_error_if_strict() {
    let bench = Bench::new();
    bench.cache().set("ada", &ada()).await.unwrap();
    let cache = bench.cache();
    assert_eq!(cache.get::<Vec<u64>>("ada").await.unwrap(), None);
    assert_eq!(cache.stats().refused.get("decode"), Some(&1));
    assert!(matches!(bench.strict().get::<Vec<u64>>("ada").await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn bytes_come_back_as_they_were() {
    let bench = Bench::new();
    let cache = bench.cache();
    for bytes in [&b""[..], b"\0\xff", &[7; 100_000]] {
        cache.set_bytes("raw", bytes, SetOptions::default()).await.unwrap();
        assert_eq!(cache.get_bytes("raw").await.unwrap().unwrap(), bytes);
        assert_eq!(bench.cache().get_bytes("raw").await.unwrap().unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_life_ends_to_the_millisecond_in_both_tiers() {
    let bench = Bench::new();
    let cache = bench.cache();
    let options = SetOptions::default().with_ttl(Duration::from_millis(1500));
    cache.set_with("k", &1_u32, options).await.unwrap();
    bench.clock.advance(Duration::from_millis(1499));
    assert_eq!(cache.ttl("k").await.unwrap(), Ttl::from_ms(1));
    assert!(cache.get::<u32>("k").await.unwrap().is_some());
    assert!(bench.cache().get::<u32>("k").await.unwrap().is_some());
    bench.clock.advance(Duration::from_millis(1));
    assert!(cache.get::<u32>("k").await.unwrap().is_none());
    assert!(bench.cache().get::<u32>("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_life_of_zero_is_refused() {
    let cache = Bench::new().cache();
    let zero = SetOptions::default().with_ttl(Duration::ZERO);
    assert!(matches!(cache.set_with("k", &1, zero).await, Err(Error::ZeroTtl)));
    assert!(matches!(Cache::builder().default_ttl(Duration::ZERO).build(), Err(Error::ZeroTtl)));
}

#[tokio::test]
async fn the_longest_life_does_not_overflow() {
    let cache = Bench::new().cache();
    cache.set_with("k", &1_u32, SetOptions::default().with_ttl(Duration::MAX)).await.unwrap();
    assert!(cache.get::<u32>("k").await.unwrap().is_some());
}

#[tokio::test]
async fn another_process_sees_a_write_after_the_l1_cap() {
    let bench = Bench::new();
    let (here, there) = (bench.cache(), bench.cache());
    here.set("k", &1_u32).await.unwrap();
    assert_eq!(*there.get::<u32>("k").await.unwrap().unwrap(), 1);
    here.set("k", &2_u32).await.unwrap();
    bench.clock.advance(crate::builder::DEFAULT_L1_TTL_CAP);
    assert_eq!(*there.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn delete_tells_the_truth_and_reaches_both_tiers() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("k", &1_u32).await.unwrap();
    assert!(cache.delete("k").await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert!(!cache.exists("k").await.unwrap());
}

#[tokio::test]
async fn touch_lengthens_shortens_and_removes_a_life() {
    let bench = Bench::new();
    let cache = bench.cache();
    let life = |ms| SetOptions::default().with_ttl(Duration::from_millis(ms));
    cache.set_with("k", &ada(), life(1000)).await.unwrap();
    assert!(cache.touch("k", life(5000)).await.unwrap());
    bench.clock.advance(Duration::from_millis(4999));
    assert_eq!(*cache.get::<User>("k").await.unwrap().unwrap(), ada());
    assert!(cache.touch("k", SetOptions::default().without_expiry()).await.unwrap());
    assert_eq!(cache.ttl("k").await.unwrap(), Some(Ttl::Never));
    assert!(cache.touch("k", life(10)).await.unwrap());
    bench.clock.advance(Duration::from_millis(10));
    assert_eq!(cache.get::<User>("k").await.unwrap(), None);
    assert!(!cache.touch("k", life(10)).await.unwrap());
}

#[tokio::test]
async fn touch_without_a_second_tier_works_on_l1() {
    let clock = Arc::new(ManualClock::new());
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    let life = |ms| SetOptions::default().with_ttl(Duration::from_millis(ms));
    cache.set_with("k", &1_u32, life(10)).await.unwrap();
    assert!(cache.touch("k", life(100)).await.unwrap());
    clock.advance(Duration::from_millis(99));
    assert!(cache.get::<u32>("k").await.unwrap().is_some());
    clock.advance(Duration::from_millis(1));
    assert!(!cache.touch("k", life(100)).await.unwrap());
}

#[tokio::test]
async fn many_keys_go_in_one_exchange_and_keep_their_order() {
    let bench = Bench::new();
    let items: Vec<(String, u32)> = (0..100).map(|i| (format!("k{i}"), i)).collect();
    bench.cache().set_many(&items, SetOptions::default()).await.unwrap();
    let cache = bench.cache();
    let keys = ["k7", "absent", "k99", "k7"];
    let found = cache.get_many::<u32, _>(&keys).await.unwrap();
    let found: Vec<Option<u32>> = found.into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(found, [Some(7), None, Some(99), Some(7)]);
    assert_eq!(cache.delete_many(&["k7", "absent", "k8"]).await.unwrap(), 2);
    assert_eq!(cache.get::<u32>("k7").await.unwrap(), None);
}

#[tokio::test]
async fn clear_empties_one_namespace_and_no_other() {
    let bench = Bench::new();
    let (a, b) = (bench.cache().namespace("a").unwrap(), bench.cache().namespace("ab").unwrap());
    a.set("k", &1_u32).await.unwrap();
    a.set("#k", &1_u32).await.unwrap();
    b.set("k", &2_u32).await.unwrap();
    assert_eq!(a.clear().await.unwrap(), 2);
    assert_eq!(a.get::<u32>("k").await.unwrap(), None);
    assert_eq!(*b.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn keys_are_listed_as_their_callers_know_them() {
    let bench = Bench::new();
    let cache = bench.cache();
    let long = "x".repeat(30_000);
    for key in ["plain", "#hash", &long] {
        cache.set(key, &1_u32).await.unwrap();
    }
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = cache.keys(cursor.as_ref()).await.unwrap();
        keys.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    keys.sort();
    assert_eq!(keys, [b"#hash".to_vec(), b"plain".to_vec(), long.into_bytes()]);
}

#[tokio::test]
async fn entries_of_another_key_are_refused_wherever_they_lie() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("mine", &1_u32).await.unwrap();
    let cx = Cx::within(Duration::from_secs(5));
    let stolen = bench.store.get(Key::from_wire(b"ck:default:mine"), &cx).await.unwrap().unwrap();
    bench.store.set(Key::from_wire(b"ck:default:yours"), stolen, Ttl::Never, &cx).await.unwrap();
    let reader = bench.cache();
    assert_eq!(reader.get::<u32>("yours").await.unwrap(), None);
    assert_eq!(reader.stats().refused.get("wrong_key"), Some(&1));
}

#[tokio::test]
async fn an_outage_makes_misses_and_loads_and_never_errors() {
    let bench = Bench::new();
    let cache = bench.cache();
    bench.store.set_outage(true);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(*cache.get_or_load("k", async || 1_u32).await.unwrap(), 1);
    cache.set("j", &2_u32).await.unwrap();
    assert_eq!(*cache.get::<u32>("j").await.unwrap().unwrap(), 2);
    let stats = cache.stats();
    assert!(stats.l2_errors >= 4 && stats.sets_l1_only == 2, "{stats:?}");
    assert!(!cache.health().await.is_healthy());
}

#[tokio::test]
async fn a_deletion_that_did_not_happen_is_an_error_even_in_an_outage() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("k", &1_u32).await.unwrap();
    bench.store.set_outage(true);
    assert!(matches!(cache.delete("k").await, Err(Error::Backend(_))));
    assert!(matches!(cache.delete_many(&["k"]).await, Err(Error::Backend(_))));
    assert!(matches!(cache.clear().await, Err(Error::Backend(_))));
}

#[tokio::test]
async fn a_strict_cache_reports_the_outage() {
    let bench = Bench::new();
    let cache = bench.strict();
    bench.store.set_outage(true);
    assert!(matches!(cache.get::<u32>("k").await, Err(Error::Backend(_))));
    assert!(matches!(cache.set("k", &1).await, Err(Error::Backend(_))));
    assert!(matches!(cache.set_many(&[("k", 1)], SetOptions::default()).await, Err(Error::Backend(_))));
    assert!(matches!(cache.get_many::<u32, _>(&["k"]).await, Err(Error::Backend(_))));
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up_at_the_deadline() {
    let bench = Bench::new();
    let (cache, hold_get, _) = gated(&bench);
    hold_get.close();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(cache.stats().l2_timeouts, 1);
}

#[tokio::test]
async fn a_thousand_callers_of_a_cold_key_load_it_once() {
    let cache = Bench::new().cache();
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = async || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    7_u32
                };
                *cache.get_or_load("cold", load).await.unwrap()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 7);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test]
async fn a_cancelled_loader_hangs_nobody() {
    let cache = Bench::new().cache();
    let began = Arc::new(Notify::new());
    let (first, signal) = (cache.clone(), Arc::clone(&began));
    let leader = tokio::spawn(async move {
        first
            .get_or_load("k", async || {
                signal.notify_one();
                std::future::pending::<u32>().await
            })
            .await
    });
    began.notified().await;
    let second = cache.clone();
    let waiter = tokio::spawn(async move { second.get_or_load("k", async || 2_u32).await });
    tokio::task::yield_now().await;
    leader.abort();
    assert_eq!(*waiter.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_panicking_loader_hangs_nobody() {
    let cache = Bench::new().cache();
    let panicking = cache.clone();
    let leader = tokio::spawn(async move {
        panicking
            .get_or_load::<u32, _, _>("k", async || {
                tokio::task::yield_now().await;
                panic!("on purpose")
            })
            .await
    });
    assert!(leader.await.is_err());
    assert_eq!(*cache.get_or_load("k", async || 3_u32).await.unwrap(), 3);
}

#[tokio::test]
async fn a_loader_that_asks_for_its_own_key_does_not_wait_for_itself() {
    let cache = Bench::new().cache();
    let inner = cache.clone();
    let value = cache.get_or_load("k", async || *inner.get_or_load("k", async || 1_u32).await.unwrap() + 1).await;
    assert_eq!(*value.unwrap(), 2);
}

#[tokio::test]
async fn an_error_of_a_loader_reaches_everybody_who_waited_and_is_not_kept() {
    let cache = Bench::new().cache();
    let failing = |cache: Cache| async move {
        cache
            .try_get_or_load::<u32, String, _, _>("k", async || {
                tokio::task::yield_now().await;
                Err("no such user".to_owned())
            })
            .await
    };
    let (a, b) = (tokio::spawn(failing(cache.clone())), tokio::spawn(failing(cache.clone())));
    for task in [a, b] {
        assert!(matches!(task.await.unwrap(), Err(LoadError::Loader(error)) if *error == "no such user"));
    }
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.coalesced), (1, 1, 1));
    assert_eq!(*cache.get_or_load("k", async || 1_u32).await.unwrap(), 1);
}

#[tokio::test]
async fn a_slow_loader_does_not_undo_a_deletion() {
    let cache = Bench::new().cache();
    let deleter = cache.clone();
    let loaded = cache
        .get_or_load("k", async || {
            deleter.delete("k").await.unwrap();
            1_u32
        })
        .await
        .unwrap();
    assert_eq!(*loaded, 1, "the caller gets what it loaded");
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None, "but it is not kept");
    assert_eq!(cache.stats().overtaken, 1);
}

#[tokio::test]
async fn a_slow_loader_does_not_undo_a_newer_set_nor_a_clear() {
    let cache = Bench::new().cache();
    let writer = cache.clone();
    let load = async || {
        writer.set("k", &2_u32).await.unwrap();
        1_u32
    };
    cache.get_or_load("k", load).await.unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);

    let load = async || {
        writer.clear().await.unwrap();
        1_u32
    };
    cache.get_or_load("cleared", load).await.unwrap();
    assert_eq!(cache.get::<u32>("cleared").await.unwrap(), None);
}

#[tokio::test]
async fn after_a_deletion_callers_do_not_join_the_older_load() {
    let cache = Bench::new().cache();
    let (begin, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (slow, began, finishing) = (cache.clone(), Arc::clone(&begin), Arc::clone(&finish));
    let leader = tokio::spawn(async move {
        let load = async || {
            began.notify_one();
            finishing.notified().await;
            1_u32
        };
        slow.get_or_load("k", load).await
    });
    begin.notified().await;
    cache.delete("k").await.unwrap();
    assert_eq!(*cache.get_or_load("k", async || 2_u32).await.unwrap(), 2);
    finish.notify_one();
    leader.await.unwrap().unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_slow_read_does_not_fill_l1_with_what_was_overwritten() {
    let bench = Bench::new();
    let (cache, hold_get, _) = gated(&bench);
    bench.cache().set("k", &1_u32).await.unwrap();
    hold_get.close();
    let slow = cache.clone();
    let reader = tokio::spawn(async move { slow.get::<u32>("k").await });
    hold_get.arrived.notified().await;
    cache.set("k", &2_u32).await.unwrap();
    hold_get.open.notify_one();
    reader.await.unwrap().unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
    assert_eq!(cache.stats().overtaken, 1);
}

#[tokio::test]
async fn a_read_that_began_during_a_write_does_not_fill_l1_with_the_older_value() {
    let bench = Bench::new();
    let (cache, hold_get, hold_set) = gated(&bench);
    bench.cache().set("k", &1_u32).await.unwrap();
    hold_set.close();
    let slow = cache.clone();
    let writer = tokio::spawn(async move { slow.set("k", &2_u32).await });
    hold_set.arrived.notified().await;
    // The write was announced, but has not landed: this read still sees the older value.
    hold_get.close();
    let slow = cache.clone();
    let reader = tokio::spawn(async move { slow.get::<u32>("k").await });
    hold_get.arrived.notified().await;
    hold_set.open.notify_one();
    writer.await.unwrap().unwrap();
    hold_get.open.notify_one();
    reader.await.unwrap().unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_leaves_nothing_older_in_l1() {
    let bench = Bench::new();
    let (cache, _, hold_set) = gated(&bench);
    cache.set("k", &1_u32).await.unwrap();
    hold_set.close();
    let slow = cache.clone();
    let writer = tokio::spawn(async move { slow.set("k", &2_u32).await });
    hold_set.arrived.notified().await;
    // The store takes the value although its caller is gone: the outcome that nobody is told of.
    bench.cache().set("k", &2_u32).await.unwrap();
    writer.abort();
    assert!(writer.await.unwrap_err().is_cancelled());
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_write_behind_one_that_hangs_is_no_error_and_not_undone_by_it() {
    let bench = Bench::new();
    let (cache, _, hold_set) = gated(&bench);
    hold_set.close();
    let hung = cache.clone();
    let first = tokio::spawn(async move { hung.set("k", &1_u32).await });
    hold_set.arrived.notified().await;
    cache.set("k", &2_u32).await.unwrap();
    first.await.unwrap().unwrap();
    // Two writes that ended in the same millisecond may leave L1 without the key, but never with the older value.
    let left = cache.get::<u32>("k").await.unwrap();
    assert!(left.is_none_or(|left| *left == 2), "the one that hung was the older");
    assert!(cache.stats().l2_timeouts >= 1, "{:?}", cache.stats());
}

#[tokio::test]
async fn a_flight_that_began_during_a_deletion_is_not_joined_after_it() {
    let bench = Bench::new();
    let (cache, hold_get, _) = gated(&bench);
    bench.cache().set("k", &1_u32).await.unwrap();
    // Both wait for the writes of this key to be told apart: the deletion has begun when the flight looks in the store.
    let turn = cache.engine.writes.turn(cache.slot, cache.at(b"k").unwrap().hash).await;
    let other = cache.clone();
    let deleter = tokio::spawn(async move { other.delete("k").await });
    tokio::task::yield_now().await;
    hold_get.close();
    let slow = cache.clone();
    let flight = tokio::spawn(async move { slow.get_or_load("k", async || 9_u32).await });
    hold_get.arrived.notified().await;
    drop(turn);
    assert!(deleter.await.unwrap().unwrap());
    assert_eq!(*cache.get_or_load("k", async || 2_u32).await.unwrap(), 2, "not what the older flight saw");
    hold_get.open.notify_one();
    assert_eq!(*flight.await.unwrap().unwrap(), 1, "it began before the deletion ended");
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[test]
fn a_thousand_blocking_calls_inside_a_task_do_not_hang() {
    let cache = Bench::new().cache();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in 0..1000_u32 {
            cache.blocking().set("k", &n).unwrap();
        }
        assert_eq!(*cache.blocking().get::<u32>("k").unwrap().unwrap(), 999);
    });
}

#[tokio::test]
async fn a_strict_caches_followers_do_not_queue_for_a_store_that_fails() {
    let bench = Bench::new();
    let store = Gated { inner: bench.store.clone(), hold_get: Arc::default(), hold_set: Arc::default() };
    let gate = Arc::clone(&store.hold_get);
    let cache =
        Cache::builder().backend(Arc::new(store)).strict(true).deadline(Duration::from_millis(200)).build().unwrap();
    gate.close();
    let load = |cache: Cache| async move { cache.try_get_or_load::<u32, String, _, _>("k", async || Ok(1)).await };
    let leader = tokio::spawn(load(cache.clone()));
    gate.arrived.notified().await;
    let followers: Vec<_> = (0..50).map(|_| tokio::spawn(load(cache.clone()))).collect();
    assert!(leader.await.unwrap().is_err());
    for follower in followers {
        // The store answers again: nobody waits for another's deadline.
        follower.await.unwrap().unwrap();
    }
    assert_eq!(cache.stats().l2_timeouts, 1);
}

#[tokio::test]
async fn a_deletion_waits_for_the_write_it_overtakes() {
    let bench = Bench::new();
    let (cache, _, hold_set) = gated(&bench);
    hold_set.close();
    let slow = cache.clone();
    let writer = tokio::spawn(async move { slow.set("k", &1_u32).await });
    hold_set.arrived.notified().await;
    let other = cache.clone();
    let deleter = tokio::spawn(async move { other.delete("k").await });
    tokio::task::yield_now().await;
    hold_set.open.notify_one();
    writer.await.unwrap().unwrap();
    assert!(deleter.await.unwrap().unwrap(), "it found what was written before it");
    assert_eq!(bench.cache().get::<u32>("k").await.unwrap(), None);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_cache_says_so() {
    let cache = Bench::new().cache();
    cache.set("k", &1_u32).await.unwrap();
    cache.close().await.unwrap();
    cache.clone().close().await.unwrap();
    assert!(matches!(cache.get::<u32>("k").await, Err(Error::Closed)));
    assert!(matches!(cache.clear().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_value_too_large_for_the_store_is_an_error_to_set_and_none_to_load() {
    let clock = Arc::new(ManualClock::new());
    let store = Memory::new(MemoryConfig { max_value: 1000, ..MemoryConfig::default() });
    let cache = Cache::builder().backend(Arc::new(store)).clock(clock).build().unwrap();
    let noise: Vec<u64> = (0..1000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    assert!(matches!(cache.set("k", &noise).await, Err(Error::TooLarge { .. })));
    assert_eq!(cache.get_or_load("k", async || noise.clone()).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn without_l1_every_read_asks_the_store() {
    let bench = Bench::new();
    let cache = Cache::builder()
        .backend(Arc::new(bench.store.clone()))
        .clock(bench.clock.clone())
        .without_l1()
        .build()
        .unwrap();
    cache.set("k", &1_u32).await.unwrap();
    cache.get::<u32>("k").await.unwrap().unwrap();
    cache.get::<u32>("k").await.unwrap().unwrap();
    assert_eq!(cache.stats().l2_hits, 2);
    assert_eq!(cache.stats().l1, None);
}

#[tokio::test]
async fn an_entry_is_shown_with_its_times_and_checked_like_a_value() {
    let bench = Bench::new();
    let cache = bench.strict();
    cache.set_with("ada", &ada(), SetOptions::default().with_ttl(Duration::from_secs(60))).await.unwrap();
    let entry = cache.entry("ada").await.unwrap().unwrap();
    assert_eq!(entry.decode::<User>().unwrap(), ada());
    assert_eq!(entry.meta().times.expires_ms - entry.meta().times.created_ms, 60_000);
    assert!(cache.entry("bob").await.unwrap().is_none());
    let (tier, cx) = (cache.tier().unwrap().backend(), cachekit_plugin::Cx::within(Duration::from_secs(1)));
    let stored = tier.get(cachekit_plugin::Key::from_wire(b"ck:default:ada"), &cx).await.unwrap().unwrap();
    let moved = cachekit_plugin::Key::from_wire(b"ck:default:eve");
    tier.set(moved, stored, Ttl::Never, &cx).await.unwrap();
    assert!(matches!(cache.entry("eve").await, Err(Error::Refused(crate::codec::Refusal::WrongKey))));
}

#[test]
fn a_program_without_a_runtime_caches() {
    let bench = Bench::new();
    let cache = bench.cache().blocking();
    cache.set("ada", &ada()).unwrap();
    assert_eq!(*cache.get::<User>("ada").unwrap().unwrap(), ada());
    assert_eq!(*cache.get_or_load("n", || 5_u32).unwrap(), 5);
    assert!(cache.delete("ada").unwrap());
    assert_eq!(cache.clear().unwrap(), 1);
}

/// Random operations of many tasks: a read returns what was the newest value at some moment since the read began, never
/// one that was overwritten or deleted before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_goes_back_behind_a_finished_write() {
    const KEYS: usize = 4;
    const ROUNDS: u64 = 2_000;
    let cache = Cache::builder()
        .backend(Arc::new(Memory::new(MemoryConfig::default())))
        .l1(L1Config::with_max_bytes(1 << 20))
        .build()
        .unwrap();
    // Per key what the source of truth holds, which changes before the cache is told, and the newest number that the
    // cache was told of; writers of one key take turns so that numbers grow.
    let numbers = || -> Arc<Vec<std::sync::atomic::AtomicU64>> { Arc::new((0..KEYS).map(|_| 0.into()).collect()) };
    let (source, finished) = (numbers(), numbers());
    let writing: Arc<Vec<Mutex<u64>>> = Arc::new((0..KEYS).map(|_| Mutex::new(0)).collect());
    let mut tasks = Vec::new();
    for seed in 0..8_u64 {
        let (cache, source, finished) = (cache.clone(), Arc::clone(&source), Arc::clone(&finished));
        let writing = Arc::clone(&writing);
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let dice = (seed * ROUNDS + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let (key, act) = ((dice % KEYS as u64) as usize, dice / 64 % 8);
                let floor = finished[key].load(Ordering::SeqCst);
                let name = format!("k{key}");
                match act {
                    0 => {
                        let mut sequence = writing[key].lock().await;
                        *sequence += 1;
                        source[key].store(*sequence, Ordering::SeqCst);
                        cache.set(&name, &*sequence).await.unwrap();
                        finished[key].store(*sequence, Ordering::SeqCst);
                    }
                    1 => {
                        // A deletion counts as a write whose value nobody may see.
                        let mut sequence = writing[key].lock().await;
                        *sequence += 1;
                        source[key].store(*sequence, Ordering::SeqCst);
                        cache.delete(&name).await.unwrap();
                        finished[key].store(*sequence, Ordering::SeqCst);
                    }
                    2 => {
                        let load = async || source[key].load(Ordering::SeqCst);
                        let seen = *cache.get_or_load(&name, load).await.unwrap();
                        assert!(seen >= floor, "get_or_load saw {seen} after {floor} was written");
                    }
                    _ => {
                        if let Some(seen) = cache.get::<u64>(&name).await.unwrap() {
                            assert!(*seen >= floor, "get saw {seen} after {floor} was written");
                        }
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// A store that lists nothing and clears nothing.
struct Opaque(Memory);

impl Backend for Opaque {
    fn limits(&self) -> Limits {
        self.0.limits().with_enumerates(Enumerates::No)
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.0.get(key, cx)
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.0.set(key, value, ttl, cx)
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.0.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.0.exists(key, cx)
    }
    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        ready(Err(BackendError::new(Kind::Auth, Operation::Health, "no")))
    }
    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
}

#[tokio::test]
async fn a_store_that_cannot_list_says_so_and_batches_are_emulated() {
    let bench = Bench::new();
    let cache = bench.over(Arc::new(Opaque(bench.store.clone())));
    cache.set_many(&[("a", 1_u32), ("b", 2)], SetOptions::default()).await.unwrap();
    cache.set_many(&[("twice", 1_u32), ("twice", 2)], SetOptions::default()).await.unwrap();
    let elsewhere = bench.over(Arc::new(Opaque(bench.store.clone())));
    assert_eq!(*elsewhere.get::<u32>("twice").await.unwrap().unwrap(), 2);
    let found = elsewhere.get_many::<u32, _>(&["a", "x", "b"]).await.unwrap();
    assert_eq!(found.iter().filter(|value| value.is_some()).count(), 2);
    assert!(cache.touch("a", SetOptions::default().with_ttl(Duration::from_secs(1))).await.unwrap());
    assert_eq!(cache.delete_many(&["a", "x"]).await.unwrap(), 1);
    assert!(matches!(cache.keys(None).await, Err(Error::Unsupported { .. })));
    assert!(matches!(cache.clear().await, Err(Error::Unsupported { .. })));
}
