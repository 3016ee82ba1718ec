//! Writes that were given up, and may land after all.

use super::*;

#[tokio::test]
async fn a_write_that_the_store_may_not_have_keeps_the_cap() {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    store.fails_writes.store(true, Ordering::SeqCst);
    cache.set("one", &1).await.unwrap();
    cache.set_many(&[("many", 1)], SetOptions::default()).await.unwrap();
    assert!(is_in_l1(&cache, "one").await && is_in_l1(&cache, "many").await);
    bench.listen_for(&cache, 31);
    assert!(!is_in_l1(&cache, "one").await && !is_in_l1(&cache, "many").await);
}

/// Does `give_up` to a key that the store has as 1, reads it, lets the write land after all, of which the store does not tell
/// its own writer, and returns what is read once the cap is over.
async fn read_after_a_late_landing(give_up: impl AsyncFnOnce(&Cache, &Arc<Telling>)) -> u32 {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    bench.cache().set("k", &1).await.unwrap();
    give_up(&cache, &store).await;
    // What the process keeps of the write itself goes, as it does when L1 is full.
    store.changed("k");
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
    bench.cache().set("k", &2).await.unwrap();
    bench.listen_for(&cache, 31);
    *cache.get::<u32>("k").await.unwrap().unwrap()
}

#[tokio::test]
async fn what_was_read_behind_a_write_that_may_still_land_keeps_the_cap() {
    let left = async |cache: &Cache, store: &Arc<Telling>| {
        store.before_set.close();
        let setting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.set("k", &2).await }
        });
        store.before_set.arrived.notified().await;
        setting.abort();
        assert!(setting.await.unwrap_err().is_cancelled());
    };
    assert_eq!(read_after_a_late_landing(left).await, 2, "the caller went away");
    let failed = async |cache: &Cache, store: &Arc<Telling>| {
        store.fails_writes.store(true, Ordering::SeqCst);
        cache.set("k", &2).await.unwrap();
    };
    assert_eq!(read_after_a_late_landing(failed).await, 2, "set");
    let batch = async |cache: &Cache, store: &Arc<Telling>| {
        store.fails_writes.store(true, Ordering::SeqCst);
        cache.set_many(&[("k", 2)], SetOptions::default()).await.unwrap();
    };
    assert_eq!(read_after_a_late_landing(batch).await, 2, "set_many");
    let deleted = async |cache: &Cache, store: &Arc<Telling>| {
        store.fails_writes.store(true, Ordering::SeqCst);
        cache.delete("k").await.unwrap_err();
    };
    assert_eq!(read_after_a_late_landing(deleted).await, 2, "delete");
    let deleted_batch = async |cache: &Cache, store: &Arc<Telling>| {
        store.fails_writes.store(true, Ordering::SeqCst);
        cache.delete_many(&["k"]).await.unwrap_err();
    };
    assert_eq!(read_after_a_late_landing(deleted_batch).await, 2, "delete_many");
    let beside = async |_: &Cache, store: &Arc<Telling>| {
        store.fails_writes.store(true, Ordering::SeqCst);
        let sibling = Cache::builder().backend(Arc::clone(store) as Arc<dyn Backend>).coherence(false).build().unwrap();
        sibling.set("k", &2).await.unwrap();
    };
    assert_eq!(read_after_a_late_landing(beside).await, 2, "by another cache on the instance");
    let nothing = async |_: &Cache, _: &Arc<Telling>| {};
    assert_eq!(
        read_after_a_late_landing(nothing).await,
        1,
        "the control: what nobody doubts is kept, for it would be told"
    );
}

#[tokio::test]
async fn a_doubt_ends() {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    store.fails_writes.store(true, Ordering::SeqCst);
    cache.set("k", &1).await.unwrap();
    bench.listen_for(&cache, 61);
    bench.cache().set("k", &2).await.unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
    bench.listen_for(&cache, 61);
    assert!(is_in_l1(&cache, "k").await);
}

#[tokio::test]
async fn a_clear_that_was_given_up_is_told_to_the_caches_beside_it() {
    let bench = Bench::new();
    let (listening, store) = bench.telling().await;
    let clearing = Cache::builder().backend(Arc::clone(&store) as Arc<dyn Backend>).coherence(false).build().unwrap();
    bench.cache().set("k", &1).await.unwrap();
    assert_eq!(*listening.get::<u32>("k").await.unwrap().unwrap(), 1);
    store.after_clear.close();
    let task = tokio::spawn(async move { clearing.clear().await });
    store.after_clear.arrived.notified().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(listening.get::<u32>("k").await.unwrap(), None);
}
