//! Reads, loads and writes that meet each other, in a known order.

use super::*;

#[tokio::test]
async fn a_slow_loader_does_not_undo_a_deletion() {
    let cache = Bench::new().cache();
    let deleter = cache.clone();
    let loaded = cache
        .get_or_load("k", async || {
            deleter.delete("k").await.unwrap();
            1_u32
        })
        .await
        .unwrap();
    assert_eq!(*loaded, 1, "the caller gets what it loaded");
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None, "but it is not kept");
    assert_eq!(cache.stats().overtaken, 1);
}

#[tokio::test]
async fn a_slow_loader_does_not_undo_a_newer_set_nor_a_clear() {
    let cache = Bench::new().cache();
    let writer = cache.clone();
    let load = async || {
        writer.set("k", &2_u32).await.unwrap();
        1_u32
    };
    cache.get_or_load("k", load).await.unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);

    let load = async || {
        writer.clear().await.unwrap();
        1_u32
    };
    cache.get_or_load("cleared", load).await.unwrap();
    assert_eq!(cache.get::<u32>("cleared").await.unwrap(), None);
}

#[tokio::test]
async fn after_a_deletion_callers_do_not_join_the_older_load() {
    let cache = Bench::new().cache();
    let (begin, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (slow, began, finishing) = (cache.clone(), Arc::clone(&begin), Arc::clone(&finish));
    let leader = tokio::spawn(async move {
        let load = async || {
            began.notify_one();
            finishing.notified().await;
            1_u32
        };
        slow.get_or_load("k", load).await
    });
    begin.notified().await;
    cache.delete("k").await.unwrap();
    assert_eq!(*cache.get_or_load("k", async || 2_u32).await.unwrap(), 2);
    finish.notify_one();
    leader.await.unwrap().unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_slow_read_does_not_fill_l1_with_what_was_overwritten() {
    let bench = Bench::new();
    let (cache, hold_get, _) = gated(&bench);
    bench.cache().set("k", &1_u32).await.unwrap();
    hold_get.close();
    let slow = cache.clone();
    let reader = tokio::spawn(async move { slow.get::<u32>("k").await });
    hold_get.arrived.notified().await;
    cache.set("k", &2_u32).await.unwrap();
    hold_get.open.notify_one();
    reader.await.unwrap().unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
    assert_eq!(cache.stats().overtaken, 1);
}

#[tokio::test]
async fn a_read_that_began_during_a_write_does_not_fill_l1_with_the_older_value() {
    let bench = Bench::new();
    let (cache, hold_get, hold_set) = gated(&bench);
    bench.cache().set("k", &1_u32).await.unwrap();
    hold_set.close();
    let slow = cache.clone();
    let writer = tokio::spawn(async move { slow.set("k", &2_u32).await });
    hold_set.arrived.notified().await;
    // The write was announced, but has not landed: this read still sees the older value.
    hold_get.close();
    let slow = cache.clone();
    let reader = tokio::spawn(async move { slow.get::<u32>("k").await });
    hold_get.arrived.notified().await;
    hold_set.open.notify_one();
    writer.await.unwrap().unwrap();
    hold_get.open.notify_one();
    reader.await.unwrap().unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_leaves_nothing_older_in_l1() {
    let bench = Bench::new();
    let (cache, _, hold_set) = gated(&bench);
    cache.set("k", &1_u32).await.unwrap();
    hold_set.close();
    let slow = cache.clone();
    let writer = tokio::spawn(async move { slow.set("k", &2_u32).await });
    hold_set.arrived.notified().await;
    // The store takes the value although its caller is gone: the outcome that nobody is told of.
    bench.cache().set("k", &2_u32).await.unwrap();
    writer.abort();
    assert!(writer.await.unwrap_err().is_cancelled());
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_write_behind_one_that_hangs_is_no_error_and_not_undone_by_it() {
    let bench = Bench::new();
    let (cache, _, hold_set) = gated_until(&bench, Duration::from_millis(300));
    hold_set.close();
    let hung = cache.clone();
    let first = tokio::spawn(async move { hung.set("k", &1_u32).await });
    hold_set.arrived.notified().await;
    cache.set("k", &2_u32).await.unwrap();
    first.await.unwrap().unwrap();
    // Two writes that ended in the same millisecond may leave L1 without the key, but never with the older value.
    let left = cache.get::<u32>("k").await.unwrap();
    assert!(left.is_none_or(|left| *left == 2), "the one that hung was the older");
    assert!(cache.stats().l2_timeouts >= 1, "{:?}", cache.stats());
}

#[tokio::test]
async fn a_flight_that_began_during_a_deletion_is_not_joined_after_it() {
    let bench = Bench::new();
    let (cache, hold_get, _) = gated(&bench);
    bench.cache().set("k", &1_u32).await.unwrap();
    // Both wait for the writes of this key to be told apart: the deletion has begun when the flight looks in the store.
    let turn = cache.engine.writes.turn(cache.slot, cache.at(b"k").unwrap().hash).await;
    let other = cache.clone();
    let deleter = tokio::spawn(async move { other.delete("k").await });
    tokio::task::yield_now().await;
    hold_get.close();
    let slow = cache.clone();
    let flight = tokio::spawn(async move { slow.get_or_load("k", async || 9_u32).await });
    hold_get.arrived.notified().await;
    drop(turn);
    assert!(deleter.await.unwrap().unwrap());
    assert_eq!(*cache.get_or_load("k", async || 2_u32).await.unwrap(), 2, "not what the older flight saw");
    hold_get.open.notify_one();
    assert_eq!(*flight.await.unwrap().unwrap(), 1, "it began before the deletion ended");
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_deletion_waits_for_the_write_it_overtakes() {
    let bench = Bench::new();
    let (cache, _, hold_set) = gated(&bench);
    hold_set.close();
    let slow = cache.clone();
    let writer = tokio::spawn(async move { slow.set("k", &1_u32).await });
    hold_set.arrived.notified().await;
    let other = cache.clone();
    let deleter = tokio::spawn(async move { other.delete("k").await });
    tokio::task::yield_now().await;
    hold_set.open.notify_one();
    writer.await.unwrap().unwrap();
    assert!(deleter.await.unwrap().unwrap(), "it found what was written before it");
    assert_eq!(bench.cache().get::<u32>("k").await.unwrap(), None);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}

/// Random operations of many tasks: a read returns what was the newest value at some moment since the read began, never
/// one that was overwritten or deleted before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_goes_back_behind_a_finished_write() {
    const KEYS: usize = 4;
    const ROUNDS: u64 = 2_000;
    let cache = Cache::builder()
        .backend(Arc::new(Memory::new(MemoryConfig::default())))
        .l1(L1Config::with_max_bytes(1 << 20))
        .deadline(Duration::from_secs(60))
        .build()
        .unwrap();
    // Per key what the source of truth holds, which changes before the cache is told, and the newest number that the
    // cache was told of; writers of one key take turns so that numbers grow.
    let numbers = || -> Arc<Vec<std::sync::atomic::AtomicU64>> { Arc::new((0..KEYS).map(|_| 0.into()).collect()) };
    let (source, finished) = (numbers(), numbers());
    let writing: Arc<Vec<Mutex<u64>>> = Arc::new((0..KEYS).map(|_| Mutex::new(0)).collect());
    let mut tasks = Vec::new();
    for seed in 0..8_u64 {
        let (cache, source, finished) = (cache.clone(), Arc::clone(&source), Arc::clone(&finished));
        let writing = Arc::clone(&writing);
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let dice = (seed * ROUNDS + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let (key, act) = ((dice % KEYS as u64) as usize, dice / 64 % 8);
                let floor = finished[key].load(Ordering::SeqCst);
                let name = format!("k{key}");
                match act {
                    0 => {
                        let mut sequence = writing[key].lock().await;
                        *sequence += 1;
                        source[key].store(*sequence, Ordering::SeqCst);
                        cache.set(&name, &*sequence).await.unwrap();
                        finished[key].store(*sequence, Ordering::SeqCst);
                    }
                    1 => {
                        // A deletion counts as a write whose value nobody may see.
                        let mut sequence = writing[key].lock().await;
                        *sequence += 1;
                        source[key].store(*sequence, Ordering::SeqCst);
                        cache.delete(&name).await.unwrap();
                        finished[key].store(*sequence, Ordering::SeqCst);
                    }
                    2 => {
                        let load = async || source[key].load(Ordering::SeqCst);
                        let seen = *cache.get_or_load(&name, load).await.unwrap();
                        assert!(seen >= floor, "get_or_load saw {seen} after {floor} was written");
                    }
                    _ => {
                        if let Some(seen) = cache.get::<u64>(&name).await.unwrap() {
                            assert!(*seen >= floor, "get saw {seen} after {floor} was written");
                        }
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
