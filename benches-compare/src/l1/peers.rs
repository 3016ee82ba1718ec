//! One small face over all contenders: a fresh value in, a borrowed look at it out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_core::clock::{Clock, SystemClock};
use cachekit_core::key::WireKeyRef;
use cachekit_core::l1::{Epoch, KeyHash, L1, L1Config, Life, Scope};

use super::{KEY_BYTES, VALUE_BYTES};

const HOUR: Duration = Duration::from_secs(3600);
const HASHER: fn() -> foldhash::fast::RandomState = foldhash::fast::RandomState::default;

/// A cache of bytes by bytes.
pub trait Peer: Send + Sync {
    /// As reports call it.
    const NAME: &'static str;

    /// Room for this many entries of the bench's size.
    fn with_room_for(entries: usize) -> Self;

    /// The first byte of the value, so that the value is touched and let go of again.
    fn first_byte(&self, key: &[u8]) -> Option<u8>;

    /// Keeps a value.
    fn insert(&self, key: &[u8], value: Bytes);

    /// How many entries it holds, once it has caught up with its own work.
    fn entries(&self) -> u64;
}

/// Ours: [`L1`] with an expiry an hour away, a namespace epoch, a budget of bytes and its counters.
pub struct Ours {
    l1: L1,
    scope: Scope,
    life: Life,
}

/// What our tier charges for an entry beyond key and value.
const OVERHEAD: usize = 152;

/// What all keys of the bench begin with, as all keys of a namespace do: the engine hashes it once, not with every key.
const PREFIX: &[u8] = b"ck:users:";

impl Ours {
    /// The tier itself.
    pub fn tier(&self) -> &L1 {
        &self.l1
    }

    /// A key as the engine hands it over: in two parts, hashed from where the namespace ends.
    #[inline]
    pub fn name<'a>(&self, key: &'a [u8]) -> (KeyHash, WireKeyRef<'a>) {
        let (prefix, rest) = key.split_at(PREFIX.len());
        (self.scope.hash(rest), WireKeyRef::new(prefix, rest))
    }

    /// The same, naming so many of the keys that are asked for most.
    pub fn counting(self, hot_keys: usize) -> Self {
        Self { l1: self.l1.with_hot_keys(hot_keys), ..self }
    }

    /// The life of its entries.
    pub fn life(&self) -> Life {
        self.life
    }
}

/// The namespace of every entry here.
pub const EPOCH: Epoch = Epoch(7);

impl Peer for Ours {
    const NAME: &'static str = "cachekit L1";

    fn with_room_for(entries: usize) -> Self {
        // The bound is bytes. 8 % of it goes to remembering who was evicted, which a program would not notice, but which
        // here would be fewer entries than the peers have.
        let bytes = (entries * (KEY_BYTES + VALUE_BYTES + OVERHEAD)) as f64 / 0.92;
        let expires_at_ms = SystemClock.coarse_ms() + HOUR.as_millis() as u64;
        let l1 = L1::new(L1Config::with_max_bytes(bytes as u64), Arc::new(SystemClock));
        Self { scope: l1.scope(PREFIX), l1, life: Life { fresh_until_ms: expires_at_ms, expires_at_ms } }
    }

    #[inline]
    fn first_byte(&self, key: &[u8]) -> Option<u8> {
        let (hash, key) = self.name(key);
        self.l1.read(hash, key, EPOCH, |stored| stored.first().copied())?
    }

    #[inline]
    fn insert(&self, key: &[u8], value: Bytes) {
        let (hash, _) = self.name(key);
        let _kept = self.l1.insert(hash, key, EPOCH, value, self.life, None, 0);
    }

    fn entries(&self) -> u64 {
        self.l1.stats().entries
    }
}

type QuickCache<V> = quick_cache::sync::Cache<Box<[u8]>, V, quick_cache::UnitWeighter, foldhash::fast::RandomState>;

fn quick_cache<V: Clone>(entries: usize) -> QuickCache<V> {
    let lifecycle = quick_cache::sync::DefaultLifecycle::default();
    QuickCache::with(entries, entries as u64, quick_cache::UnitWeighter, HASHER(), lifecycle)
}

/// `quick_cache` alone: no expiry.
pub struct Quick(QuickCache<Bytes>);

impl Peer for Quick {
    const NAME: &'static str = "quick_cache";

    fn with_room_for(entries: usize) -> Self {
        Self(quick_cache(entries))
    }

    #[inline]
    fn first_byte(&self, key: &[u8]) -> Option<u8> {
        self.0.get(key)?.first().copied()
    }

    #[inline]
    fn insert(&self, key: &[u8], value: Bytes) {
        self.0.insert(key.into(), value);
    }

    fn entries(&self) -> u64 {
        self.0.len() as u64
    }
}

/// `quick_cache` with the expiry everyone writes: an instant beside the value.
pub struct QuickExpiring(QuickCache<(Bytes, Instant)>);

impl Peer for QuickExpiring {
    const NAME: &'static str = "quick_cache + Instant";

    fn with_room_for(entries: usize) -> Self {
        Self(quick_cache(entries))
    }

    #[inline]
    fn first_byte(&self, key: &[u8]) -> Option<u8> {
        let (value, expires_at) = self.0.get(key)?;
        (Instant::now() < expires_at).then(|| value.first().copied())?
    }

    #[inline]
    fn insert(&self, key: &[u8], value: Bytes) {
        self.0.insert(key.into(), (value, Instant::now() + HOUR));
    }

    fn entries(&self) -> u64 {
        self.0.len() as u64
    }
}

/// `lru` behind a mutex: no expiry.
pub struct Lru(Mutex<lru::LruCache<Box<[u8]>, Bytes, foldhash::fast::RandomState>>);

impl Peer for Lru {
    const NAME: &'static str = "Mutex<lru>";

    fn with_room_for(entries: usize) -> Self {
        let entries = std::num::NonZeroUsize::new(entries).expect("room for something");
        Self(Mutex::new(lru::LruCache::with_hasher(entries, HASHER())))
    }

    #[inline]
    fn first_byte(&self, key: &[u8]) -> Option<u8> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()?;
        value.first().copied()
    }

    #[inline]
    fn insert(&self, key: &[u8], value: Bytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(key.into(), value);
    }

    fn entries(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

type MokaCache<V> = moka::sync::Cache<Box<[u8]>, V, foldhash::fast::RandomState>;

/// `moka` alone: no expiry.
pub struct Moka(MokaCache<Bytes>);

impl Peer for Moka {
    const NAME: &'static str = "moka";

    fn with_room_for(entries: usize) -> Self {
        Self(moka::sync::Cache::builder().max_capacity(entries as u64).build_with_hasher(HASHER()))
    }

    #[inline]
    fn first_byte(&self, key: &[u8]) -> Option<u8> {
        self.0.get(key)?.first().copied()
    }

    #[inline]
    fn insert(&self, key: &[u8], value: Bytes) {
        self.0.insert(key.into(), value);
    }

    fn entries(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

/// `moka` with an expiry per entry.
pub struct MokaExpiring(MokaCache<Bytes>);

struct InAnHour;

impl moka::Expiry<Box<[u8]>, Bytes> for InAnHour {
    fn expire_after_create(&self, _: &Box<[u8]>, _: &Bytes, _: Instant) -> Option<Duration> {
        Some(HOUR)
    }
}

impl Peer for MokaExpiring {
    const NAME: &'static str = "moka + Expiry";

    fn with_room_for(entries: usize) -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(entries as u64).expire_after(InAnHour);
        Self(builder.build_with_hasher(HASHER()))
    }

    #[inline]
    fn first_byte(&self, key: &[u8]) -> Option<u8> {
        self.0.get(key)?.first().copied()
    }

    #[inline]
    fn insert(&self, key: &[u8], value: Bytes) {
        self.0.insert(key.into(), value);
    }

    fn entries(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}
