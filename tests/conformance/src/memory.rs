//! The reference: a store in the memory of the process that has every power and does what the contract says.
//!
//! It is there to be right and plain, not fast: the engine is tested on it, the kit proves itself on it, and an author
//! reads it to see what a sentence of the contract means. Its clock can be replaced, so that nothing that is built on it
//! has to sleep. It never evicts: what a test put in is there until its life ends.

mod powers;
#[cfg(test)]
mod tests;
mod watching;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

use cachekit_plugin::{
    Backend, BackendError, Batch, Bytes, CacheActivity, Cas, Clear, Cx, Enumerates, Event, Expiry, Freshness, Fut,
    Health, HostServices, Key, Kind, Limits, Locks, Open, Operation, Page, Scan, Ttl, Version, Watch, schemars,
};
use schemars::JsonSchema;
use serde::Deserialize;
use watching::Watches;

use crate::harness::{Harness, Opened};
use crate::sample::fnv1a;

/// Options of [`Memory`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(crate = "cachekit_plugin::schemars")]
pub struct MemoryConfig {
    /// Bound of keys and values together, bytes. What would go beyond is refused as [`Kind::Throttled`].
    pub max_bytes: u64,
    /// [`Limits::max_key`], bytes.
    pub max_key: u32,
    /// [`Limits::max_value`], bytes. A larger value is refused as [`Kind::TooLarge`].
    pub max_value: u64,
    /// Instances that are opened in one process with the same name are instances on one store. Without a name each has
    /// its own.
    pub name: Option<String>,
}

impl Default for MemoryConfig {
    /// 256 MiB in all, keys up to 1 KiB, values up to 8 MiB: room for the kit and for any test.
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_key: 1024, max_value: 8 << 20, name: None }
    }
}

/// Where [`Memory`] gets its time from.
pub trait Clock: Send + Sync + 'static {
    /// Time since a moment of the clock's choice. Never goes back.
    fn now(&self) -> Duration;
}

/// The clock of the system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands still until it is told to go on.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Lets `time` pass (whole milliseconds).
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// An in-memory store with every power. Clones are instances on the same store.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use cachekit_conformance::{ManualClock, Memory, MemoryConfig};
/// let clock = Arc::new(ManualClock::default());
/// let memory = Memory::with_clock(MemoryConfig::default(), clock.clone());
/// clock.advance(Duration::from_secs(60)); // entries of a minute are gone now
/// # let _ = memory;
/// ```
pub struct Memory {
    store: Arc<Store>,
    /// Tells what this instance wrote from what others did.
    instance: u64,
    /// Asked for what the cache above did, which `health` reports.
    host: Option<HostServices>,
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self { host: self.host.clone(), ..Self::on(Arc::clone(&self.store)) }
    }
}

struct Store {
    config: MemoryConfig,
    clock: Arc<dyn Clock>,
    shards: [RwLock<Shard>; SHARDS],
    /// Bytes of all keys and values.
    bytes: AtomicU64,
    writes: AtomicU64,
    instances: AtomicU64,
    outage: AtomicBool,
    watches: Watches,
}

/// Enough that a handful of threads seldom meet.
const SHARDS: usize = 16;

/// Bound of leases per shard.
const MAX_LEASES: usize = 4096;

/// Ordered, because a page then begins where the one before ended, whatever was written in between.
#[derive(Default)]
struct Shard {
    entries: BTreeMap<Box<[u8]>, Entry>,
    leases: BTreeMap<Box<[u8]>, Lease>,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    version: Version,
    /// `None`: never.
    expires: Option<Duration>,
    /// The end of its stale window, which is its own end if it has none.
    gone: Option<Duration>,
}

/// How long a new entry lives.
#[derive(Clone, Copy)]
struct Life {
    ttl: Ttl,
    stale_ms: u64,
}

impl From<Ttl> for Life {
    fn from(ttl: Ttl) -> Self {
        Self { ttl, stale_ms: 0 }
    }
}

struct Lease {
    token: Box<[u8]>,
    expires: Option<Duration>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MemoryConfig::default())
    }
}

impl Memory {
    /// An empty store on the clock of the system.
    pub fn new(config: MemoryConfig) -> Self {
        Self::with_clock(config, Arc::new(SystemClock::default()))
    }

    /// An empty store on `clock`.
    pub fn with_clock(config: MemoryConfig, clock: Arc<dyn Clock>) -> Self {
        Self::on(Arc::new(Store {
            config,
            clock,
            shards: Default::default(),
            bytes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            instances: AtomicU64::new(0),
            outage: AtomicBool::new(false),
            watches: Watches::default(),
        }))
    }

    /// Another instance on a store.
    fn on(store: Arc<Store>) -> Self {
        let instance = store.instances.fetch_add(1, Ordering::Relaxed);
        Self { store, instance, host: None }
    }

    /// An instance on the store of that name in this process, which is made if there is none.
    fn named(config: MemoryConfig, name: &str) -> Self {
        static NAMED: Mutex<BTreeMap<String, Weak<Store>>> = Mutex::new(BTreeMap::new());
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, store| store.strong_count() > 0);
        if let Some(store) = named.get(name).and_then(Weak::upgrade) {
            return Self::on(store);
        }
        let memory = Self::new(config);
        named.insert(name.to_owned(), Arc::downgrade(&memory.store));
        memory
    }

    /// Begins or ends an outage: until it ends, every operation on every instance answers [`Kind::Transient`]. Watches are
    /// lost when it begins.
    pub fn set_outage(&self, outage: bool) {
        self.store.outage.store(outage, Ordering::SeqCst);
        if outage {
            self.lose_watches();
        }
    }

    /// Ends every watch on the store with [`Event::Lost`], as a connection that breaks would.
    pub fn lose_watches(&self) {
        self.store.watches.lose();
    }

    /// Watches on the store that are not over.
    pub fn watches(&self) -> usize {
        self.store.watches.len()
    }

    /// Bytes of all keys and values held, expired ones included until somebody meets them.
    pub fn bytes(&self) -> u64 {
        self.store.bytes.load(Ordering::SeqCst)
    }

    /// Runs `work` when the future is polled: a future that is dropped before has done nothing.
    fn answer<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        cx: &'a Cx<'a>,
        work: impl FnOnce(&'a Store) -> Result<T, BackendError> + Send + 'a,
    ) -> Fut<'a, T> {
        Box::pin(async move {
            if cx.deadline.has_passed() {
                return Err(BackendError::timeout(operation).on("memory"));
            }
            if self.store.outage.load(Ordering::SeqCst) {
                return Err(BackendError::new(Kind::Transient, operation, "the store is out of reach").on("memory"));
            }
            work(&self.store).map_err(|error| error.on("memory"))
        })
    }
}

impl Store {
    fn shard(&self, key: &[u8]) -> &RwLock<Shard> {
        &self.shards[(crate::sample::mix(fnv1a(key)) % SHARDS as u64) as usize]
    }

    /// When a life that begins now ends. One that goes beyond the clock never does.
    fn end_of(&self, ttl: Ttl) -> Option<Duration> {
        self.clock.now().checked_add(Duration::from_millis(ttl.as_ms()?))
    }

    fn is_over(&self, expires: Option<Duration>) -> bool {
        expires.is_some_and(|expires| expires <= self.clock.now())
    }

    fn live<'s>(&self, shard: &'s Shard, key: &[u8]) -> Option<&'s Entry> {
        shard.entries.get(key).filter(|entry| !self.is_over(entry.expires))
    }

    fn find(&self, key: &[u8]) -> Option<Entry> {
        self.live(&read(self.shard(key)), key).cloned()
    }

    /// As [`Self::find`], with what is past its life and inside its stale window.
    fn find_dated(&self, key: &[u8]) -> Option<Entry> {
        read(self.shard(key)).entries.get(key).filter(|entry| !self.is_over(entry.gone)).cloned()
    }

    /// Stores `value` for `instance` if `may` agrees with what is there, and tells whether it did.
    fn put(
        &self,
        instance: u64,
        operation: Operation,
        key: &[u8],
        value: Bytes,
        life: Life,
        may: impl Fn(Option<&Entry>) -> bool,
    ) -> Result<bool, BackendError> {
        if key.len() as u64 > u64::from(self.config.max_key) || value.len() as u64 > self.config.max_value {
            return Err(BackendError::new(Kind::TooLarge, operation, "key or value is beyond the limits of the store"));
        }
        let size = (key.len() + value.len()) as u64;
        if !self.reserve(size) {
            self.drop_expired();
            if !self.reserve(size) {
                return Err(BackendError::new(Kind::Throttled, operation, "the store holds `max_bytes` already"));
            }
        }
        let mut shard = write(self.shard(key));
        if !may(self.live(&shard, key)) {
            self.release(size);
            return Ok(false);
        }
        // Drawn under the lock of the shard, so that versions of a key rise in the order of its writes.
        let version = Version(u128::from(self.writes.fetch_add(1, Ordering::Relaxed)));
        let expires = self.end_of(life.ttl);
        let gone = expires.and_then(|end| end.checked_add(Duration::from_millis(life.stale_ms)));
        let before = shard.entries.insert(key.into(), Entry { value, version, expires, gone });
        if let Some(before) = before {
            self.release((key.len() + before.value.len()) as u64);
        }
        drop(shard);
        self.watches.tell(instance, Event::Changed(Key::from_wire(key)));
        Ok(true)
    }

    fn remove(&self, instance: u64, key: &[u8]) -> bool {
        let mut shard = write(self.shard(key));
        let was_live = self.live(&shard, key).is_some();
        let removed = shard.entries.remove(key);
        drop(shard);
        if let Some(entry) = removed {
            self.release((key.len() + entry.value.len()) as u64);
            self.watches.tell(instance, Event::Changed(Key::from_wire(key)));
        }
        was_live
    }

    fn reserve(&self, size: u64) -> bool {
        let within = |bytes: u64| bytes.checked_add(size).filter(|bytes| *bytes <= self.config.max_bytes);
        self.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, within).is_ok()
    }

    fn release(&self, size: u64) {
        self.bytes.fetch_sub(size, Ordering::SeqCst);
    }

    fn drop_expired(&self) {
        for shard in &self.shards {
            write(shard).entries.retain(|key, entry| {
                let over = self.is_over(entry.gone);
                if over {
                    self.release((key.len() + entry.value.len()) as u64);
                }
                !over
            });
        }
    }

    fn page(&self, prefix: &[u8], cursor: Option<&[u8]>, max: usize) -> Page {
        // A cursor is the last key of the page before. One that was made up only moves the start.
        let start = match cursor {
            Some(cursor) if cursor >= prefix => Bound::Excluded(cursor),
            _ => Bound::Included(prefix),
        };
        let mut keys = Vec::new();
        for shard in &self.shards {
            let shard = read(shard);
            let listed = shard.entries.range::<[u8], _>((start, Bound::Unbounded));
            let listed = listed.take_while(|(key, _)| key.starts_with(prefix));
            let listed = listed.filter(|(_, entry)| !self.is_over(entry.expires));
            keys.extend(listed.take(max).map(|(key, _)| Bytes::copy_from_slice(key)));
        }
        keys.sort_unstable();
        keys.truncate(max);
        let next = if keys.len() == max { keys.last().cloned() } else { None };
        Page { items: keys, next }
    }

    fn clear(&self, instance: u64, prefix: &[u8]) -> u64 {
        let mut cleared = 0;
        for shard in &self.shards {
            write(shard).entries.retain(|key, entry| {
                if !key.starts_with(prefix) {
                    return true;
                }
                self.release((key.len() + entry.value.len()) as u64);
                cleared += u64::from(!self.is_over(entry.expires));
                false
            });
        }
        // Each key could be named; a store that clears a million says this.
        self.watches.tell(instance, Event::Everything);
        cleared
    }

    fn lock(&self, key: &[u8], token: &[u8], hold: Ttl) -> Result<bool, BackendError> {
        let mut shard = write(self.shard(key));
        if shard.leases.len() >= MAX_LEASES {
            shard.leases.retain(|_, lease| !self.is_over(lease.expires));
            if shard.leases.len() >= MAX_LEASES {
                return Err(BackendError::new(Kind::Throttled, Operation::Lock, "too many leases are held"));
            }
        }
        let lease = Lease { token: token.into(), expires: self.end_of(hold) };
        Ok(match shard.leases.entry(key.into()) {
            Slot::Vacant(slot) => {
                slot.insert(lease);
                true
            }
            Slot::Occupied(mut slot) if self.is_over(slot.get().expires) => {
                slot.insert(lease);
                true
            }
            Slot::Occupied(_) => false,
        })
    }

    fn unlock(&self, key: &[u8], token: &[u8]) -> bool {
        let mut shard = write(self.shard(key));
        let held = shard.leases.get(key).is_some_and(|lease| *lease.token == *token && !self.is_over(lease.expires));
        if held {
            shard.leases.remove(key);
        }
        held
    }
}

/// Nothing panics while a shard is locked, so a poisoned lock still guards consistent data.
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

impl Open for Memory {
    type Config = MemoryConfig;

    fn open(config: MemoryConfig, host: HostServices) -> Result<Self, BackendError> {
        if config.max_key == 0 {
            return Err(BackendError::new(Kind::Config, Operation::Open, "max_key = 0: must be at least 1"));
        }
        let memory = match config.name.clone() {
            Some(name) => Self::named(config, &name),
            None => Self::new(config),
        };
        Ok(Self { host: Some(host), ..memory })
    }
}

/// With everything a case may ask for.
impl Harness for Memory {
    fn open(&self) -> Opened {
        Ok(Arc::new(self.clone()))
    }

    fn open_isolated(&self) -> Option<Opened> {
        let clock = Arc::clone(&self.store.clock);
        Some(Ok(Arc::new(Self::with_clock(self.store.config.clone(), clock))))
    }

    fn open_unreachable(&self) -> Option<Opened> {
        let memory = Self::default();
        memory.set_outage(true);
        Some(Ok(Arc::new(memory)))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        Some(Self::open_json(json, HostServices::none()).map(|memory| Arc::new(memory) as Arc<dyn Backend>))
    }

    fn options_schema(&self) -> Option<serde_json::Value> {
        Some(Self::schema())
    }
}

impl Backend for Memory {
    fn limits(&self) -> Limits {
        let MemoryConfig { max_key, max_value, .. } = &self.store.config;
        let (max_key, max_value) = (*max_key, *max_value);
        Limits::new(max_key, max_value).with_enumerates(Enumerates::Keys)
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.answer(Operation::Get, cx, move |store| Ok(store.find(key.as_bytes()).map(|entry| entry.value)))
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.answer(Operation::Set, cx, move |store| {
            store.put(self.instance, Operation::Set, key.as_bytes(), value, ttl.into(), |_| true).map(|_| ())
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.answer(Operation::Delete, cx, move |store| Ok(store.remove(self.instance, key.as_bytes())))
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.answer(Operation::Exists, cx, move |store| Ok(store.find(key.as_bytes()).is_some()))
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.answer(Operation::Health, cx, move |store| {
            let begun = Instant::now();
            let entries: usize = store.shards.iter().map(|shard| read(shard).entries.len()).sum();
            let health = Health::up("memory", begun.elapsed()).with_detail("entries", entries);
            Ok(match self.host.as_ref().and_then(HostServices::activity) {
                Some(CacheActivity { l1_enabled, l1_hits, l2_hits, misses }) => {
                    let numbers = serde_json::json!({
                        "l1_enabled": l1_enabled, "l1_hits": l1_hits, "l2_hits": l2_hits, "misses": misses,
                    });
                    health.with_detail("activity", numbers)
                }
                None => health,
            })
        })
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        // An instance holds nothing but a share of the store, which the others may still need.
        self.answer(Operation::Close, cx, |_| Ok(()))
    }

    fn batch(&self) -> Option<&dyn Batch> {
        Some(self)
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        Some(self)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }

    fn cas(&self) -> Option<&dyn Cas> {
        Some(self)
    }

    fn scan(&self) -> Option<&dyn Scan> {
        Some(self)
    }

    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }

    fn freshness(&self) -> Option<&dyn Freshness> {
        Some(self)
    }
}
