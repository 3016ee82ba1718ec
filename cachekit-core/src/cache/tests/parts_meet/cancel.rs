//! Callers that go away: every operation, given up each time it waits.
//!
//! A future is polled so often, then dropped: for every number of polls until it ends by itself. The store lets each of its
//! operations wait before it does something, and after. Whatever was given up, afterwards nothing is held: a call that comes then gets its answer, in the
//! bulkhead nobody stands, no flight flies, no turn is taken; and what is read is what somebody wrote, and no older than what had ended.

use cachekit_plugin::{Answers, Batch, Cas, Clear, Expiry, Locks, SetItem, Version};
use futures_util::future::BoxFuture;

use super::*;
use crate::guard::bulkhead::BulkheadConfig;

/// A store in which everything waits once before it is done and once after.
struct Waits(Memory);

async fn wait_once() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn around<'a, T: Send + 'a>(work: Fut<'a, T>) -> Fut<'a, T> {
    Box::pin(async move {
        wait_once().await;
        let answer = work.await;
        wait_once().await;
        answer
    })
}

impl Backend for Waits {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        around(self.0.get(key, cx))
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        around(self.0.set(key, value, ttl, cx))
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        around(self.0.delete(key, cx))
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        around(self.0.exists(key, cx))
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        around(self.0.health(cx))
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        around(self.0.close(cx))
    }
    fn batch(&self) -> Option<&dyn Batch> {
        Some(self)
    }
    fn ttl(&self) -> Option<&dyn Expiry> {
        Backend::ttl(&self.0)
    }
    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }
    fn cas(&self) -> Option<&dyn Cas> {
        Some(self)
    }
    fn scan(&self) -> Option<&dyn Scan> {
        self.0.scan()
    }
    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }
}

impl Batch for Waits {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        around(self.0.batch().unwrap().get_many(keys, cx))
    }
    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        around(self.0.batch().unwrap().set_many(items, cx))
    }
    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        around(self.0.batch().unwrap().delete_many(keys, cx))
    }
}

impl Cas for Waits {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        around(self.0.cas().unwrap().get_version(key, cx))
    }
    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        around(self.0.cas().unwrap().set_if(key, value, ttl, expect, cx))
    }
}

impl Locks for Waits {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        around(self.0.locks().unwrap().lock(key, token, hold_ms, cx))
    }
    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        around(self.0.locks().unwrap().unlock(key, token, cx))
    }
}

impl Clear for Waits {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        around(Backend::clear(&self.0).unwrap().clear(prefix, cx))
    }
}

type Work = fn(Cache) -> BoxFuture<'static, ()>;

fn options() -> LoadOptions {
    LoadOptions::default().with_ttl(MINUTE).with_stale(MINUTE).with_stale_if_error(MINUTE).with_tag("t")
}

async fn load() -> Result<u32, String> {
    wait_once().await;
    Ok(30)
}

/// Every operation that waits. What they write is 20 or more; what is there before is 10.
const OPERATIONS: &[(&str, Work)] = &[
    ("get", |cache| Box::pin(async move { _ = cache.get::<u32>("k").await })),
    ("get_bytes", |cache| Box::pin(async move { _ = cache.get_bytes("k").await })),
    ("get_many", |cache| Box::pin(async move { _ = cache.get_many::<u32, _>(&["k", "j"]).await })),
    ("exists", |cache| Box::pin(async move { _ = cache.exists("k").await })),
    ("ttl", |cache| Box::pin(async move { _ = cache.ttl("k").await })),
    ("entry", |cache| Box::pin(async move { _ = cache.entry("k").await })),
    ("set", |cache| Box::pin(async move { _ = cache.set_with("k", &20_u32, options().set).await })),
    ("set through", |cache| {
        Box::pin(async move { _ = cache.set_with("k", &20_u32, options().set.with_write_behind(false)).await })
    }),
    ("set_many", |cache| Box::pin(async move { _ = cache.set_many(&[("j", 20_u32), ("k", 20)], options().set).await })),
    ("delete", |cache| Box::pin(async move { _ = cache.delete("k").await })),
    ("delete_many", |cache| Box::pin(async move { _ = cache.delete_many(&["j", "k"]).await })),
    ("touch", |cache| Box::pin(async move { _ = cache.touch("k", SetOptions::default()).await })),
    ("clear", |cache| Box::pin(async move { _ = cache.clear().await })),
    ("invalidate_tag", |cache| Box::pin(async move { _ = cache.invalidate_tag("t").await })),
    ("get_or_load", |cache| Box::pin(async move { _ = cache.try_get_or_load_here("k", options(), load).await })),
    ("get_or_load_with", |cache| Box::pin(async move { _ = cache.try_get_or_load_with("k", options(), load).await })),
    ("get_or_load_option", |cache| {
        let nothing = || async {
            wait_once().await;
            Ok::<Option<u32>, String>(None)
        };
        Box::pin(async move { _ = cache.try_get_or_load_option("k", options(), nothing).await })
    }),
    ("a loader that is slow", |cache| {
        let options = options().with_soft_timeout(Duration::from_millis(1)).with_hard_timeout(A_WHILE);
        Box::pin(async move { _ = cache.try_get_or_load_with("k", options, load).await })
    }),
    ("get_or_load_many", |cache| {
        Box::pin(async move {
            let load = |keys: Vec<&'static str>| async move {
                wait_once().await;
                keys.iter().map(|_| Some(30_u32)).collect()
            };
            _ = cache.get_or_load_many(&["k", "j"], load).await;
        })
    }),
    ("refresh", |cache| Box::pin(async move { _ = cache.try_refresh_with("k", options(), load).await })),
    ("keys", |cache| Box::pin(async move { _ = cache.keys(None).await })),
    ("flush", |cache| Box::pin(async move { _ = cache.flush(A_WHILE).await })),
];

/// What is there before: nothing, something fresh, stale, only for failures, waiting to be written, or in L1 alone out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Fresh,
    FreshElsewhere,
    Stale,
    Fallback,
    Waiting,
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    behind: bool,
    chain: bool,
    with_l1: bool,
}

impl Setting {
    fn build(self, bench: &Bench) -> Cache {
        let one = BulkheadConfig { in_flight: 3, queued: 3, ..BulkheadConfig::default() };
        let builder = bench.builder(Arc::new(Waits(bench.store.clone()))).deadline(A_WHILE).bulkhead(one);
        let builder = builder.freshness(FreshnessConfig::off()).without_retry();
        let builder = if self.behind { builder.write_behind(patient()) } else { builder };
        let front = Waits(Memory::new(MemoryConfig::default()));
        let builder = if self.chain { builder.tier(TierSpec::new("front", Arc::new(front))) } else { builder };
        if self.with_l1 { builder } else { builder.without_l1() }.build().unwrap()
    }
}

async fn quiet(cache: &Cache) -> bool {
    for _ in 0..100_000 {
        let written = cache.stats().behind.is_none_or(|behind| behind.entries == 0);
        if written && cache.near.background.running() == 0 {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// One operation, given up at its `polls`th wait; `true` if it came to its end before.
async fn give_up(name: &str, operation: Work, before: Before, kind: Setting, polls: u32) -> bool {
    let bench = Bench::new();
    let cache = kind.build(&bench);
    let what = format!("{name} at its wait {polls}, {before:?}, {kind:?}");
    match before {
        Before::Nothing => {}
        Before::FreshElsewhere => bench.cache().set_with("k", &10_u32, options().set).await.unwrap(),
        _ => cache.set_with("k", &10_u32, options().set).await.unwrap(),
    }
    match before {
        Before::Waiting | Before::Nothing => {}
        _ => assert!(quiet(&cache).await, "{what}"),
    }
    match before {
        Before::Stale => bench.clock.advance(MINUTE + Duration::from_secs(1)),
        Before::Fallback => bench.clock.advance(2 * MINUTE + Duration::from_secs(1)),
        _ => {}
    }
    let mut ended = false;
    {
        let mut work = operation(cache.clone());
        for _ in 0..polls {
            if one_poll(work.as_mut()).is_ready() {
                ended = true;
                break;
            }
        }
    }
    // Now and then something runs in between, now and then not.
    if polls.is_multiple_of(2) {
        tokio::task::yield_now().await;
    }

    // Nothing is held: each of these would wait for its deadline, which does not pass.
    let all = async {
        assert!(quiet(&cache).await, "{what}: a task does not end");
        let read = cache.get::<u32>("k").await.unwrap().map(|value| *value);
        assert!(matches!(read, None | Some(10 | 20 | 30)), "{what}: {read:?}");
        assert_eq!(read, stored(&bench, "k").await, "{what}: L1 is surer than the store");
        cache.set_with("k", &40_u32, options().set).await.unwrap();
        let read = cache.get::<u32>("k").await.unwrap().map(|value| *value);
        assert_eq!(read, Some(40), "{what}: something older after a set");
        cache.delete("k").await.unwrap();
        let read = cache.get::<u32>("k").await.unwrap();
        assert_eq!(read, None, "{what}: something older after a deletion");
        let loaded = cache.get_or_load("k", async || 50_u32).await.unwrap();
        assert_eq!(*loaded, 50, "{what}: a load");
        cache.clear().await.unwrap();
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None, "{what}: something older after a clearing");
        cache.flush(A_WHILE).await.unwrap();
    };
    let looped = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(looped.is_ok(), "{what}: something is held");
    assert!(quiet(&cache).await, "{what}: a task does not end");
    let read = cache.get::<u32>("k").await.unwrap();
    assert_eq!(read, None, "{what}: something came back");
    let elsewhere = bench.cache().get::<u32>("k").await.unwrap();
    assert_eq!(elsewhere, None, "{what}: something came back in the store");
    // What a load had in the store is given back by a thread of the engine's own.
    let idle = || {
        let in_flight = cache.engine.tier.as_ref().and_then(|tier| tier.guard_health().in_flight);
        in_flight == Some((0, 3)) && cache.near.flights.len() == 0 && cache.engine.held.is_empty()
    };
    let mut looks = 0;
    while !idle() {
        looks += 1;
        assert!(looks < 10_000, "{what}: a place, a flight or a lock is not given back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let closed = tokio::time::timeout(Duration::from_secs(60), cache.close()).await;
    assert!(closed.is_ok_and(|closed| closed.is_ok()), "{what}: close");
    ended
}

async fn all(kind: Setting) -> u32 {
    let mut given_up = 0;
    for (name, operation) in OPERATIONS {
        for before in
            [Before::Nothing, Before::Fresh, Before::FreshElsewhere, Before::Stale, Before::Fallback, Before::Waiting]
        {
            if before == Before::Waiting && !kind.behind {
                continue;
            }
            let mut polls = 1;
            while !give_up(name, *operation, before, kind, polls).await {
                given_up += 1;
                polls += 1;
                assert!(polls < 200, "{name} does not end");
            }
        }
    }
    given_up
}

#[tokio::test]
async fn whatever_is_given_up_wherever_it_waits_nothing_is_held_and_nothing_older_comes_back() {
    for kind in [
        Setting { behind: false, chain: false, with_l1: true },
        Setting { behind: true, chain: false, with_l1: true },
        Setting { behind: true, chain: false, with_l1: false },
        Setting { behind: false, chain: true, with_l1: true },
    ] {
        let given_up = all(kind).await;
        println!("{kind:?}: given up {given_up} times");
        assert!(given_up > 300, "{given_up}");
    }
}

/// A call that nobody drops when its caller goes away.
struct Forgotten(std::mem::ManuallyDrop<BoxFuture<'static, ()>>);

impl Future for Forgotten {
    type Output = ();
    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

/// What is wrong in one way each, and what is said of it.
const BROKEN: &[(&str, Work, &str)] = &[
    (
        "a place is not given back",
        |cache| {
            let call = Box::pin(async move { _ = cache.get::<u32>("other").await });
            Box::pin(Forgotten(std::mem::ManuallyDrop::new(call)))
        },
        "a place, a flight or a lock is not given back",
    ),
    (
        "a turn is taken for ever",
        |cache| {
            let call = Box::pin(async move { _ = cache.set("k", &20_u32).await });
            Box::pin(Forgotten(std::mem::ManuallyDrop::new(call)))
        },
        "something is held",
    ),
    ("what nobody wrote is read", |cache| Box::pin(async move { _ = cache.set("k", &99_u32).await }), "Some(99)"),
];

/// The control: operations that leave something behind are heard, each at its first wait or at its end. Time does not pass by itself here, so
/// that what is held for ever is known at once.
#[tokio::test(start_paused = true)]
async fn an_operation_that_leaves_something_behind_is_heard() {
    let kind = Setting { behind: false, chain: false, with_l1: true };
    for (what, operation, words) in BROKEN {
        let mut heard = String::new();
        for polls in 1..10 {
            let judged = tokio::spawn(give_up(what, *operation, Before::Nothing, kind, polls)).await;
            match judged {
                Ok(ended) => assert!(!ended, "{what}: it ended, and nothing was heard"),
                Err(panicked) => {
                    let panic = panicked.into_panic();
                    heard = panic.downcast::<String>().map_or_else(|_| "no text".into(), |text| *text);
                    break;
                }
            }
        }
        assert!(heard.contains(words), "{what}: {heard:?}");
    }
}
