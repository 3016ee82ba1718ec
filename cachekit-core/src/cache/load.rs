//! Loading what neither tier has: one caller loads, the others wait for it.
//!
//! Stands between L1 and the second tier. The load runs in its caller's own task (`guard/flight.rs`), and its result is kept
//! only if nothing was written, deleted or cleared since it began (`invalidate/`), here or in another process (`fill.rs`).
//! What is there but past its best is served by the rules of `fresh/`; `refresh.rs` loads it anew.
//!
//! There are two kinds of loaders. One that *owns* what it needs (`get_or_load_with` and its kin) can be moved into the
//! background, so no caller waits for it who could have an older value. One that *borrows* (`get_or_load`) lives and dies with its
//! call: of those who find a stale value one loads, and the others are served.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cachekit_plugin::{Deadline, Operation};

use super::fill::{Begun, Fill};
use super::seen::{Answer, Seen, Wanted};
use super::{At, Cache, Entry, LoadOptions, Value, new_entry};
use crate::error::{Error, LoadError};
use crate::fresh::verdict::Verdict;
use crate::guard::deadline::within;
use crate::guard::flight::{Landed, Leader, Moment, Part};
use crate::invalidate::Ticket;
use crate::l1::Typed;
use crate::observe::loading;

/// A loader that cannot say that there is nothing ended without a value and without an error.
pub(super) const NO_VALUE: Error = Error::Internal("a load ended with nothing");
/// A loader is taken when it runs.
pub(super) const TWICE: Error = Error::Internal("a loader was to run twice");

impl Cache {
    /// The value of `key`, loaded if there is none.
    ///
    /// Of all callers that miss the key at the same time one runs its loader and the others get its value. If that caller
    /// goes away or its loader panics, the next one loads. A loader that asks for its own key loads on its own. Of those who
    /// find a value in its stale window one loads as well, and the others get the stale value.
    ///
    /// The deadline covers the stores, not the loader.
    ///
    /// # Errors
    /// As [`Cache::get`]; a value that cannot be stored is returned all the same.
    pub async fn get_or_load<T, F, Fut>(&self, key: impl AsRef<[u8]>, load: F) -> Result<Arc<T>, Error>
    where
        T: Value,
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let infallible = move || async move { Ok::<T, Infallible>(load().await) };
        self.try_get_or_load_here(key, LoadOptions::default(), infallible).await.map_err(without_loader)
    }

    /// As [`Cache::get_or_load`], for a loader that can fail. Its error is kept nowhere, but everybody who waited for this
    /// load gets it.
    ///
    /// # Errors
    /// [`LoadError::Loader`], and [`LoadError::Cache`] as [`Cache::get`].
    pub async fn try_get_or_load<T, E, F, Fut>(&self, key: impl AsRef<[u8]>, load: F) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.try_get_or_load_here(key, LoadOptions::default(), load).await
    }

    /// As [`Cache::try_get_or_load`], with options. Of these the soft timeout concerns loaders that own what they need, and
    /// with them alone what is still fresh is refreshed.
    ///
    /// # Errors
    /// As [`Cache::try_get_or_load`], and [`LoadError::Timeout`].
    pub async fn try_get_or_load_here<T, E, F, Fut>(
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
        let load = move || async move { load().await.map(Some) };
        let key = key.as_ref();
        let answer = match self.near::<T>(key, &wanted)? {
            Some(seen) if seen.verdict == Verdict::Stale => {
                Box::pin(self.refresh_here(&self.at(key)?, &wanted, seen, load)).await
            }
            Some(seen) => seen.answer,
            None => return self.load_here(&self.at(key)?, &wanted, load).await,
        };
        // Without a loader that could say so, nothing is no answer.
        answer.ok_or(LoadError::Cache(NO_VALUE))
    }

    /// The same for a key that L1 does not answer.
    pub(super) async fn load_here<T, E, F, Fut>(
        &self,
        at: &At,
        wanted: &Wanted,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let (seen, load) = Box::pin(self.beyond(at, wanted, load, &Course::new())).await?;
        let answer = match (seen.verdict, load) {
            (Verdict::Stale, Some(load)) => Box::pin(self.refresh_here(at, wanted, seen, load)).await,
            _ => seen.answer,
        };
        answer.ok_or(LoadError::Cache(NO_VALUE))
    }

    /// As [`Cache::get_or_load`], with options, for a loader that may outlive the call: it owns what it needs. So nobody waits for
    /// it who can have a value that is due, stale, or (past the soft timeout) only kept for failures.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cachekit_core::{Cache, LoadOptions};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let cache = Cache::builder().build()?;
    /// let options = LoadOptions::default().with_ttl(Duration::from_secs(60)).with_stale(Duration::from_secs(600));
    /// let name = cache.get_or_load_with("42", options, || async { "Ada".to_owned() }).await?;
    /// assert_eq!(*name, "Ada");
    /// # Ok::<(), cachekit_core::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Cache::get_or_load`], [`Error::LoadTimeout`]; and for options that cannot work, before anything runs, [`Error::ZeroTtl`],
    /// [`Error::Tag`], [`Error::FillLocks`] or [`Error::Freshness`].
    pub async fn get_or_load_with<T, F, Fut>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: F,
    ) -> Result<Arc<T>, Error>
    where
        T: Value,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        let infallible = move || async move { Ok::<T, Infallible>(load().await) };
        self.try_get_or_load_with(key, options, infallible).await.map_err(without_loader)
    }

    /// As [`Cache::get_or_load_with`], for a loader that can fail.
    ///
    /// # Errors
    /// [`LoadError::Loader`], [`LoadError::Timeout`], and [`LoadError::Cache`] as [`Cache::get`].
    pub async fn try_get_or_load_with<T, E, F, Fut>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let wanted = Wanted { options, nothing: false };
        let load = move || async move { load().await.map(Some) };
        let answer = self.obtain(key.as_ref(), wanted, load).await?;
        // Without a loader that could say so, nothing is no answer.
        answer.ok_or(LoadError::Cache(NO_VALUE))
    }

    /// As [`Cache::get_or_load_with`], for a loader that may find nothing. That is remembered for the negative life, if there is
    /// one ([`LoadOptions::with_negative_ttl`]): until then these methods answer `None` without a load. To every other
    /// method such a key is absent.
    ///
    /// # Errors
    /// As [`Cache::get_or_load_with`].
    pub async fn get_or_load_option<T, F, Fut>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: F,
    ) -> Result<Option<Arc<T>>, Error>
    where
        T: Value,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Option<T>> + Send + 'static,
    {
        let infallible = move || async move { Ok::<Option<T>, Infallible>(load().await) };
        self.try_get_or_load_option(key, options, infallible).await.map_err(without_loader)
    }

    /// As [`Cache::get_or_load_option`], for a loader that can fail.
    ///
    /// # Errors
    /// As [`Cache::try_get_or_load_with`].
    pub async fn try_get_or_load_option<T, E, F, Fut>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: F,
    ) -> Result<Option<Arc<T>>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        self.obtain(key.as_ref(), Wanted { options, nothing: true }, load).await
    }

    /// The way of every loader that owns what it needs.
    async fn obtain<T, E, F, Fut>(&self, key: &[u8], wanted: Wanted, load: F) -> Result<Answer<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        wanted.options.check(self.near.settings.default_ttl)?;
        if let Some(seen) = self.near::<T>(key, &wanted)? {
            if seen.verdict != Verdict::Fresh {
                self.refresh_behind(self.at(key)?, wanted, &seen, load);
            }
            return Ok(seen.answer);
        }
        let at = self.at(key)?;
        let Some(soft) = self.soft_timeout(&wanted) else {
            let (seen, load) = Box::pin(self.beyond(&at, &wanted, load, &Course::new())).await?;
            return Ok(self.served(at, wanted, seen, load));
        };
        let course = Arc::new(Course::new());
        let bound = self.longest_refresh(&wanted);
        let (cache, beyond, notes) = (self.borrowed(), at.clone(), Arc::clone(&course));
        let flight = Box::pin(async move {
            let (seen, load) = cache.beyond(&beyond, &wanted, load, &notes).await?;
            Ok(cache.served(beyond, wanted, seen, load))
        });
        self.within_soft(&at, soft, bound, &course, flight).await
    }

    fn served<T, E, F, Fut>(&self, at: At, wanted: Wanted, seen: Seen<T>, load: Option<F>) -> Answer<T>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        if let (Verdict::Due | Verdict::Stale, Some(load)) = (seen.verdict, load) {
            self.refresh_behind(at, wanted, &seen, load);
        }
        seen.answer
    }

    /// What L1 does not answer: joins the flight of the key. Gives the loader back if it was not needed.
    async fn beyond<T, E, F, Fut>(
        &self,
        at: &At,
        wanted: &Wanted,
        load: F,
        course: &Course<T>,
    ) -> Result<(Seen<T>, Option<F>), LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let mut load = Some(load);
        // In boxes, here and below: a loader may load in turn, and each level of it would lie on one stack.
        let loading = Box::pin(self.load(at, wanted, &mut load, course));
        let mut seen = self.fly(at, at.wire.as_bytes(), loading).await?;
        if seen.answer.is_none() && !wanted.nothing {
            // Others asked whether there is something, and were told no. Here it is asked what it is.
            seen = Box::pin(self.load(at, wanted, &mut load, course)).await?;
        }
        Ok((seen, load))
    }

    /// Joins the flight of a key under a name, or begins it with `load`. Who only waits drops `load` as it was given.
    pub(super) async fn fly<T, E>(
        &self,
        at: &At,
        name: &[u8],
        load: impl Future<Output = Result<Seen<T>, LoadError<E>>>,
    ) -> Result<Seen<T>, LoadError<E>>
    where
        T: Send + Sync + 'static,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
    {
        match self.engine.flights.join(at.hash, name).await {
            Part::Leader(leader) => lead(leader, load).await,
            Part::Alone => load.await,
            Part::Follower(landed) => match shared::<T, E>(landed) {
                Some(answer) => {
                    self.engine.counters.coalesced.add();
                    answer
                }
                // The same key is loaded as another type elsewhere: sharing would be a lie, so load as one's own.
                None => load.await,
            },
        }
    }

    /// Looks in the second tier, then loads and stores. The loader is taken if it runs.
    async fn load<T, E, F, Fut>(
        &self,
        at: &At,
        wanted: &Wanted,
        load: &mut Option<F>,
        course: &Course<T>,
    ) -> Result<Seen<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let engine = &*self.engine;
        course.asks.store(true, Ordering::Relaxed);
        let ticket = self.ticket(at);
        // A flight may have landed between this caller's first look and its own flight.
        if let Some(seen) = self.near_again(at, wanted) {
            return Ok(seen);
        }
        let found = self.look(at, wanted).await?;
        let found = match found {
            Some(seen) if seen.serves() => return Ok(seen),
            found => found,
        };
        // Past its time, and better than nothing should the loader fail.
        let instead = found.and_then(|seen| Some((seen.answer?, seen.until)));
        let instead = instead.or_else(|| Some((self.fallback(at)?, Moment::EVERYBODY)));
        if let Some((value, _)) = &instead {
            let _ = course.kept.set(Arc::clone(value));
        }
        // A refresh of this key may be under way, begun when there was something to refresh.
        if let Some(landed) = engine.flights.follow_refresh(at.hash, at.wire.as_bytes()).await
            && let Some(Ok(seen)) = shared::<T, E>(landed)
            && (seen.answer.is_some() || wanted.nothing)
        {
            engine.counters.coalesced.add();
            return Ok(seen);
        }
        let fill = match self.begin_fill(at, self.fill_locks(&wanted.options), true, 0).await? {
            Begun::Found(value, until) => return Ok(Seen::fresh(Some(value), until)),
            Begun::Load(fill) => fill,
            Begun::Busy => Fill::open(),
        };
        // It is taken here alone, and by one call of this at most.
        let Some(load) = load.take() else { return Err(TWICE.into()) };
        match (Box::pin(self.load_and_keep(at, wanted, ticket, fill, load)).await, instead) {
            (Err(LoadError::Loader(_) | LoadError::Timeout(_)), Some((value, until))) => {
                engine.counters.stale_if_error.add();
                Ok(Seen::fresh(Some(value), until))
            }
            (loaded, _) => loaded,
        }
    }

    /// Runs the loader and stores what it returns, unless somebody was there first.
    pub(super) async fn load_and_keep<T, E, F, Fut>(
        &self,
        at: &At,
        wanted: &Wanted,
        ticket: Ticket,
        mut fill: Fill,
        load: F,
    ) -> Result<Seen<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let engine = &*self.engine;
        // Read before the loader begins, so that what is invalidated meanwhile stays invalid.
        let tags = self.stored_tags(&wanted.options.set.tags)?;
        let stamp = self.stamp(&tags).await?;
        engine.counters.loads.add();
        let span = tracing::debug_span!(target: "cachekit", "load", key = ?at.wire);
        let load = || loading(span, load());
        let began = engine.flights.moment();
        let began_ms = engine.clock.coarse_ms();
        let loaded = match self.hard_timeout(wanted) {
            None => load().await,
            Some(timeout) => match no_longer_than(timeout, load()).await {
                Some(loaded) => loaded,
                None => {
                    engine.counters.load_failures.add();
                    engine.counters.hard_timeouts.add();
                    fill.end().await;
                    return Err(LoadError::Timeout(timeout));
                }
            },
        };
        let answer = match loaded {
            Ok(value) => value.map(Arc::new),
            Err(error) => {
                engine.counters.load_failures.add();
                fill.end().await;
                return Err(LoadError::Loader(Arc::new(error)));
            }
        };
        let cost_us = engine.clock.coarse_ms().saturating_sub(began_ms).saturating_mul(1000);
        let entry = match &answer {
            Some(value) => {
                let times = self.loaded_times(&wanted.options.set)?;
                let stored = engine.codec.encode(&new_entry(at, times, cost_us, &stamp), &**value);
                let typed = Some(Arc::clone(value) as Typed);
                Some(stored.map(|stored| Entry { stored, times, typed, decodes: true }).map_err(Error::from))
            }
            None => self.negative_entry(at, wanted, &stamp, &fill),
        };
        // The caller has what it asked for; that it could not be kept is the cache's problem, and counted.
        let kept = match entry {
            Some(Ok(entry)) => self.write(at, entry, !stamp.is_invented, Some(ticket), Some(&mut fill)).await.map(Some),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        };
        if !matches!(kept, Ok(Some(_)) | Err(Error::Backend(_))) {
            // Nothing was written that the store could have refused.
            self.ask_fence(at, &mut fill).await;
        }
        let until = self.until(&fill, &stamp, began).await;
        fill.end().await;
        match kept {
            Err(error @ Error::Backend(_)) if engine.settings.strict => Err(error.into()),
            _ => Ok(Seen::fresh(answer, until)),
        }
    }

    pub(super) fn hard_timeout(&self, wanted: &Wanted) -> Option<Duration> {
        wanted.options.hard_timeout.unwrap_or(self.near.fresh.config.hard_timeout)
    }

    fn soft_timeout(&self, wanted: &Wanted) -> Option<Duration> {
        wanted.options.soft_timeout.unwrap_or(self.near.fresh.config.soft_timeout)
    }
}

/// How far a call has come, for its caller, who may not wait for its end.
pub(super) struct Course<T> {
    /// What it found that is better than nothing.
    pub(super) kept: OnceLock<Arc<T>>,
    /// It asks the store and the loader itself, and does not only wait for somebody who does.
    pub(super) asks: AtomicBool,
}

impl<T> Course<T> {
    const fn new() -> Self {
        Self { kept: OnceLock::new(), asks: AtomicBool::new(false) }
    }
}

/// Loads for everybody who waits.
pub(super) async fn lead<T, E>(
    leader: Leader<'_>,
    load: impl Future<Output = Result<Seen<T>, LoadError<E>>>,
) -> Result<Seen<T>, LoadError<E>>
where
    T: Send + Sync + 'static,
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    let answer = leader.lead(load).await;
    // An error is older than nothing that anybody knows of.
    match &answer {
        Ok(seen) => leader.land(Ok(seen.landed()), seen.until),
        Err(LoadError::Loader(error)) => {
            leader.land(Err(Arc::clone(error) as Arc<dyn Any + Send + Sync>), Moment::EVERYBODY)
        }
        Err(LoadError::Timeout(after)) => leader.land(Err(Arc::new(TimedOut(*after))), Moment::EVERYBODY),
        // A strict cache's store failed. Everybody asks it for himself: one after the other, the last would wait for as
        // many deadlines as there are callers.
        Err(LoadError::Cache(_)) => leader.part(),
    }
    answer
}

/// Its age goes with a value: who waited for a stale one counts it, and sees to its refresh if nobody does.
struct Aged<T>(Answer<T>, Verdict, u64, Moment);

impl<T: Send + Sync + 'static> Seen<T> {
    /// What a flight ends with, for all who wait for it.
    pub(super) fn landed(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(Aged(self.answer.clone(), self.verdict, self.created_ms, self.until))
    }

    fn share(landed: Arc<dyn Any + Send + Sync>) -> Option<Self> {
        let aged = landed.downcast::<Aged<T>>().ok()?;
        Some(Self { answer: aged.0.clone(), verdict: aged.1, created_ms: aged.2, until: aged.3 })
    }
}

/// What everybody gets who waited for a loader that took too long.
struct TimedOut(Duration);

/// What a flight landed, as the types this caller expects; `None` if they are others.
pub(super) fn shared<T, E>(landed: Landed) -> Option<Result<Seen<T>, LoadError<E>>>
where
    T: Send + Sync + 'static,
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    match landed {
        Ok(value) => Seen::share(value).map(Ok),
        Err(error) => match error.downcast::<TimedOut>() {
            Ok(timed_out) => Some(Err(LoadError::Timeout(timed_out.0))),
            Err(error) => error.downcast::<E>().ok().map(|error| Err(LoadError::Loader(error))),
        },
    }
}

/// The error of a load whose loader cannot fail.
pub(super) fn without_loader(error: LoadError<Infallible>) -> Error {
    match error {
        LoadError::Cache(error) => error,
        LoadError::Timeout(after) => Error::LoadTimeout(after),
        LoadError::Loader(never) => match *never {},
    }
}

/// Runs `work` for at most `timeout`; then it is dropped.
async fn no_longer_than<T>(timeout: Duration, work: impl Future<Output = T>) -> Option<T> {
    within(Deadline::after(timeout), Operation::Get, async { Ok(work.await) }).await.ok()
}
