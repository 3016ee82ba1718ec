//! Who waits for somebody else's load, and came when another process had written something newer: in none of these ways does he
//! get what is older. Each is also played without a fence, where he does, or as it was before he came, where he may.

use cachekit_plugin::{Cas, Locks, Version};

use super::fill::{Slow, patient, until};
use super::*;
use crate::builder::NamespaceEpochs;
use crate::cache::LoadOptions;

/// One of two processes, without L1, which has a window of its own.
fn process(bench: &Bench, fence: bool) -> CacheBuilder {
    bench.builder(Arc::new(bench.store.clone())).without_l1().fill_locks(patient().with_fence(fence))
}

/// A caller who asks now, and would load 2; he waits for a load that is under way.
async fn comes(cache: &Cache) -> tokio::task::JoinHandle<u32> {
    let joins = cache.clone();
    let task = tokio::spawn(async move { *joins.get_or_load("k", async || 2_u32).await.unwrap() });
    tokio::task::yield_now().await;
    task
}

#[tokio::test]
async fn a_later_write_of_his_own_process_gives_him_nothing_older_than_the_other_had_written_before() {
    for (fence, expected) in [(true, 2), (false, 1)] {
        for refreshes in [false, true] {
            let bench = Bench::new();
            let here = process(&bench, fence).build().unwrap();
            let slow = Slow::begin(&here, 1).await;
            bench.cache().delete("k").await.unwrap();
            let joins = comes(&here).await;
            // From here on nobody joins the load any more, and it is overtaken before it asks its fence.
            if refreshes {
                assert_eq!(*here.refresh("k", async || 2_u32).await.unwrap(), 2);
            } else {
                here.delete("k").await.unwrap();
            }
            assert_eq!(slow.end().await, 1, "its call began before");
            assert_eq!(joins.await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_at_the_fence_gives_him_nothing_older() {
    let bench = Bench::new();
    let here = process(&bench, true).build().unwrap();
    let slow = Slow::begin(&here, 1).await;
    bench.cache().delete("k").await.unwrap();
    let joins = comes(&here).await;
    bench.store.set_outage(true);
    assert_eq!(slow.end().await, 1);
    assert_eq!(joins.await.unwrap(), 2);
    assert_eq!(here.stats().loads, 2);
}

#[tokio::test]
async fn a_store_that_failed_before_the_loader_began_gives_him_nothing_older() {
    let bench = Bench::new();
    let here = process(&bench, true).build().unwrap();
    bench.store.set_outage(true);
    let slow = Slow::begin(&here, 1).await;
    bench.store.set_outage(false);
    bench.cache().delete("k").await.unwrap();
    let joins = comes(&here).await;
    assert_eq!(slow.end().await, 1);
    assert_eq!(joins.await.unwrap(), 2);
}

#[tokio::test]
async fn what_a_look_at_the_store_brings_is_for_those_who_came_before_it() {
    let bench = Bench::new();
    let (hold_get, hold_set) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let store = Gated { inner: bench.store.clone(), hold_get: Arc::clone(&hold_get), hold_set };
    let here = bench.builder(Arc::new(store)).without_l1().deadline(Duration::from_secs(3600)).build().unwrap();
    let there = bench.cache();
    there.set("k", &1_u32).await.unwrap();
    // The store has answered; the answer is on its way.
    hold_get.close();
    let looks = comes(&here).await;
    hold_get.arrived.notified().await;
    there.set("k", &3_u32).await.unwrap();
    let joins: Vec<_> = [comes(&here).await, comes(&here).await, comes(&here).await].into();
    hold_get.close();
    hold_get.open.notify_one();
    assert_eq!(looks.await.unwrap(), 1, "his call began before");
    hold_get.arrived.notified().await;
    hold_get.open.notify_one();
    for join in joins {
        assert_eq!(join.await.unwrap(), 3);
    }
    let stats = here.stats();
    assert_eq!((stats.l2_hits, stats.coalesced, stats.loads), (2, 2, 0), "who came late looked once for them all");
}

/// Others change the key between any two looks at it: it is never absent when a mark is to be left, and never there when it is
/// looked at.
struct Busy(Memory);

impl Backend for Busy {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.0.get(key, cx)
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.0.set(key, value, ttl, cx)
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.0.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.0.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.0.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.0.close(cx)
    }
    fn locks(&self) -> Option<&dyn Locks> {
        self.0.locks()
    }
    fn cas(&self) -> Option<&dyn Cas> {
        Some(self)
    }
}

impl Cas for Busy {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        let _ = (key, cx);
        ready(Ok(None))
    }
    fn set_if<'a>(&'a self, _: Key<'a>, _: Bytes, _: Ttl, _: Option<Version>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(false))
    }
}

#[tokio::test]
async fn a_load_whose_fence_could_not_be_raised_for_others_is_kept_nowhere_and_is_no_outage() {
    let bench = Bench::new();
    let here = bench.builder(Arc::new(Busy(bench.store.clone()))).fill_locks(patient()).build().unwrap();
    let slow = Slow::begin(&here, 1).await;
    let joins = comes(&here).await;
    assert_eq!(slow.end().await, 1);
    assert_eq!(joins.await.unwrap(), 2, "others have written since, as far as anybody knows");
    let stats = here.stats();
    assert_eq!((stats.fills_fenced, stats.sets_l1_only, stats.l2_errors), (2, 0, 0));
    assert_eq!(here.get::<u32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn an_invalidated_tag_gives_him_nothing_older_though_nobody_wrote_the_key() {
    for (fence, expected) in [(true, 2), (false, 1)] {
        let bench = Bench::new();
        let (here, there) = (process(&bench, fence).build().unwrap(), bench.cache());
        let (door, began) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let load = |value: u32, held: bool| {
            let (here, door, began) = (here.clone(), Arc::clone(&door), Arc::clone(&began));
            tokio::spawn(async move {
                let options = LoadOptions::default().with_tag("t");
                let loader = move || async move {
                    began.notify_one();
                    if held {
                        door.notified().await;
                    }
                    value
                };
                *here.get_or_load_with("k", options, loader).await.unwrap()
            })
        };
        let slow = load(1, true);
        began.notified().await;
        there.invalidate_tag("t").await.unwrap();
        let joins = load(2, false);
        tokio::task::yield_now().await;
        door.notify_one();
        assert_eq!(slow.await.unwrap(), 1);
        assert_eq!(joins.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_cleared_namespace_gives_him_nothing_older_where_clearing_is_an_epoch() {
    for (fence, expected) in [(true, 2), (false, 1)] {
        let bench = Bench::new();
        let here = process(&bench, fence).namespace_epochs(NamespaceEpochs::On).build().unwrap();
        let there = process(&bench, fence).namespace_epochs(NamespaceEpochs::On).build().unwrap();
        let slow = Slow::begin(&here, 1).await;
        there.clear().await.unwrap();
        let joins = comes(&here).await;
        assert_eq!(slow.end().await, 1);
        assert_eq!(joins.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn where_nobody_wrote_all_who_came_share_one_load_whether_it_is_kept_or_not() {
    for kept in [true, false] {
        let bench = Bench::new();
        let here = process(&bench, true).build().unwrap();
        let (door, loads) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let (here, door, loads) = (here.clone(), Arc::clone(&door), Arc::clone(&loads));
                tokio::spawn(async move {
                    let loader = move || async move {
                        loads.fetch_add(1, Ordering::SeqCst);
                        door.notified().await;
                        kept.then_some(1_u32)
                    };
                    here.get_or_load_option("k", LoadOptions::default(), loader).await.unwrap().map(|value| *value)
                })
            })
            .collect();
        until(|| loads.load(Ordering::SeqCst) == 1).await;
        door.notify_one();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), kept.then_some(1));
        }
        assert_eq!((here.stats().loads, here.stats().coalesced), (1, 99));
    }
}
