//! Several processes, played by several caches on one store, miss one key. Each guard is also taken away, to see that the
//! test would notice.

use std::sync::atomic::AtomicBool;

use cachekit_plugin::{Cas, Locks, Version};

use super::*;
use crate::guard::fill_lock::FillLocks;

const LONG: Duration = Duration::from_secs(3600);

/// Nothing in these tests happens because time passed.
pub(super) fn patient() -> FillLocks {
    FillLocks::default().with_hold(LONG).with_patience(LONG)
}

pub(super) async fn until(what: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(std::time::Instant::now() < end, "not within a minute");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A load in a process of its own whose loader has begun and waits for the door.
pub(super) struct Slow {
    task: tokio::task::JoinHandle<u32>,
    door: Arc<Notify>,
}

impl Slow {
    pub(super) async fn begin(cache: &Cache, value: u32) -> Self {
        let (door, began) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (cache, opens, begins) = (cache.clone(), Arc::clone(&door), Arc::clone(&began));
        let task = tokio::spawn(async move {
            let load = async || {
                begins.notify_one();
                opens.notified().await;
                value
            };
            *cache.get_or_load("k", load).await.unwrap()
        });
        began.notified().await;
        Self { task, door }
    }

    pub(super) async fn end(self) -> u32 {
        self.door.notify_one();
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn of_two_processes_that_miss_a_key_one_loads() {
    let bench = Bench::new();
    let process = || bench.builder(Arc::new(bench.store.clone())).fill_locks(patient()).build().unwrap();
    let (first, second) = (process(), process());
    let slow = Slow::begin(&first, 1).await;
    let waits = tokio::spawn({
        let second = second.clone();
        async move { *second.get_or_load("k", async || 2_u32).await.unwrap() }
    });
    until(|| second.stats().fill_lock_waits == 1).await;
    assert_eq!(slow.end().await, 1);
    assert_eq!(waits.await.unwrap(), 1);
    assert_eq!((first.stats().loads, first.stats().fill_locks_taken), (1, 1));
    assert_eq!((second.stats().loads, second.stats().fills_by_others), (0, 1));
}

#[tokio::test]
async fn without_fill_locks_both_load() {
    let bench = Bench::new();
    let process = || bench.builder(Arc::new(bench.store.clone())).without_fill_locks().build().unwrap();
    let (first, second) = (process(), process());
    let slow = Slow::begin(&first, 1).await;
    assert_eq!(*second.get_or_load("k", async || 2_u32).await.unwrap(), 2);
    slow.end().await;
    assert_eq!((first.stats().loads, second.stats().loads), (1, 1));
}

/// What another process finds after it did `what` while a load of 1 was under way here.
async fn after(locks: FillLocks, what: impl AsyncFn(&Cache)) -> (Option<u32>, u64) {
    let bench = Bench::new();
    let here = bench.builder(Arc::new(bench.store.clone())).fill_locks(locks).build().unwrap();
    let there = bench.cache();
    let slow = Slow::begin(&here, 1).await;
    what(&there).await;
    assert_eq!(slow.end().await, 1, "the caller gets what it loaded");
    let found = bench.cache().get::<u32>("k").await.unwrap().map(|value| *value);
    let in_l1 = here.get::<u32>("k").await.unwrap().map(|value| *value);
    assert_eq!(in_l1, found, "what the store does not have is in no L1 either");
    (found, here.stats().fills_fenced)
}

#[tokio::test]
async fn what_another_process_did_during_a_load_stands_and_without_the_fence_it_does_not() {
    let open = patient().with_fence(false);
    let set = async |cache: &Cache| cache.set("k", &2_u32).await.unwrap();
    let delete = async |cache: &Cache| {
        cache.delete("k").await.unwrap();
    };
    let clear = async |cache: &Cache| {
        cache.clear().await.unwrap();
    };
    // Nothing stands under the key before and after, so no version tells that anything happened.
    let set_and_delete = async |cache: &Cache| {
        cache.set("k", &2_u32).await.unwrap();
        cache.delete("k").await.unwrap();
    };
    assert_eq!(after(patient(), set).await, (Some(2), 1));
    assert_eq!(after(patient(), delete).await, (None, 1));
    assert_eq!(after(patient(), clear).await, (None, 1));
    assert_eq!(after(patient(), set_and_delete).await, (None, 1));
    assert_eq!(after(patient(), async |_| {}).await, (Some(1), 0));
    assert_eq!(after(open, set).await, (Some(1), 0));
    assert_eq!(after(open, delete).await, (Some(1), 0));
    assert_eq!(after(open, clear).await, (Some(1), 0));
    assert_eq!(after(open, set_and_delete).await, (Some(1), 0));
}

#[tokio::test]
async fn a_leader_that_slept_past_its_lock_overwrites_nothing() {
    let bench = Bench::new();
    let process = |hold| {
        let locks = patient().with_hold(hold);
        bench.builder(Arc::new(bench.store.clone())).fill_locks(locks).build().unwrap()
    };
    let (sleeps, takes_over) = (process(Duration::from_millis(10)), process(LONG));
    let slow = Slow::begin(&sleeps, 1).await;
    assert_eq!(*takes_over.get_or_load("k", async || 2_u32).await.unwrap(), 2);
    assert_eq!(slow.end().await, 1);
    assert_eq!(*bench.cache().get::<u32>("k").await.unwrap().unwrap(), 2);
    assert_eq!((takes_over.stats().loads, sleeps.stats().fills_fenced), (1, 1));
}

#[tokio::test]
async fn while_a_load_is_under_way_its_key_is_absent_for_everybody() {
    let bench = Bench::new();
    let (here, there) = (bench.cache(), bench.cache());
    let slow = Slow::begin(&here, 1).await;
    assert_eq!(there.get::<u32>("k").await.unwrap(), None);
    assert_eq!(there.get_bytes("k").await.unwrap(), None);
    assert_eq!(there.get_many::<u32, _>(&["k"]).await.unwrap(), [None]);
    assert_eq!(there.ttl("k").await.unwrap(), None);
    assert!(!there.exists("k").await.unwrap());
    assert!(!there.touch("k", SetOptions::default()).await.unwrap());
    assert!(there.entry("k").await.unwrap().is_none());
    assert_eq!(bench.strict().get::<u32>("k").await.unwrap(), None);
    slow.end().await;
    assert_eq!(*there.get::<u32>("k").await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_load_that_comes_to_nothing_leaves_neither_lock_nor_mark() {
    let bench = Bench::new();
    let process = || bench.builder(Arc::new(bench.store.clone())).fill_locks(patient()).build().unwrap();
    let here = process();
    // Cancelled, panicked, failed.
    let slow = Slow::begin(&here, 1).await;
    slow.task.abort();
    assert!(slow.task.await.is_err());
    assert_eq!(*process().get_or_load("k", async || 2_u32).await.unwrap(), 2);
    assert!(bench.cache().delete("k").await.unwrap());
    let panics = here.clone();
    let panicked =
        tokio::spawn(async move { panics.get_or_load("k", async || -> u32 { panic!("as loaders do") }).await });
    assert!(panicked.await.is_err());
    assert_eq!(*process().get_or_load("k", async || 3_u32).await.unwrap(), 3);
    assert!(bench.cache().delete("k").await.unwrap());
    let failed = here.try_get_or_load::<u32, _, _, _>("k", async || Err("no")).await;
    assert!(matches!(failed, Err(LoadError::Loader(_))));
    let mark_is_gone = async || {
        let cx = Cx::within(LONG);
        bench.store.get(Key::from_wire(b"ck:default:k"), &cx).await.unwrap().is_none()
    };
    while !mark_is_gone().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(*process().get_or_load("k", async || 4_u32).await.unwrap(), 4);
}

#[tokio::test]
async fn a_loader_that_asks_for_its_own_key_does_not_wait_for_its_own_lock() {
    let bench = Bench::new();
    let cache = bench.builder(Arc::new(bench.store.clone())).fill_locks(patient()).build().unwrap();
    let value = cache
        .get_or_load("k", async || {
            let inner = cache.get_or_load("k", async || 1_u32).await.unwrap();
            *inner + 1
        })
        .await;
    assert!((1..=2).contains(&*value.unwrap()));
}

#[tokio::test]
async fn who_joins_a_load_after_another_process_wrote_does_not_get_what_is_older() {
    for (fence, expected) in [(true, 2), (false, 1)] {
        let bench = Bench::new();
        let here =
            bench.builder(Arc::new(bench.store.clone())).fill_locks(patient().with_fence(fence)).build().unwrap();
        let slow = Slow::begin(&here, 1).await;
        bench.cache().delete("k").await.unwrap();
        let joins = here.clone();
        let joins = tokio::spawn(async move { *joins.get_or_load("k", async || 2_u32).await.unwrap() });
        tokio::task::yield_now().await;
        assert_eq!(slow.end().await, 1, "its call began before");
        assert_eq!(joins.await.unwrap(), expected);
    }
}

/// A store whose locks are not what they should be.
struct Awry {
    inner: Memory,
    answer: fn() -> Result<bool, BackendError>,
    unlocks: AtomicBool,
    before_unlock: Gate,
    fences: bool,
}

impl Backend for Awry {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.inner.get(key, cx)
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.inner.set(key, value, ttl, cx)
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.inner.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.inner.close(cx)
    }
    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }
    fn cas(&self) -> Option<&dyn Cas> {
        self.fences.then_some(self)
    }
}

impl Locks for Awry {
    fn lock<'a>(&'a self, _: Key<'a>, _: &'a [u8], _: u64, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready((self.answer)())
    }
    fn unlock<'a>(&'a self, _: Key<'a>, _: &'a [u8], _: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            self.before_unlock.pass().await;
            self.unlocks.store(true, Ordering::SeqCst);
            Ok(false)
        })
    }
}

impl Cas for Awry {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        self.inner.get_version(key, cx)
    }
    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        self.inner.set_if(key, value, ttl, expect, cx)
    }
}

fn awry(bench: &Bench, fences: bool, answer: fn() -> Result<bool, BackendError>) -> (Cache, Arc<Awry>) {
    let (inner, unlocks, before_unlock) = (bench.store.clone(), AtomicBool::new(false), Gate::default());
    let store = Arc::new(Awry { inner, answer, unlocks, before_unlock, fences });
    let locks = FillLocks::default().with_patience(Duration::from_millis(300));
    let backend = Arc::clone(&store) as Arc<dyn Backend>;
    (bench.builder(backend).fill_locks(locks).deadline(Duration::from_secs(60)).build().unwrap(), store)
}

/// Else the next program waits for it as long as it is held, which is as long as a load may take.
#[tokio::test]
async fn a_lock_that_nobody_has_any_more_is_given_back_before_the_cache_is_closed() {
    let (cache, store) = awry(&Bench::new(), true, || Ok(true));
    store.before_unlock.close();
    let slow = Slow::begin(&cache, 1).await;
    slow.task.abort();
    assert!(slow.task.await.is_err());
    let closing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.close().await }
    });
    store.before_unlock.arrived.notified().await;
    tokio::task::yield_now().await;
    assert!(!closing.is_finished(), "it is on its way");
    store.before_unlock.open.notify_one();
    closing.await.unwrap().unwrap();
    assert!(store.unlocks.load(Ordering::SeqCst));
}

/// The same of a refresh in the background, which goes when the cache is closed.
#[tokio::test]
async fn the_lock_of_a_refresh_that_was_dropped_is_given_back_before_the_cache_is_closed() {
    let bench = Bench::new();
    let (cache, store) = awry(&bench, true, || Ok(true));
    let minute = Duration::from_secs(60);
    let options = crate::cache::LoadOptions::default().with_ttl(minute).with_stale(minute);
    cache.get_or_load_with("k", options.clone(), async || 1_u32).await.unwrap();
    until(|| store.unlocks.swap(false, Ordering::SeqCst)).await;
    // Loaded lives are spread by a tenth.
    bench.clock.advance(minute + minute / 6);
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let load = async move || {
        begins.notify_one();
        std::future::pending::<u32>().await
    };
    assert_eq!(*cache.get_or_load_with("k", options, load).await.unwrap(), 1, "what is stale is served");
    begun.notified().await;
    cache.close().await.unwrap();
    assert!(store.unlocks.load(Ordering::SeqCst), "its lock would be waited for");
}

#[tokio::test]
async fn a_store_that_cannot_lock_costs_a_load_per_process_and_is_counted() {
    let bench = Bench::new();
    let broken = || Err(BackendError::new(Kind::Transient, Operation::Lock, "not now"));
    let (cache, store) = awry(&bench, true, broken);
    assert_eq!(*cache.get_or_load("k", async || 1_u32).await.unwrap(), 1);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.fill_lock_failures, stats.l2_errors), (1, 1, 1));
    assert_eq!(*bench.cache().get::<u32>("k").await.unwrap().unwrap(), 1, "it is stored all the same");
    // It may have been taken: the answer was lost, not the request.
    until(|| store.unlocks.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn a_lock_that_is_never_free_costs_patience_and_no_value() {
    for fences in [true, false] {
        let bench = Bench::new();
        let (cache, _) = awry(&bench, fences, || Ok(false));
        assert_eq!(*cache.get_or_load("k", async || 1_u32).await.unwrap(), 1);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.fill_lock_waits, stats.fill_locks_given_up), (1, 1, 1));
        assert_eq!(*bench.cache().get::<u32>("k").await.unwrap().unwrap(), 1);
    }
}

#[tokio::test]
async fn where_everybody_gets_the_lock_the_first_value_stands_and_without_conditional_writes_the_last() {
    for (fences, stands) in [(true, 2), (false, 1)] {
        let bench = Bench::new();
        let ((slow, _), (fast, _)) = (awry(&bench, fences, || Ok(true)), awry(&bench, fences, || Ok(true)));
        let slow_load = Slow::begin(&slow, 1).await;
        assert_eq!(*fast.get_or_load("k", async || 2_u32).await.unwrap(), 2);
        slow_load.end().await;
        assert_eq!(*bench.cache().get::<u32>("k").await.unwrap().unwrap(), stands);
        assert_eq!(slow.stats().fills_fenced, u64::from(fences));
    }
}

#[tokio::test]
async fn an_outage_that_begins_during_a_load_loses_the_value_and_nothing_else() {
    let bench = Bench::new();
    let cache = bench.cache();
    let slow = Slow::begin(&cache, 1).await;
    bench.store.set_outage(true);
    assert_eq!(slow.end().await, 1);
    bench.store.set_outage(false);
    assert_eq!(cache.stats().sets_l1_only, 1);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1, "until the cap");
    assert_eq!(bench.cache().get::<u32>("k").await.unwrap(), None);
}

#[test]
fn fill_locks_out_of_range_are_refused() {
    let built = Cache::builder().fill_locks(FillLocks::default().with_hold(Duration::ZERO)).build();
    assert!(matches!(built, Err(Error::FillLocks(_))));
}
