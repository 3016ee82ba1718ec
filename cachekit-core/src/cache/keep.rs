//! What L1 keeps of an entry, and for how long: never what was overtaken, and unvouched for no longer than the cap.

#[cfg(test)]
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::tags::Stamp;
use super::{At, Cache};
use crate::codec::{Envelope, Meta, NewEntry, Opened, Times, carried_tags};
use crate::invalidate::Ticket;
use crate::l1::{Epoch, Hit, Life, Typed};

/// How long an entry that is due is taken without another look, after the store was asked.
const LOOKED_MS: u64 = 1_000;

/// An entry on its way into the tiers.
pub(super) struct Entry {
    pub(super) stored: Bytes,
    pub(super) times: Times,
    pub(super) typed: Option<Typed>,
    /// Whether readers will keep a decoded copy beside the bytes.
    pub(super) decodes: bool,
}

impl Entry {
    /// Bytes that L1 sets aside for the decoded copy. Its true size is unknown to anybody but its type; a value in memory
    /// is about as large as its encoding, and a small one has at least an allocation's overhead.
    fn reserve(&self) -> u64 {
        if self.decodes { self.stored.len() as u64 + 64 } else { 0 }
    }
}

pub(super) fn new_entry<'a>(at: &'a At, times: Times, load_cost_us: u64, stamp: &'a Stamp<'_>) -> NewEntry<'a> {
    let meta = Meta { times, load_cost_us, namespace_epoch: stamp.namespace_epoch, is_nothing: false };
    NewEntry { wire_key: at.wire.as_bytes(), meta, tags: &stamp.tags }
}

impl Cache {
    pub(super) fn fill(&self, at: &At, stored: Bytes, opened: &Opened, ticket: Ticket) -> Option<Hit> {
        let times = opened.meta().times;
        self.fill_l1(at, Entry { stored, times, typed: None, decodes: opened.is_typed() }, ticket)
    }

    pub(super) fn fill_l1(&self, at: &At, entry: Entry, ticket: Ticket) -> Option<Hit> {
        let engine = &*self.engine;
        if !engine.settings.use_l1 {
            return None;
        }
        let hit = self.insert(at, entry, ticket);
        if hit.is_none() {
            engine.counters.overtaken.add();
        }
        // Never looked up again: by now a newer value may stand there, and the decoded copy of this one must not get to it.
        hit
    }

    /// Leaves in L1 what a write ended with: its value, or nothing if that is not the newest any more.
    pub(super) fn keep(&self, at: &At, entry: Entry, settled: Option<Ticket>) {
        if !self.near.settings.use_l1 {
            return;
        }
        if settled.and_then(|settled| self.insert(at, entry, settled)).is_none() {
            self.near.l1.remove(at.hash, at.wire.as_bytes());
        }
    }

    /// Puts an entry into L1 if nothing was written, deleted or told since its ticket.
    pub(super) fn insert(&self, at: &At, entry: Entry, ticket: Ticket) -> Option<Hit> {
        self.insert_for(at, entry, ticket, u64::MAX)
    }

    /// The same, for at most so many milliseconds.
    pub(super) fn insert_for(&self, at: &At, entry: Entry, ticket: Ticket, at_most_ms: u64) -> Option<Hit> {
        let near = &*self.near;
        let ticket = self.honoured(at, ticket);
        let (epoch, life) = self.life(entry.times, &entry.stored, ticket);
        let life = match at_most_ms {
            u64::MAX => life,
            ms => life.ending_at(near.clock.coarse_ms().saturating_add(ms)),
        };
        let epoch = if carried_tags(&entry.stored).is_some() { epoch.tagged() } else { epoch };
        let reserve = entry.reserve();
        // Without room set aside nothing decoded is attached later either.
        let (typed, reserve) = if near.settings.sealed_l1 { (None, 0) } else { (entry.typed, reserve) };
        let kept = near.writes.keep_if_still(at.hash, ticket, || {
            let (hash, wire) = (at.hash, at.wire.as_bytes());
            near.l1.insert_deferring_drops(hash, wire, epoch, entry.stored, life, typed, reserve)
        });
        kept.map(|(_, hit, _departed)| hit)
    }

    /// The ticket, unless a test wants to see what happens without.
    #[cfg_attr(not(test), allow(unused_variables, clippy::unused_self))]
    pub(super) fn honoured(&self, at: &At, ticket: Ticket) -> Ticket {
        #[cfg(test)]
        if self.near.careless.load(Ordering::Relaxed) {
            return self.near.ticket(self.slot, &at.wire, at.hash);
        }
        ticket
    }

    /// What to note before the store is used. From the first time on, it is asked to tell of changes by others.
    pub(super) fn ticket(&self, at: &At) -> Ticket {
        self.engine.coherence.begin(&self.engine);
        self.near.ticket(self.slot, &at.wire, at.hash)
    }

    /// How long L1 may keep an entry, how long it may be taken without a look at its times, and the epoch that says whether
    /// somebody vouches for it. Without that it is taken for no longer than the cap if others can change it in the store, and
    /// kept for longer only to have something should both the store and a loader fail.
    pub(super) fn life(&self, times: Times, stored: &[u8], ticket: Ticket) -> (Epoch, Life) {
        let engine = &*self.engine;
        let now_ms = engine.clock.unix_ms();
        let left_ms = match times.expires_ms {
            0 => u64::MAX,
            end => end.saturating_sub(now_ms),
        };
        let cap_ms = match engine.tier {
            Some(_) if !ticket.vouched => u64::try_from(engine.settings.l1_ttl_cap.as_millis()).unwrap_or(u64::MAX),
            _ => u64::MAX,
        };
        let kept_ms = if times.has_error_window() { left_ms } else { left_ms.min(cap_ms) };
        let cost_us = || Envelope::peek(stored).map_or(0, |meta| meta.load_cost_us);
        let taken_ms = match engine.fresh.look_closer_at_ms(&times, cost_us) {
            None => u64::MAX,
            Some(at_ms) if at_ms > now_ms => at_ms - now_ms,
            // It has just been looked at, in the store at that.
            Some(_) => LOOKED_MS.min(times.fresh_until_ms().unwrap_or(u64::MAX).saturating_sub(now_ms)),
        };
        let taken_ms = taken_ms.min(cap_ms).min(kept_ms);
        let life = match (taken_ms, kept_ms) {
            (u64::MAX, u64::MAX) => Life::FOREVER,
            _ => {
                let coarse_ms = engine.clock.coarse_ms();
                let (fresh_until_ms, expires_at_ms) =
                    (coarse_ms.saturating_add(taken_ms), coarse_ms.saturating_add(kept_ms));
                Life { fresh_until_ms, expires_at_ms }
            }
        };
        (if ticket.vouched { ticket.epoch.vouched() } else { ticket.epoch }, life)
    }
}
