//! What a load does before and after its loader so that other processes neither load the same nor lose what they wrote.
//!
//! ```text
//! miss ─► lock ─ taken ─► look again, raise the fence ─► loader ─► write if the fence stands ─► give the lock back
//!           └ somebody's ─► pause ─► look ─ found ─► value
//!                 └───────────┘ until the lock is free or patience ends
//! ```
//!
//! The lock (`guard/fill_lock.rs`) saves loads. The *fence* is what makes the write safe: it goes through only if nobody wrote,
//! deleted or cleared the key since the second look. Of what stood there, that is its version. Of nothing there is no
//! version: after a deletion there is nothing again, and a loader that began before it would pass. So a load that finds nothing
//! leaves a *mark*, an entry that was over in 1970, which every reader takes for a miss; a set replaces it, a deletion removes
//! it, and a value is written only over the very mark that was left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{BackendError, Deadline, Kind, Operation, Ttl, Version};

use super::tags::Stamp;
use super::{At, Cache, LoadOptions, Value, new_entry};
use crate::codec::{Envelope, Times};
use crate::error::Error;
use crate::guard::fill_lock::{FillLocks, Pauses, Standing};
use crate::guard::flight::Moment;
use crate::tier::Tier;

/// How long a mark stands for a load that never ends: one whose loader takes longer is not stored.
const MARK_LIFE: Duration = Duration::from_secs(600);
/// When a mark was over: before anything else that is stored.
const MARK_EXPIRES_MS: u64 = 1;
/// Looks at a key that others keep changing, until its load goes without a fence, and with it without being stored.
const FENCE_ATTEMPTS: u32 = 4;

/// Who loads.
pub(super) enum Begun<V> {
    /// Nobody: meanwhile it is there, and the newest for whoever came before that moment.
    Found(Arc<V>, Moment),
    /// The caller, who stores through this.
    Load(Fill),
    /// Somebody else, for whom the caller did not want to wait.
    Busy,
}

/// A load under way.
pub(super) struct Fill {
    standing: Option<Box<Standing>>,
    fence: Fence,
    /// There is something to be loaded anew.
    refreshes: bool,
    /// Up to when the fence is known to have stood. Where there is none, nobody asks.
    stood: Moment,
}

enum Fence {
    /// Nothing is asked of the store: it cannot, or was not told to.
    Open,
    /// What stood there at the second look.
    Seen(Version),
    /// Nothing stood there, so this does now.
    Mark(Bytes),
    /// It could not be raised, so nobody knows what a write would replace.
    Unknown,
    /// It could not be raised, because others kept changing the key: this load is overtaken before it begins.
    Fallen,
}

impl Fill {
    /// A load that nobody else is told of.
    pub(super) const fn open() -> Self {
        Self { standing: None, fence: Fence::Open, refreshes: false, stood: Moment::EVERYBODY }
    }

    fn of(standing: Option<Box<Standing>>, fence: Fence) -> Self {
        let stood = if matches!(fence, Fence::Open) { Moment::EVERYBODY } else { Moment::NOBODY };
        Self { standing, fence, refreshes: false, stood }
    }

    /// A load of what is there already.
    pub(super) fn refreshing(mut self) -> Self {
        self.refreshes = true;
        self
    }

    /// Whether something is known to stand where its value goes.
    pub(super) const fn replaces(&self) -> bool {
        self.refreshes || matches!(self.fence, Fence::Seen(_))
    }

    /// Whether its value is written only over what it saw, so that no write by others is lost to it.
    pub(super) const fn is_fenced(&self) -> bool {
        matches!(self.fence, Fence::Seen(_) | Fence::Mark(_))
    }

    /// The load has come to its end, stored or not.
    pub(super) async fn end(self) {
        if let Some(standing) = self.standing {
            standing.release().await;
        }
    }
}

impl Cache {
    /// How a call wants to agree with other processes. A loader that has a longest time needs the lock for no longer, and for
    /// no less.
    pub(super) fn fill_locks(&self, options: &LoadOptions) -> Option<FillLocks> {
        let locks = options.fill_locks.unwrap_or(self.engine.settings.fill_locks)?;
        let timeout = options.hard_timeout.unwrap_or(self.engine.fresh.config.hard_timeout);
        let Some(timeout) = timeout else { return Some(locks) };
        let hold = timeout.saturating_add(self.engine.settings.deadline);
        Some(locks.with_hold(hold.clamp(*FillLocks::HOLD.start(), *FillLocks::HOLD.end())))
    }

    /// Decides who loads a key that was not found. `locks`: what the call wants; `wait`: whether to wait for the value of
    /// another process; `newer_than_ms`: of which age what is there must not be, because it is that which is loaded anew.
    ///
    /// # Errors
    /// Those of a strict cache's store.
    pub(super) async fn begin_fill<T: Value>(
        &self,
        at: &At,
        locks: Option<FillLocks>,
        wait: bool,
        newer_than_ms: u64,
    ) -> Result<Begun<T>, Error> {
        let engine = &*self.engine;
        let (Some(tier), Some(locks)) = (&engine.tier, locks) else { return Ok(Begun::Load(Fill::open())) };
        let fenced = locks.fence && tier.has_cas();
        if !fenced && !tier.has_locks() {
            return Ok(Begun::Load(Fill::open()));
        }
        let deadline = engine.settings.deadline;
        let mut standing = Box::new(Standing::new(tier, &at.wire, at.hash, &engine.held, deadline));
        // Held by this process: by the loader that asks for its own key, or for a flight that a write has overtaken. Neither
        // is to be waited for.
        if tier.has_locks() && !engine.held.contains(at.hash) {
            let until = Deadline::after(if wait { locks.patience } else { Duration::ZERO });
            let mut pauses = Pauses::new();
            let mut waited = false;
            loop {
                match standing.lock(locks.hold).await {
                    Ok(true) => {
                        engine.counters.fill_locks_taken.add();
                        break;
                    }
                    Ok(false) if !wait => return Ok(Begun::Busy),
                    Ok(false) if until.has_passed() => {
                        engine.counters.fill_locks_given_up.add();
                        break;
                    }
                    Ok(false) => {}
                    // Without a lock each process loads for itself, which is what an outage costs.
                    Err(error) => {
                        engine.counters.fill_lock_failures.add();
                        let failed: Result<(), _> = self.count_failure(Err(error));
                        if let (Err(error), true) = (failed, engine.settings.strict) {
                            return Err(error.into());
                        }
                        break;
                    }
                }
                if !std::mem::replace(&mut waited, true) {
                    engine.counters.fill_lock_waits.add();
                }
                pauses.pause(until).await;
                let moment = engine.flights.moment();
                if let Some(value) = self.tier_value_newer(at, newer_than_ms).await? {
                    engine.counters.fills_by_others.add();
                    return Ok(Begun::Found(value, moment));
                }
            }
        }
        if fenced {
            return self.fence(tier, at, standing, !wait, newer_than_ms).await;
        }
        // The second look: whoever had the lock before may have stored the value between our first look and our lock.
        let moment = engine.flights.moment();
        if standing.is_locked()
            && let Some(value) = self.tier_value_newer(at, newer_than_ms).await?
        {
            standing.release().await;
            engine.counters.fills_by_others.add();
            return Ok(Begun::Found(value, moment));
        }
        Ok(Begun::Load(Fill::of(Some(standing), Fence::Open)))
    }

    /// The second look, which is the fence as well. `stands`: something is expected to stand there.
    async fn fence<T: Value>(
        &self,
        tier: &Tier,
        at: &At,
        mut standing: Box<Standing>,
        stands: bool,
        newer_than_ms: u64,
    ) -> Result<Begun<T>, Error> {
        let engine = &*self.engine;
        let mut look = stands;
        let mut waited = false;
        for _ in 0..FENCE_ATTEMPTS {
            if std::mem::replace(&mut look, true) {
                let ticket = self.ticket(at);
                let moment = engine.flights.moment();
                let found = match self.count_failure(tier.get_version(&at.wire, self.deadline()).await) {
                    Ok(found) => found,
                    Err(error) => return self.without_fence(standing, error),
                };
                if let Some((stored, version)) = found {
                    // Of a load that came to nothing, whose lock was given back with its mark about to end: as a fence it
                    // would fall by itself.
                    if standing.is_locked() && is_mark(&stored) && !std::mem::replace(&mut waited, true) {
                        Pauses::new().pause(self.deadline()).await;
                        continue;
                    }
                    self.need_dictionary(tier, Some(&stored), self.deadline()).await;
                    // What waits to be written has replaced it, and was looked at before this load began.
                    let waits = engine.pending.find(at.wire.as_bytes()).is_some();
                    if !waits
                        && let Some((opened, hit)) = self.accept(at, Some(self.read(at, stored)), ticket, None).await?
                        && (newer_than_ms == 0 || opened.meta().times.created_ms > newer_than_ms)
                        && let Some(value) = self.judge(opened.decode::<T>())?
                    {
                        let value = Arc::new(value);
                        if let Some(hit) = hit {
                            hit.attach_typed(Arc::clone(&value));
                        }
                        standing.release().await;
                        engine.counters.fills_by_others.add();
                        return Ok(Begun::Found(value, moment));
                    }
                    return Ok(Begun::Load(Fill::of(Some(standing), Fence::Seen(version))));
                }
            }
            let Some(mark) = self.mark(at) else { return Ok(Begun::Load(Fill::of(Some(standing), Fence::Unknown))) };
            // Noted before it is written, as a lock is.
            standing.marked(mark.clone());
            let life = Ttl::from_ms(MARK_LIFE.as_millis() as u64).unwrap_or(Ttl::Never);
            match self.count_failure(tier.set_if(&at.wire, mark.clone(), life, None, self.deadline()).await) {
                Ok(true) => return Ok(Begun::Load(Fill::of(Some(standing), Fence::Mark(mark)))),
                Ok(false) => standing.unmarked(),
                Err(error) => return self.without_fence(standing, error),
            }
        }
        Ok(Begun::Load(Fill::of(Some(standing), Fence::Fallen)))
    }

    /// A fence over whatever stands there, or over a mark, for a load that is wanted in any case.
    pub(super) async fn fence_what_stands(&self, at: &At, locks: Option<FillLocks>) -> Fill {
        let engine = &*self.engine;
        let fenced = |tier: &&Tier| tier.has_cas() && locks.is_some_and(|locks| locks.fence);
        let Some(tier) = engine.tier.as_ref().filter(fenced) else { return Fill::open() };
        let standing = Box::new(Standing::new(tier, &at.wire, at.hash, &engine.held, engine.settings.deadline));
        // Nothing is newer than this, so nothing is found instead of being loaded.
        match self.fence::<()>(tier, at, standing, true, u64::MAX).await {
            Ok(Begun::Load(fill)) => fill,
            _ => Fill::of(None, Fence::Unknown),
        }
    }

    fn without_fence<T>(&self, standing: Box<Standing>, error: BackendError) -> Result<Begun<T>, Error> {
        match error {
            error if self.engine.settings.strict => Err(error.into()),
            _ => Ok(Begun::Load(Fill::of(Some(standing), Fence::Unknown))),
        }
    }

    /// An entry of this key that no reader serves: over before anybody's clock began, whatever the skew. Sealed where entries
    /// are, and never the same twice; `None` if that cannot be had.
    fn mark(&self, at: &At) -> Option<Bytes> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).ok()?;
        let times = Times { expires_ms: MARK_EXPIRES_MS, ..Times::default() };
        self.engine.codec.encode_bytes(&new_entry(at, times, 0, &Stamp::default()), &random).ok()
    }

    /// Writes what was loaded to the store, if the fence stands: then `true`.
    pub(super) async fn land(
        &self,
        tier: &Tier,
        at: &At,
        stored: Bytes,
        ttl: Ttl,
        fill: Option<&mut Fill>,
        deadline: Deadline,
    ) -> Result<bool, BackendError> {
        let Some(fill) = fill else { return tier.set(&at.wire, stored, ttl, deadline).await.map(|()| true) };
        let expect = match &fill.fence {
            Fence::Open => return tier.set(&at.wire, stored, ttl, deadline).await.map(|()| true),
            Fence::Unknown => {
                let text = "what stands under the key is not known, so nothing is written over it";
                return Err(BackendError::new(Kind::Transient, Operation::SetIf, text));
            }
            Fence::Fallen => return Ok(false),
            Fence::Seen(version) => *version,
            Fence::Mark(mark) => match tier.get_version(&at.wire, deadline).await? {
                Some((found, version)) if found == *mark => version,
                _ => {
                    if let Some(standing) = &mut fill.standing {
                        standing.unmarked();
                    }
                    return Ok(false);
                }
            },
        };
        // Who comes from here on may have seen a write of another process that comes after this one.
        let moment = self.engine.flights.moment();
        let landed = tier.set_if(&at.wire, stored, ttl, Some(expect), deadline).await?;
        if let Some(standing) = &mut fill.standing {
            standing.unmarked();
        }
        if landed {
            fill.stood = moment;
        }
        Ok(landed)
    }

    /// Whether the fence of a load stands whose value is not written.
    pub(super) async fn ask_fence(&self, at: &At, fill: &mut Fill) {
        let engine = &*self.engine;
        let Some(tier) = engine.tier.as_ref().filter(|_| fill.is_fenced()) else {
            return;
        };
        let moment = engine.flights.moment();
        let found = self.count_failure(tier.get_version(&at.wire, self.deadline()).await);
        let stands = found.ok().flatten().is_some_and(|(stored, version)| match &fill.fence {
            Fence::Seen(seen) => version == *seen,
            Fence::Mark(mark) => stored == *mark,
            Fence::Open | Fence::Unknown | Fence::Fallen => false,
        });
        if stands {
            fill.stood = moment;
        }
    }

    /// Of those who wait for a load that began at a moment, who came before which one may have its value: nothing newer was
    /// there when they came. Where the fence fell, or nobody knows, that is what holds of every loader: it told what was so
    /// when it was asked.
    pub(super) async fn until(&self, fill: &Fill, stamp: &Stamp<'_>, began: Moment) -> Moment {
        match fill.stood {
            // Invalidations of tags, and of a namespace by its epoch, are no writes of this key.
            stood if stood > began && (stood == Moment::EVERYBODY || self.stamp_holds(stamp).await) => stood,
            _ => began,
        }
    }
}

/// Whether this looks like the mark of a load. Nothing is believed because of it.
fn is_mark(stored: &Bytes) -> bool {
    Envelope::peek(stored).is_some_and(|meta| meta.times.expires_ms == MARK_EXPIRES_MS)
}
