//! Refreshes before the end: half way through a life, and by chance where a load is dear.

use super::*;

#[tokio::test]
async fn what_is_half_way_through_its_life_is_refreshed_ahead_by_loaders_that_own_what_they_need() {
    let bench = Bench::new();
    let cache = bench.builder(Arc::new(bench.store.clone())).random_seed(1).build().unwrap();
    let source = Source::default();
    let options = LoadOptions::default().with_ttl(Duration::from_secs(20));
    cache.set_with("k", &100_u32, options.set.clone()).await.unwrap();
    bench.clock.advance(Duration::from_secs(8));
    assert_eq!(*cache.try_get_or_load_with("k", options.clone(), source.load()).await.unwrap(), 100);
    assert_eq!(cache.stats().refreshes, 0);
    bench.clock.advance(Duration::from_millis(3_500));
    // A loader that borrows cannot go on behind its caller, and nobody waits for what is not needed.
    assert_eq!(*cache.try_get_or_load("k", source.load()).await.unwrap(), 100);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 100);
    assert_eq!(source.calls(), 0);
    assert_eq!(*cache.try_get_or_load_with("k", options.clone(), source.load()).await.unwrap(), 100);
    until(|| cache.near.background.running() == 0).await;
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
    let stats = cache.stats();
    assert_eq!((stats.refreshes, stats.early_refreshes, stats.stale_served), (1, 1, 0));
}

#[tokio::test]
async fn another_process_that_refreshed_first_spares_the_load() {
    let bench = Bench::new();
    let (here, there) = (exact(&bench).build().unwrap(), exact(&bench).build().unwrap());
    let source = Source::default();
    here.try_get_or_load_with("k", windows(), source.load()).await.unwrap();
    bench.clock.advance(MINUTE);
    there.set_with("k", &200_u32, windows().set).await.unwrap();
    // Past the cap L1 asks the store, which has the newer value.
    assert_eq!(*here.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 200);
    assert_eq!(source.calls(), 1);
}

#[tokio::test]
async fn a_dear_load_is_refreshed_early_by_chance_and_a_cheap_one_is_not() {
    let bench = Bench::new();
    for (cost, refreshes) in [(Duration::from_secs(1000), true), (Duration::ZERO, false)] {
        let cache = alone(&bench).early_refresh(1.0).random_seed(3).build().unwrap();
        let options = LoadOptions::default().with_ttl(MINUTE);
        let clock = Arc::clone(&bench.clock);
        let load = move || async move {
            clock.advance(cost);
            1_u32
        };
        cache.get_or_load_with("k", options.clone(), load).await.unwrap();
        bench.clock.advance(Duration::from_secs(30));
        cache.get_or_load_with("k", options, || async { 2_u32 }).await.unwrap();
        assert_eq!(cache.stats().early_refreshes, u64::from(refreshes));
    }
    // One call may be eager where the cache is not.
    let cache = alone(&bench).random_seed(3).build().unwrap();
    let clock = Arc::clone(&bench.clock);
    let dear = move || async move {
        clock.advance(Duration::from_secs(1000));
        1_u32
    };
    let options = LoadOptions::default().with_ttl(MINUTE);
    cache.get_or_load_with("k", options.clone(), dear).await.unwrap();
    cache.get_or_load_with("k", options.clone(), || async { 2_u32 }).await.unwrap();
    assert_eq!(cache.stats().early_refreshes, 0);
    cache.get_or_load_with("k", options.with_early_refresh(10.0), || async { 2_u32 }).await.unwrap();
    assert_eq!(cache.stats().early_refreshes, 1);
}
