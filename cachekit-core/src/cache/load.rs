//! Loading what neither tier has: one caller loads, the others wait for it.
//!
//! Stands between L1 and the second tier. The load runs in its caller's own task (`guard/flight.rs`), and its result is kept
//! only if nothing was written, deleted or cleared since it began (`invalidate.rs`).

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{Deadline, Operation};

use super::fill::{Begun, Fill};
use super::{At, Cache, Entry, LoadOptions, Value, new_entry};
use crate::error::{Error, LoadError};
use crate::guard::deadline::within;
use crate::guard::flight::{Landed, Leader, Part};
use crate::l1::Typed;
use crate::observe::loading;

impl Cache {
    /// The value of `key`, loaded if there is none.
    ///
    /// Of all callers that miss the key at the same time one runs its loader and the others get its value. If that caller
    /// goes away or its loader panics, the next one loads. A loader that asks for its own key loads on its own.
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
        let infallible = async || Ok::<T, Infallible>(load().await);
        self.try_get_or_load(key, infallible).await.map_err(without_loader)
    }

    /// As [`Cache::get_or_load`], with options, for a loader that may outlive the call: it owns what it needs.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`], and [`Error::LoadTimeout`].
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
        let key = key.as_ref();
        if let Some(value) = self.typed_in_l1(key)? {
            return Ok(value);
        }
        let at = self.at(key)?;
        self.fly(&at, at.wire.as_bytes(), self.load(&at, &options, load)).await
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

    /// As [`Cache::try_get_or_load`], with options, for a loader that borrows from its caller: it cannot outlive the call, so
    /// whatever is refreshed behind a caller's back is not refreshed by it.
    ///
    /// # Errors
    /// As [`Cache::try_get_or_load_with`].
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
        let key = key.as_ref();
        if let Some(value) = self.typed_in_l1(key)? {
            return Ok(value);
        }
        let at = self.at(key)?;
        self.fly(&at, at.wire.as_bytes(), self.load(&at, &options, load)).await
    }

    /// Joins the flight of a key under a name, or begins it with `load`. Who only waits drops `load` as it was given.
    pub(super) async fn fly<T, E>(
        &self,
        at: &At,
        name: &[u8],
        load: impl Future<Output = Result<Arc<T>, LoadError<E>>>,
    ) -> Result<Arc<T>, LoadError<E>>
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

    /// Looks in the second tier, then loads and stores.
    pub(super) async fn load<T, E, F, Fut>(
        &self,
        at: &At,
        options: &LoadOptions,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: fmt::Debug + fmt::Display,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let engine = &*self.engine;
        let ticket = self.ticket(at);
        // A flight may have landed between this caller's first look and its own flight.
        let landed = self.l1_peek(at);
        if let Some(value) = landed.and_then(|hit| self.typed(at.wire.as_bytes(), hit)) {
            return Ok(value);
        }
        if let Some(value) = self.tier_value(at).await? {
            return Ok(value);
        }
        let mut fill = match self.begin_fill(at, self.fill_locks(options), true).await? {
            Begun::Found(value) => return Ok(value),
            Begun::Load(fill) => fill,
            Begun::Busy => Fill::open(),
        };
        // Read before the loader begins, so that what is invalidated meanwhile stays invalid.
        let stamp = self.stamp(&options.set.tags).await?;
        engine.counters.loads.add();
        let span = tracing::debug_span!(target: "cachekit", "load", key = ?at.wire);
        let load = || loading(span, load());
        let began_ms = engine.clock.coarse_ms();
        let loaded = match options.hard_timeout.flatten() {
            None => load().await,
            Some(timeout) => match no_longer_than(timeout, load()).await {
                Some(loaded) => loaded,
                None => {
                    engine.counters.load_failures.add();
                    return Err(LoadError::Timeout(timeout));
                }
            },
        };
        let value = match loaded {
            Ok(value) => Arc::new(value),
            Err(error) => {
                engine.counters.load_failures.add();
                return Err(LoadError::Loader(Arc::new(error)));
            }
        };
        let cost_us = engine.clock.coarse_ms().saturating_sub(began_ms).saturating_mul(1000);
        let times = self.times(&options.set)?;
        // The caller has what it asked for; that it could not be kept is the cache's problem, and counted.
        let kept = match engine.codec.encode(&new_entry(at, times, cost_us, &stamp), &*value) {
            Ok(stored) => {
                let typed = Some(Arc::clone(&value) as Typed);
                let entry = Entry { stored, times, typed, decodes: true };
                self.write(at, entry, Some(ticket), Some(&mut fill)).await.map(|_| ())
            }
            Err(error) => Err(error.into()),
        };
        fill.end().await;
        match kept {
            Err(error @ Error::Backend(_)) if engine.settings.strict => Err(error.into()),
            _ => Ok(value),
        }
    }
}

/// Loads for everybody who waits.
async fn lead<T, E>(
    leader: Leader<'_>,
    load: impl Future<Output = Result<Arc<T>, LoadError<E>>>,
) -> Result<Arc<T>, LoadError<E>>
where
    T: Send + Sync + 'static,
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    let answer = leader.lead(load).await;
    match &answer {
        Ok(value) => leader.land(Ok(Arc::clone(value) as Arc<dyn Any + Send + Sync>)),
        Err(LoadError::Loader(error)) => leader.land(Err(Arc::clone(error) as Arc<dyn Any + Send + Sync>)),
        Err(LoadError::Timeout(after)) => leader.land(Err(Arc::new(TimedOut(*after)))),
        // A strict cache's store failed. Everybody asks it for himself: one after the other, the last would wait for as
        // many deadlines as there are callers.
        Err(LoadError::Cache(_)) => leader.part(),
    }
    answer
}

/// What everybody gets who waited for a loader that took too long.
struct TimedOut(Duration);

/// What a flight landed, as the types this caller expects; `None` if they are others.
fn shared<T, E>(landed: Landed) -> Option<Result<Arc<T>, LoadError<E>>>
where
    T: Send + Sync + 'static,
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    match landed {
        Ok(value) => value.downcast::<T>().ok().map(Ok),
        Err(error) => match error.downcast::<TimedOut>() {
            Ok(timed_out) => Some(Err(LoadError::Timeout(timed_out.0))),
            Err(error) => error.downcast::<E>().ok().map(|error| Err(LoadError::Loader(error))),
        },
    }
}

/// The error of a load whose loader cannot fail.
fn without_loader(error: LoadError<Infallible>) -> Error {
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
