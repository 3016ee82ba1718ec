//! Reads and writes that meet a change by others on their way.

use super::super::fill::Slow;
use super::*;

/// Reads `k` while the read is held up after it saw the store, does `meanwhile`, and tells whether L1 kept what was read.
async fn kept_by_a_slow_read(meanwhile: impl FnOnce(&Telling)) -> bool {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    bench.cache().set("k", &1).await.unwrap();
    store.after_get.close();
    let reading = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get::<u32>("k").await.unwrap() }
    });
    store.after_get.arrived.notified().await;
    meanwhile(&store);
    store.after_get.open.notify_one();
    assert_eq!(reading.await.unwrap().as_deref(), Some(&1), "the caller gets what was there when he asked");
    is_in_l1(&cache, "k").await
}

#[tokio::test]
async fn a_read_that_began_before_a_change_does_not_fill_l1_after_it() {
    assert!(!kept_by_a_slow_read(|store| store.changed("k")).await);
    assert!(!kept_by_a_slow_read(|store| store.tell(Event::Everything)).await);
    assert!(!kept_by_a_slow_read(|store| store.tell(Event::Lost)).await);
    assert!(kept_by_a_slow_read(|store| store.changed("another key")).await);
    assert!(kept_by_a_slow_read(|_| {}).await, "the control: an undisturbed read fills L1");
}

/// The same for a write that is held up after it landed.
async fn kept_by_a_slow_write(meanwhile: impl FnOnce(&Telling)) -> bool {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    store.after_set.close();
    let writing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set("k", &1).await.unwrap() }
    });
    store.after_set.arrived.notified().await;
    meanwhile(&store);
    store.after_set.open.notify_one();
    writing.await.unwrap();
    is_in_l1(&cache, "k").await
}

#[tokio::test]
async fn a_write_that_another_writer_overtook_in_the_store_is_not_kept() {
    assert!(!kept_by_a_slow_write(|store| store.changed("k")).await);
    assert!(!kept_by_a_slow_write(|store| store.tell(Event::Everything)).await);
    assert!(!kept_by_a_slow_write(|store| store.tell(Event::Lost)).await);
    assert!(kept_by_a_slow_write(|_| {}).await, "the control: an undisturbed write fills L1");
}

#[tokio::test]
async fn a_batch_keeps_what_nobody_overtook_and_the_last_of_two_values() {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    // The first of the two writes of this store without batches is held up; the other two follow it.
    store.after_set.close();
    let writing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set_many(&[("a", 1), ("b", 1), ("c", 1), ("c", 2)], SetOptions::default()).await.unwrap() }
    });
    store.after_set.arrived.notified().await;
    store.changed("b");
    store.after_set.open.notify_one();
    writing.await.unwrap();
    assert!(is_in_l1(&cache, "a").await && !is_in_l1(&cache, "b").await && is_in_l1(&cache, "c").await);
    assert_eq!(*cache.get::<u32>("c").await.unwrap().unwrap(), 2);
    bench.listen_for(&cache, 100);
    assert!(is_in_l1(&cache, "a").await, "what a batch wrote is vouched for");
}

#[tokio::test]
async fn a_loader_that_ran_into_a_change_writes_nothing_and_keeps_nothing() {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    let load = async || {
        bench.cache().set("k", &2).await.unwrap();
        store.changed("k");
        1
    };
    assert_eq!(*cache.get_or_load::<u32, _, _>("k", load).await.unwrap(), 1);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2, "the newer value is still in the store");
    // Nor does anybody join a load that a change has overtaken.
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let old = tokio::spawn({
        let (cache, begun, go_on) = (cache.clone(), Arc::clone(&begun), Arc::clone(&go_on));
        async move {
            let load = async || {
                begun.notify_one();
                go_on.notified().await;
                1
            };
            *cache.get_or_load::<u32, _, _>("slow", load).await.unwrap()
        }
    });
    begun.notified().await;
    store.changed("slow");
    // Whoever joined would wait until the flight gives him up, which is half a minute.
    let new = tokio::time::timeout(Duration::from_secs(15), cache.get_or_load::<u32, _, _>("slow", async || 2));
    assert_eq!(*new.await.expect("it joined the older load").unwrap(), 2);
    go_on.notify_one();
    assert_eq!(old.await.unwrap(), 1);
    assert_eq!(*cache.get::<u32>("slow").await.unwrap().unwrap(), 2);
}

/// What others find of a load during which `meanwhile` happened in another process, and whether L1 kept it here.
async fn left_by_a_fenced_load(meanwhile: impl AsyncFn(&Cache, &Cache)) -> (Option<u32>, bool) {
    let bench = Bench::new();
    let (ours, theirs) = (bench.listening().await, bench.cache());
    let slow = Slow::begin(&ours, 1).await;
    meanwhile(&ours, &theirs).await;
    assert_eq!(slow.end().await, 1, "the caller gets what it loaded");
    let found = bench.cache().get::<u32>("k").await.unwrap().map(|value| *value);
    (found, is_in_l1(&ours, "k").await)
}

/// Where others change thousands of keys a second, some of them always share a stripe with a key that is loading.
#[tokio::test]
async fn a_fenced_load_is_stored_by_the_word_of_the_store_whatever_else_was_told() {
    let neighbours = async |ours: &Cache, theirs: &Cache, count: usize| {
        let near = &ours.near;
        let stripe = |key: &str| near.writes.index(near.l1.hash(ours.at(key.as_bytes()).unwrap().wire.as_bytes()));
        let shares = (0..).map(|n| format!("key {n}")).filter(|key| stripe(key) == stripe("k"));
        for key in shares.take(count) {
            theirs.set(&key, &2).await.unwrap();
        }
        assert!(ours.stats().changes_told >= count as u64);
    };
    let few = async |ours: &Cache, theirs: &Cache| neighbours(ours, theirs, 4).await;
    let many = async |ours: &Cache, theirs: &Cache| neighbours(ours, theirs, 5).await;
    let everything = async |ours: &Cache, _: &Cache| ours.near.everything_changed();
    let itself = async |_: &Cache, theirs: &Cache| theirs.set("k", &2).await.unwrap();
    let gone = async |_: &Cache, theirs: &Cache| {
        theirs.set("k", &2).await.unwrap();
        theirs.delete("k").await.unwrap();
    };
    let here = async |ours: &Cache, _: &Cache| ours.near.writes.advance(ours.at(b"k").unwrap().hash);
    let cleared = async |ours: &Cache, _: &Cache| ours.near.writes.new_epoch(ours.slot);
    assert_eq!(left_by_a_fenced_load(few).await, (Some(1), true), "their keys are known, and are others");
    assert_eq!(left_by_a_fenced_load(many).await, (Some(1), false), "not kept here, and not lost");
    assert_eq!(left_by_a_fenced_load(everything).await, (Some(1), false));
    assert_eq!(left_by_a_fenced_load(itself).await, (Some(2), false));
    assert_eq!(left_by_a_fenced_load(gone).await, (None, false));
    assert_eq!(left_by_a_fenced_load(here).await, (None, false), "of what this process did the store may not know");
    assert_eq!(left_by_a_fenced_load(cleared).await, (None, false));
    assert_eq!(left_by_a_fenced_load(async |_, _| {}).await, (Some(1), true), "the control: undisturbed");
}

/// Many writers in two processes, and readers that must never see a value older than one they have seen told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_goes_back_behind_what_it_was_told() {
    let bench = Bench::new();
    let (ours, theirs) = (bench.listening().await, bench.cache());
    let written = Arc::new(AtomicU32::new(0));
    let writer = tokio::spawn({
        let written = Arc::clone(&written);
        async move {
            for n in 1..=3000_u32 {
                theirs.set("k", &n).await.unwrap();
                // Memory tells before a write returns, so from here on nobody may read less.
                written.store(n, Ordering::SeqCst);
                if n.is_multiple_of(64) {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    while !writer.is_finished() {
        let at_least = written.load(Ordering::SeqCst);
        let found = ours.get::<u32>("k").await.unwrap().map_or(0, |n| *n);
        assert!(found >= at_least, "read {found} after {at_least} had been told");
    }
    writer.await.unwrap();
    assert_eq!(*ours.get::<u32>("k").await.unwrap().unwrap(), 3000);
    assert!(is_in_l1(&ours, "k").await);
}
