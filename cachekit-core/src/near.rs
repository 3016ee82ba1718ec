//! What a cache has in its own process: everything that a change by somebody else may touch, and nothing of the store.
//!
//! Apart from the engine, because events come on threads of a backend. A thread that held the last handle of the engine
//! would end the backend from inside of its own call; of this it may hold the last one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cachekit_plugin::{CacheActivity, Limits};

use crate::background::Background;
use crate::behind::Pending;
use crate::cache::Settings;
use crate::clock::Clock;
use crate::coherence::DOUBT;
use crate::coherence::shortened::Shortened;
use crate::fresh::Fresh;
use crate::fresh::underway::Underway;
use crate::guard::flight::Flights;
use crate::invalidate::{NamespaceSlot, Ticket, Writes};
use crate::key::{EpochOf, PREFIX, WireKey, epoch_of};
use crate::l1::{KeyHash, L1};
use crate::observe::Counters;

pub(crate) struct Near {
    pub(crate) l1: L1,
    pub(crate) writes: Writes,
    pub(crate) flights: Flights,
    pub(crate) counters: Counters,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) closed: AtomicBool,
    /// Of the store; `None` without one.
    pub(crate) limits: Option<Limits>,
    pub(crate) shortened: Shortened,
    /// What runs without a caller.
    pub(crate) background: Background,
    /// What was accepted and is not in the store yet.
    pub(crate) pending: Arc<Pending>,
    /// What age means.
    pub(crate) fresh: Fresh,
    /// Which keys are being refreshed.
    pub(crate) underway: Arc<Underway>,
    /// That tickets are taken as if they were new, to see what they are good for.
    #[cfg(test)]
    pub(crate) careless: AtomicBool,
}

impl Near {
    /// What to note before the store is asked for a key, or told its value.
    pub(crate) fn ticket(&self, slot: NamespaceSlot, wire: &WireKey, hash: KeyHash) -> Ticket {
        // The epoch is read first. Whoever ends vouching changes the epochs afterwards, so a ticket that still believes in it
        // has an epoch that is over.
        let ticket = self.writes.ticket(slot, hash);
        ticket.with_vouched(
            self.settings.is_vouchable
                && self.l1.is_vouched_for()
                && !self.is_in_doubt(hash)
                && self.will_be_told(wire, hash),
        )
    }

    /// A write of this key through our instance of the store was given up: if it lands yet, nobody is told.
    pub(crate) fn doubt(&self, hash: KeyHash) {
        self.writes.doubt(hash, self.doubted_until_ms());
    }

    /// The same for all keys at once.
    pub(crate) fn doubt_all(&self) {
        self.writes.doubt_all(self.doubted_until_ms());
    }

    fn doubted_until_ms(&self) -> u64 {
        self.clock.coarse_ms().saturating_add(u64::try_from(DOUBT.as_millis()).unwrap_or(u64::MAX))
    }

    fn is_in_doubt(&self, hash: KeyHash) -> bool {
        let until_ms = self.writes.doubted_until_ms(hash);
        // No clock is read for the many keys of which no write was ever given up.
        until_ms != 0 && self.clock.coarse_ms() < until_ms
    }

    /// Whether a change of this key would be understood.
    fn will_be_told(&self, wire: &WireKey, hash: KeyHash) -> bool {
        let Some(limits) = self.limits.as_ref().filter(|_| wire.as_bytes().starts_with(PREFIX)) else { return false };
        match wire.shortened(limits) {
            None => true,
            Some(Ok(store_key)) => {
                let now_ms = self.clock.coarse_ms();
                self.shortened.remember(&store_key, hash, now_ms, |hash| self.l1.holds(hash))
            }
            Some(Err(_)) => false,
        }
    }

    /// Somebody changed what the store has under this key.
    pub(crate) fn changed(&self, store_key: &[u8]) {
        self.counters.changes_told.add();
        let hash = self.shortened.find(store_key).unwrap_or_else(|| self.l1.hash(store_key));
        // In this order: what is on its way is too late before what is there goes.
        self.writes.tell(hash);
        self.flights.detach(hash);
        if self.l1.forget(hash) {
            self.counters.changes_forgotten.add();
        }
        self.epoch_changed(store_key);
    }

    /// What hangs on a key that is an epoch: loads that began before are not joined any more, and of a namespace nothing is
    /// served.
    fn epoch_changed(&self, store_key: &[u8]) {
        let Some(of) = epoch_of(store_key) else { return };
        if let EpochOf::Namespace(namespace) = of {
            self.writes.new_epoch(self.writes.slot(&namespace));
        }
        self.flights.detach_all();
    }

    /// Another cache on the same instance of the store changed this key.
    pub(crate) fn changed_beside(&self, wire: &[u8]) {
        let hash = self.l1.hash(wire);
        self.writes.advance(hash);
        self.flights.detach(hash);
        self.l1.forget(hash);
        self.epoch_changed(wire);
    }

    /// Anything may have changed.
    pub(crate) fn everything_changed(&self) {
        self.counters.changes_told.add();
        self.forget_everything();
    }

    /// Nothing that is in L1, or on its way there, is served any more.
    pub(crate) fn forget_everything(&self) {
        self.writes.new_epochs();
        self.flights.detach_all();
    }

    /// What backends may ask about the cache above them.
    pub(crate) fn activity(&self) -> CacheActivity {
        CacheActivity {
            l1_enabled: self.settings.use_l1,
            l1_hits: if self.settings.use_l1 { self.l1.stats().hits } else { 0 },
            l2_hits: self.counters.l2_hits.get(),
            misses: self.counters.l2_misses.get(),
        }
    }
}
