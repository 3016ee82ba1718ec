//! A store that keeps failing: the breaker before it, as a caller of the cache meets it.

use std::sync::Arc;
use std::time::Duration;

use cachekit_conformance::Memory;
use cachekit_plugin::{Backend, Bytes, Clear, Cx, Fut, Health, Key, Limits, Scan, Ttl};

use futures_util::FutureExt;

use super::Bench;
use crate::cache::Cache;
use crate::error::Error;
use crate::guard::breaker::{BreakerConfig, BreakerState};
use crate::guard::bulkhead::BulkheadConfig;
use crate::guard::stack::Shed;

#[tokio::test]
async fn a_store_that_keeps_failing_is_given_a_pause_and_found_again() {
    let bench = Bench::new();
    let cache = bench.strict();
    cache.set("k", &1_u32).await.unwrap();
    cache.namespace("other").unwrap().set("k", &2_u32).await.unwrap();
    bench.store.set_outage(true);
    for _ in 0..5 {
        assert!(cache.get::<u32>("missing").await.is_err());
    }
    assert_eq!(cache.health().await.breaker, Some(BreakerState::Open));

    // The store is back, but nobody asks it yet; what is in the process is served all the same.
    bench.store.set_outage(false);
    assert!(matches!(cache.get::<u32>("missing").await, Err(Error::Backend(_))));
    assert!(cache.delete("k").await.is_err(), "a deletion that did not happen is an error");
    assert_eq!(*cache.namespace("other").unwrap().get::<u32>("k").await.unwrap().unwrap(), 2);
    assert_eq!(cache.stats().l2_shed, 2);

    bench.clock.advance(Duration::from_millis(1_300));
    for _ in 0..3 {
        assert_eq!(cache.get::<u32>("missing").await.unwrap(), None);
    }
    assert_eq!(cache.health().await.breaker, Some(BreakerState::Closed));
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1, "the deletion was refused");
}

#[tokio::test]
async fn without_a_breaker_every_call_asks_the_store() {
    let bench = Bench::new();
    let store = std::sync::Arc::new(bench.store.clone());
    let cache = Cache::builder().backend(store).clock(bench.clock.clone()).strict(true).without_breaker();
    let cache = cache.build().unwrap();
    bench.store.set_outage(true);
    for _ in 0..20 {
        assert!(cache.get::<u32>("k").await.is_err());
    }
    bench.store.set_outage(false);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!((cache.stats().l2_shed, cache.health().await.breaker), (0, None));
}

#[tokio::test]
async fn a_batch_fails_as_one_when_all_of_it_fails() {
    let bench = Bench::new();
    let cache = bench.strict();
    bench.store.set_outage(true);
    for _ in 0..4 {
        assert!(cache.get_many::<u32, _>(&["a", "b", "c"]).await.is_err());
    }
    assert_eq!(cache.health().await.breaker, Some(BreakerState::Closed));
    assert!(cache.get_many::<u32, _>(&["a", "b", "c"]).await.is_err());
    assert_eq!(cache.health().await.breaker, Some(BreakerState::Open));
}

#[test]
fn a_breaker_that_cannot_work_is_an_error_of_the_builder() {
    let config = BreakerConfig::default().with_fixed_open(Duration::ZERO);
    assert!(matches!(Cache::builder().breaker(config).build(), Err(Error::Guard { guard: "circuit breaker", .. })));
}

/// A store that answers nothing but for writes.
struct Deaf(Memory);

impl Backend for Deaf {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn get<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(std::future::pending())
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
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.0.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.0.close(cx)
    }
    fn scan(&self) -> Option<&dyn Scan> {
        // One that cannot list has its namespaces cleared by epochs, which are read before a write.
        self.0.scan()
    }
}

#[tokio::test]
async fn a_hit_in_the_process_passes_no_guard_however_many_calls_hang_behind_them() {
    let bench = Bench::new();
    let narrow = BulkheadConfig { in_flight: 1, queued: 1, ..BulkheadConfig::default() };
    let builder = bench.builder(Arc::new(Deaf(bench.store.clone()))).bulkhead(narrow).strict(true);
    let cache = builder.deadline(Duration::from_secs(60)).build().unwrap();
    cache.set("hot", &7_u32).await.unwrap();
    let mut in_flight = Box::pin(cache.get::<u32>("cold"));
    assert!((&mut in_flight).now_or_never().is_none());
    let mut queued = Box::pin(cache.get::<u32>("colder"));
    assert!((&mut queued).now_or_never().is_none());
    let guards = cache.health().await.guards;
    assert_eq!((guards.in_flight, guards.queued), (Some((1, 1)), Some((1, 1))));

    assert_eq!(*cache.get::<u32>("hot").now_or_never().expect("at once").unwrap().unwrap(), 7);
    let refused = cache.get::<u32>("coldest").now_or_never().expect("at once, too").unwrap_err();
    let Error::Backend(refused) = refused else { panic!("{refused}") };
    assert!(Shed::is(&refused) && refused.to_string().contains("bulkhead"), "{refused}");
    let stats = cache.stats();
    assert_eq!((stats.l2_shed_full, stats.l2_shed, stats.l2_errors, stats.l2_timeouts), (1, 0, 1, 0));

    drop((in_flight, queued));
    let guards = cache.health().await.guards;
    assert_eq!((guards.in_flight, guards.queued), (Some((0, 1)), Some((0, 1))));
}

#[tokio::test]
async fn guards_and_deadlines_that_cannot_work_are_errors_of_the_builder() {
    let zero = BulkheadConfig { in_flight: 0, ..BulkheadConfig::default() };
    let built = Cache::builder().bulkhead(zero).build();
    assert!(matches!(built, Err(Error::Guard { guard: "bulkhead", .. })));
    let built = Cache::builder().deadline(Duration::ZERO).build();
    assert!(matches!(built, Err(Error::ZeroDeadline)));
}

/// A store that has so much that clearing takes longer than any deadline.
struct Vast(Memory);

impl Clear for Vast {
    fn clear<'a>(&'a self, _: &'a [u8], _: &'a Cx<'a>) -> Fut<'a, u64> {
        Box::pin(std::future::pending())
    }
}

impl Backend for Vast {
    fn limits(&self) -> Limits {
        self.0.limits()
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
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.0.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.0.close(cx)
    }
    fn scan(&self) -> Option<&dyn Scan> {
        self.0.scan()
    }
    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }
}

#[tokio::test]
async fn a_store_too_large_to_clear_in_one_deadline_is_cleared_page_by_page() {
    let bench = Bench::new();
    let store = Arc::new(Vast(bench.store.clone()));
    let cache = Cache::builder().backend(store).clock(bench.clock.clone()).deadline(Duration::from_millis(100));
    let cache = cache.build().unwrap();
    cache.set("a", &1_u32).await.unwrap();
    cache.set("b", &2_u32).await.unwrap();
    assert_eq!(cache.clear().await.unwrap(), 2);
    assert_eq!(bench.cache().get::<u32>("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_clearing_that_failed_leaves_every_key_in_doubt_and_one_that_landed_none() {
    let bench = Bench::new();
    let cache = bench.cache();
    let doubted = |key: &str| {
        let at = cache.at(key.as_bytes()).unwrap();
        cache.near.writes.doubted_until_ms(at.hash) > 0
    };
    cache.set("k", &1_u32).await.unwrap();
    cache.clear().await.unwrap();
    assert!(!doubted("k") && !doubted("another"));
    bench.store.set_outage(true);
    assert!(cache.clear().await.is_err());
    assert!(doubted("k") && doubted("another"), "it may land yet");
}
