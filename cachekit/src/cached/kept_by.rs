//! Where answers are kept: in a cache's own entries, or in entries that other languages read.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cachekit_core::blocking::BlockingCache;
use cachekit_core::cache::{Interop, LoadOptions, SetOptions, Value};
use cachekit_core::{Cache, Error, LoadError};

use super::Way;
use super::failure::CachedError;
use super::key::Key;
use super::rule::Rest;

/// What can stand behind `cache = …`: a cache, or what points to one.
pub trait AsCache {
    #[doc(hidden)]
    fn __cachekit_cache(&self) -> Cache;
}

impl AsCache for Cache {
    fn __cachekit_cache(&self) -> Cache {
        self.clone()
    }
}

impl AsCache for BlockingCache {
    fn __cachekit_cache(&self) -> Cache {
        self.cache().clone()
    }
}

/// Where the answers of a call are kept.
#[doc(hidden)]
#[derive(Debug)]
pub enum Place {
    /// In entries of this cache.
    Own(Cache),
    /// In entries that other languages read.
    Interop(Interop),
}

#[doc(hidden)]
impl Place {
    /// A cache that was named, in the namespace that was named.
    pub fn of(cache: Cache, namespace: Option<&str>) -> Result<Self, CachedError> {
        Ok(Self::Own(match namespace {
            Some(name) => cache.namespace(name).map_err(Error::from)?,
            None => cache,
        }))
    }

    /// A cache that was named, as other languages see it.
    pub fn interop(cache: Cache, namespace: &str) -> Result<Self, CachedError> {
        Ok(Self::Interop(cache.interop(namespace)?))
    }

    /// A handle that was named, which may be secure.
    pub fn of_handle(interop: &Interop) -> Result<Self, CachedError> {
        Ok(Self::Interop(interop.clone()))
    }
}

impl Place {
    pub(super) async fn load<T, F, Fut>(
        &self,
        key: &Key,
        options: LoadOptions,
        ttl: Option<Duration>,
        way: Way,
        load: F,
    ) -> Result<Arc<T>, LoadError<Rest>>
    where
        T: Value,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, Rest>>,
    {
        match (self, key, way) {
            (Self::Own(cache), Key::Own(key), Way::Load) => cache.try_get_or_load_here(key, options, load).await,
            (Self::Own(cache), Key::Own(key), Way::Refresh) => cache.try_refresh_with(key, options, load).await,
            (Self::Interop(interop), Key::Interop { operation, arguments }, Way::Load) => {
                interop.try_get_or_load(operation, arguments, ttl, load).await
            }
            (Self::Interop(interop), Key::Interop { operation, arguments }, Way::Refresh) => {
                let value = load().await.map_err(|rest| LoadError::Loader(Arc::new(rest)))?;
                interop.set(operation, arguments, &value, ttl).await?;
                Ok(Arc::new(value))
            }
            _ => Err(MISMATCH.into()),
        }
    }

    pub(super) async fn load_owned<T, F, Fut>(
        &self,
        key: &Key,
        options: LoadOptions,
        ttl: Option<Duration>,
        load: F,
    ) -> Result<Option<Arc<T>>, LoadError<Rest>>
    where
        T: Value,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Rest>> + Send + 'static,
    {
        match (self, key) {
            (Self::Own(cache), Key::Own(key)) => {
                // That there is nothing is no failure: what was there before is not served any more.
                let load = move || async move {
                    match load().await {
                        Ok(value) => Ok(Some(value)),
                        Err(Rest::Nothing(_)) => Ok(None),
                        Err(rest) => Err(rest),
                    }
                };
                cache.try_get_or_load_option(key, options.without_negative_ttl(), load).await
            }
            // Their entries know no stale window.
            _ => self.load(key, options, ttl, Way::Load, load).await.map(Some),
        }
    }

    pub(super) async fn set<T: Value>(
        &self,
        key: &Key,
        value: &T,
        options: SetOptions,
        ttl: Option<Duration>,
    ) -> Result<(), CachedError> {
        match (self, key) {
            (Self::Own(cache), Key::Own(key)) => cache.set_with(key, value, options).await?,
            (Self::Interop(interop), Key::Interop { operation, arguments }) => {
                interop.set(operation, arguments, value, ttl).await?;
            }
            _ => return Err(MISMATCH.into()),
        }
        Ok(())
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<bool, CachedError> {
        match (self, key) {
            (Self::Own(cache), Key::Own(key)) => Ok(cache.delete(key).await?),
            (Self::Interop(interop), Key::Interop { operation, arguments }) => {
                Ok(interop.delete(operation, arguments).await?)
            }
            _ => Err(MISMATCH.into()),
        }
    }

    pub(super) fn key_text(&self, key: &Key) -> Result<String, CachedError> {
        match (self, key) {
            (_, Key::Own(key)) => Ok(key.clone()),
            (Self::Interop(interop), Key::Interop { operation, arguments }) => Ok(interop.key(operation, arguments)?),
            _ => Err(MISMATCH.into()),
        }
    }
}

/// Not reachable from generated code, which makes both of one kind.
const MISMATCH: Error = Error::Unsupported { operation: "cached", needs: "is asked for the keys it has" };
