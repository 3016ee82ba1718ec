//! All parts at once: random make-ups of a cache, random operations and outages, beside a model that knows for each key which
//! values may be there.
//!
//! Every value is a number of its own, and later ones are larger. The model keeps, per key, the numbers that may be read: after a
//! set, a load, a deletion, a clearing or an invalidation that went well these are what that left, and nothing older; after one
//! that failed also what was there before. That there is nothing is always allowed, because a cache may lose; how often there is something
//! is counted, so that the test cannot pass by reading nothing.
//!
//! `CACHEKIT_PARTS_MEET=20000` for the long run.

use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;

use super::super::interleave::Dice;
use super::*;
use crate::behind::Careless;
use crate::builder::NamespaceEpochs;
use crate::clock::Clock as _;
use crate::crypto::{Encryption, Keyring, MasterKey};

const KEYS: u64 = 3;
const STEPS: u32 = 60;

/// What is left out, to see that it would be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Supersede,
    Find,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    tags: u64,
    /// When `get` stops finding it.
    ends_ms: u64,
}

/// What is known of a write that returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    InTheStore,
    Waiting,
    Perhaps,
}

/// What may be read.
#[derive(Default)]
struct Model {
    next: u32,
    may_be: BTreeMap<u64, BTreeMap<u32, Value>>,
    hits: u32,
}

impl Model {
    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn of(&mut self, key: u64) -> &mut BTreeMap<u32, Value> {
        self.may_be.entry(key).or_default()
    }

    /// A value was written, or is about to be.
    fn written(&mut self, key: u64, number: u32, value: Value, how: Written) {
        let values = std::mem::take(self.of(key));
        if how == Written::Perhaps {
            self.of(key).extend(values);
        }
        self.of(key).insert(number, value);
    }

    fn saw(&mut self, key: u64, number: Option<u32>, now_ms: Option<u64>, by: &str) -> Result<(), String> {
        let Some(number) = number else { return Ok(()) };
        self.hits += 1;
        match self.of(key).get(&number) {
            None => Err(format!("{by} of key {key} returned {number}; allowed: {:?}", self.of(key).keys())),
            Some(value) if now_ms.is_some_and(|now_ms| now_ms >= value.ends_ms) => {
                Err(format!("{by} of key {key} returned {number}, whose life was over"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// One cache as the dice make it, and all that outlives it.
struct World {
    bench: Bench,
    dice: Dice,
    last: Switched,
    front: Option<Switched>,
    behind: bool,
    with_l1: bool,
    opaque: bool,
    stale: Duration,
    stale_if_error: Duration,
    negative: Option<Duration>,
    /// The current master key; 0: nothing is encrypted.
    key: u8,
    model: Arc<StdMutex<Model>>,
    broken: Option<Broken>,
}

impl World {
    fn new(seed: u64, broken: Option<Broken>) -> Self {
        let (bench, dice) = (Bench::new(), Dice::seeded(seed));
        let one_in = |n| dice.below(n) == 0;
        let opaque = one_in(4);
        let inner: Arc<dyn Backend> = match opaque {
            true => Arc::new(Opaque(bench.store.clone())),
            false => Arc::new(bench.store.clone()),
        };
        let front = one_in(3).then(|| Switched::new(Arc::new(Memory::new(MemoryConfig::default()))));
        let window = |yes: bool| if yes { 2 * MINUTE } else { Duration::ZERO };
        Self {
            last: Switched::new(inner),
            front,
            behind: one_in(2),
            with_l1: !one_in(3),
            opaque,
            stale: window(one_in(2)),
            stale_if_error: window(one_in(3)),
            negative: one_in(3).then_some(MINUTE),
            key: u8::from(one_in(2)),
            model: Arc::default(),
            broken,
            bench,
            dice,
        }
    }

    fn builder(&self, backend: Arc<dyn Backend>) -> CacheBuilder {
        let freshness = FreshnessConfig {
            stale: Some(self.stale),
            stale_if_error: Some(self.stale_if_error),
            negative_ttl: self.negative,
            retry_interval: Duration::ZERO,
            ..FreshnessConfig::off()
        };
        // Of the guards those that would refuse what the model takes for well.
        let builder = self.bench.builder(backend).without_retry().without_breaker().deadline(A_WHILE);
        let epochs = if self.opaque { NamespaceEpochs::On } else { NamespaceEpochs::Auto };
        let builder = builder.freshness(freshness).namespace_epochs(epochs).default_ttl(MINUTE);
        if self.key == 0 {
            return builder;
        }
        let master = |byte: u8| MasterKey::from_bytes(&[byte; 32]).unwrap();
        let previous = (self.key.saturating_sub(3).max(1)..self.key).rev().map(master).collect();
        builder.encryption(Encryption::new(Keyring::new(master(self.key), previous).unwrap()))
    }

    fn cache(&self) -> Cache {
        let builder = self.builder(Arc::new(self.last.clone()));
        let builder = match &self.front {
            Some(front) => builder.tier(TierSpec::new("front", Arc::new(front.clone())).ttl(MINUTE)),
            None => builder,
        };
        let builder = if self.behind { builder.write_behind(patient()) } else { builder };
        let cache = if self.with_l1 { builder } else { builder.without_l1() }.build().unwrap();
        match self.broken {
            Some(Broken::Supersede) => *cache.near.pending.careless.lock().unwrap() = Some(Careless::Supersede),
            Some(Broken::Find) => *cache.near.pending.careless.lock().unwrap() = Some(Careless::Find),
            None => {}
        }
        cache
    }

    /// What another process reads, which keeps nothing.
    async fn elsewhere(&self, key: u64) -> Option<u32> {
        let store: Arc<dyn Backend> = match self.opaque {
            true => Arc::new(Opaque(self.bench.store.clone())),
            false => Arc::new(self.bench.store.clone()),
        };
        let reader = self.builder(store).without_l1().build().unwrap();
        reader.get::<u32>(key.to_string()).await.unwrap().map(|value| *value)
    }

    fn now_ms(&self) -> u64 {
        self.bench.clock.unix_ms()
    }

    fn value(&self, tags: u64) -> Value {
        Value { tags, ends_ms: self.now_ms() + MINUTE.as_millis() as u64 }
    }

    fn options(tags: u64) -> SetOptions {
        SetOptions::default().with_tags((0..2).filter(|tag| tags & (1 << tag) != 0).map(|tag: u64| tag.to_string()))
    }

    /// A loader that finds a new value, nothing, or fails. What it finds may be read from then on.
    fn loader(
        &self,
        key: u64,
        tags: u64,
        what: u64,
    ) -> impl FnOnce() -> futures_util::future::BoxFuture<'static, Result<Option<u32>, String>> + Send + 'static {
        let (model, mut value, dice) = (Arc::clone(&self.model), self.value(tags), self.dice.clone());
        if self.stale > Duration::ZERO {
            // A load in the background ends, and its value's life begins, when the clock may have moved on.
            value.ends_ms = u64::MAX;
        }
        move || {
            Box::pin(async move {
                match what {
                    0 => Err("down".to_owned()),
                    1 => Ok(None),
                    _ => {
                        let number = {
                            let mut model = model.lock().unwrap();
                            let number = model.fresh();
                            model.of(key).insert(number, value);
                            number
                        };
                        dice.pause().await;
                        Ok(Some(number))
                    }
                }
            })
        }
    }

    fn model<T>(&self, act: impl FnOnce(&mut Model) -> T) -> T {
        act(&mut self.model.lock().unwrap())
    }
}

/// Whether a store is away.
#[derive(Default)]
struct Away {
    last: bool,
    front: bool,
}

async fn settle(dice: &Dice) {
    for _ in 0..dice.below(6) {
        tokio::task::yield_now().await;
    }
}

#[allow(clippy::collapsible_match, reason = "an arm whose guard acts on the store would hide what it does")]
async fn step(world: &mut World, cache: &mut Cache, away: &mut Away) -> Result<(), String> {
    let dice = world.dice.clone();
    let (key, tags) = (dice.below(KEYS), dice.below(4));
    let name = key.to_string();
    let well = !away.last;
    let verb = dice.below(24);
    match verb {
        0..4 => {
            let read = cache.get::<u32>(&name).await.unwrap().map(|value| *value);
            world.model(|model| model.saw(key, read, Some(world.now_ms()), "get"))?;
        }
        4..6 => {
            let names: Vec<String> = (0..KEYS).map(|key| key.to_string()).collect();
            let read = cache.get_many::<u32, _>(&names).await.unwrap();
            for (key, read) in (0..KEYS).zip(read) {
                world.model(|model| model.saw(key, read.map(|value| *value), Some(world.now_ms()), "get_many"))?;
            }
        }
        6..10 => {
            let number = world.model(Model::fresh);
            let accepted_before = cache.stats().writes_behind;
            cache.set_with(&name, &number, World::options(tags)).await.unwrap();
            let how = match cache.stats().writes_behind > accepted_before {
                true => Written::Waiting,
                false if well => Written::InTheStore,
                false => Written::Perhaps,
            };
            world.model(|model| model.written(key, number, world.value(tags), how));
        }
        10 => {
            let items: Vec<(String, u32)> = (0..KEYS).map(|key| (key.to_string(), world.model(Model::fresh))).collect();
            cache.set_many(&items, World::options(tags)).await.unwrap();
            for (key, (_, number)) in (0..KEYS).zip(items) {
                let how = if well { Written::InTheStore } else { Written::Perhaps };
                world.model(|model| model.written(key, number, world.value(tags), how));
            }
        }
        11 => {
            if cache.delete(&name).await.is_ok() {
                world.model(|model| model.of(key).clear());
            }
        }
        12 => {
            let names: Vec<String> = (0..KEYS).map(|key| key.to_string()).collect();
            if cache.delete_many(&names).await.is_ok() {
                world.model(|model| model.may_be.clear());
            }
        }
        13 => {
            if cache.clear().await.is_ok() {
                world.model(|model| model.may_be.clear());
            }
        }
        14 => {
            let tag = dice.below(2);
            if cache.invalidate_tag(tag.to_string()).await.is_ok() {
                let lacks = |value: &Value| value.tags & (1 << tag) == 0;
                world
                    .model(|model| model.may_be.values_mut().for_each(|values| values.retain(|_, value| lacks(value))));
            }
        }
        15..18 => {
            let what = dice.below(4);
            let options = LoadOptions::from(World::options(tags));
            let before = world.model(|model| model.next);
            let loaded = cache.try_get_or_load_option(&name, options, world.loader(key, tags, what)).await;
            if let Ok(read) = loaded {
                let read = read.map(|value| *value);
                world.model(|model| model.saw(key, read, None, "get_or_load_option"))?;
                // It was this call's own, and replaced what was there; but for what waited, which may have landed while it loaded.
                if read.is_some_and(|read| read > before) && well && !world.behind {
                    world.model(|model| model.of(key).retain(|number, _| *number > before));
                }
            }
        }
        18 => {
            let before = world.model(|model| model.next);
            let load = world.loader(key, tags, 2);
            let load = || async { load().await.map(|value| value.unwrap()) };
            let options = LoadOptions::from(World::options(tags));
            // It may have joined one in the background, which failed.
            if let Ok(read) = cache.try_refresh_with(&name, options, load).await.map(|value| *value) {
                world.model(|model| model.saw(key, Some(read), None, "refresh"))?;
                if read > before && well && !world.behind {
                    world.model(|model| model.of(key).retain(|number, _| *number > before));
                }
            }
        }
        19 => {
            let ends_ms = world.now_ms() + MINUTE.as_millis() as u64;
            if !matches!(cache.touch(&name, SetOptions::default()).await, Ok(false)) {
                world.model(|model| model.of(key).values_mut().for_each(|value| value.ends_ms = ends_ms));
            }
        }
        20 => {
            away.last = !away.last && dice.below(2) == 0;
            away.front = dice.below(3) == 0;
            let switches = [Some((&world.last, away.last)), world.front.as_ref().map(|front| (front, away.front))];
            for (store, away) in switches.into_iter().flatten() {
                store.switch().heal();
                if away {
                    store.switch().trouble(Trouble::Fails(Kind::Transient));
                }
            }
        }
        21 => world.bench.clock.advance(Duration::from_secs([7, 31, 61, 200][dice.below(4) as usize])),
        22 => {
            // Nothing waits, so what others read is what was written.
            if well && cache.flush(A_WHILE).await.is_ok() {
                let read = world.elsewhere(key).await;
                world.model(|model| model.saw(key, read, Some(world.now_ms()), "another process"))?;
            }
        }
        // Which copies of a front are not to be believed is known to its own process alone.
        _ if dice.below(4) == 0 && well && world.front.is_none() && cache.flush(A_WHILE).await.is_ok() => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("l1");
            cache.save_snapshot(&path).unwrap();
            // The next process has another master key, and knows this one.
            world.key += u8::from((1..4).contains(&world.key));
            *cache = world.cache();
            cache.load_snapshot(&path);
        }
        _ => {}
    }
    settle(&dice).await;
    Ok(())
}

/// One story; how many values were read, or what was wrong.
async fn play(seed: u64, broken: Option<Broken>) -> Result<u32, String> {
    let mut world = World::new(seed, broken);
    let (mut cache, mut away) = (world.cache(), Away::default());
    for at in 0..STEPS {
        let told = step(&mut world, &mut cache, &mut away).await;
        told.map_err(|fault| {
            let World { behind, with_l1, opaque, stale, stale_if_error, negative, key, .. } = &world;
            let front = world.front.is_some();
            format!(
                "seed {seed}, step {at}: {fault} (behind {behind}, l1 {with_l1}, front {front}, opaque {opaque}, \
                 stale {stale:?}, error {stale_if_error:?}, negative {negative:?}, key {key})"
            )
        })?;
    }
    world.last.switch().heal();
    world.front.iter().for_each(|front| front.switch().heal());
    cache.flush(A_WHILE).await.map_err(|error| format!("seed {seed}: {error}"))?;
    for key in 0..KEYS {
        let read = world.elsewhere(key).await;
        let told = world.model(|model| model.saw(key, read, Some(world.now_ms()), "the last reader"));
        told.map_err(|fault| format!("seed {seed}: {fault}"))?;
    }
    cache.close().await.map_err(|error| format!("seed {seed}: {error}"))?;
    Ok(world.model(|model| model.hits))
}

async fn stories(count: u64, broken: Option<Broken>) -> (u32, Vec<String>) {
    let (mut hits, mut faults) = (0, Vec::new());
    for seed in 1..=count {
        match play(seed, broken).await {
            Ok(seen) => hits += seen,
            Err(fault) => faults.push(fault),
        }
    }
    (hits, faults)
}

#[tokio::test]
async fn whatever_parts_a_cache_has_and_whatever_fails_nothing_older_is_read() {
    let asked = std::env::var("CACHEKIT_PARTS_MEET").ok().and_then(|text| text.parse().ok());
    let count: u64 = asked.unwrap_or(200);
    let (hits, faults) = stories(count, None).await;
    println!("{count} stories, {hits} values read, {} wrong", faults.len());
    assert!(faults.is_empty(), "{} wrong, the first: {}", faults.len(), faults.join("\n"));
    assert!(u64::from(hits) > 5 * count, "{hits}");
}

#[tokio::test]
async fn negative_control_without_one_guard_older_values_are_read() {
    for broken in [Broken::Supersede, Broken::Find] {
        let (_, faults) = stories(150, Some(broken)).await;
        println!("{broken:?}: {} stories go wrong", faults.len());
        assert!(!faults.is_empty(), "{broken:?}");
    }
}
