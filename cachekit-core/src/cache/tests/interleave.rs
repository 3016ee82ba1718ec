//! What several tasks do with one key, in every order that a seed can think of.
//!
//! Nothing here runs by chance: an executor of our own polls one task after the other as its dice say, the store lets others
//! run at random before and after each of its operations, and so do the loaders. The source behind the loaders counts its versions. A set,
//! a deletion and a clearing belong to a new version; once one of them has returned, no call that begins afterwards may
//! see an older one that was loaded, nor one whose set had ended before.
//!
//! `CACHEKIT_INTERLEAVINGS=100000` for the long run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use cachekit_plugin::Clear;

use super::*;
use crate::cache::LoadOptions;
use crate::fresh::FreshnessConfig;

/// Dice that several tasks throw.
#[derive(Clone)]
pub(super) struct Dice(Arc<AtomicU64>);

impl Dice {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    pub(super) fn below(&self, n: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Lets others run, up to three times.
    pub(super) async fn pause(&self) {
        let mut left = self.below(4);
        std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// A store that takes its time.
pub(super) struct Slow {
    pub(super) inner: Memory,
    pub(super) dice: Dice,
}

impl Backend for Slow {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            self.dice.pause().await;
            let found = self.inner.get(key, cx).await;
            self.dice.pause().await;
            found
        })
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.dice.pause().await;
            let written = self.inner.set(key, value, ttl, cx).await;
            self.dice.pause().await;
            written
        })
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            self.dice.pause().await;
            let deleted = self.inner.delete(key, cx).await;
            self.dice.pause().await;
            deleted
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
        Backend::clear(&self.inner)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    number: u64,
    loaded: bool,
}

/// What happened, in the order in which it did.
#[derive(Default)]
struct History {
    now: AtomicU64,
    /// The newest version of the source.
    source: AtomicU64,
    writes: StdMutex<Vec<Write>>,
    faults: StdMutex<Vec<String>>,
    seen: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    version: u64,
    began: u64,
    ended: u64,
    sets: bool,
}

impl History {
    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    /// A new version, which somebody is about to tell the cache of.
    fn begin(&self) -> (u64, u64) {
        (self.source.fetch_add(1, Ordering::SeqCst) + 1, self.tick())
    }

    fn end(&self, (version, began): (u64, u64), sets: bool) {
        let ended = self.tick();
        self.writes.lock().unwrap().push(Write { version, began, ended, sets });
    }

    /// A call that began then returned this.
    fn saw(&self, began: u64, seen: Option<Version>, by: &str) {
        let Some(seen) = seen else { return };
        self.seen.fetch_add(1, Ordering::SeqCst);
        let writes = self.writes.lock().unwrap();
        let its_set = writes.iter().find(|write| write.sets && write.version == seen.number).copied();
        for newer in writes.iter().filter(|write| write.ended < began && write.version > seen.number) {
            // Writes that overlap may come in either order.
            let overlaps = !seen.loaded && its_set.is_none_or(|set| set.ended > newer.began);
            if !overlaps {
                self.faults.lock().unwrap().push(format!("{by} at {began} saw {seen:?} after {newer:?}"));
                return;
            }
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// One key, some tasks, each with some operations.
struct Scene {
    cache: Cache,
    clock: Arc<ManualClock>,
    key: String,
    dice: Dice,
    history: Arc<History>,
}

impl Scene {
    fn loader(
        &self,
    ) -> impl FnOnce() -> futures_util::future::BoxFuture<'static, Result<Version, String>> + Send + 'static {
        let (dice, history) = (self.dice.clone(), Arc::clone(&self.history));
        move || {
            Box::pin(async move {
                dice.pause().await;
                let number = history.source.load(Ordering::SeqCst);
                dice.pause().await;
                if dice.below(8) == 0 { Err("out".to_owned()) } else { Ok(Version { number, loaded: true }) }
            })
        }
    }

    fn options() -> LoadOptions {
        let minute = Duration::from_secs(60);
        LoadOptions::default().with_ttl(minute).with_stale(minute).with_stale_if_error(minute)
    }

    async fn step(&self) {
        let (cache, key, history) = (&self.cache, &*self.key, &*self.history);
        let began = history.tick();
        match self.dice.below(20) {
            0..4 => history.saw(began, cache.get(key).await.unwrap().as_deref().copied(), "get"),
            4..9 => {
                let value = cache.try_get_or_load_with(key, Self::options(), self.loader()).await;
                history.saw(began, value.ok().as_deref().copied(), "get_or_load_with");
            }
            9..11 => {
                let value = cache.try_get_or_load_here(key, Self::options(), self.loader()).await;
                history.saw(began, value.ok().as_deref().copied(), "get_or_load");
            }
            11..13 => {
                let value = cache.try_refresh_with(key, Self::options(), self.loader()).await;
                history.saw(began, value.ok().as_deref().copied(), "refresh");
            }
            13..15 => {
                let write = history.begin();
                let value = Version { number: write.0, loaded: false };
                cache.set_with(key, &value, Self::options().set).await.unwrap();
                history.end(write, true);
            }
            15..17 => {
                let write = history.begin();
                cache.delete(key).await.unwrap();
                history.end(write, false);
            }
            17 => {
                let write = history.begin();
                cache.clear().await.unwrap();
                history.end(write, false);
            }
            // Half of a life or a window: what is fresh becomes stale, what is stale is kept for failures.
            _ => self.clock.advance(Duration::from_secs(30)),
        }
    }

    /// Runs the scene to its end, a task at a time.
    async fn play(self) -> Arc<History> {
        let history = Arc::clone(&self.history);
        let dice = self.dice.clone();
        let scene = std::rc::Rc::new(self);
        let mut tasks: Vec<Task> = (0..2 + dice.below(4))
            .map(|_| {
                let scene = std::rc::Rc::clone(&scene);
                let steps = 1 + scene.dice.below(5);
                Box::pin(async move {
                    for _ in 0..steps {
                        scene.step().await;
                    }
                }) as Task
            })
            .collect();
        while !tasks.is_empty() {
            let next = dice.below(tasks.len() as u64) as usize;
            if tasks[next].as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                drop(tasks.swap_remove(next));
            }
            // What runs in the background runs now and then as well.
            if dice.below(2) == 0 {
                tokio::task::yield_now().await;
            }
        }
        while scene.cache.near.background.running() > 0 {
            tokio::task::yield_now().await;
        }
        let began = history.tick();
        history.saw(began, scene.cache.get(&*scene.key).await.unwrap().as_deref().copied(), "the last get");
        history
    }
}

/// How many values were seen, and what was wrong with them.
fn interleave(scenes: u64, first_seed: u64, careless: bool) -> (u64, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut seen, mut faults) = (0, Vec::new());
    let mut cache: Option<(Cache, Arc<ManualClock>, Dice)> = None;
    for seed in first_seed..first_seed + scenes {
        // A cache is dear to build; each scene has a key of its own.
        if seed % 256 == 0 || cache.is_none() {
            let dice = Dice::seeded(0);
            let store = Slow { inner: Memory::new(MemoryConfig::default()), dice: dice.clone() };
            let clock = Arc::new(ManualClock::new());
            let builder = Cache::builder().clock(clock.clone()).coherence(false).random_seed(seed);
            let builder =
                builder.freshness(FreshnessConfig { retry_interval: Duration::ZERO, ..FreshnessConfig::default() });
            // Every fourth has no store, so that L1 alone is looked at as well.
            let builder = if seed / 256 % 4 == 3 { builder } else { builder.backend(Arc::new(store)) };
            let built = builder.deadline(Duration::from_secs(600)).build().unwrap();
            built.near.careless.store(careless, Ordering::SeqCst);
            cache = Some((built, clock, dice));
        }
        let Some((cache, clock, dice)) = &cache else { continue };
        dice.0.store(seed.wrapping_mul(0x2545_f491_4f6c_dd1d), Ordering::SeqCst);
        let scene = Scene {
            cache: cache.clone(),
            clock: Arc::clone(clock),
            key: format!("{seed}"),
            dice: dice.clone(),
            history: Arc::default(),
        };
        let history = runtime.block_on(scene.play());
        seen += history.seen.load(Ordering::SeqCst);
        faults.extend(history.faults.lock().unwrap().drain(..).map(|fault| format!("seed {seed}: {fault}")));
    }
    (seen, faults)
}

#[test]
fn nothing_older_comes_back_however_loads_sets_deletions_clearings_and_refreshes_are_interleaved() {
    let asked = std::env::var("CACHEKIT_INTERLEAVINGS").ok().and_then(|text| text.parse().ok());
    let scenes: u64 = asked.unwrap_or(3_000);
    let (seen, faults) = interleave(scenes, 1, false);
    println!("{scenes} interleavings, {seen} values seen, {} of them older than they may be", faults.len());
    assert!(seen > scenes, "{seen}");
    assert!(faults.is_empty(), "{} faults, the first: {}", faults.len(), faults[0]);
}

#[test]
fn without_tickets_older_values_come_back() {
    let (_, faults) = interleave(1_000, 1, true);
    println!("{} older values", faults.len());
    assert!(faults.len() > 10, "{}", faults.len());
}

#[test]
fn a_seed_plays_the_same_scene_again() {
    let seen = |seed| interleave(40, seed, false).0;
    assert_eq!(seen(1), seen(1));
}
