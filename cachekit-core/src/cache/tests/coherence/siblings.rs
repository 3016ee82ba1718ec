//! Caches on one instance of a store, and what its backend may ask about them.

use super::*;

#[tokio::test]
async fn caches_on_one_instance_tell_each_other_what_the_store_does_not_tell_them() {
    let bench = Bench::new();
    let backend: Arc<dyn Backend> = Arc::new(bench.store.clone());
    let on_it = || Cache::builder().backend(Arc::clone(&backend)).clock(bench.clock.clone());
    let listening = on_it().build().unwrap();
    begun(&listening).await;
    // Also those tell that do not listen themselves.
    for writer in
        [on_it().build().unwrap(), on_it().coherence(false).build().unwrap(), on_it().without_l1().build().unwrap()]
    {
        writer.set("k", &1).await.unwrap();
        assert_eq!(*listening.get::<u32>("k").await.unwrap().unwrap(), 1);
        assert!(is_in_l1(&listening, "k").await);
        writer.set("k", &2).await.unwrap();
        assert_eq!(*listening.get::<u32>("k").await.unwrap().unwrap(), 2, "set");
        writer.set_many(&[("k", 3), ("l", 3)], SetOptions::default()).await.unwrap();
        assert_eq!(*listening.get::<u32>("k").await.unwrap().unwrap(), 3, "set_many");
        writer.touch("k", SetOptions::default().with_ttl(Duration::from_secs(5))).await.unwrap();
        assert_eq!(*listening.get::<u32>("k").await.unwrap().unwrap(), 3);
        bench.listen_for(&listening, 6);
        assert_eq!(listening.get::<u32>("k").await.unwrap(), None, "touch");
        assert_eq!(*listening.get::<u32>("l").await.unwrap().unwrap(), 3);
        writer.delete("l").await.unwrap();
        assert_eq!(listening.get::<u32>("l").await.unwrap(), None, "delete");
        writer.set("m", &4).await.unwrap();
        assert_eq!(*listening.get::<u32>("m").await.unwrap().unwrap(), 4);
        writer.delete_many(&["m"]).await.unwrap();
        assert_eq!(listening.get::<u32>("m").await.unwrap(), None, "delete_many");
        writer.set("n", &5).await.unwrap();
        assert_eq!(*listening.get::<u32>("n").await.unwrap().unwrap(), 5);
        writer.clear().await.unwrap();
        assert_eq!(listening.get::<u32>("n").await.unwrap(), None, "clear");
    }
    // What a cache wrote itself it keeps.
    listening.set("own", &1).await.unwrap();
    assert!(is_in_l1(&listening, "own").await);
}

#[tokio::test]
async fn a_backend_can_ask_what_the_cache_above_it_did() {
    let bench = Bench::new();
    let builder = Cache::builder();
    let services = builder.host_services(HostServices::none());
    assert_eq!(services.activity(), None, "no cache yet");
    let cache = builder.coherence(false).backend(Arc::new(bench.store.clone())).build().unwrap();
    cache.set("k", &1).await.unwrap();
    bench.cache().set("theirs", &1).await.unwrap();
    for key in ["k", "k", "theirs", "missing"] {
        cache.get::<u32>(key).await.unwrap();
    }
    let did = CacheActivity { l1_enabled: true, l1_hits: 2, l2_hits: 1, misses: 1 };
    assert_eq!(services.activity(), Some(did));
    drop(cache);
    assert_eq!(services.activity(), None, "no cache any more");
}
