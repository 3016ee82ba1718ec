//! A store that keeps failing: the breaker before it, as a caller of the cache meets it.

use std::time::Duration;

use super::Bench;
use crate::cache::Cache;
use crate::error::Error;
use crate::guard::breaker::{BreakerConfig, BreakerState};

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
    assert!(matches!(Cache::builder().breaker(config).build(), Err(Error::Breaker(_))));
}
