//! Looking for a value that may be past its time: what is there, and what its age means.
//!
//! `get` takes what is fresh. Whoever has a loader can use more, and must not take everything for an answer.

use std::sync::Arc;

use bytes::Bytes;

use super::copies::Read;
use super::fill::Fill;
use super::tags::are_plausible;
use super::{At, Cache, Entry, LoadOptions, Value};
use crate::codec::{Envelope, Freshness, Meta, Opened, Refusal, Times};
use crate::error::Error;
use crate::fresh::verdict::Verdict;
use crate::guard::flight::Moment;
use crate::l1::Hit;

/// When an entry was over that only replaces another.
const LONG_OVER_MS: u64 = 2;

/// A value, or the knowledge that there is none.
pub(super) type Answer<T> = Option<Arc<T>>;

/// What was found, and what its age means.
pub(super) struct Seen<T> {
    pub(super) answer: Answer<T>,
    pub(super) verdict: Verdict,
    /// When it was made; 0 where that does not matter.
    pub(super) created_ms: u64,
    /// Of those who wait for the same key, who came before this moment knows of nothing newer (`guard/flight.rs`).
    pub(super) until: Moment,
}

impl<T> Seen<T> {
    pub(super) const fn fresh(answer: Answer<T>, until: Moment) -> Self {
        Self { answer, verdict: Verdict::Fresh, created_ms: 0, until }
    }

    /// Whether it is served without a loader having failed.
    pub(super) const fn serves(&self) -> bool {
        matches!(self.verdict, Verdict::Fresh | Verdict::Due | Verdict::Stale)
    }
}

/// How one call wants to be answered.
pub(super) struct Wanted {
    pub(super) options: LoadOptions,
    /// Whether that there is nothing is an answer.
    pub(super) nothing: bool,
}

impl Cache {
    /// What L1 has for a key, if it may be served now.
    pub(super) fn near<T: Value>(&self, key: &[u8], wanted: &Wanted) -> Result<Option<Seen<T>>, Error> {
        // How old L1 may be is said elsewhere, and does not depend on who waits for whom.
        let look_closer = |wire: &[u8], hit: Hit| self.seen_in_l1(wire, &hit, wanted);
        if wanted.options.early_refresh.is_some() {
            return self.in_l1(key, |_, wire, hit| look_closer(wire, hit));
        }
        self.taken_in_l1(key, |value| Seen::fresh(Some(value), Moment::EVERYBODY), look_closer)
    }

    /// The same for the leader of a flight, who may have waited for the lead. No hit and no miss.
    pub(super) fn near_again<T: Value>(&self, at: &At, wanted: &Wanted) -> Option<Seen<T>> {
        self.seen_in_l1(at.wire.as_bytes(), &self.l1_peek(at)?, wanted)
    }

    fn seen_in_l1<T: Value>(&self, wire: &[u8], hit: &Hit, wanted: &Wanted) -> Option<Seen<T>> {
        let beta = wanted.options.early_refresh;
        if hit.is_fresh()
            && beta.is_none()
            && let Some(value) = hit.typed()
        {
            return Some(Seen::fresh(Some(value), Moment::EVERYBODY));
        }
        let meta = Envelope::peek(hit.stored())?;
        if !hit.is_fresh() && self.asks_store_first(&meta) {
            return None;
        }
        let verdict = self.near.fresh.verdict(&meta, self.near.clock.unix_ms(), beta);
        let seen = Seen { answer: None, verdict, created_ms: meta.times.created_ms, until: Moment::EVERYBODY };
        if !seen.serves() {
            return None;
        }
        if meta.is_nothing {
            let is_known = wanted.nothing && verdict != Verdict::Stale;
            return is_known.then(|| self.nothing(seen.until));
        }
        Some(Seen { answer: Some(self.decoded(wire, hit)?), ..seen })
    }

    /// L1 keeps an entry beyond the cap if a failing store could make it needed. Until then the store is asked.
    pub(super) fn asks_store_first(&self, meta: &Meta) -> bool {
        self.engine.tier.is_some() && meta.times.has_error_window()
    }

    fn nothing<T>(&self, until: Moment) -> Seen<T> {
        self.near.counters.negative_hits.add();
        Seen::fresh(None, until)
    }

    /// The decoded copy of a hit, whatever its age.
    pub(super) fn decoded<T: Value>(&self, wire: &[u8], hit: &Hit) -> Answer<T> {
        if let Some(value) = hit.typed() {
            return Some(value);
        }
        let opened = self.engine.codec.open(&hit.to_bytes(), wire, self.near.clock.unix_ms()).ok()?;
        let value = Arc::new(opened.decode::<T>().ok()?);
        hit.attach_typed(Arc::clone(&value));
        Some(value)
    }

    /// What L1 has for a key whose loader, or whose store, has failed.
    pub(super) fn fallback<T: Value>(&self, at: &At) -> Answer<T> {
        let hit = self.l1_peek(at)?;
        let meta = Envelope::peek(hit.stored())?;
        let is_over =
            matches!(meta.times.freshness(self.near.clock.unix_ms()), Freshness::Expired | Freshness::FromTheFuture);
        if is_over || meta.is_nothing { None } else { self.decoded(at.wire.as_bytes(), &hit) }
    }

    /// Looks in the second tier and fills L1. A miss, an outage and a refused entry are all `None`, each counted.
    pub(super) async fn look<T: Value>(&self, at: &At, wanted: &Wanted) -> Result<Option<Seen<T>>, Error> {
        let engine = &*self.engine;
        let Some(tier) = &engine.tier else { return Ok(None) };
        let ticket = self.ticket(at);
        let deadline = self.deadline();
        let until = engine.flights.moment();
        let (stored, own) = match self.count_failure(self.ask(tier, at, deadline).await) {
            Ok(answers) => answers,
            Err(error) if engine.settings.strict => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let read = match self.read_answer(tier, at, stored, deadline).await {
            Ok(read) => read,
            Err(error) if engine.settings.strict => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let Some((stored, opened)) = self.accept_any(at, read)? else { return Ok(None) };
        if !are_plausible(&opened) {
            return self.judge(Err(Refusal::TooLarge));
        }
        if !self.is_in_force(&opened, own).await? {
            engine.counters.l2_misses.add();
            return Ok(None);
        }
        let meta = *opened.meta();
        let verdict = engine.fresh.verdict(&meta, engine.clock.unix_ms(), wanted.options.early_refresh);
        let seen = Seen { answer: None, verdict, created_ms: meta.times.created_ms, until };
        let is_known = !meta.is_nothing || (wanted.nothing && matches!(verdict, Verdict::Fresh | Verdict::Due));
        let counter = if seen.serves() && is_known { &engine.counters.l2_hits } else { &engine.counters.l2_misses };
        counter.add();
        if verdict == Verdict::Over {
            return Ok(None);
        }
        let hit = self.fill(at, stored, &opened, ticket);
        if meta.is_nothing {
            return Ok(is_known.then(|| self.nothing(until)));
        }
        let Some(value) = self.judge(opened.decode::<T>())? else { return Ok(None) };
        let value = Arc::new(value);
        if let Some(hit) = hit {
            hit.attach_typed(Arc::clone(&value));
        }
        Ok(Some(Seen { answer: Some(value), ..seen }))
    }

    /// Checks what the second tier returned for a key, whatever its age.
    pub(super) fn accept_any(&self, at: &At, read: Option<Read>) -> Result<Option<(Bytes, Opened)>, Error> {
        let engine = &*self.engine;
        let Some(Read { stored, opened }) = read else {
            engine.counters.l2_misses.add();
            tracing::trace!(target: "cachekit", key = ?at.wire, "not in the second tier");
            return Ok(None);
        };
        let opened = self.judge(opened)?;
        Ok(opened.map(|opened| (stored, opened)))
    }

    /// Whether `get`, which has no loader, takes an entry of this age. Counts it if that is past its life.
    pub(super) fn get_takes(&self, meta: &Meta) -> bool {
        let takes = self.get_finds(meta);
        if takes && meta.times.freshness(self.near.clock.unix_ms()) == Freshness::Stale {
            self.near.counters.stale_served.add();
        }
        takes
    }

    /// The same for who does not serve it.
    pub(super) fn get_finds(&self, meta: &Meta) -> bool {
        let near = &*self.near;
        match meta.times.freshness(near.clock.unix_ms()) {
            _ if meta.is_nothing => false,
            Freshness::Fresh => true,
            Freshness::Stale => near.fresh.config.get_serves_stale,
            _ => false,
        }
    }

    /// Whether `get` takes a hit that is no longer, or not yet again, to be taken without a look.
    #[cold]
    pub(super) fn get_takes_hit(&self, wire: &[u8], hit: &Hit) -> bool {
        let Some(meta) = Envelope::peek(hit.stored()) else { return false };
        if self.asks_store_first(&meta) || !self.get_takes(&meta) {
            return false;
        }
        self.extend_if_due(&meta, wire);
        true
    }

    /// What `get` takes while the store fails.
    pub(super) fn in_outage(&self, at: &At) -> Option<(Opened, Option<Hit>)> {
        if !self.near.fresh.config.get_serves_stale {
            return None;
        }
        let hit = self.l1_peek(at)?;
        let opened = self.engine.codec.open(&hit.to_bytes(), at.wire.as_bytes(), self.near.clock.unix_ms()).ok()?;
        if opened.meta().is_nothing {
            return None;
        }
        self.near.counters.stale_served.add();
        Some((opened, Some(hit)))
    }

    /// Whether a value of this key may be found somewhere.
    fn stands(&self, at: &At, fill: &Fill) -> bool {
        fill.replaces() || self.near.l1.holds(at.hash) || self.near.pending.find(at.wire.as_bytes()).is_some()
    }

    /// The entry that says that there is nothing, if that is to be remembered, or if something else stands there: what a loader
    /// does not find any more must not be served instead of it, now or while the loader fails.
    pub(super) fn negative_entry(
        &self,
        at: &At,
        wanted: &Wanted,
        stamp: &super::Stamp<'_>,
        fill: &Fill,
    ) -> Option<Result<Entry, Error>> {
        let near = &*self.near;
        let times = match wanted.options.negative_ttl.unwrap_or(near.fresh.config.negative_ttl) {
            Some(ttl) => near.fresh.negative_times(ttl, near.clock.unix_ms()),
            // Over when it is written: all it does is to replace, as a load does that finds something, and to be fenced as that is.
            None if self.stands(at, fill) => Times { expires_ms: LONG_OVER_MS, ..Times::default() },
            None => return None,
        };
        let mut entry = super::new_entry(at, times, 0, stamp);
        entry.meta.is_nothing = true;
        let stored = self.engine.codec.encode_bytes(&entry, b"");
        Some(stored.map(|stored| Entry { stored, times, typed: None, decodes: false }).map_err(Error::from))
    }
}
