//! Flights: one loads for all, whoever goes away, panics or fails.

use super::*;

#[tokio::test]
async fn a_thousand_callers_of_a_cold_key_load_it_once() {
    let cache = Bench::new().cache();
    let loads = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = async || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    7_u32
                };
                *cache.get_or_load("cold", load).await.unwrap()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 7);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test]
async fn a_cancelled_loader_hangs_nobody() {
    let cache = Bench::new().cache();
    let began = Arc::new(Notify::new());
    let (first, signal) = (cache.clone(), Arc::clone(&began));
    let leader = tokio::spawn(async move {
        first
            .get_or_load("k", async || {
                signal.notify_one();
                std::future::pending::<u32>().await
            })
            .await
    });
    began.notified().await;
    let second = cache.clone();
    let waiter = tokio::spawn(async move { second.get_or_load("k", async || 2_u32).await });
    tokio::task::yield_now().await;
    leader.abort();
    assert_eq!(*waiter.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_panicking_loader_hangs_nobody() {
    let cache = Bench::new().cache();
    let panicking = cache.clone();
    let leader = tokio::spawn(async move {
        panicking
            .get_or_load::<u32, _, _>("k", async || {
                tokio::task::yield_now().await;
                panic!("on purpose")
            })
            .await
    });
    assert!(leader.await.is_err());
    assert_eq!(*cache.get_or_load("k", async || 3_u32).await.unwrap(), 3);
}

#[tokio::test]
async fn a_loader_that_asks_for_its_own_key_does_not_wait_for_itself() {
    let cache = Bench::new().cache();
    let inner = cache.clone();
    let value = cache.get_or_load("k", async || *inner.get_or_load("k", async || 1_u32).await.unwrap() + 1).await;
    assert_eq!(*value.unwrap(), 2);
}

#[tokio::test]
async fn an_error_of_a_loader_reaches_everybody_who_waited_and_is_not_kept() {
    let cache = Bench::new().cache();
    let failing = |cache: Cache| async move {
        cache
            .try_get_or_load::<u32, String, _, _>("k", async || {
                tokio::task::yield_now().await;
                Err("no such user".to_owned())
            })
            .await
    };
    let (a, b) = (tokio::spawn(failing(cache.clone())), tokio::spawn(failing(cache.clone())));
    for task in [a, b] {
        assert!(matches!(task.await.unwrap(), Err(LoadError::Loader(error)) if *error == "no such user"));
    }
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.coalesced), (1, 1, 1));
    assert_eq!(*cache.get_or_load("k", async || 1_u32).await.unwrap(), 1);
}

#[test]
fn a_thousand_blocking_calls_inside_a_task_do_not_hang() {
    let cache = Bench::new().cache();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in 0..1000_u32 {
            cache.blocking().set("k", &n).unwrap();
        }
        assert_eq!(*cache.blocking().get::<u32>("k").unwrap().unwrap(), 999);
    });
}

#[tokio::test]
async fn a_strict_caches_followers_do_not_queue_for_a_store_that_fails() {
    let bench = Bench::new();
    let store = Gated { inner: bench.store.clone(), hold_get: Arc::default(), hold_set: Arc::default() };
    let gate = Arc::clone(&store.hold_get);
    let cache =
        Cache::builder().backend(Arc::new(store)).strict(true).deadline(Duration::from_millis(200)).build().unwrap();
    gate.close();
    let load = |cache: Cache| async move { cache.try_get_or_load::<u32, String, _, _>("k", async || Ok(1)).await };
    let leader = tokio::spawn(load(cache.clone()));
    gate.arrived.notified().await;
    let followers: Vec<_> = (0..50).map(|_| tokio::spawn(load(cache.clone()))).collect();
    assert!(leader.await.unwrap().is_err());
    for follower in followers {
        // The store answers again: nobody waits for another's deadline.
        follower.await.unwrap().unwrap();
    }
    assert_eq!(cache.stats().l2_timeouts, 1);
}
