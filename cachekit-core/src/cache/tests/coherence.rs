//! L1 beside other writers: what is told is forgotten, what is not told is kept, and nothing comes back.

mod doubt;
mod races;
mod siblings;

use cachekit_plugin::{CacheActivity, Clear, Event, HostServices, Watch, WatchGuard, WatchSink};

use super::*;
use crate::coherence::LEASE;

/// A store whose events are in the test's hands, and whose reads and writes can be held up after they took effect.
#[derive(Default)]
pub(super) struct Telling {
    inner: Memory,
    after_get: Gate,
    before_set: Gate,
    after_set: Gate,
    after_clear: Gate,
    fails_writes: std::sync::atomic::AtomicBool,
    refuses_watches: std::sync::atomic::AtomicBool,
    sinks: std::sync::Mutex<Vec<Arc<dyn WatchSink>>>,
    ended: Arc<AtomicU32>,
    begun: AtomicU32,
    in_watch: Arc<Gate>,
    end: TheEnd,
}

/// Says whether the thread that a store ends on may wait.
#[derive(Default)]
struct TheEnd(std::sync::Mutex<Option<tokio::sync::oneshot::Sender<bool>>>);

impl Drop for TheEnd {
    fn drop(&mut self) {
        let Some(told) = self.0.lock().unwrap().take() else { return };
        let waits = || tokio::runtime::Handle::current().block_on(std::future::ready(()));
        // Which panics on a thread that runs tasks.
        let _ = told.send(std::panic::catch_unwind(waits).is_ok());
    }
}

impl Telling {
    pub(super) fn over(inner: Memory) -> Arc<Self> {
        Arc::new(Self { inner, ..Self::default() })
    }

    pub(super) fn tell(&self, event: Event<'_>) {
        let sink = self.sinks.lock().unwrap().last().cloned();
        sink.expect("somebody watches").event(event);
    }

    fn may_write(&self, operation: Operation) -> Result<(), BackendError> {
        match self.fails_writes.load(Ordering::SeqCst) {
            true => Err(BackendError::new(Kind::Transient, operation, "not now")),
            false => Ok(()),
        }
    }

    fn changed(&self, key: &str) {
        self.tell(Event::Changed(Key::from_wire(format!("ck:default:{key}").as_bytes())));
    }
}

/// Counts its end.
struct Ends(Arc<AtomicU32>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Watch for Telling {
    fn watch<'a>(&'a self, _: &'a [u8], sink: Arc<dyn WatchSink>, _: &'a Cx<'a>) -> Fut<'a, WatchGuard> {
        Box::pin(async move {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.in_watch.pass().await;
            if self.refuses_watches.load(Ordering::SeqCst) {
                return Err(BackendError::new(Kind::Transient, Operation::Watch, "not now"));
            }
            self.sinks.lock().unwrap().push(sink);
            Ok(WatchGuard::new(Ends(Arc::clone(&self.ended))))
        })
    }
}

impl Backend for Telling {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            let found = self.inner.get(key, cx).await;
            self.after_get.pass().await;
            found
        })
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.may_write(Operation::Set)?;
            self.before_set.pass().await;
            self.inner.set(key, value, ttl, cx).await?;
            self.after_set.pass().await;
            Ok(())
        })
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            self.may_write(Operation::Delete)?;
            self.inner.delete(key, cx).await
        })
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
    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }
    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }
}

impl Clear for Telling {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        Box::pin(async move {
            let cleared = Clear::clear(&self.inner, prefix, cx).await;
            self.after_clear.pass().await;
            cleared
        })
    }
}

impl Bench {
    /// Another process on the same store, which listens.
    async fn listening(&self) -> Cache {
        let cache = Cache::builder().backend(Arc::new(self.store.clone())).clock(self.clock.clone()).build().unwrap();
        begun(&cache).await;
        cache
    }

    /// The same over a store that tells what the test tells it.
    pub(super) async fn telling(&self) -> (Cache, Arc<Telling>) {
        let store = Telling::over(self.store.clone());
        let cache =
            Cache::builder().backend(Arc::clone(&store) as Arc<dyn Backend>).clock(self.clock.clone()).build().unwrap();
        begun(&cache).await;
        (cache, store)
    }

    /// Lets time pass with somebody listening all the while.
    pub(super) fn listen_for(&self, cache: &Cache, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            cache.engine.near.vouch_anew();
        }
    }
}

/// Uses the store for the first time, and waits until it tells. By the real clock: the watch begins on a thread.
pub(super) async fn begun(cache: &Cache) {
    assert_eq!(cache.get::<u32>("nobody wrote this").await.unwrap(), None);
    coherent(cache).await;
}

pub(super) async fn coherent(cache: &Cache) {
    until("the store tells", || cache.is_coherent()).await;
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(std::time::Instant::now() < end, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether a read is answered without the store.
async fn is_in_l1(cache: &Cache, key: &str) -> bool {
    let hits = cache.stats().l1.unwrap().hits;
    cache.get::<u32>(key).await.unwrap();
    cache.stats().l1.unwrap().hits > hits
}

#[tokio::test]
async fn a_write_by_another_process_is_seen_as_soon_as_it_is_told() {
    let bench = Bench::new();
    let (ours, theirs, deaf) = (bench.listening().await, bench.cache(), bench.cache());
    theirs.set("k", &1).await.unwrap();
    assert_eq!(*ours.get::<u32>("k").await.unwrap().unwrap(), 1);
    assert_eq!(*deaf.get::<u32>("k").await.unwrap().unwrap(), 1);
    theirs.set("k", &2).await.unwrap();
    assert_eq!(*ours.get::<u32>("k").await.unwrap().unwrap(), 2);
    assert_eq!(*deaf.get::<u32>("k").await.unwrap().unwrap(), 1, "the control: who does not listen waits for the cap");
    theirs.delete("k").await.unwrap();
    assert_eq!(ours.get::<u32>("k").await.unwrap(), None);
    let stats = ours.stats();
    assert_eq!((stats.changes_forgotten, stats.watches_lost), (2, 0));
    assert!(stats.changes_told >= 2, "{stats:?}");
    assert_eq!(deaf.stats().changes_told, 0);
}

#[tokio::test]
async fn own_writes_stay_and_live_to_their_own_end() {
    let bench = Bench::new();
    let (ours, deaf) = (bench.listening().await, bench.cache());
    let ten_minutes = SetOptions::default().with_ttl(Duration::from_secs(600));
    ours.set_with("k", &7, ten_minutes.clone()).await.unwrap();
    ours.set("for ever", &7).await.unwrap();
    deaf.set_with("theirs", &7, ten_minutes).await.unwrap();
    bench.listen_for(&ours, 599);
    assert!(is_in_l1(&ours, "k").await && is_in_l1(&ours, "for ever").await);
    assert!(!is_in_l1(&deaf, "theirs").await, "the control: who does not listen keeps nothing beyond the cap");
    bench.listen_for(&ours, 2);
    assert!(!is_in_l1(&ours, "k").await);
    assert!(is_in_l1(&ours, "for ever").await);
}

#[tokio::test]
async fn what_was_read_before_the_watch_had_begun_keeps_the_cap() {
    let bench = Bench::new();
    let store = Arc::new(Telling { inner: bench.store.clone(), ..Telling::default() });
    store.refuses_watches.store(true, Ordering::SeqCst);
    let cache =
        Cache::builder().backend(Arc::clone(&store) as Arc<dyn Backend>).clock(bench.clock.clone()).build().unwrap();
    bench.cache().set("early", &1).await.unwrap();
    assert_eq!(store.begun.load(Ordering::SeqCst), 0, "nothing is watched before the store is used");
    cache.get::<u32>("early").await.unwrap();
    until("it is tried again", || store.begun.load(Ordering::SeqCst) >= 2).await;
    store.refuses_watches.store(false, Ordering::SeqCst);
    coherent(&cache).await;
    assert!(is_in_l1(&cache, "early").await);
    bench.listen_for(&cache, 31);
    assert!(!is_in_l1(&cache, "early").await);
    // Read anew, it is vouched for.
    bench.listen_for(&cache, 31);
    assert!(is_in_l1(&cache, "early").await);
}

#[tokio::test]
async fn a_lost_watch_forgets_everything_and_the_cap_lives_again_until_there_is_another() {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    cache.set("a", &1).await.unwrap();
    cache.namespace("other").unwrap().set("b", &1).await.unwrap();
    store.refuses_watches.store(true, Ordering::SeqCst);
    store.tell(Event::Lost);
    assert!(!cache.is_coherent());
    assert!(!is_in_l1(&cache, "a").await && !is_in_l1(&cache.namespace("other").unwrap(), "b").await);
    assert_eq!(cache.stats().watches_lost, 1);
    until("the lost watch was ended", || store.ended.load(Ordering::SeqCst) == 1).await;
    assert!(is_in_l1(&cache, "a").await, "it was read again");
    bench.clock.advance(Duration::from_secs(31));
    assert!(!is_in_l1(&cache, "a").await, "for the cap and no longer");
    store.refuses_watches.store(false, Ordering::SeqCst);
    coherent(&cache).await;
    assert_eq!(store.sinks.lock().unwrap().len(), 2);
    // A word that the old watch still says is no news.
    store.sinks.lock().unwrap()[0].event(Event::Lost);
    assert!(cache.is_coherent());
    assert_eq!(cache.stats().watches_lost, 1);
}

#[tokio::test]
async fn everything_means_every_namespace() {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    let other = cache.namespace("other").unwrap();
    cache.set("a", &1).await.unwrap();
    other.set("b", &1).await.unwrap();
    assert!(is_in_l1(&cache, "a").await && is_in_l1(&other, "b").await);
    store.tell(Event::Everything);
    assert!(!is_in_l1(&cache, "a").await && !is_in_l1(&other, "b").await);
    assert!(cache.is_coherent());
}

#[tokio::test]
async fn nothing_is_served_by_a_watch_that_nobody_listens_to() {
    let bench = Bench::new();
    let (cache, _store) = bench.telling().await;
    cache.set("k", &1).await.unwrap();
    bench.clock.advance(LEASE - Duration::from_millis(1));
    assert!(is_in_l1(&cache, "k").await);
    // A stopped process wakes up, or a child of `fork()` finds what its parent had.
    bench.clock.advance(Duration::from_millis(1 + 600));
    assert!(!is_in_l1(&cache, "k").await);
    // Somebody listens again: what was kept meanwhile must not be served, what is read from here on may.
    let (cache, _store) = bench.telling().await;
    cache.set("k", &1).await.unwrap();
    bench.clock.advance(LEASE * 3);
    cache.engine.near.vouch_anew();
    assert!(!is_in_l1(&cache, "k").await);
    assert!(is_in_l1(&cache, "k").await);
}

#[tokio::test]
async fn keys_that_the_store_gets_shortened_are_followed_too() {
    let bench = Bench {
        store: Memory::new(MemoryConfig { max_key: 100, ..MemoryConfig::default() }),
        clock: Arc::new(ManualClock::new()),
    };
    let (ours, theirs) = (bench.listening().await, bench.cache());
    let long = "x".repeat(200);
    for key in [&*long, "#looks shortened", "plain"] {
        theirs.set(key, &1).await.unwrap();
        assert_eq!(*ours.get::<u32>(key).await.unwrap().unwrap(), 1);
        bench.listen_for(&ours, 100);
        assert!(is_in_l1(&ours, key).await, "{key} is vouched for");
        theirs.set(key, &2).await.unwrap();
        assert_eq!(*ours.get::<u32>(key).await.unwrap().unwrap(), 2, "{key}");
        ours.set(key, &3).await.unwrap();
        theirs.delete(key).await.unwrap();
        assert_eq!(ours.get::<u32>(key).await.unwrap(), None, "{key}");
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_cache_and_none_begins_where_nobody_keeps_anything() {
    let bench = Bench::new();
    let dropped = bench.listening().await;
    let closed = bench.listening().await;
    assert_eq!(bench.store.watches(), 2);
    let near = Arc::downgrade(&dropped.near);
    drop(dropped);
    assert_eq!(bench.store.watches(), 1);
    until("nobody keeps the watch of a cache that is gone", || near.strong_count() == 0).await;
    closed.close().await.unwrap();
    assert_eq!(bench.store.watches(), 0);
    assert!(!closed.is_coherent() || closed.get::<u32>("k").await.is_err());

    let backend = || Arc::new(bench.store.clone()) as Arc<dyn Backend>;
    let caches = [
        Cache::builder().backend(backend()).build().unwrap(),
        Cache::builder().backend(backend()).without_l1().build().unwrap(),
        Cache::builder().backend(backend()).coherence(false).build().unwrap(),
    ];
    assert_eq!(bench.store.watches(), 0, "nothing begins before the store is used");
    for cache in &caches {
        cache.set("k", &1).await.unwrap();
    }
    coherent(&caches[0]).await;
    assert_eq!(bench.store.watches(), 1);
}

#[tokio::test]
async fn another_process_that_loses_the_store_finds_back() {
    let bench = Bench::new();
    let (ours, theirs) = (bench.listening().await, bench.cache());
    theirs.set("k", &1).await.unwrap();
    assert_eq!(*ours.get::<u32>("k").await.unwrap().unwrap(), 1);
    bench.store.set_outage(true);
    assert!(!ours.is_coherent());
    assert_eq!(ours.get::<u32>("k").await.unwrap(), None, "nothing is served that nobody vouches for");
    bench.store.set_outage(false);
    coherent(&ours).await;
    theirs.set("k", &2).await.unwrap();
    assert_eq!(*ours.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn the_task_that_keeps_a_watch_ends_no_store_itself() {
    for refuses in [false, true] {
        let store = Telling::over(Memory::new(MemoryConfig::default()));
        store.refuses_watches.store(refuses, Ordering::SeqCst);
        let (tells, may_wait) = tokio::sync::oneshot::channel();
        *store.end.0.lock().unwrap() = Some(tells);
        let gate = Arc::clone(&store.in_watch);
        gate.close();
        let cache = Cache::builder().backend(store).deadline(Duration::from_secs(3600)).build().unwrap();
        cache.get::<u32>("k").await.unwrap();
        gate.arrived.notified().await;
        // From here on nobody holds the store but who is about to watch it.
        drop(cache);
        gate.open.notify_one();
        assert!(may_wait.await.unwrap(), "it ended on the thread that runs the engine's tasks");
    }
}
