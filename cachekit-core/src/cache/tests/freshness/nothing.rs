//! That there is nothing, remembered for a life of its own.

use super::*;

#[tokio::test]
async fn that_there_is_nothing_is_remembered_for_its_own_life_and_is_a_miss_to_everybody_else() {
    for with_store in [true, false] {
        let bench = Bench::new();
        let cache = if with_store { exact(&bench) } else { alone(&bench) }.build().unwrap();
        let options = LoadOptions::default().with_ttl(MINUTE).with_negative_ttl(Duration::from_secs(10));
        let loads = Arc::new(AtomicU32::new(0));
        let find = |found: Option<u32>| {
            let loads = Arc::clone(&loads);
            move || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                found
            }
        };
        for _ in 0..3 {
            assert_eq!(cache.get_or_load_option("k", options.clone(), find(None)).await.unwrap(), None);
        }
        assert_eq!((loads.load(Ordering::SeqCst), cache.stats().negative_hits), (1, 2));
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
        assert_eq!(cache.get_many::<u32, _>(&["k"]).await.unwrap(), [None]);
        assert_eq!(cache.get_bytes("k").await.unwrap(), None);
        assert!(!cache.exists("k").await.unwrap());
        assert_eq!(cache.ttl("k").await.unwrap(), None);
        if with_store {
            let elsewhere = exact(&bench).build().unwrap();
            assert_eq!(elsewhere.get_or_load_option("k", options.clone(), find(Some(5))).await.unwrap(), None);
            assert_eq!(elsewhere.get::<u32>("k").await.unwrap(), None);
        }
        bench.clock.advance(Duration::from_secs(10));
        assert_eq!(cache.get_or_load_option("k", options.clone(), find(Some(6))).await.unwrap().as_deref(), Some(&6));
        assert_eq!(loads.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn who_needs_a_value_loads_where_others_know_that_there_is_none_and_a_set_ends_that_knowledge() {
    let bench = Bench::new();
    let cache = exact(&bench).negative_ttl(MINUTE).build().unwrap();
    let nothing = || async { None::<u32> };
    assert_eq!(cache.get_or_load_option("k", LoadOptions::default(), nothing).await.unwrap(), None);
    assert_eq!(*cache.get_or_load("k", || async { 1_u32 }).await.unwrap(), 1);
    assert_eq!(cache.get_or_load_option("k", LoadOptions::default(), nothing).await.unwrap().as_deref(), Some(&1));
    cache.delete("k").await.unwrap();
    assert_eq!(cache.get_or_load_option("k", LoadOptions::default(), nothing).await.unwrap(), None);
    cache.set("k", &2_u32).await.unwrap();
    assert_eq!(cache.get_or_load_option("k", LoadOptions::default(), nothing).await.unwrap().as_deref(), Some(&2));
}

#[tokio::test]
async fn nothing_is_not_remembered_unless_it_was_asked_for() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    for _ in 0..2 {
        let nothing = || async { None::<u32> };
        assert_eq!(cache.get_or_load_option("k", LoadOptions::default(), nothing).await.unwrap(), None);
    }
    assert_eq!((cache.stats().loads, cache.stats().negative_hits, cache.stats().sets), (2, 0, 0));
}
