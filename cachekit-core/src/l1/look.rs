//! One look into the store, made where the entry lies.
//!
//! The store compares keys while its shard is locked for reading. [`Look`] is such a comparison, and what it finds it takes
//! out on the spot: a reference count of the entry, or of the decoded copy beside it and then none of the entry. Under the lock
//! there run a comparison of bytes, a reading of the clock and the taking of a reference count; no foreign code, and nothing
//! that waits.

use std::cell::Cell;
use std::hash::{Hash, Hasher};

use quick_cache::Equivalent;

use super::entry::{Age, Entry, Epoch};
use super::policy::Slot;
use super::{KeyHash, L1};
use crate::key::WireKeyRef;

/// A lookup on its way through the store. It meets one entry at most: the store knows entries by their hash.
pub(super) struct Look<'a, R, F> {
    pub(super) l1: &'a L1,
    pub(super) hash: KeyHash,
    pub(super) key: WireKeyRef<'a>,
    pub(super) epoch: Epoch,
    /// Takes out what is wanted; is told whether the entry is fresh.
    pub(super) take: F,
    /// What was taken. Nothing, although the store found something: an entry that is over or of another epoch.
    pub(super) taken: Cell<Option<R>>,
}

impl<R, F: Fn(&Entry, bool) -> R> Hash for Look<'_, R, F> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl<R, F: Fn(&Entry, bool) -> R> Equivalent<Slot> for Look<'_, R, F> {
    #[inline]
    fn equivalent(&self, slot: &Slot) -> bool {
        // Not the hash first: the store has compared seven bits of it, and the key decides.
        let same = self.key.is(slot.0.key());
        if same {
            match age(self.l1, &slot.0, self.epoch) {
                Age::Over => {}
                age => self.taken.set(Some((self.take)(&slot.0, age == Age::Fresh))),
            }
        }
        same
    }
}

/// How old an entry is for a reader of this epoch. One of another epoch is over.
#[inline]
fn age(l1: &L1, entry: &Entry, epoch: Epoch) -> Age {
    let kept = entry.epoch().untagged();
    // A value without an end needs no clock, unless somebody has to vouch for it.
    let now_ms = if entry.is_forever() && !kept.is_vouched() { 0 } else { l1.clock.coarse_ms() };
    if kept == epoch || (kept == epoch.vouched() && now_ms < l1.vouched_until_ms()) {
        entry.age(now_ms)
    } else {
        Age::Over
    }
}

/// Whether an entry is of this epoch. Outside of the way of a hit.
pub(super) fn is_current(l1: &L1, entry: &Entry, epoch: Epoch) -> bool {
    let kept = entry.epoch().untagged();
    kept == epoch || (kept == epoch.vouched() && l1.is_vouched_for())
}

/// The entry of a key if it is over, judged again where it lies: not a newer one that took its place since it was looked at.
pub(super) struct Outlived<'a> {
    pub(super) l1: &'a L1,
    pub(super) hash: KeyHash,
    pub(super) key: WireKeyRef<'a>,
    pub(super) epoch: Epoch,
}

impl Hash for Outlived<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl Equivalent<Slot> for Outlived<'_> {
    fn equivalent(&self, slot: &Slot) -> bool {
        slot.0.hash() == self.hash && self.key.is(slot.0.key()) && age(self.l1, &slot.0, self.epoch) == Age::Over
    }
}

/// Whatever entry has this whole key.
pub(super) struct Named<'a> {
    pub(super) hash: KeyHash,
    pub(super) wire_key: &'a [u8],
}

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl Equivalent<Slot> for Named<'_> {
    fn equivalent(&self, slot: &Slot) -> bool {
        slot.0.hash() == self.hash && slot.0.key() == self.wire_key
    }
}

/// Whatever has this hash.
pub(super) struct Hashed(pub(super) KeyHash);

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<Slot> for Hashed {
    fn equivalent(&self, slot: &Slot) -> bool {
        slot.0.hash() == self.0
    }
}
