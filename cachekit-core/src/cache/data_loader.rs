//! Single loads that happen at about the same time, made one call of a batch loader.
//!
//! For programs that ask for keys one by one, in many tasks, and have a source that answers many keys as fast as one. The first
//! caller who misses opens a batch and drives it: for a short window others add their keys, then that caller runs
//! [`Cache::try_get_or_load_many`] for all of them in its own task. Nothing is spawned. If it goes away or panics, one of the
//! others drives what is still wanted; nobody waits for a batch that nobody drives.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachekit_plugin::{Deadline, Operation};
use tokio::sync::Notify;

use super::{Cache, LoadOptions, Value};
use crate::error::{Error, LoadError};
use crate::guard::deadline::within;

/// How a [`DataLoader`] gathers keys.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DataLoaderConfig {
    /// How long a batch stays open after its first key (1 ms). It may be a few milliseconds more.
    pub window: Duration,
    /// Most keys of a batch (100); with the last of them it is closed.
    pub max_batch: usize,
    /// Most keys in batches that are not done (10 000). A key beyond is loaded by itself at once.
    pub max_waiting: usize,
    /// How the values are stored, and how the loader is treated.
    pub options: LoadOptions,
}

impl Default for DataLoaderConfig {
    fn default() -> Self {
        Self { window: Duration::from_millis(1), max_batch: 100, max_waiting: 10_000, options: LoadOptions::default() }
    }
}

impl DataLoaderConfig {
    /// Another window.
    #[must_use]
    pub const fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Another bound of a batch; at least 1.
    #[must_use]
    pub const fn with_max_batch(mut self, keys: usize) -> Self {
        self.max_batch = keys;
        self
    }

    /// Another bound of what waits.
    #[must_use]
    pub const fn with_max_waiting(mut self, keys: usize) -> Self {
        self.max_waiting = keys;
        self
    }

    /// Other options.
    #[must_use]
    pub fn with_options(mut self, options: LoadOptions) -> Self {
        self.options = options;
        self
    }
}

type Answers<T, E> = Result<Vec<Result<T, E>>, E>;
type Load<K, T, E> = dyn Fn(Vec<K>) -> Pin<Box<dyn Future<Output = Answers<T, E>> + Send>> + Send + Sync;

/// Loads keys one by one for its callers, and several at once from its source. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::Cache;
/// use cachekit_core::cache::DataLoaderConfig;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let cache = Cache::builder().build()?;
/// // Closed with its last key, or at the end of a window that no machine outlasts: in a service it is a millisecond or so.
/// let config = DataLoaderConfig::default().with_max_batch(2).with_window(Duration::from_secs(60));
/// let users = cache.data_loader(config, |ids: Vec<String>| async move {
///     // SELECT … WHERE id IN (ids)
///     Ok::<_, std::io::Error>(ids.iter().map(|id| Ok(format!("user {id}"))).collect())
/// });
/// let (ada, bob) = tokio::join!(users.load("1".to_owned()), users.load("2".to_owned()));
/// assert_eq!((ada?.as_str(), bob?.as_str()), ("user 1", "user 2"));
/// assert_eq!(cache.stats().batch_loads, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct DataLoader<K, T, E> {
    shared: Arc<Inner<K, T, E>>,
}

impl<K, T, E> Clone for DataLoader<K, T, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, T, E> fmt::Debug for DataLoader<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataLoader").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

struct Inner<K, T, E> {
    cache: Cache,
    config: DataLoaderConfig,
    load: Box<Load<K, T, E>>,
    queue: Mutex<Queue<K, T, E>>,
}

struct Queue<K, T, E> {
    /// The batch that still takes keys.
    open: Option<Arc<Batch<K, T, E>>>,
    /// Keys in batches that are not done.
    waiting: usize,
}

struct Batch<K, T, E> {
    state: Mutex<State<K, T, E>>,
    /// It is full, or done, or nobody drives it any more.
    changed: Notify,
}

struct State<K, T, E> {
    keys: Vec<Slot<K>>,
    places: HashMap<K, usize>,
    driven: bool,
    full: bool,
    done: Option<Vec<Option<Shared<T, E>>>>,
}

struct Slot<K> {
    key: K,
    /// Callers who still want it.
    wanted: u32,
}

/// What all callers of a key get. An error of the cache is not among it: each asks by himself then.
enum Shared<T, E> {
    Value(Arc<T>),
    Loader(Arc<E>),
    Timeout(Duration),
}

impl Cache {
    /// A loader of single keys over a source that answers many: `load` gets each missing key once, and answers in the order it
    /// got them.
    pub fn data_loader<K, T, E, F, Fut>(&self, config: DataLoaderConfig, load: F) -> DataLoader<K, T, E>
    where
        K: AsRef<[u8]> + Clone + Eq + Hash + Send + Sync + 'static,
        T: Value,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answers<T, E>> + Send + 'static,
    {
        let load: Box<Load<K, T, E>> = Box::new(move |keys| Box::pin(load(keys)));
        let queue = Mutex::new(Queue { open: None, waiting: 0 });
        DataLoader { shared: Arc::new(Inner { cache: self.clone(), config, load, queue }) }
    }
}

impl<K, T, E> DataLoader<K, T, E>
where
    K: AsRef<[u8]> + Clone + Eq + Hash + Send + Sync + 'static,
    T: Value,
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    /// The value of `key`, from the cache, or from the next batch.
    ///
    /// # Errors
    /// As [`Cache::try_get_or_load_many`] for one key, and [`Error::BatchAnswers`].
    pub async fn load(&self, key: K) -> Result<Arc<T>, LoadError<E>> {
        let inner = &*self.shared;
        inner.config.options.check(inner.cache.near.settings.default_ttl)?;
        if let Some(value) = inner.cache.in_l1(key.as_ref(), Cache::typed)? {
            return Ok(value);
        }
        let Some(seat) = inner.sit_down(&key) else { return inner.alone(key).await };
        match seat.answer().await {
            Some(Shared::Value(value)) => Ok(value),
            Some(Shared::Loader(error)) => Err(LoadError::Loader(error)),
            Some(Shared::Timeout(after)) => Err(LoadError::Timeout(after)),
            None => inner.alone(key).await,
        }
    }

    /// As [`Self::load`], for callers that wait.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_blocking(&self, key: K) -> Result<Arc<T>, LoadError<E>> {
        crate::blocking::wait(self.load(key))
    }

    /// The cache that it fills.
    pub fn cache(&self) -> &Cache {
        &self.shared.cache
    }
}

impl<K, T, E> Inner<K, T, E>
where
    K: AsRef<[u8]> + Clone + Eq + Hash + Send + Sync + 'static,
    T: Value,
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    /// A place in the open batch, or in a new one; `None` if too many keys are waiting.
    fn sit_down(&self, key: &K) -> Option<Seat<'_, K, T, E>> {
        let mut queue = lock(&self.queue);
        if let Some(batch) = &queue.open {
            let batch = Arc::clone(batch);
            let mut state = lock(&batch.state);
            if let Some(at) = state.places.get(key).copied() {
                state.keys[at].wanted += 1;
                // Everybody else who wanted it has gone.
                queue.waiting += usize::from(state.keys[at].wanted == 1);
                drop(state);
                return Some(Seat { inner: self, batch, at, drives: false });
            }
            if queue.waiting >= self.config.max_waiting {
                return None;
            }
            let at = state.keys.len();
            state.keys.push(Slot { key: key.clone(), wanted: 1 });
            state.places.insert(key.clone(), at);
            queue.waiting += 1;
            if state.keys.len() >= self.config.max_batch.max(1) {
                state.full = true;
                queue.open = None;
                batch.changed.notify_waiters();
            }
            drop(state);
            return Some(Seat { inner: self, batch, at, drives: false });
        }
        if queue.waiting >= self.config.max_waiting {
            return None;
        }
        queue.waiting += 1;
        let full = self.config.max_batch <= 1;
        let state = State {
            keys: vec![Slot { key: key.clone(), wanted: 1 }],
            places: HashMap::from([(key.clone(), 0)]),
            driven: true,
            full,
            done: None,
        };
        let batch = Arc::new(Batch { state: Mutex::new(state), changed: Notify::new() });
        if !full {
            queue.open = Some(Arc::clone(&batch));
        }
        Some(Seat { inner: self, batch, at: 0, drives: true })
    }

    async fn alone(&self, key: K) -> Result<Arc<T>, LoadError<E>> {
        let mut answers = self.many(&[key]).await?;
        answers.pop().unwrap_or(Err(Error::Internal("a batch of one key ended without its answer").into()))
    }

    async fn many(&self, keys: &[K]) -> Result<Vec<Result<Arc<T>, LoadError<E>>>, Error> {
        self.cache.try_get_or_load_many(keys, self.config.options.clone(), |missing| (self.load)(missing)).await
    }

    /// Nobody is added any more.
    fn close(&self, batch: &Arc<Batch<K, T, E>>) {
        let mut queue = lock(&self.queue);
        if queue.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, batch)) {
            queue.open = None;
        }
    }
}

/// A caller's place in a batch, given back however it leaves.
struct Seat<'a, K, T, E> {
    inner: &'a Inner<K, T, E>,
    batch: Arc<Batch<K, T, E>>,
    at: usize,
    drives: bool,
}

impl<K, T, E> Seat<'_, K, T, E>
where
    K: AsRef<[u8]> + Clone + Eq + Hash + Send + Sync + 'static,
    T: Value,
    E: fmt::Debug + fmt::Display + Send + Sync + 'static,
{
    /// Waits for the batch, or drives it. `None`: the cache failed, so each asks by himself.
    async fn answer(mut self) -> Option<Shared<T, E>> {
        if self.drives {
            self.gather().await;
            self.drive().await;
        }
        loop {
            // Registered before the state is read, so that a change in between is not missed.
            let batch = Arc::clone(&self.batch);
            let changed = batch.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = lock(&batch.state);
                if let Some(done) = &state.done {
                    return done.get(self.at).and_then(Option::as_ref).map(Shared::again);
                }
                if !state.driven {
                    state.driven = true;
                    self.drives = true;
                }
            }
            if self.drives {
                self.drive().await;
            } else {
                changed.await;
            }
        }
    }

    /// Leaves the batch open for a while.
    async fn gather(&self) {
        let full = async {
            loop {
                let changed = self.batch.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if lock(&self.batch.state).full {
                    return Ok(());
                }
                changed.await;
            }
        };
        let _ = within(Deadline::after(self.inner.config.window), Operation::Get, full).await;
    }

    /// Loads what is wanted of the batch.
    async fn drive(&mut self) {
        self.inner.close(&self.batch);
        let wanted: Vec<(usize, K)> = {
            let state = lock(&self.batch.state);
            let wanted = state.keys.iter().enumerate().filter(|(_, slot)| slot.wanted > 0);
            wanted.map(|(at, slot)| (at, slot.key.clone())).collect()
        };
        let keys: Vec<K> = wanted.iter().map(|(_, key)| key.clone()).collect();
        let answers = self.inner.many(&keys).await.unwrap_or_default();
        let mut state = lock(&self.batch.state);
        let mut done: Vec<Option<Shared<T, E>>> = Vec::new();
        done.resize_with(state.keys.len(), || None);
        for ((at, _), answer) in wanted.into_iter().zip(answers) {
            done[at] = match answer {
                Ok(value) => Some(Shared::Value(value)),
                Err(LoadError::Loader(error)) => Some(Shared::Loader(error)),
                Err(LoadError::Timeout(after)) => Some(Shared::Timeout(after)),
                Err(_) => None,
            };
        }
        state.done = Some(done);
        self.drives = false;
        drop(state);
        self.batch.changed.notify_waiters();
    }
}

impl<K, T, E> Drop for Seat<'_, K, T, E> {
    fn drop(&mut self) {
        let mut queue = lock(&self.inner.queue);
        let mut state = lock(&self.batch.state);
        let slot = &mut state.keys[self.at];
        slot.wanted -= 1;
        if slot.wanted == 0 {
            queue.waiting -= 1;
        }
        if self.drives {
            // Somebody else drives; nobody is added any more, because the one who comes next would have to wait for the window.
            state.driven = false;
            if queue.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, &self.batch)) {
                queue.open = None;
            }
            drop(state);
            self.batch.changed.notify_waiters();
        }
    }
}

impl<T, E> Shared<T, E> {
    fn again(&self) -> Self {
        match self {
            Self::Value(value) => Self::Value(Arc::clone(value)),
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::Timeout(after) => Self::Timeout(*after),
        }
    }
}

/// Nothing of a caller's runs under these locks but the hash and the equality of its keys.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
