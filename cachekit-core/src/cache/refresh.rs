//! Loading again what is there already: behind its readers, in front of one of them, or because somebody says so.
//!
//! ```text
//! a reader finds …   due, stale ─► loader owned?  yes ─► serve; a task refreshes            one per key, some per cache
//!                                                 no, stale ─► one reader loads, the others are served
//!                    fallback ──► load; serve it if the loader fails, or is slower than the soft timeout
//! ```
//!
//! A refresh holds a ticket of before its decision (`invalidate/`): after a deletion, a clearing or a newer set it lands nowhere.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{Deadline, Operation};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::fill::Begun;
use super::load::{Course, TWICE, lead};
use super::seen::{Answer, Seen, Wanted};
use super::{At, Cache, LoadOptions, Unsettled, Value};
use crate::background::Errand;
use crate::codec::{Envelope, Meta, Opened, Times};
use crate::error::{Error, LoadError};
use crate::fresh::verdict::Verdict;
use crate::guard::deadline::within;
use crate::guard::flight::Part;
use crate::invalidate::Ticket;
use crate::key::WireKey;

/// How long work in the background may take whose loader has no hard timeout: what hangs must not keep its place for good.
const LONGEST_REFRESH: Duration = Duration::from_secs(300);

/// A call that can go on without its caller.
type Flying<T, E> = BoxFuture<'static, Result<Answer<T>, LoadError<E>>>;

impl Cache {
    /// Serves what is due or stale, and refreshes it in the background if nobody does yet.
    pub(super) fn refresh_behind<T, E, F, Fut>(&self, at: At, wanted: Wanted, seen: &Seen<T>, load: F)
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        let near = &*self.near;
        if seen.verdict == Verdict::Stale {
            near.counters.stale_served.add();
        }
        let Some(refreshing) = near.underway.begin(at.hash, near.clock.coarse_ms()) else { return };
        let ticket = self.ticket(&at);
        let Ok(place) = near.background.place(Errand::Spare) else {
            near.counters.refreshes_refused.add();
            return;
        };
        near.counters.refreshes.add();
        if seen.verdict == Verdict::Due {
            near.counters.early_refreshes.add();
        }
        let (cache, newer_than_ms) = (self.borrowed(), seen.created_ms);
        near.background.begin(place, async move {
            let refresh = cache.refresh_once(&at, &wanted, ticket, newer_than_ms, load);
            // A loader's panic ends the refresh and nothing else; what it was polled with is not used again.
            match AssertUnwindSafe(refresh).catch_unwind().await {
                Ok(true) => refreshing.settle(),
                Ok(false) | Err(_) => {
                    cache.near.counters.refresh_failures.add();
                    refreshing.fail(cache.retry_at_ms());
                }
            }
        });
    }

    fn retry_at_ms(&self) -> u64 {
        let pause_ms = crate::fresh::windows::whole_ms(self.near.fresh.config.retry_interval);
        self.near.clock.coarse_ms().saturating_add(pause_ms)
    }

    /// `false`: it failed.
    async fn refresh_once<T, E, F, Fut>(
        &self,
        at: &At,
        wanted: &Wanted,
        ticket: Ticket,
        newer_than_ms: u64,
        load: F,
    ) -> bool
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let near = &*self.near;
        // Whoever leads this flight already refreshes the key.
        let Some(leader) = near.flights.try_refresh(at.hash, at.wire.as_bytes()) else { return true };
        // It waited for its turn to run, and what it was to renew is not there any more.
        if !near.writes.still(self.slot, at.hash, ticket) {
            near.counters.overtaken.add();
            return true;
        }
        // Another process may have been quicker, or be at it.
        let fill = match self.second_look::<T>(at, wanted, newer_than_ms).await {
            Ok(Begun::Load(fill)) => fill.refreshing(),
            Ok(Begun::Found(value, until)) => {
                leader.land(Ok(Seen::fresh(Some(value), until).landed()), until);
                return true;
            }
            Ok(Begun::Busy) => {
                leader.part();
                return true;
            }
            Err(_) => {
                leader.part();
                return false;
            }
        };
        let work = lead(leader, self.load_and_keep::<T, E, _, _>(at, wanted, ticket, fill, load));
        let bounded = async { Ok(work.await.is_ok()) };
        within(self.longest_refresh(wanted), Operation::Get, bounded).await.unwrap_or(false)
    }

    /// Until when a load may go on in the background that goes on from now.
    pub(super) fn longest_refresh(&self, wanted: &Wanted) -> Deadline {
        if self.hard_timeout(wanted).is_some() {
            // Everything else in a load has an end of its own.
            return Deadline::NEVER;
        }
        #[cfg(test)]
        if let Some(longest) = tests::LONGEST_REFRESH.get() {
            return Deadline::after(longest);
        }
        Deadline::after(LONGEST_REFRESH)
    }

    /// For a loader that must not outlive its call: of all who find a stale value one loads, and the others are served.
    pub(super) async fn refresh_here<T, E, F, Fut>(&self, at: &At, wanted: &Wanted, seen: Seen<T>, load: F) -> Answer<T>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let near = &*self.near;
        let begun = near.underway.begin(at.hash, near.clock.coarse_ms());
        let leader = near.flights.try_refresh(at.hash, at.wire.as_bytes());
        let (Some(refreshing), Some(leader)) = (begun, leader) else {
            near.counters.stale_served.add();
            return seen.answer;
        };
        let ticket = self.ticket(at);
        let fill = match self.second_look::<T>(at, wanted, seen.created_ms).await {
            Ok(Begun::Load(fill)) => fill.refreshing(),
            Ok(Begun::Found(value, until)) => {
                leader.land(Ok(Seen::fresh(Some(Arc::clone(&value)), until).landed()), until);
                return Some(value);
            }
            Ok(Begun::Busy) | Err(_) => {
                leader.part();
                near.counters.stale_served.add();
                return seen.answer;
            }
        };
        near.counters.refreshes.add();
        let work = lead(leader, self.load_and_keep::<T, E, _, _>(at, wanted, ticket, fill, load));
        match work.await {
            Ok(loaded) => {
                refreshing.settle();
                loaded.answer
            }
            Err(_) => {
                near.counters.refresh_failures.add();
                near.counters.stale_served.add();
                refreshing.fail(self.retry_at_ms());
                seen.answer
            }
        }
    }

    /// Whether what another process stored, or is about to store, is newer than what is to be refreshed.
    async fn second_look<T: Value>(&self, at: &At, wanted: &Wanted, newer_than_ms: u64) -> Result<Begun<T>, Error> {
        if let Some(seen) = self.look::<T>(at, wanted).await?
            && let Seen { answer: Some(value), verdict: Verdict::Fresh, created_ms, until } = seen
            && created_ms > newer_than_ms
        {
            return Ok(Begun::Found(value, until));
        }
        self.begin_fill(at, self.fill_locks(&wanted.options), false, newer_than_ms).await
    }

    /// Loads `key` now and stores what the loader returns, whatever is there. What is there is served until then, and stays if
    /// the loader fails. Of those who refresh a key at the same time one runs its loader.
    ///
    /// What was begun before, by other callers that found nothing, is not stored any more.
    ///
    /// # Errors
    /// As [`Cache::get_or_load_with`].
    pub async fn refresh<T, F, Fut>(&self, key: impl AsRef<[u8]>, load: F) -> Result<Arc<T>, Error>
    where
        T: Value,
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let infallible = async || Ok::<T, std::convert::Infallible>(load().await);
        let refreshed = self.try_refresh_with(key, LoadOptions::default(), infallible).await;
        refreshed.map_err(super::load::without_loader)
    }

    /// As [`Cache::refresh`], with options, for a loader that can fail.
    ///
    /// # Errors
    /// As [`Cache::try_get_or_load_with`].
    pub async fn try_refresh_with<T, E, F, Fut>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        options.check(self.near.settings.default_ttl)?;
        let wanted = Wanted { options, nothing: false };
        let at = self.at(key.as_ref())?;
        let mut load = Some(move || async move { load().await.map(Some) });
        loop {
            let seen = match self.near.flights.refresh(at.hash, at.wire.as_bytes()).await {
                Part::Leader(leader) => {
                    let Some(load) = load.take() else { return Err(TWICE.into()) };
                    lead(leader, self.reload(&at, &wanted, load)).await?
                }
                Part::Alone => {
                    let Some(load) = load.take() else { return Err(TWICE.into()) };
                    self.reload(&at, &wanted, load).await?
                }
                Part::Follower(landed) => match super::load::shared::<T, E>(landed) {
                    Some(seen) => {
                        self.near.counters.coalesced.add();
                        seen?
                    }
                    None => {
                        let Some(load) = load.take() else { return Err(TWICE.into()) };
                        self.reload(&at, &wanted, load).await?
                    }
                },
            };
            // A refresh in the background may have found that there is nothing, which is no answer here.
            if let Some(value) = seen.answer {
                return Ok(value);
            }
        }
    }

    async fn reload<T, E, F, Fut>(&self, at: &At, wanted: &Wanted, load: F) -> Result<Seen<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let near = &*self.near;
        near.writes.advance(at.hash);
        near.flights.detach_loads(at.hash);
        let ticket = self.ticket(at);
        near.counters.refreshes.add();
        // Nobody is asked whether this load is needed, but what another process writes meanwhile stands.
        let fill = self.fence_what_stands(at, self.fill_locks(&wanted.options)).await;
        let loaded = self.load_and_keep(at, wanted, ticket, fill, load).await;
        if loaded.is_err() {
            near.counters.refresh_failures.add();
        }
        loaded
    }

    /// Waits for a load as long as the soft timeout says, if there is something to serve instead. Then the load goes on in the
    /// background until `bound`, for whoever comes next.
    pub(super) async fn within_soft<T, E>(
        &self,
        at: &At,
        soft: Duration,
        bound: Deadline,
        course: &Course<T>,
        mut flight: Flying<T, E>,
    ) -> Result<Answer<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
    {
        let patient = async { Ok((&mut flight).await) };
        if let Ok(answer) = within(Deadline::after(soft), Operation::Get, patient).await {
            return answer;
        }
        let Some(value) = course.kept.get().cloned().or_else(|| self.fallback(at)) else { return flight.await };
        if !course.asks.load(Ordering::Relaxed) {
            // It waits for another's load, which goes on without it: a place in the background would be kept for nothing.
            self.near.counters.soft_timeouts.add();
            return Ok(Some(value));
        }
        // Where it cannot go on without its caller, its caller waits: a load that is dropped each time never ends.
        let Ok(place) = self.near.background.place(Errand::Spare) else {
            self.near.counters.refreshes_refused.add();
            return flight.await;
        };
        self.near.counters.soft_timeouts.add();
        let near = Arc::clone(&self.near);
        near.clone().background.begin(place, async move {
            if within(bound, Operation::Get, async { Ok(flight.await) }).await.is_err() {
                near.counters.load_failures.add();
            }
        });
        Ok(Some(value))
    }

    /// Gives an entry its life anew in the background, if so little of it is left.
    pub(super) fn extend_if_due(&self, meta: &Meta, wire: &[u8]) {
        let near = &*self.near;
        if near.fresh.config.extend_on_get.is_none() || !near.fresh.wants_extension(&meta.times, near.clock.unix_ms()) {
            return;
        }
        self.write_again(wire, Again::Longer);
    }

    /// Writes an entry that the store returned anew under the current master key, in the background, if it is sealed under
    /// another and the cache was told to. Only where the store has conditional writes: a read must not overwrite what
    /// somebody has written meanwhile.
    pub(super) fn reseal_if_due(&self, opened: &Opened, wire: &[u8]) {
        if self.engine.settings.reseal && self.is_under_another_key(opened.envelope()) {
            self.write_again(wire, Again::Resealed);
        }
    }

    /// The same for the epoch of a tag or a namespace: an entry whose tags nobody can read any more is out of force.
    pub(super) fn reseal_epoch_if_due(&self, at: &At, stored: &Bytes) {
        if self.engine.settings.reseal && Envelope::parse(stored).is_ok_and(|epoch| self.is_under_another_key(&epoch)) {
            self.write_again(at.wire.as_bytes(), Again::Epoch);
        }
    }

    fn is_under_another_key(&self, envelope: &Envelope) -> bool {
        let (Some(sealer), Some(tier)) = (&self.engine.codec.sealer, &self.engine.tier) else { return false };
        tier.has_cas() && envelope.key_name() != Some(sealer.key_name())
    }

    /// Begins to write an entry again, one at a time of each key.
    fn write_again(&self, wire: &[u8], again: Again) {
        let near = &*self.near;
        // Not through the namespace, which would hash a second time what is hashed already.
        let Some(wire) = WireKey::parse(wire) else { return };
        let at = At { hash: near.l1.hash(wire.as_bytes()), wire };
        let Some(refreshing) = near.underway.begin(at.hash, near.clock.coarse_ms()) else { return };
        let ticket = self.ticket(&at);
        let Ok(place) = near.background.place(Errand::Spare) else {
            near.counters.refreshes_refused.add();
            return;
        };
        let cache = self.borrowed();
        near.background.begin(place, async move {
            match cache.rewrite(&at, ticket, again).await {
                Ok(true) => {
                    let counters = &cache.near.counters;
                    match again {
                        Again::Longer => counters.lives_extended.add(),
                        Again::Resealed | Again::Epoch => counters.entries_resealed.add(),
                    }
                    refreshing.settle();
                }
                // It is gone, or somebody wrote: nothing to write again.
                Ok(false) => refreshing.settle(),
                Err(_) => refreshing.fail(cache.retry_at_ms()),
            }
        });
    }

    async fn rewrite(&self, at: &At, ticket: Ticket, again: Again) -> Result<bool, Error> {
        let engine = &*self.engine;
        let now_ms = engine.clock.unix_ms();
        // A touch seals anew, whatever it does to the times.
        let renew = |old: Times| match again {
            Again::Longer => old.shifted_to(now_ms),
            Again::Resealed | Again::Epoch => old,
        };
        let Some(tier) = &engine.tier else { return self.touch_l1(at, &renew).await };
        let deadline = self.deadline();
        let _turn = self.count_failure(self.turn(at, deadline, Operation::Touch).await)?;
        if matches!(again, Again::Epoch) {
            return self.rewrite_epoch(tier, at, deadline).await;
        }
        if !engine.writes.still(self.slot, at.hash, ticket) {
            return Ok(false);
        }
        let unsettled = Unsettled { engine, at };
        let written = self.touch_tier(tier, at, &renew, deadline).await?;
        unsettled.forget();
        Ok(written)
    }
}

/// Why an entry is written again by a read.
#[derive(Clone, Copy)]
enum Again {
    /// To give it its life anew.
    Longer,
    /// To seal it under the current master key.
    Resealed,
    /// The same, of one that holds an epoch.
    Epoch,
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        /// In place of the engine's own, for tests that let it pass.
        pub(in crate::cache) static LONGEST_REFRESH: Cell<Option<Duration>> = const { Cell::new(None) };
    }
}
