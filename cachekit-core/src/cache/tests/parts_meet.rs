//! Where two parts of the engine meet: what each of them promises alone has to hold for both together.

mod cancel;
mod model;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use cachekit_conformance::{Switch, Switched, Trouble};

use super::*;
use crate::behind::WriteBehind;
use crate::cache::LoadOptions;
use crate::fresh::FreshnessConfig;
use crate::tier::chain::TierSpec;

const A_WHILE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

fn patient() -> WriteBehind {
    WriteBehind { attempts: 100, pause: Duration::from_millis(1), ..WriteBehind::default() }
}

/// Sets are written behind, to a store that the test can take away.
fn behind(bench: &Bench) -> (CacheBuilder, Switch) {
    let store = Switched::new(Arc::new(bench.store.clone()));
    let switch = store.switch();
    let builder = bench.builder(Arc::new(store)).without_retry().without_breaker().deadline(A_WHILE);
    (builder.freshness(FreshnessConfig::off()).write_behind(patient()), switch)
}

fn away(switch: &Switch, operation: Operation) {
    switch.trouble_with(operation, Trouble::Fails(Kind::Transient));
}

async fn read(cache: &Cache, key: &str) -> Option<u32> {
    cache.get::<u32>(key).await.unwrap().map(|value| *value)
}

async fn stored(bench: &Bench, key: &str) -> Option<u32> {
    read(&bench.cache(), key).await
}

/// Lets tasks in the background run, until it has come true or is not going to.
async fn comes_true(what: impl Fn() -> bool) -> bool {
    for _ in 0..10_000 {
        if what() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

fn one_poll<T>(future: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_batch_finds_what_waits_while_the_store_is_away() {
    let bench = Bench::new();
    let (builder, switch) = behind(&bench);
    let cache = builder.without_l1().build().unwrap();
    switch.trouble(Trouble::Fails(Kind::Transient));
    cache.set("k", &1_u32).await.unwrap();
    assert_eq!(read(&cache, "k").await, Some(1));
    let found = cache.get_many::<u32, _>(&["none", "k"]).await.unwrap();
    assert_eq!((found[0].as_deref(), found[1].as_deref()), (None, Some(&1)));
    switch.heal();
    cache.flush(A_WHILE).await.unwrap();
}

#[tokio::test]
async fn a_value_that_ended_while_it_waited_uncovers_nothing_older() {
    for with_l1 in [true, false] {
        let bench = Bench::new();
        let (builder, switch) = behind(&bench);
        let cache = if with_l1 { builder } else { builder.without_l1() }.build().unwrap();
        bench.cache().set("k", &1_u32).await.unwrap();
        away(&switch, Operation::Set);
        cache.set_with("k", &2_u32, SetOptions::default().with_ttl(Duration::from_secs(1))).await.unwrap();
        bench.clock.advance(Duration::from_secs(2));
        assert_eq!(read(&cache, "k").await, None, "it is over, and what it replaced is older");
        switch.heal();
        cache.flush(A_WHILE).await.unwrap();
        assert_eq!((read(&cache, "k").await, stored(&bench, "k").await), (None, None));
        assert_eq!(cache.stats().writes_expired, 1);
    }
}

#[tokio::test]
async fn a_load_does_not_find_what_a_value_that_waits_has_replaced() {
    let bench = Bench::new();
    let (builder, switch) = behind(&bench);
    let cache = builder.build().unwrap();
    // The one ends while it waits, of the other the tag is invalidated.
    for (key, options) in [
        ("ended", SetOptions::default().with_ttl(Duration::from_secs(1))),
        ("invalidated", SetOptions::default().with_tag("t")),
    ] {
        bench.cache().set(key, &1_u32).await.unwrap();
        cache.stamp(&options.tags).await.unwrap();
        away(&switch, Operation::Set);
        cache.set_with(key, &2_u32, options).await.unwrap();
        bench.clock.advance(Duration::from_secs(2));
        switch.heal();
        cache.invalidate_tag("t").await.unwrap();
        away(&switch, Operation::Set);
        assert_eq!(read(&cache, key).await, None, "{key}");
        assert_eq!(*cache.get_or_load(key, async || 3_u32).await.unwrap(), 3, "{key}");
        switch.heal();
        cache.flush(A_WHILE).await.unwrap();
        assert!(matches!(read(&cache, key).await, Some(3) | None), "{key}");
        assert!(matches!(stored(&bench, key).await, Some(3) | None), "{key}");
    }
}

#[tokio::test]
async fn what_a_clearing_held_is_written_soon_also_if_that_gave_up_before_it_began() {
    let bench = Bench::new();
    let (builder, switch) = behind(&bench);
    let cache = builder.build().unwrap();
    switch.trouble_with(Operation::Set, Trouble::Hangs);
    let through = SetOptions::default().with_write_behind(false);
    let other = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set_with("other", &1_u32, through).await }
    });
    assert!(comes_true(|| switch.hanging() == 1).await);
    cache.set("k", &2_u32).await.unwrap();
    {
        let mut clearing = pin!(cache.clear());
        assert!(one_poll(clearing.as_mut()).is_pending(), "it waits for the write under way");
        // Whoever is to write finds that it must not now.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    switch.heal();
    other.await.unwrap().unwrap();
    assert!(comes_true(|| cache.stats().behind.unwrap().entries == 0).await, "nobody writes it");
    assert_eq!(stored(&bench, "k").await, Some(2));
}

#[tokio::test]
async fn a_value_whose_epoch_the_store_does_not_know_is_not_promised_to_be_written() {
    let bench = Bench::new();
    let (builder, switch) = behind(&bench);
    let cache = builder.build().unwrap();
    switch.trouble(Trouble::Fails(Kind::Transient));
    cache.set_with("k", &1_u32, SetOptions::default().with_tag("t")).await.unwrap();
    assert_eq!(read(&cache, "k").await, Some(1));
    let stats = cache.stats();
    assert_eq!((stats.sets_l1_only, stats.writes_behind), (1, 0), "nobody but this process would ever see it");
}

#[tokio::test]
async fn a_clearing_that_finds_its_way_page_by_page_empties_the_fronts_as_well() {
    let bench = Bench::new();
    let store = Switched::new(Arc::new(bench.store.clone()));
    let (switch, front) = (store.switch(), Memory::new(MemoryConfig::default()));
    let builder = bench.builder(Arc::new(store)).tier(TierSpec::new("front", Arc::new(front)).ttl(10 * MINUTE));
    let cache = builder.without_l1().deadline(Duration::from_millis(200)).without_retry().build().unwrap();
    cache.set("k", &1_u32).await.unwrap();
    // The last tier has lost it; the copy is there still.
    bench.cache().delete("k").await.unwrap();
    assert_eq!(read(&cache, "k").await, Some(1));
    // Writes of another namespace stand in the way of whoever wants to clear all copies.
    switch.trouble_with(Operation::Set, Trouble::Hangs);
    let other = cache.namespace("other").unwrap();
    let mut writing = pin!(other.set("k", &2_u32));
    assert!(one_poll(writing.as_mut()).is_pending());
    let cleared = cache.clear().await;
    if cleared.is_ok() {
        assert_eq!(read(&cache, "k").await, None);
    }
    switch.heal();
    let _ = writing.await;
    cache.clear().await.unwrap();
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test]
async fn what_a_loader_does_not_find_any_more_is_not_served_any_more() {
    for (with_l1, with_store) in [(true, true), (true, false), (false, true)] {
        for windows in [
            LoadOptions::default().with_ttl(MINUTE).with_stale(60 * MINUTE),
            LoadOptions::default().with_ttl(MINUTE).with_stale_if_error(60 * MINUTE),
        ] {
            let bench = Bench::new();
            let builder = match with_store {
                true => bench.builder(Arc::new(bench.store.clone())),
                false => Cache::builder().clock(bench.clock.clone()),
            };
            let builder = builder.freshness(FreshnessConfig { get_serves_stale: true, ..FreshnessConfig::off() });
            let cache = if with_l1 { builder } else { builder.without_l1() }.build().unwrap();
            let load = async |value: Option<u32>| {
                let found = cache.get_or_load_option("k", windows.clone(), move || async move { value }).await.unwrap();
                found.map(|value| *value)
            };
            assert_eq!(load(Some(1)).await, Some(1));
            bench.clock.advance(2 * MINUTE);
            // Stale, it may be served once more, while somebody asks.
            let _ = load(None).await;
            assert!(comes_true(|| cache.near.background.running() == 0).await);
            assert_eq!(load(None).await, None, "l1 {with_l1}, store {with_store}, {windows:?}");
            assert!(comes_true(|| cache.near.background.running() == 0).await);
            assert_eq!(read(&cache, "k").await, None, "l1 {with_l1}, store {with_store}, {windows:?}");
            let failing =
                cache.try_get_or_load_option("k", windows.clone(), || async { Err::<Option<u32>, _>("down") });
            assert!(failing.await.is_err(), "there is nothing to serve instead");
            assert_eq!(cache.stats().negative_hits, 0, "that there is nothing was not to be remembered");
        }
    }
}

#[tokio::test]
async fn a_touch_renews_what_get_finds_and_nothing_else() {
    for with_store in [true, false] {
        let bench = Bench::new();
        let builder = match with_store {
            true => bench.builder(Arc::new(bench.store.clone())),
            false => Cache::builder().clock(bench.clock.clone()),
        };
        let cache = builder.freshness(FreshnessConfig::off()).build().unwrap();
        let for_good = || SetOptions::default().without_expiry();
        let nothing = LoadOptions::default().with_negative_ttl(MINUTE);
        let found = cache.get_or_load_option::<u32, _, _>("nothing", nothing, || async { None }).await.unwrap();
        assert_eq!(found, None);
        cache.set_with("stale", &1_u32, SetOptions::default().with_ttl(MINUTE).with_stale(60 * MINUTE)).await.unwrap();
        cache.set_with("fresh", &1_u32, SetOptions::default().with_ttl(60 * MINUTE)).await.unwrap();
        assert!(!cache.touch("nothing", for_good()).await.unwrap(), "it is absent");
        bench.clock.advance(2 * MINUTE);
        assert_eq!(read(&cache, "stale").await, None);
        assert!(!cache.touch("stale", for_good()).await.unwrap(), "its life is over");
        assert!(cache.touch("fresh", for_good()).await.unwrap());
        let loaded = cache.get_or_load_option("nothing", LoadOptions::default(), || async { Some(2_u32) }).await;
        assert_eq!(loaded.unwrap().as_deref(), Some(&2), "what was not there may be there by now");
    }
}

#[tokio::test]
async fn a_cache_without_l1_leaves_the_snapshot_of_another_alone() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l1");
    let builder = || bench.builder(Arc::new(bench.store.clone())).warm_start(&path);
    let service = builder().build().unwrap();
    service.set("k", &1_u32).await.unwrap();
    service.close().await.unwrap();
    let tool = builder().without_l1().build().unwrap();
    tool.set_with("other", &2_u32, SetOptions::default().with_tag("t")).await.unwrap();
    tool.close().await.unwrap();
    assert_eq!(builder().build().unwrap().stats().snapshot_restored, 1);
}

#[tokio::test]
async fn a_close_that_was_given_up_is_finished_by_the_next() {
    let bench = Bench::new();
    let (builder, switch) = behind(&bench);
    let cache = builder.build().unwrap();
    switch.trouble_with(Operation::Set, Trouble::Hangs);
    cache.set("k", &1_u32).await.unwrap();
    {
        let mut closing = pin!(cache.close());
        assert!(one_poll(closing.as_mut()).is_pending());
    }
    assert!(matches!(cache.get::<u32>("k").await, Err(Error::Closed)));
    switch.heal();
    cache.close().await.unwrap();
    assert_eq!((stored(&bench, "k").await, switch.calls(Operation::Close)), (Some(1), 1));
    cache.close().await.unwrap();
    assert_eq!(switch.calls(Operation::Close), 1);
}

/// The token by which a thread is woken is one for all who wait on it.
#[test]
fn one_who_waits_inside_of_another_takes_no_wake_from_him() {
    let (told, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (to_outer, mut outer) = tokio::sync::oneshot::channel::<u32>();
        let (to_inner, inner) = tokio::sync::oneshot::channel::<()>();
        let mut to_both = Some((to_outer, to_inner, inner));
        let mut polls = 0;
        let waiting = std::future::poll_fn(|context: &mut Context<'_>| {
            let polled = pin!(&mut outer).poll(context);
            polls += 1;
            // Not at the first poll, with which nobody waits yet.
            if polls == 2
                && let Some((to_outer, to_inner, inner)) = to_both.take()
            {
                to_outer.send(7).unwrap();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    to_inner.send(()).unwrap();
                });
                crate::blocking::wait(inner).unwrap();
            }
            polled
        });
        let _ = told.send(crate::blocking::wait(waiting));
    });
    let value = hears.recv_timeout(Duration::from_secs(60)).expect("it waits for ever");
    assert_eq!(value.unwrap(), 7);
}

#[test]
fn a_queue_of_what_waits_does_not_grow_with_clearings_that_fail() {
    let bench = Bench::new();
    let (builder, switch) = behind(&bench);
    let cache = builder.build().unwrap();
    switch.trouble(Trouble::Fails(Kind::Transient));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for key in 0..10_u32 {
            cache.set(key.to_string(), &key).await.unwrap();
        }
        for _ in 0..1_000 {
            // Each gives back what it held.
            let held = cache.near.pending.hold(b"ck:default:");
            drop(held);
        }
    });
    let queued = cache.near.pending.queued();
    assert!(queued <= 100, "{queued} keys stand in a queue for ten values");
}
