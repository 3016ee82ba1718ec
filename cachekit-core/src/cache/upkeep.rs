//! What operators and long-lived programs ask of a cache: lives, listings, clearing, health, an orderly end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{BackendError, Deadline, Enumerates, Health, Kind, Operation, Ttl};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;

use super::copies::Read;
use super::snapshot::{SnapshotError, open_private};
use super::{At, Cache, Engine, Entry, SetOptions, Unsettled};
use crate::codec::{Envelope, Freshness, Opened, RetimeError, Times};
use crate::error::Error;
use crate::guard::breaker::BreakerState;
use crate::guard::deadline::{background, within};
use crate::guard::stack::GuardHealth;
use crate::invalidate::NamespaceSlot;
use crate::invalidate::tags::TagError;
use crate::key::{WireKey, epoch_of, strip};
use crate::l1::HotKey;
use crate::observe::Stats;
use crate::process::{Anew, PerProcess};
use crate::tier::Tier;

/// Items asked of a store per page of a listing.
const PAGE: usize = 256;
/// Attempts of a conditional write before a busy key is given up.
const CAS_ATTEMPTS: u32 = 8;

/// How far the end of a cache has come.
pub(crate) struct End {
    /// Whether L1 was left to the next process, or is being.
    is_saved: AtomicBool,
    saving: PerProcess<Saving>,
    done: PerProcess<Done>,
}

/// The snapshot that is being written. A child made by `fork()` writes none of its parent's.
#[derive(Default)]
struct Saving(Mutex<Option<JoinHandle<Result<u64, SnapshotError>>>>);

impl Anew for Saving {
    fn anew(&self) -> Self {
        Self::default()
    }
}

/// Whether a cache has come to its end. Held by who ends it, so a child made by `fork()` begins with its own.
#[derive(Default)]
struct Done(Mutex<bool>);

impl Anew for Done {
    fn anew(&self) -> Self {
        Self::default()
    }
}

impl Default for End {
    fn default() -> Self {
        let (saving, done) = (PerProcess::new(Saving::default()), PerProcess::new(Done::default()));
        Self { is_saved: AtomicBool::new(false), saving, done }
    }
}

impl End {
    async fn done(&self) -> MutexGuard<'_, bool> {
        self.done.get().0.lock().await
    }
}

/// A page of [`Cache::keys`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyPage {
    /// Keys as callers gave them; of a cache that hashes its keys the hashes, which lead back to none.
    pub keys: Vec<Vec<u8>>,
    /// Entries of the store that are not this cache's, or unreadable: other programs', other formats', damaged ones.
    pub foreign: u64,
    /// Where the next page starts; `None` after the last.
    pub next: Option<Bytes>,
}

/// The answer to [`Cache::health`].
#[derive(Debug)]
#[non_exhaustive]
pub struct CacheHealth {
    /// The second tier's answer; `None` without one.
    pub tier: Option<Result<Health, BackendError>>,
    /// What the circuit breaker before it is doing; `None` without one.
    pub breaker: Option<BreakerState>,
    /// What the other guards before it are doing.
    pub guards: GuardHealth,
    /// What the cache did.
    pub stats: Stats,
}

impl CacheHealth {
    /// Whether everything that is configured answers.
    pub fn is_healthy(&self) -> bool {
        self.tier.as_ref().is_none_or(|tier| tier.as_ref().is_ok_and(|health| health.healthy))
    }
}

/// From the times that an entry has to the ones it is to have.
pub(super) type Renew<'a> = &'a (dyn Fn(Times) -> Times + Sync);

/// The windows of `new` for an entry that was made earlier, which is remembered.
fn renewed(old: Times, new: Times) -> Times {
    // The writer's clock may be ahead of ours by the allowed skew, and an entry cannot end before it began.
    let after = |end_ms: u64| if end_ms == 0 { 0 } else { end_ms.max(old.created_ms.saturating_add(1)) };
    let fresh_for_ms = match new.fresh_for_ms {
        0 => 0,
        fresh_for_ms => after(new.created_ms.saturating_add(fresh_for_ms)) - old.created_ms,
    };
    Times {
        created_ms: old.created_ms,
        fresh_for_ms,
        stale_until_ms: after(new.stale_until_ms),
        expires_ms: after(new.expires_ms),
    }
}

/// A clearing under way. However it ends, also if the caller goes away, reads and flights are too late that began while the
/// store still had older entries, and the caches beside this one forget what the store may not have any more.
struct Clearing<'a> {
    engine: &'a Engine,
    slot: NamespaceSlot,
    has_landed: bool,
}

impl Drop for Clearing<'_> {
    fn drop(&mut self) {
        if !self.has_landed {
            // It may land yet, after reads that begin now, and nobody is told of what the own connection does.
            self.engine.doubt_all();
        }
        self.engine.writes.new_epoch(self.slot);
        self.engine.flights.detach_all();
        if let Some(siblings) = &self.engine.siblings {
            siblings.cleared(&self.engine.near, self.slot);
        }
    }
}

/// The end of a clearing that held back what waits to be written.
struct WrittenSoon<'a>(&'a Cache);

impl Drop for WrittenSoon<'_> {
    fn drop(&mut self) {
        self.0.write_soon();
    }
}

impl Cache {
    /// The name of the namespace of this handle.
    pub fn namespace_name(&self) -> &str {
        self.namespace.name()
    }

    /// The `n` keys that L1 is asked for most, of all namespaces, the most frequent first; none unless the cache was
    /// [built](crate::CacheBuilder::hot_keys) to count them.
    pub fn hot_keys(&self, n: usize) -> Vec<HotKey> {
        self.engine.l1.hot_keys(n)
    }

    /// What the second tier is asked for in place of `key`, before its own limits shorten it: for tools that look below the
    /// envelope, and for locks that are to stand beside an entry.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn wire_key(&self, key: impl AsRef<[u8]>) -> Result<WireKey, Error> {
        Ok(self.namespace.wire(key.as_ref())?)
    }

    /// The second tier, for tools that look below the envelope.
    pub fn tier(&self) -> Option<&Tier> {
        self.engine.tier.as_ref()
    }

    /// The time `key` has left: `None` if it is absent, [`Ttl::Never`] if it does not expire.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Option<Ttl>, Error> {
        let at = self.at(key.as_ref())?;
        let opened = match self.l1_hit(&at).and_then(|hit| self.opened(at.wire.as_bytes(), &hit)) {
            Some(opened) => opened,
            None => match self.fetch(&at).await? {
                Some((opened, _)) => opened,
                None => return Ok(None),
            },
        };
        let now_ms = self.engine.clock.unix_ms();
        Ok(self.found_until_ms(&opened.meta().times, now_ms).map_or(Some(Ttl::Never), |end_ms| {
            end_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0).and_then(Ttl::from_ms)
        }))
    }

    /// Until `get` stops finding an entry that it finds now, which is not when the store may forget it. `None`: it does not stop.
    fn found_until_ms(&self, times: &Times, now_ms: u64) -> Option<u64> {
        let fresh_until_ms = times.fresh_until_ms()?;
        if !self.engine.fresh.config.get_serves_stale {
            return Some(fresh_until_ms);
        }
        match fresh_until_ms.max(times.stale_until_ms) {
            end_ms if end_ms > now_ms => Some(end_ms),
            // The store is away, and what L1 kept is found to its end.
            _ => (times.expires_ms != 0).then_some(times.expires_ms),
        }
    }

    /// The entry of `key` in the second tier, checked, with its times and its payload: for tools that show what they do
    /// not know the type of. L1 is not asked and not filled.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Opened>, Error> {
        let at = self.at(key.as_ref())?;
        let Some(tier) = &self.engine.tier else { return Ok(None) };
        let deadline = self.deadline();
        let read = match self.count_failure(self.ask(tier, &at, deadline).await.map(|(stored, _)| stored)) {
            Ok(stored) => self.read_answer(tier, &at, stored, deadline).await,
            Err(error) => Err(error),
        };
        let read = match read {
            Ok(Some(read)) => read,
            Err(error) if self.engine.settings.strict => return Err(error.into()),
            Ok(None) | Err(_) => return Ok(None),
        };
        let opened = self.judge(read.opened)?;
        match opened.filter(|opened| opened.freshness() == Freshness::Fresh && !opened.meta().is_nothing) {
            Some(opened) => Ok(self.is_in_force(&opened, None).await?.then_some(opened)),
            None => Ok(None),
        }
    }

    /// Gives `key` a new life from now; `false` if it is absent. The default options give it the cache's default life.
    ///
    /// The entry carries its own end, so that it is exact on stores that count in seconds; a touch therefore writes it
    /// anew, on condition that nobody wrote meanwhile where the store can tell.
    ///
    /// # Errors
    /// As [`Cache::set_with`], and always the failures of the store.
    pub async fn touch(&self, key: impl AsRef<[u8]>, options: SetOptions) -> Result<bool, Error> {
        let at = self.at(key.as_ref())?;
        let engine = &*self.engine;
        if !options.tags.is_empty() {
            return Err(TagError::Touch.into());
        }
        let new = self.times(&options)?;
        let deadline = self.deadline();
        let renew = |old: Times| renewed(old, new);
        let Some(tier) = &engine.tier else { return self.touch_l1(&at, &renew).await };
        self.flush_key(&at, deadline).await?;
        self.overtake(&at);
        let unsettled = Unsettled { engine, at: &at };
        let _turn = self.count_failure(self.turn(&at, deadline, Operation::Touch).await)?;
        let touched = self.touch_tier(tier, &at, &renew, deadline).await?;
        unsettled.forget();
        Ok(touched)
    }

    pub(super) async fn touch_l1(&self, at: &At, renew: Renew<'_>) -> Result<bool, Error> {
        let ticket = self.ticket(at);
        let Some(hit) = self.l1_hit(at) else { return Ok(false) };
        let Some(opened) = self.opened(at.wire.as_bytes(), &hit) else { return Ok(false) };
        let Some(stored) = self.retimed(at, &hit.to_bytes(), renew)? else { return Ok(false) };
        let (times, decodes) = (renew(opened.meta().times), opened.is_typed());
        self.write(at, Entry { stored, times, typed: None, decodes }, false, Some(ticket), None).await
    }

    pub(super) async fn touch_tier(
        &self,
        tier: &Tier,
        at: &At,
        renew: Renew<'_>,
        deadline: Deadline,
    ) -> Result<bool, Error> {
        let life = |stored: &[u8]| {
            let times = Envelope::peek(stored).map(|meta| meta.times).unwrap_or_default();
            times.ttl(self.engine.clock.unix_ms())
        };
        if !tier.has_cas() {
            let stored = self.count_failure(tier.get(&at.wire, deadline).await)?;
            let Some(Read { stored, .. }) = self.read_answer(tier, at, stored, deadline).await? else {
                return Ok(false);
            };
            let Some(stored) = self.retimed_in_force(at, &stored, renew).await? else { return Ok(false) };
            let ttl = life(&stored);
            self.count_failure(tier.set(&at.wire, stored, ttl, deadline).await)?;
            return Ok(true);
        }
        for _ in 0..CAS_ATTEMPTS {
            let found = self.count_failure(tier.get_version(&at.wire, deadline).await)?;
            let Some((stored, version)) = found else { return Ok(false) };
            let Some(stored) = self.retimed_in_force(at, &stored, renew).await? else { return Ok(false) };
            let ttl = life(&stored);
            if self.count_failure(tier.set_if(&at.wire, stored, ttl, Some(version), deadline).await)? {
                return Ok(true);
            }
        }
        let busy = "other writers changed the entry at each attempt";
        Err(BackendError::new(Kind::Transient, Operation::Touch, busy).into())
    }

    /// As [`Self::retimed`], of an entry that `get` would find: one that was not invalidated meanwhile, whose life is not over,
    /// and that does not say that there is nothing.
    async fn retimed_in_force(&self, at: &At, stored: &Bytes, renew: Renew<'_>) -> Result<Option<Bytes>, Error> {
        if Envelope::peek(stored).is_some_and(|meta| !self.get_finds(&meta)) {
            return Ok(None);
        }
        let Some(retimed) = self.retimed(at, stored, renew)? else { return Ok(None) };
        let opened = self.judge(self.engine.codec.open(&retimed, at.wire.as_bytes(), self.engine.clock.unix_ms()))?;
        let Some(opened) = opened else { return Ok(None) };
        Ok(self.is_in_force(&opened, None).await?.then_some(retimed))
    }

    /// The entry with a new end; `None` if it is none of ours, or over.
    fn retimed(&self, at: &At, stored: &Bytes, renew: Renew<'_>) -> Result<Option<Bytes>, Error> {
        match self.engine.codec.retime(stored, at.wire.as_bytes(), self.engine.clock.unix_ms(), renew) {
            Ok(stored) => Ok(Some(stored)),
            Err(RetimeError::Refused(refusal)) => self.judge(Err(refusal)),
            Err(RetimeError::Encode(error)) => Err(error.into()),
        }
    }

    /// Forgets every entry of this namespace, in both tiers, and returns how many the second tier had. Nothing that was
    /// loaded or read before comes back.
    ///
    /// Where entries carry the epoch of their namespace (`CacheBuilder::namespace_epochs`; by itself on stores that can
    /// neither clear nor list) they are made misses by one write and end by themselves, uncounted: 0.
    ///
    /// The deadline covers each step, not the whole, which depends on the number of entries.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the store can neither clear nor list; [`Error::Backend`] if it fails half-way: then some
    /// entries are left, and a repetition finishes.
    pub async fn clear(&self) -> Result<u64, Error> {
        let engine = &*self.engine;
        if engine.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        engine.writes.new_epoch(self.slot);
        engine.flights.detach_all();
        // Whoever wrote behind may have found that it must not, and gone: also if this ends before it began.
        let _written_soon = WrittenSoon(self);
        // Before the barrier: nothing that is held is begun after it.
        let held = engine.pending.hold(self.namespace.prefix());
        within(self.deadline(), Operation::Clear, async {
            engine.writes.barrier(self.slot).await;
            Ok(())
        })
        .await?;
        let mut clearing = Clearing { engine, slot: self.slot, has_landed: false };
        let cleared = match &engine.tier {
            // What the store cannot find it need not remove: it is out of force, and ends by itself.
            Some(_) if engine.settings.namespace_epochs => self.renew_namespace().await.map(|()| 0),
            Some(tier) => self.clear_tier(tier).await,
            None => Ok(0),
        };
        clearing.has_landed = cleared.is_ok();
        if cleared.is_ok() {
            held.cleared();
        }
        cleared
    }

    /// Whether [`Cache::clear`] makes entries misses without removing them.
    pub fn clears_by_epoch(&self) -> bool {
        self.engine.settings.namespace_epochs
    }

    async fn clear_tier(&self, tier: &Tier) -> Result<u64, Error> {
        let cleared = match tier.clear(self.namespace.prefix(), self.deadline()).await {
            // A store that looks through everything it has may need longer than one operation is given, each time anew.
            // Page by page each step has a deadline of its own. What only a front has is on none of the pages.
            Err(error) if error.kind() == Kind::Timeout && tier.enumerates() == Enumerates::Keys => {
                self.count_failure(tier.clear_fronts(self.namespace.prefix(), self.deadline()).await)?;
                None
            }
            answer => self.count_failure(answer)?,
        };
        if let Some(cleared) = cleared {
            return Ok(cleared);
        }
        let mut cleared = 0;
        let mut cursor = None;
        // Brent's way to see a listing that runs in circles: a cursor kept from further and further back.
        let (mut milestone, mut pages) = (None, 0_u64);
        loop {
            let page = self.keys(cursor.as_ref()).await?;
            let deleted: u64 = if page.keys.is_empty() { 0 } else { self.delete_many(&page.keys).await? };
            cleared += deleted;
            if page.next.is_some() && (page.next == cursor || page.next == milestone) {
                let endless = "the store's listing runs in circles";
                return Err(BackendError::new(Kind::Corrupt, Operation::Clear, endless).into());
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(cleared);
            }
            pages += 1;
            if pages.is_power_of_two() {
                milestone.clone_from(&cursor);
            }
        }
    }

    /// A page of the keys of this namespace in the second tier, from `cursor` (`None`: from the start).
    ///
    /// Stores that list opaque ids, and keys that were shortened for a store, cost a read per entry: the entry knows its
    /// key.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the store cannot list; [`Error::Backend`].
    pub async fn keys(&self, cursor: Option<&Bytes>) -> Result<KeyPage, Error> {
        self.check_open()?;
        let unsupported = Error::Unsupported { operation: "keys", needs: "can list its entries" };
        let Some(tier) = &self.engine.tier else { return Err(unsupported) };
        let enumerates = tier.enumerates();
        if enumerates == Enumerates::No {
            return Err(unsupported);
        }
        let cursor = cursor.map(|cursor| &cursor[..]);
        let scanned = tier.scan(self.namespace.prefix(), cursor, PAGE, self.deadline()).await;
        let scanned = self.count_failure(scanned)?;
        let mut page = KeyPage { next: scanned.next, ..KeyPage::default() };
        for item in scanned.items {
            let plain = (enumerates == Enumerates::Keys).then(|| strip(&self.namespace, &item)).flatten();
            match plain {
                Some(key) if !key.starts_with(b"#") => page.keys.push(key.to_vec()),
                _ => {
                    let stored = self.count_failure(tier.read(&item, self.deadline()).await)?;
                    // Gone since it was listed.
                    let Some(stored) = stored else { continue };
                    let entry = Envelope::parse(&stored).ok();
                    let wire = entry.as_ref().map(Envelope::wire_key);
                    match wire.and_then(|wire| strip(&self.namespace, wire)) {
                        Some(key) => page.keys.push(key.to_vec()),
                        None if wire.is_some_and(|wire| epoch_of(wire).is_some()) => {}
                        None => page.foreign += 1,
                    }
                }
            }
        }
        Ok(page)
    }

    /// What the cache did since it was built.
    pub fn stats(&self) -> Stats {
        let l1 = self.engine.settings.use_l1.then(|| self.engine.l1.stats());
        let tier = self.engine.tier.as_ref();
        let guards = tier.map_or_else(Default::default, Tier::guard_counts);
        let fronts = tier.map(Tier::front_stats).unwrap_or_default();
        let keyring = self.engine.encryption.as_ref().map(|encryption| encryption.keyring.previous_key_hits());
        let stats = self.engine.counters.read(guards, fronts, keyring.unwrap_or_default(), l1);
        Stats { behind: self.engine.pending.stats(), ..stats }
    }

    /// Asks the second tier for a sign of life.
    pub async fn health(&self) -> CacheHealth {
        let tier = match &self.engine.tier {
            Some(tier) => Some(tier.health(self.deadline()).await),
            None => None,
        };
        let breaker = self.engine.tier.as_ref().and_then(Tier::breaker_state);
        let guards = self.engine.tier.as_ref().map_or_else(GuardHealth::default, Tier::guard_health);
        CacheHealth { tier, breaker, guards, stats: self.stats() }
    }

    /// Ends the cache for all of its clones: later operations answer [`Error::Closed`]. Idempotent. Refreshes under way are
    /// dropped. Waited for are, one after the other and each for the deadline of one operation at most: another who is
    /// closing it, the writes that are still owed to the store, tasks that do not end at once, the locks and marks of loads that
    /// ended early on their way back, and the end of the store. So it takes five deadlines at most, and with
    /// [`warm_start`](crate::CacheBuilder::warm_start) as long as the disk takes for the snapshot, which is written by a thread for
    /// such work. Whoever does not wait that long may drop this future; the next call goes on with the rest.
    ///
    /// # Errors
    /// [`Error::Backend`] if the store could not end in order, [`Error::WritesBehind`] if it did not get everything that was
    /// accepted; it is closed all the same.
    pub async fn close(&self) -> Result<(), Error> {
        let engine = &*self.engine;
        engine.closed.store(true, Ordering::Release);
        self.leave_snapshot().await;
        // One ends it, and whoever comes meanwhile hears of it afterwards. What went away in the middle is done by the next.
        let ended = within(self.deadline(), Operation::Close, async { Ok(engine.end.done().await) }).await;
        let mut ended = ended?;
        if *ended {
            return Ok(());
        }
        // Before the store ends: what is owed to it is written first.
        let written = self.close_behind(self.deadline()).await;
        let given_up = engine.background.close(self.deadline()).await;
        if given_up > 0 {
            tracing::warn!(target: "cachekit", given_up, "tasks that write behind hung when the cache was closed");
        }
        // Else others would wait for a lock that is nobody's, for as long as it is held.
        let _ = within(self.deadline(), Operation::Unlock, async {
            engine.held.returned().await;
            Ok(())
        })
        .await;
        engine.coherence.end();
        engine.flights.detach_all();
        engine.l1.clear();
        let closed = match &engine.tier {
            // A value that was lost is the worse news.
            Some(tier) => {
                let closed = tier.close(self.deadline()).await;
                written.and(closed.map_err(Error::from))
            }
            None => Ok(()),
        };
        *ended = true;
        closed
    }

    /// Leaves L1 to the next process, if that was asked for. A whole L1 is written and synced: not on a thread that runs tasks.
    async fn leave_snapshot(&self) {
        // Without L1 there is nothing to begin with, and the file may be that of a cache that has one.
        let Some(path) = self.engine.settings.snapshot.clone().filter(|_| self.engine.settings.use_l1) else { return };
        let end = &self.engine.end;
        let mut saving = end.saving.get().0.lock().await;
        // Once: whoever comes later finds an L1 that may have been emptied.
        if !end.is_saved.swap(true, Ordering::AcqRel) {
            let cache = self.borrowed();
            *saving = Some(background().spawn_blocking(move || cache.save_to(&path, open_private)));
        }
        // Also by who comes after one that went away in the middle: L1 must not be emptied before.
        let Some(under_way) = saving.as_mut() else { return };
        // The next process begins cold, which is no reason to stay open.
        match under_way.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the snapshot of the first tier was not written"),
            Err(_) => tracing::warn!("the snapshot of the first tier was not written: saving it panicked"),
        }
        *saving = None;
    }

    /// Whether the second tier tells of changes by others right now, so that L1 keeps what is read from here on to its own end
    /// instead of the cap.
    pub fn is_coherent(&self) -> bool {
        self.engine.settings.is_vouchable && self.engine.l1.is_vouched_for()
    }

    /// How long the deadline of one operation is.
    pub fn deadline_per_operation(&self) -> Duration {
        self.engine.settings.deadline
    }
}
