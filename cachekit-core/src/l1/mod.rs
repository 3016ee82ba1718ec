//! The in-process tier: stored bytes by wire key, under a budget of bytes that nothing can exceed.
//!
//! First in the line of a get, after `key` and before `guard`. It protects the caller's latency (a hit takes tens of
//! nanoseconds and waits for nobody's I/O) and the host's memory (the budget covers keys, values, typed copies and the
//! bookkeeping, and is held at insert, not by a task that comes later). It never returns
//! - the value of another key: the whole key is kept and compared, so a hash collision is a miss;
//! - a value that was overwritten, removed, or outlived: an insert that is refused drops the older value as well;
//! - a value of another epoch: to invalidate a namespace is to change a number, however many entries it had.
//!
//! ```text
//! mod.rs     the operations, told in order       policy.rs   budget -> shards, charges, evictions
//! entry.rs   one entry, and the hit on it        look.rs     a lookup, taken where the entry lies
//! name.rs    wire keys in two parts, hashed      stats.rs    counters that cost a hit nothing
//! event.rs   who hears of what leaves            hot.rs      which keys are asked for most
//! slack.rs   weights that are no charges
//! ```

mod entry;
mod event;
mod hot;
mod look;
mod name;
mod policy;
mod slack;
mod stats;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::clock::{Clock, Ticks};
use crate::key::WireKeyRef;
use entry::Entry;
pub use entry::{Epoch, Hit, Life, Typed};
use event::Listening;
pub use event::{Cause, Departure, EventListener};
pub use hot::HotKey;
use hot::HotKeys;
use look::{Hashed, Look, Named, Outlived};
pub use name::KeyHash;
use name::KeyHasher;
pub use name::Scope;
use policy::{Budget, Departed, Slot, Store};
use slack::Slack;
pub use stats::L1Stats;
use stats::{Counters, Event};

/// The bounds of the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Config {
    /// Bytes of memory, all told: keys, stored bytes, typed copies, 152 bytes of bookkeeping per entry.
    pub max_bytes: u64,
    /// Number of entries. `None`: as many as fit `max_bytes`.
    ///
    /// Both bounds always hold. Where small and large entries mix, the tier may count as full before either is reached,
    /// though not before one of them is about half used.
    pub max_entries: Option<u64>,
    /// No entry may take more than one n-th of `max_bytes`; a larger one is refused. A smaller share also allows more
    /// shards, because a shard must hold the largest entry: at 8 there are at most 4, at 64 at most 32. At 1 an entry may
    /// take what one shard can give, nine tenths of `max_bytes`.
    pub max_entry_share: NonZeroU32,
}

impl L1Config {
    /// Bounded by bytes alone, an entry by an eighth of them.
    pub const fn with_max_bytes(max_bytes: u64) -> Self {
        const EIGHTH: NonZeroU32 = NonZeroU32::new(8).unwrap();
        Self { max_bytes, max_entries: None, max_entry_share: EIGHTH }
    }
}

/// What a lookup for a decoded value found.
pub enum Seen<T> {
    /// The decoded copy, and whether it was fresh.
    Decoded(Arc<T>, bool),
    /// The entry, which has no decoded copy of this type yet, or has tags that are to be asked.
    Stored(Hit),
}

/// What became of an inserted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// It is in the tier.
    Kept,
    /// It is larger than its share. No value of this key is in the tier.
    TooLarge,
    /// It replaced an older value, and among what was then too much it was the least used itself. No value of this key is
    /// in the tier.
    Displaced,
}

/// The in-process tier. Share it behind an `Arc`.
pub struct L1 {
    store: Store,
    budget: Budget,
    max_bytes: u64,
    hasher: KeyHasher,
    clock: Ticks,
    counters: Counters,
    slack: Slack,
    listening: Option<Arc<Listening>>,
    hot: Option<HotKeys>,
    /// Until when entries of a [vouched](Epoch::vouched) epoch are served, coarse milliseconds. An end that has to be moved
    /// on, not a switch: whoever should move it may be stopped, or in another process after `fork()`.
    vouched_until_ms: AtomicU64,
}

impl L1 {
    /// An empty tier. A budget of 0, in bytes or in entries, makes one that refuses everything.
    pub fn new(config: L1Config, clock: Arc<dyn Clock>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let budget = Budget::new(&config, cores);
        Self {
            store: budget.build(),
            budget,
            max_bytes: config.max_bytes,
            hasher: KeyHasher::default(),
            clock: Ticks::of(clock),
            counters: Counters::new(),
            slack: Slack::new(),
            listening: None,
            hot: None,
            vouched_until_ms: AtomicU64::new(0),
        }
    }

    /// Tells `listener` of every entry that leaves from now on.
    #[must_use]
    pub fn with_listener(mut self, listener: Arc<dyn EventListener>) -> Self {
        self.listening = Some(Arc::new(Listening::new(listener)));
        self
    }

    /// Counts which keys are asked for most; 0: none. See [`Self::hot_keys`].
    #[must_use]
    pub fn with_hot_keys(mut self, keys: usize) -> Self {
        self.hot = (keys > 0).then(|| HotKeys::new(keys));
        self
    }

    /// The `n` keys that are asked for most, hits and misses alike, the most frequent first; none unless the tier counts them.
    /// By samples: one lookup in sixteen is looked at.
    pub fn hot_keys(&self, n: usize) -> Vec<HotKey> {
        self.hot.as_ref().map_or_else(Vec::new, |hot| hot.top(n))
    }

    /// Serves what is vouched for until then.
    pub(crate) fn vouch_until(&self, until_ms: u64) {
        self.vouched_until_ms.store(until_ms, Ordering::SeqCst);
    }

    /// Until when entries that are vouched for are served; 0: nobody vouches.
    pub(crate) fn vouched_until_ms(&self) -> u64 {
        self.vouched_until_ms.load(Ordering::SeqCst)
    }

    /// Whether entries that are vouched for are served.
    pub(crate) fn is_vouched_for(&self) -> bool {
        self.clock.coarse_ms() < self.vouched_until_ms()
    }

    /// Hashes a wire key, once per operation. The seed is random, so nobody outside can prepare keys that collide.
    #[inline]
    pub fn hash(&self, wire_key: &[u8]) -> KeyHash {
        self.hasher.hash(wire_key)
    }

    /// What hashes the keys of one namespace, whose wire keys all begin with `prefix`: the beginning is hashed here, once.
    pub fn scope(&self, prefix: &[u8]) -> Scope {
        self.hasher.scope(prefix)
    }

    /// Looks a key up. An entry that is over, or of another epoch, is dropped on the way.
    #[inline]
    pub fn get<'a>(&self, hash: KeyHash, wire_key: impl Into<WireKeyRef<'a>>, epoch: Epoch) -> Option<Hit> {
        let key = self.asked_for(hash, wire_key.into());
        self.counted(self.look_up(hash, key, epoch, Hit::on))
    }

    /// As [`Self::get`], for who only looks: `read` gets the stored bytes where they lie, and no reference count is taken. A
    /// writer of the same shard waits for `read`, so it is to be short, and must not come back to this tier.
    #[inline]
    pub fn read<'a, R>(
        &self,
        hash: KeyHash,
        wire_key: impl Into<WireKeyRef<'a>>,
        epoch: Epoch,
        read: impl Fn(&[u8]) -> R,
    ) -> Option<R> {
        let key = self.asked_for(hash, wire_key.into());
        self.counted(self.look_up(hash, key, epoch, |entry, _| read(entry.stored())))
    }

    /// As [`Self::get`], for who wants the decoded copy: where there is one, the entry itself is not touched.
    #[inline]
    pub fn get_typed<'a, T: Any + Send + Sync>(
        &self,
        hash: KeyHash,
        wire_key: impl Into<WireKeyRef<'a>>,
        epoch: Epoch,
    ) -> Option<Seen<T>> {
        let take = |entry: &Entry, fresh| match entry.typed() {
            // Whether its tags hold is written in the entry.
            Some(value) if !entry.epoch().is_tagged() => Seen::Decoded(value, fresh),
            _ => Seen::Stored(Hit::on(entry, fresh)),
        };
        let key = self.asked_for(hash, wire_key.into());
        self.counted(self.look_up(hash, key, epoch, take))
    }

    /// As [`Self::get`], for the engine's own purposes: no hit and no miss.
    pub(crate) fn peek(&self, hash: KeyHash, wire_key: &[u8], epoch: Epoch) -> Option<Hit> {
        self.look_up(hash, wire_key.into(), epoch, Hit::on)
    }

    #[inline]
    fn asked_for<'a>(&self, hash: KeyHash, key: WireKeyRef<'a>) -> WireKeyRef<'a> {
        if let Some(hot) = &self.hot {
            hot.saw(hash, key);
        }
        key
    }

    #[inline]
    fn counted<R>(&self, found: Option<R>) -> Option<R> {
        self.counters.count(if found.is_some() { Event::Hit } else { Event::Miss });
        found
    }

    #[inline]
    fn look_up<R>(
        &self,
        hash: KeyHash,
        key: WireKeyRef<'_>,
        epoch: Epoch,
        take: impl Fn(&Entry, bool) -> R,
    ) -> Option<R> {
        let look = Look { l1: self, hash, key, epoch, take, taken: Cell::new(None) };
        let met = self.store.get(&look).is_some();
        let taken = look.taken.into_inner();
        if met && taken.is_none() {
            self.drop_outlived(hash, key, epoch);
        }
        taken
    }

    /// Drops the entry of a key if it is over.
    #[cold]
    fn drop_outlived(&self, hash: KeyHash, key: WireKeyRef<'_>, epoch: Epoch) {
        if let Some((Slot(entry), ())) = self.store.remove_if(&Outlived { l1: self, hash, key, epoch }, |()| true) {
            let cause = if look::is_current(self, &entry, epoch) { Cause::Expired } else { Cause::Invalidated };
            self.leave(entry, cause, Event::Expired);
        }
    }

    /// An entry has left by itself, and no lock is held.
    fn leave(&self, entry: Entry, cause: Cause, counted: Event) {
        self.release_slack(&entry);
        self.counters.count(counted);
        let mut departed = self.departed();
        departed.keep(entry, cause);
    }

    fn departed(&self) -> Departed {
        let mut departed = Departed::default();
        departed.listening.clone_from(&self.listening);
        departed
    }

    /// Keeps a value, in place of any older one of its key. Whatever the answer, the older value is gone.
    ///
    /// Charged are the key, the stored bytes, `reserve`, 152 bytes of bookkeeping, and another 128 for a value that with its
    /// key passes 768 bytes or has room for a typed copy. `reserve` is the size of the typed copy, given now or attached to
    /// a hit later; with 0 none can be attached. A value inserted here must own no more memory than it shows: a `Bytes` cut
    /// out of a large buffer holds the whole buffer, which the budget cannot see.
    #[allow(clippy::too_many_arguments)] // Each is a different type, and a struct would be built only to be taken apart.
    pub fn insert(
        &self,
        hash: KeyHash,
        wire_key: &[u8],
        epoch: Epoch,
        stored: Bytes,
        life: Life,
        typed: Option<Typed>,
        reserve: u64,
    ) -> Inserted {
        self.insert_deferring_drops(hash, wire_key, epoch, stored, life, typed, reserve).0
    }

    /// As [`Self::insert`], and hands out what left the tier: a typed copy's `Drop` is foreign code, so a caller that holds
    /// a lock lets go of it first. The hit is on the very entry that was inserted, which by the time a decoded copy is
    /// attached to it may no longer be the one in the tier.
    #[allow(clippy::too_many_arguments)] // As above.
    pub(crate) fn insert_deferring_drops(
        &self,
        hash: KeyHash,
        wire_key: &[u8],
        epoch: Epoch,
        stored: Bytes,
        life: Life,
        typed: Option<Typed>,
        reserve: u64,
    ) -> (Inserted, Hit, Departed) {
        let mut departed = self.departed();
        let charge = policy::charge(wire_key.len(), stored.len(), typed.is_some(), reserve);
        let entry = Entry::new(hash, wire_key, epoch, stored, life, typed, reserve);
        let hit = Hit::on(&entry, true);
        if !self.budget.admits(wire_key.len(), charge) {
            if let Some(entry) = self.take(hash, wire_key) {
                departed.keep(entry, Cause::Removed);
            }
            self.counters.count(Event::Refused);
            return (Inserted::TooLarge, hit, departed);
        }
        // An address, not a clone: `departed` keeps alive what left, so none of it can have been given this address since.
        let inserted = entry.address();
        departed.inserted = Some(inserted);
        self.slack.inserting(self.budget.slack(charge), || {
            self.store.insert_with_lifecycle(Slot(entry), (), &mut departed);
        });
        (self.account(inserted, &departed), hit, departed)
    }

    fn account(&self, inserted: usize, departed: &Departed) -> Inserted {
        let (mut replaced, mut evicted, mut displaced) = (0, 0, false);
        for (entry, cause) in departed.iter() {
            self.release_slack(entry);
            match cause {
                _ if entry.address() == inserted => displaced = true,
                Cause::Evicted => evicted += 1,
                _ => replaced += 1,
            }
        }
        if replaced > 0 {
            self.counters.add(Event::Replaced, replaced);
        }
        if evicted > 0 {
            self.counters.add(Event::Eviction, evicted);
        }
        if displaced {
            self.counters.count(Event::Refused);
            return Inserted::Displaced;
        }
        self.counters.count(Event::Insert);
        Inserted::Kept
    }

    /// Drops a key's value. Returns whether there was one, dead or alive.
    pub fn remove(&self, hash: KeyHash, wire_key: &[u8]) -> bool {
        let Some(entry) = self.take(hash, wire_key) else { return false };
        self.departed().keep(entry, Cause::Removed);
        true
    }

    /// Drops the value of the key that a hit was on, if there is one still.
    pub(crate) fn remove_hit(&self, hit: &Hit) -> bool {
        self.remove(hit.entry.hash(), hit.entry.key())
    }

    /// Drops whatever has this hash: for who knows no more of a key. Returns whether there was something.
    pub(crate) fn forget(&self, hash: KeyHash) -> bool {
        let Some((Slot(entry), ())) = self.store.remove(&Hashed(hash)) else { return false };
        self.leave(entry, Cause::Invalidated, Event::Removed);
        true
    }

    /// Whether something of this hash is held, dead or alive. Says nothing to the policy.
    pub(crate) fn holds(&self, hash: KeyHash) -> bool {
        self.store.contains_key(&Hashed(hash))
    }

    fn take(&self, hash: KeyHash, wire_key: &[u8]) -> Option<Entry> {
        let (Slot(entry), ()) = self.store.remove_if(&Named { hash, wire_key }, |()| true)?;
        self.release_slack(&entry);
        self.counters.count(Event::Removed);
        Some(entry)
    }

    /// The bound on bytes.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// What is held now, shard by shard, for a snapshot: hits that nobody counted, each with its key.
    pub(crate) fn walk(&self) -> impl Iterator<Item = (Vec<u8>, Epoch, Hit)> + '_ {
        self.store.iter().map(|(Slot(entry), ())| (entry.key().to_vec(), entry.epoch(), Hit::on(&entry, true)))
    }

    /// Drops every entry that was inserted before this call. To forget one namespace, change its epoch instead: that is
    /// one write, and this is a walk.
    pub fn clear(&self) {
        // One by one, not by the engine's own `clear`: that frees entries under the shard's lock, and a typed copy's `Drop`
        // is foreign code.
        for (Slot(entry), ()) in self.store.drain() {
            self.leave(entry, Cause::Removed, Event::Removed);
        }
    }

    /// What the tier did and holds. While other threads work, the numbers are each right but of slightly different moments.
    pub fn stats(&self) -> L1Stats {
        let sum = |event| self.counters.sum(event);
        L1Stats {
            hits: sum(Event::Hit),
            misses: sum(Event::Miss),
            expired: sum(Event::Expired),
            inserts: sum(Event::Insert),
            replaced: sum(Event::Replaced),
            refused: sum(Event::Refused),
            evictions: sum(Event::Eviction),
            removed: sum(Event::Removed),
            entries: self.store.len() as u64,
            bytes: self.slack.bytes(self.store.weight()),
            listener_panics: self.listening.as_ref().map_or(0, |listening| listening.panics.load(Ordering::Relaxed)),
        }
    }

    fn release_slack(&self, entry: &Entry) {
        self.slack.lower(self.budget.slack(policy::charge_of(entry)));
    }
}

impl fmt::Debug for L1 {
    /// The numbers; no keys, no values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1").field("budget", &self.budget).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
