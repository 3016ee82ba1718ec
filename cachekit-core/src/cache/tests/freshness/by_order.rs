//! Refreshes that a caller orders.

use super::*;

#[tokio::test]
async fn a_refresh_by_order_loads_once_for_all_who_order_it_and_beats_older_loads() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    let source = Source::default();
    cache.set("k", &100_u32).await.unwrap();
    source.gate.close();
    let order = || cache.try_refresh_with("k", LoadOptions::default(), source.load());
    let open = async {
        source.gate.arrived.notified().await;
        assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 100, "what is there is served meanwhile");
        source.gate.open.notify_one();
    };
    let (first, second, ()) = tokio::join!(order(), order(), open);
    assert_eq!((*first.unwrap(), *second.unwrap(), source.calls()), (1, 1, 1));
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);

    // A load that began before comes back later, and is not kept.
    cache.delete("k").await.unwrap();
    let older = Source::default();
    older.gate.close();
    let slow = cache.try_get_or_load("k", older.load());
    let order = async {
        older.gate.arrived.notified().await;
        assert_eq!(*cache.refresh("k", || async { 300_u32 }).await.unwrap(), 300);
        older.gate.open.notify_one();
    };
    let (slow, ()) = tokio::join!(slow, order);
    assert_eq!(*slow.unwrap(), 1);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 300);
}

#[tokio::test]
async fn a_refresh_by_order_that_fails_says_so_and_leaves_what_is_there() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    let source = Source::default();
    cache.set("k", &100_u32).await.unwrap();
    source.fails.store(true, Ordering::SeqCst);
    let failed = cache.try_refresh_with::<u32, _, _, _>("k", LoadOptions::default(), source.load()).await;
    assert!(matches!(failed, Err(LoadError::Loader(_))));
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 100);
    assert_eq!(cache.stats().refresh_failures, 1);
}
