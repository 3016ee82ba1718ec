//! `#[cached]`: a function whose answers are kept.
//!
//! ```
//! use cachekit::cached;
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct User {
//!     name: String,
//! }
//!
//! # struct Database;
//! # impl Database { async fn user(&self, id: u64) -> Result<User, std::io::Error> { Ok(User { name: format!("user {id}") }) } }
//! #[cached(ttl = "10m", namespace = "users", skip(database))]
//! async fn user(database: &Database, id: u64) -> Result<User, std::io::Error> {
//!     database.user(id).await
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # cachekit::set_default_cache(Some(cachekit::Cache::builder().build()?));
//! # let database = Database;
//! user(&database, 42).await?; // asks the database
//! user(&database, 42).await?; // does not
//! user_invalidate_cache(42).await?;
//! user(&database, 42).await?; // asks it again
//! assert_eq!((user_cache_stats().hits, user_cache_stats().misses), (1, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! The whole of it, with every word of the attribute, is in `docs/macros.md`. Here is what runs: the attribute generates
//! little more than a [`Call`] and hands it the function.
//!
//! What this protects: the program. A cache that fails, is closed or cannot be opened makes a call slower and never wrong:
//! the function runs, and its answer is returned. Only a function that is marked `strict` hears of it.

mod failure;
mod kept_by;
mod key;
pub mod rule;
mod stats;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub use failure::CachedError;
pub use kept_by::{AsCache, Place};
pub use key::{InteropArgument, Key, KeyBuilder, KeyPart, interop_argument};
pub use stats::FunctionStats;

use cachekit_core::cache::{Interop, LoadOptions, SetOptions};
use cachekit_core::{Cache, Error, LoadError};
use rule::{Rest, Rule, Sharing};
use stats::Counts;

/// One cached function: which cache it asks if it names none, and what its calls came to.
#[derive(Debug)]
pub struct Function {
    name: &'static str,
    namespace: Option<&'static str>,
    preset: Option<&'static str>,
    cache: OnceLock<Cache>,
    interop: OnceLock<Interop>,
    counts: Counts,
    /// Whether its cache has failed before: that is news once.
    failed: AtomicBool,
}

impl Function {
    #[doc(hidden)]
    pub const fn new(name: &'static str, namespace: Option<&'static str>, preset: Option<&'static str>) -> Self {
        Self {
            name,
            namespace,
            preset,
            cache: OnceLock::new(),
            interop: OnceLock::new(),
            counts: Counts::new(),
            failed: AtomicBool::new(false),
        }
    }

    /// The process's cache, in the namespace of this function. Kept from the first call on.
    #[doc(hidden)]
    pub fn place(&'static self) -> Result<Place, CachedError> {
        if let Some(cache) = self.cache.get() {
            return Ok(Place::Own(cache.clone()));
        }
        let cache = crate::process_default::shared_cache(self.preset).map_err(CachedError::Config)?;
        let cache = match self.namespace {
            Some(name) => cache.namespace(name).map_err(Error::from)?,
            None => cache,
        };
        Ok(Place::Own(self.cache.get_or_init(|| cache).clone()))
    }

    /// The process's cache as other languages see it.
    #[doc(hidden)]
    pub fn interop(&'static self, namespace: &str) -> Result<Place, CachedError> {
        if let Some(interop) = self.interop.get() {
            return Ok(Place::Interop(interop.clone()));
        }
        let cache = crate::process_default::shared_cache(self.preset).map_err(CachedError::Config)?;
        let interop = cache.interop(namespace)?;
        Ok(Place::Interop(self.interop.get_or_init(|| interop).clone()))
    }

    /// What its calls came to in this process.
    #[must_use]
    pub fn stats(&self) -> FunctionStats {
        self.counts.read()
    }

    /// The function runs without its cache, which is worth a warning once.
    fn tell(&self, error: &CachedError) {
        self.counts.bypassed();
        let function = self.name;
        if self.failed.swap(true, Ordering::Relaxed) {
            tracing::debug!(target: "cachekit", function, "runs without its cache: {error}");
        } else {
            tracing::warn!(target: "cachekit", function, "runs without its cache: {error}");
        }
    }
}

/// One call of a cached function, before the function has run.
#[doc(hidden)]
#[must_use]
pub struct Call<Ru: Rule<R>, R> {
    function: &'static Function,
    target: Result<(Place, Key), CachedError>,
    sharing: Option<Sharing<R>>,
    /// How a value is written that is known already.
    set: SetOptions,
    /// Whether `options` say something of that which cannot be read back from them.
    only_loads: bool,
    load: LoadOptions,
    ttl: Option<Duration>,
    strict: Option<fn(CachedError) -> R>,
    rule: std::marker::PhantomData<fn() -> Ru>,
}

#[doc(hidden)]
impl<Ru: Rule<R>, R> Call<Ru, R> {
    pub fn new(
        function: &'static Function,
        place: Result<Place, CachedError>,
        key: Result<Key, CachedError>,
        sharing: Option<Sharing<R>>,
    ) -> Self {
        let target = place.and_then(|place| Ok((place, key?)));
        let (set, load) = (SetOptions::default(), LoadOptions::default());
        let rule = std::marker::PhantomData;
        Self { function, target, sharing, set, only_loads: false, load, ttl: None, strict: None, rule }
    }

    /// Said first: the words of the attribute are laid over what stands in there.
    pub fn options(mut self, options: LoadOptions) -> Self {
        self.only_loads = options != options.clone().with_set(SetOptions::default());
        self.load = options;
        self
    }

    pub fn ttl(mut self, ttl: Duration) -> Self {
        if ttl.is_zero() {
            // Not after the load, when its answer would be lost.
            self.target = Err(Error::ZeroTtl.into());
        }
        self.ttl = Some(ttl);
        self.set = self.set.with_ttl(ttl);
        self.load = self.load.with_ttl(ttl);
        self
    }

    pub fn stale(mut self, stale: Duration) -> Self {
        self.set = self.set.with_stale(stale);
        self.load = self.load.with_stale(stale);
        self
    }

    pub fn tag(mut self, tag: String) -> Self {
        self.load = self.load.with_tag(&tag);
        self.set = self.set.with_tag(tag);
        self
    }

    pub fn strict(mut self, convert: fn(CachedError) -> R) -> Self {
        self.strict = Some(convert);
        self
    }

    /// What is kept, or else what the function returns.
    pub async fn load<F, Fut>(self, run: F) -> R
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = R>,
    {
        self.ask(run, Way::Load).await
    }

    /// Runs the function, whatever is kept, and keeps what it returns. What it returns no more is forgotten; where it fails,
    /// what is kept stays.
    pub async fn refresh<F, Fut>(self, run: F) -> R
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = R>,
    {
        self.ask(run, Way::Refresh).await
    }

    async fn ask<F, Fut>(self, run: F, way: Way) -> R
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = R>,
    {
        let Self { function, target, sharing, load, ttl, strict, .. } = self;
        // Owned here and not by the loader: whatever ends the loader early, a timeout for one, the work itself goes on.
        let mut work = pin!(async move { run().await });
        let mut answer = Answer::<Ru::Stored, R>::none();
        let kept = match &target {
            Ok((place, key)) => {
                let loader = async || {
                    let returned = work.as_mut().await;
                    answer.split::<Ru>(returned, sharing)
                };
                place.load(key, load, ttl, way, loader).await
            }
            Err(_) => Err(LoadError::Loader(Arc::new(Rest::Returned(None)))),
        };
        match kept {
            Ok(value) => {
                function.counts.call(answer.ran);
                let Some(rest) = answer.rest.take().filter(Ru::is_none) else { return Ru::join(value) };
                // The function has just said that there is nothing, and the cache took that for a failure.
                match target {
                    Ok((place, key)) => forget(function, strict, &place, &key, rest).await,
                    Err(_) => rest,
                }
            }
            Err(error) => {
                if let Some(rest) = answer.rest.take().or_else(|| shared(&error, sharing)) {
                    function.counts.call(answer.ran);
                    if way == Way::Refresh
                        && Ru::is_none(&rest)
                        && let Ok((place, key)) = &target
                    {
                        return forget(function, strict, place, key, rest).await;
                    }
                    return rest;
                }
                if let Some(error) = failure(error, target) {
                    if let Some(convert) = strict {
                        function.counts.call(answer.ran);
                        return convert(error);
                    }
                    function.tell(&error);
                }
                function.counts.call(true);
                match answer.value.take() {
                    Some(value) => Ru::join(Arc::new(value)),
                    None => work.await,
                }
            }
        }
    }

    /// As [`Self::load`], for a function that may finish after the call has returned: it owns what it needs.
    pub async fn load_owned<F, Fut>(self, run: F) -> R
    where
        F: FnOnce() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Send + 'static,
        Ru: 'static,
    {
        let Self { function, target, sharing, load, ttl, strict, .. } = self;
        let answer = Arc::new(Mutex::new(Answer::<Ru::Stored, R>::none()));
        let kept = match &target {
            Ok((place, key)) => {
                let (answer, run) = (Arc::clone(&answer), run.clone());
                let loader = move || async move {
                    let returned = run().await;
                    answer.lock().unwrap_or_else(PoisonError::into_inner).split::<Ru>(returned, sharing)
                };
                // Where a timeout could not be returned there is none: the loader would be dropped with its answer.
                let load = if strict.is_some() { load } else { load.without_hard_timeout() };
                place.load_owned(key, load, ttl, loader).await
            }
            Err(_) => Err(LoadError::Loader(Arc::new(Rest::Returned(None)))),
        };
        let (ran, rest, value) = {
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            (answer.ran, answer.rest.take(), answer.value.take())
        };
        match kept {
            Ok(Some(value)) => {
                function.counts.call(ran);
                let Some(rest) = rest.filter(Ru::is_none) else { return Ru::join(value) };
                match target {
                    Ok((place @ Place::Interop(_), key)) => forget(function, strict, &place, &key, rest).await,
                    _ => rest,
                }
            }
            Ok(None) => {
                let rest = rest.or_else(Ru::none);
                function.counts.call(ran || rest.is_none());
                match rest {
                    Some(rest) => rest,
                    None => run().await,
                }
            }
            Err(error) => {
                if let Some(rest) = rest.or_else(|| shared(&error, sharing)) {
                    function.counts.call(ran);
                    return rest;
                }
                if let Some(error) = failure(error, target) {
                    if let Some(convert) = strict {
                        function.counts.call(ran);
                        return convert(error);
                    }
                    function.tell(&error);
                }
                function.counts.call(true);
                match value {
                    Some(value) => Ru::join(Arc::new(value)),
                    None => run().await,
                }
            }
        }
    }

    pub async fn refresh_owned<F, Fut>(self, run: F) -> R
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = R>,
    {
        self.refresh(run).await
    }

    /// Keeps a value that is known already.
    pub async fn prime(self, value: &Ru::Stored) -> Result<(), CachedError> {
        let (place, key) = self.target?;
        if self.only_loads {
            // Kept without its tags, it would outlive what they are invalidated for.
            return Err(NOT_OF_A_LOAD.into());
        }
        place.set(&key, value, self.set, self.ttl).await
    }

    /// Forgets what is kept.
    pub async fn invalidate(self) -> Result<bool, CachedError> {
        let (place, key) = self.target?;
        place.delete(&key).await
    }

    /// The key, as `cachekit get` takes it.
    pub fn key_text(self) -> Result<String, CachedError> {
        let (place, key) = self.target?;
        place.key_text(&key)
    }
}

/// The options of a load are not read apart here, and a value without its life and tags is another one.
const NOT_OF_A_LOAD: Error = Error::Unsupported {
    operation: "prime with a life or tags inside `options`",
    needs: "reads them there; say them as `ttl`, `stale` and `tags` of `#[cached]`",
};

/// Whether what is kept will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Load,
    Refresh,
}

/// What came of running the function.
struct Answer<S, R> {
    ran: bool,
    /// What is returned and not kept.
    rest: Option<R>,
    /// A copy of what is kept: the cache may fail after the load, and the function does not run twice.
    value: Option<S>,
}

impl<S: Clone, R> Answer<S, R> {
    fn none() -> Self {
        Self { ran: false, rest: None, value: None }
    }

    fn split<Ru: Rule<R, Stored = S>>(&mut self, returned: R, sharing: Option<Sharing<R>>) -> Result<S, Rest> {
        self.ran = true;
        match Ru::split(returned) {
            Ok(value) => {
                self.value = Some(value.clone());
                Ok(value)
            }
            Err(rest) => {
                let copy = sharing.map(|sharing| sharing.pack(&rest));
                let is_none = Ru::is_none(&rest);
                self.rest = Some(rest);
                Err(if is_none { Rest::Nothing(copy) } else { Rest::Returned(copy) })
            }
        }
    }
}

/// What another caller's run of the function returned, if it can be had twice.
fn shared<R>(error: &LoadError<Rest>, sharing: Option<Sharing<R>>) -> Option<R> {
    match error {
        LoadError::Loader(rest) => {
            let (Rest::Returned(packed) | Rest::Nothing(packed)) = &**rest;
            sharing?.unpack(&**packed.as_ref()?)
        }
        _ => None,
    }
}

/// What the cache failed with; `None` if it was the function of another caller that returned what is not kept.
fn failure<T>(error: LoadError<Rest>, target: Result<T, CachedError>) -> Option<CachedError> {
    match (target, error) {
        (Err(error), _) => Some(error),
        (Ok(_), LoadError::Cache(error)) => Some(error.into()),
        (Ok(_), LoadError::Timeout(after)) => Some(Error::LoadTimeout(after).into()),
        (Ok(_), _) => None,
    }
}

/// Forgets what is kept of a function that has said that there is nothing.
async fn forget<R>(
    function: &Function,
    strict: Option<fn(CachedError) -> R>,
    place: &Place,
    key: &Key,
    returned: R,
) -> R {
    match place.delete(key).await {
        Ok(_) => returned,
        Err(error) => after_all(function, strict, error, returned),
    }
}

/// The function has run, and the cache has failed.
fn after_all<R>(function: &Function, strict: Option<fn(CachedError) -> R>, error: CachedError, returned: R) -> R {
    match strict {
        Some(convert) => convert(error),
        None => {
            function.tell(&error);
            returned
        }
    }
}
