//! Loaders that are slow, fail, recurse, or are called with options.

use super::*;
use crate::cache::LoadOptions;

#[tokio::test]
async fn a_loader_past_its_hard_timeout_is_dropped_and_everybody_who_waited_hears_of_it() {
    let cache = Bench::new().cache();
    let options = LoadOptions::default().with_hard_timeout(Duration::from_millis(200));
    let load = || async {
        std::future::pending::<()>().await;
        Ok::<u32, String>(1)
    };
    let (first, second) = tokio::join!(
        cache.try_get_or_load_with("k", options.clone(), load),
        cache.try_get_or_load_with("k", options.clone(), load),
    );
    assert!(matches!(first, Err(LoadError::Timeout(after)) if after == Duration::from_millis(200)));
    assert!(matches!(second, Err(LoadError::Timeout(_))));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    let infallible = cache.get_or_load_with("k", options, std::future::pending::<u32>).await;
    assert!(matches!(infallible, Err(Error::LoadTimeout(_))));
    assert_eq!(*cache.get_or_load_with("k", LoadOptions::default(), || async { 2_u32 }).await.unwrap(), 2);
}

#[tokio::test]
async fn a_loaded_value_gets_the_life_of_its_options() {
    let bench = Bench::new();
    let cache = bench.cache();
    let options = LoadOptions::default().with_ttl(Duration::from_secs(10));
    cache.get_or_load_with("k", options, || async { 1_u32 }).await.unwrap();
    bench.clock.advance(Duration::from_secs(11));
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}
