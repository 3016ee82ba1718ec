//! Loaders that are slow, and callers who borrow what theirs needs.

use super::*;
use crate::cache::refresh::tests::LONGEST_REFRESH;

#[tokio::test]
async fn a_slow_loader_is_not_waited_for_where_there_is_something_to_serve_and_goes_on_behind() {
    for with_l1 in [true, false] {
        let bench = Bench::new();
        let cache = exact(&bench);
        let cache = if with_l1 { cache } else { cache.without_l1() }.build().unwrap();
        let source = Source::default();
        let options = windows().with_soft_timeout(Duration::from_millis(10));
        cache.try_get_or_load_with("k", options.clone(), source.load()).await.unwrap();
        bench.clock.advance(MINUTE + MINUTE);
        source.gate.close();
        assert_eq!(*cache.try_get_or_load_with("k", options.clone(), source.load()).await.unwrap(), 1);
        assert_eq!((cache.stats().soft_timeouts, source.calls()), (1, 2));
        source.gate.open.notify_one();
        until(|| cache.near.background.running() == 0).await;
        assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
        assert_eq!(source.calls(), 2);
    }
}

/// What a call that hangs is waited for before it is said to.
const A_WHILE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn of_all_who_wait_for_a_slow_loader_only_the_one_who_leads_takes_a_place_in_the_background() {
    let bench = Bench::new();
    let cache = exact(&bench).max_refreshes(1).build().unwrap();
    let source = Source::default();
    let options = windows().with_soft_timeout(Duration::from_millis(1));
    cache.try_get_or_load_with("k", options.clone(), source.load()).await.unwrap();
    bench.clock.advance(MINUTE + MINUTE);
    source.gate.close();
    let calls = (0..20).map(|_| cache.try_get_or_load_with("k", options.clone(), source.load()));
    let calls = tokio::time::timeout(A_WHILE, futures_util::future::join_all(calls)).await;
    for answer in calls.expect("nobody waits for the loader") {
        assert_eq!(*answer.unwrap(), 1);
    }
    let stats = cache.stats();
    assert_eq!((stats.soft_timeouts, stats.refreshes_refused), (20, 0));
    assert_eq!(cache.near.background.running(), 1);
    until(|| source.calls() == 2).await;
    source.gate.open.notify_one();
    until(|| cache.near.background.running() == 0).await;
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_loader_that_hangs_in_the_background_after_its_caller_has_gone_does_not_keep_its_place_for_good() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    let options = windows().with_soft_timeout(Duration::from_millis(1));
    cache.get_or_load_with("k", options.clone(), || async { 1_u32 }).await.unwrap();
    bench.clock.advance(MINUTE + MINUTE);
    LONGEST_REFRESH.set(Some(Duration::from_millis(2)));
    assert_eq!(*cache.get_or_load_with("k", options.clone(), std::future::pending::<u32>).await.unwrap(), 1);
    LONGEST_REFRESH.set(None);
    let given_up = async {
        while cache.near.background.running() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(A_WHILE, given_up).await.expect("it is given up");
    assert_eq!((cache.stats().soft_timeouts, cache.stats().load_failures), (1, 1));
    // Nothing of it is left in the way of the next.
    assert_eq!(*cache.get_or_load_with("k", options.without_soft_timeout(), || async { 2_u32 }).await.unwrap(), 2);
}

#[tokio::test]
async fn a_slow_loader_is_waited_for_where_there_is_nothing_to_serve() {
    let bench = Bench::new();
    let cache = exact(&bench).soft_timeout(Duration::from_millis(1)).build().unwrap();
    let source = Source::default();
    source.gate.close();
    let opens = Arc::clone(&source.gate);
    let opener = tokio::spawn(async move {
        opens.arrived.notified().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        opens.open.notify_one();
    });
    assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 1);
    opener.await.unwrap();
    assert_eq!(cache.stats().soft_timeouts, 0);
}

#[tokio::test]
async fn a_loader_past_its_hard_timeout_leaves_the_old_value_to_be_served() {
    let bench = Bench::new();
    let cache = exact(&bench).hard_timeout(Duration::from_millis(10)).build().unwrap();
    cache.get_or_load_with("k", windows(), || async { 1_u32 }).await.unwrap();
    bench.clock.advance(MINUTE + MINUTE);
    assert_eq!(*cache.get_or_load_with("k", windows(), std::future::pending::<u32>).await.unwrap(), 1);
    let stats = cache.stats();
    assert_eq!((stats.hard_timeouts, stats.stale_if_error, stats.load_failures), (1, 1, 1));
}

#[tokio::test]
async fn of_those_who_borrow_one_loads_what_is_stale_and_the_others_are_served() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    cache.set_with("k", &1_u32, windows().set).await.unwrap();
    bench.clock.advance(MINUTE);
    let source = Source::default();
    source.gate.close();
    let first = cache.try_get_or_load("k", source.load());
    let others = async {
        source.gate.arrived.notified().await;
        for _ in 0..10 {
            assert_eq!(*cache.try_get_or_load("k", source.load()).await.unwrap(), 1);
        }
        source.gate.open.notify_one();
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!((*first.unwrap(), source.calls()), (1, 1));
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1, "loaded anew: the source began to count at 1");
    assert_eq!((cache.stats().refreshes, cache.stats().stale_served), (1, 10));
}

#[tokio::test]
async fn a_borrowing_loader_that_fails_is_replaced_by_the_stale_value() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    cache.set_with("k", &1_u32, windows().set).await.unwrap();
    bench.clock.advance(MINUTE);
    let source = Source::default();
    source.fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(*cache.try_get_or_load("k", source.load()).await.unwrap(), 1);
    }
    let stats = cache.stats();
    assert_eq!((source.calls(), stats.refresh_failures, stats.stale_served), (1, 1, 3));
}
