//! The chain on reference stores, with their outages and the clock in the test's hands.

mod hung;
mod interleavings;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cachekit_conformance::{Harness, Memory, MemoryConfig, Opened, run_all};
use cachekit_plugin::{
    Backend, BackendError, Batch, Cas, Clear, Cx, Enumerates, Expiry, Freshness, Fut, Health, Key, Kind, Limits, Locks,
    Operation, Scan, Ttl, Watch,
};
use tokio::sync::Notify;

use super::{Chain, TierSpec, WritePolicy};
use crate::cache::{Cache, SetOptions};
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::codec::{Codec, Meta, NewEntry, Times};
use crate::guard::stack::GuardConfig;
use crate::tier::Tier;

/// A store that the test can take away, or make slow, as a whole or for deletions, and that can lack powers.
pub(super) struct Moody {
    inner: Memory,
    pub(super) down: AtomicBool,
    pub(super) keeps: AtomicBool,
    pub(super) gets: AtomicU32,
    lists: Enumerates,
    /// The operation whose next call waits until the test opens the door.
    hangs: Mutex<Option<Operation>>,
    arrived: Notify,
    open: Notify,
}

impl Moody {
    fn new(lists: Enumerates) -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(MemoryConfig::default()),
            down: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            gets: AtomicU32::new(0),
            lists,
            hangs: Mutex::default(),
            arrived: Notify::new(),
            open: Notify::new(),
        })
    }

    fn hang(&self, operation: Operation) {
        *self.hangs.lock().unwrap() = Some(operation);
    }

    async fn pass(&self, operation: Operation) {
        if self.hangs.lock().unwrap().take_if(|hangs| *hangs == operation).is_some() {
            self.arrived.notify_one();
            self.open.notified().await;
        }
    }

    fn check(&self, operation: Operation) -> Result<(), BackendError> {
        let down = self.down.load(Ordering::SeqCst);
        let keeps = operation == Operation::Delete && self.keeps.load(Ordering::SeqCst);
        if down || keeps { Err(BackendError::new(Kind::Transient, operation, "away")) } else { Ok(()) }
    }

    async fn has(&self, key: &str) -> bool {
        let cx = Cx::within(Duration::from_secs(1));
        self.inner.exists(Key::from_wire(key.as_bytes()), &cx).await.unwrap()
    }

    async fn put(&self, key: &str, stored: &Bytes) {
        let cx = Cx::within(Duration::from_secs(1));
        self.inner.set(Key::from_wire(key.as_bytes()), stored.clone(), Ttl::Never, &cx).await.unwrap();
    }

    async fn raw(&self, key: &str) -> Option<Bytes> {
        self.inner.get(Key::from_wire(key.as_bytes()), &Cx::within(Duration::from_secs(1))).await.unwrap()
    }

    async fn left(&self, key: &str) -> Option<Ttl> {
        let cx = Cx::within(Duration::from_secs(1));
        Backend::ttl(&self.inner).unwrap().ttl(Key::from_wire(key.as_bytes()), &cx).await.unwrap()
    }
}

impl Backend for Moody {
    fn limits(&self) -> Limits {
        self.inner.limits().with_enumerates(self.lists)
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            self.gets.fetch_add(1, Ordering::SeqCst);
            self.check(Operation::Get)?;
            self.inner.get(key, cx).await
        })
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.check(Operation::Set)?;
            self.pass(Operation::Set).await;
            self.inner.set(key, value, ttl, cx).await
        })
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            self.check(Operation::Delete)?;
            self.pass(Operation::Delete).await;
            self.inner.delete(key, cx).await
        })
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        Box::pin(async move {
            self.check(Operation::Health)?;
            self.inner.health(cx).await
        })
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.inner.close(cx)
    }
    fn ttl(&self) -> Option<&dyn Expiry> {
        Backend::ttl(&self.inner)
    }
    fn cas(&self) -> Option<&dyn Cas> {
        self.inner.cas()
    }
    fn locks(&self) -> Option<&dyn Locks> {
        self.inner.locks()
    }
    fn scan(&self) -> Option<&dyn Scan> {
        self.inner.scan().filter(|_| self.lists != Enumerates::No)
    }
    fn clear(&self) -> Option<&dyn Clear> {
        Backend::clear(&self.inner).filter(|_| self.lists == Enumerates::Keys)
    }
    fn watch(&self) -> Option<&dyn Watch> {
        Backend::watch(&self.inner)
    }
    fn batch(&self) -> Option<&dyn Batch> {
        None
    }
    fn freshness(&self) -> Option<&dyn Freshness> {
        None
    }
}

struct Bench {
    front: Arc<Moody>,
    last: Arc<Moody>,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        Self::listing(Enumerates::Keys)
    }

    fn listing(front: Enumerates) -> Self {
        let (front, last) = (Moody::new(front), Moody::new(Enumerates::Keys));
        Self { front, last, clock: Arc::new(ManualClock::new()) }
    }

    /// Without L1, so that every read comes from the chain, and without what would hide its answers.
    fn cache(&self, spec: impl FnOnce(TierSpec) -> TierSpec) -> Cache {
        let front = spec(TierSpec::new("front", Arc::clone(&self.front) as Arc<dyn Backend>));
        let builder = Cache::builder().tier(front).backend(Arc::clone(&self.last) as Arc<dyn Backend>);
        let builder = builder.clock(self.clock.clone()).without_l1().coherence(false).strict(true);
        builder.without_breaker().without_retry().build().unwrap()
    }

    /// Waits until nothing runs behind anybody's back.
    async fn settle(cache: &Cache) {
        let chain = cache.tier().unwrap().chain().unwrap();
        while chain.running() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn as_it_is(spec: TierSpec) -> TierSpec {
    spec
}

const K: &str = "ck:default:k";

#[tokio::test]
async fn a_hit_in_the_last_tier_fills_the_front_with_the_life_that_is_left_and_no_more_than_its_cap() {
    let bench = Bench::new();
    let cache = bench.cache(|spec| spec.ttl(Duration::from_secs(10)).write(WritePolicy::Remove));
    for (ttl, left_ms) in [(Some(4), 4_000), (Some(60), 10_000), (None, 10_000)] {
        let options = ttl.map_or(SetOptions::default(), |s| SetOptions::default().with_ttl(Duration::from_secs(s)));
        cache.set_with("k", &7_u32, options).await.unwrap();
        assert!(!bench.front.has(K).await, "a set removes");
        assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 7);
        Bench::settle(&cache).await;
        let left = bench.front.left(K).await.unwrap().as_ms().unwrap();
        assert!((left_ms - 500..=left_ms).contains(&left), "{ttl:?}: {left} ms");
    }
    let asked = bench.last.gets.load(Ordering::SeqCst);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 7);
    assert_eq!(bench.last.gets.load(Ordering::SeqCst), asked, "the front answers");
    let front = &cache.stats().fronts[0];
    assert_eq!((front.hits, front.misses, front.promotions), (1, 3, 3));
}

#[tokio::test]
async fn a_set_writes_through_behind_or_not_at_all() {
    for (policy, at_once, later) in
        [(WritePolicy::Through, true, true), (WritePolicy::Behind, false, true), (WritePolicy::Remove, false, false)]
    {
        let bench = Bench::new();
        let cache = bench.cache(|spec| spec.write(policy));
        cache.set("k", &1_u32).await.unwrap();
        assert_eq!(bench.front.has(K).await, at_once, "{policy:?}");
        Bench::settle(&cache).await;
        assert_eq!(bench.front.has(K).await, later, "{policy:?}");
        // What stood there is gone or replaced, whatever the policy.
        cache.set("k", &2_u32).await.unwrap();
        assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2, "{policy:?}");
        cache.set_many(&[("k", 3_u32), ("l", 4)], SetOptions::default()).await.unwrap();
        Bench::settle(&cache).await;
        assert_eq!(bench.front.has("ck:default:l").await, later, "{policy:?}");
        let found = cache.get_many::<u32, _>(&["k", "l", "m"]).await.unwrap();
        assert_eq!(found.iter().map(|value| value.as_deref().copied()).collect::<Vec<_>>(), [Some(3), Some(4), None]);
    }
}

#[tokio::test]
async fn a_front_that_does_not_promote_is_filled_by_writes_alone() {
    let bench = Bench::new();
    let cache = bench.cache(|spec| spec.promote(false));
    cache.set("k", &1_u32).await.unwrap();
    let stored = bench.front.raw(K).await.unwrap();
    bench.front.inner.delete(Key::from_wire(K.as_bytes()), &Cx::within(Duration::from_secs(1))).await.unwrap();
    cache.get::<u32>("k").await.unwrap().unwrap();
    Bench::settle(&cache).await;
    assert!(!bench.front.has(K).await);
    drop(stored);
}

#[tokio::test]
async fn an_outage_of_the_front_costs_its_copies_and_nothing_else() {
    let bench = Bench::new();
    let cache = bench.cache(as_it_is);
    bench.front.down.store(true, Ordering::SeqCst);
    cache.set("k", &1_u32).await.unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
    assert!(cache.get_many::<u32, _>(&["k", "l"]).await.unwrap()[0].is_some());
    Bench::settle(&cache).await;
    let health = cache.health().await;
    assert!(!health.is_healthy());
    let answer = health.tier.unwrap().unwrap();
    assert_eq!(answer.details["fronts"]["front"]["error"], "transient");
    assert!(cache.stats().fronts[0].errors >= 2);
    assert_eq!(cache.stats().l2_errors, 0);
    // A deletion that missed a tier is an error, although the entry is gone for this process.
    let error = cache.delete("k").await.unwrap_err();
    assert!(format!("{:?}", std::error::Error::source(&error).map(ToString::to_string)).contains("front"), "{error:?}");
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn an_outage_of_the_last_tier_leaves_what_the_front_has() {
    let bench = Bench::new();
    let cache = bench.cache(as_it_is);
    cache.set("k", &1_u32).await.unwrap();
    bench.last.down.store(true, Ordering::SeqCst);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
    assert!(cache.get::<u32>("absent").await.is_err(), "nobody knows");
    // A set that the last tier did not take is an error to a strict cache, and what this machine goes on with.
    assert!(cache.set("k", &2_u32).await.is_err());
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
    // Some of a batch: what is known is answered.
    let lax = Cache::builder().tier(TierSpec::new("front", Arc::clone(&bench.front) as Arc<dyn Backend>));
    let lax = lax.backend(Arc::clone(&bench.last) as Arc<dyn Backend>).clock(bench.clock.clone()).without_l1();
    let found = lax.build().unwrap().get_many::<u32, _>(&["k", "absent"]).await.unwrap();
    assert!(found[0].is_some() && found[1].is_none());
    assert!(cache.delete("k").await.is_err(), "a deletion that did not happen is an error");
}

#[tokio::test]
async fn a_copy_that_could_not_be_removed_is_not_served_by_this_process() {
    let bench = Bench::new();
    let cache = bench.cache(as_it_is);
    cache.set("k", &1_u32).await.unwrap();
    bench.front.keeps.store(true, Ordering::SeqCst);
    assert!(cache.delete("k").await.is_err());
    assert!(bench.front.has(K).await, "the copy stands");
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert!(cache.delete_many(&["k"]).await.is_err());
    assert_eq!(cache.stats().fronts[0].passed_by, 1);
    // Also after a set that the front did not take: what it has is older.
    bench.front.down.store(true, Ordering::SeqCst);
    cache.set("k", &2_u32).await.unwrap();
    bench.front.down.store(false, Ordering::SeqCst);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
    // Another process believes it, for as long as its cap: the window that the table states.
    assert_eq!(*bench.cache(as_it_is).get::<u32>("k").await.unwrap().unwrap(), 1);
    // A write that goes through settles the matter, once the one that was given up can no longer land.
    bench.front.keeps.store(false, Ordering::SeqCst);
    bench.clock.advance(crate::coherence::DOUBT);
    cache.set("k", &3_u32).await.unwrap();
    let passed = cache.stats().fronts[0].passed_by;
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 3);
    assert_eq!(cache.stats().fronts[0].passed_by, passed);
}

#[tokio::test]
async fn a_stale_copy_does_not_hide_what_was_refreshed_behind_it() {
    let bench = Bench::new();
    let cache = bench.cache(as_it_is);
    let now_ms = bench.clock.unix_ms();
    let entry = |value: &[u8], fresh_for_ms| {
        let times =
            Times { created_ms: now_ms, fresh_for_ms, stale_until_ms: now_ms + 9_000, expires_ms: now_ms + 10_000 };
        let entry = NewEntry { wire_key: K.as_bytes(), meta: Meta { times, ..Meta::default() }, tags: &[] };
        Codec::default().encode_bytes(&entry, value).unwrap()
    };
    bench.last.put(K, &entry(b"refreshed", 8_000)).await;
    bench.front.put(K, &entry(b"stale", 1_000)).await;
    assert_eq!(cache.get_bytes("k").await.unwrap().unwrap(), "stale");
    bench.clock.advance(Duration::from_millis(1_500));
    assert_eq!(cache.get_bytes("k").await.unwrap().unwrap(), "refreshed");
    Bench::settle(&cache).await;
    let left = bench.front.left(K).await.unwrap().as_ms().unwrap();
    assert!((6_000..=6_500).contains(&left), "for as long as it is fresh: {left} ms");
}

#[tokio::test]
async fn a_damaged_or_foreign_copy_does_not_hide_the_entry_behind_it() {
    let bench = Bench::new();
    let cache = bench.cache(as_it_is);
    cache.set("k", &1_u32).await.unwrap();
    cache.set("other", &2_u32).await.unwrap();
    let mut torn = bench.front.raw(K).await.unwrap().to_vec();
    *torn.last_mut().unwrap() ^= 1;
    let moved = bench.front.raw("ck:default:other").await.unwrap();
    for wrong in [Bytes::from(torn), moved] {
        bench.front.put(K, &wrong).await;
        assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
        Bench::settle(&cache).await;
        assert_ne!(bench.front.raw(K).await.unwrap(), wrong, "replaced by promotion");
    }
    assert_eq!(cache.stats().fronts[0].refused, 2);
}

#[tokio::test]
async fn clearing_leaves_no_copy_that_is_served_whatever_the_front_can_do() {
    for lists in [Enumerates::Keys, Enumerates::Ids, Enumerates::No] {
        let bench = Bench::listing(lists);
        let cache = bench.cache(as_it_is);
        cache.set("k", &1_u32).await.unwrap();
        cache.set("only in front", &2_u32).await.unwrap();
        let cx = Cx::within(Duration::from_secs(1));
        bench.last.inner.delete(Key::from_wire(b"ck:default:only in front"), &cx).await.unwrap();
        let other = cache.namespace("other").unwrap();
        other.set("k", &3_u32).await.unwrap();
        cache.clear().await.unwrap();
        for key in ["k", "only in front"] {
            assert_eq!(cache.get::<u32>(key).await.unwrap(), None, "{lists:?} {key}");
        }
        assert_eq!(*other.get::<u32>("k").await.unwrap().unwrap(), 3);
        if lists != Enumerates::No {
            assert!(!bench.front.has("ck:default:only in front").await, "{lists:?}");
        }
    }
}

#[tokio::test]
async fn clearing_past_a_front_that_is_away_is_an_error_and_serves_none_of_its_copies() {
    let bench = Bench::new();
    let cache = bench.cache(as_it_is);
    cache.set("k", &1_u32).await.unwrap();
    let stored = bench.front.raw(K).await.unwrap();
    bench.front.inner.set_outage(true);
    assert!(cache.clear().await.is_err());
    bench.front.inner.set_outage(false);
    bench.front.put(K, &stored).await;
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn what_others_change_is_not_served_from_a_copy_once_it_is_told() {
    let bench = Bench::new();
    let chain = Arc::new(chain(&bench, as_it_is));
    struct Told(tokio::sync::Notify);
    impl cachekit_plugin::WatchSink for Told {
        fn event(&self, _: cachekit_plugin::Event<'_>) {
            self.0.notify_one();
        }
    }
    let (told, cx) = (Arc::new(Told(tokio::sync::Notify::new())), Cx::within(Duration::from_secs(60)));
    let watch = Backend::watch(&*chain).unwrap();
    let _guard = watch.watch(b"ck:", Arc::clone(&told) as Arc<dyn cachekit_plugin::WatchSink>, &cx).await.unwrap();
    let (key, old, new) = (Key::from_wire(b"ck:default:k"), Bytes::from_static(b"old"), Bytes::from_static(b"new"));
    chain.set(key, old.clone(), Ttl::Never, &cx).await.unwrap();
    assert_eq!(chain.get(key, &cx).await.unwrap(), Some(old));
    // Another instance on the same store.
    let other = Memory::clone(&bench.last.inner);
    other.set(key, new.clone(), Ttl::Never, &cx).await.unwrap();
    told.0.notified().await;
    assert_eq!(chain.get(key, &cx).await.unwrap(), Some(new));
}

fn chain(bench: &Bench, spec: impl FnOnce(TierSpec) -> TierSpec) -> Chain {
    let clock: Arc<dyn Clock> = bench.clock.clone();
    let tier = |backend: &Arc<Moody>| {
        Tier::new(Arc::clone(backend) as Arc<dyn Backend>, GuardConfig::NONE, Arc::clone(&clock))
    };
    let front = spec(TierSpec::new("front", Arc::clone(&bench.front) as Arc<dyn Backend>));
    Chain::new(vec![(front, tier(&bench.front))], tier(&bench.last), Arc::clone(&clock))
}

#[tokio::test]
async fn the_engines_own_keys_stand_in_no_front() {
    let bench = Bench::new();
    let chain = chain(&bench, as_it_is);
    let (key, value, cx) =
        (Key::from_wire(b"ck::default:n"), Bytes::from_static(b"1"), Cx::within(Duration::from_secs(9)));
    chain.set(key, value.clone(), Ttl::Never, &cx).await.unwrap();
    assert!(!bench.front.has("ck::default:n").await && bench.last.has("ck::default:n").await);
    // Not even one that somebody else put there.
    bench.front.put("ck::default:n", &Bytes::from_static(b"2")).await;
    assert_eq!(chain.get(key, &cx).await.unwrap(), Some(value.clone()));
    assert_eq!(*chain.batch().unwrap().get_many(&[key], &cx).await.unwrap()[0].as_ref().unwrap(), Some(value));
}

#[tokio::test]
async fn a_chain_vouches_for_nothing_in_l1() {
    let bench = Bench::new();
    let front = TierSpec::new("front", Arc::clone(&bench.front) as Arc<dyn Backend>);
    let cache = Cache::builder().tier(front).backend(Arc::clone(&bench.last) as Arc<dyn Backend>);
    let cache = cache.clock(bench.clock.clone()).build().unwrap();
    cache.set("k", &1_u32).await.unwrap();
    assert!(!cache.is_coherent());
    bench.clock.advance(Duration::from_secs(31));
    let hits = cache.stats().l1.unwrap().hits;
    cache.get::<u32>("k").await.unwrap().unwrap();
    assert_eq!(cache.stats().l1.unwrap().hits, hits, "L1 kept it for the cap and no longer");
}

#[test]
fn a_chain_that_cannot_work_is_refused() {
    let spec = || TierSpec::new("front", Moody::new(Enumerates::No) as Arc<dyn Backend>);
    let last = || Moody::new(Enumerates::No) as Arc<dyn Backend>;
    assert!(Cache::builder().tier(spec()).build().is_err());
    assert!(Cache::builder().tier(spec().ttl(Duration::ZERO)).backend(last()).build().is_err());
    let four = (0..4).fold(Cache::builder().backend(last()), |builder, _| builder.tier(spec()));
    assert!(four.clone().build().is_ok());
    assert!(four.tier(spec()).build().is_err());
}

/// Chains on stores that all of them share, or on two of their own.
struct Chains {
    stores: Option<(Memory, Memory)>,
    promote: bool,
}

impl Harness for Chains {
    fn open(&self) -> Opened {
        let memory = || Memory::new(MemoryConfig::default());
        let (front, last) = self.stores.clone().unwrap_or_else(|| (memory(), memory()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let tier = |store: &Memory| Tier::new(Arc::new(store.clone()), GuardConfig::NONE, Arc::clone(&clock));
        let spec = TierSpec::new("front", Arc::new(front.clone())).promote(self.promote);
        Ok(Arc::new(Chain::new(vec![(spec, tier(&front))], tier(&last), Arc::clone(&clock))))
    }

    fn shares_one_store(&self) -> bool {
        self.stores.is_some()
    }
}

#[test]
fn a_chain_passes_the_table_of_cases_as_any_backend() {
    let memory = || Memory::new(MemoryConfig::default());
    // Two chains that promote on one front race for a copy, which the cap bounds and the table does not know of.
    for harness in
        [Chains { stores: None, promote: true }, Chains { stores: Some((memory(), memory())), promote: false }]
    {
        let report = run_all(Arc::new(harness), |_| true);
        println!("{} passed, {} failed, {} not asked", report.passed, report.failed, report.not_asked);
        assert!(report.is_ok(), "{report}");
    }
}
