//! A store that fails, hangs, or lacks what was asked of it.

use super::*;

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
    let (cache, hold_get, _) = gated_until(&bench, Duration::from_millis(100));
    hold_get.close();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(cache.stats().l2_timeouts, 1);
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
}
