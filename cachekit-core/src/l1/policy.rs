//! How a budget of bytes becomes shards, weights and evictions of the engine inside, `quick_cache`.
//!
//! `quick_cache` (a CLOCK-Pro: scan-resistant, no lock shared by readers of different shards) decides *who* leaves. This
//! file makes its bound *ours*, against four things its source does:
//! - each shard gets the capacity divided by the shards rounded **up**, so the shards' sum may pass the capacity;
//! - the shard count is rounded up to a power of two, and down again for small caches;
//! - an entry heavier than its hot part (97 % of a shard) is dropped without a word;
//! - it remembers evicted keys in slots ("ghosts") that no weight pays for.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::mem::size_of;
use std::sync::Arc;

use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::L1Config;
use super::entry::{self, Entry, Header, Side};
use super::event::{Cause, Departure, Listening};

/// The entry is part of the engine's *key*, and its value is nothing. A value is cloned while the shard is locked and only
/// then can be looked at: an atomic increment and decrement, even where all that is wanted is the decoded copy beside it. A
/// key is compared in place, by a comparison of our own, which takes out what is wanted ([`look`](super::look)). The hash stays in
/// the entry, for slots of 32 bytes, two to a cache line; with it beside the entry they would be 40.
pub(super) type Store =
    quick_cache::sync::Cache<Slot, (), ChargeWeighter, BuildHasherDefault<IdentityHasher>, Departures>;

/// An entry, which the engine knows by its hash: one entry per hash.
#[derive(Clone)]
pub(super) struct Slot(pub(super) Entry);

impl Hash for Slot {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash().hash(state);
    }
}

impl PartialEq for Slot {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.hash() == other.0.hash()
    }
}

impl Eq for Slot {}

/// A slot of the engine: 32 bytes in its slab and 5 in its hash table at a load of at most 7/8. Slab and table double as
/// they grow, so a slot costs between 38 and 75 bytes; the allocator counts too. With 80 the heap of a full tier measured 0.80 to 0.97 of
/// `max_bytes`.
const SLOT: u64 = 80;

/// What the allocator adds to one allocation, by its own header and by rounding to 16.
const ALLOCATION: u64 = 16;

/// Charged for every entry beyond its key and stored bytes.
pub(super) const ENTRY_OVERHEAD: u64 = SLOT + size_of::<(usize, Header, usize)>() as u64 + ALLOCATION;

/// Charged besides for an entry with a large value or a typed copy: the box that holds them, the value's own allocation and
/// the count by which `Bytes` shares it (32 with its allocation).
pub(super) const SIDE_OVERHEAD: u64 = size_of::<Side>() as u64 + ALLOCATION + ALLOCATION + 32;

/// The share of a shard that an entry may fill; `quick_cache`'s own default for its hot part.
const HOT: f64 = 0.97;

/// Guess of an entry's charge, to size the ghost list: half as many ghosts as entries of this size would fit.
const TYPICAL_CHARGE: u64 = 512;
const GHOSTS: f64 = 0.5;

/// Shards are not made smaller than this, in bytes and in entries: keys spread over shards by chance, and the emptier a
/// shard is meant to be, the more one overflows while another has room. 1024 ± 32 entries is 3 %.
const MIN_SHARD_BYTES: u64 = 256 * 1024;
const MIN_SHARD_ENTRIES: u64 = 1024;

/// What an entry is charged for: see the constants above for the parts.
pub(super) fn charge(key_len: usize, stored_len: usize, typed: bool, reserve: u64) -> u64 {
    let side = if entry::has_side(key_len, stored_len, typed, reserve) { SIDE_OVERHEAD } else { 0 };
    (key_len as u64).saturating_add(stored_len as u64).saturating_add(reserve).saturating_add(ENTRY_OVERHEAD + side)
}

pub(super) fn charge_of(entry: &Entry) -> u64 {
    let (side, reserve) = entry.side().map_or((false, 0), |side| (true, side.reserve()));
    charge(entry.key().len(), entry.stored_len(), side, reserve)
}

/// The numbers that follow from a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// A power of two.
    pub(super) shards: u64,
    pub(super) shard_bytes: u64,
    /// The largest charge that is kept.
    pub(super) largest: u64,
    /// The least weight of an entry, which is how `max_entries` is held: see [`weight_floor`].
    pub(super) floor: u64,
    estimated_entries: u64,
}

impl Budget {
    pub(super) fn new(config: &L1Config, cores: u64) -> Self {
        let max_entries = config.max_entries.unwrap_or(u64::MAX);
        let share = u64::from(config.max_entry_share.get());

        // What ghosts will occupy is taken off the top, 8 %; charging entries for it would be wrong for every size but one.
        let estimated_entries = (config.max_bytes / TYPICAL_CHARGE).min(max_entries);
        let ghosts = (estimated_entries as f64 * GHOSTS) as u64;
        let capacity = config.max_bytes - (ghosts * SLOT).min(config.max_bytes / 2);

        // The largest entry must fit the hot part of one shard, or it would vanish silently. `largest <= max_bytes / share`
        // leaves at most `share` shards; at the default share of 8 that is 4, of which the largest entry fills half.
        let by_size = (capacity as f64 * HOT) as u64 / (config.max_bytes / share).max(1);
        let by_population = (capacity / MIN_SHARD_BYTES).min(max_entries / MIN_SHARD_ENTRIES);
        let shards = floor_power_of_two((4 * cores).min(by_size).min(by_population));

        let shard_bytes = capacity / shards;
        let hot_bytes = (shard_bytes as f64 * HOT) as u64;
        let floor = config.max_entries.map_or(0, |entries| weight_floor(shard_bytes, entries / shards));
        // A floor that fits no shard means that no entry is allowed.
        let largest = if floor <= hot_bytes { hot_bytes.min(config.max_bytes / share) } else { 0 };
        Self { shards, shard_bytes, largest, floor, estimated_entries }
    }

    pub(super) fn admits(&self, key_len: usize, charge: u64) -> bool {
        // Nothing weighs 0, so `largest == 0` admits nothing.
        charge <= self.largest && u32::try_from(key_len).is_ok()
    }

    /// The part of an entry's weight that is not its charge.
    pub(super) fn slack(&self, charge: u64) -> u64 {
        self.floor.saturating_sub(charge)
    }

    pub(super) fn build(&self) -> Store {
        let options = OptionsBuilder::new()
            .shards(self.shards as usize)
            // `quick_cache` halves the shards while one would hold fewer than 32; our own minimum is higher.
            .estimated_items_capacity(self.estimated_entries as usize)
            // A multiple of the shards, so that rounding up adds nothing.
            .weight_capacity(self.shard_bytes * self.shards)
            .hot_allocation(HOT)
            .ghost_allocation(GHOSTS)
            .build()
            // Infallible: `build` fails only where a capacity is missing.
            .expect("both capacities are set");
        Store::with_options(options, ChargeWeighter { floor: self.floor }, BuildHasherDefault::default(), Departures)
    }
}

/// The least weight that lets at most `entries` into `bytes`: `entries + 1` of them are too heavy.
///
/// The engine has one bound, and this folds the second into it, exactly on the safe side: neither bound is ever passed. The
/// price is paid by mixed sizes: an entry lighter than the floor takes the room of the floor, so the cache may be full with
/// both bounds unreached (`bytes/max_bytes + entries/max_entries >= 1` holds when it is full: one of them is at least half).
/// Evicting by a count of our own was rejected: the engine cannot be asked for one victim, and a list beside it would put a
/// second lock into every insert.
fn weight_floor(bytes: u64, entries: u64) -> u64 {
    bytes / entries.saturating_add(1) + 1
}

fn floor_power_of_two(n: u64) -> u64 {
    1 << n.max(1).ilog2()
}

/// Weighs an entry by its charge. The weight of an entry never changes: room for a typed copy is charged at insert.
#[derive(Clone, Copy)]
pub(super) struct ChargeWeighter {
    floor: u64,
}

impl Weighter<Slot, ()> for ChargeWeighter {
    #[inline]
    fn weight(&self, slot: &Slot, (): &()) -> u64 {
        charge_of(&slot.0).max(self.floor)
    }
}

/// Hears of every entry that leaves by an insert.
#[derive(Clone, Copy)]
pub(super) struct Departures;

/// The entries that one operation made leave. They are freed, and told of, when this drops, after the shard's lock: a typed
/// copy runs its user's `Drop`, and a listener is foreign code too. Both may be slow, may panic, and may come back to this cache.
#[derive(Default)]
pub(crate) struct Departed {
    /// In place, so that the usual insert, which pushes out at most one, allocates nothing.
    first: Option<(Entry, Cause)>,
    rest: Vec<(Entry, Cause)>,
    /// The next to come leaves to make room.
    makes_room: bool,
    pub(super) listening: Option<Arc<Listening>>,
    /// The entry that was inserted by this operation, if it left at once: nobody was told that it came.
    pub(super) inserted: Option<usize>,
}

impl Departed {
    pub(super) fn keep(&mut self, entry: Entry, cause: Cause) {
        if self.first.is_none() {
            self.first = Some((entry, cause));
        } else {
            self.rest.push((entry, cause));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Entry, Cause)> {
        self.first.iter().chain(&self.rest)
    }
}

impl Drop for Departed {
    #[inline]
    fn drop(&mut self) {
        let Some(listening) = self.listening.take() else { return };
        for (entry, cause) in self.iter().filter(|(entry, _)| self.inserted != Some(entry.address())) {
            listening.tell(&Departure { wire_key: entry.key(), stored_len: entry.stored_len(), cause: *cause });
        }
    }
}

impl Lifecycle<Slot, ()> for Departures {
    type RequestState = Departed;

    /// Called for evictions alone; `on_evict` comes for replaced values too.
    #[inline]
    fn before_evict(&self, departed: &mut Departed, _: &Slot, (): &mut ()) {
        departed.makes_room = true;
    }

    #[inline]
    fn on_evict(&self, departed: &mut Departed, slot: Slot, (): ()) {
        let cause = if std::mem::take(&mut departed.makes_room) { Cause::Evicted } else { Cause::Replaced };
        departed.keep(slot.0, cause);
    }
}

/// Passes a [`KeyHash`] through: it is a hash already.
#[derive(Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Never called for a `KeyHash`; right, if slow, for anything else.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
