//! Writes behind: a set that is done when L1 has its value, and a store that gets it soon.
//!
//! ```text
//! set ─► key, codec ─► wait list (behind.rs) ─► l1 ─► done
//!                        └─ a task: turn of the key ─► what waits for it now? ─► tier ─► off the list
//! ```
//!
//! A delete, a clearing and a write that goes through take what waits off the list when they have come to their end in the
//! store, within their own turn; a task asks within its turn what to write. So whichever comes first, nothing older lands
//! after something newer of this process, and a reader finds what was accepted in the list as long as the store may lack it.

use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{BackendError, Deadline, Operation};

use super::tags::Stamp;
use super::{At, Cache, Entry};
use crate::background::Errand;
use crate::behind::{Accepted, Job};
use crate::codec::Freshness;
use crate::error::Error;
use crate::guard::deadline::within;
use crate::tier::Tier;

/// A write behind on its way. One that fails, or that nobody waits for any more, may land yet.
struct Underway<'a> {
    cache: &'a Cache,
    at: &'a At,
}

impl Underway<'_> {
    fn has_landed(self) {
        std::mem::forget(self);
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let near = &*self.cache.near;
        near.doubt(self.at.hash);
        if let Some(siblings) = &self.cache.engine.siblings {
            siblings.doubt(near, self.at.wire.as_bytes());
        }
    }
}

impl Cache {
    /// Takes a value to write it later; gives it back if it must go through now.
    pub(super) fn accept_behind(
        &self,
        at: &At,
        entry: Entry,
        wanted: Option<bool>,
        stamp: &Stamp<'_>,
    ) -> Result<(), Entry> {
        let (engine, near) = (&*self.engine, &*self.near);
        let Some(tier) = engine.tier.as_ref().filter(|_| near.pending.config.is_some() && wanted != Some(false)) else {
            return Err(entry);
        };
        // What the store never takes is an error of the caller, who is told when it goes through. With an epoch that the
        // store does not know it would be written later to be a miss for everybody.
        if entry.stored.len() as u64 > tier.limits().max_value || stamp.is_invented {
            return Err(entry);
        }
        let mine = self.ticket(at).with_vouched(false);
        if !near.pending.accept(Accepted::new(at.clone(), self.slot, entry.stored.clone(), entry.times)) {
            near.counters.writes_behind_through.add();
            return Err(entry);
        }
        near.counters.sets.add();
        near.counters.writes_behind.add();
        tracing::trace!(target: "cachekit", key = ?at.wire, bytes = entry.stored.len(), "set, to be written behind");
        // Who read before it was on the list may have seen what is older, and is too late now.
        let settled = near.writes.settle(at.hash, mine);
        near.flights.detach(at.hash);
        self.keep(at, entry, settled);
        self.write_soon();
        Ok(())
    }

    /// A write that went through has failed. What waits since before it is older, and must neither be lost nor be put over a
    /// value that landed although its answer was lost: so the newer waits in its place. `false`: nothing waits, or what does
    /// stays, because there is no room.
    pub(super) fn wait_instead(&self, at: &At, entry: &Entry, accepted: u64) -> bool {
        let near = &*self.near;
        let value = Accepted::new(at.clone(), self.slot, entry.stored.clone(), entry.times);
        let waits = near.pending.replace(value, accepted);
        if waits {
            near.counters.writes_behind.add();
            self.write_soon();
        }
        waits
    }

    /// Sees to it that somebody writes what waits.
    pub(super) fn write_soon(&self) {
        let near = &*self.near;
        let Some(mut lane) = near.pending.lane() else { return };
        let Ok(place) = near.background.place(Errand::Owed) else { return };
        let cache = self.borrowed();
        near.background.begin(place, async move {
            while let Some(job) = lane.next() {
                // The next value may need another task by now.
                cache.write_soon();
                cache.write_job(job).await;
            }
        });
    }

    /// Writes what waits for a key, and pauses after a failure.
    async fn write_job(&self, job: Job) {
        let near = &*self.near;
        let Some(config) = near.pending.config else { return };
        let (Some(value), outcome) = self.write_once(&job).await else { return };
        let Err(error) = outcome else { return };
        // Something newer is tried at once.
        let Some(failures) = near.pending.failed(&value) else { return };
        if failures > config.attempts {
            if near.pending.done(&value) {
                self.lose(&job.at, &error);
            }
            return;
        }
        let pause = Deadline::after(config.pause_after(failures));
        let _ = within::<()>(pause, Operation::Set, std::future::pending()).await;
    }

    /// One attempt, in the turn of the key, with what is newest by then.
    async fn write_once(&self, job: &Job) -> (Option<Accepted>, Result<(), BackendError>) {
        let (engine, near) = (&*self.engine, &*self.near);
        let (at, wire) = (&job.at, job.at.wire.as_bytes());
        let Some(tier) = &engine.tier else { return (None, Ok(())) };
        let deadline = self.deadline();
        let turn = within(deadline, Operation::Set, async { Ok(engine.writes.turn(job.slot, at.hash).await) }).await;
        let _turn = match self.count_failure(turn) {
            Ok(turn) => turn,
            Err(error) => return (near.pending.current(wire), Err(error)),
        };
        let Some(value) = near.pending.current(wire) else { return (None, Ok(())) };
        let written = self.write_waiting(tier, &value, deadline).await;
        (Some(value), written)
    }

    /// Writes what waits for a key, whose turn the caller has.
    async fn write_waiting(&self, tier: &Tier, value: &Accepted, deadline: Deadline) -> Result<(), BackendError> {
        let (near, wire) = (&*self.near, &value.at.wire);
        let now_ms = near.clock.unix_ms();
        let has_ended = value.times.freshness(now_ms) == Freshness::Expired;
        let underway = Underway { cache: self, at: &value.at };
        let written = match has_ended {
            // There is nothing to write, but what the store has is older, and was replaced.
            true => tier.delete(wire, deadline).await.map(|_| ()),
            false => {
                self.offer_dictionary(tier, deadline).await;
                tier.set(wire, value.stored.clone(), value.times.ttl(now_ms), deadline).await
            }
        };
        self.count_failure(written)?;
        underway.has_landed();
        if near.pending.done(value) && has_ended {
            near.counters.writes_expired.add();
        }
        if let Some(siblings) = &self.engine.siblings {
            siblings.changed(near, wire.as_bytes());
        }
        Ok(())
    }

    /// A value that was accepted is given up.
    fn lose(&self, at: &At, error: &BackendError) {
        let near = &*self.near;
        if near.settings.is_vouchable && near.l1.is_vouched_for() {
            // A reader may have kept it as if the store had it.
            near.l1.remove(at.hash, at.wire.as_bytes());
        }
        let is_first = near.counters.writes_lost.get() == 0;
        near.counters.writes_lost.add();
        if is_first {
            tracing::warn!(
                target: "cachekit", key = ?at.wire, kind = ?error.kind(),
                "a write behind was given up; further ones are counted (writes_lost)"
            );
        }
    }

    /// Waits until everything that was [accepted](crate::CacheBuilder::write_behind) before is in the second tier, for at most
    /// `patience`. Done at once where nothing is written behind.
    ///
    /// # Errors
    /// [`Error::WritesBehind`]: something still waits, and goes on being tried, or was given up meanwhile.
    pub async fn flush(&self, patience: Duration) -> Result<(), Error> {
        self.check_open()?;
        self.flush_until(Deadline::after(patience)).await
    }

    pub(super) async fn flush_until(&self, deadline: Deadline) -> Result<(), Error> {
        let pending = Arc::clone(&self.near.pending);
        if pending.config.is_none() {
            return Ok(());
        }
        let lost_before = self.near.counters.writes_lost.get();
        let until = pending.mark();
        let all = async {
            loop {
                let changed = pending.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if !pending.waits(until) {
                    return Ok(());
                }
                self.write_soon();
                // Not left to the tasks alone: those of a runtime that stands still would never come to it.
                match pending.next() {
                    Some(job) => self.write_job(job).await,
                    None => changed.await,
                }
            }
        };
        let _ = within(deadline, Operation::Set, all).await;
        self.write_soon();
        let lost = self.near.counters.writes_lost.get() - lost_before;
        match (pending.waiting(until), lost) {
            (0, 0) => Ok(()),
            (waiting, lost) => Err(Error::WritesBehind { waiting, lost }),
        }
    }

    /// Writes what waits for one key, for who needs it to be in the store.
    pub(super) async fn flush_key(&self, at: &At, deadline: Deadline) -> Result<(), BackendError> {
        let near = &*self.near;
        if near.pending.find(at.wire.as_bytes()).is_none() {
            return Ok(());
        }
        let Some(tier) = &self.engine.tier else { return Ok(()) };
        let _turn = self.count_failure(self.turn(at, deadline, Operation::Set).await)?;
        let Some(value) = near.pending.current(at.wire.as_bytes()) else { return Ok(()) };
        self.write_waiting(tier, &value, deadline).await
    }

    /// The end: what waits is written until the deadline, and the rest given up.
    pub(super) async fn close_behind(&self, deadline: Deadline) -> Result<(), Error> {
        let near = &*self.near;
        let lost_before = near.counters.writes_lost.get();
        let _ = self.flush_until(deadline).await;
        near.pending.close();
        near.counters.writes_lost.add_n(near.pending.abandon());
        match near.counters.writes_lost.get() - lost_before {
            0 => Ok(()),
            lost => {
                tracing::warn!(target: "cachekit", lost, "the cache was closed before all writes behind had landed");
                Err(Error::WritesBehind { waiting: 0, lost })
            }
        }
    }
}
