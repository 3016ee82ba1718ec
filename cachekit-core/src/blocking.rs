//! The same cache for programs without a runtime: each call waits on the calling thread.
//!
//! An L1 hit costs what it costs in async code. Anything else runs here with the engine's own timer and, for backends that
//! are linked and want one, its own reactor.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use cachekit_plugin::Ttl;
use serde::Serialize;

use crate::cache::{Cache, CacheHealth, KeyPage, LoadOptions, Loaded, SetOptions, Value};
use crate::error::{Error, LoadError};
use crate::guard::deadline::background;
use crate::observe::Stats;

/// A blocking view of a [`Cache`]. In async code use the cache itself: these calls hold up their thread.
///
/// ```
/// let cache = cachekit_core::Cache::builder().build()?.blocking();
/// let answer = cache.get_or_load("answer", || 42_u32)?;
/// assert_eq!(*answer, 42);
/// # Ok::<(), cachekit_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BlockingCache {
    cache: Cache,
}

impl Cache {
    /// This cache, for callers that wait.
    pub fn blocking(&self) -> BlockingCache {
        BlockingCache { cache: self.clone() }
    }
}

impl BlockingCache {
    /// The cache behind it.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// See [`Cache::get`].
    pub fn get<T: Value>(&self, key: impl AsRef<[u8]>) -> Result<Option<Arc<T>>, Error> {
        wait(self.cache.get(key))
    }

    /// See [`Cache::get_bytes`].
    pub fn get_bytes(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        wait(self.cache.get_bytes(key))
    }

    /// See [`Cache::get_many`].
    pub fn get_many<T: Value, K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Arc<T>>>, Error> {
        wait(self.cache.get_many(keys))
    }

    /// See [`Cache::set`].
    pub fn set<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), Error> {
        wait(self.cache.set(key, value))
    }

    /// See [`Cache::set_with`].
    pub fn set_with<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        options: SetOptions,
    ) -> Result<(), Error> {
        wait(self.cache.set_with(key, value, options))
    }

    /// See [`Cache::set_bytes`].
    pub fn set_bytes(&self, key: impl AsRef<[u8]>, bytes: &[u8], options: SetOptions) -> Result<(), Error> {
        wait(self.cache.set_bytes(key, bytes, options))
    }

    /// See [`Cache::set_many`].
    pub fn set_many<T: Serialize, K: AsRef<[u8]>>(&self, items: &[(K, T)], options: SetOptions) -> Result<(), Error> {
        wait(self.cache.set_many(items, options))
    }

    /// See [`Cache::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        wait(self.cache.delete(key))
    }

    /// See [`Cache::invalidate_tag`].
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<(), Error> {
        wait(self.cache.invalidate_tag(tag))
    }

    /// See [`Cache::invalidate_tags`].
    pub fn invalidate_tags<T: AsRef<[u8]>>(&self, tags: &[T]) -> Result<(), Error> {
        wait(self.cache.invalidate_tags(tags))
    }

    /// See [`Cache::delete_many`].
    pub fn delete_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64, Error> {
        wait(self.cache.delete_many(keys))
    }

    /// See [`Cache::exists`].
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        wait(self.cache.exists(key))
    }

    /// See [`Cache::ttl`].
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Option<Ttl>, Error> {
        wait(self.cache.ttl(key))
    }

    /// See [`Cache::touch`].
    pub fn touch(&self, key: impl AsRef<[u8]>, options: SetOptions) -> Result<bool, Error> {
        wait(self.cache.touch(key, options))
    }

    /// See [`Cache::get_or_load`].
    pub fn get_or_load<T: Value>(&self, key: impl AsRef<[u8]>, load: impl FnOnce() -> T) -> Result<Arc<T>, Error> {
        wait(self.cache.get_or_load(key, async || load()))
    }

    /// See [`Cache::try_get_or_load`].
    pub fn try_get_or_load<T, E>(
        &self,
        key: impl AsRef<[u8]>,
        load: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: std::fmt::Debug + std::fmt::Display + Send + Sync + 'static,
    {
        wait(self.cache.try_get_or_load(key, async || load()))
    }

    /// See [`Cache::get_or_load_with`].
    pub fn get_or_load_with<T: Value>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Arc<T>, Error> {
        wait(self.cache.get_or_load_with(key, options, move || async move { load() }))
    }

    /// See [`Cache::try_get_or_load_with`].
    pub fn try_get_or_load_with<T, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: std::fmt::Debug + std::fmt::Display + Send + Sync + 'static,
    {
        wait(self.cache.try_get_or_load_with(key, options, move || async move { load() }))
    }

    /// See [`Cache::get_or_load_many`].
    pub fn get_or_load_many<T, K>(
        &self,
        keys: &[K],
        mut load: impl FnMut(Vec<K>) -> Vec<Option<T>>,
    ) -> Result<Vec<Option<Arc<T>>>, Error>
    where
        T: Value,
        K: AsRef<[u8]> + Clone,
    {
        wait(self.cache.get_or_load_many(keys, |missing| std::future::ready(load(missing))))
    }

    /// See [`Cache::try_get_or_load_many`].
    pub fn try_get_or_load_many<T, E, K>(
        &self,
        keys: &[K],
        options: LoadOptions,
        mut load: impl FnMut(Vec<K>) -> Result<Vec<Result<T, E>>, E>,
    ) -> Result<Loaded<T, E>, Error>
    where
        T: Value,
        E: std::fmt::Debug + std::fmt::Display + Send + Sync + 'static,
        K: AsRef<[u8]> + Clone,
    {
        wait(self.cache.try_get_or_load_many(keys, options, |missing| std::future::ready(load(missing))))
    }

    /// See [`Cache::get_or_load_option`].
    pub fn get_or_load_option<T: Value>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Result<Option<Arc<T>>, Error> {
        wait(self.cache.get_or_load_option(key, options, move || async move { load() }))
    }

    /// See [`Cache::try_get_or_load_option`].
    pub fn try_get_or_load_option<T, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: impl FnOnce() -> Result<Option<T>, E> + Send + 'static,
    ) -> Result<Option<Arc<T>>, LoadError<E>>
    where
        T: Value,
        E: std::fmt::Debug + std::fmt::Display + Send + Sync + 'static,
    {
        wait(self.cache.try_get_or_load_option(key, options, move || async move { load() }))
    }

    /// See [`Cache::try_get_or_load_here`].
    pub fn try_get_or_load_here<T, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: std::fmt::Debug + std::fmt::Display + Send + Sync + 'static,
    {
        wait(self.cache.try_get_or_load_here(key, options, move || async move { load() }))
    }

    /// See [`Cache::refresh`].
    pub fn refresh<T: Value>(&self, key: impl AsRef<[u8]>, load: impl FnOnce() -> T) -> Result<Arc<T>, Error> {
        wait(self.cache.refresh(key, move || async move { load() }))
    }

    /// See [`Cache::try_refresh_with`].
    pub fn try_refresh_with<T, E>(
        &self,
        key: impl AsRef<[u8]>,
        options: LoadOptions,
        load: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Value,
        E: std::fmt::Debug + std::fmt::Display + Send + Sync + 'static,
    {
        wait(self.cache.try_refresh_with(key, options, move || async move { load() }))
    }

    /// See [`Cache::clear`].
    pub fn clear(&self) -> Result<u64, Error> {
        wait(self.cache.clear())
    }

    /// See [`Cache::keys`].
    pub fn keys(&self, cursor: Option<&Bytes>) -> Result<KeyPage, Error> {
        wait(self.cache.keys(cursor))
    }

    /// See [`Cache::stats`].
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// See [`Cache::health`].
    pub fn health(&self) -> CacheHealth {
        wait(self.cache.health())
    }

    /// See [`Cache::flush`].
    pub fn flush(&self, patience: std::time::Duration) -> Result<(), Error> {
        wait(self.cache.flush(patience))
    }

    /// See [`Cache::close`].
    pub fn close(&self) -> Result<(), Error> {
        wait(self.cache.close())
    }
}

/// Drives a future on this thread. What is ready at once, as an L1 hit is, costs neither a waker nor a runtime.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    /// With a flag of its own: the token of a thread is one for all who wait on it, and of two of these, one inside of a
    /// loader that the other waits for, the inner one would take what was meant for the outer.
    struct Unpark {
        thread: Thread,
        woken: AtomicBool,
    }
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.woken.store(true, Ordering::Release);
            self.thread.unpark();
        }
    }
    // Unconstrained: inside a task, tokio's budget would run out here without a way to be filled again.
    let mut future = pin!(tokio::task::unconstrained(future));
    // A future that needs a reactor needs it from its first poll on, so the runtime is entered before. Always the engine's
    // own: the caller's may be parked by this very call.
    let runtime = background();
    let _entered = runtime.enter();
    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return value;
    }
    let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        while !unpark.woken.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}
